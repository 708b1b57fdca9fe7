//! Many ranges in one buffer: their cost, the kernel defect that makes mapping them fail, and the workaround
//! with one MR per range.

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Case;
use crate::command::{all_passed, cells, result, run};
use crate::functions::{EXPORTER, SWITCH_EXPORTER};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "kernel_defect_refuses_two_ranges", scenarios: &["default"], run: defect },
        Case { name: "one_mr_per_range_works_without_the_kernel_fix", scenarios: &["default"], run: per_range },
        Case { name: "sweeps_the_number_of_ranges", scenarios: &["bypass"], run: by_number },
        Case { name: "fixed_kernel_maps_many_ranges", scenarios: &["multirange"], run: corrected },
        Case {
            name: "times_the_parts_of_map_and_the_release",
            scenarios: &["default", "multirange"],
            run: parts_and_release,
        },
        Case { name: "waives_the_parts_of_map_without_an_iova", scenarios: &["bypass"], run: without_iova },
        Case { name: "reports_ranges_that_do_not_fit", scenarios: &["bypass"], run: misfits },
    ]
}

/// Runs the exporter's BAR against `rxe0` and returns the result.
fn ran(arguments: &str, code: i32) -> Result<Value, Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!("run --from {EXPORTER}:2 --to verbs:rxe0 {arguments} --out {folder}"))?.expect(code)?;
    result(out.path())
}

fn ranges(cell: &Value) -> usize {
    cell["source"]["ranges"].as_array().map_or(0, Vec::len)
}

/// Fails unless the cell has all expected values.
fn holds(cell: &Value, expected: &[(&str, Value)]) -> Result<(), Failed> {
    for (pointer, value) in expected {
        if cell.pointer(pointer) != Some(value) {
            return Err(format!("expected {value} at {pointer}: {cell:#}").into());
        }
    }
    Ok(())
}

fn defect() -> Result<(), Failed> {
    let refused = [
        ("/path/predicted", "refused".into()),
        ("/path/observed", "refused".into()),
        ("/cause", "multi-range-defect".into()),
    ];
    let asked = "--ranges 2 --op register --op write --mode completion --size 64K --iterations 5";
    for (path, code, outcome) in [("", 3, "waived"), ("--path refused", 0, "passed")] {
        let result = ran(&format!("{asked} {path}"), code)?;
        if cells(&result).len() != 2 {
            return Err(format!("expected two cells: {result:#}").into());
        }
        for cell in cells(&result) {
            holds(cell, &refused)?;
            holds(cell, &[("/outcome", outcome.into())])?;
            if ranges(cell) != 2 {
                return Err(format!("expected two ranges: {cell:#}").into());
            }
        }
    }
    // The same kernel maps one range, and exports any number of ranges.
    all_passed(&ran("--ranges 1 --op register --size 64K --iterations 5", 0)?, 1)?;
    all_passed(&ran("--ranges 512 --op export --size 64M --iterations 5", 0)?, 1)
}

fn per_range() -> Result<(), Failed> {
    let result = ran(
        "--ranges 8 --mechanism mr-per-range --op register --op unregister --op write --op read --op send --size 64K \
         --iterations 40",
        0,
    )?;
    // Two control ops, and three transfers in two modes.
    all_passed(&result, 8)?;
    for cell in cells(&result) {
        holds(
            cell,
            &[
                ("/mechanism", "mr-per-range".into()),
                ("/path/predicted", "host-bridge-translated".into()),
                ("/path/observed", "host-bridge-translated".into()),
            ],
        )?;
        // Expect at least one verified operation in every range, in each of the three rounds with fresh data.
        let verified = cell["direction"].is_null() || cell["verified_bytes"].as_u64() >= Some(3 * 8 * 65_536);
        if ranges(cell) != 8 || !verified {
            return Err(format!("expected all 8 ranges, verified: {cell:#}").into());
        }
    }
    Ok(())
}

fn by_number() -> Result<(), Failed> {
    let result = ran(
        "--ranges 1 --ranges 2 --ranges 8 --op register --op write --op read --size 32K --depth 4 --iterations 20",
        0,
    )?;
    // For each of three numbers of ranges: one registration, and two transfers in two modes.
    all_passed(&result, 15)?;
    for cell in cells(&result) {
        let number = match cell["id"].as_str().unwrap_or_default() {
            id if id.ends_with("/2-ranges") => 2,
            id if id.ends_with("/8-ranges") => 8,
            _ => 1,
        };
        holds(
            cell,
            &[
                ("/path/predicted", "host-bridge-bypass".into()),
                ("/path/observed", "host-bridge-bypass".into()),
                ("/mechanism", "uverbs-ioctl".into()),
            ],
        )?;
        if ranges(cell) != number {
            return Err(format!("expected {number} ranges: {cell:#}").into());
        }
    }
    let count = |number| cells(&result).iter().filter(|cell| ranges(cell) == number).count();
    if [count(1), count(2), count(8)] == [5; 3] {
        Ok(())
    } else {
        Err("expected five cells for each number of ranges".into())
    }
}

fn corrected() -> Result<(), Failed> {
    let numbers = "--ranges 1 --ranges 2 --ranges 8 --ranges 64 --ranges 512";
    let result = ran(&format!("{numbers} --op register --size 64K --size 4M --iterations 3 --warmup 0"), 0)?;
    // 64 KiB hold at most 16 ranges of 4 KiB, so cells with more ranges are skipped.
    all_passed(&result, 8)?;
    let moved = ran("--ranges 512 --op write --op read --mode completion --size 2M --iterations 1 --warmup 0", 0)?;
    all_passed(&moved, 2)?;
    for cell in cells(&result).iter().chain(cells(&moved)) {
        holds(
            cell,
            &[
                ("/path/predicted", "host-bridge-translated".into()),
                ("/path/observed", "host-bridge-translated".into()),
            ],
        )?;
    }
    let most = cells(&moved).iter().map(ranges).max();
    if most == Some(512) { Ok(()) } else { Err(format!("expected 512 ranges, found {most:?}").into()) }
}

/// The time of a cell's fastest registration, in nanoseconds. Fails unless the cell passed on a translated path and timed
/// `registrations`.
fn fastest_ns(cell: &Value, registrations: u64) -> Result<u64, Failed> {
    holds(
        cell,
        &[
            ("/outcome", "passed".into()),
            ("/path/observed", "host-bridge-translated".into()),
            ("/iterations", registrations.into()),
        ],
    )?;
    cell["latency_ns"]["min"].as_u64().filter(|min| *min > 0).ok_or_else(|| format!("no time: {cell:#}").into())
}

fn parts_and_release() -> Result<(), Failed> {
    let is_fixed = std::env::var("PEERPATH_LAB_GUEST").is_ok_and(|scenario| scenario == "multirange");
    // The kernel of the scenario `default` cannot map several ranges on a translated path.
    let ranges: &[usize] = if is_fixed { &[1, 8, 512] } else { &[1] };
    let numbers: String = ranges.iter().map(|count| format!(" --ranges {count}")).collect();
    let ops = ["attach", "map", "allocate", "link", "sync", "unmap", "detach"];
    let result = ran(&format!("{numbers} --op {} --size 2M --iterations 12", ops.join(",")), 0)?;
    all_passed(&result, ops.len() * ranges.len())?;
    let time_of = |op: &str, count: usize| {
        let cell = cells(&result).iter().find(|cell| cell["op"] == op && self::ranges(cell) == count);
        fastest_ns(cell.ok_or(format!("no cell of {op} with {count} ranges"))?, 12)
    };
    for &count in ranges {
        for op in ops {
            time_of(op, count)?;
        }
    }
    let [few, many] = [ranges[0], ranges[ranges.len() - 1]];
    if is_fixed && time_of("link", many)? < 10 * time_of("link", few)? {
        return Err(format!("link of {many} ranges is not the sum of its calls: {result:#}").into());
    }
    Ok(())
}

fn without_iova() -> Result<(), Failed> {
    for (from, to, path, why) in [
        (EXPORTER, "rxe0", "host-bridge-bypass", "without translation"),
        (SWITCH_EXPORTER, "rxe1", "bus-address", "bus addresses"),
    ] {
        let out = tempfile::tempdir()?;
        let folder = out.path().display();
        run(&format!(
            "run --from {from}:2 --to verbs:{to} --op map,allocate,link,sync,unmap,detach --size 64K \
             --iterations 5 --out {folder}"
        ))?
        .expect(0)?;
        for cell in cells(&result(out.path())?) {
            let is_part = ["allocate", "link", "sync"].iter().any(|op| cell["op"] == *op);
            let outcome = if is_part { "waived" } else { "passed" };
            holds(cell, &[("/outcome", outcome.into()), ("/path/observed", path.into())])?;
            if is_part && !cell["reason"].as_str().is_some_and(|reason| reason.contains(why)) {
                return Err(format!("expected a reason that contains {why:?}: {cell:#}").into());
            }
        }
    }
    Ok(())
}

fn misfits() -> Result<(), Failed> {
    for (arguments, code, why) in [
        // The layout with gaps exceeds the 128 MiB of the BAR.
        ("--ranges 2 --op register --size 128M", 3, "gaps"),
        ("--ranges 3 --op register --size 64K", 3, "whole pages"),
        ("--ranges 8 --mechanism mr-per-range --op write --size 64M", 3, "gaps"),
        ("--ranges 0", 2, "cannot use --ranges 0"),
        ("--from host:1M --ranges 2 --op register --size 64K", 0, "can be split"),
    ] {
        let out = tempfile::tempdir()?;
        let folder = out.path().display();
        run(&format!("run --from {EXPORTER}:2 --to verbs:rxe0 {arguments} --iterations 3 --out {folder}"))?
            .expect(code)?
            .prints(why)?;
    }
    let ranges = format!("--from {EXPORTER}:2@0x0+0x1000,0x4000+0x2000 --to verbs:rxe0");
    run(&format!("run {ranges} --ranges 2"))?.expect(2)?.prints("names its ranges itself")?;
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!(
        "run {ranges} --mechanism mr-per-range --op write --mode completion --size 8K --size 12K --iterations 3 --out {folder}"
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    holds(&cells(&result)[0], &[("/outcome", "passed".into())])?;
    holds(&cells(&result)[1], &[("/outcome", "waived".into())])?;
    if cells(&result)[1]["reason"].as_str().is_some_and(|reason| reason.contains("any of its ranges")) {
        return Ok(());
    }
    Err(format!("expected a reason that 12 KiB do not fit into a range: {result:#}").into())
}
