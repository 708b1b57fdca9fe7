//! A lane: the queue pairs and the windows of one thread.

use std::sync::Arc;

use peerpath_exporter::View;
use peerpath_importers::{ConnectedEnd, DataPlane, EndSettings, Op, Registration};

use crate::layout::Layout;
use crate::measure::{MeasureError, PING_PONG_DEPTH};
use crate::run::cell_error::CellError;

/// Data plane of one thread, and a window of the source for each stream.
pub(in crate::run) struct Lane<'a> {
    pub(in crate::run) ends: LaneEnds<'a>,
    pub(in crate::run) far: Arc<dyn View>,
    pub(in crate::run) layouts: &'a [Layout],
}

/// The ends of the connection that the thread drives.
pub(in crate::run) enum LaneEnds<'a> {
    /// Both ends, as one data plane.
    DataPlane(Box<dyn DataPlane + 'a>),
    /// The initiator's end.
    Connected {
        end: Box<dyn ConnectedEnd + 'a>,
        /// The responder's end, for another thread. `None` if the responder is a peer.
        responder: Option<Box<dyn ConnectedEnd + 'a>>,
        /// Offset in initiator memory at which the responder's reply arrives.
        return_offset: u64,
    },
}

impl<'a> Lane<'a> {
    pub(in crate::run) fn with_data_plane(data_plane: Box<dyn DataPlane + 'a>, layouts: &'a [Layout]) -> Self {
        Self { far: data_plane.far(), ends: LaneEnds::DataPlane(data_plane), layouts }
    }

    /// Creates a lane for ping-pong on this host, where initiator and responder run in separate threads.
    pub(in crate::run) fn with_both_ends(
        registration: &'a dyn Registration,
        layouts: &'a [Layout],
        op: Op,
    ) -> Result<Self, CellError> {
        let [layout, ..] = layouts else { return Err(MeasureError::TimedOut.into()) };
        let return_offset = return_offset(layout.far_start() + layout.length_bytes());
        let settings = EndSettings { depth: PING_PONG_DEPTH, queues: 1, receives: uses_receives(op) };
        let [mut end, mut responder] = registration.both_ends(settings, return_offset + layout.size_bytes())?;
        if uses_receives(op) {
            let length_bytes = layout.transfer(op, 0).length_bytes;
            responder.receive(&layout.near_offsets(), length_bytes)?;
            end.receive(&[return_offset], length_bytes)?;
        }
        let far = end.far();
        Ok(Self { far, ends: LaneEnds::Connected { end, responder: Some(responder), return_offset }, layouts })
    }

    pub(in crate::run) fn data_plane(&mut self) -> &mut dyn DataPlane {
        match &mut self.ends {
            LaneEnds::DataPlane(data_plane) => &mut **data_plane,
            LaneEnds::Connected { end, .. } => &mut **end,
        }
    }
}

/// Offset in initiator memory at which the reply of a ping-pong arrives: the first cache line boundary at or after `end`, the end
/// of all windows.
pub(in crate::run) fn return_offset(end: u64) -> u64 {
    end.next_multiple_of(64)
}

/// Whether each operation consumes a posted receive of the responder.
pub(in crate::run) fn uses_receives(op: Op) -> bool {
    matches!(op, Op::Send | Op::WriteImm)
}
