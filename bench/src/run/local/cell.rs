//! A cell whose source and target are both on this host.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Exporter, HostExporter, OpenOptions};
use peerpath_importers::{Device, Registration};
use peerpath_paths::{Explanation, PathName};

use super::super::cell_error::CellError;
use super::super::context::Context;
use super::super::export_spec::ExportSpec;
use crate::plan::{CellSpec, Mechanism};
use crate::result::CellPath;
use crate::route::Routes;

/// A cell whose source and target are open.
#[derive(Clone, Copy)]
pub(super) struct LocalCell<'a> {
    pub(super) context: Context<'a>,
    pub(super) exporter: &'a dyn Exporter,
    pub(super) device: &'a Arc<dyn Device>,
    pub(super) spec: &'a CellSpec,
    pub(super) export: &'a ExportSpec,
}

impl LocalCell<'_> {
    pub(super) fn export(&self) -> Result<Arc<Buffer>, peerpath_exporter::Error> {
        self.export.export(self.exporter)
    }

    pub(super) fn register(&self, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, peerpath_importers::Error> {
        Arc::clone(self.device).register(buffer)
    }

    /// Registers the buffer once, untimed, and records in `path` the path that the kernel chose.
    pub(super) fn register_observed(
        &self,
        buffer: &Arc<Buffer>,
        routes: &mut Routes,
        path: &mut CellPath,
    ) -> Result<Box<dyn Registration>, CellError> {
        log::info!("register {} bytes of {} with {}", buffer.length_bytes(), buffer.origin(), self.device.info().name);
        let register = || self.register(Arc::clone(buffer));
        Ok(routes.observed(path, buffer.origin(), self.device.info(), register)?)
    }

    pub(super) fn is_staged(&self) -> bool {
        self.spec.asked == Some(PathName::Staged)
    }

    /// Allocates host memory for a staged copy.
    pub(super) fn staging(&self, length_bytes: u64) -> Result<HostExporter, CellError> {
        if self.spec.mechanism == Mechanism::MrPerRange {
            return Err(CellError::waived(
                "cannot register a staging buffer range by range",
                Explanation::uncaused(
                    "The staging buffer is one range of host memory.",
                    "Omit mechanism mr-per-range, or path staged.",
                ),
            ));
        }
        Ok(HostExporter::open(length_bytes, &OpenOptions::default())?)
    }

    pub(super) fn note_staging(&self, length_bytes: u64, path: &mut CellPath) {
        path.observed = PathName::Staged;
        path.evidence = vec![format!(
            "{} registered {length_bytes} bytes of host memory and not the BAR; the CPU copied between the two",
            self.device.info().name
        )];
    }
}
