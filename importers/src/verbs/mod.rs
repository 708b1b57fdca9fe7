//! Importer of RDMA devices, through libibverbs.
//!
//! [`Device::open`] opens a NIC, [`Device::register`] registers a buffer, and [`Registration::loopback`] reads and writes the
//! buffer through the NIC. For measurements, create data planes through the trait [`crate::Registration`].

mod address;
mod bounds;
mod data_plane;
mod device;
mod driver;
mod errors;
mod facts;
mod queue_pairs;
mod registration;
mod ring;
mod status;
mod sys;
mod sysfs;
mod unconnected;

use std::collections::BTreeMap;
use std::sync::Arc;

use peerpath_paths::{Explained, Severity, Tree};

use crate::{
    Availability, Capabilities, ConnectedEnd, DataPlane, DataPlaneSettings, DeferredRelease, Direction, Discovered,
    EndSettings, Importer, Loopback, Op, OpSpec, QueuePairOptions, Revocation, Role, UnconnectedEnd, Usage,
};
pub use address::AddressError;
use data_plane::{FarMemory, QueuePairDataPlane};
pub use device::Device;
pub use errors::Error;
pub use registration::Registration;
use unconnected::UnconnectedQueuePairs;

/// Importer of RDMA devices: `verbs:DEV[/PORT]`.
pub struct Verbs;

static OPS: &[OpSpec] = &[
    OpSpec { op: Op::Export, role: Role::Export, summary: "export the source as a dma-buf" },
    OpSpec { op: Op::Attach, role: Role::Attach, summary: "attach the NIC to the dma-buf, as part of register" },
    OpSpec { op: Op::Map, role: Role::Map, summary: "map the dma-buf for the NIC, as part of register" },
    OpSpec { op: Op::Allocate, role: Role::Allocate, summary: "allocate the IOVA of the mapping, as part of map" },
    OpSpec {
        op: Op::Link,
        role: Role::Link,
        summary: "link the ranges to the IOVA (sum of the calls), as part of map",
    },
    OpSpec { op: Op::Sync, role: Role::Sync, summary: "synchronize the IOMMU with the linked ranges, as part of map" },
    OpSpec { op: Op::Register, role: Role::Register, summary: "register the buffer as a memory region" },
    OpSpec {
        op: Op::Write,
        role: Role::Transfer(Direction::IntoSource),
        summary: "RDMA write from host memory into the buffer",
    },
    OpSpec {
        op: Op::WriteImm,
        role: Role::Transfer(Direction::IntoSource),
        summary: "RDMA write with immediate data, which consumes a receive",
    },
    OpSpec {
        op: Op::Read,
        role: Role::Transfer(Direction::OutOfSource),
        summary: "RDMA read out of the buffer into host memory",
    },
    OpSpec {
        op: Op::Send,
        role: Role::Transfer(Direction::IntoSource),
        summary: "send from host memory into a receive posted on the buffer",
    },
    OpSpec {
        op: Op::FetchAdd,
        role: Role::Transfer(Direction::IntoSource),
        summary: "add to 8 bytes of the buffer and return the previous value",
    },
    OpSpec {
        op: Op::CmpSwap,
        role: Role::Transfer(Direction::IntoSource),
        summary: "replace 8 bytes of the buffer if they have the expected value, and return the previous value",
    },
    OpSpec { op: Op::Unregister, role: Role::Unregister, summary: "unregister the buffer" },
    OpSpec { op: Op::Unmap, role: Role::Unmap, summary: "unmap the dma-buf, as part of unregister" },
    OpSpec { op: Op::Detach, role: Role::Detach, summary: "detach the NIC from the dma-buf, as part of unregister" },
    OpSpec {
        op: Op::RevokeReset,
        role: Role::Revoke(Revocation::Reset),
        summary: "reset the function of the source during transfers",
    },
    OpSpec {
        op: Op::RevokeMemoryOff,
        role: Role::Revoke(Revocation::MemoryOff),
        summary: "turn memory decoding of the function off during transfers",
    },
    OpSpec {
        op: Op::RevokeD3,
        role: Role::Revoke(Revocation::D3),
        summary: "put the function into D3hot during transfers",
    },
    OpSpec {
        op: Op::RevokeHotReset,
        role: Role::Revoke(Revocation::HotReset),
        summary: "reset the bus of the function during transfers, if the function is alone there",
    },
    OpSpec {
        op: Op::RevokeClose,
        role: Role::Revoke(Revocation::Close),
        summary: "close the function during transfers",
    },
];

impl Importer for Verbs {
    fn kind(&self) -> &'static str {
        "verbs"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { ops: OPS, queue_pairs: true, ..Capabilities::default() }
    }

    fn usage(&self) -> Usage {
        Usage {
            form: address::FORM,
            summary: "an RDMA device (rxe0, mlx5_0): transfers between the source and host memory, in loopback",
        }
    }

    fn discover(&self) -> Vec<Discovered> {
        let tree = Tree::live();
        let Ok(list) = sys::DeviceList::read() else { return Vec::new() };
        list.iter()
            .map(|device| {
                let name = device.name();
                Discovered { target: format!("{}:{name}", self.kind()), bdf: sysfs::function(&tree, &name) }
            })
            .collect()
    }

    fn on_demand_paging(&self) -> BTreeMap<String, bool> {
        let Ok(list) = sys::DeviceList::read() else { return BTreeMap::new() };
        let pages = |device: sys::ListedDevice<'_>| Some((device.name(), device.open().ok()?.pages_on_demand().ok()?));
        list.iter().filter_map(pages).collect()
    }

    fn library(&self) -> Result<(), crate::Error> {
        Ok(device::list().map(drop)?)
    }

    fn probe(&self, address: &str) -> Result<Availability, crate::Error> {
        match device::probe(address, &Tree::live()) {
            Ok(()) => Ok(Availability::Ready),
            Err(error) => match error {
                Error::NoDmaBuf { .. } | Error::NoFunction { .. } => {
                    Ok(Availability::HostMemoryOnly(error.explanation()))
                }
                _ if error.severity() == Severity::Unavailable => Ok(Availability::Waived(error.explanation())),
                _ => Err(error.into()),
            },
        }
    }

    fn open(&self, address: &str, options: &QueuePairOptions) -> Result<Arc<dyn crate::Device>, crate::Error> {
        Ok(Arc::new(Device::open_with(address, options)?))
    }
}

impl Registration {
    /// Connects two queue pairs of this host with each other, for at most `depth` transfers in flight between host memory
    /// and the buffer.
    ///
    /// # Errors
    /// The depth exceeds the queues of the device, or the queue pairs cannot be created or connected.
    pub fn loopback(&self, depth: u32) -> Result<Loopback<'_>, crate::Error> {
        Loopback::new(self, depth, self.buffer.length_bytes())
    }
}

impl crate::Registration for Registration {
    fn mechanism(&self) -> &'static str {
        self.mechanism()
    }

    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, crate::Error> {
        Ok(Box::new(QueuePairDataPlane::new(self, settings)?))
    }

    fn end(&self, settings: EndSettings) -> Result<Box<dyn UnconnectedEnd<'_> + '_>, crate::Error> {
        Ok(Box::new(UnconnectedQueuePairs::new(self, settings)?))
    }

    fn both_ends(
        &self,
        settings: EndSettings,
        far_bytes: u64,
    ) -> Result<[Box<dyn ConnectedEnd + '_>; 2], crate::Error> {
        let memory = FarMemory::new(&self.device, far_bytes)?;
        let (far, near) =
            (UnconnectedQueuePairs::of_far_side(self, settings, memory)?, UnconnectedQueuePairs::new(self, settings)?);
        let endpoints = (far.endpoint().clone(), near.endpoint().clone());
        Ok([Box::new(far).connect(&endpoints.1)?, Box::new(near).connect(&endpoints.0)?])
    }

    fn unregister(mut self: Box<Self>) -> Result<DeferredRelease, crate::Error> {
        self.deregister()?;
        Ok(DeferredRelease::new(self))
    }
}
