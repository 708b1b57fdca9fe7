//! Measures how a BAR is revoked while an RDMA device of this host transfers.

use std::sync::Arc;

use peerpath_exporter::vfio::{Device as Function, PowerState};
use peerpath_exporter::{Buffer, Error, Exporter, OpenOptions, Origin, Source, SourceKind};
use peerpath_importers::{Device, Revocation, Transport};
use peerpath_paths::{Explanation, PathName, Severity};

use super::super::cell_error::CellError;
use super::super::context::Context;
use super::super::revocation::summary::{summarize, without_stale_access};
use super::super::revocation::{MOST_OUTSTANDING, Revocable, SHORTEST_BYTES, Timing, Trial, outstanding};
use super::super::transfer::Figures;
use super::cell::LocalCell;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::measure::Recorder;
use crate::plan::{CellSpec, Mechanism};
use crate::result::CellPath;
use crate::route::Routes;

/// Waives a cell whose source or values do not support this revocation. Changes nothing.
pub(super) fn check(cell: LocalCell<'_>, kind: Revocation) -> Result<(), CellError> {
    let LocalCell { exporter, spec, context, .. } = cell;
    let waived = |why: &str, remedy: &str| {
        Err(CellError::waived(format!("cannot measure {}", spec.op), Explanation::uncaused(why, remedy)))
    };
    if spec.asked == Some(PathName::Staged) {
        return waived(
            "The device accesses host memory on this path, which nothing revokes.",
            "Omit the path staged for this operation.",
        );
    }
    if let Some(why) = why_not_revocable(exporter.origin(), exporter.function().is_some()) {
        return waived(why, "Use a BAR of a function as the source (BDF:BAR).");
    }
    if is_split(spec, exporter.origin()) {
        return waived(
            "The revocation is measured on one dma-buf of one range.",
            "Omit the ranges, and mechanism mr-per-range.",
        );
    }
    if context.plan.connection.transport != Transport::Rc {
        return waived(
            "The measurement writes and reads, and needs a completion for each refused access.",
            "Use connection rc for this operation.",
        );
    }
    if spec.size_bytes < SHORTEST_BYTES {
        return waived(
            "Fewer than 8 stale bytes cannot be distinguished from other content.",
            "Use a size of at least 8 bytes for this operation.",
        );
    }
    if outstanding(spec.size_bytes, exporter.length_bytes()).is_none() {
        return waived("The source has no room for a write and a read of this size.", "Use a smaller size.");
    }
    let Some(function) = exporter.function() else { return Ok(()) };
    let supported = match kind {
        Revocation::Reset => function.require_reset(),
        Revocation::D3 => function.require_power_management(),
        Revocation::HotReset => function.require_hot_reset(),
        Revocation::MemoryOff | Revocation::Close => Ok(()),
    };
    supported.map_err(|error| Failure::of(&error).with_severity(Severity::Unavailable).into())
}

/// The reason why this process cannot revoke a source. `None` if it can.
fn why_not_revocable(origin: &Origin, has_function: bool) -> Option<&'static str> {
    match origin.kind {
        SourceKind::Vfio if has_function => None,
        SourceKind::Vfio => Some("Only the process that opened the function can revoke its memory."),
        SourceKind::Cuda => Some("The driver of the GPU does not let this process revoke its memory."),
        SourceKind::Udmabuf | SourceKind::Heap | SourceKind::Host => Some("Nothing revokes host memory."),
    }
}

fn is_split(spec: &CellSpec, origin: &Origin) -> bool {
    spec.mechanism == Mechanism::MrPerRange || spec.ranges.is_some_and(|count| count > 1) || origin.ranges.len() > 1
}

/// Registers once, untimed, to observe the path.
pub(super) fn observe(cell: LocalCell<'_>, routes: &mut Routes, path: &mut CellPath) -> Result<Figures, CellError> {
    let buffer = cell.export()?;
    let registration = cell.register_observed(&buffer, routes, path)?;
    let (mechanism, exported) = (Some(registration.mechanism()), Some(buffer.origin().clone()));
    registration.unregister()?;
    Ok(Figures { mechanism, exported, ..Figures::default() })
}

/// Revokes the memory repeatedly. `figures` are those of [`observe`].
pub(super) fn measure(
    context: Context<'_>,
    device: &Arc<dyn Device>,
    spec: &CellSpec,
    source: &mut OpenSource<'_>,
    figures: Figures,
) -> Result<Figures, CellError> {
    let (limit, kind) = (context.limit, source.kind);
    let trial = Trial {
        kind,
        device,
        size_bytes: u32::try_from(spec.size_bytes).unwrap_or(u32::MAX),
        outstanding: outstanding(spec.size_bytes, source.exporter.length_bytes()).unwrap_or(MOST_OUTSTANDING),
        cpu: context.plan.cpus.first().copied(),
        clock: context.clock,
        interrupt: context.interrupt,
        timing: Timing::default(),
    };
    let start = context.clock.raw();
    let mut operations = Vec::new();
    loop {
        if context.interrupt.is_set() {
            return Err(CellError::Interrupted);
        }
        log::info!("revoke the memory of {} ({}), number {}", source.source, kind.as_str(), operations.len() + 1);
        let done = trial.run(source)?;
        without_stale_access(kind, operations.len() as u64 + 1, &done)?;
        operations.push(done);
        let is_late = context.clock.delta(start, context.clock.raw()) >= limit.duration;
        if operations.len() as u64 >= limit.iterations || is_late {
            break;
        }
    }
    let mut recorder = Recorder::new(context.clock.clone());
    let revocation = summarize(kind, trial.outstanding, &operations, &mut recorder);
    let verified_bytes = Some(operations.iter().map(|done| done.verified_bytes).sum());
    let (iterations, latency) = (operations.len() as u64, recorder.latency());
    Ok(Figures { iterations, latency, verified_bytes, revocation, ..figures })
}

/// The open source of a leg, and what is needed to open it again.
pub(super) struct OpenSource<'a> {
    pub(super) kind: Revocation,
    /// Exports nothing after the function could not be made usable again.
    pub(super) exporter: &'a mut Box<dyn Exporter>,
    pub(super) source: &'a Source,
    pub(super) open: &'a OpenOptions,
    pub(super) interrupt: &'a Interrupt,
}

impl OpenSource<'_> {
    fn function(&self) -> Result<&Arc<Function>, CellError> {
        self.exporter.function().ok_or_else(|| closed(self.exporter.origin()).into())
    }

    /// Drops everything of this process that keeps the function open.
    fn close(&mut self) -> Result<(), CellError> {
        let function = Arc::downgrade(self.function()?);
        let closed = Closed(self.exporter.origin().clone());
        drop(std::mem::replace(self.exporter, Box::new(closed)));
        if function.strong_count() == 0 {
            return Ok(());
        }
        Err(CellError::failed(
            format!("cannot close {}", self.source),
            Explanation::uncaused(
                "Another part of this process keeps the function open.",
                "Measure this operation in a run of its own.",
            ),
        ))
    }
}

impl Revocable for OpenSource<'_> {
    fn export(&mut self, length_bytes: u64) -> Result<Arc<Buffer>, CellError> {
        Ok(self.exporter.export(length_bytes.min(self.exporter.length_bytes()))?)
    }

    fn revoke(&mut self) -> Result<(), CellError> {
        match self.kind {
            Revocation::Close => return self.close(),
            Revocation::Reset => self.function()?.reset(),
            Revocation::MemoryOff => self.function()?.set_memory_enabled(false),
            Revocation::D3 => self.function()?.set_power_state(PowerState::D3hot),
            Revocation::HotReset => self.function()?.hot_reset(),
        }?;
        Ok(())
    }

    fn restore(&mut self) -> Result<(), CellError> {
        let restored = self.make_usable();
        if restored.is_err() {
            // The BAR does not respond, and an access of the next cell could raise SIGBUS.
            let closed = Closed(self.exporter.origin().clone());
            drop(std::mem::replace(self.exporter, Box::new(closed)));
        }
        restored
    }
}

impl OpenSource<'_> {
    /// Opens the function again, returns it to D0, or enables its memory decoding.
    fn make_usable(&mut self) -> Result<(), CellError> {
        match self.kind {
            Revocation::Close if self.exporter.function().is_none() => {
                let opened = self.source.open(self.open)?;
                if let Some(removal) = opened.removal() {
                    removal.stop_on_request(self.interrupt.removal());
                }
                *self.exporter = opened;
            }
            Revocation::D3 => self.function()?.set_power_state(PowerState::D0)?,
            Revocation::Close | Revocation::Reset | Revocation::MemoryOff | Revocation::HotReset => {}
        }
        Ok(self.function()?.set_memory_enabled(true)?)
    }
}

/// Stands in for an exporter whose function is closed.
struct Closed(Origin);

impl Exporter for Closed {
    fn origin(&self) -> &Origin {
        &self.0
    }

    fn export(&self, _length_bytes: u64) -> Result<Arc<Buffer>, Error> {
        Err(closed(&self.0))
    }
}

fn closed(origin: &Origin) -> Error {
    Error::Removed { name: origin.to_string() }
}
