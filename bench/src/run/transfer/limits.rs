//! Computes the offsets of operations in the buffer, and rejects operations that do not fit.

use peerpath_exporter::{Buffer, Handle};
use peerpath_paths::{Cause, Explanation};

use super::streams::streams;
use crate::layout::Layout;
use crate::plan::CellSpec;
use crate::run::cell_error::CellError;

/// Offsets of a cell's operations in the buffer: one layout per stream of each thread. Each operation lies within one
/// registration.
pub(in crate::run) fn layouts(spec: &CellSpec, buffer: &Buffer) -> Result<Vec<Layout>, CellError> {
    let ranges = &buffer.origin().ranges;
    let wanted = spec.depth.saturating_mul(spec.qps);
    let streams = streams(spec) as u32;
    let count = spec.threads * streams;
    let (layouts, part) = match buffer.handle() {
        Handle::DmaBufs(_) => {
            let lengths = ranges.iter().map(|range| range.length_bytes);
            (Layout::within_parts(spec.size_bytes, wanted, lengths).map(|layout| vec![layout]), "any of its ranges")
        }
        _ if count > 1 => {
            let room = buffer.length_bytes();
            (
                Layout::side_by_side(spec.size_bytes, wanted, room, count, streams),
                "the part of each thread and direction",
            )
        }
        _ => (Layout::new(spec.size_bytes, wanted, buffer.length_bytes()).map(|layout| vec![layout]), "the buffer"),
    };
    let too_long = |what: String| {
        CellError::waived(
            what,
            Explanation::uncaused("Each operation must lie within one registration.", "Choose a smaller size."),
        )
    };
    let layouts = layouts
        .ok_or_else(|| too_long(format!("an operation of {} bytes does not fit into {part}", spec.size_bytes)))?;
    // The order of two operations on the same 8-byte value is defined only within one queue pair.
    if spec.op.is_atomic() && spec.qps > 1 && layouts.iter().any(|layout| layout.slots() < u64::from(wanted)) {
        return Err(too_long(format!("{wanted} 8-byte values do not fit into {part}")));
    }
    Ok(layouts)
}

/// Creates the outcome of a cell whose memory rejects atomic operations.
pub(in crate::run) fn atomics_refused(what: String) -> CellError {
    CellError::waived(
        what,
        Explanation::new(
            Cause::AtomicsRefused,
            "The device reads and writes this BAR, but does not support atomic operations on the memory of another device.",
            "Use a device that supports PCIe AtomicOps, on a path whose ports all route them, or use host memory.",
        ),
    )
}
