//! The output of lspci never contradicts the snapshot of the same host: it gives the same path, or `unknown` with the missing
//! facts.
//!
//! `fixtures/lspci` holds the output of lspci for the snapshots in the folders beside it; `fixtures/lspci/make` writes it. An
//! archive contains the outputs for one host.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use peerpath_paths::{
    Bdf, Capability, Cause, Explained as _, GroupMembership, Inventory, PathName, PathReport, Pcie, Prediction,
    Request, Tree, TreeError,
};
use proptest::prelude::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The file with the output of lspci: `vvv` is that of `lspci -vvv`, `user` that of `lspci -vvvnn` without privileges.
fn text(name: &str, kind: &str) -> PathBuf {
    static UNPACKED: LazyLock<PathBuf> = LazyLock::new(|| {
        // Test runners start one process per test, and the processes share the folder of temporary files. The first process that
        // has unpacked the archive renames its folder to the final name.
        let mut hasher = DefaultHasher::new();
        let archives: Vec<_> = archives(&fixtures().join("lspci"))
            .into_iter()
            .map(|(file, name)| {
                let bytes = std::fs::read(file).unwrap();
                (&name, &bytes).hash(&mut hasher);
                (name, bytes)
            })
            .collect();
        let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = temporary.join(format!("lspci-{:016x}", hasher.finish()));
        if !folder.is_dir() {
            let own = temporary.join(format!("lspci-process-{}", std::process::id()));
            for (name, bytes) in archives {
                tar::Archive::new(flate2::read::GzDecoder::new(&*bytes)).unpack(own.join(name)).unwrap();
            }
            if std::fs::rename(&own, &folder).is_err() {
                std::fs::remove_dir_all(own).unwrap();
            }
        }
        assert!(folder.is_dir());
        folder
    });
    UNPACKED.join(format!("{name}/{kind}.txt"))
}

/// The archives in a folder and their names, ordered.
fn archives(folder: &Path) -> Vec<(PathBuf, String)> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |file: &Path| Some(file.file_name()?.to_str()?.strip_suffix(".tar.gz")?.to_owned());
    let mut found: Vec<_> = files.filter_map(|file| name(&file).map(|name| (file, name))).collect();
    found.sort();
    found
}

/// The snapshots with lspci output, and the names of the output files.
fn snapshots() -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> = archives(&fixtures().join("truth")).into_iter().map(|(file, name)| (name, file)).collect();
    if let Ok(hosts) = std::fs::read_dir(fixtures().join("hosts")) {
        for host in hosts.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
            let host_name = host.file_name().unwrap().to_str().unwrap();
            found.extend(archives(&host).into_iter().map(|(file, name)| (format!("{host_name}.{name}"), file)));
        }
    }
    found.retain(|(name, _)| fixtures().join(format!("lspci/{name}.tar.gz")).exists());
    found.sort();
    assert!(found.len() >= 8);
    found
}

fn reports(tree: &Tree) -> BTreeMap<(Bdf, Bdf), PathReport> {
    let inventory = Inventory::read(tree);
    let predictor = inventory.predictor(Request::default());
    let all: Vec<Bdf> = predictor.importers().collect();
    let pairs = all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to)));
    pairs.map(|(from, to)| ((from, to), predictor.explain(from, to).unwrap())).collect()
}

/// The host as its lspci output shows it, with the command line and the processor of the snapshot.
fn host_of(texts: &[PathBuf], snapshot: &Tree) -> Tree {
    let tree = Tree::open_all(texts).unwrap();
    let tree = tree.with_command_line(&snapshot.text("proc/cmdline").unwrap_or_default());
    match snapshot.text("proc/cpuinfo") {
        Some(text) => tree.with_processor(&text).unwrap(),
        None => tree,
    }
}

/// Asserts that the lspci output gives the same path as the snapshot for every pair, or `unknown` with the missing facts.
fn compare(what: &str, shown: &Tree, right: &Inventory) {
    let shown = Inventory::read(shown);
    let (found, right) = (shown.predictor(Request::default()), right.predictor(Request::default()));
    let all: Vec<Bdf> = found.importers().collect();
    for (from, to) in all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to))) {
        // If the lspci output shows no classes, `all` includes bridges.
        let (Some(prediction), Some(expected)) = (found.predict(from, to), right.predict(from, to)) else { continue };
        let is_same = (prediction.path, prediction.cause) == (expected.path, expected.cause);
        if is_same && prediction.path != PathName::Unknown {
            continue;
        }
        let report = found.report(&prediction);
        let text = || format!("{what}: {report:#?} against {:#?}", right.report(&expected));
        // With a missing fact, two causes of a refusal can be possible.
        let is_allowed = prediction.path == PathName::Unknown || prediction.path == expected.path;
        assert!(is_allowed && (is_same || !report.unknown.is_empty()), "{}", text());
    }
}

/// Whether the path follows from the bridges, ACS, the processor and the allowlist alone.
fn is_decided_by_topology((_, _, right): &(Bdf, Bdf, Prediction)) -> bool {
    right.path == PathName::BusAddress || right.cause == Some(Cause::Topology)
}

#[test]
fn outputs_of_two_hosts_are_rejected_with_the_first_conflicting_address() {
    let host = |device: &str| {
        format!(
            "00:00.0 Host bridge [0600]: Intel Corporation Device [8086:29c0]\n\n\
             00:01.0 PCI bridge [0604]: Red Hat, Inc. Device [1b36:000c] (prog-if 00 [Normal decode])\n\
             \tBus: primary=00, secondary=01, subordinate=01, sec-latency=0\n\n\
             01:00.0 Ethernet controller [0200]: Mellanox Technologies Device [15b3:{device}]\n\tFlags: bus master\n\n"
        )
    };
    let (one, other) = (host("101d"), host("1021"));
    assert!(peerpath_paths::Tree::from_lspci(format!("{one}{one}").as_bytes()).is_ok());
    let error = peerpath_paths::Tree::from_lspci(format!("{one}{other}").as_bytes()).unwrap_err();
    assert!(error.to_string().contains("0000:01:00.0"), "{error}");
}

#[test]
fn no_lspci_output_contradicts_the_snapshot() {
    for (name, file) in snapshots() {
        let snapshot = Tree::open(&file).unwrap();
        let right = Inventory::read(&snapshot);
        for kind in ["vvv", "vvvnnD", "v", "xxxx", "xxx", "vvvnnxxxx", "tv", "user"] {
            let text = text(&name, kind);
            compare(&format!("{name}.{kind}"), &Tree::open(&text).unwrap(), &right);
            compare(&format!("{name}.{kind} with processor"), &host_of(&[text], &snapshot), &right);
        }
        for kinds in [["tv", "user"], ["v", "xxxx"], ["vvv", "xxx"], ["user", "xxxx"], ["tv", "vvv"]] {
            let texts = kinds.map(|kind| text(&name, kind));
            compare(&format!("{name}.{kinds:?}"), &host_of(&texts, &snapshot), &right);
        }
    }
}

#[test]
fn outputs_with_acs_decide_what_the_topology_decides() {
    for (name, file) in snapshots() {
        let snapshot = Tree::open(&file).unwrap();
        let inventory = Inventory::read(&snapshot);
        let right = inventory.predictor(Request::default());
        let all: Vec<Bdf> = right.importers().collect();
        let pairs = all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to)));
        let decided: Vec<_> = pairs
            .filter_map(|(from, to)| Some((from, to, right.predict(from, to)?)))
            .filter(is_decided_by_topology)
            .collect();
        for kinds in [&["vvv"][..], &["vvvnnD"], &["xxxx"], &["vvvnnxxxx"], &["tv", "vvv"], &["v", "xxxx"]] {
            let texts: Vec<_> = kinds.iter().map(|kind| text(&name, kind)).collect();
            let shown = Inventory::read(&host_of(&texts, &snapshot));
            let found = shown.predictor(Request::default());
            for (from, to, right) in &decided {
                // lspci lists only functions with a link in `bus/pci/devices`.
                let Some(prediction) = found.predict(*from, *to) else { continue };
                if (prediction.path, prediction.cause) == (right.path, right.cause) {
                    continue;
                }
                let report = found.report(&prediction);
                // Several devices can have the same name, and the allowlist can contain only one of them.
                let is_ambiguous = |fact: &String| fact.contains("allowlist") || fact.contains("the first on root bus");
                let is_named = kinds.contains(&"vvv") && report.unknown.iter().any(is_ambiguous);
                assert!(is_named, "{name} {kinds:?}: {report:#?} instead of {:?} {:?}", right.path, right.cause);
            }
        }
    }
}

#[test]
fn bars_groups_and_drivers_are_those_of_the_snapshot() {
    for (name, file) in snapshots() {
        let snapshot = Inventory::read(&Tree::open(&file).unwrap());
        let shown = Inventory::read(&Tree::open(&text(&name, "vvvnnD")).unwrap());
        // lspci lists only functions with a link in `bus/pci/devices`; a snapshot that a user gathered may lack some links.
        assert!(shown.topology.functions().len() + 1 >= snapshot.topology.functions().len(), "{name}");
        for found in shown.topology.functions() {
            let right = snapshot.topology.function(found.bdf).unwrap();
            assert_eq!((found.vendor, found.device), (right.vendor, right.device), "{name} {}", right.bdf);
            assert_eq!(
                found.class.map(|class| class >> 8),
                right.class.map(|class| class >> 8),
                "{name} {}",
                right.bdf
            );
            if found.driver_known {
                assert_eq!(found.driver, right.driver, "{name} {}", right.bdf);
            }
            if found.membership != GroupMembership::Unknown {
                assert_eq!(found.membership, right.membership, "{name} {}", right.bdf);
            }
            assert_eq!(found.bars, right.bars, "{name} {}", right.bdf);
            assert_eq!((found.acs, found.ats), (right.acs, right.ats), "{name} {}", right.bdf);
            // The text shows neither the number of tags nor flit mode.
            let without = |pcie| match pcie {
                Capability::Present(pcie) => Capability::Present(Pcie { tags: None, flit_mode: None, ..pcie }),
                other => other,
            };
            assert_eq!(without(found.pcie), without(right.pcie), "{name} {}", right.bdf);
            assert_eq!(found.is_bridge(), right.is_bridge(), "{name} {}", right.bdf);
            let [above, right_above] = [&shown, &snapshot].map(|inventory| inventory.topology.bridges_above(right.bdf));
            // Skip functions below a bridge that lspci does not list: the bridges above them are incomplete.
            let listed = |bdf: &Bdf| shown.topology.function(*bdf).is_some();
            assert!(above == right_above || !right_above.iter().all(listed), "{name} {}", right.bdf);
        }
    }
}

#[test]
fn virtual_functions_belong_to_their_physical_function() {
    // Two virtual functions with offset 256 and stride 1: the first is on the next bus.
    let text = "\
00:00.0 0600: 1022:1480
	Control: I/O- Mem+ BusMaster+
	Status: Cap-

00:01.1 0604: 1022:1483
	Control: I/O- Mem+ BusMaster+
	Status: Cap+
	Bus: primary=00, secondary=01, subordinate=02, sec-latency=0
	Capabilities: [40] Express (v2) Root Port (Slot+), MSI 00

01:00.0 0200: 15b3:101d
	Control: I/O- Mem+ BusMaster+
	Status: Cap+
	Region 0: Memory at 20000000000 (64-bit, prefetchable) [size=32M]
	Capabilities: [60] Express (v2) Endpoint, MSI 00
	Capabilities: [100 v1] Single Root I/O Virtualization (SR-IOV)
		IOVCtl:	Enable+ Migration- Interrupt- MSE+ ARIHierarchy+
		Initial VFs: 8, Total VFs: 8, Number of VFs: 2, Function Dependency Link: 00
		VF offset: 256, stride: 1, Device ID: 101e

02:00.0 0200: 15b3:101e
	Control: I/O- Mem- BusMaster+
	Status: Cap+
	Region 0: Memory at 20002000000 (64-bit, prefetchable) [virtual] [size=2M]
	Capabilities: [60] Express (v2) Endpoint, MSI 00

02:00.1 0200: 15b3:101e
	Control: I/O- Mem- BusMaster+
	Status: Cap+
	Capabilities: [60] Express (v2) Endpoint, MSI 00

";
    let inventory = inventory_of(text);
    for bdf in ["02:00.0", "02:00.1"] {
        let function = inventory.topology.function(bdf.parse().unwrap()).unwrap();
        assert_eq!(function.physical_function, "01:00.0".parse().ok(), "{bdf}");
        assert_eq!(function.memory_decode(), None, "a virtual function has no bit for memory decoding");
        assert_eq!(inventory.topology.bridges_above(function.bdf), ["00:01.1".parse().unwrap()]);
    }
    let bars = &inventory.topology.function("02:00.0".parse().unwrap()).unwrap().bars;
    assert_eq!((bars[0].start, bars[0].size_bytes), (0x200_0200_0000, 2 << 20));
}

fn inventory_of(text: &str) -> Inventory {
    Inventory::read(&tree_of(text.as_bytes()).unwrap())
}

fn tree_of(bytes: &[u8]) -> Result<Tree, TreeError> {
    Tree::from_lspci(bytes)
}

/// Opens a file with this content.
fn opened(bytes: &[u8]) -> Result<Tree, TreeError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Tree::open(file.path())
}

fn unpacked(name: &str, kind: &str) -> String {
    std::fs::read_to_string(text(name, kind)).unwrap()
}

#[test]
fn quotation_line_ends_prompts_and_indentation_change_nothing() {
    let plain = unpacked("01_switch_epyc", "vvvnnD");
    let right = reports(&tree_of(plain.as_bytes()).unwrap());
    let quoted: String = plain.lines().map(|line| format!("> {line}\r\n")).collect();
    let indented: String = plain.lines().map(|line| format!("    {}\n", line.trim_start())).collect();
    let prompted = format!("me@host:~$ sudo lspci -vvvnn -D\n[sudo] password for me:\n{plain}me@host:~$ \n");
    for (what, text) in [("quoted", quoted), ("indented", indented), ("prompted", prompted)] {
        assert_eq!(reports(&tree_of(text.as_bytes()).unwrap()), right, "{what}");
    }
    let utf_16: Vec<u8> = [0xfeff].into_iter().chain(plain.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(reports(&opened(&utf_16).unwrap()), right);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(plain.as_bytes()).unwrap();
    assert_eq!(reports(&opened(&packed.finish().unwrap()).unwrap()), right);
}

#[test]
fn reads_facts_that_are_pasted_beside_the_lspci_output() {
    let text = format!(
        "$ uname -a\nLinux node7 7.2.12+deb14-amd64 #1 SMP x86_64 GNU/Linux\n$ cat /proc/cmdline\nBOOT_IMAGE=/vmlinuz iommu=pt\n\
         $ lscpu\nVendor ID:           AuthenticAMD\nModel name: AMD EPYC 7763\nCPU family:          25\n$ lspci\n{}",
        unpacked("01_switch_epyc", "vvv")
    );
    let host = inventory_of(&text).host;
    assert_eq!(host.kernel.map(|kernel| kernel.to_string()).as_deref(), Some("7.2"));
    assert_eq!(host.cpu.and_then(|cpu| cpu.trusted_for_p2p()), Some(true));
    assert_eq!(host.command_line.unwrap().values("iommu").collect::<Vec<_>>(), ["pt"]);
}

#[test]
fn a_boot_option_settles_the_domain_types_that_lspci_does_not_show() {
    let shown = |line: &str| Tree::open(&text("03_2rp_sky", "vvvnnD")).unwrap().with_command_line(line);
    let settled = |tree: &Tree| {
        let is_domain = |text: &String| text.contains("the domain type of") || text.contains("the IOMMU group of");
        let all = reports(tree);
        let open = all.values().filter(|report| report.unknown.iter().any(is_domain)).count();
        open == 0
    };
    assert!(!settled(&shown("quiet")));
    assert!(settled(&shown("iommu=pt")));
    // Whether all domains of an AMD processor translate also depends on the functions.
    assert!(!settled(&shown("iommu=nopt")));
    let with_processor = |name: &str| shown("iommu.passthrough=0").with_processor(name).unwrap();
    assert!(!settled(&with_processor("AuthenticAMD:25")));
}

#[test]
fn a_part_of_an_lspci_output_leaves_the_rest_unknown() {
    let whole = unpacked("01_switch_epyc", "vvvnnD");
    let blocks: Vec<&str> = whole.split("\n\n").filter(|block| !block.trim().is_empty()).collect();
    let of = |wanted: &[&str]| {
        let kept = blocks.iter().filter(|block| wanted.iter().any(|bdf| block.starts_with(bdf)));
        reports(&tree_of(kept.map(|block| format!("{block}\n\n")).collect::<String>().as_bytes()).unwrap())
    };
    let pair: (Bdf, Bdf) = ("03:00.0".parse().unwrap(), "04:00.0".parse().unwrap());
    let ends = ["0000:03:00.0", "0000:04:00.0"];
    let without_bridges = &of(&ends)[&pair];
    assert_eq!(without_bridges.predicted, PathName::Unknown);
    assert!(without_bridges.unknown.contains(&"the bridges above 0000:03:00.0".to_owned()), "{without_bridges:#?}");
    let with_switch = &of(&["0000:01:00.0", "0000:02:00.0", "0000:02:01.0", ends[0], ends[1]])[&pair];
    assert_eq!(with_switch.predicted, PathName::BusAddress);
}

#[test]
fn unprivileged_lspci_output_names_the_missing_acs() {
    let report = &reports(&Tree::open(&text("01_switch_epyc", "user")).unwrap())
        [&("03:00.0".parse().unwrap(), "04:00.0".parse().unwrap())];
    assert_eq!(report.predicted, PathName::Unknown);
    assert!(
        report.unknown.contains(&"ACS of 0000:02:00.0 (the lspci output does not show it)".to_owned()),
        "{report:#?}"
    );
}

#[test]
fn files_of_other_kinds_are_named() {
    let error = |bytes: &[u8]| {
        let error = opened(bytes).unwrap_err();
        format!("{error} {}", error.explanation().remedy)
    };
    for (bytes, what) in [
        (&b""[..], "an empty file"),
        (b"\x89PNG\r\n\x1a\n\0\0", "an image (PNG)"),
        (b"PK\x03\x04\0\0", "a zip archive"),
        (b"[    0.000000] Linux version 6.8\n[    0.1] pci 0000:00:00.0: [8086:29c0]\n", "a kernel log"),
        (b"00:00.0 0600: 8086:29c0\n00:01.0 0604: 1b36:000c\n", "a list of functions that shows neither bridges"),
        (b"00:00.0 Host bridge: Intel Corporation 82G33\n", "a list of functions that shows neither bridges"),
        (b"Slot:\t00:00.0\nClass:\tHost bridge\nVendor:\tIntel\n", "machine-readable"),
        (b"{\"cells\": []}\n", "a JSON file"),
    ] {
        let text = error(bytes);
        assert!(text.contains(what) && text.contains("Give") | text.contains("Unpack"), "{text}");
    }
    let several = Tree::open_all(&[fixtures().join("truth/01_switch_epyc.tar.gz"), text("01_switch_epyc", "tv")]);
    assert!(several.unwrap_err().to_string().contains("a snapshot"));
}

fn analyze(bytes: &[u8]) {
    let _ = opened(&bytes[..bytes.len().min(700)]);
    let Ok(tree) = tree_of(bytes) else { return };
    let inventory = Inventory::read(&tree);
    let predictor = inventory.predictor(Request::default());
    for to in inventory.topology.functions().iter().take(20) {
        for from in inventory.topology.functions().iter().take(20) {
            assert!(predictor.explain(from.bdf, to.bdf).is_some());
        }
    }
    let _ = inventory.list();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn accepts_any_text(text in "([0-9a-f]{2}:[0-9a-f]{2}\\.[0-7] |PCI bridge \\[0604\\]: |\n|\t|Bus: primary=00, secondary=0[0-9], subordinate=0[0-9]|Capabilities: \\[[0-9a-f]{2,3} v1\\] (Express Root Port|Access Control Services|Single Root I/O Virtualization)|ACSCtl: ReqRedir\\+|Status: Cap\\+|Control: Mem\\+|[0-9a-f]{2}: ([0-9a-f]{2} ){16}|Region [0-9]: Memory at [0-9a-f]{1,17} \\[size=[0-9]{1,20}[KMGT]\\]|-\\[0000:00\\]-\\+-|\\+-|0[0-9]\\.0-\\[0[0-9]\\]-|VF offset: [0-9]{1,6}, stride: 0|Number of VFs: 65535|.){0,80}") {
        analyze(text.as_bytes());
    }

    #[test]
    fn accepts_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        analyze(&bytes);
    }

    #[test]
    fn accepts_damaged_texts(
        which in 0_usize..4,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), "[0-9a-f\\[\\]:. \n\t+-]{1,6}"), 1..40),
    ) {
        let kind = ["vvvnnD", "xxx", "tv", "v"][which];
        let mut text = unpacked("04_pxb_epyc", kind);
        for (at, with) in changes {
            let at = at.index(text.len() - with.len());
            text.replace_range(at..at + with.len(), &with);
        }
        analyze(text.as_bytes());
    }

    /// An lspci output that is cut off at any byte gives the same paths, or unknown ones.
    #[test]
    fn a_shortened_text_does_not_contradict_the_snapshot(end in 0_usize..60_000, which in 0_usize..4) {
        let name = ["01_switch_epyc", "03_2rp_sky", "04_pxb_epyc", "09_acsswitch_epyc"][which];
        let snapshot = Tree::open(&fixtures().join(format!("truth/{name}.tar.gz"))).unwrap();
        let whole = unpacked(name, "vvvnnD");
        let end = end % whole.len();
        if let Ok(tree) = tree_of(&whole.as_bytes()[..end]) {
            let tree = tree.with_processor(&snapshot.text("proc/cpuinfo").unwrap()).unwrap();
            compare(&format!("{name} up to byte {end}"), &tree, &Inventory::read(&snapshot));
        }
    }

    #[test]
    fn the_order_of_functions_does_not_matter(seed: u64) {
        let whole = unpacked("04_pxb_epyc", "vvvnnD");
        let mut blocks: Vec<&str> = whole.split("\n\n").filter(|block| !block.trim().is_empty()).collect();
        let right = reports(&tree_of(whole.as_bytes()).unwrap());
        blocks.sort_by_key(|block| block.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)));
        let shuffled: String = blocks.iter().map(|block| format!("{block}\n\n")).collect();
        prop_assert_eq!(reports(&tree_of(shuffled.as_bytes()).unwrap()), right);
    }
}
