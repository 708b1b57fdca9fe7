//! Which way a cell's data should go, and what is known of the functions that take part.

use std::collections::BTreeMap;

use peerpath_exporter::{Origin, SourceKind};
use peerpath_importers::DeviceInfo;
use peerpath_paths::{Bdf, PathName};

use crate::result::{CellPath, DeviceRecord};

/// What the host says about ways between functions.
pub struct Routes {}

impl Routes {
    /// Of this host.
    pub fn live() -> Self {
        Self {}
    }

    /// The path of a cell as far as it can be told.
    pub fn path(&self, source: &Origin, _importer: Option<Bdf>) -> CellPath {
        let (predicted, observed, evidence) = match source.kind {
            SourceKind::Host | SourceKind::Udmabuf | SourceKind::Heap => {
                (Some(PathName::HostMemory), PathName::HostMemory, "the source is ordinary memory of this host")
            }
            SourceKind::Vfio | SourceKind::Cuda => (None, PathName::Unknown, "the mapping was not observed"),
        };
        CellPath {
            asked: None,
            predicted,
            observed,
            attribute: None,
            dma_address_equals_physical: None,
            max_payload_bytes: None,
            blockers: Vec::new(),
            evidence: vec![evidence.to_owned()],
        }
    }

    /// What is known of a function.
    pub fn device(&self, bdf: Bdf, targets: &[&DeviceInfo]) -> DeviceRecord {
        let target = targets.iter().find(|info| info.bdf == Some(bdf));
        let mut facts = BTreeMap::new();
        if let Some(firmware) = target.and_then(|info| info.firmware.clone()) {
            facts.insert("firmware".to_owned(), firmware.into());
        }
        DeviceRecord { bdf, facts }
    }
}
