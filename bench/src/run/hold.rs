//! Opens sources and targets. A function that they use through VFIO is locked first, and bound to vfio-pci if it has no driver.

use std::ops::Deref;
use std::sync::Arc;

use peerpath_exporter::{Exporter, OpenOptions, Source};
use peerpath_host::{Hold, Options};
use peerpath_importers::Device;
use peerpath_paths::Bdf;

use crate::failure::Failure;

/// An open source or target, with the hold of its function. The hold is released after the function was closed.
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

/// Opens a source.
pub(super) fn source(
    source: &Source,
    open: &OpenOptions,
    changes: &Options,
) -> Result<Held<Box<dyn Exporter>>, Failure> {
    let _hold = function_of(source).map(|bdf| acquire(bdf, changes)).transpose()?;
    let opened = source.open(open).map_err(|error| Failure::of(&error))?;
    Ok(Held { opened, _hold })
}

/// Opens a target with `open`. The function of `source` is held already: a lock is acquired once per process.
pub(super) fn target(
    function: Option<Bdf>,
    source: Option<&Source>,
    changes: &Options,
    open: impl FnOnce() -> Result<Arc<dyn Device>, Failure>,
) -> Result<Held<Arc<dyn Device>>, Failure> {
    let function = function.filter(|bdf| source.and_then(function_of) != Some(*bdf));
    let _hold = function.map(|bdf| acquire(bdf, changes)).transpose()?;
    Ok(Held { opened: open()?, _hold })
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
