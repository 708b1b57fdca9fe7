//! Finding, probing and opening a GPU, and making buffers known to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use peerpath_cuda::{Context, Driver, Error as DriverError, ExternalKind, ExternalMemory, HostKind, Kernels};
use peerpath_exporter::{Buffer, Handle, SourceKind};

use super::address::Address;
use super::errors::{Error, Refusal};
use super::mechanism::Mechanism;
use super::registration::{CudaRegistration, Reach};
use super::sys::RegisteredMemory;
use crate::{Device, DeviceInfo, Registration};

/// An opened GPU.
pub(super) struct CudaDevice {
    pub(super) context: Arc<Context>,
    info: DeviceInfo,
    address: Address,
    /// Compiled when they are first used.
    kernels: OnceLock<Result<Kernels, DriverError>>,
    /// What was taken last, by kind of memory: it is tried first from then on.
    taken: Mutex<HashMap<SourceKind, Mechanism>>,
}

/// Whether the GPU is there.
pub(super) fn probe(address: &Address) -> Result<(), Error> {
    let gpu = address.index;
    let found = Driver::get().and_then(|driver| peerpath_cuda::Gpu::read(driver, gpu));
    found.map(drop).map_err(|source| Error::Open { gpu, source })
}

impl CudaDevice {
    pub(super) fn open(address: Address) -> Result<Self, Error> {
        let gpu = address.index;
        let context = Driver::get().and_then(|driver| Context::open(driver, gpu));
        let context = context.map_err(|source| Error::Open { gpu, source })?;
        let info = DeviceInfo {
            name: gpu.to_string(),
            bdf: context.gpu().bdf,
            driver: Some(format!("CUDA {}", context.driver().version())),
            model: Some(context.gpu().name.clone()),
            ..DeviceInfo::default()
        };
        Ok(Self { context, info, address, kernels: OnceLock::new(), taken: Mutex::default() })
    }

    /// Our kernels, as the driver compiled them.
    pub(super) fn kernels(&self) -> Result<&Kernels, Error> {
        let compiled = self.kernels.get_or_init(|| Kernels::new(&self.context));
        compiled.as_ref().map_err(|source| Error::Kernels { gpu: self.gpu(), source: source.clone() })
    }

    pub(super) fn gpu(&self) -> u32 {
        self.address.index
    }

    /// What is to be tried for this kind of memory.
    fn order(&self, kind: SourceKind) -> Vec<Mechanism> {
        if let Some(asked) = self.address.mechanism {
            return vec![asked];
        }
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).get(&kind).copied();
        let others = Mechanism::order(kind).iter().copied().filter(|mechanism| Some(*mechanism) != taken);
        taken.into_iter().chain(others).collect()
    }

    /// Makes a buffer known by one mechanism.
    fn reach(&self, mechanism: Mechanism, buffer: &Buffer) -> Result<Reach, Refusal> {
        match mechanism {
            Mechanism::ExternalDmaBuf => self.external(ExternalKind::DmaBuf, buffer),
            Mechanism::ExternalFd => self.external(ExternalKind::Opaque, buffer),
            Mechanism::RegisterIoMemory => self.registered(HostKind::Io, buffer),
            Mechanism::RegisterHostMemory => self.registered(HostKind::Memory, buffer),
            Mechanism::DeviceMemory => {
                let memory = buffer.gpu().ok_or(Refusal::NotFor("this is no memory of a GPU"))?;
                self.context.reach(memory.context())?;
                Ok(Reach::Device(Arc::clone(memory)))
            }
        }
    }

    fn external(&self, kind: ExternalKind, buffer: &Buffer) -> Result<Reach, Refusal> {
        let dma_buf = match buffer.handle() {
            Handle::DmaBuf(dma_buf) => dma_buf,
            Handle::DmaBufs(_) => return Err(Refusal::NotFor("each range has a dma-buf of its own")),
            Handle::Memory(_) => return Err(Refusal::NotFor("the memory has no dma-buf")),
            Handle::Withheld(source) => return Err(source.clone().into()),
        };
        // The driver keeps what it takes; the buffer's own stays the buffer's.
        let given_away = dma_buf.try_clone()?;
        Ok(Reach::External(ExternalMemory::new(&self.context, kind, given_away, buffer.length_bytes())?))
    }

    fn registered(&self, kind: HostKind, buffer: &Buffer) -> Result<Reach, Refusal> {
        if kind == HostKind::Memory && buffer.origin().kind == SourceKind::Vfio {
            return Err(Refusal::NotFor("behind a BAR there are no pages"));
        }
        let mapping = buffer.view().mapping();
        let mapping = mapping.ok_or(Refusal::NotFor("this process has it not mapped in one piece"))?;
        Ok(Reach::Registered(RegisteredMemory::new(&self.context, mapping, kind)?))
    }
}

impl Device for CudaDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, crate::Error> {
        let (gpu, kind) = (self.gpu(), buffer.origin().kind);
        let mut refused = Vec::new();
        for mechanism in self.order(kind) {
            match self.reach(mechanism, &buffer) {
                Ok(reach) => {
                    self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, mechanism);
                    return Ok(Box::new(CudaRegistration { reach, mechanism, buffer, device: self }));
                }
                // Whatever else is tried, it will not be had.
                Err(Refusal::Driver(source)) if source.is_loss() => return Err(Error::Failed { gpu, source }.into()),
                Err(refusal) => refused.push((mechanism, refusal)),
            }
        }
        Err(Error::NoMechanism { gpu, kind, refused }.into())
    }
}
