//! Transfers over each path. The result records path, steps and conditions.

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Case;
use crate::command::{all_passed, cells, exporter_tests, peerpath_linked, result, run, run_program, vfio_check};
use crate::functions::{EXPORTER, SWITCH_EXPORTER, driver, hold, named};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "transfers_through_the_vfio_group", scenarios: &["default"], run: || through_interface("group") },
        Case {
            name: "transfers_through_the_vfio_cdev",
            scenarios: &["default", "bypass"],
            run: || through_interface("cdev"),
        },
        Case { name: "bar_behind_a_switch_uses_bus_addresses", scenarios: &["default"], run: behind_a_switch },
        Case {
            name: "transfers_through_many_ranges_of_one_dma_buf",
            scenarios: &["bypass", "bus-address"],
            run: many_ranges,
        },
        Case { name: "ordinary_memory_uses_host_memory", scenarios: &["default", "bypass"], run: baselines },
        Case { name: super::NEEDS_THE_LINKED_PROGRAM, scenarios: &["default"], run: linked },
        Case { name: "times_each_step_of_a_registration", scenarios: &["default"], run: steps },
        Case { name: "vfio_behaves_as_assumed", scenarios: &["default", "bus-address"], run: vfio_answers },
        Case { name: "vfio_rejects_misuse", scenarios: &["default"], run: misuse },
        Case { name: "waives_a_requested_path_that_is_not_taken", scenarios: &["default"], run: asked },
        Case { name: "result_records_its_conditions", scenarios: &["default"], run: conditions },
        Case { name: "snapshot_records_on_demand_paging", scenarios: &["default"], run: snapshot },
    ]
}

const SMALL: &str = "--size 64 --size 4K --size 1000 --iterations 50";

fn through_interface(interface: &str) -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!(
        "run --from {EXPORTER}:2 --to verbs:rxe0 --op write --op read --op send --vfio {interface} {SMALL} --out {folder}"
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    // Three ops, three sizes, two modes.
    all_passed(&result, 18)?;
    expect_path(&result, if scenario() == "bypass" { "host-bridge-bypass" } else { "host-bridge-translated" })?;
    if driver(EXPORTER).is_some() {
        return Err("the function is still bound after the run".into());
    }
    Ok(())
}

/// Checks that the predicted and the observed path of every cell are `path`. Skips cells of `export`, which maps nothing
/// and has no path.
fn expect_path(result: &Value, path: &str) -> Result<(), Failed> {
    for cell in cells(result).iter().filter(|cell| cell["op"] != "export") {
        if cell["path"]["observed"] != path || cell["path"]["predicted"] != path {
            return Err(format!("expected {path}: {cell:#}").into());
        }
    }
    Ok(())
}

fn behind_a_switch() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!("run --from {SWITCH_EXPORTER}:2 --to verbs:rxe1 --size 4K --iterations 50 --out {folder}"))?
        .expect(0)?;
    let result = result(out.path())?;
    // Three control ops, two transfers in two modes.
    all_passed(&result, 7)?;
    expect_path(&result, "bus-address")
}

/// Errors that only misuse of the kernel's interface causes. The tests are in the exporter crate, which calls the kernel.
fn misuse() -> Result<(), Failed> {
    let _hold = hold(EXPORTER)?;
    let tests = std::process::Command::new(exporter_tests())
        .args(["--ignored", "misuse"])
        .env("PEERPATH_MISUSE", format!("{EXPORTER}:2"))
        .output()?;
    let said = String::from_utf8_lossy(&tests.stdout);
    if tests.status.success() && said.contains("1 passed") { Ok(()) } else { Err(said.into_owned().into()) }
}

/// Requests the actual path and another path. Cells with the actual path pass, the others are waived.
fn asked() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    let pair = format!("--from {SWITCH_EXPORTER}:2 --to verbs:rxe1 --op export --op register --op write --size 4K");
    run(&format!("run {pair} --path bus-address --path refused --mode completion --iterations 20 --out {folder}"))?
        .expect(0)?;
    let result = result(out.path())?;
    for cell in cells(&result) {
        let expected = if cell["path"]["asked"] == "bus-address" {
            ("passed", &Value::Null)
        } else {
            ("waived", &Value::from("path-mismatch"))
        };
        if (cell["outcome"].as_str().unwrap_or_default(), &cell["cause"]) != expected {
            return Err(format!("expected {expected:?}: {cell:#}").into());
        }
    }
    if cells(&result).len() == 6 { Ok(()) } else { Err("expected six cells".into()) }
}

fn many_ranges() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    // Out of order and with gaps, to detect a mapping that treats the ranges as one span.
    let ranges = "@0x10000+0x2000,0x1000+0x1000,0x40000+0x10000,0x7ff0000+0x10000";
    let exporter = named("exporter")?;
    run(&format!(
        "run --from {exporter}:2{ranges} --to verbs:rxe0 --op write --op read --size 4K --size 64K \
         --iterations 20 --depth 32 --out {folder}"
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    all_passed(&result, 8)?;
    expect_path(&result, if scenario() == "bypass" { "host-bridge-bypass" } else { "bus-address" })?;
    let ranges = cells(&result)[0]["source"]["ranges"].as_array().map(Vec::len);
    if ranges != Some(4) { Err(format!("expected 4 ranges in the result, found {ranges:?}").into()) } else { Ok(()) }
}

fn scenario() -> String {
    std::env::var("PEERPATH_LAB_GUEST").unwrap_or_default()
}

fn baselines() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!(
        "run --from host:1M --from udmabuf:1M --from heap:1M --to verbs:rxe0 --op register --op write --op read \
         --size 64K --iterations 20 --out {folder}"
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    all_passed(&result, 15)?;
    for cell in cells(&result) {
        if cell["path"]["observed"] != "host-memory" {
            return Err(format!("expected path host-memory: {cell:#}").into());
        }
    }
    Ok(())
}

/// A registration takes longer than its steps attach and map. Only the registration of a dma-buf has steps.
fn steps() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!(
        "run --from {EXPORTER}:2 --from host:1M --to verbs:rxe0 --op export --op attach --op map --op register \
         --op unregister --size 1M --iterations 20 --out {folder}"
    ))?
    .expect(0)?;
    let result = result(out.path())?;
    let (bar, host) = cells(&result).split_at(5);
    let shortest = |index: usize| bar[index]["latency_ns"]["min"].as_u64().unwrap_or(0);
    let (attach, map, register) = (shortest(1), shortest(2), shortest(3));
    if attach == 0 || map == 0 || register < attach + map {
        return Err(format!("attach {attach} ns and map {map} ns exceed register {register} ns").into());
    }
    let waived: Vec<bool> = host.iter().map(|cell| cell["outcome"] == "waived").collect();
    if waived == [false, true, true, false, false] { Ok(()) } else { Err(format!("{host:#?}").into()) }
}

/// Runs the exporter's example that checks every errno, interface and view of VFIO.
fn vfio_answers() -> Result<(), Failed> {
    run_program(&vfio_check(), &format!("{}:2 {}", named("exporter")?, named("nvme")?))?.expect(0).map(drop)
}

fn linked() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    let arguments = format!("run --from {EXPORTER}:2 --to verbs:rxe0 --size 4K --iterations 20 --out {folder}");
    run_program(&peerpath_linked(), &arguments)?.expect(0)?;
    all_passed(&result(out.path())?, 7)
}

fn conditions() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!("run --from {EXPORTER}:2 --to verbs:rxe0 --op write --size 4K --iterations 20 --out {folder}"))?
        .expect(0)?;
    let result = result(out.path())?;
    let environment = &result["environment"];
    // Source, target, and the root ports between them.
    let devices: Vec<_> =
        environment["devices"].as_array().into_iter().flatten().map(|device| &device["bdf"]).collect();
    let hops = result["cells"][0]["path"]["hops"].as_array().cloned().unwrap_or_default();
    let stated = [
        ("schema_version", result["schema_version"] == 2),
        ("emulated", environment["emulated"] == true),
        ("soft_rdma", environment["soft_rdma"] == true),
        ("emulator", environment["emulator"] == "QEMU"),
        ("kernel", environment["kernel"].as_str().is_some_and(|kernel| !kernel.is_empty())),
        ("clock_source", environment["clock_source"].is_string()),
        ("iommu", environment["iommu"] == "intel"),
        ("hops", hops.len() == 4 && hops[0] == EXPORTER),
        ("devices", hops.iter().all(|hop| devices.contains(&hop))),
    ];
    for (what, holds) in stated {
        if !holds {
            return Err(format!("{what} is missing or wrong in {environment:#}").into());
        }
    }
    Ok(())
}

/// Only the device's library reports on-demand paging, so facts.json must record it.
fn snapshot() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let file = out.path().join("host.tar.gz");
    run(&format!("snapshot {}", file.display()))?.expect(0)?;
    let facts = std::process::Command::new("tar").arg("-xzOf").arg(&file).arg("peerpath/facts.json").output()?;
    let facts: Value = serde_json::from_slice(&facts.stdout)?;
    if facts["on_demand_paging"]["rxe0"].is_boolean() { Ok(()) } else { Err(format!("{facts:#}").into()) }
}
