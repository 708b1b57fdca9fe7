//! Opens sources and targets. Before that, locks the function that the source or target uses through VFIO, and binds the
//! function to vfio-pci if it has no driver.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use peerpath_exporter::{Exporter, OpenOptions, Source};
use peerpath_host::{Hold, Options};
use peerpath_importers::{Availability, Device, QueuePairOptions};
use peerpath_paths::{Bdf, Severity};

use crate::failure::Failure;
use crate::plan::Target;

/// An open source or target, with the lock of its function. The function is closed before the lock is released.
pub(super) struct Held<T> {
    opened: T,
    _hold: Option<Hold>,
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.opened
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.opened
    }
}

/// Opens a source, with the lock of its function if it is a BAR.
pub(super) fn open_source(
    source: &Source,
    open: &OpenOptions,
    changes: &Options,
) -> Result<Held<Box<dyn Exporter>>, Failure> {
    log::info!("open the source {source}");
    let _hold = function_of(source).map(|bdf| acquire(bdf, changes)).transpose()?;
    let opened = source.open(open).map_err(|error| Failure::of(&error))?;
    Ok(Held { opened, _hold })
}

/// Opens a target, if it is available. If `source` uses the same function, the function is locked already, and a process
/// acquires each lock only once.
pub(super) fn open_target(
    target: &Target,
    connection: &QueuePairOptions,
    source: Option<&Source>,
    changes: &Options,
) -> Result<Held<Arc<dyn Device>>, Failure> {
    log::info!("open the target {target}");
    let function = target.importer.vfio_function(&target.address);
    let function = function.filter(|bdf| source.and_then(function_of) != Some(*bdf));
    let _hold = function.map(|bdf| acquire(bdf, changes)).transpose()?;
    Ok(Held { opened: open_usable(target, connection)?, _hold })
}

fn open_usable(target: &Target, connection: &QueuePairOptions) -> Result<Arc<dyn Device>, Failure> {
    match target.importer.probe(&target.address) {
        Ok(Availability::Waived(explanation)) => {
            return Err(Failure::new(format!("cannot use {target}"), explanation, Severity::Unavailable));
        }
        // A target that cannot import dma-bufs still supports the host-memory baseline. It rejects other sources at
        // registration.
        Ok(Availability::Ready | Availability::HostMemoryOnly(_)) => target.importer.open(&target.address, connection),
        Err(error) => Err(error),
    }
    .map_err(|error| Failure::of(&error))
}

fn acquire(bdf: Bdf, changes: &Options) -> Result<Hold, Failure> {
    Hold::acquire(bdf, changes).map_err(|error| Failure::of(&error))
}

fn function_of(source: &Source) -> Option<Bdf> {
    match source {
        Source::Vfio { bdf, .. } => Some(*bdf),
        _ => None,
    }
}
