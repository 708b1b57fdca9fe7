//! PCI functions bound to VFIO, which import buffers through an I/O address space (IOAS) of iommufd. NVMe drives also
//! transfer data.
//!
//! A drive is only read unless [`Device::open_writable`] names the blocks that may be overwritten.

mod address;
mod data_plane;
mod device;
mod errors;
mod far;
mod nvme;
mod registration;

use std::sync::Arc;

use peerpath_paths::{Bdf, Explained, Severity, Tree};

use crate::{
    Availability, Capabilities, DataPlane, DataPlaneSettings, DeferredRelease, Direction, Discovered, Importer, Op,
    OpSpec, QueuePairOptions, Role, Usage,
};
use address::Address;
pub use address::{AddressError, Blocks};
use data_plane::NvmeDataPlane;
pub use device::Device;
pub use errors::Error;
pub use nvme::{DriveError, Status as DriveStatus};
pub use registration::Registration;

/// Importer of PCI functions: `iommufd:BDF[?write=LBA+COUNT]`.
pub struct Iommufd;

static OPS: &[OpSpec] = &[
    OpSpec { op: Op::Export, role: Role::Export, summary: "export the source as a dma-buf" },
    OpSpec { op: Op::Attach, role: Role::Attach, summary: "attach iommufd to the dma-buf, as part of map" },
    OpSpec { op: Op::Map, role: Role::Register, summary: "map the buffer into the function's address space" },
    OpSpec {
        op: Op::Read,
        role: Role::Transfer(Direction::IntoSource),
        summary: "an NVMe drive reads its blocks into the buffer",
    },
    OpSpec {
        op: Op::Write,
        role: Role::Transfer(Direction::OutOfSource),
        summary: "an NVMe drive writes the buffer to the blocks that may be overwritten",
    },
    OpSpec { op: Op::Unmap, role: Role::Unregister, summary: "unmap the buffer" },
    OpSpec { op: Op::Detach, role: Role::Detach, summary: "detach iommufd from the dma-buf, as part of unmap" },
];

impl Importer for Iommufd {
    fn kind(&self) -> &'static str {
        "iommufd"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { ops: OPS, own_address_space: true, ..Capabilities::default() }
    }

    fn usage(&self) -> Usage {
        Usage {
            form: address::FORM,
            summary: "a PCI function bound to VFIO; the source is mapped into its IOAS; NVMe drives also transfer data",
        }
    }

    fn discover(&self) -> Vec<Discovered> {
        let tree = Tree::live();
        let functions = tree.names("sys/bus/pci/devices").into_iter().filter_map(|name| name.parse().ok());
        functions
            .filter(|bdf| is_candidate(&tree, &format!("sys/bus/pci/devices/{bdf}")))
            .map(|bdf| Discovered { target: format!("{}:{bdf}", self.kind()), bdf: Some(bdf) })
            .collect()
    }

    fn vfio_function(&self, address: &str) -> Option<Bdf> {
        device::parse(address).ok().map(|address| address.bdf)
    }

    fn probe(&self, address: &str) -> Result<Availability, crate::Error> {
        match device::parse(address).and_then(|address| device::probe(address.bdf)) {
            Ok(()) => Ok(Availability::Ready),
            Err(error) if error.severity() == Severity::Unavailable => Ok(Availability::Waived(error.explanation())),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, address: &str, _options: &QueuePairOptions) -> Result<Arc<dyn crate::Device>, crate::Error> {
        let Address { bdf, write } = device::parse(address)?;
        Ok(Arc::new(Device::open_with(bdf, write)?))
    }
}

/// Whether the function is bound to a VFIO driver, or is an NVMe drive.
fn is_candidate(tree: &Tree, function: &str) -> bool {
    let class = || u32::from_str_radix(tree.text(&format!("{function}/class"))?.strip_prefix("0x")?, 16).ok();
    !tree.names(&format!("{function}/vfio-dev")).is_empty() || class() == Some(nvme::CLASS)
}

impl crate::Registration for Registration {
    fn mechanism(&self) -> &'static str {
        self.mechanism()
    }

    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, crate::Error> {
        Ok(Box::new(NvmeDataPlane::new(self, settings)?))
    }

    fn unregister(mut self: Box<Self>) -> Result<DeferredRelease, crate::Error> {
        self.unmap()?;
        Ok(DeferredRelease::new(self))
    }
}
