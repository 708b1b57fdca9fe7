//! Comparison of results: finds changes, reports no false ones, rejects results that are not comparable.

mod support;

use std::path::Path;

use peerpath_report::compare::{Comparison, Options, Verdict, compare};
use peerpath_report::saved;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Draws, cell, latency, peerpath, result, save, text};

const OPTIONS: Options = Options { threshold_percent: 5.0, force: false };

fn compared(base: &Value, new: &Value, options: Options) -> Result<Comparison, String> {
    let folder = tempfile::tempdir().unwrap();
    let read = |name, result| saved::read(&save(folder.path(), name, result)).unwrap();
    compare(&read("base.json", base), &read("new.json", new), options).map_err(|error| error.to_string())
}

fn with_samples(op: &str, size: u64, samples: &[u64]) -> Value {
    let mut cell = cell(op, size);
    cell["latency_ns"] = latency(samples);
    cell
}

/// A result with six cells. `slowed` is the index of a cell, and the factor by which its latency samples are multiplied.
fn run(seed: u64, count: usize, slowed: Option<(usize, f64)>) -> Value {
    let mut draws = Draws(seed);
    let combinations =
        [("write", 64), ("write", 4096), ("write", 65_536), ("read", 64), ("read", 4096), ("read", 65_536)];
    let cells: Vec<Value> = combinations
        .iter()
        .enumerate()
        .map(|(at, (op, size))| {
            let factor = slowed.filter(|(slow, _)| *slow == at).map_or(1.0, |(_, factor)| factor);
            let samples = draws.latencies(count, 2000.0 * (at + 1) as f64, 0.05);
            with_samples(op, *size, &samples.iter().map(|sample| (*sample as f64 * factor) as u64).collect::<Vec<_>>())
        })
        .collect();
    result(&cells)
}

fn worse(comparison: &Comparison) -> Vec<&str> {
    let rows = comparison.cells.iter().filter(|row| row.verdict == Verdict::Worse);
    rows.map(|row| row.key.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn finds_slower_cell_and_no_other(seed in any::<u64>(), at in 0_usize..6) {
        let (base, new) = (run(seed, 1000, None), run(seed.wrapping_add(1), 1000, Some((at, 1.1))));
        let found = compared(&base, &new, OPTIONS).unwrap();
        let keys = worse(&found);
        let op = new["cells"][at]["op"].as_str().unwrap();
        let size = new["cells"][at]["size_bytes"].to_string();
        prop_assert!(!keys.is_empty());
        prop_assert!(keys.iter().all(|key| key.contains(&format!("/{op}/")) && key.contains(&format!("/{size}/"))), "{keys:?}");
        prop_assert_eq!(found.verdict, Verdict::Worse);
        let back = compared(&new, &base, OPTIONS).unwrap();
        prop_assert_eq!(back.verdict, Verdict::Better);
    }

    #[test]
    fn equal_samples_are_the_same(seed in any::<u64>(), count in 20_usize..2000) {
        let base = run(seed, count, None);
        let found = compared(&base, &base, OPTIONS).unwrap();
        prop_assert!(found.cells.iter().all(|row| row.verdict == Verdict::Same && row.change_percent == Some(0.0)));
    }

    #[test]
    fn samples_of_equal_distributions_are_the_same(seed in any::<u64>()) {
        let found = compared(&run(seed, 1000, None), &run(seed ^ 0xffff, 1000, None), OPTIONS).unwrap();
        prop_assert_eq!(worse(&found), Vec::<&str>::new());
    }

    #[test]
    fn order_and_ids_of_cells_do_not_matter(seed in any::<u64>(), turn in 1_usize..6) {
        let base = run(seed, 300, None);
        let mut new = base.clone();
        let cells = new["cells"].as_array_mut().unwrap();
        cells.rotate_left(turn);
        for cell in cells {
            cell["id"] = json!("another");
        }
        let found = compared(&base, &new, OPTIONS).unwrap();
        prop_assert!(found.cells.iter().all(|row| row.change_percent == Some(0.0)), "{:?}", found.cells);
    }

    #[test]
    fn more_samples_give_narrower_bounds(seed in any::<u64>()) {
        let width = |count| {
            let found = compared(&run(seed, count, None), &run(seed ^ 1, count, None), OPTIONS).unwrap();
            let [low, high] = found.cells[0].ci_percent.unwrap();
            high - low
        };
        prop_assert!(width(5000) < width(100));
    }
}

#[test]
fn few_samples_are_incomparable() {
    let (base, new) = (run(1, 5, None), run(2, 5, Some((0, 1.1))));
    let found = compared(&base, &new, OPTIONS).unwrap();
    assert!(found.cells.iter().all(|row| row.verdict == Verdict::Incomparable), "{:?}", found.cells);
    assert!(found.cells[0].why.contains("too few samples: 5 and 5 samples"));
    assert_eq!(found.verdict, Verdict::Incomparable);
}

#[test]
fn rejects_emulated_with_hardware_and_soft_rdma_with_nic() {
    let base = run(1, 100, None);
    for (flag, word) in [("emulated", "hardware"), ("soft_rdma", "NIC")] {
        let mut new = base.clone();
        new["environment"][flag] = json!(true);
        assert!(compared(&base, &new, OPTIONS).unwrap_err().contains(word));
        new["environment"].as_object_mut().unwrap().remove(flag);
        assert!(compared(&base, &new, OPTIONS).unwrap_err().contains("not recorded"));
        let forced = compared(&base, &new, Options { force: true, ..OPTIONS }).unwrap();
        assert!(forced.notes[0].contains("although the results are not comparable"), "{:?}", forced.notes);
    }
}

/// Compares a result of one cell with an altered copy.
fn altered(alter: impl Fn(&mut Value), options: Options) -> Comparison {
    let samples = Draws(7).latencies(1000, 2000.0, 0.05);
    let before = with_samples("write", 4096, &samples);
    let mut now = before.clone();
    alter(&mut now);
    compared(&result(&[before]), &result(&[now]), options).unwrap()
}

#[test]
fn differing_cells_are_compared_only_if_forced() {
    type Alteration = (&'static str, fn(&mut Value));
    let alterations: [Alteration; 5] = [
        ("depth", |cell| cell["depth"] = json!(4)),
        ("size", |cell| cell["size_bytes"] = json!(8192)),
        ("op", |cell| cell["op"] = json!("write_imm")),
        ("mechanism", |cell| cell["mechanism"] = json!("reg-mr")),
        ("verified", |cell| cell["verified_bytes"] = json!(null)),
    ];
    for (what, alter) in alterations {
        let plain = altered(alter, OPTIONS);
        assert_eq!(plain.cells.len(), 1, "{what}: {:?}", plain.cells);
        assert_eq!(plain.verdict, Verdict::Incomparable, "{what}");
        assert!(plain.cells[0].why.contains(what), "{what}: {}", plain.cells[0].why);
        let forced = altered(alter, Options { force: true, ..OPTIONS });
        assert_eq!(forced.verdict, Verdict::Same, "{what}");
        assert!(forced.cells[0].why.contains("compared although"), "{what}: {}", forced.cells[0].why);
    }
}

#[test]
fn less_direct_path_is_worse() {
    let path = |name: &'static str| move |cell: &mut Value| cell["path"]["observed"] = json!(name);
    let less = altered(path("host-bridge-translated"), OPTIONS);
    assert_eq!((less.verdict, less.cells[0].metric), (Verdict::Worse, "path"));
    assert!(less.cells[0].why.contains("from bus-address to host-bridge-translated"), "{}", less.cells[0].why);
}

#[test]
fn reports_failed_and_missing_cells() {
    let fail = |cell: &mut Value| {
        cell["outcome"] = json!("failed");
        cell["cause"] = json!("data-mismatch");
        cell["path"]["observed"] = json!("unknown");
        for figure in ["mechanism", "latency_ns", "verified_bytes"] {
            cell.as_object_mut().unwrap().remove(figure);
        }
    };
    let failed = altered(fail, OPTIONS);
    assert_eq!((failed.verdict, failed.cells.len()), (Verdict::Worse, 1));
    assert!(failed.cells[0].why.contains("data-mismatch"), "{}", failed.cells[0].why);
    let (base, new) = (result(&[cell("write", 64)]), result(&[cell("read", 1 << 20)]));
    let found = compared(&base, &new, OPTIONS).unwrap();
    let whys: Vec<&str> = found.cells.iter().map(|row| row.why.as_str()).collect();
    assert_eq!(whys, ["only in the base result", "only in the new result"]);
}

#[test]
fn compares_throughput_with_lowest_windows() {
    let with = |throughput: f64, lowest: Option<f64>| {
        let mut cell = cell("write", 4096);
        cell["mode"] = json!("bandwidth");
        cell["throughput_bytes_per_s"] = json!(throughput);
        cell["throughput_min_window_bytes_per_s"] = json!(lowest);
        result(&[cell])
    };
    let verdict = |base: &Value, new: &Value| compared(base, new, OPTIONS).unwrap().verdict;
    assert_eq!(verdict(&with(1e9, Some(0.97e9)), &with(0.9e9, Some(0.88e9))), Verdict::Worse);
    assert_eq!(
        verdict(&with(1e9, Some(0.8e9)), &with(0.9e9, Some(0.7e9))),
        Verdict::Same,
        "a window of the base run was as slow"
    );
    assert_eq!(verdict(&with(1e9, None), &with(0.9e9, None)), Verdict::Worse);
    assert_eq!(verdict(&with(1e9, Some(0.99e9)), &with(1.2e9, Some(1.1e9))), Verdict::Better);
}

#[test]
fn rejects_median_that_contradicts_its_histogram() {
    let found = altered(|cell| cell["latency_ns"]["p50"] = json!(1), OPTIONS);
    assert_eq!(found.verdict, Verdict::Incomparable);
    assert!(found.cells[0].why.contains("contradict"), "{}", found.cells[0].why);
}

fn files(folder: &Path, base: &Value, new: &Value) -> (String, String) {
    let path = |name, result| save(folder, name, result).to_str().unwrap().to_owned();
    (path("base.json", base), path("new.json", new))
}

#[test]
fn exit_codes_and_json_keys_match_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let (base, new) = files(folder.path(), &run(1, 1000, None), &run(2, 1000, Some((2, 1.1))));
    let output = peerpath(&["compare", &base, &new, "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["verdict"], "worse");
    for row in json["cells"].as_array().unwrap() {
        for key in ["key", "metric", "base", "new", "change_percent", "ci_percent", "verdict", "why"] {
            assert!(row.get(key).is_some(), "{key}: {row}");
        }
    }
    assert_eq!(peerpath(&["compare", &base, &base]).status.code(), Some(0));
    assert_eq!(peerpath(&["compare", &base, &new, "--threshold", "50"]).status.code(), Some(0));
    let table = text(&peerpath(&["compare", &base, &new]));
    assert!(table.contains("1 worse") || table.contains("2 worse"), "{table}");
    assert!(table.contains("99 % confidence"), "{table}");
    for (arguments, word) in [
        (vec!["compare", &base, "/nowhere.json"], "/nowhere.json"),
        (vec!["compare", &base], "NEW"),
        (vec!["compare", &base, &new, "--threshold=-1"], "threshold"),
    ] {
        let output = peerpath(&arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(word), "{}", text(&output));
    }
}

#[test]
fn incomparable_results_exit_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let mut emulated = run(1, 100, None);
    emulated["environment"]["emulated"] = json!(true);
    let (base, new) = files(folder.path(), &run(1, 100, None), &emulated);
    let output = peerpath(&["compare", &base, &new]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("emulated devices"), "{}", text(&output));
    assert_eq!(peerpath(&["compare", &base, &new, "--force"]).status.code(), Some(0));
}

#[test]
fn report_contains_comparison_section() {
    let folder = tempfile::tempdir().unwrap();
    let (base, new) = files(folder.path(), &run(1, 1000, None), &run(2, 1000, Some((2, 1.1))));
    let out = folder.path().join("report.html");
    let output = peerpath(&["report", &new, "--base", &base, "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let page = std::fs::read_to_string(out).unwrap();
    assert!(page.contains("id=\"comparison\"") && page.contains("class=\"v-worse\""), "no comparison");
}

#[test]
fn rejects_runs_with_other_settings_unless_forced() {
    let base = run(1, 500, None);
    let asked = |plan: Value| {
        let mut run = base.clone();
        run["run"]["plan"] = plan;
        run
    };
    let plan =
        json!({ "connection": { "transport": "rc" }, "completion_moderation": 1, "post_list": null, "warmup": 10 });
    let with = |name: &str, value: Value| {
        let mut plan = plan.clone();
        plan[name] = value;
        asked(plan)
    };
    let plain = asked(plan.clone());
    for (name, value) in
        [("connection", json!({ "transport": "uc" })), ("completion_moderation", json!(16)), ("post_list", json!(4))]
    {
        let other = with(name, value);
        let why = compared(&plain, &other, OPTIONS).unwrap_err();
        assert!(why.contains(&name.replace('_', " ")), "{why}");
        let forced = compared(&plain, &other, Options { force: true, ..OPTIONS }).unwrap();
        assert!(forced.notes[0].starts_with("compared although"), "{:?}", forced.notes);
    }
    assert!(compared(&plain, &with("warmup", json!(20)), OPTIONS).unwrap().notes[0].contains("warmup"));
    compared(&asked(json!({})), &plain, OPTIONS).expect("an older result does not record the settings");
}

#[test]
fn cells_with_different_peers_do_not_match() {
    let cell_with = |device: &str| {
        let mut cell = with_samples("write", 4096, &[1000; 200]);
        cell["far"] = json!({ "source": { "kind": "host" }, "target": { "kind": "verbs", "device": device } });
        result(&[cell])
    };
    let found = compared(&cell_with("mlx5_1"), &cell_with("mlx5_2"), OPTIONS).unwrap();
    assert!(found.cells.iter().all(|row| row.verdict == Verdict::Incomparable), "{:?}", found.cells);
}

#[test]
fn names_each_difference_between_the_runs() {
    let base = run(1, 500, None);
    let mut new = base.clone();
    new["tool"]["version"] = json!("0.2.0");
    new["environment"]["kernel"] = json!("7.3.0");
    new["environment"]["devices"] =
        json!([{"bdf": "0000:04:00.0", "name": "a NIC", "firmware": "28.40"}, {"bdf": "0000:05:00.0"}]);
    new["run"]["plan"] = json!({"iterations": 500});
    let notes = compared(&base, &new, OPTIONS).unwrap().notes;
    let expected = [
        "program: peerpath 0.1.0 before, peerpath 0.2.0 now",
        "kernel: 7.2.12 before, 7.3.0 now",
        "0000:03:00.0: only in the base result",
        "0000:04:00.0, firmware: not recorded before, 28.40 now",
        "0000:05:00.0: only in the new result",
        "plan, iterations: not recorded before, 500 now",
    ];
    assert_eq!(notes, expected);
}
