//! The streams of a lane. A stream is the operations that one side posts. The first stream has the direction of the cell. The
//! second one exists in a bidirectional cell and has the opposite direction.

use std::time::Duration;

use peerpath_importers::{DataPlane, Direction, Op, Side};
use quanta::Clock;

use crate::interrupt::Interrupt;
use crate::layout::Layout;
use crate::measure::{self, Limit, MeasureError, Recorder, Stream};
use crate::plan::CellSpec;

/// The side that posts each stream.
const POSTED_BY: [Side; 2] = [Side::Far, Side::Buffer];

/// Number of streams per lane.
pub(in crate::run) fn streams(spec: &CellSpec) -> usize {
    if spec.bidirectional { 2 } else { 1 }
}

/// Whether the host of the exported memory posts the stream.
pub(super) fn is_posted_by_near(stream: usize) -> bool {
    POSTED_BY[stream] == Side::Buffer
}

/// Direction of a stream, if the cell has the direction `forward`.
pub(super) fn direction_of(stream: usize, forward: Direction) -> Direction {
    match (POSTED_BY[stream], forward) {
        (Side::Far, forward) => forward,
        (Side::Buffer, Direction::IntoSource) => Direction::OutOfSource,
        (Side::Buffer, Direction::OutOfSource) => Direction::IntoSource,
    }
}

/// The operations of one stream of a lane.
pub(super) fn stream_of<'a>(spec: &CellSpec, stream: usize, layout: &'a Layout) -> Stream<'a> {
    Stream { layout, op: spec.op, posted_by: POSTED_BY[stream], queues: spec.qps, first: 0 }
}

/// Sends to the remaining slots of the cycle, so that the next sends start at the first slot again on every queue.
pub(in crate::run) fn refill_receives(
    data_plane: &mut dyn DataPlane,
    stream: Stream<'_>,
    operations: u64,
    clock: &Clock,
    interrupt: &Interrupt,
) -> Result<(), MeasureError> {
    let period = stream.layout.operations_per_cycle(stream.queues);
    let used = operations % period;
    if stream.op == Op::Send && used > 0 {
        let rest = Limit { iterations: period - used, duration: Duration::MAX };
        let stream = Stream { first: operations, ..stream };
        measure::latency(data_plane, stream, rest, &mut Recorder::new(clock.clone()), interrupt)?;
    }
    Ok(())
}
