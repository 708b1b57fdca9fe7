//! Signals at random moments: the host is as before after `restore`, and every saved result is readable.
//!
//! `PEERPATH_LAB_SIGNALS` sets the number of commands that get signals, `PEERPATH_LAB_SOAK_SEED` their order.

use std::path::Path;
use std::time::Duration;

use libtest_mimic::Failed;

use super::restoring::settled;
use crate::Case;
use crate::chance::Chance;
use crate::command::{Ended, cells, result, run, start};
use crate::functions::{EXPORTER, NIC, NVME};
use crate::host_state::HostState;

/// Commands that get signals if the environment sets no number.
const DEFAULT_ROUNDS: u64 = 12;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "restore_reverts_every_change_after_random_signals",
            scenarios: &["default"],
            run: random_signals,
        },
        Case { name: "a_second_signal_leaves_no_tracing_behind", scenarios: &["default"], run: two_signals },
    ]
}

/// A run that changes nothing else. The first signal ends it, and the second one arrives while it removes its probes, which takes
/// the kernel some hundred milliseconds.
fn two_signals() -> Result<(), Failed> {
    for wait in [50, 150, 300] {
        let out = tempfile::tempdir()?;
        let mut running = start(&format!(
            "run --from host:1M --to verbs:rxe0 --op write --mode completion --size 4K --duration 60s --out {}",
            out.path().display()
        ))?;
        until_first_cell_begins(out.path())?;
        running.signal("TERM")?;
        std::thread::sleep(Duration::from_millis(wait));
        // The run may have ended.
        let _ = running.signal("TERM");
        running.wait()?.expect(143)?;
        let restored = run("restore")?.expect(0)?;
        if !restored.stdout.contains("nothing to restore") {
            return Err(format!("second signal after {wait} ms: {}", restored.stdout).into());
        }
    }
    Ok(())
}

/// Waits until the run has saved its first, empty result, which it does right before the first cell.
pub(super) fn until_first_cell_begins(out: &Path) -> Result<(), Failed> {
    for _ in 0..600 {
        if out.join("result.json").exists() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("the run did not start a cell within a minute".into())
}

/// Number of commands that get signals.
fn rounds() -> u64 {
    std::env::var("PEERPATH_LAB_SIGNALS").ok().and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_ROUNDS)
}

/// Maximum time that a guest needs for the commands that get signals.
pub(crate) fn length() -> Duration {
    Duration::from_secs(60 * rounds())
}

/// A command, and the time in which it reaches every state.
struct Command {
    name: &'static str,
    arguments: String,
    life: Duration,
    /// Whether the command restores the host before it ends.
    restores: bool,
}

impl Command {
    fn random(chance: &mut Chance, out: &Path) -> Self {
        let out = out.display();
        let life = Duration::from_secs;
        match chance.below(5) {
            0 => {
                let function = chance.of(&[NIC, NVME]);
                let arguments = format!("bind --force-in-use {function}");
                Self { name: "bind", arguments, life: life(3), restores: false }
            }
            1 => {
                let paths = chance.of(&["--path bypass", "--path bypass --path translated", "--path translated"]);
                let arguments = format!(
                    "run --from {EXPORTER}:2 --to verbs:rxe0 --op write --op read --mode completion --size 4K {paths} \
                     --force-in-use --duration 2s --out {out}/result"
                );
                Self { name: "run", arguments, life: life(15), restores: true }
            }
            2 => {
                let arguments = format!("serve --from {EXPORTER}:2 --to verbs:rxe0");
                Self { name: "serve", arguments, life: life(4), restores: true }
            }
            3 => {
                let arguments = format!("export {EXPORTER}:2 --socket {out}/socket");
                Self { name: "export", arguments, life: life(4), restores: true }
            }
            _ => Self { name: "restore", arguments: "restore".to_owned(), life: life(5), restores: false },
        }
    }
}

fn random_signals() -> Result<(), Failed> {
    let (rounds, seed) = (rounds(), Chance::seed()?);
    println!("signals: {rounds} rounds, PEERPATH_LAB_SOAK_SEED={seed}");
    let mut chance = Chance::new(seed);
    // A failed test may have left changes, which would be restored in the first round.
    run("restore")?;
    let before = settled()?;
    for round in 1..=rounds {
        let mut history = String::new();
        one(&mut chance, &before, &mut history).map_err(|error| {
            format!("round {round} of seed {seed}: {history}: {}", error.message().unwrap_or("failed"))
        })?;
        println!("signals: round {round}: {history}");
    }
    Ok(())
}

fn one(chance: &mut Chance, before: &HostState, history: &mut String) -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let command = Command::random(chance, out.path());
    if command.name == "restore" {
        run(&format!("bind --force-in-use {} {NVME}", chance.of(&[NIC, EXPORTER])))?.expect(0)?;
    }
    let signals: &[&str] = chance.of(&[
        &["KILL"][..],
        &["INT"],
        &["TERM"],
        &["INT", "INT"],
        &["TERM", "TERM"],
        &["INT", "TERM"],
        &["INT", "KILL"],
    ]);
    *history = format!("{} {}", command.name, signals.join(" "));
    let mut running = start(&command.arguments)?;
    let mut max = command.life;
    for signal in signals {
        let wait = chance.time(max);
        std::thread::sleep(wait);
        *history += &format!(" +{} ms", wait.as_millis());
        // The command may have ended.
        let _ = running.signal(signal);
        max = Duration::from_millis(800);
    }
    let ended = running.wait()?;
    *history += &format!(" -> {:?}", ended.code);
    expect_code(&command, &ended)?;
    let restored = run("restore")?.expect(0)?;
    let caught = matches!(ended.code, Some(130 | 143));
    if command.restores && caught && !restored.stdout.contains("nothing to restore") {
        return Err(format!("the command did not restore the host: {}", restored.stdout).into());
    }
    before.expect()?;
    readable(&ended, &out.path().join("result"))
}

/// A signal before the handlers are installed, or SIGKILL, kills the command. A command may also end before its signal.
fn expect_code(command: &Command, ended: &Ended) -> Result<(), Failed> {
    match ended.code {
        None | Some(0 | 130 | 143) => Ok(()),
        Some(code) => {
            Err(format!("`{}` ended with {code}: {} {}", command.arguments, ended.stdout, ended.stderr).into())
        }
    }
}

/// Reads the result. A run writes it after every cell, so it must be readable even if the run was killed.
fn readable(ended: &Ended, folder: &Path) -> Result<(), Failed> {
    let file = folder.join("result.json");
    if !file.exists() {
        return if ended.stdout.contains("saved to") {
            Err("no result, but it was reported as saved".into())
        } else {
            Ok(())
        };
    }
    if cells(&result(folder)?).is_empty() {
        return Ok(());
    }
    let report = folder.join("report.md");
    run(&format!("report {} --format md --out {}", file.display(), report.display()))?.expect(0).map(drop)
}
