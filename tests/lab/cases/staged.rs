//! The BAR copied through host memory by the CPU.

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Case;
use crate::command::{cells, result, run};
use crate::functions::EXPORTER;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "a_staged_copy_reaches_the_bar", scenarios: &["default"], run: both_ways },
        Case { name: "a_staged_copy_needs_no_mapping_of_the_bar", scenarios: &["default"], run: over_ranges },
    ]
}

fn staged(cell: &Value) -> bool {
    ["asked", "predicted", "observed"].iter().all(|name| cell["path"][name] == "staged")
        && cell["mechanism"] == "reg-mr"
        && (cell["direction"].is_null() || (cell["engine"] == "cpu" && cell["verified_bytes"].as_u64() > Some(0)))
        && cell["source"]["bdf"] == EXPORTER
}

fn both_ways() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!(
        "run --from {EXPORTER}:2 --from host:1M --to verbs:rxe0 --path translated --path staged --op export --op attach \
         --op map --op register --op unregister --op write --op read --op send --size 1000 --size 64K --iterations 20 \
         --out {folder}"
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    let of = |kind: &str, asked: &str| -> Vec<&Value> {
        let wanted = |cell: &&Value| cell["source"]["kind"] == kind && cell["path"]["asked"] == asked;
        cells(&result).iter().filter(wanted).collect()
    };
    // Five control ops and three transfers in two modes, at two sizes.
    let copied = of("vfio", "staged");
    if copied.len() != 22 {
        return Err(format!("22 staged cells expected, {} found", copied.len()).into());
    }
    for cell in copied {
        // The BAR is neither attached nor mapped, and nobody needs a dma-buf of it.
        let has_it = !["export", "attach", "map"].iter().any(|op| cell["op"] == *op);
        let expected = if has_it { "passed" } else { "waived" };
        if cell["outcome"] != expected || (has_it && !staged(cell)) {
            return Err(format!("{expected} was expected: {cell:#}").into());
        }
    }
    let direct = of("vfio", "host-bridge-translated");
    let took = |cell: &&&Value| cell["op"] == "write" && cell["path"]["observed"] == "host-bridge-translated";
    if direct.iter().filter(took).count() != 4 {
        return Err(format!("the direct path should stand beside it: {result:#}").into());
    }
    let memory = of("host", "staged");
    if memory.len() == 22 && memory.iter().all(|cell| cell["outcome"] == "waived") {
        return Ok(());
    }
    Err("ordinary memory has nothing to be staged".into())
}

/// The kernel refuses to map these ranges here; the CPU does not ask it.
fn over_ranges() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!(
        "run --from {EXPORTER}:2 --to verbs:rxe0 --path staged --ranges 8 --op write --op read --size 64K --iterations 20 \
         --out {folder}"
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    for cell in cells(&result) {
        let ranges = cell["source"]["ranges"].as_array().map_or(0, Vec::len);
        if cell["outcome"] != "passed" || !staged(cell) || ranges != 8 {
            return Err(format!("a staged copy over 8 ranges was expected: {cell:#}").into());
        }
    }
    if cells(&result).len() == 4 { Ok(()) } else { Err("four cells expected".into()) }
}
