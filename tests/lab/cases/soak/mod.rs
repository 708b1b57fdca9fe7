//! Soak test: mixed operations for minutes, while the test revokes memory and kills processes at random times.
//!
//! Nothing may leak, and every cell must pass, or fail because of an injected fault. `PEERPATH_LAB_SOAK_S` sets the length
//! in seconds; without it the soak does not run. `PEERPATH_LAB_SOAK_SEED` reproduces the order of events, but not their
//! timing.

mod direct;
mod ledger;
mod peers;
mod programs;
mod resources;
mod revoker;
mod sys;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use peerpath_exporter::socket::DmaBufSender;
use peerpath_exporter::{BarRange, OpenOptions, VfioExporter};
use serde_json::json;

use self::ledger::Ledger;
use self::resources::Resources;
use self::revoker::{Guarded, Revoker};
use crate::Case;
use crate::chance::Chance;
use crate::command::run;
use crate::functions::{EXPORTER, SWITCH_EXPORTER, driver, hold};

/// Returns the soak test if `PEERPATH_LAB_SOAK_S` is set.
pub(crate) fn cases() -> Vec<Case> {
    match length() {
        Some(_) => vec![Case { name: "soak", scenarios: &["soak"], run: soak }],
        None => Vec::new(),
    }
}

/// Returns the requested length of the soak test.
pub(crate) fn length() -> Option<Duration> {
    std::env::var("PEERPATH_LAB_SOAK_S").ok()?.parse().ok().map(Duration::from_secs)
}

/// Number of stretches of load, separated by pauses in which nothing runs. The resources in use must not grow from one pause to
/// the next.
const STRETCHES: u32 = 5;

/// Bytes at the start of the BAR that runs of the program use.
const SHARED_BYTES: u64 = 16 << 20;

fn soak() -> Result<(), Failed> {
    let length = length().ok_or("invalid PEERPATH_LAB_SOAK_S: expected a number of seconds")?;
    let seed = Chance::seed()?;
    sys::use_one_malloc_arena();
    println!("soak: {} s, seed {seed}", length.as_secs());
    let ledger = Ledger::default();
    let mut at_rest = Vec::new();
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("bar.sock");
    let _hold = hold(EXPORTER)?;
    let exporter =
        VfioExporter::open(EXPORTER.parse()?, peerpath_paths::BarIndex::try_from(2)?, &[], &OpenOptions::default())?;
    let revoker = Revoker::new(exporter.device());
    // Separate parts, so that a write into the memory of another worker is detected.
    let part = |offset_bytes, length_bytes| Guarded::new(&exporter, BarRange { offset_bytes, length_bytes }, &revoker);
    let (shared, own) = (part(0, SHARED_BYTES), part(SHARED_BYTES, direct::LENGTH_BYTES));
    let server = DmaBufSender::new(&socket, &shared)?;
    for stretch in 0..STRETCHES {
        let until = Instant::now() + length / STRETCHES;
        let over = AtomicBool::new(false);
        let chance = |which: u64| Chance::new(seed ^ (u64::from(stretch) << 32 | which));
        let is_over = || over.load(Ordering::Relaxed) || Instant::now() >= until;
        // A failed worker stops the others, because later outcomes would be meaningless.
        let watched = |ended: Result<(), Failed>, who| {
            if let Err(error) = ended {
                ledger.unexpected(who, error.message().unwrap_or("failed").to_owned());
                over.store(true, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| server.serve(&over));
            let revoking = scope.spawn(|| watched(revoker.run(chance(1), &is_over), "revoker"));
            let moving = scope.spawn(|| watched(direct::run(&own, &revoker, &ledger, chance(2), &is_over), "direct"));
            watched(programs::run_all(&socket, &revoker, &ledger, chance(3), &is_over), "programs");
            let (revoked, moved) = (revoking.join(), moving.join());
            over.store(true, Ordering::Relaxed);
            if revoked.is_err() || moved.is_err() || !matches!(serving.join(), Ok(Ok(()))) {
                ledger.unexpected("soak", "a thread panicked or failed".into());
            }
        });
        at_rest.push(Resources::now()?);
        println!("soak: stretch {} of {STRETCHES}: {}; {}", stretch + 1, ledger, at_rest[stretch as usize]);
        if ledger.has_unexpected() {
            break;
        }
    }
    let revocations = revoker.counts();
    drop((server, shared, own));
    drop((revoker, exporter));
    let restored = run("restore")?;
    let left: Vec<_> = [EXPORTER, SWITCH_EXPORTER].into_iter().filter(|bdf| driver(bdf).is_some()).collect();
    let grown = resources::grown(&at_rest);
    let record = json!({
        "length_s": length.as_secs(),
        "seed": seed,
        "revocations": revocations,
        "outcomes": ledger.counts(),
        "longest_s": ledger.longest_s(),
        "unexpected": ledger.all_unexpected(),
        "at_rest": at_rest.iter().map(Resources::as_json).collect::<Vec<_>>(),
        "grown": grown,
    });
    let text = serde_json::to_string_pretty(&record)?;
    println!("{text}");
    if let Ok(out) = std::env::var("PEERPATH_LAB_OUT") {
        std::fs::write(PathBuf::from(out).join("soak.json"), format!("{text}\n"))?;
    }
    restored.expect(0)?;
    match (ledger.has_unexpected(), grown.as_slice(), left.as_slice()) {
        (false, [], []) => Ok(()),
        (unexpected, grown, left) => Err(format!(
            "{}{}{}",
            if unexpected { "unexpected outcomes; " } else { "" },
            grown.iter().map(|what| format!("{what}; ")).collect::<String>(),
            left.iter().map(|bdf| format!("{bdf} was not restored; ")).collect::<String>()
        )
        .into()),
    }
}
