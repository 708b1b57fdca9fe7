//! Importer of GPUs, through the CUDA driver. Copy engines and kernels transfer data between a buffer and GPU memory.

mod address;
mod data_plane;
mod device;
mod errors;
mod mechanism;
mod registration;
mod sys;

use std::sync::Arc;

use peerpath_cuda::Driver;
use peerpath_paths::{Explained, Severity};

use crate::{
    Availability, Capabilities, DataPlane, DataPlaneSettings, DeferredRelease, Direction, Discovered, Importer, Op,
    OpSpec, QueuePairOptions, Role, Usage,
};
use address::Address;
pub use address::AddressError;
use data_plane::CudaDataPlane;
pub use device::Device;
pub use errors::Error;
pub use mechanism::Mechanism;
pub use registration::Registration;

/// Importer of GPUs: `cuda:N[?mechanism=M]`.
pub struct Cuda;

static OPS: &[OpSpec] = &[
    OpSpec { op: Op::Export, role: Role::Export, summary: "export the source as a dma-buf" },
    OpSpec { op: Op::Register, role: Role::Register, summary: "make the buffer accessible to the GPU" },
    OpSpec {
        op: Op::CopyIn,
        role: Role::Transfer(Direction::IntoSource),
        summary: "a copy engine copies GPU memory into the buffer",
    },
    OpSpec {
        op: Op::CopyOut,
        role: Role::Transfer(Direction::OutOfSource),
        summary: "a copy engine copies the buffer into GPU memory",
    },
    OpSpec {
        op: Op::KernelStore,
        role: Role::Transfer(Direction::IntoSource),
        summary: "a CUDA kernel stores to the buffer, 4 to 16 bytes per thread",
    },
    OpSpec {
        op: Op::KernelLoad,
        role: Role::Transfer(Direction::OutOfSource),
        summary: "a CUDA kernel loads from the buffer, 4 to 16 bytes per thread",
    },
    OpSpec { op: Op::Unregister, role: Role::Unregister, summary: "unregister the buffer" },
];

impl Importer for Cuda {
    fn kind(&self) -> &'static str {
        "cuda"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { ops: OPS, mechanisms: mechanism::SPECS, ..Capabilities::default() }
    }

    fn usage(&self) -> Usage {
        Usage { form: address::FORM, summary: "an NVIDIA GPU, which copies between the buffer and its own memory" }
    }

    fn discover(&self) -> Vec<Discovered> {
        let gpus = Driver::get().and_then(Driver::gpus).unwrap_or_default();
        gpus.into_iter()
            .map(|gpu| Discovered { target: format!("{}:{}", self.kind(), gpu.index), bdf: gpu.bdf })
            .collect()
    }

    fn library(&self) -> Result<(), crate::Error> {
        Driver::get().map(drop).map_err(crate::Error::new)
    }

    fn probe(&self, address: &str) -> Result<Availability, crate::Error> {
        match device::parse(address).and_then(|address| device::probe(address.index)) {
            Ok(()) => Ok(Availability::Ready),
            Err(error) if error.severity() == Severity::Unavailable => Ok(Availability::Waived(error.explanation())),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, address: &str, _options: &QueuePairOptions) -> Result<Arc<dyn crate::Device>, crate::Error> {
        let Address { index, mechanism } = device::parse(address)?;
        Ok(Arc::new(Device::open_with(index, mechanism)?))
    }
}

impl crate::Registration for Registration {
    fn mechanism(&self) -> &'static str {
        self.mechanism().as_str()
    }

    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, crate::Error> {
        Ok(Box::new(CudaDataPlane::new(self, settings)?))
    }

    fn unregister(mut self: Box<Self>) -> Result<DeferredRelease, crate::Error> {
        self.release()?;
        Ok(DeferredRelease::new(self))
    }
}
