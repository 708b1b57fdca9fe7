//! A run restores driver bindings.

use std::fs;
use std::path::Path;

use libtest_mimic::Failed;

use crate::Case;
use crate::command::{all_passed, cells, result, run, shell, start, until};
use crate::functions::{EXPORTER, NIC, NVME, driver, driver_override};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "restores_driver_after_sigkill", scenarios: &["default", "bypass"], run: after_sigkill },
        Case { name: "saves_finished_cells_on_sigint", scenarios: &["default"], run: interrupted },
        Case { name: "rejects_a_second_run_on_the_same_function", scenarios: &["default"], run: second_run },
        Case { name: "binds_and_restores_an_idle_drive", scenarios: &["default"], run: bind_and_restore },
        Case { name: "does_not_bind_a_function_in_use", scenarios: &["default"], run: in_use },
    ]
}

fn is_free(bdf: &str) -> Result<(), Failed> {
    match (driver(bdf), driver_override(bdf).as_str()) {
        (None, "" | "(null)") => Ok(()),
        found => Err(format!("expected no driver and no driver_override of {bdf}: {found:?}").into()),
    }
}

fn long_run(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "run --from {EXPORTER}:2 --to verbs:rxe0 --op write --mode completion --size 64 --size 4K --duration 600s \
         --out {folder}"
    )
}

/// Waits until the run that saves to `folder` has bound the function for its cells. Before its first result, a run opens
/// and closes every source once, so ignore earlier bindings.
fn has_bound_the_function(folder: &Path) -> Result<(), Failed> {
    until("the run has begun", || result(folder).is_ok())?;
    until("the run has bound the function", || driver(EXPORTER).as_deref() == Some("vfio-pci"))
}

fn after_sigkill() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let mut running = start(&long_run(out.path()))?;
    has_bound_the_function(out.path())?;
    running.signal("KILL")?;
    running.wait()?;
    if driver(EXPORTER).as_deref() != Some("vfio-pci") {
        return Err("the function is not bound to vfio-pci: the run was not killed while it was bound".into());
    }
    run("restore")?.expect(0)?;
    is_free(EXPORTER)?;
    run("restore")?.expect(0)?;
    let again = tempfile::tempdir()?;
    let folder = again.path().display();
    run(&format!("run --from {EXPORTER}:2 --to verbs:rxe0 --op write --size 4K --iterations 10 --out {folder}"))?
        .expect(0)?;
    all_passed(&result(again.path())?, 2)
}

fn interrupted() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    let mut running = start(&format!(
        "run --from {EXPORTER}:2 --to verbs:rxe0 --op register --op write --mode completion --size 4K --duration 6s \
         --out {folder}"
    ))?;
    until("the first cell is saved", || result(out.path()).is_ok_and(|result| !cells(&result).is_empty()))?;
    running.signal("INT")?;
    running.wait()?.expect(130)?.prints("interrupted after 1 of 2 cells: 1 passed")?;
    let result = result(out.path())?;
    if result["run"]["interrupted"] != true || cells(&result).len() != 1 {
        return Err(format!("expected one finished cell of an interrupted run: {result:#}").into());
    }
    is_free(EXPORTER)
}

fn second_run() -> Result<(), Failed> {
    let (first, second) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut running = start(&long_run(first.path()))?;
    has_bound_the_function(first.path())?;
    run(&long_run(second.path()))?.expect(3)?.prints("in-use")?;
    running.signal("TERM")?;
    running.wait()?.expect(143)?;
    is_free(EXPORTER)
}

fn bind_and_restore() -> Result<(), Failed> {
    run(&format!("bind {NVME}"))?.expect(0)?;
    if driver(NVME).as_deref() != Some("vfio-pci") {
        return Err(format!("{NVME} was not bound: {:?}", driver(NVME)).into());
    }
    run("restore")?.expect(0)?;
    if driver(NVME).as_deref() != Some("nvme") {
        return Err(format!("{NVME} was not bound to nvme again: {:?}", driver(NVME)).into());
    }
    until("the kernel's block device exists again", || Path::new("/dev/nvme0n1").exists())
}

fn in_use() -> Result<(), Failed> {
    // A NIC that is up and has an RDMA device.
    run(&format!("bind {NIC}"))?.expect(3)?.prints("in-use")?;
    // A drive with a mounted file system.
    let mount = tempfile::tempdir()?;
    shell("mkfs.ext4 -q -F /dev/nvme0n1")?;
    shell(&format!("mount /dev/nvme0n1 {}", mount.path().display()))?;
    let refused = run(&format!("bind {NVME}")).and_then(|ended| ended.expect(3)?.prints("mounted"));
    let forced = run(&format!("bind --force-in-use {NVME}")).and_then(|ended| ended.expect(3)?.prints("mounted"));
    shell(&format!("umount {}", mount.path().display()))?;
    fs::metadata("/dev/nvme0n1")?;
    refused.and(forced).map(drop)
}
