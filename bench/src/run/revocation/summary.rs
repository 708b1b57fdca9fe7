//! The figures of a cell, from its operations.

use std::collections::BTreeMap;

use peerpath_importers::Revocation;
use peerpath_paths::{Cause, Explanation};

use super::Operation;
use crate::measure::Recorder;
use crate::result::{self, Spread};
use crate::run::cell_error::CellError;

/// Status in results if no transfer of a direction failed.
const NO_FAILURE: &str = "none";

/// Fails a cell if the importer accessed memory after its revocation.
pub(in crate::run) fn without_stale_access(kind: Revocation, number: u64, done: &Operation) -> Result<(), CellError> {
    let stale = done.stale;
    if stale.total() == 0 {
        return Ok(());
    }
    Err(CellError::failed(
        format!(
            "revocation {number} ({}): the importer wrote {} and read {} bytes of revoked memory",
            kind.as_str(),
            stale.written,
            stale.read
        ),
        Explanation::new(
            Cause::StaleAccess,
            "The call that revokes the memory returned, and the importer still accessed it.",
            "Do not pass this memory to other users. Report the importer's driver and the kernel version.",
        ),
    ))
}

/// Records the upper bounds of the operations, and summarizes the rest.
pub(in crate::run) fn summarize(
    kind: Revocation,
    outstanding: u32,
    operations: &[Operation],
    recorder: &mut Recorder,
) -> Option<result::Revocation> {
    operations.iter().filter_map(|done| done.observed.unreachable_ns).for_each(|ns| recorder.record_ns(ns));
    let spread = |of: fn(&Operation) -> u64| Spread::of(operations.iter().map(of).collect());
    let statuses = |direction: usize| {
        let mut counts = BTreeMap::<String, u64>::new();
        for done in operations {
            *counts.entry(done.observed.statuses[direction].unwrap_or(NO_FAILURE).to_owned()).or_default() += 1;
        }
        counts
    };
    Some(result::Revocation {
        kind: kind.as_str().to_owned(),
        outstanding_each_way: outstanding,
        last_access_ns: spread(|done| done.observed.last_access_ns)?,
        call_ns: spread(|done| done.call_ns)?,
        usable_again_ns: spread(|done| done.usable_again_ns)?,
        write_statuses: statuses(0),
        read_statuses: statuses(1),
        resumed_operations: operations.iter().filter(|done| done.resumed).count() as u64,
        stale_bytes: operations.iter().map(|done| done.stale.total()).sum(),
    })
}
