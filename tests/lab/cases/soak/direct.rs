//! Registrations and transfers in this process. It runs long enough to detect leaks.

use std::sync::Arc;

use libtest_mimic::Failed;
use peerpath_exporter::Exporter as _;
use peerpath_importers::{DataPlane, DataPlaneSettings, Op, QueuePairOptions, Transfer, parse_target};
use peerpath_paths::{Cause, Explained as _, Explanation};

use super::ledger::Ledger;
use super::revoker::{Guarded, Revoker};
use crate::chance::Chance;
use crate::command::until;

const WHO: &str = "direct";
pub(super) const LENGTH_BYTES: u64 = 1 << 20;
const DEPTH: u32 = 8;
const OPS: [Op; 4] = [Op::Write, Op::WriteImm, Op::Read, Op::Send];
const SIZES: [u32; 4] = [8, 1000, 4096, 65536];

/// Reason why a lap (one registration with its transfers) failed.
enum Ended {
    /// The kernel or the device rejected an operation.
    Explained(Explanation),
    Failed(Failed),
}

impl<E: Into<Failed>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) fn run(
    exporter: &Guarded<'_>,
    revoker: &Revoker,
    ledger: &Ledger,
    mut chance: Chance,
    is_over: &dyn Fn() -> bool,
) -> Result<(), Failed> {
    let (importer, address) = parse_target("verbs:rxe0")?;
    let target = importer.open(address, &QueuePairOptions::default())?;
    while !is_over() {
        let begun = revoker.moment();
        let ended = lap(exporter, &target, &mut chance, || revoker.has_revoked_since(begun));
        match ended {
            Ok(()) => ledger.count(WHO, "passed"),
            Err(Ended::Explained(Explanation { cause: Some(cause), .. }))
                if matches!(cause, Cause::Revoked | Cause::MemoryDecodeOff) && revoker.has_revoked_since(begun) =>
            {
                ledger.count(WHO, cause.as_str());
            }
            Err(Ended::Explained(explanation)) => ledger.unexpected(WHO, format!("{explanation:?}")),
            Err(Ended::Failed(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Registers a buffer, runs a few batches of transfers and checks the data.
fn lap(
    exporter: &Guarded<'_>,
    target: &Arc<dyn peerpath_importers::Device>,
    chance: &mut Chance,
    is_disturbed: impl Fn() -> bool,
) -> Result<(), Ended> {
    let explained = |error: peerpath_importers::Error| Ended::Explained(error.explanation());
    let buffer = exporter.export(LENGTH_BYTES).map_err(|error| Ended::Failed(error.into()))?;
    let registration = Arc::clone(target).register(Arc::clone(&buffer)).map_err(explained)?;
    let settings = DataPlaneSettings::simple(DEPTH, LENGTH_BYTES);
    let mut plane = registration.data_plane(&settings).map_err(explained)?;
    for _ in 0..=chance.below(3) {
        let (op, length_bytes) = (chance.of(&OPS), chance.of(&SIZES));
        let mark = chance.below(255) as u8 + 1;
        let (from, into) = (vec![mark; LENGTH_BYTES as usize], vec![0; LENGTH_BYTES as usize]);
        let is_read = op == Op::Read;
        buffer.view().write(0, if is_read { &from } else { &into })?;
        plane.far().write(0, if is_read { &into } else { &from })?;
        let batch: Vec<Transfer> =
            (0..u64::from(DEPTH)).map(|id| Transfer::new(id, op, id << 17, id << 17, length_bytes)).collect();
        transfer_all(&mut *plane, &batch)?;
        let mut found = vec![0; LENGTH_BYTES as usize];
        if is_read {
            plane.far().read(0, &mut found)?
        } else {
            buffer.view().read(0, &mut found)?
        }
        let moved = found.iter().filter(|byte| **byte == mark).count() as u64;
        let expected = u64::from(DEPTH) * u64::from(length_bytes);
        // A reset may lose written data.
        if moved != expected && !is_disturbed() {
            return Err(Failed::from(format!("{op} transferred {moved} bytes, expected {expected}")).into());
        }
    }
    drop(plane);
    registration.unregister().map_err(explained)?;
    Ok(())
}

fn transfer_all(plane: &mut dyn DataPlane, batch: &[Transfer]) -> Result<(), Ended> {
    let taken = plane.submit(batch).map_err(|error| Ended::Explained(error.explanation()))?;
    let mut done = Vec::new();
    let mut broken = None;
    until("every transfer has completed", || {
        broken = plane.poll(&mut done).err();
        broken.is_some() || done.len() == taken
    })?;
    if let Some(error) = broken {
        return Err(Ended::Explained(error.explanation()));
    }
    // Only the first error has the reason; the work requests after it were flushed.
    match done.into_iter().find_map(|completion| completion.result.err()) {
        Some(error) => Err(Ended::Explained(*error.explanation)),
        None => Ok(()),
    }
}
