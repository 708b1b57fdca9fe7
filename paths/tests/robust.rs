//! Arbitrary file contents of a copied host cause neither a panic nor an endless loop.

mod support;

use peerpath_paths::{Explained as _, Inventory, Limits, Request, Tree};
use proptest::prelude::*;

const FUNCTIONS: [&str; 5] = ["0000:00:00.0", "0000:00:01.0", "0000:01:00.0", "0000:01:00.1", "10000:e0:01.0"];
const FILES: [&str; 10] = [
    "config",
    "resource",
    "class",
    "vendor",
    "device",
    "dma_mask_bits",
    "numa_node",
    "tsm/bound",
    "tsm/connect",
    "tsm/dsm",
];
const LINKS: [&str; 4] = ["driver", "iommu_group", "physfn", "subsystem"];
const HOST: [&str; 7] = [
    "proc/cpuinfo",
    "proc/cmdline",
    "proc/version",
    "proc/bus/pci/devices",
    "sys/kernel/iommu_groups/0/type",
    "sys/class/infiniband/rxe0/parent",
    "peerpath/facts.json",
];

#[derive(Debug, Clone)]
enum Item {
    File(String, Vec<u8>),
    Link(String, String),
}

fn directory() -> impl Strategy<Value = String> {
    let function = || prop::sample::select(&FUNCTIONS[..]);
    prop_oneof![
        function().prop_map(|bdf| format!("sys/bus/pci/devices/{bdf}")),
        function().prop_map(|bdf| format!("sys/devices/pci0000:00/{bdf}")),
        (function(), function()).prop_map(|(above, bdf)| format!("sys/devices/pci0000:00/{above}/{bdf}")),
        (function(), function()).prop_map(|(above, bdf)| format!("sys/devices/pci0000:00/{above}/pci10000:e0/{bdf}")),
    ]
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "(0x[0-9a-f]{1,17}[ \n]){0,24}".prop_map(String::into_bytes),
        "[0-9a-f]{4}\t[0-9a-f]{8}(\t[0-9a-f]{1,16}){0,15}\n".prop_map(String::into_bytes),
        "(DMA|identity|AuthenticAMD|vendor_id|cpu family|: |23|\n|swiotlb=force| |Y|7.2){0,9}"
            .prop_map(String::into_bytes),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let file = || prop::sample::select(&FILES[..]);
    let target = prop_oneof![directory().prop_map(|path| format!("/{path}")), "(\\.\\./){0,9}[a-z0-9:./]{1,20}"];
    prop_oneof![
        4 => (directory(), file(), content()).prop_map(|(path, file, bytes)| Item::File(format!("{path}/{file}"), bytes)),
        1 => (prop::sample::select(&HOST[..]), content()).prop_map(|(path, bytes)| Item::File(path.to_owned(), bytes)),
        1 => (directory(), prop::sample::select(&LINKS[..]), target.clone())
            .prop_map(|(path, link, target)| Item::Link(format!("{path}/{link}"), target)),
        2 => (prop::sample::select(&FUNCTIONS[..]), target)
            .prop_map(|(bdf, target)| Item::Link(format!("sys/bus/pci/devices/{bdf}"), target)),
    ]
}

fn archive(items: &[Item]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let mut header = tar::Header::new_gnu();
        match item {
            Item::File(path, bytes) => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, path, &bytes[..]).unwrap();
            }
            Item::Link(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                let _ = builder.append_link(&mut header, path, target);
            }
        }
    }
    builder.into_inner().unwrap()
}

fn analyze(tree: &Tree) {
    let inventory = Inventory::read(tree);
    for request in [Request::default(), Request { bar: Some(3), ranges: 2, own_address_space: true }] {
        let predictor = inventory.predictor(request);
        let functions: Vec<_> = inventory.topology.functions().iter().map(|function| function.bdf).collect();
        for from in &functions {
            for to in &functions {
                let report = predictor.explain(*from, *to).expect("both exist");
                assert!(report.hops.len() <= 2 * functions.len());
            }
        }
    }
    let _ = inventory.list();
    let facts = inventory.host.facts.clone();
    let _ = peerpath_paths::write_snapshot(tree, &facts, std::io::sink());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn accepts_any_files(items in prop::collection::vec(item(), 0..40)) {
        if let Ok(tree) = Tree::from_archive(&archive(&items)[..], &Limits::default()) {
            analyze(&tree);
        }
    }

    #[test]
    fn accepts_any_double_word_in_config_space(at in 0_usize..1024, value: u32, which in 0_usize..3) {
        let paths = ["0000:00:01.0", "0000:01:00.0", "0000:01:00.1"];
        let machine = support::Machine::new(support::EPYC)
            .add(paths[0], None, support::Kind::RootPort, |port| port.acs(4))
            .endpoint(paths[1], paths[0])
            .endpoint(paths[2], paths[0]);
        let mut bytes = machine.archive();
        // The content of a file follows its header block in the archive.
        let name = if which == 0 { "0000:00:01.0/config".to_owned() } else { format!("0000:00:01.0/{}/config", paths[which]) };
        let header = bytes.chunks(512).position(|block| block.starts_with(format!("sys/devices/pci0000:00/{name}\0").as_bytes()));
        let start = (header.unwrap() + 1) * 512 + at * 4;
        bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
        analyze(&Tree::from_archive(&bytes[..], &Limits::default()).unwrap());
    }
}

#[test]
fn bytes_of_unknown_kind_are_neither_a_snapshot_nor_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bytes");
    for seed in 1..20u32 {
        let mut state = seed;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(4096)
        .collect();
        for bytes in [&bytes[..], &bytes[..100]] {
            std::fs::write(&path, bytes).unwrap();
            let error = Tree::open(&path).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("neither a snapshot nor the output of lspci"), "{seed}: {text}");
            let why = error.explanation().why;
            assert!(!why.contains('\u{fffd}') && !why.contains("numeric field"), "{seed}: {why}");
        }
    }
}

#[test]
fn the_reason_of_a_wrong_file_does_not_repeat_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for text in ["", "hello\n", "BOOT_IMAGE=/vmlinuz quiet\n"] {
        std::fs::write(&path, text).unwrap();
        let error = Tree::open(&path).unwrap_err();
        let why = error.explanation().why;
        assert!(!why.starts_with("The file is") && why.contains("snapshot"), "{text:?}: {why}");
    }
}
