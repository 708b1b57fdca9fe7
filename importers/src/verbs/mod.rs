//! RDMA devices, through libibverbs.

mod address;
mod apart;
mod bounds;
mod data_plane;
mod device;
mod driver;
mod end;
mod errors;
mod facts;
mod registration;
mod ring;
mod status;
mod sys;
mod sysfs;

use std::collections::BTreeMap;
use std::sync::Arc;

use peerpath_paths::{Explained, Severity, Tree};

use crate::{Availability, Connection, Device, Direction, Discovered, Importer, Op, OpSpec, Role};
use address::Address;
use device::VerbsDevice;
use errors::Error;

/// `verbs:DEV[/PORT]`.
pub(crate) struct Verbs;

static OPS: &[OpSpec] = &[
    OpSpec { op: Op::Export, role: Role::Export, summary: "make a dma-buf of the source" },
    OpSpec { op: Op::Attach, role: Role::Attach, summary: "attach the NIC to the dma-buf, inside of register" },
    OpSpec { op: Op::Map, role: Role::Map, summary: "map the dma-buf for the NIC, inside of register" },
    OpSpec { op: Op::Register, role: Role::Register, summary: "register the buffer as a memory region" },
    OpSpec {
        op: Op::Write,
        role: Role::Transfer(Direction::IntoSource),
        summary: "RDMA write from host memory into the buffer",
    },
    OpSpec {
        op: Op::WriteImm,
        role: Role::Transfer(Direction::IntoSource),
        summary: "RDMA write that the buffer's side is told of, by a receive",
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
        summary: "add to 8 bytes of the buffer, and bring what was there before",
    },
    OpSpec {
        op: Op::CmpSwap,
        role: Role::Transfer(Direction::IntoSource),
        summary: "replace 8 bytes of the buffer if they are as expected, and bring what was there before",
    },
    OpSpec { op: Op::Unregister, role: Role::Unregister, summary: "take the registration back" },
];

impl Importer for Verbs {
    fn kind(&self) -> &'static str {
        "verbs"
    }

    fn form(&self) -> &'static str {
        "verbs:DEV[/PORT]"
    }

    fn summary(&self) -> &'static str {
        "an RDMA device (rxe0, mlx5_0), which moves data between the buffer and host memory"
    }

    fn ops(&self) -> &'static [OpSpec] {
        OPS
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

    fn probe(&self, address: &str) -> Result<Availability, crate::Error> {
        match parse(address).and_then(|address| device::probe(&address, &Tree::live())) {
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

    fn has_connections(&self) -> bool {
        true
    }

    fn open(&self, address: &str, connection: &Connection) -> Result<Arc<dyn Device>, crate::Error> {
        let address = parse(address)?;
        Ok(Arc::new(VerbsDevice::open(&address, connection, &Tree::live())?))
    }
}

fn parse(text: &str) -> Result<Address, Error> {
    text.parse().map_err(|source| Error::Address { text: text.chars().take(64).collect(), source })
}
