//! `peerpath report` with real, hostile and large results.

mod support;

use base64::Engine as _;
use serde_json::{Value, json};
use support::{Draws, baseline, cell, latency, peerpath, reference, result, save, text};

const SECTIONS: [&str; 10] = [
    "summary",
    "matrix",
    "pairs",
    "routes",
    "throughput",
    "latency",
    "registration",
    "not-passed",
    "environment",
    "cells",
];

/// The HTML, Markdown and CSV documents of a result.
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
fn has(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "the page does not contain {text:?}");
    }
}

#[test]
fn reference_matrix_page_has_every_section() {
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
            "A CPU moved the data (soft RDMA)",
            "default/staged",
            "swiotlb-forced",
            "through the host bridge, translated by the IOMMU",
        ],
    );
    has(&page, &["path through the PCI tree: 0000:06:00.0"]);
    assert_eq!(page.matches("do not rank the paths").count(), 1, "the warning appears once");
    assert!(!page.contains("<script"), "the page contains a script");
    let positions: Vec<_> = SECTIONS.iter().map(|section| page.find(&format!("<section id=\"{section}\""))).collect();
    assert!(positions.is_sorted(), "the sections are not in their order: {positions:?}");
    has(&page, &["76 of 76 observed paths are as predicted", "peerpath-lab"]);
}

/// A page of hardware results, and its Markdown: a write and a read in two sizes each, and the same with host memory.
#[test]
fn summary_has_host_verdict_and_ratios_above_everything_else() {
    let mut cells = Vec::new();
    for (op, size, rate) in [("write", 4096, 1e9), ("write", 1 << 20, 9e9), ("read", 1 << 20, 6e9)] {
        let mut moved = cell(op, size);
        support::repeat_throughput(&mut moved, &[rate * 0.9, rate, rate * 1.1]);
        moved["ceiling"] = json!({"bytes_per_s": 12e9, "limited_by": "link <0000:02:00.0>"});
        let mut host = baseline(&moved);
        support::repeat_throughput(&mut host, &[10e9; 3]);
        host.as_object_mut().unwrap().remove("ceiling");
        cells.extend([moved, host]);
    }
    let mut latency = cell("write", 4096);
    support::repeat_latency(&mut latency, &[vec![1800; 200], vec![2000; 200], vec![2500; 200]]);
    latency["repeats"][1]["disturbed"] = json!(["the hypervisor took 12 % of the CPU time"]);
    let mut host = baseline(&latency);
    support::repeat_latency(&mut host, &[vec![1600; 200], vec![1600; 200]]);
    cells.extend([latency, host]);
    let [page, summary, table] = documents(&result(&cells));
    let top = &page[page.find("<section id=\"summary\"").unwrap()..page.find("<nav").unwrap()];
    has(
        top,
        &["lab-7", "Linux 7.2.12", "2026-01-01 00:00:00 UTC", "hardware", "<strong class=\"o-passed\">passed</strong>"],
    );
    has(top, &["BAR 2 of 0000:03:00.0 to mlx5_0 on 0000:04:00.0", "bus-address</a> observed, as predicted"]);
    has(
        top,
        &["9.00 GB/s", "90 % of host memory (10.0 GB/s)", "75 % of ceiling (12.0 GB/s)", "link &#60;0000:02:00.0&#62;"],
    );
    has(top, &["6.00 GB/s", "60 % of host memory", "2.00 us (p50)", "125 % of host memory (1.60 us)"]);
    has(top, &["title=\"repeat 2: the hypervisor took 12 % of the CPU time\">disturbed</abbr>", "1 disturbed cell"]);
    let markdown = &summary[..summary.find("## Sources and targets").unwrap()];
    has(markdown, &["**passed** 1 result, 8 cells: 8 passed", "- host: lab-7", "90 % of host memory (10.0 GB/s)"]);
    has(markdown, &["75 % of ceiling", "2.00 us (p50); 125 % of host memory (1.60 us); disturbed: repeat 2"]);
    has(&page, &["<th scope=\"col\">of ceiling</th>"]);
    has(
        &page,
        &["ceiling: 12.0 GB/s, limited by link", "a: ceiling", "Error bars: lowest to highest value of the repeats."],
    );
    has(&page, &["1 MiB: 9.00 GB/s (9000000000 bytes/s)", "3 repeats: 8.10 GB/s (8100000000 bytes/s) to 9.90 GB/s"]);
    assert!(table.lines().next().unwrap().ends_with(",ceiling_bytes_per_s,percent_of_ceiling"), "{table}");
    assert!(table.lines().any(|line| line.ends_with(",12000000000,75")), "{table}");
    // The link has the CSV of the document.
    let link = page.split("href=\"data:text/csv;charset=utf-8;base64,").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(link).unwrap(), table.as_bytes());
}

#[test]
fn verdict_of_a_comparison_is_above_its_charts_and_unchanged_rows_are_folded() {
    let side = |factor: f64| {
        let mut write = cell("write", 4096);
        support::repeat_throughput(&mut write, &[1e9 * factor, 1.001e9 * factor, 1.002e9 * factor, 1.003e9 * factor]);
        let mut read = cell("read", 4096);
        support::repeat_throughput(&mut read, &[1e9, 1.001e9, 1.002e9, 1.003e9]);
        result(&[write, read])
    };
    let folder = tempfile::tempdir().unwrap();
    let (base, mut new) = (save(folder.path(), "base.json", &side(1.0)), side(0.5));
    new["run"]["id"] = json!("another");
    let new = save(folder.path(), "new.json", &new);
    let paths = [&new, &base].map(|file| file.to_str().unwrap().to_owned());
    let output = peerpath(&["report", &paths[0], "--base", &paths[1], "--format", "html,md"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("the page does not contain {text:?}"));
    let order = [
        "class=\"v-worse\">worse</strong>",
        "<section id=\"comparison\"",
        "<td class=\"v-worse\"",
        "1 unchanged rows",
        "<td class=\"v-same\"",
        "<section id=\"matrix\"",
        "<section id=\"throughput\"",
    ]
    .map(at);
    assert!(order.is_sorted(), "{order:?}");
    let markdown = std::fs::read_to_string(folder.path().join("report.md")).unwrap();
    let top = markdown.split("## Compared with").next().unwrap();
    has(top, &["**worse** compared with", "Metrics: 1 worse"]);
    has(&markdown, &["<details><summary>1 unchanged rows</summary>"]);
}

#[test]
fn pair_summary_has_path_reason_and_speed() {
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
            "64 KiB write into source: 1.20 GB/s (10 % of 12.0 GB/s with host memory)",
        ],
    );
    has(&page, &["the data may cross the root complex", "no port between them redirects requests"]);
    has(&page, &["0000:01:00.0, decides", "published: VFIO dma-buf and iommufd between 4 GPUs"]);
    has(&summary, &["BAR 2 of 0000:03:00.0 to mlx5\\_0", "10 % of 12.0 GB/s", "| source | verbs:mlx5\\_0 |"]);
    assert_eq!(table.lines().count(), 4);
    assert!(table.contains(",1200000000,"), "{table}");
    assert!(!page.contains("emulated:"), "hardware has a warning");
}

/// The timing of emulated devices is neither interpreted nor shown next to that of hardware: only the summary has a ratio, and
/// marks it.
#[test]
fn ratios_of_emulated_devices_are_marked_and_hardware_figures_are_absent() {
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
    has(&page, &["The devices are emulated", "(12.0 GB/s with host memory)"]);
    let (top, rest) = page.split_at(page.find("<nav").unwrap());
    has(top, &["emulated</span>", "10 % of host memory (12.0 GB/s)"]);
    assert!(!rest.contains("10 %"), "a ratio ranks the paths");
    assert!(!page.contains("gdrcopy"), "published figures of hardware");
    assert!(!page.contains("may cross the root complex"), "emulated devices are flagged as slower");
    assert!(!page.contains("published: VFIO"), "a chart of emulated devices has published lines");
}

#[test]
fn p99_needs_a_hundred_samples() {
    let mut write = cell("write", 65_536);
    write["latency_ns"] = support::latency(&(1..=66).map(|at| at * 1_000_000).collect::<Vec<_>>());
    write["iterations"] = json!(66);
    assert!(!page(&result(&[write.clone()])).contains("<td>66.0 ms<td>"), "the largest of 66 samples is shown as p99");
    write["iterations"] = json!(200);
    has(&page(&result(&[write])), &["<td>66.0 ms"]);
}

#[test]
fn requested_refusal_is_not_a_failure() {
    let mut register = cell("register", 65_536);
    register["path"]["asked"] = json!("refused");
    register["path"]["predicted"] = json!("refused");
    register["path"]["observed"] = json!("refused");
    register["cause"] = json!("topology");
    register["reason"] = json!("Not possible.");
    let page = page(&result(&[register]));
    has(&page, &["1 cell refused, as requested", "Refused by the kernel: Not possible."]);
    assert!(!page.contains("Reason: ") && !page.contains("not verified"));
}

#[test]
fn reasons_that_differ_in_numbers_appear_once() {
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
fn cpu_copies_do_not_indicate_interconnect() {
    let mut write = cell("write", 65_536);
    write["engine"] = json!("cpu");
    write["throughput_bytes_per_s"] = json!(1e9);
    let mut host = baseline(&write);
    host["throughput_bytes_per_s"] = json!(2e9);
    let page = page(&result(&[write, host]));
    has(&page, &["A CPU copied the data, so the throughput does not show whether"]);
}

/// Spreadsheets evaluate a field that starts like a formula.
#[test]
fn no_field_of_the_table_is_a_formula() {
    let mut cell = cell("write", 4096);
    for (field, start) in
        [("op", "=1+1"), ("mode", "+1"), ("engine", "-1"), ("mechanism", "@SUM(1)"), ("cause", "\t=1")]
    {
        cell[field] = json!(start);
    }
    let [.., table] = documents(&result(&[cell]));
    let row = table.lines().nth(1).unwrap();
    for field in ["'=1+1", "'+1", "'-1", "'@SUM(1)", "' =1"] {
        assert!(row.split(',').any(|found| found == field), "{field} in {row}");
    }
}

#[test]
fn names_of_folders_do_not_control_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let evil = folder.path().join("a\u{1b}[31m\u{202e}\u{061c}\u{e0041}\nerror: b");
    for (name, file) in [("good", result(&[cell("write", 4096)])), ("bad", json!([]))] {
        std::fs::create_dir_all(evil.join(name)).unwrap();
        save(&evil.join(name), "result.json", &file);
    }
    let output = peerpath(&["report", evil.to_str().unwrap(), "--out", evil.join("report.html").to_str().unwrap()]);
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(shown.contains("written to") && shown.contains("not an object"), "{shown}");
    assert_eq!(peerpath_paths::printable_lines(&shown), shown);
}

#[test]
fn escapes_hostile_text() {
    let evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`${7*7}{{7*7}}\u{1b}[31m\0\u{9b}\u{202e}\u{2066}\u{061c}\u{200b}\u{ad}\u{feff}\u{e0041}";
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
    all["environment"]["command_line"] = json!("iommu=pt iscsi_password=hunter2");
    all["environment"]["peer"] =
        json!({"hostname": evil, "command_line": "swiotlb=force inst.ks=http://me:hunter2@192.0.2.7/"});
    let [page, summary, table] = documents(&all);
    for document in [&page, &summary] {
        for markup in ["<script", "<img", "</svg></title>", "<b>", "<i>", "<u>"] {
            assert!(!document.contains(markup), "{markup}");
        }
    }
    for document in [&page, &summary, &table] {
        assert_eq!(peerpath_paths::printable_lines(document), **document, "control or invisible characters");
        assert!(!document.contains("hunter2"), "a secret of the kernel command line");
        assert!(document.len() < 300_000, "{} bytes", document.len());
    }
    has(&page, &["&#60;script&#62;alert(1)", "more characters", "iommu=pt", "swiotlb=force"]);
    assert_eq!(page.matches("<style>").count(), 1);
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(table.starts_with("result,"), "{table}");
}

#[test]
fn ignores_numbers_that_are_not_finite() {
    let folder = tempfile::tempdir().unwrap();
    let text_of = result(&[cell("write", 4096), cell("read", 4096)]).to_string();
    let no_numbers =
        text_of.replace("\"depth\":1", "\"throughput_bytes_per_s\":NaN,\"operations_per_s\":-Infinity,\"depth\":1");
    let file = folder.path().join("result.json");
    std::fs::write(&file, no_numbers).unwrap();
    let output = peerpath(&["report", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    has(&page, &["ignored 4 numbers that are NaN or infinite"]);
    assert!(!page.contains(">NaN") && !page.contains("inf "), "NaN on the page");
}

#[test]
fn names_unreadable_files_and_reports_the_others() {
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
    has(&page, &["foreign.json as a result: the JSON object has no list of cells", "cut.json: the file is truncated"]);
    has(&page, &["2 results, 2 cells: 2 passed"]);
    let nothing = peerpath(&["report", &path(&foreign), "--out", &path(&folder.path().join("none.html"))]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(!folder.path().join("none.html").exists());
}

#[test]
fn bad_usage_exits_with_2_and_write_error_with_4() {
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

/// A result with `count` cells of different devices, operations, sizes and depths.
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
fn ten_thousand_cells_make_a_usable_page() {
    let page = page(&many(10_000));
    assert!(page.len() < 8 << 20, "{} bytes", page.len());
    has(&page, &["10000 cells", "9975 more"]);
    let rows = page.matches("\n<tr><td>").count();
    assert!(rows >= 10_000, "{rows} rows");
    let shown = page.split("class=\"all-cells\"").next().unwrap();
    let first_rows = &shown[shown.find("<section id=\"cells\"").unwrap()..];
    assert!(first_rows.contains("1 MiB") && !first_rows.contains("64 B"), "the largest operations come first");
}

#[test]
fn reads_results_of_older_and_newer_versions() {
    let mut newer = result(&[cell("teleport", 4096)]);
    newer["schema_version"] = json!(7);
    newer["cells"][0]["path"]["observed"] = json!("wormhole");
    newer["cells"][0]["fluxes"] = json!([1, 2]);
    has(&page(&newer), &["format version 7", "teleport"]);
    let mut older = result(&[cell("write", 4096)]);
    for field in ["hops", "turns_at", "deciding"] {
        older["cells"][0]["path"].as_object_mut().unwrap().remove(field);
    }
    older["cells"][0]["path"]["evidence"] = json!(["predicted from: the nearest bridge above both"]);
    has(&page(&older), &["Deciding fact: the nearest bridge above both", "No result records the hops"]);
}

#[test]
fn names_both_hosts_of_a_run() {
    let mut write = cell("write", 65_536);
    write["far"] = json!({ "source": { "kind": "host" }, "target": { "kind": "verbs", "device": "mlx5_7" } });
    has(&page(&result(&[write])), &["to mlx5_0 on 0000:04:00.0 on the server, with host at mlx5_7 on the client"]);
}

#[test]
fn says_that_a_throughput_both_ways_is_a_sum() {
    let mut write = cell("write", 65_536);
    write["mode"] = json!("bandwidth");
    write["bidirectional"] = json!(true);
    write["throughput_bytes_per_s"] = json!(3e9);
    has(&page(&result(&[write])), &["64 KiB write both ways (sum of both directions)"]);
}

#[test]
fn junit_has_a_test_case_per_cell_and_openmetrics_has_base_units() {
    let folder = tempfile::tempdir().unwrap();
    let mut cells = [cell("write", 4096), cell("write", 8192), cell("read", 4096)];
    (cells[0]["latency_ns"], cells[0]["iterations"]) = (json!({"p50": 2500, "p99": 9000}), json!(1000));
    (cells[1]["outcome"], cells[1]["reason"], cells[1]["cause"]) =
        (json!("failed"), json!("a < b"), json!("data-mismatch"));
    (cells[2]["outcome"], cells[2]["reason"]) = (json!("waived"), json!("too large"));
    let file = save(folder.path(), "result.json", &result(&cells));
    let output = peerpath(&["report", file.to_str().unwrap(), "--format", "junit,openmetrics"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let written = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let (junit, metrics) = (written("report.xml"), written("report.prom"));
    has(
        &junit,
        &["tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\"", "message=\"a &lt; b\" type=\"data-mismatch\""],
    );
    assert_eq!(junit.matches("<testcase").count(), 3);
    has(&metrics, &["# UNIT peerpath_latency_seconds seconds", "quantile=\"0.5\"} 0.0000025", "emulated=\"false\""]);
    let passed = |line: &&str| line.starts_with("peerpath_cell_passed{") && line.ends_with("} 1");
    assert_eq!(metrics.lines().filter(passed).count(), 1);
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn states_that_a_killed_run_has_no_cells() {
    let [page, markdown, _] = documents(&result(&[]));
    for text in [&page, &markdown] {
        has(text, &["1 result without cells", "the run ended before its first cell did"]);
    }
}
