//! What a thread works with, and what it sees.

use std::sync::Arc;
use std::time::Duration;

use peerpath_exporter::View;
use peerpath_importers::{ConnectedEnd, DataPlane, EndSettings, Op, Registration};

use super::cell_error::CellError;
use crate::layout::Layout;
use crate::measure::{MeasureError, PING_PONG_DEPTH, Recorder, Throughput};

/// What one thread works with: a data plane of its own, and for each stream a part of the source.
pub(super) struct Lane<'a> {
    pub(super) posts: Posts<'a>,
    pub(super) far: Arc<dyn View>,
    pub(super) layouts: &'a [Layout],
}

/// Who has the two ends of a lane.
pub(super) enum Posts<'a> {
    /// The thread that posts has both.
    Whole(Box<dyn DataPlane + 'a>),
    /// It has that of the far side; the other one is a peer's, or another thread's.
    Apart {
        end: Box<dyn ConnectedEnd + 'a>,
        other: Option<Box<dyn ConnectedEnd + 'a>>,
        /// Where on the far side what is sent back arrives.
        back: u64,
    },
}

impl<'a> Lane<'a> {
    pub(super) fn whole(plane: Box<dyn DataPlane + 'a>, layouts: &'a [Layout]) -> Self {
        Self { far: plane.far(), posts: Posts::Whole(plane), layouts }
    }

    /// Both ends of a lane on which a slot goes there and back, each for a thread of its own.
    pub(super) fn facing(registration: &'a dyn Registration, layouts: &'a [Layout], op: Op) -> Result<Self, CellError> {
        let [layout, ..] = layouts else { return Err(MeasureError::TimedOut.into()) };
        let back = back_place(layout.far_start() + layout.length_bytes());
        let settings = EndSettings { depth: PING_PONG_DEPTH, queues: 1, receives: receives(op) };
        let [mut end, mut other] = registration.both_ends(settings, back + layout.size_bytes())?;
        if receives(op) {
            let length_bytes = layout.transfer(op, 0).length_bytes;
            other.receive(&layout.places(), length_bytes)?;
            end.receive(&[back], length_bytes)?;
        }
        Ok(Self { far: end.far(), posts: Posts::Apart { end, other: Some(other), back }, layouts })
    }

    pub(super) fn plane(&mut self) -> &mut dyn DataPlane {
        match &mut self.posts {
            Posts::Whole(plane) => &mut **plane,
            Posts::Apart { end, .. } => &mut **end,
        }
    }
}

/// Where the slot comes back to, behind what else there is.
pub(super) fn back_place(end: u64) -> u64 {
    end.next_multiple_of(64)
}

/// Whether each operation uses up a receive of the other side.
pub(super) fn receives(op: Op) -> bool {
    matches!(op, Op::Send | Op::WriteImm)
}

/// What a thread saw.
pub(super) struct Seen {
    pub(super) recorder: Recorder,
    /// Operations of each stream.
    pub(super) operations: Vec<u64>,
    /// Of the streams that this side posted.
    pub(super) flows: Vec<Throughput>,
    /// How long the peer took for its stream.
    pub(super) peer_took: Option<Duration>,
}
