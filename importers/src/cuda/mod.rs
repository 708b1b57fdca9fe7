//! GPUs, through the CUDA driver: copy engines and kernels between a buffer and the GPU's own memory.

mod address;
mod data_plane;
mod device;
mod errors;
mod mechanism;
mod registration;
mod sys;

use std::sync::Arc;

use peerpath_cuda::{Driver, Gpu};
use peerpath_paths::{Explained, Severity};

use crate::{Availability, Connection, Device, Direction, Discovered, Importer, MechanismSpec, Op, OpSpec, Role};
use address::Address;
use device::CudaDevice;
use errors::Error;

/// `cuda:N[?mechanism=M]`.
pub(crate) struct Cuda;

static OPS: &[OpSpec] = &[
    OpSpec { op: Op::Export, role: Role::Export, summary: "make a dma-buf of the source" },
    OpSpec { op: Op::Register, role: Role::Register, summary: "make the buffer known to the GPU, by --mechanism" },
    OpSpec {
        op: Op::CopyIn,
        role: Role::Transfer(Direction::IntoSource),
        summary: "a copy engine copies the GPU's memory into the buffer",
    },
    OpSpec {
        op: Op::CopyOut,
        role: Role::Transfer(Direction::OutOfSource),
        summary: "a copy engine copies the buffer into the GPU's memory",
    },
    OpSpec {
        op: Op::KernelStore,
        role: Role::Transfer(Direction::IntoSource),
        summary: "a kernel stores to the buffer, 4 to 16 bytes a thread",
    },
    OpSpec {
        op: Op::KernelLoad,
        role: Role::Transfer(Direction::OutOfSource),
        summary: "a kernel loads from the buffer, 4 to 16 bytes a thread",
    },
    OpSpec { op: Op::Unregister, role: Role::Unregister, summary: "take the registration back" },
];

impl Importer for Cuda {
    fn kind(&self) -> &'static str {
        "cuda"
    }

    fn form(&self) -> &'static str {
        "cuda:N[?mechanism=M]"
    }

    fn summary(&self) -> &'static str {
        "a GPU of NVIDIA's, which copies between the buffer and its own memory"
    }

    fn ops(&self) -> &'static [OpSpec] {
        OPS
    }

    fn mechanisms(&self) -> &'static [MechanismSpec] {
        mechanism::SPECS
    }

    fn discover(&self) -> Vec<Discovered> {
        let gpus = Driver::get().and_then(Gpu::all).unwrap_or_default();
        gpus.into_iter()
            .map(|gpu| Discovered { target: format!("{}:{}", self.kind(), gpu.index), bdf: gpu.bdf })
            .collect()
    }

    fn probe(&self, address: &str) -> Result<Availability, crate::Error> {
        match parse(address).and_then(|address| device::probe(&address)) {
            Ok(()) => Ok(Availability::Ready),
            Err(error) if error.severity() == Severity::Unavailable => Ok(Availability::Waived(error.explanation())),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, address: &str, _connection: &Connection) -> Result<Arc<dyn Device>, crate::Error> {
        Ok(Arc::new(CudaDevice::open(parse(address)?)?))
    }
}

fn parse(text: &str) -> Result<Address, Error> {
    text.parse().map_err(|source| Error::Address { text: text.chars().take(64).collect(), source })
}
