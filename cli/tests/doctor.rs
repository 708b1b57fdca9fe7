//! `peerpath doctor` on this machine and on snapshots.

use std::process::{Command, Output};

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peerpath")).arg("doctor").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn findings(output: &Output) -> Vec<serde_json::Value> {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

/// A snapshot of a topology for which a kernel confirmed the predictions.
fn snapshot(name: &str) -> String {
    format!("{}/../paths/tests/fixtures/truth/{name}.tar.gz", env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn exit_code_matches(output: &Output, findings: &[serde_json::Value]) {
    let failed = findings.iter().any(|finding| finding["status"] == "fail");
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{}", text(output));
}

#[test]
fn exits_with_1_only_if_a_check_of_this_machine_failed() {
    let output = doctor(&["--json"]);
    let findings = findings(&output);
    exit_code_matches(&output, &findings);
    for finding in &findings {
        let status = finding["status"].as_str().unwrap();
        assert!(["pass", "warn", "fail", "unknown"].contains(&status), "{finding}");
        assert!(finding["check"].is_string() && finding["subject"].is_string() && finding["detail"].is_string());
        assert!(finding["cause"].is_string() || finding["cause"].is_null());
        assert_eq!(finding["remedy"].is_null(), status == "pass", "{finding}");
    }
    for check in ["kernel-version", "iommu", "vfio-driver", "importer", "rdma-library", "observation"] {
        assert!(findings.iter().any(|finding| finding["check"] == check), "{check}");
    }
}

#[test]
fn prints_failures_first_in_lines_that_fit() {
    let output = doctor(&[]);
    let text = text(&output);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let heads: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let place = |word: &str| heads.iter().position(|head| *head == word);
    if let (Some(fail), Some(pass)) = (place("fail"), place("pass")) {
        assert!(fail < pass, "{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn checks_a_pair_of_a_snapshot() {
    let root = snapshot("01_switch_epyc");
    let output = doctor(&["--root", &root, "--from", "0000:03:00.0:2", "--to", "0000:04:00.0", "--json"]);
    let findings = findings(&output);
    exit_code_matches(&output, &findings);
    let status = |check: &str| findings.iter().find(|finding| finding["check"] == check).unwrap()["status"].clone();
    assert_eq!(status("path"), "pass");
    assert_eq!(status("bar"), "pass");
    for live_only in ["in-use", "observation"] {
        assert_eq!(status(live_only), "unknown");
    }
    let importer = findings.iter().find(|finding| finding["check"] == "importer").unwrap();
    assert!(!importer.to_string().contains("RDMA driver"), "a display controller needs no RDMA driver: {importer}");
    let text = text(&doctor(&["--root", &root, "--from", "0000:03:00.0:2", "--to", "0000:04:00.0"]));
    assert!(text.contains("bus-address"), "{text}");
}

#[test]
fn fails_for_a_bar_that_cannot_be_exported() {
    let root = snapshot("01_switch_epyc");
    let output = doctor(&["--root", &root, "--from", "0000:03:00.0:5", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let findings = findings(&output);
    let bar = findings.iter().find(|finding| finding["check"] == "bar").unwrap();
    assert_eq!((bar["status"].as_str(), bar["cause"].as_str()), (Some("fail"), Some("bar-not-exportable")));
}

#[test]
fn exits_with_2_for_invalid_arguments() {
    let root = snapshot("01_switch_epyc");
    for (arguments, word) in [
        (vec!["--from", "nonsense"], "nonsense"),
        (vec!["--root", &root, "--from", "0000:33:00.0"], "0000:33:00.0"),
        (vec!["--root", &root, "--from", "0000:03:00.0:9"], "0 to 5"),
        (vec!["--root", &root, "--to", "verbs:mlx5_9"], "verbs:mlx5_9"),
        (vec!["--root", "/nowhere/at/all.tar.gz"], "/nowhere/at/all.tar.gz"),
    ] {
        let output = doctor(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(word), "{arguments:?}: {}", text(&output));
    }
}

#[test]
fn finds_the_same_from_a_snapshot_except_live_facts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.tar.gz");
    let file = file.to_str().unwrap();
    let taken = Command::new(env!("CARGO_BIN_EXE_peerpath")).args(["snapshot", file]).output().unwrap();
    assert!(taken.status.success(), "{}", text(&taken));
    let (here, there) = (findings(&doctor(&["--json"])), findings(&doctor(&["--root", file, "--json"])));
    let live_only = ["rdma-library", "importer-ready", "importer-driver", "memlock", "observation"];
    // Only a running driver reports GPUs, so a snapshot does not have the checks of GPUs.
    let is_live = |check: &str| live_only.contains(&check) || check.starts_with("gpu-");
    let kept = |all: Vec<serde_json::Value>| -> Vec<_> {
        all.into_iter().filter(|one| !is_live(one["check"].as_str().unwrap())).collect()
    };
    assert_eq!(kept(here), kept(there));
}
