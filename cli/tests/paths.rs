//! `peerpath paths`: the matrix, the lists, and hosts with thousands of functions.

#[path = "../../paths/tests/support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Output, Stdio};

use support::{EPYC, Kind, Machine};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../paths/tests/fixtures");

fn peerpath(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peerpath"));
    command.args(arguments);
    command
}

#[track_caller]
fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn paths(root: &str, more: &[&str]) -> String {
    stdout(&peerpath(&[&["paths", "--root", root], more].concat()).output().unwrap())
}

/// A host as a snapshot in a temporary folder.
struct Snapshot {
    _folder: tempfile::TempDir,
    path: String,
}

impl Snapshot {
    fn of(machine: &Machine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.tar");
        std::fs::write(&path, machine.archive()).unwrap();
        Self { path: path.to_str().unwrap().to_owned(), _folder: folder }
    }
}

/// Two GPUs and two NICs, a pair below each of two switches.
fn two_switches() -> Machine {
    let mut machine = Machine::new(EPYC);
    for (root, bus) in [("0000:00:01.0", 0x10), ("0000:80:01.0", 0x90)] {
        let address = |bus: u8, device: u8| format!("0000:{bus:02x}:{device:02x}.0");
        let node = i32::from(bus == 0x90);
        let upstream = address(bus, 0);
        machine = machine.add(root, None, Kind::RootPort, |port| port.numa_node(node)).add(
            &upstream,
            Some(root),
            Kind::Upstream,
            |port| port.numa_node(node),
        );
        for device in 0..2 {
            let downstream = address(bus + 1, device);
            let endpoint = address(bus + 2 + device, 0);
            machine = machine.add(&downstream, Some(&upstream), Kind::Downstream, |port| port.numa_node(node)).add(
                &endpoint,
                Some(&downstream),
                Kind::Endpoint,
                |function| {
                    let function = function.numa_node(node);
                    match device {
                        0 => function.class(0x03_0200).driver("amdgpu"),
                        _ => {
                            function.class(0x02_0000).driver("mlx5_core").device("infiniband", &format!("mlx5_{node}"))
                        }
                    }
                },
            );
        }
    }
    machine
}

#[test]
fn shows_a_matrix_of_gpus_and_nics() {
    let text = paths(&Snapshot::of(&two_switches()).path, &[]);
    let expected = "\
   A        B        C        D
A  -        bus/PIX  trn/SYS  trn/SYS  12:00.0 amdgpu
B  bus/PIX  -        trn/SYS  trn/SYS  13:00.0 mlx5_0
C  trn/SYS  trn/SYS  -        bus/PIX  92:00.0 amdgpu
D  trn/SYS  trn/SYS  bus/PIX  -        93:00.0 mlx5_1
";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("bus = bus-address: 4 pairs, e.g. 12:00.0 -> 13:00.0: the functions have"), "{text}");
    assert!(text.contains("trn = host-bridge-translated: 8 pairs"), "{text}");
    assert!(text.contains("PIX = at most one PCIe bridge") && text.contains("SYS = between NUMA nodes"), "{text}");
    assert!(text.contains("driver-not-vfio (exporters 13:00.0, 93:00.0)"), "{text}");
    assert!(text.contains("driver amdgpu: "), "{text}");
    assert!(text.contains("--all"), "{text}");
}

#[test]
fn a_function_without_a_driver_is_not_blocked_by_it() {
    let machine = two_switches().add("0000:00:02.0", None, Kind::RootPort, |port| port).add(
        "0000:05:00.0",
        Some("0000:00:02.0"),
        Kind::Endpoint,
        |drive| drive.class(0x01_0802).no_driver(),
    );
    let host = Snapshot::of(&machine);
    let text = paths(&host.path, &[]);
    assert!(text.contains("driver-not-vfio (exporters 13:00.0, 93:00.0)"), "{text}");
    assert!(text.contains("Without a driver: exporter 05:00.0. `peerpath run` binds"), "{text}");
    let text = paths(&host.path, &["--from", "0000:05:00.0"]);
    assert!(!text.contains("driver-not-vfio") && text.contains("binds exporters without a driver"), "{text}");
    let text = paths(&host.path, &["--from", "0000:05:00.0", "--to", "verbs:mlx5_0"]);
    assert!(text.contains("0000:05:00.0 has none; `peerpath run` binds it to vfio-pci"), "{text}");
    assert!(text.contains("(`peerpath run --path bypass` makes this change itself)"), "{text}");
}

#[test]
fn names_the_options_that_supply_what_lspci_does_not_show() {
    let machine = two_switches().without("*/type");
    let unknown = Snapshot::of(&machine.clone().without("proc/cmdline"));
    for arguments in
        [&[][..], &["--all"], &["--from", "0000:13:00.0"], &["--from", "0000:13:00.0", "--to", "0000:92:00.0"]]
    {
        let text = paths(&unknown.path, arguments).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("`peerpath snapshot` takes on the host") && text.contains("--cmdline settles"), "{text}");
    }
    let text = paths(&unknown.path, &["--cmdline", "iommu=pt"]);
    assert!(text.contains("byp/SYS") && text.contains("by iommu=pt"), "{text}");
}

#[test]
fn a_server_with_8_gpus_and_11_nics_fits_one_screen() {
    let host = format!("{FIXTURES}/hosts/07-turin-mi325x-bnxt/host.tar.gz");
    let text = paths(&host, &[]);
    let columns = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(text.lines().count() <= 45 && columns <= 120, "{} lines, {columns} columns\n{text}", text.lines().count());
    for word in ["05:00.0 amdgpu", "06:00.0 bnxt_re1", "31:00.0 mlx5_0", "bus/PXB", "byp/NODE", "byp/SYS"] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    let all = paths(&host, &["--all"]);
    let json: Vec<serde_json::Value> = serde_json::from_str(&paths(&host, &["--json"])).unwrap();
    let pairs = json.iter().filter(|pair| pair["from"] != pair["to"]);
    let listed: Vec<_> = all.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    assert_eq!(listed.len(), pairs.clone().count());
    for (line, pair) in listed.iter().zip(pairs) {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!((words[0], words[1]), (pair["from"].as_str().unwrap(), pair["to"].as_str().unwrap()));
        assert!(line.contains(pair["deciding"]["fact"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn lists_one_exporter_with_grouped_reasons() {
    let host = Snapshot::of(&two_switches());
    let text = paths(&host.path, &["--from", "0000:12:00.0"]);
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("0000:12:00.0")).collect();
    assert_eq!(rows.len(), 3, "{text}");
    assert!(text.contains("host-bridge-translated: 2 pairs, e.g. 0000:12:00.0 -> 0000:92:00.0: "), "{text}");
    assert!(!rows[0].contains("the functions have a common bridge"), "{text}");
    let text = paths(&host.path, &["--to", "verbs:mlx5_1", "--all"]);
    let rows: Vec<_> = text.lines().filter(|line| line.contains(" 0000:93:00.0 ")).collect();
    assert!(rows.len() == 3 && rows[2].contains("the functions have a common bridge"), "{text}");
}

#[test]
fn falls_back_to_functions_with_an_exportable_bar() {
    let machine = Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Endpoint, |function| function.driver("uio_pci_generic"))
        .add("0000:01:00.1", Some("0000:00:01.0"), Kind::Endpoint, |function| function.driver("e1000e"));
    let text = paths(&Snapshot::of(&machine).path, &[]);
    assert!(text.contains("functions with an exportable BAR") && text.contains("01:00.0 uio_pci_generic"), "{text}");
    let none = Machine::new(EPYC).add("0000:00:01.0", None, Kind::RootPort, |port| port);
    assert!(paths(&Snapshot::of(&none).path, &[]).starts_with("No pairs"));
    assert!(paths(&Snapshot::of(&none).path, &["--all"]).starts_with("No pairs"));
}

#[test]
fn prints_the_ceiling_of_a_pair() {
    let host = format!("{FIXTURES}/hosts/07-turin-mi325x-bnxt/host.tar.gz");
    let pair = ["--from", "0000:05:00.0", "--to", "0000:06:00.0"];
    let text = paths(&host, &pair);
    for line in [
        "  ceiling       write 28.7 GB/s, read 29.1 GB/s",
        "  slowest hop   link 0000:04:00.0 - 0000:05:00.0 (16 GT/s x16, MPS 256, MRRS 512)",
    ] {
        assert!(text.contains(line), "{line} is missing:\n{text}");
    }
    let json: Vec<serde_json::Value> = serde_json::from_str(&paths(&host, &[&pair[..], &["--json"]].concat())).unwrap();
    let ceiling = &json[0]["ceiling"];
    let least = ceiling["hops"].as_array().unwrap().iter().map(|hop| hop["write_bytes_per_s"].as_u64().unwrap()).min();
    assert_eq!(ceiling["write"]["bytes_per_s"].as_u64(), least);
    assert!(ceiling["write"]["assumptions"].as_array().unwrap().contains(&"no-dllps".into()), "{ceiling}");
}

#[test]
fn emulated_devices_have_no_ceiling() {
    let host = Snapshot::of(&two_switches());
    let pair = ["--from", "0000:12:00.0", "--to", "0000:13:00.0"];
    let text = paths(&host.path, &pair);
    assert!(!text.contains("ceiling"), "{text}");
    let json: Vec<serde_json::Value> =
        serde_json::from_str(&paths(&host.path, &[&pair[..], &["--json"]].concat())).unwrap();
    assert_eq!(json[0]["ceiling"]["read"]["no_ceiling"], "emulated");
}

#[test]
fn json_names_the_distance_of_every_pair() {
    let host = Snapshot::of(&two_switches());
    let pairs: Vec<serde_json::Value> = serde_json::from_str(&paths(&host.path, &["--json"])).unwrap();
    assert_eq!(pairs.len(), 16);
    let distance = |to: &str| {
        let pair = pairs.iter().find(|pair| pair["from"] == "0000:12:00.0" && pair["to"] == to).unwrap();
        pair["locality"].clone()
    };
    assert_eq!(distance("0000:13:00.0"), "PIX");
    assert_eq!(distance("0000:92:00.0"), "SYS");
    assert!(distance("0000:12:00.0").is_null());
}

/// Runs a command with at most 200 MiB of address space, which bounds its memory.
fn bounded(arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 204800 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_peerpath")]).args(arguments);
    command
}

#[test]
fn views_of_4096_functions_need_less_than_200_mib_and_fit_one_screen() {
    for machine in [support::large(4096), support::large(4096).one_group()] {
        let host = Snapshot::of(&machine);
        let text = stdout(&bounded(&["paths", "--root", &host.path]).output().unwrap());
        assert!(text.lines().count() <= 60 && text.lines().all(|line| line.chars().count() <= 120), "{text}");
        let output = bounded(&["doctor", "--root", &host.path]).output().unwrap();
        assert!(output.status.code().is_some_and(|code| code < 2), "{output:?}");
    }
}

/// Reads the start of the 14 million pairs of a host, then closes the pipe.
#[test]
fn streams_the_pairs_of_4096_functions_until_the_reader_ends() {
    let host = Snapshot::of(&support::large(4096).one_group());
    for view in ["--json", "--all"] {
        let mut running = bounded(&["paths", "--root", &host.path, view])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(running.stdout.take().unwrap());
        for _ in 0..200_000 {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "{view} ended early");
        }
        drop(reader);
        let mut error = String::new();
        running.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert_eq!((running.wait().unwrap().code(), error.as_str()), (Some(0), ""), "{view}");
    }
}
