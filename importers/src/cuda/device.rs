//! Finding, probing and opening a GPU, and making buffers known to it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use peerpath_cuda::{Context, Driver, Error as DriverError, ExternalKind, HostKind, Kernels};
use peerpath_exporter::{Buffer, Handle, HostMemory, SourceKind, page_bytes};
use peerpath_paths::{NvidiaModule, Tree};

use super::address::Address;
use super::errors::{Error, Refusal};
use super::mechanism::Mechanism;
use super::sys::ReachableMemory;
use crate::DeviceInfo;

/// An opened GPU.
pub(super) struct CudaDevice {
    pub(super) context: Arc<Context>,
    pub(super) info: DeviceInfo,
    address: Address,
    /// Compiled when they are first used.
    kernels: OnceLock<Result<Kernels, DriverError>>,
    /// What was taken last, by kind of memory: it is tried first from then on.
    pub(super) taken: Mutex<HashMap<SourceKind, Mechanism>>,
}

/// Whether the GPU is there.
pub(super) fn probe(address: &Address) -> Result<(), Error> {
    let gpu = address.index;
    let found = Driver::get().and_then(|driver| driver.gpu(gpu));
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
            driver: Some(described(context.driver())),
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
    pub(super) fn order(&self, kind: SourceKind) -> Vec<Mechanism> {
        if let Some(asked) = self.address.mechanism {
            return vec![asked];
        }
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).get(&kind).copied();
        let others = Mechanism::order(kind).iter().copied().filter(|mechanism| Some(*mechanism) != taken);
        taken.into_iter().chain(others).collect()
    }

    /// Makes a buffer known by one mechanism.
    pub(super) fn reach(&self, mechanism: Mechanism, buffer: &Buffer) -> Result<ReachableMemory, Refusal> {
        match mechanism {
            Mechanism::ExternalDmaBuf => self.external(ExternalKind::DmaBuf, buffer),
            Mechanism::ExternalFd => self.external(ExternalKind::Opaque, buffer),
            Mechanism::RegisterIoMemory => self.registered(HostKind::Io, buffer),
            Mechanism::RegisterHostMemory => self.registered(HostKind::Memory, buffer),
            Mechanism::DeviceMemory => {
                let memory = buffer.gpu().ok_or(Refusal::NotFor("this is no memory of a GPU"))?;
                Ok(ReachableMemory::of_gpu(&self.context, memory)?)
            }
        }
    }

    fn external(&self, kind: ExternalKind, buffer: &Buffer) -> Result<ReachableMemory, Refusal> {
        let dma_buf = match buffer.handle() {
            Handle::DmaBuf(dma_buf) => dma_buf,
            Handle::DmaBufs(_) => return Err(Refusal::NotFor("each range has a dma-buf of its own")),
            Handle::Memory(_) => return Err(Refusal::NotFor("the memory has no dma-buf")),
            Handle::Withheld(source) => return Err(source.clone().into()),
        };
        // The driver keeps what it takes; the buffer's own stays the buffer's.
        let given_away = dma_buf.try_clone()?;
        Ok(ReachableMemory::import(&self.context, kind, given_away, buffer.length_bytes())?)
    }

    fn registered(&self, kind: HostKind, buffer: &Buffer) -> Result<ReachableMemory, Refusal> {
        if kind == HostKind::Memory && buffer.origin().kind == SourceKind::Vfio {
            return Err(Refusal::NotFor("behind a BAR there are no pages"));
        }
        let mapping = buffer.view().mapping();
        let mapping = mapping.ok_or(Refusal::NotFor("this process has it not mapped in one piece"))?;
        let registered = match kind {
            HostKind::Memory => ReachableMemory::register(&self.context, mapping, kind),
            HostKind::Io => self.registered_io(buffer, &mapping),
        };
        Ok(registered?)
    }

    /// Of memory that is no pages the kernel module takes what it finds in the page tables, and brings nothing in; VFIO fills
    /// them page by page, at the first access to each. So what is refused may be taken once all of it was looked at. Whether
    /// that is the reason the first page tells: looking at a large BAR takes long.
    fn registered_io(&self, buffer: &Buffer, mapping: &HostMemory) -> Result<ReachableMemory, DriverError> {
        let register = |memory: HostMemory| ReachableMemory::register(&self.context, memory, HostKind::Io);
        let refusal = match register(mapping.clone()) {
            Err(error) if !error.is_loss() => error,
            registered => return registered,
        };
        let page_bytes = page_bytes();
        let look_at = |length_bytes| look_at(buffer, length_bytes, page_bytes).is_ok();
        if look_at(page_bytes) && register(mapping.first(page_bytes)).is_ok() && look_at(buffer.length_bytes()) {
            return register(mapping.clone());
        }
        Err(refusal)
    }
}

/// `580.95.05, CUDA 13.0`; without the first where this machine does not show its kernel module.
fn described(driver: &Driver) -> String {
    let module = NvidiaModule::read(&Tree::live()).and_then(|module| module.version);
    let version = module.map_or_else(String::new, |version| format!("{version}, "));
    format!("{version}CUDA {}", driver.version())
}

/// Reads a little of every page of the buffer's front.
fn look_at(buffer: &Buffer, length_bytes: u64, page_bytes: u64) -> io::Result<()> {
    let mut offset = 0;
    while offset < length_bytes.min(buffer.length_bytes()) {
        buffer.view().read(offset, &mut [0])?;
        offset += page_bytes;
    }
    Ok(())
}
