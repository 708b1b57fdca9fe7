//! A function is removed from the host (hot-unplug) while peerpath holds it through VFIO. The kernel's removal returns, the
//! result has the cause, and the function can be used again after a rescan.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;

use super::peer;
use crate::Case;
use crate::command::{Running, all_passed, cells, result, run, run_command, start, start_command, until};
use crate::functions::{EXPORTER, NVME, driver, named};

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, scenarios: &["default"], run };
    vec![
        case("removal_of_the_exporter_ends_its_cells", exporter),
        case("removal_ends_an_export_and_its_clients_cells", export),
        case("removal_of_a_drive_or_of_its_source_ends_their_cells", drive),
        case("removal_of_a_bound_function_does_not_need_peerpath", bound),
        Case { name: "removal_on_the_server_fails_the_cells_of_the_client", scenarios: &["two-hosts"], run: server },
    ]
}

fn exists(bdf: &str) -> bool {
    Path::new("/sys/bus/pci/devices").join(bdf).exists()
}

/// Removes a function, and waits until the kernel has removed it.
fn remove(bdf: &str) -> Result<(), Failed> {
    let mut removing = start_remove(bdf)?;
    until("the function is removed", || removing.has_ended())?;
    removing.wait()?.expect(0)?;
    if exists(bdf) { Err(format!("{bdf} still exists").into()) } else { Ok(()) }
}

fn start_remove(bdf: &str) -> Result<Running, Failed> {
    start_command(Command::new("sh").args(["-c", &format!("echo 1 > /sys/bus/pci/devices/{bdf}/remove")]))
}

/// Rescans the bus until the function exists again. `restore` must succeed. It skips the function while a server, which outlives
/// the removal, still releases it.
fn rescan(bdf: &str) -> Result<(), Failed> {
    fs::write("/sys/bus/pci/rescan", "1")?;
    until("the function exists again", || exists(bdf))?;
    until("no running peerpath uses the function", || {
        run("restore").is_ok_and(|ended| !ended.stdout.contains("a running peerpath"))
    })?;
    run("restore")?.expect(0)?;
    Ok(())
}

/// Waits until a run in `folder` has saved its first cell, so that its next cell is running.
fn until_first_cell(folder: &Path, running: &mut Running) -> Result<(), Failed> {
    until("the first cell is saved", || {
        running.has_ended() || result(folder).is_ok_and(|result| !cells(&result).is_empty())
    })
}

/// Fails unless the cells that `uses` selects passed up to the removal and have its cause afterwards, and all others passed.
fn judge(result: &Value, uses: impl Fn(&Value) -> bool) -> Result<(), Failed> {
    let (concerned, others): (Vec<_>, Vec<_>) = cells(result).iter().partition(|cell| uses(cell));
    let passed = concerned.iter().take_while(|cell| cell["outcome"] == "passed").count();
    let rest = &concerned[passed..];
    let is_removed = |cell: &&&Value| cell["outcome"] == "failed" && cell["cause"] == "removed";
    if passed == 0 || rest.is_empty() || rest.iter().filter(is_removed).count() != rest.len() {
        return Err(format!("expected passed cells and then cells with the cause removed: {result:#}").into());
    }
    if others.iter().any(|cell| cell["outcome"] != "passed") {
        return Err(format!("expected passed cells of other functions: {result:#}").into());
    }
    Ok(())
}

fn short_run(arguments: &str) -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!("run {arguments} --size 4K --mode completion --iterations 10 --out {folder}"))?.expect(0)?;
    all_passed(&result(out.path())?, 1)
}

fn exporter() -> Result<(), Failed> {
    for variant in [
        "--vfio cdev --op register --op write --mode completion",
        "--vfio group --op write --mode pingpong",
        "--vfio cdev --op write --mode bandwidth --bidirectional",
        "--vfio cdev --op read --mode completion --path staged",
    ] {
        let out = tempfile::tempdir()?;
        let folder = out.path().display();
        let from = if variant.contains("staged") { String::new() } else { "--from host:1M".to_owned() };
        let mut running = start(&format!(
            "run --from {EXPORTER}:2 {from} --to verbs:rxe0 {variant} --size 4K --size 16K --size 64K --duration 4s \
 --out {folder}"
        ))?;
        until_first_cell(out.path(), &mut running)?;
        remove(EXPORTER)?;
        running.wait()?.expect(1)?.prints("removed")?;
        judge(&result(out.path())?, |cell| cell["source"]["bdf"] == EXPORTER)?;
        rescan(EXPORTER)?;
        short_run(&format!("--from {EXPORTER}:2 --to verbs:rxe0 --op write"))?;
        if let Some(driver) = driver(EXPORTER) {
            return Err(format!("the function was not restored, its driver is {driver}").into());
        }
    }
    Ok(())
}

fn export() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    let socket = out.path().join("bar.sock");
    let exporting = start(&format!("export {EXPORTER}:2 --range 0x0+0x100000 --socket {}", socket.display()))?;
    until("the exporter listens", || socket.exists())?;
    let mut client = start(&format!(
        "run --from socket:{} --to verbs:rxe0 --op write --mode completion --size 4K --size 16K --size 64K --duration 4s \
 --out {folder}",
        socket.display()
    ))?;
    until_first_cell(out.path(), &mut client)?;
    remove(EXPORTER)?;
    exporting.wait()?.expect(1)?.prints("hot-unplug")?;
    client.wait()?.expect(1)?.prints("removed")?;
    judge(&result(out.path())?, |_| true)?;
    if socket.exists() {
        return Err("the exporter did not remove its socket".into());
    }
    rescan(EXPORTER)?;
    short_run(&format!("--from {EXPORTER}:2 --to verbs:rxe0 --op write"))
}

fn drive() -> Result<(), Failed> {
    for removed in [NVME, EXPORTER] {
        run(&format!("bind {NVME}"))?.expect(0)?;
        let out = tempfile::tempdir()?;
        let folder = out.path().display();
        let mut running = start(&format!(
            "run --from {EXPORTER}:2 --to iommufd:{NVME} --op read --mode completion --mode bandwidth --size 4K --size 64K \
             --duration 4s --out {folder}"
        ))?;
        until_first_cell(out.path(), &mut running)?;
        remove(removed)?;
        running.wait()?.expect(1)?.prints("removed")?;
        judge(&result(out.path())?, |_| true)?;
        rescan(removed)?;
        until("the drive is bound to the kernel's driver", || driver(NVME).as_deref() == Some("nvme"))?;
        run(&format!("bind {NVME}"))?.expect(0)?;
        short_run(&format!("--from {EXPORTER}:2 --to iommufd:{NVME} --op read"))?;
        run("restore")?.expect(0)?;
        until("the kernel's block device exists again", || Path::new("/dev/nvme0n1").exists())?;
    }
    Ok(())
}

fn bound() -> Result<(), Failed> {
    run(&format!("bind {NVME}"))?.expect(0)?;
    remove(NVME)?;
    rescan(NVME)?;
    until("the drive is bound to the kernel's driver", || driver(NVME).as_deref() == Some("nvme"))?;
    until("the kernel's block device exists again", || Path::new("/dev/nvme0n1").exists())
}

fn server() -> Result<(), Failed> {
    let exporter = named("exporter")?;
    let mut server = peer::start_server()?;
    for variant in [
        "--op write --mode completion",
        "--op send --mode pingpong",
        "--op write --mode pingpong",
        "--op send --mode bandwidth --bidirectional",
    ] {
        let out = tempfile::tempdir()?;
        let arguments = format!("{variant} --size 4K --size 16K --size 64K --duration 4s");
        let mut client = start_command(&mut peer::client(&arguments, out.path()))?;
        until_first_cell(out.path(), &mut client)?;
        remove(&exporter)?;
        client.wait()?.expect(1)?.prints("removed")?;
        judge(&result(out.path())?, |cell| cell["source"]["bdf"] == exporter.as_str())?;
        rescan(&exporter)?;
        // The same server serves the function again.
        let again = tempfile::tempdir()?;
        run_command(&mut peer::client("--op write --size 4K --mode completion --iterations 20", again.path()))?
            .expect(0)?;
        all_passed(&result(again.path())?, 2)?;
    }
    server.signal("TERM")?;
    server.wait()?.expect(143)?;
    Ok(())
}
