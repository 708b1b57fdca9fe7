//! Signals: a command that changes the host restores it before it ends, even if the user presses Ctrl-C again.

use std::path::Path;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use peerpath_bench::failure::Failure;
use peerpath_bench::interrupt::Interrupt;
use peerpath_host::{Options, is_changed, left_by_earlier_runs};
use peerpath_observe::remove_own;
use peerpath_paths::{Explanation, Severity};

use crate::terminal;

/// Time that a change of the host, or restoring it, may take after a signal. A driver that never returns must not prevent the
/// user from ending the command.
const GRACE: Duration = Duration::from_secs(120);
/// Interval between checks whether the host is restored.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Handles SIGINT, SIGTERM and SIGHUP from now on. The first signal ends the command after it has restored the host. A further
/// signal ends it at once, unless changes of the host still have to be reverted.
pub(super) fn catch_signals() -> Result<Interrupt, Failure> {
    install(|signal, count| {
        if count == 1 {
            return;
        }
        if may_be_changed() {
            say("restoring the host before the command ends");
            let deadline = Instant::now() + GRACE;
            while may_be_changed() {
                if Instant::now() > deadline {
                    give_up(signal, "cannot restore the host");
                }
                thread::sleep(POLL_INTERVAL);
            }
        }
        end(signal);
    })
}

/// Removes the tracing of this process, which the main thread may still use, and ends the program.
fn end(signal: i32) -> ! {
    // If tracing is inaccessible, there is none.
    let failed = remove_own(Path::new("/")).map(|removed| removed.failed).unwrap_or_default();
    if !failed.is_empty() {
        terminal::note("cannot remove the tracing of this program: run `peerpath restore`");
    }
    process::exit(128 + signal);
}

/// Handles SIGINT, SIGTERM and SIGHUP from now on: the command completes its changes of the host even after a signal.
pub(super) fn complete_despite_signals(what: &'static str) -> Result<Interrupt, Failure> {
    install(move |signal, _| {
        say(&format!("completing `{what}` before the command ends"));
        thread::sleep(GRACE);
        give_up(signal, &format!("cannot complete `{what}`"));
    })
}

/// Whether this process still has to revert a change. True if that is unknown.
fn may_be_changed() -> bool {
    is_changed(&Options::default()).unwrap_or(true)
}

/// Reports changes of the host that this process should have reverted.
pub(super) fn report_changes_left() {
    if may_be_changed() {
        let explanation = Explanation::uncaused(
            "peerpath did not revert every change of this command. The journal lists the remaining changes.",
            "Run `peerpath restore`.",
        );
        terminal::report(&Failure::new("this host is still changed", explanation, Severity::Failed));
    }
}

/// Warns if an earlier run was killed before it reverted its changes of this host: they may determine what a command finds.
pub(super) fn warn_of_earlier_changes() {
    let left = left_by_earlier_runs(&Options::default()).unwrap_or_default();
    if !left.is_empty() {
        let left: Vec<_> = left.iter().map(ToString::to_string).collect();
        log::warn!(
            "an earlier run was ended before it reverted its changes of {}; `peerpath restore` reverts them",
            left.join(", ")
        );
    }
}

fn install(arrived: impl FnMut(i32, usize) + Send + 'static) -> Result<Interrupt, Failure> {
    Interrupt::install(arrived)
        .map_err(|error| Failure::internal("cannot install signal handlers", &error, "report this as a bug"))
}

fn say(what: &str) {
    terminal::note(&format!("interrupted: {what}, for at most {} s", GRACE.as_secs()));
}

fn give_up(signal: i32, what: &str) -> ! {
    let explanation = Explanation::uncaused(
        format!("It takes longer than {} s. The journal lists the changes.", GRACE.as_secs()),
        "Run `peerpath restore`. If it hangs too, check `dmesg` for the driver that does not return.",
    );
    terminal::report(&Failure::new(what, explanation, Severity::Failed));
    end(signal)
}
