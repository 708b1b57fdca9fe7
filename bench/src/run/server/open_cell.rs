//! Opens a cell for a client: exports and registers the source that the client names.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Source};
use peerpath_importers::{Op, Registration, Role};
use peerpath_paths::{Explanation, printable};

use super::super::cell_error::CellError;
use super::super::export_spec::{ExportSpec, mapped_at_once};
use super::super::held;
use super::super::removed::LegRemovals;
use super::super::transfer::layouts;
use super::Session;
use crate::failure::Failure;
use crate::layout::Layout;
use crate::measure::Flow;
use crate::peer::message::Open;
use crate::plan::{ATOMIC_BYTES, CellSpec, Mechanism, Mode, Target, unsupported, within_bounds};
use crate::result::CellPath;

/// Maximum number of ranges of a cell. It limits the length of the response, which lists every memory region.
const MOST_RANGES: u32 = 4096;

/// A cell whose buffer is registered.
pub(super) struct OpenCell {
    pub(super) op: Op,
    pub(super) buffer: Arc<Buffer>,
    pub(super) registration: Box<dyn Registration>,
    /// One window per lane, or two per lane if both sides post.
    pub(super) layouts: Vec<Layout>,
    pub(super) flow: Flow,
    pub(super) lanes: usize,
}

impl OpenCell {
    pub(super) fn window(&self, index: u32) -> Option<&Layout> {
        self.layouts.get(index as usize)
    }

    /// The windows of stream number `stream`, one per lane.
    pub(super) fn windows_of_stream(&self, stream: usize) -> impl Iterator<Item = &Layout> {
        self.layouts.iter().skip(stream).step_by(self.layouts.len() / self.lanes)
    }
}

/// Exports and registers the source. Stores the predicted path in `path`, and after the registration the observed one.
pub(super) fn open_cell(
    session: &mut Session<'_>,
    open: &Open,
    path: &mut Option<CellPath>,
) -> Result<OpenCell, CellError> {
    let Open { depth, queue_pairs: queues, lanes, .. } = *open;
    reopen_device(session, open)?;
    let spec = spec_of(session, open)?;
    if let Some(explanation) = unsupported(&spec) {
        return Err(CellError::waived(format!("cannot run {}", spec.op), explanation));
    }
    let source = find(session, &open.source)?;
    let server = session.server;
    if let Some(failure) = session.removed.failure_of(Some(&source), server.target) {
        return Err(failure.into());
    }
    let (_, exporter) = session.exporter.take_if(|(opened, _)| *opened == source).map_or_else(
        || Ok((source.clone(), held::open_source(&source, server.open, server.changes)?)),
        Ok::<_, Failure>,
    )?;
    let exporter = &**session.exporter.insert((source.clone(), exporter)).1;
    LegRemovals { source: exporter.removal(), target: None }.stop(&session.interrupt);
    // Drivers and IOMMU domains change when a function is opened.
    session.routes.refresh();
    let origin = exporter.origin().clone();
    let export = ExportSpec::of(&origin, &spec)?;
    let described_by_peer = matches!(source, Source::Socket { .. });
    let info = session.device.info();
    let mapped = mapped_at_once(&origin, &spec);
    let path = path.insert(session.routes.predicted(None, &origin, mapped, Some(info), described_by_peer));
    let buffer = export.export(exporter)?;
    let layouts = layouts(&spec, &buffer)?;
    let register = || Arc::clone(&session.device).register(Arc::clone(&buffer));
    let registration = session.routes.observed(path, buffer.origin(), info, register)?;
    let flow = Flow { queues, ..Flow::simple(depth) };
    Ok(OpenCell { op: spec.op, buffer, registration, layouts, flow, lanes: lanes as usize })
}

/// Converts the request of the client to a cell, and rejects values that exceed the bounds of this server.
fn spec_of(session: &Session<'_>, open: &Open) -> Result<CellSpec, CellError> {
    let Open { size_bytes, depth, queue_pairs: qps, lanes: threads, ranges, .. } = *open;
    let offered = session.server.target.importer.capabilities().ops.iter().copied();
    let mut transfers = offered.filter(|spec| matches!(spec.role, Role::Transfer(_)));
    let Some(op) = transfers.find(|spec| spec.op.as_str() == open.op) else {
        return Err(CellError::waived(
            format!("{} does not support transfer {:?}", session.device.info().name, open.op),
            Explanation::uncaused(
                format!("It is not implemented for {} targets.", session.server.target.importer.kind()),
                "Choose an operation that such targets have, e.g. write or read.",
            ),
        ));
    };
    // An atomic operation has a fixed size, regardless of the size in the request.
    let size_bytes = if op.op.is_atomic() { ATOMIC_BYTES } else { size_bytes };
    if !within_bounds(size_bytes, depth, qps, threads, ranges) || ranges.is_some_and(|count| count > MOST_RANGES) {
        return Err(CellError::waived(
            "the cell exceeds the limits of the server",
            Explanation::uncaused(
                format!("The limits are 1 GiB per operation, a depth of 65536, 4096 threads and {MOST_RANGES} ranges."),
                "Choose a smaller size or depth, or fewer threads or ranges.",
            ),
        ));
    }
    Ok(CellSpec {
        asked: None,
        op: op.op,
        spec: Some(op),
        mode: Mode::Completion,
        size_bytes,
        ranges,
        mechanism: if open.mr_per_range { Mechanism::MrPerRange } else { Mechanism::Auto },
        depth,
        qps,
        threads,
        rate_per_s: None,
        bidirectional: open.both_ways,
    })
}

fn find(session: &Session<'_>, name: &str) -> Result<Source, CellError> {
    session.server.sources.iter().find(|source| printable(&source.to_string()) == name).cloned().ok_or_else(|| {
        CellError::failed(
            "the server does not serve this source",
            Explanation::uncaused(
                "A client can use the sources that the server was started with.",
                "Start the server with this source.",
            ),
        )
    })
}

/// Reopens the device if the client asks for other queue pair options than for the last cell.
fn reopen_device(session: &mut Session<'_>, open: &Open) -> Result<(), CellError> {
    let connection = open.connection.within(session.server.connection).map_err(|(why, remedy)| {
        CellError::waived("cannot create queue pairs with these options", Explanation::uncaused(why, remedy))
    })?;
    if connection != session.connection {
        let Target { importer, address } = session.server.target;
        session.device = importer.open(address, &connection)?;
        session.connection = connection;
    }
    Ok(())
}
