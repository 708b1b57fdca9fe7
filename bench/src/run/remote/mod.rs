//! Legs of a run between two hosts. The server has the source, and the device with which the source is registered. This host is
//! the client: it posts transfers between its own memory and the source, and times them.

mod cell;

use std::ops::ControlFlow;
use std::sync::Arc;

use peerpath_exporter::{Exporter, Source};
use peerpath_importers::{Device, DeviceInfo};
use peerpath_paths::{Cause, Explanation, Tree};

use super::cell_error::{CellError, per_cell};
use super::context::Context;
use super::export_spec::unopened;
use super::held::{self, Held};
use super::log::Log;
use super::path_checks::{as_asked, without_faults};
use super::pinning::{Pinning, pollers};
use super::record::{self, target_of};
use super::removed::LegRemovals;
use super::rounds::{self, Repeat};
use super::transfer::Figures;
use crate::disturbance::Watched;
use crate::failure::Failure;
use crate::peer::client::Client;
use crate::plan::Leg;
use crate::result::{Cell, CellPath, FarSide};
use crate::route::Routes;
use cell::{CellRecord, RemoteCell};

/// A leg with this host's memory and device, or the errors from opening them.
struct RemoteLeg<'a> {
    context: Context<'a>,
    peer: &'a Client,
    leg: Leg<'a>,
    /// This host's memory; `None` if it is allocated for each cell.
    far: Result<Option<Held<Box<dyn Exporter>>>, Failure>,
    device: Result<Held<Arc<dyn Device>>, Failure>,
}

/// Runs the cells of a leg with a peer. Returns `Break` if the run is interrupted or the connection to the peer is lost.
///
/// # Errors
/// The input is bad, or the result cannot be saved.
pub(super) fn run_leg(
    context: Context<'_>,
    peer: &Client,
    leg: Leg<'_>,
    routes: &mut Routes,
    log: &mut Log<'_>,
) -> Result<ControlFlow<()>, Failure> {
    let interrupt = &context.interrupt.of_part();
    let context = Context { interrupt, ..context };
    let Context { plan, open, changes, .. } = context;
    let removed = context.removed.failure_of(leg.far, leg.target);
    let (far, device) = match (&removed, leg.far) {
        (Some(failure), _) => (Err(failure.clone()), Err(failure.clone())),
        (None, far) => (
            far.map(|source| per_cell(held::open_source(source, open, changes))).transpose()?.transpose(),
            per_cell(held::open_target(leg.target, &plan.connection, far, changes))?,
        ),
    };
    let function = device.as_ref().ok().and_then(|device| device.info().bdf);
    let pinning = &Pinning::of_leg(plan, function, context.allowed_cpus);
    let context = Context { pinning, ..context };
    let mut remote = RemoteLeg { context, peer, leg, far, device };
    remote.removals().stop(interrupt);
    // Drivers and IOMMU domains change when a function is opened.
    routes.refresh();
    if removed.is_none() {
        log.note_functions(context, routes, &remote.far_side(routes).source, remote.info());
    }
    let mut is_lost = false;
    rounds::run(plan, leg, log, |repeat, _| {
        // If the connection is lost, the last saved cell contains the reason.
        if is_lost || interrupt.is_signalled() {
            return None;
        }
        remote.close_removed();
        let cell = remote.run_cell(repeat, routes)?;
        // Close before the result is saved, because the kernel waits until the function is closed.
        remote.close_removed();
        if cell.cause == Some(Cause::PeerLost) {
            // The thread that reads the connection may notice the loss later than the cell.
            interrupt.stop();
        }
        is_lost = interrupt.ends_run();
        Some(cell)
    })
}

impl RemoteLeg<'_> {
    fn info(&self) -> Option<&DeviceInfo> {
        self.device.as_ref().ok().map(|device| device.info())
    }

    fn removals(&self) -> LegRemovals<'_> {
        LegRemovals {
            source: self.far.as_ref().ok().and_then(|far| far.as_ref()?.removal()),
            target: self.device.as_ref().ok().and_then(|device| device.removal()),
        }
    }

    /// Returns the failure of the cells if the kernel requests the release of a function of this host.
    fn removed(&self) -> Option<Failure> {
        self.removals().failure(self.leg.far, self.leg.target, self.context.removed)
    }

    /// Closes this host's memory and device if the kernel requests the release of one of their functions. The remaining cells
    /// fail.
    fn close_removed(&mut self) {
        if let Some(failure) = self.removed() {
            self.device = Err(failure.clone());
            self.far = Err(failure);
        }
    }

    /// The client's memory and device, before anything is registered.
    fn far_side(&self, routes: &Routes) -> FarSide {
        let leg = self.leg;
        let source = match (&self.far, leg.far) {
            (Ok(Some(exporter)), _) => exporter.origin().clone(),
            (_, Some(source)) => unopened(source),
            (_, None) => unopened(&Source::Host { size_bytes: 0 }),
        };
        let described_by_peer = matches!(leg.far, Some(Source::Socket { .. }));
        let path = routes.predicted(None, &source, 1, self.info(), described_by_peer);
        FarSide { source, target: target_of(leg, self.info()), path }
    }

    /// Runs a repeat of a cell; `None` if it was interrupted.
    fn run_cell(&self, repeat: Repeat<'_>, routes: &mut Routes) -> Option<Cell> {
        let spec = repeat.spec;
        let (leg, info, offer) = (self.leg, self.info(), self.peer.offer());
        let mut record = CellRecord {
            source: unopened(leg.source),
            path: CellPath { asked: leg.asked, ..CellPath::unknown() },
            mechanism: None,
            far: self.far_side(routes),
        };
        let soft = info.is_some_and(|info| info.soft_rdma) || offer.environment.soft_rdma;
        let watched = Watched {
            tree: &Tree::live(),
            cpus: self.context.pinning.of_cell(spec, false),
            rdma_device: info.map(|info| &info.name[..]),
            threads: pollers(spec, false),
            soft_rdma: soft,
        };
        let before = watched.read();
        let figures = self.measure(repeat, routes, &mut record);
        let after = watched.read();
        let figures = match figures {
            Ok(figures) => Ok(figures),
            Err(CellError::Interrupted) => return None,
            Err(CellError::Failure(failure)) => Err(failure),
        };
        let CellRecord { source, path, mechanism, far } = record;
        let mut cell = record::cell(leg, spec, source, info, path, figures);
        cell.engine = cell.engine.map(|engine| if soft { "cpu".into() } else { engine });
        cell.mechanism = mechanism.filter(|_| cell.measured.iterations.is_some());
        cell.target = offer.target.clone();
        cell.id = record::id_with_peer(leg, spec);
        cell.far = Some(far);
        cell.note_conditions(|repeat| watched.note(&before, &after, repeat));
        Some(cell)
    }

    fn measure(&self, repeat: Repeat<'_>, routes: &mut Routes, record: &mut CellRecord) -> Result<Figures, CellError> {
        let Repeat { spec, index } = repeat;
        let context = Context { limit: self.context.plan.limit(index), ..self.context };
        let figures = match (&self.far, &self.device) {
            (Err(failure), _) | (_, Err(failure)) => Err(failure.clone().into()),
            (Ok(far), Ok(device)) => {
                let far = far.as_ref().map(|far| &***far);
                let removed = &|| self.removed();
                let cell = RemoteCell { context, peer: self.peer, leg: self.leg, spec, far, device, removed };
                cell.measure(routes, record).and_then(|figures| as_asked(&record.path, spec, figures))
            }
        };
        let functions = record.far.source.bdf.into_iter().chain(record.far.target.bdf);
        let figures = match figures {
            // A lost connection also sets the interrupt flag, but only a signal interrupts the run.
            Err(CellError::Interrupted) if !self.context.interrupt.is_signalled() => Err(peer_lost()),
            figures => figures,
        };
        without_faults(routes, &mut record.far.path, functions, figures)
    }
}

fn peer_lost() -> CellError {
    CellError::failed(
        "the connection to the peer was lost during the cell",
        Explanation::new(
            Cause::PeerLost,
            "The peer stopped sending.",
            "See the output of the server on the other host, and start the run again.",
        ),
    )
}
