//! The exporter revokes its memory while an MR on it exists.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Failed;
use peerpath_exporter::vfio::Device;
use peerpath_exporter::{Exporter, OpenOptions, VfioExporter};
use peerpath_importers::{
    Completion, DataPlane, DataPlaneSettings, Op, QueuePairOptions, Registration, Transfer, parse_target,
};
use peerpath_paths::{Cause, Explained as _};
use serde_json::Value;

use super::signals::until_first_cell_begins;
use crate::Case;
use crate::command::{cells, result, run, start, until};
use peerpath_host::Hold;

use crate::functions::{EXPORTER, SWITCH_EXPORTER, driver, hold};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "reset_revokes_an_mr", scenarios: &["default", "bypass"], run: || on_rxe0(reset) },
        Case {
            name: "memory_disable_revokes_an_mr",
            scenarios: &["default", "bypass"],
            run: || on_rxe0(memory_disable),
        },
        Case { name: "reset_behind_a_switch_revokes_an_mr", scenarios: &["default"], run: || on_rxe1(reset) },
        Case {
            name: "registration_fails_while_memory_decoding_is_off",
            scenarios: &["default", "bypass"],
            run: memory_off,
        },
        Case { name: "transfers_in_flight_complete_on_reset", scenarios: &["default"], run: under_traffic },
        Case { name: "measures_each_kind_of_revocation", scenarios: &["default", "bypass"], run: measured },
        Case {
            name: "measures_revocation_through_the_vfio_group",
            scenarios: &["default"],
            run: measured_through_group,
        },
        Case { name: "measures_a_revocation_by_d3", scenarios: &["low-power"], run: measured_d3 },
        Case { name: "revocation_of_host_memory_is_waived", scenarios: &["default"], run: host_memory_is_waived },
        Case {
            name: "an_interrupted_revocation_leaves_the_function_usable",
            scenarios: &["default"],
            run: interrupted,
        },
    ]
}

const LENGTH_BYTES: u64 = 1 << 20;
const SETTINGS: DataPlaneSettings = DataPlaneSettings::simple(8, 64 << 10);
const SIZE_BYTES: usize = 4096;

/// Functions that revoke the memory and make it available again.
struct Revocation {
    revoke: fn(&Device) -> Result<(), peerpath_exporter::Error>,
    enable: fn(&Device) -> Result<(), peerpath_exporter::Error>,
}

fn reset() -> Revocation {
    Revocation { revoke: Device::reset, enable: |_| Ok(()) }
}

fn memory_disable() -> Revocation {
    Revocation { revoke: |device| device.set_memory_enabled(false), enable: |device| device.set_memory_enabled(true) }
}

fn on_rxe0(revocation: fn() -> Revocation) -> Result<(), Failed> {
    revoked(EXPORTER, "verbs:rxe0", &revocation())
}

fn on_rxe1(revocation: fn() -> Revocation) -> Result<(), Failed> {
    revoked(SWITCH_EXPORTER, "verbs:rxe1", &revocation())
}

struct Lab {
    exporter: VfioExporter,
    target: Arc<dyn peerpath_importers::Device>,
    // Last field, because fields are dropped in order of declaration.
    _hold: Hold,
}

fn lab(bdf: &str, target: &str) -> Result<Lab, Failed> {
    let _hold = hold(bdf)?;
    let exporter =
        VfioExporter::open(bdf.parse()?, peerpath_paths::BarIndex::try_from(2)?, &[], &OpenOptions::default())?;
    let (importer, address) = parse_target(target)?;
    Ok(Lab { exporter, target: importer.open(address, &QueuePairOptions::default())?, _hold })
}

fn transfer(op: Op) -> Transfer {
    Transfer::new(7, op, 8192, 0, SIZE_BYTES as u32)
}

/// Submits one transfer and returns its completion.
fn transfer_one(plane: &mut dyn DataPlane, op: Op) -> Result<Completion, Failed> {
    if plane.submit(&[transfer(op)])? != 1 {
        return Err("an idle data plane accepted no transfer".into());
    }
    let mut done = Vec::new();
    let mut failure = None;
    until("the transfer has completed", || {
        failure = plane.poll(&mut done).err();
        failure.is_some() || !done.is_empty()
    })?;
    match (failure, done.pop()) {
        (Some(error), _) => Err(error.into()),
        (None, Some(completion)) => Ok(completion),
        (None, None) => Err("no completion".into()),
    }
}

fn works(registration: &dyn Registration, op: Op) -> Result<(), Failed> {
    let mut plane = registration.data_plane(&SETTINGS)?;
    transfer_one(&mut *plane, op)?.result?;
    Ok(())
}

fn revoked(bdf: &str, target: &str, revocation: &Revocation) -> Result<(), Failed> {
    let Lab { _hold, exporter, target } = lab(bdf, target)?;
    let buffer = exporter.export(LENGTH_BYTES)?;
    for op in [Op::Write, Op::WriteImm, Op::Read, Op::Send] {
        let registration = Arc::clone(&target).register(Arc::clone(&buffer))?;
        works(&*registration, op)?;
        let mut plane = registration.data_plane(&SETTINGS)?;
        plane.far().write(0, &[0xaa; SETTINGS.far_bytes as usize])?;
        buffer.view().write(0, &[0x55; LENGTH_BYTES as usize])?;

        (revocation.revoke)(exporter.device())?;
        let ended = transfer_one(&mut *plane, op)?;
        (revocation.enable)(exporter.device())?;

        match ended.result.map_err(|error| error.explanation.cause) {
            Err(Some(Cause::Revoked)) => {}
            other => return Err(format!("{op} through a revoked registration: {other:?}").into()),
        }
        let mut bar = vec![0; LENGTH_BYTES as usize];
        buffer.view().read(0, &mut bar)?;
        let mut far = vec![0; SETTINGS.far_bytes as usize];
        plane.far().read(0, &mut far)?;
        if bar.iter().any(|byte| *byte != 0x55) || far.iter().any(|byte| *byte != 0xaa) {
            return Err(format!("{op} through a revoked registration transferred bytes").into());
        }
        drop(plane);
        registration.unregister()?;
    }
    // The same dma-buf can be registered again.
    let again = Arc::clone(&target).register(buffer)?;
    works(&*again, Op::Write)?;
    works(&*again, Op::Read)
}

/// With memory decoding disabled, an export succeeds, but its registration fails until decoding is enabled again.
fn memory_off() -> Result<(), Failed> {
    let Lab { _hold, exporter, target } = lab(EXPORTER, "verbs:rxe0")?;
    exporter.device().set_memory_enabled(false)?;
    let buffer = exporter.export(LENGTH_BYTES)?;
    let refused = Arc::clone(&target).register(Arc::clone(&buffer));
    exporter.device().set_memory_enabled(true)?;
    match refused.map(drop).map_err(|error| error.explanation().cause) {
        Err(Some(Cause::Revoked | Cause::MemoryDecodeOff)) => {}
        other => return Err(format!("{other:?} with memory decoding off").into()),
    }
    works(&*target.register(buffer)?, Op::Write)
}

/// Resets the exporter repeatedly while transfers are in flight. Each transfer completes, and none succeeds after the
/// reset.
fn under_traffic() -> Result<(), Failed> {
    let Lab { _hold, exporter, target } = lab(EXPORTER, "verbs:rxe0")?;
    for _ in 0..10 {
        let buffer = exporter.export(LENGTH_BYTES)?;
        let registration = Arc::clone(&target).register(Arc::clone(&buffer))?;
        let mut plane = registration.data_plane(&SETTINGS)?;
        let batch: Vec<Transfer> = (0..8).map(|id| Transfer { id, ..transfer(Op::Write) }).collect();
        let taken = plane.submit(&batch)?;
        exporter.device().reset()?;
        let mut done = Vec::new();
        let mut failure = None;
        until("every transfer has completed", || {
            failure = plane.poll(&mut done).err();
            failure.is_some() || done.len() == taken
        })?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        // If all transfers completed before the reset, the queue pairs still work, and the next transfer must fail.
        if done.iter().all(|completion| completion.result.is_ok())
            && transfer_one(&mut *plane, Op::Write)?.result.is_ok()
        {
            return Err("a transfer after the reset succeeded".into());
        }
        // New queue pairs do not make the revoked registration usable.
        drop(plane);
        buffer.view().write(0, &[0x55; LENGTH_BYTES as usize])?;
        if works(&*registration, Op::Write).is_ok() {
            return Err("a transfer through a revoked registration succeeded".into());
        }
        let mut bar = vec![0; LENGTH_BYTES as usize];
        buffer.view().read(0, &mut bar)?;
        if bar.iter().any(|byte| *byte != 0x55) {
            return Err("a revoked registration transferred bytes".into());
        }
    }
    Ok(())
}

/// Operations per kind of revocation.
const OPERATIONS: u64 = 5;

/// Power state and command register of a function, which a measurement must leave unchanged.
fn state(bdf: &str) -> Result<(String, Vec<u8>, Option<String>), Failed> {
    let folder = format!("/sys/bus/pci/devices/{bdf}");
    let command = fs::read(format!("{folder}/config"))?.get(4..6).map(<[u8]>::to_vec).unwrap_or_default();
    Ok((fs::read_to_string(format!("{folder}/power_state"))?, command, driver(bdf)))
}

/// Runs `run` with these arguments, and checks the state of the function afterwards. Returns the result.
fn measured_run(arguments: &str) -> Result<Value, Failed> {
    let plain = || {
        let out = tempfile::tempdir()?;
        let folder = out.path().display();
        run(&format!(
            "run --from {EXPORTER}:2 --to verbs:rxe0 --op write,read --size 4K --iterations 20 --out {folder}"
        ))?
        .expect(0)
        .map(drop)
    };
    // The first use of the function enables it, which changes its command register.
    plain()?;
    let before = state(EXPORTER)?;
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!("run --to verbs:rxe0 --repeat 1 --iterations {OPERATIONS} --size 4K {arguments} --out {folder}"))?
        .expect(0)?;
    let after = state(EXPORTER)?;
    if before != after || before.0.trim() != "D0" {
        return Err(format!("the function changed from {before:?} to {after:?}").into());
    }
    plain()?;
    result(out.path())
}

/// Checks a cell that revoked the memory.
fn is_measured(cell: &Value) -> Result<(), Failed> {
    let revocation = &cell["revocation"];
    let refused = serde_json::json!({ "REM_ACCESS_ERR": OPERATIONS });
    let ns = |value: &Value| value.as_u64().unwrap_or(0);
    let holds = [
        cell["outcome"] == "passed",
        cell["iterations"] == OPERATIONS,
        cell["verified_bytes"] == OPERATIONS * 2 * 4096,
        revocation["stale_bytes"] == 0,
        revocation["resumed_operations"] == 0,
        revocation["write_statuses"] == refused,
        revocation["read_statuses"] == refused,
        ns(&cell["latency_ns"]["min"]) > 0,
        ns(&revocation["call_ns"]["min"]) > 0,
        ns(&revocation["usable_again_ns"]["min"]) > ns(&revocation["call_ns"]["min"]),
        ns(&revocation["last_access_ns"]["max"]) <= ns(&cell["latency_ns"]["max"]),
    ];
    if holds.iter().all(|holds| *holds) { Ok(()) } else { Err(format!("{holds:?}: {cell:#}").into()) }
}

fn measured() -> Result<(), Failed> {
    let result = measured_run(&format!(
        "--from {EXPORTER}:2 --op revoke_reset,revoke_memory_off,revoke_d3,revoke_hot_reset,revoke_close"
    ))?;
    for cell in cells(&result) {
        // ivshmem has no power management.
        if cell["op"] != "revoke_d3" {
            is_measured(cell)?;
        } else if cell["outcome"] != "waived" || !cell["reason"].to_string().contains("power management") {
            return Err(format!("{cell:#}").into());
        }
    }
    if cells(&result).len() == 5 { Ok(()) } else { Err("expected five cells".into()) }
}

fn measured_through_group() -> Result<(), Failed> {
    let result = measured_run(&format!("--from {EXPORTER}:2 --vfio group --op revoke_hot_reset,revoke_close"))?;
    cells(&result).iter().try_for_each(is_measured)
}

/// The exporter is an NVMe drive with FLR and power management. QEMU does not report an active link after a reset of its bus, so
/// Linux fails the hot reset.
fn measured_d3() -> Result<(), Failed> {
    run(&format!("bind {EXPORTER}"))?.expect(0)?;
    let result =
        measured_run(&format!("--from {EXPORTER}:2 --op revoke_d3,revoke_reset,revoke_memory_off,revoke_close"));
    run("restore")?.expect(0)?;
    let result = result?;
    cells(&result).iter().try_for_each(is_measured)?;
    if cells(&result).len() == 4 { Ok(()) } else { Err("expected four cells".into()) }
}

fn host_memory_is_waived() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    let ended = run(&format!(
        "run --from host:1M --from udmabuf:1M --to verbs:rxe0 --op revoke_reset,revoke_close --size 4K --out {folder}"
    ))?;
    ended.expect(3)?;
    let result = result(out.path())?;
    for cell in cells(&result) {
        if cell["outcome"] != "waived" || !cell["reason"].to_string().contains("Nothing revokes host memory") {
            return Err(format!("{cell:#}").into());
        }
    }
    Ok(())
}

fn interrupted() -> Result<(), Failed> {
    measured_run(&format!("--from {EXPORTER}:2 --op revoke_memory_off"))?;
    let before = state(EXPORTER)?;
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    let mut running = start(&format!(
        "run --from {EXPORTER}:2 --to verbs:rxe0 --op revoke_memory_off --size 4K --iterations 100k --repeat 1 --out {folder}"
    ))?;
    until_first_cell_begins(out.path())?;
    // The first operations take less than a second each.
    std::thread::sleep(Duration::from_secs(2));
    running.signal("INT")?;
    running.wait()?.expect(130)?;
    let after = state(EXPORTER)?;
    if before != after {
        return Err(format!("the function changed from {before:?} to {after:?}").into());
    }
    measured_run(&format!("--from {EXPORTER}:2 --op revoke_memory_off")).map(drop)
}
