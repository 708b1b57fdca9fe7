//! Path `staged`: the CPU copies between the BAR and host memory.

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Case;
use crate::command::{cells, result, run};
use crate::functions::EXPORTER;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "staged_copies_reach_the_bar", scenarios: &["default"], run: both_directions },
        Case { name: "staged_copies_need_no_dma_mapping_of_the_bar", scenarios: &["default"], run: over_ranges },
    ]
}

fn staged(cell: &Value) -> bool {
    ["asked", "predicted", "observed"].iter().all(|name| cell["path"][name] == "staged")
        && cell["mechanism"] == "reg-mr"
        && (cell["direction"].is_null() || (cell["engine"] == "cpu" && cell["verified_bytes"].as_u64() > Some(0)))
        && cell["source"]["bdf"] == EXPORTER
}

fn both_directions() -> Result<(), Failed> {
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
    // Three transfers in two modes, at two sizes. Another path has the control operations.
    let copied = of("vfio", "staged");
    if copied.len() != 12 {
        return Err(format!("expected 12 staged cells, found {}", copied.len()).into());
    }
    for cell in copied {
        if cell["outcome"] != "passed" || !staged(cell) {
            return Err(format!("expected a passed staged cell: {cell:#}").into());
        }
    }
    let direct = of("vfio", "host-bridge-translated");
    let is_direct = |cell: &&&Value| cell["op"] == "write" && cell["path"]["observed"] == "host-bridge-translated";
    if direct.iter().filter(is_direct).count() != 4 {
        return Err(format!("expected four cells of the direct path: {result:#}").into());
    }
    let memory = of("host", "staged");
    if memory.len() != 12 || memory.iter().any(|cell| cell["outcome"] != "waived") {
        return Err("expected 12 waived cells for host memory, which cannot be staged".into());
    }
    control_operations()
}

/// Staging registers host memory, and does not export, attach or map the BAR.
fn control_operations() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    run(&format!(
        "run --from {EXPORTER}:2 --to verbs:rxe0 --path staged --op export --op attach --op map --op register \
         --op unregister --size 64K --iterations 20 --out {}",
        out.path().display()
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    for cell in cells(&result) {
        let applies = !["export", "attach", "map"].iter().any(|op| cell["op"] == *op);
        let expected = if applies { "passed" } else { "waived" };
        if cell["outcome"] != expected || (applies && !staged(cell)) {
            return Err(format!("expected {expected}: {cell:#}").into());
        }
    }
    if cells(&result).len() == 5 { Ok(()) } else { Err(format!("expected five cells: {result:#}").into()) }
}

/// The kernel refuses to map these ranges; the CPU copy needs no mapping.
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
            return Err(format!("expected a staged copy over 8 ranges: {cell:#}").into());
        }
    }
    if cells(&result).len() == 4 { Ok(()) } else { Err("expected four cells".into()) }
}
