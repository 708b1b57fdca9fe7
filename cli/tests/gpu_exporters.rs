//! `peerpath paths` and `peerpath doctor` with a GPU as exporter or importer, on snapshots.

use std::process::{Command, Output};

fn peerpath(command: &str, host: &str, arguments: &[&str]) -> Output {
    let root = format!("{}/../paths/tests/fixtures/hosts/{host}.tar.gz", env!("CARGO_MANIFEST_DIR"));
    Command::new(env!("CARGO_BIN_EXE_peerpath")).args([command, "--root", &root]).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json(output: &Output) -> Vec<serde_json::Value> {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

const B200: &str = "03-turin-b200/root";

#[test]
fn a_gpu_is_named_as_cuda_names_it_or_by_its_address() {
    let by_name = json(&peerpath("paths", B200, &["--from", "cuda:0", "--to", "verbs:mlx5_12", "--json"]));
    let by_address = json(&peerpath("paths", B200, &["--from", "0000:a3:00.0", "--to", "verbs:mlx5_12", "--json"]));
    for reports in [&by_name, &by_address] {
        assert_eq!(reports.len(), 1);
        assert_eq!(reports[0]["from"], "0000:a3:00.0");
        assert_eq!(reports[0]["rule"], "nvidia");
        assert_eq!(reports[0]["blockers"], serde_json::json!([]));
    }
    let notes = by_name[0]["notes"].to_string();
    assert!(notes.contains("cuda:0 is 0000:a3:00.0 if GPUs are numbered by address"), "{notes}");
    let text = text(&peerpath("paths", B200, &["--from", "cuda:0", "--to", "verbs:mlx5_12"]));
    assert!(text.contains("rule          NVIDIA's driver exports the GPU's memory"), "{text}");
    assert_eq!(text.matches("without the P2PDMA check").count(), 1, "{text}");
}

#[test]
fn a_bar_and_a_function_without_gpu_driver_follow_vfio() {
    for arguments in
        [["--from", "0000:a3:00.0:2", "--to", "0000:a4:00.0"], ["--from", "0000:a4:00.0", "--to", "cuda:0"]]
    {
        let text = text(&peerpath("paths", B200, &arguments));
        assert!(text.contains("rule          VFIO exports the BAR, and the P2PDMA check decides"), "{text}");
        assert!(text.contains("blocked by"), "{text}");
    }
}

#[test]
fn a_missing_gpu_is_bad_input() {
    for command in ["paths", "doctor"] {
        for arguments in [["--from", "cuda:1"], ["--to", "cuda:1"]] {
            let output = peerpath(command, B200, &arguments);
            assert_eq!(output.status.code(), Some(2), "{command}: {}", text(&output));
            assert!(text(&output).contains("cuda:1"), "{}", text(&output));
        }
    }
}

#[test]
fn doctor_states_the_rule_of_the_gpu_driver() {
    let output = peerpath("doctor", B200, &["--from", "cuda:0", "--to", "verbs:mlx5_12"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let text = text(&output);
    for words in ["NVIDIA's driver exports", "Relaxed ordering is off", "cuda:0 is 0000:a3:00.0"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    for absent in ["Boot Linux 6.19", "No IOMMU is enabled", "peerpath bind"] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
}

#[test]
fn the_list_of_pairs_names_the_rules() {
    let text = text(&peerpath("paths", "07-turin-mi325x-bnxt/host", &["--to", "verbs:mlx5_0"]));
    assert!(text.contains("driver amdgpu"), "{text}");
}
