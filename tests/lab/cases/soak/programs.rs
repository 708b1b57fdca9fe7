//! Runs of the program, one after the other: undisturbed, with revoked memory, killed, with a killed exporter, and with a peer.

use std::path::Path;
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::Value;

use super::ledger::Ledger;
use super::peers;
use super::revoker::Revoker;
use crate::chance::Chance;
use crate::command::{Ended, cells, result, run, start, until};
use crate::functions::{EXPORTER, SWITCH_EXPORTER, driver};

/// Maximum time before a run is killed: long enough to reach its cells.
pub(super) const MAX_LIFE: Duration = Duration::from_secs(8);
pub(super) const REVOKED: [&str; 2] = ["revoked", "memory-decode-off"];

pub(super) fn run_all(
    socket: &Path,
    revoker: &Revoker,
    ledger: &Ledger,
    mut chance: Chance,
    is_over: &dyn Fn() -> bool,
) -> Result<(), Failed> {
    while !is_over() {
        match chance.below(8) {
            0 => shared(socket, revoker, ledger, &mut chance)?,
            1 => memory(ledger, &mut chance)?,
            2 => killed(ledger, &mut chance)?,
            3 => orphaned(ledger, &mut chance)?,
            _ => peers::run(socket, revoker, ledger, &mut chance)?,
        }
    }
    Ok(())
}

/// Returns options for randomly chosen cells.
fn cells_of(ops: &[&str], chance: &mut Chance) -> String {
    let mut text = String::new();
    for op in ops {
        if chance.below(2) == 0 {
            text += &format!(" --op {op}");
        }
    }
    if text.is_empty() {
        text += " --op write --op read";
    }
    // An export and its registration need at least a page.
    let sizes: &[_] =
        if text.contains("register") { &["4K", "64K", "256K"] } else { &["64", "1000", "4K", "64K", "256K"] };
    let size = chance.of(sizes);
    let depth = chance.of(&[1, 4, 16]);
    format!("{text} --size {size} --depth {depth}")
}

/// Returns options for randomly chosen transfers between two hosts.
pub(super) fn transfers(chance: &mut Chance) -> String {
    cells_of(&["write", "write_imm", "read", "send"], chance)
}

/// Returns options for a random run on one host that lasts until it is killed.
fn endless(chance: &mut Chance) -> String {
    format!("{} --duration 600s", cells_of(&["register", "write", "write_imm", "read", "send"], chance))
}

fn short(chance: &mut Chance) -> String {
    endless(chance).replace("--duration 600s", "--iterations 200 --duration 1s")
}

/// Returns a random signal and the exit codes that it may cause. `None`: the signal kills the program before it handles
/// signals.
pub(super) fn signalled(chance: &mut Chance) -> (&'static str, &'static [Option<i32>]) {
    chance.of::<(&str, &[_])>(&[("KILL", &[None]), ("TERM", &[None, Some(143)])])
}

/// Runs on memory that this process exports and revokes.
fn shared(socket: &Path, revoker: &Revoker, ledger: &Ledger, chance: &mut Chance) -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let begun = revoker.moment();
    let ended = run(&format!(
        "run --from socket:{} --to verbs:rxe0 {} --out {}",
        socket.display(),
        short(chance),
        out.path().display()
    ))?;
    let excuse = |cell: &Value| REVOKED.iter().any(|cause| cell["cause"] == *cause);
    let excuse: &dyn Fn(&Value) -> bool = if revoker.has_revoked_since(begun) { &excuse } else { &|_| false };
    account("run", ledger, &ended, out.path(), excuse)
}

/// Runs on host memory, which is never revoked.
fn memory(ledger: &Ledger, chance: &mut Chance) -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let source = chance.of(&["host:4M", "udmabuf:4M"]);
    let ended = run(&format!("run --from {source} --to verbs:rxe0 {} --out {}", short(chance), out.path().display()))?;
    account("baseline", ledger, &ended, out.path(), &|_| false)
}

/// Kills a run; `peerpath restore` reverts its changes.
fn killed(ledger: &Ledger, chance: &mut Chance) -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let mut running = start(&format!(
        "run --from {SWITCH_EXPORTER}:2 --to verbs:rxe1 {} --out {}",
        endless(chance),
        out.path().display()
    ))?;
    std::thread::sleep(chance.time(MAX_LIFE));
    let (signal, codes) = signalled(chance);
    running.signal(signal)?;
    let ended = running.wait()?;
    if !codes.contains(&ended.code) {
        ledger.unexpected("killed", format!("SIG{signal}: {}", describe(&ended)));
        return Ok(());
    }
    ledger.count("killed", format!("SIG{signal}"));
    restore(ledger, "killed")
}

/// Runs with another process as exporter, and kills the exporter, which revokes the memory.
fn orphaned(ledger: &Ledger, chance: &mut Chance) -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let socket = out.path().join("bar.sock");
    let mut exporting = start(&format!("export {SWITCH_EXPORTER}:2 --socket {}", socket.display()))?;
    until("the exporter listens", || socket.exists())?;
    let running = start(&format!(
        "run --from socket:{} --to verbs:rxe1 {} --out {}",
        socket.display(),
        short(chance),
        out.path().display()
    ))?;
    std::thread::sleep(chance.time(MAX_LIFE));
    exporting.signal("KILL")?;
    exporting.wait()?;
    let ended = running.wait()?;
    let gone = |cell: &Value| {
        let says = |key: &str, what: &str| cell[key].as_str().is_some_and(|text| text.contains(what));
        REVOKED.iter().any(|cause| cell["cause"] == *cause)
            || says("remedy", "exporting process is still running")
            // The exporter exited before the run connected.
            || says("remedy", "Start the process that exports")
    };
    account("orphaned", ledger, &ended, out.path(), &gone)?;
    restore(ledger, "orphaned")
}

/// Counts the cells of a run: passed, or failed for a reason that `excuse` accepts.
pub(super) fn account(
    who: &'static str,
    ledger: &Ledger,
    ended: &Ended,
    out: &Path,
    excuse: &dyn Fn(&Value) -> bool,
) -> Result<(), Failed> {
    let Ok(result) = result(out) else {
        // The run did not reach its first cell, because its peer or exporter had already exited.
        match ended.code {
            Some(2 | 3) if matches!(who, "orphaned" | "peer-killed") => ledger.count(who, "nothing to connect to"),
            _ => ledger.unexpected(who, describe(ended)),
        }
        return Ok(());
    };
    for cell in cells(&result) {
        if cell["outcome"] == "passed" {
            ledger.count(who, "passed");
        } else if excuse(cell) {
            let why = cell["cause"].as_str().unwrap_or("exporter gone");
            ledger.count(who, format!("{}: {why}", cell["outcome"].as_str().unwrap_or("?")));
        } else {
            ledger.unexpected(who, format!("{cell:#}"));
        }
    }
    let failed = cells(&result).iter().any(|cell| cell["outcome"] == "failed");
    let passed = cells(&result).iter().any(|cell| cell["outcome"] == "passed");
    let expected = if failed {
        1
    } else if passed {
        0
    } else {
        3
    };
    if ended.code != Some(expected) {
        ledger.unexpected(who, format!("expected exit code {expected}: {}", describe(ended)));
    }
    Ok(())
}

/// Restores the changes of a killed process, and checks that only the function of this process is still bound.
pub(super) fn restore(ledger: &Ledger, who: &'static str) -> Result<(), Failed> {
    let restored = run("restore")?;
    let only_ours = restored.stdout.lines().all(|line| line.starts_with(EXPORTER) || !line.contains("skipped: "));
    if !matches!(restored.code, Some(0 | 3)) || !only_ours || driver(SWITCH_EXPORTER).is_some() {
        ledger.unexpected(who, format!("not restored: {}", describe(&restored)));
    }
    Ok(())
}

pub(super) fn describe(ended: &Ended) -> String {
    format!("exit code {:?}: {} {}", ended.code, ended.stdout.trim(), ended.stderr.trim())
}
