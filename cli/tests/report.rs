//! Reports: of real results, of hostile ones, and of many.

mod support;

use serde_json::{Value, json};
use support::{Draws, baseline, cell, latency, peerpath, reference, result, save, text};

const SECTIONS: [&str; 10] = [
    "verdicts",
    "matrix",
    "routes",
    "throughput",
    "latency",
    "registration",
    "troubles",
    "published",
    "environment",
    "cells",
];

/// The documents of a result, in the order html, md, csv.
fn documents(result: &Value) -> [String; 3] {
    let folder = tempfile::tempdir().unwrap();
    let file = save(folder.path(), "result.json", result);
    let output = peerpath(&["report", file.to_str().unwrap(), "--format", "html,md,csv"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    ["html", "md", "csv"]
        .map(|format| std::fs::read_to_string(folder.path().join("report").with_extension(format)).unwrap())
}

fn page(result: &Value) -> String {
    let [page, ..] = documents(result);
    page
}

#[track_caller]
fn has(page: &str, words: &[&str]) {
    for word in words {
        assert!(page.contains(word), "{word:?} is not on the page");
    }
}

#[test]
fn the_matrix_makes_a_page_with_every_section() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("matrix.html");
    let matrix = reference().join("matrix");
    let output = peerpath(&["report", matrix.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let page = std::fs::read_to_string(out).unwrap();
    for section in SECTIONS {
        has(&page, &[&format!("<section id=\"{section}\"")]);
    }
    has(
        &page,
        &[
            "The devices are emulated",
            "A CPU did the copying",
            "default/staged",
            "swiotlb-forced",
            "through the host bridge, translated by the IOMMU",
        ],
    );
    has(&page, &["the way through the PCI tree: 0000:06:00.0"]);
    assert_eq!(page.matches("do not rank the paths").count(), 1, "it is said once");
    assert!(!page.contains("<script"), "the page runs nothing");
}

#[test]
fn a_verdict_says_which_path_why_and_how_fast() {
    let mut write = cell("write", 65_536);
    write["mode"] = json!("bandwidth");
    write["throughput_bytes_per_s"] = json!(1.2e9);
    let mut host = baseline(&write);
    host["throughput_bytes_per_s"] = json!(12e9);
    let mut small = write.clone();
    small["size_bytes"] = json!(4096);
    small["throughput_bytes_per_s"] = json!(2e8);
    let [page, summary, table] = documents(&result(&[write, host, small]));
    has(
        &page,
        &[
            "BAR 2 of 0000:03:00.0 to mlx5_0 on 0000:04:00.0",
            "observed, as predicted",
            "64 KiB write into it: 1.20 GB/s (host memory alike 12.0 GB/s: 10 % of it)",
        ],
    );
    has(&page, &["possibly looping through the system interconnect", "no port on the way sends requests further up"]);
    has(&page, &["0000:01:00.0, decides", "published: VFIO dma-buf and iommufd between 4 GPUs"]);
    has(&summary, &["BAR 2 of 0000:03:00.0 to mlx5\\_0", "10 % of it", "| from | verbs:mlx5\\_0 |"]);
    assert_eq!(table.lines().count(), 4);
    assert!(table.contains(",1200000000,"), "{table}");
    assert!(!page.contains("emulated:"), "hardware has no banner");
}

/// An emulator's figures are no sign of anything, and stand beside none of hardware.
#[test]
fn of_emulated_devices_no_conclusion_is_drawn() {
    let mut write = cell("write", 65_536);
    write["mode"] = json!("bandwidth");
    write["throughput_bytes_per_s"] = json!(1.2e9);
    let mut host = baseline(&write);
    host["throughput_bytes_per_s"] = json!(12e9);
    let mut small = write.clone();
    small["size_bytes"] = json!(4096);
    let mut result = result(&[write, host, small]);
    result["environment"]["emulated"] = json!(true);
    let page = page(&result);
    has(&page, &["The devices are emulated", "(host memory alike 12.0 GB/s)"]);
    assert!(!page.contains("10 %"), "a share would rank them");
    assert!(!page.contains("interconnect."), "slower than memory, but of an emulator");
    assert!(!page.contains("published: VFIO"), "lines of hardware in a picture of emulated devices");
}

#[test]
fn a_p99_needs_a_hundred_samples() {
    let mut write = cell("write", 65_536);
    write["latency_ns"] = support::latency(&(1..=66).map(|at| at * 1_000_000).collect::<Vec<_>>());
    write["iterations"] = json!(66);
    assert!(!page(&result(&[write.clone()])).contains("<td>66.0 ms<td>"), "the slowest of 66 is no p99");
    write["iterations"] = json!(200);
    has(&page(&result(&[write])), &["<td>66.0 ms"]);
}

#[test]
fn a_refusal_that_was_asked_for_is_no_trouble() {
    let mut register = cell("register", 65_536);
    register["path"]["asked"] = json!("refused");
    register["path"]["predicted"] = json!("refused");
    register["path"]["observed"] = json!("refused");
    register["cause"] = json!("topology");
    register["reason"] = json!("No way.");
    let page = page(&result(&[register]));
    has(&page, &["1 cell refused, as asked for", "What the kernel said: No way."]);
    assert!(!page.contains("What stopped it") && !page.contains("not verified"));
}

#[test]
fn a_reason_is_told_once_whatever_its_numbers() {
    let stopped = |size: u64| {
        let mut cell = cell("register", size);
        cell["outcome"] = json!("waived");
        cell["cause"] = json!("topology");
        cell["reason"] = json!(format!("registering {size} bytes was refused"));
        cell
    };
    let page = page(&result(&[stopped(4096), stopped(65_536), stopped(1_048_576)]));
    has(&page, &["(3 cells)"]);
    assert_eq!(page.matches("<strong>waived: topology</strong>").count(), 1);
}

#[test]
fn what_a_cpu_copied_is_no_sign_of_the_interconnect() {
    let mut write = cell("write", 65_536);
    write["engine"] = json!("cpu");
    write["throughput_bytes_per_s"] = json!(1e9);
    let mut host = baseline(&write);
    host["throughput_bytes_per_s"] = json!(2e9);
    let page = page(&result(&[write, host]));
    has(&page, &["a CPU copied, so that is no sign of the system interconnect"]);
}

#[test]
fn hostile_text_stays_text() {
    let evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`${7*7}{{7*7}}\u{1b}[31m\0\u{202e}";
    let long = "N".repeat(1 << 20);
    let mut first = cell("write", 4096);
    first["target"]["device"] = json!(evil);
    first["source"]["bdf"] = json!(evil);
    first["op"] = json!("</style></svg></title><b>");
    first["path"]["hops"] = json!([evil, long, evil]);
    first["path"]["turns_at"] = json!(long);
    first["path"]["deciding"] = json!({"bdf": evil, "fact": evil});
    first["path"]["evidence"] = json!([evil, long]);
    first["latency_ns"] = latency(&Draws(1).latencies(200, 5000.0, 0.1));
    let mut second = cell("read", 4096);
    second["target"]["device"] = json!(long);
    second["outcome"] = json!("failed");
    second["cause"] = json!(evil);
    second["reason"] = json!(evil);
    second["remedy"] = json!(long);
    second["far"] = json!({"source": {"kind": evil}, "target": {"device": evil}});
    let mut all = result(&[
        first,
        second,
        json!({}),
        json!({"size_bytes": -5, "outcome": 7, "path": "x", "latency_ns": {"p50": -1}}),
    ]);
    all["environment"]["hostname"] = json!(evil);
    all["environment"]["devices"][0]["name"] = json!(evil);
    all["environment"]["devices"][0]["<b>"] = json!({"<i>": ["<u>"]});
    all["run"]["plan"] = json!({"<b>": evil});
    all["run"]["arguments"] = json!([evil, long]);
    let [page, summary, table] = documents(&all);
    for document in [&page, &summary] {
        for markup in ["<script", "<img", "</svg></title>", "<b>", "<i>", "<u>"] {
            assert!(!document.contains(markup), "{markup}");
        }
    }
    for document in [&page, &summary, &table] {
        assert!(!document.contains(['\u{1b}', '\0', '\u{202e}']), "control characters");
        assert!(document.len() < 300_000, "{} bytes", document.len());
    }
    has(&page, &["&#60;script&#62;alert(1)", "more characters"]);
    assert_eq!(page.matches("<style>").count(), 1);
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(table.starts_with("result,"), "{table}");
}

#[test]
fn figures_that_are_no_numbers_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let text_of = result(&[cell("write", 4096), cell("read", 4096)]).to_string();
    let no_numbers =
        text_of.replace("\"depth\":1", "\"throughput_bytes_per_s\":NaN,\"operations_per_s\":-Infinity,\"depth\":1");
    let file = folder.path().join("result.json");
    std::fs::write(&file, no_numbers).unwrap();
    let output = peerpath(&["report", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    has(&page, &["4 of its figures are no numbers"]);
    assert!(!page.contains(">NaN") && !page.contains("inf "), "NaN on the page");
}

#[test]
fn what_is_no_result_is_named_and_the_rest_reported() {
    let folder = tempfile::tempdir().unwrap();
    let good = save(folder.path(), "good.json", &result(&[cell("write", 4096)]));
    let foreign = save(folder.path(), "foreign.json", &json!({"name": "something else"}));
    let whole = result(&[cell("write", 4096), cell("read", 4096)]).to_string();
    let cut = folder.path().join("cut.json");
    std::fs::write(&cut, &whole[..whole.find("\"op\":\"read\"").unwrap()]).unwrap();
    let out = folder.path().join("all.html");
    let path = |file: &std::path::Path| file.to_str().unwrap().to_owned();
    let output = peerpath(&["report", &path(&good), &path(&foreign), &path(&cut), "--out", &path(&out)]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let page = std::fs::read_to_string(&out).unwrap();
    has(
        &page,
        &[
            "foreign.json cannot be read as a result: it is JSON without a list of cells",
            "cut.json: it ends in the middle",
        ],
    );
    has(&page, &["2 results, 2 measurements: 2 passed"]);
    let nothing = peerpath(&["report", &path(&foreign), "--out", &path(&folder.path().join("none.html"))]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(!folder.path().join("none.html").exists());
}

#[test]
fn bad_usage_ends_with_2_and_a_full_disk_with_4() {
    let folder = tempfile::tempdir().unwrap();
    let good = save(folder.path(), "good.json", &result(&[cell("write", 4096)]));
    let good = good.to_str().unwrap();
    for (arguments, code, word) in [
        (vec!["report"], 2, "RESULT.json"),
        (vec!["report", "/nowhere/at/all"], 2, "/nowhere/at/all"),
        (vec!["report", good, "--format", "pdf"], 2, "pdf"),
        (vec!["report", good, "--format", "html,md", "--out", "x"], 2, "--out-dir"),
        (vec!["report", good, good, good, "--base", "/nowhere.json"], 2, "nowhere"),
        (vec!["report", good, "--out", "/proc/nowhere/report.html"], 4, "/proc/nowhere"),
    ] {
        let output = peerpath(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(word), "{arguments:?}: {}", text(&output));
    }
    let printed = peerpath(&["report", good, "--format", "csv", "--out", "-"]);
    assert!(text(&printed).starts_with("result,run,"), "{}", text(&printed));
}

/// Cells of many devices, operations, sizes and depths.
fn many(count: usize) -> Value {
    let mut draws = Draws(3);
    let latencies: Vec<Value> =
        (0..15).map(|at| latency(&draws.latencies(300, 1000.0 + f64::from(64 << at), 0.2))).collect();
    let cells: Vec<Value> = (0..count)
        .map(|at| {
            let size = 64_u64 << (at % 15);
            let mut cell = cell(["write", "read", "register"][at / 15 % 3], size);
            cell["target"]["device"] = json!(format!("mlx5_{}", at / 45 % 12));
            cell["source"]["bar"] = json!(at / 540 % 6);
            cell["depth"] = json!(1 << (at / 3240));
            if cell["op"] == "register" {
                cell["direction"] = json!(null);
            }
            if cell["op"] == "write" {
                cell["mode"] = json!("bandwidth");
                cell["throughput_bytes_per_s"] = json!(1e9 * (1.0 + draws.uniform()));
            } else {
                cell["latency_ns"] = latencies[at % 15].clone();
            }
            cell
        })
        .collect();
    result(&cells)
}

#[test]
fn ten_thousand_cells_make_a_page_that_can_be_used() {
    let page = page(&many(10_000));
    assert!(page.len() < 8 << 20, "{} bytes", page.len());
    has(&page, &["10000 measurements", "9975 more"]);
    let rows = page.matches("\n<tr><td>").count();
    assert!(rows >= 10_000, "{rows} rows");
    let shown = page.split("class=\"all-cells\"").next().unwrap();
    let first_rows = &shown[shown.find("<section id=\"cells\"").unwrap()..];
    assert!(first_rows.contains("1 MiB") && !first_rows.contains("64 B"), "the largest come first");
}

#[test]
fn results_of_older_and_newer_versions_are_read() {
    let mut newer = result(&[cell("teleport", 4096)]);
    newer["schema_version"] = json!(7);
    newer["cells"][0]["path"]["observed"] = json!("wormhole");
    newer["cells"][0]["fluxes"] = json!([1, 2]);
    has(&page(&newer), &["version 7 of the format", "teleport"]);
    let mut older = result(&[cell("write", 4096)]);
    for field in ["hops", "turns_at", "deciding"] {
        older["cells"][0]["path"].as_object_mut().unwrap().remove(field);
    }
    older["cells"][0]["path"]["evidence"] = json!(["predicted from: the nearest bridge above both"]);
    has(&page(&older), &["The facts: the nearest bridge above both", "No result here says which hops"]);
}

#[test]
fn both_hosts_of_a_run_are_named() {
    let mut write = cell("write", 65_536);
    write["far"] = json!({ "source": { "kind": "host" }, "target": { "kind": "verbs", "device": "mlx5_7" } });
    has(&page(&result(&[write])), &["to mlx5_0 on 0000:04:00.0, to and from host at mlx5_7 of another host"]);
}
