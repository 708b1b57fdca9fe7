//! Comparison of results: finds changes, reports no false ones, rejects results that are not comparable.

mod support;

use std::path::Path;
use std::process::Output;

use peerpath_report::compare::{self, Comparison, Options, Row, Unit, Verdict, compare};
use peerpath_report::saved;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Draws, cell, peerpath, repeat_latency, repeat_throughput, result, save, text};

const OPTIONS: Options = Options { threshold_percent: 5.0, force: false };

fn compared(base: &Value, new: &Value, options: Options) -> Result<Comparison, String> {
    compared_sides(std::slice::from_ref(base), std::slice::from_ref(new), options)
}

fn compared_sides(base: &[Value], new: &[Value], options: Options) -> Result<Comparison, String> {
    let folder = tempfile::tempdir().unwrap();
    let side = |results: &[Value]| {
        let read = |result| saved::read(&save(folder.path(), "result.json", result)).unwrap();
        results.iter().map(read).collect::<Vec<_>>()
    };
    let (base, new) = (side(base), side(new));
    compare(&base.iter().collect::<Vec<_>>(), &new.iter().collect::<Vec<_>>(), options)
        .map_err(|error| error.to_string())
}

/// Repeats of the same samples, each with an offset of about 1 %.
fn repeated(op: &str, size: u64, samples: &[u64], count: usize, draws: &mut Draws) -> Value {
    let mut cell = cell(op, size);
    let repeats: Vec<Vec<u64>> = (0..count)
        .map(|_| {
            let offset = 1.0 + 0.02 * (draws.uniform() - 0.5);
            samples.iter().map(|sample| (*sample as f64 * offset) as u64).collect()
        })
        .collect();
    repeat_latency(&mut cell, &repeats);
    cell
}

/// A result with six cells, each with this number of repeats. `slowed` is the index of a cell, and the factor by which its latency samples are
/// multiplied.
fn run(seed: u64, repeats: usize, slowed: Option<(usize, f64)>) -> Value {
    let mut draws = Draws(seed);
    let combinations =
        [("write", 64), ("write", 4096), ("write", 65_536), ("read", 64), ("read", 4096), ("read", 65_536)];
    let cells: Vec<Value> = combinations
        .iter()
        .enumerate()
        .map(|(at, (op, size))| {
            let factor = slowed.filter(|(slow, _)| *slow == at).map_or(1.0, |(_, factor)| factor);
            // Equal samples in every run: only the offsets of the repeats differ.
            let samples = Draws(at as u64).latencies(200, 2000.0 * (at + 1) as f64 * factor, 0.05);
            repeated(op, *size, &samples, repeats, &mut draws)
        })
        .collect();
    let mut result = result(&cells);
    result["run"]["id"] = json!(format!("run {seed}"));
    result
}

fn worse(comparison: &Comparison) -> Vec<&str> {
    let rows = comparison.cells.iter().filter(|row| row.verdict == Verdict::Worse);
    rows.map(|row| row.key.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn finds_slower_cell_and_no_other(seed in any::<u64>(), at in 0_usize..6) {
        let (base, new) = (run(seed, 5, None), run(seed.wrapping_add(1), 5, Some((at, 1.2))));
        let found = compared(&base, &new, OPTIONS).unwrap();
        let op = new["cells"][at]["op"].as_str().unwrap();
        let size = new["cells"][at]["size_bytes"].to_string();
        let keys = worse(&found);
        prop_assert!(!keys.is_empty());
        prop_assert!(
            keys.iter().all(|key| key.contains(&format!("/{op}/")) && key.contains(&format!("/{size}/"))), "{keys:?}"
        );
        prop_assert_eq!(found.verdict, Verdict::Worse);
        prop_assert_eq!(compared(&new, &base, OPTIONS).unwrap().verdict, Verdict::Better);
    }

    #[test]
    fn equal_repeats_are_the_same(seed in any::<u64>(), repeats in 3_usize..9) {
        let base = run(seed, repeats, None);
        let found = compared(&base, &base, OPTIONS).unwrap();
        let is_same = |row: &Row| row.verdict == Verdict::Same && row.change_percent == Some(0.0);
        prop_assert!(found.cells.iter().all(is_same), "{:?}", found.cells);
    }

    #[test]
    fn order_and_ids_of_cells_do_not_matter(seed in any::<u64>(), turn in 1_usize..6) {
        let base = run(seed, 3, None);
        let mut new = base.clone();
        let cells = new["cells"].as_array_mut().unwrap();
        cells.rotate_left(turn);
        for cell in cells {
            cell["id"] = json!("another");
        }
        let found = compared(&base, &new, OPTIONS).unwrap();
        prop_assert!(found.cells.iter().all(|row| row.change_percent == Some(0.0)), "{:?}", found.cells);
    }
}

#[test]
fn more_repeats_give_narrower_intervals() {
    let width = |repeats| {
        let found = compared(&run(1, repeats, None), &run(2, repeats, None), OPTIONS).unwrap();
        let [low, high] = found.cells[0].ci_percent.unwrap();
        high - low
    };
    assert!(width(20) < 0.6 * width(3));
}

#[test]
fn without_repeats_the_variation_is_unknown() {
    let mut old = run(1, 1, None);
    old["schema_version"] = json!(1);
    for cell in old["cells"].as_array_mut().unwrap() {
        cell.as_object_mut().unwrap().remove("repeats");
    }
    for (base, new) in [(&old, &run(2, 5, Some((0, 3.0)))), (&run(1, 5, None), &run(2, 1, Some((0, 3.0))))] {
        let found = compared(base, new, OPTIONS).unwrap();
        assert_eq!(found.verdict, Verdict::Inconclusive);
        for row in &found.cells {
            assert_eq!(row.verdict, Verdict::Inconclusive, "{row:?}");
            assert_eq!(row.why, "run-to-run variation is unknown: repeat the runs (--repeat)");
            assert!(row.change_percent.is_some() && row.ci_percent.is_none(), "{row:?}");
        }
    }
}

#[test]
fn wide_intervals_are_inconclusive_and_name_the_repeats_that_decide() {
    let side = |factor: f64| {
        let mut cell = cell("write", 4096);
        repeat_throughput(&mut cell, &[1e9 * factor, 1.06e9 * factor, 0.97e9 * factor]);
        result(&[cell])
    };
    let found = compared(&side(1.0), &side(1.02), OPTIONS).unwrap();
    let row = &found.cells[0];
    assert_eq!((found.verdict, row.observations), (Verdict::Inconclusive, Some([3, 3])));
    let needed = row.observations_needed.unwrap();
    assert!((5..60).contains(&needed), "{row:?}");
    assert!(row.why.contains(&format!("about {needed} repeats per side would probably decide")), "{}", row.why);
    assert!(compare::summary(&found).contains(&format!("--repeat {needed}")), "{}", compare::summary(&found));
    assert_eq!(compared(&side(1.0), &side(0.7), OPTIONS).unwrap().verdict, Verdict::Worse);
    assert_eq!(compared(&side(1.0), &side(1.5), OPTIONS).unwrap().verdict, Verdict::Better);
}

#[test]
fn tails_need_a_hundred_samples_in_each_repeat() {
    let with = |count: usize| {
        let mut cell = cell("write", 4096);
        repeat_latency(&mut cell, &vec![vec![1000; count]; 3]);
        result(&[cell])
    };
    let metrics = |base, new| {
        let found = compared(&with(base), &with(new), OPTIONS).unwrap();
        found.cells.iter().map(|row| row.metric).collect::<Vec<_>>()
    };
    assert_eq!(metrics(100, 100), ["latency_p50_ns", "latency_p99_ns"]);
    assert_eq!(metrics(99, 100), ["latency_p50_ns"]);
}

#[test]
fn several_results_are_observations() {
    let side = |from: u64, slowed| (from..from + 3).map(|seed| run(seed, 2, slowed)).collect::<Vec<_>>();
    let (base, new) = (side(0, None), side(10, Some((1, 1.2))));
    let found = compared_sides(&base, &new, OPTIONS).unwrap();
    assert_eq!(found.unit, Unit::Result);
    assert!(found.cells.iter().all(|row| row.observations == Some([3, 3])), "{:?}", found.cells);
    assert!(worse(&found).iter().all(|key| key.contains("/write/") && key.contains("/4096/")), "{:?}", worse(&found));
    assert_eq!(found.verdict, Verdict::Worse);
    // With one result on a side, the repeats of the other side's results are observations.
    let found = compared_sides(&base[..1], &new, OPTIONS).unwrap();
    assert_eq!((found.unit, found.cells[0].observations), (Unit::Repeat, Some([2, 6])));
    // Results of version 1 are observations, too.
    let plain = |results: &[Value]| {
        let mut results = results.to_vec();
        for cell in results.iter_mut().flat_map(|result| result["cells"].as_array_mut().unwrap()) {
            cell.as_object_mut().unwrap().remove("repeats");
        }
        results
    };
    assert_eq!(compared_sides(&plain(&base), &plain(&new), OPTIONS).unwrap().verdict, Verdict::Worse);
}

#[test]
fn results_of_a_side_must_be_comparable_and_of_different_runs() {
    let base = [run(1, 3, None), run(2, 3, None)];
    let mut new = [run(3, 3, None), run(4, 3, None)];
    new[1]["environment"]["kernel"] = json!("7.3.0");
    let notes = compared_sides(&base, &new, OPTIONS).unwrap().notes;
    assert_eq!(notes, ["new results, kernel: 7.2.12 in new result 1, 7.3.0 in new result 2"]);
    new[1]["environment"]["emulated"] = json!(true);
    let why = compared_sides(&base, &new, OPTIONS).unwrap_err();
    assert_eq!(why, "the new result 1 was measured with hardware, the new result 2 with emulated devices");
    let twice = [base[0].clone(), base[0].clone()];
    let why = compared_sides(&twice, &base, OPTIONS).unwrap_err();
    assert_eq!(why, "the base result 1 and the base result 2 are of the same run");
    let forced = compared_sides(&twice, &base, Options { force: true, ..OPTIONS }).unwrap();
    assert!(forced.notes[0].starts_with("compared although"), "{:?}", forced.notes);
    assert!(compared_sides(&[], &base, OPTIONS).is_err());
}

/// Of several new results, one that failed or took another path is enough.
#[test]
fn one_of_several_results_can_be_worse() {
    let base = [run(1, 3, None), run(2, 3, None)];
    let with = |alter: &dyn Fn(&mut Value)| {
        let mut new = [run(3, 3, None), run(4, 3, None)];
        alter(&mut new[1]["cells"][0]);
        compared_sides(&base, &new, OPTIONS).unwrap()
    };
    let failed = with(&|cell| {
        cell["outcome"] = json!("failed");
        for recorded in ["mechanism", "latency_ns", "repeats", "verified_bytes"] {
            cell.as_object_mut().unwrap().remove(recorded);
        }
        cell["path"]["observed"] = json!("unknown");
    });
    assert_eq!((failed.verdict, worse(&failed).len()), (Verdict::Worse, 1));
    let why = &failed.cells.iter().find(|row| row.verdict == Verdict::Worse).unwrap().why;
    assert_eq!(why, "before: passed in 2 of 2 results; now: failed in 1 of 2 results");
    let moved = with(&|cell| cell["path"]["observed"] = json!("host-bridge-translated"));
    let row = moved.cells.iter().find(|row| row.verdict == Verdict::Worse).unwrap();
    assert_eq!(row.metric, "path");
    assert!(row.why.contains("from bus-address to host-bridge-translated"), "{}", row.why);
}

#[test]
fn disturbed_repeats_do_not_count() {
    let why = "the hypervisor took 12 % of the CPU time (steal)";
    // The disturbed repeats are twice as slow.
    let disturbed = |count: usize| {
        let mut slowed = run(2, 5, Some((3, 2.0)));
        let undisturbed = run(3, 5, None);
        for at in count..5 {
            slowed["cells"][3]["repeats"][at] = undisturbed["cells"][3]["repeats"][at].clone();
        }
        for at in 0..count {
            slowed["cells"][3]["repeats"][at]["disturbed"] = json!([why]);
        }
        slowed
    };
    let base = run(1, 5, None);
    let row = |count: usize| {
        let comparison = compared(&base, &disturbed(count), OPTIONS).unwrap();
        assert!(worse(&comparison).is_empty(), "{comparison:#?}");
        comparison.cells.into_iter().find(|row| row.why.contains("disturbed")).unwrap()
    };
    let two = row(2);
    assert_eq!((two.verdict, two.observations), (Verdict::Same, Some([5, 3])), "{two:#?}");
    assert!(two.why.contains(&format!("2 disturbed repeat(s) do not count ({why})")), "{two:#?}");
    let all = row(5);
    assert_eq!((all.verdict, all.observations), (Verdict::Inconclusive, None), "{all:#?}");
    assert!(all.why.contains("no undisturbed repeat remains"), "{all:#?}");
}

#[test]
fn notes_name_repeats_without_a_steady_rate() {
    let mut new = run(2, 3, None);
    new["cells"][0]["repeats"][1]["steady"] = json!(false);
    let notes = compared(&run(1, 3, None), &new, OPTIONS).unwrap().notes;
    assert_eq!(notes, ["new side: the rate was not steady after the warm-up in 1 of 18 repeats (see --warmup)"]);
}

#[test]
fn rejects_emulated_with_hardware_and_soft_rdma_with_nic() {
    let base = run(1, 3, None);
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
    let mut draws = Draws(7);
    let samples = draws.latencies(200, 2000.0, 0.05);
    let before = repeated("write", 4096, &samples, 5, &mut draws);
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
    let (base, new) = files(folder.path(), &run(1, 5, None), &run(2, 5, Some((2, 1.2))));
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
    assert!(table.contains("90 % interval") && table.contains("5 and 5 repeats"), "{table}");
    assert!(table.contains(" inconclusive, 0 not comparable"), "{table}");
    let sides = |arguments: &[&str]| peerpath(&[&["compare", "--json"], arguments].concat());
    let json = |output: Output| serde_json::from_slice::<Value>(&output.stdout).unwrap();
    assert_eq!(json(sides(&[&base, "--", &new]))["verdict"], "worse");
    let others =
        (save(folder.path(), "b2.json", &run(3, 5, None)), save(folder.path(), "n2.json", &run(4, 5, Some((2, 1.2)))));
    let json = json(sides(&[&base, others.0.to_str().unwrap(), "--", &new, others.1.to_str().unwrap()]));
    assert_eq!(json["unit"], "result");
    let output = sides(&[&base, "--", &new, &new]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("name each result once"), "{}", text(&output));
    for (arguments, word) in [
        (vec!["compare", &base, "/nowhere.json"], "/nowhere.json"),
        (vec!["compare", &base], "NEW"),
        (vec!["compare", &base, &new, &new], "3 results are given, and no `--`"),
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
    let mut emulated = run(1, 3, None);
    emulated["environment"]["emulated"] = json!(true);
    let (base, new) = files(folder.path(), &run(1, 3, None), &emulated);
    let output = peerpath(&["compare", &base, &new]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("emulated devices"), "{}", text(&output));
    assert_eq!(peerpath(&["compare", &base, &new, "--force"]).status.code(), Some(0));
}

#[test]
fn report_contains_comparison_section() {
    let folder = tempfile::tempdir().unwrap();
    let (base, new) = files(folder.path(), &run(1, 5, None), &run(2, 5, Some((2, 1.2))));
    let out = folder.path().join("report.html");
    let output = peerpath(&["report", &new, "--base", &base, "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let page = std::fs::read_to_string(out).unwrap();
    assert!(page.contains("id=\"comparison\"") && page.contains("class=\"v-worse\""), "no comparison");
}

#[test]
fn rejects_runs_with_other_settings_unless_forced() {
    let base = run(1, 3, None);
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
        let mut cell = cell("write", 4096);
        repeat_latency(&mut cell, &vec![vec![1000; 200]; 3]);
        cell["far"] = json!({ "source": { "kind": "host" }, "target": { "kind": "verbs", "device": device } });
        result(&[cell])
    };
    let found = compared(&cell_with("mlx5_1"), &cell_with("mlx5_2"), OPTIONS).unwrap();
    assert!(found.cells.iter().all(|row| row.verdict == Verdict::Incomparable), "{:?}", found.cells);
}

#[test]
fn names_each_difference_between_the_runs() {
    let base = run(1, 3, None);
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

#[test]
fn a_waived_cell_is_matched_by_the_path_that_it_asked_for() {
    let with_path = |asked: &str, outcome: &str| {
        let mut cell = cell("write", 4096);
        cell["path"]["asked"] = json!(asked);
        cell["path"]["predicted"] = json!("host-bridge-translated");
        cell["path"]["observed"] = json!(if outcome == "passed" { asked } else { "unknown" });
        cell["outcome"] = json!(outcome);
        if outcome == "passed" {
            repeat_latency(&mut cell, &[vec![2000; 200], vec![2010; 200], vec![1990; 200]]);
        } else {
            cell["mechanism"] = Value::Null;
            cell["reason"] = json!("the NIC is in use");
        }
        cell
    };
    let (translated, bypass) = ("host-bridge-translated", "host-bridge-bypass");
    let base = result(&[with_path(translated, "passed"), with_path(bypass, "waived")]);
    let new = result(&[with_path(translated, "passed"), with_path(bypass, "passed")]);
    for (base, new) in [(&base, &new), (&new, &base)] {
        let found = compared(base, new, OPTIONS).unwrap();
        assert!(found.cells.iter().all(|row| !row.why.contains("only in")), "{found:?}");
        let keys: Vec<_> = found.cells.iter().map(|row| row.key.as_str()).collect();
        assert!(keys.iter().any(|key| key.contains(&format!("/{bypass}/"))), "{keys:?}");
    }
    // Neither passed in one of the results: each is matched with the cell that asked for the same path.
    let neither = result(&[with_path(translated, "waived"), with_path(bypass, "waived")]);
    let found = compared(&neither, &new, OPTIONS).unwrap();
    assert!(found.cells.iter().all(|row| !row.why.contains("only in")), "{found:?}");
}

#[test]
fn a_result_without_cells_is_comparable() {
    let mut killed = result(&[]);
    killed["environment"] = json!({"emulated": false, "soft_rdma": false, "devices": []});
    let mut new = result(&[cell("write", 4096)]);
    new["environment"]["emulated"] = json!(true);
    let found = compared(&killed, &new, OPTIONS).unwrap();
    assert!(found.cells.iter().all(|row| row.verdict == Verdict::Incomparable), "{found:?}");
}
