//! `peerpath explain` as a filter and on errnos.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const FAULT: &str = "[  179.4] DMAR: [DMA Write NO_PASID] Request device [0000:03:00.0] fault addr 0x291000 [fault reason 0x05] \
                     PTE Write access is not set";

fn explain(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peerpath"));
    command.arg("explain").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = explain(arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    output
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn explains_an_errno_by_name_number_and_text() {
    for what in ["EFAULT", "14", "-14", "0xe", "-14 (Bad address)", "Couldn't allocate MR with error=14", "Bad address"]
    {
        let text = stdout(&explain(&[what, "--step", "reg_mr"]).output().unwrap());
        assert!(text.starts_with("EFAULT (14) at register-memory"), "{what}: {text}");
    }
    let every = stdout(&explain(&["EINVAL"]).output().unwrap());
    for step in ["export", "register-dma-buf", "map-file"] {
        assert!(every.contains(&format!("EINVAL (22) at {step} (")), "{step}: {every}");
    }
}

#[test]
fn the_call_in_a_message_is_the_step() {
    for (what, start) in [
        ("NCCL WARN Call to ibv_reg_dmabuf_mr failed with error Bad address", "EFAULT (14) at register-dma-buf"),
        ("ibv_reg_dmabuf_mr failed: Operation not supported", "EOPNOTSUPP (95) at register-dma-buf"),
        ("nvshmem: ibv_reg_mr failed: Cannot allocate memory", "ENOMEM (12) at register-memory"),
    ] {
        let text = stdout(&explain(&[what]).output().unwrap());
        assert!(text.starts_with(start) && text.matches("  why: ").count() == 1, "{what}: {text}");
    }
    let given = stdout(&explain(&["ibv_reg_mr: Bad address", "--step", "register"]).output().unwrap());
    assert!(given.starts_with("EFAULT (14) at register-dma-buf"), "{given}");
    let cuda = stdout(&explain(&["22", "--step", "cuMemGetHandleForAddressRange"]).output().unwrap());
    assert!(cuda.contains("without VFIO") && !cuda.contains("vfio-pci"), "{cuda}");
}

#[test]
fn the_kind_of_memory_and_the_driver_change_the_meaning() {
    let cause = |arguments: &[&str]| -> Value {
        let rows: Value = serde_json::from_str(&stdout(&explain(arguments).output().unwrap())).unwrap();
        assert_eq!(rows.as_array().unwrap().len(), 1);
        rows[0]["cause"].clone()
    };
    let register = ["--step", "register", "--json"];
    // EINVAL means topology only if the result of the P2PDMA check is known.
    assert_eq!(cause(&[&["EINVAL"][..], &register].concat()), Value::Null);
    assert_eq!(cause(&[&["ENODEV"][..], &register].concat()), "revoked");
    assert_ne!(cause(&[&["EINVAL", "--source", "gpu"][..], &register].concat()), "topology");
    assert_eq!(cause(&[&["524", "--source", "gpu"][..], &register].concat()), "mechanism-refused");
    assert_eq!(cause(&[&["EOPNOTSUPP", "--driver", "rxe"][..], &register].concat()), "importer-no-dmabuf");
}

#[test]
fn explains_standard_input_and_files() {
    let log = format!("before\n{FAULT}\n\x00\u{ff}after\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dmesg.txt");
    std::fs::write(&file, &log).unwrap();
    let from_file = stdout(&explain(&[file.to_str().unwrap()]).output().unwrap());
    for arguments in [&[][..], &["-"]] {
        let text = stdout(&with_input(arguments, log.as_bytes()));
        assert!(
            text.starts_with(&format!("before\n{FAULT}\n  why: The IOMMU blocked a write by 0000:03:00.0")),
            "{text}"
        );
        assert!(text.ends_with("\x00\u{ff}after\n"), "{text}");
    }
    assert!(from_file.contains("[iommu-fault]"), "{from_file}");
    let only = stdout(&with_input(&["--only"], log.as_bytes()));
    assert!(only.starts_with(FAULT) && !only.contains("after"), "{only}");
}

#[test]
fn names_functions_and_bars_of_a_snapshot() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../results/reference/matrix/default/snapshot.tar.gz");
    let log = "DMAR: [DMA Write NO_PASID] Request device [0000:01:00.0] fault addr 0x1000 [fault reason 0x05]\n";
    let text = stdout(&with_input(&["--root", root], log.as_bytes()));
    assert!(text.contains("   on: 0000:01:00.0 is "), "{text}");
    let json = stdout(&with_input(&["--root", root, "--json"], log.as_bytes()));
    let record: Value = serde_json::from_str(&json).unwrap();
    assert!(record["functions"][0]["name"].is_string(), "{json}");
}

/// `dmesg -w | peerpath explain`: an explanation appears before the input ends.
#[test]
fn explains_a_line_as_soon_as_it_arrives() {
    let mut child = explain(&[]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    writeln!(input, "{FAULT}").unwrap();
    let mut lines = String::new();
    for _ in 0..2 {
        output.read_line(&mut lines).unwrap();
    }
    assert!(lines.contains("  why: "), "{lines}");
    drop(input);
    output.read_to_string(&mut lines).unwrap();
    assert!(child.wait().unwrap().success());
}

/// `peerpath explain | head`.
#[test]
fn a_closed_output_is_not_an_error() {
    let mut child = explain(&[]).spawn().unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    for _ in 0..10_000 {
        if writeln!(input, "{FAULT}").is_err() {
            break;
        }
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn rejects_input_without_an_explanation() {
    for (arguments, word) in [
        (&["nonsense"][..], "not an errno"),
        (&["--bogus"], "unexpected argument"),
        (&["EINVAL", "--bogus"], "unexpected argument"),
        (&["EINVAL", "--step", "teleport"], "register-dma-buf"),
        (&["EINVAL", "--source", "disk"], "vfio"),
        (&["--step", "register"], "errno"),
        (&["/"], "a directory"),
    ] {
        let output = explain(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(word), "{arguments:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
}

#[test]
fn says_that_no_line_is_recognized() {
    let output = with_input(&["--only"], b"nothing known\n");
    assert_eq!(stdout(&output), "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no line of the log is recognized"));
    assert!(with_input(&["--only"], FAULT.as_bytes()).stderr.is_empty());
}
