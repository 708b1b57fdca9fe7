//! Opening a GPU, and giving it access to buffers.

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

/// An open GPU. Clones share it.
#[derive(Clone)]
pub struct Device {
    pub(super) opened: Arc<OpenGpu>,
}

impl Device {
    /// Opens a GPU by its number in the driver's enumeration, from 0. Loads the driver if necessary.
    ///
    /// # Errors
    /// The driver is not installed, the GPU does not exist, or the driver failed.
    pub fn open(index: u32) -> Result<Self, Error> {
        Self::open_with(index, None)
    }

    /// Like [`Device::open`], but uses one mechanism for every buffer. `None` tries each mechanism that applies to the
    /// memory, in order.
    ///
    /// # Errors
    /// Same as [`Device::open`].
    pub fn open_with(index: u32, mechanism: Option<Mechanism>) -> Result<Self, Error> {
        Ok(Self { opened: Arc::new(OpenGpu::open(Address { index, mechanism })?) })
    }

    /// Returns the name, model, PCI function and driver of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.opened.info
    }
}

/// State of an open GPU, shared by clones of [`Device`] and by registrations.
pub(super) struct OpenGpu {
    pub(super) context: Arc<Context>,
    pub(super) info: DeviceInfo,
    address: Address,
    /// Copy kernels, compiled at the first use.
    kernels: OnceLock<Result<Kernels, DriverError>>,
    /// Last mechanism that succeeded, per kind of memory. Tried first for the next buffer.
    pub(super) accepted: Mutex<HashMap<SourceKind, Mechanism>>,
}

/// Parses the address of a GPU: `N[?mechanism=M]`.
pub(super) fn parse(text: &str) -> Result<Address, Error> {
    text.parse().map_err(|source| Error::Address {
        target: format!("cuda:{}", text.chars().take(64).collect::<String>()),
        source,
    })
}

/// Checks that the driver enumerates this GPU.
pub(super) fn probe(gpu: u32) -> Result<(), Error> {
    let found = Driver::get().and_then(|driver| driver.gpu(gpu));
    found.map(drop).map_err(|source| Error::Open { gpu, source })
}

impl OpenGpu {
    fn open(address: Address) -> Result<Self, Error> {
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
        Ok(Self { context, info, address, kernels: OnceLock::new(), accepted: Mutex::default() })
    }

    /// Returns the copy kernels, compiled for this GPU.
    pub(super) fn kernels(&self) -> Result<&Kernels, Error> {
        let compiled = self.kernels.get_or_init(|| Kernels::new(&self.context));
        compiled.as_ref().map_err(|source| Error::Kernels { gpu: self.gpu(), source: source.clone() })
    }

    pub(super) fn gpu(&self) -> u32 {
        self.address.index
    }

    /// Returns the mechanisms to try for this kind of memory, in order.
    pub(super) fn order(&self, kind: SourceKind) -> Vec<Mechanism> {
        if let Some(asked) = self.address.mechanism {
            return vec![asked];
        }
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner).get(&kind).copied();
        let others = Mechanism::order(kind).iter().copied().filter(|mechanism| Some(*mechanism) != accepted);
        accepted.into_iter().chain(others).collect()
    }

    /// Gives the GPU access to a buffer by one mechanism.
    pub(super) fn reach(&self, mechanism: Mechanism, buffer: &Buffer) -> Result<ReachableMemory, Refusal> {
        match mechanism {
            Mechanism::ExternalDmaBuf => self.external(ExternalKind::DmaBuf, buffer),
            Mechanism::ExternalFd => self.external(ExternalKind::Opaque, buffer),
            Mechanism::RegisterIoMemory => self.registered(HostKind::Io, buffer),
            Mechanism::RegisterHostMemory => self.registered(HostKind::Memory, buffer),
            Mechanism::DeviceMemory => {
                let memory = buffer.gpu().ok_or(Refusal::NotApplicable("the mechanism supports only GPU memory"))?;
                Ok(ReachableMemory::of_gpu(&self.context, memory)?)
            }
        }
    }

    fn external(&self, kind: ExternalKind, buffer: &Buffer) -> Result<ReachableMemory, Refusal> {
        let dma_buf = match buffer.handle() {
            Handle::DmaBuf(dma_buf) => dma_buf,
            Handle::DmaBufs(_) => return Err(Refusal::NotApplicable("each range is a separate dma-buf")),
            Handle::Memory(_) => return Err(Refusal::NotApplicable("the memory was not exported as a dma-buf")),
            Handle::GpuNotExported(source) => return Err(source.clone().into()),
        };
        // The driver takes ownership of the file descriptor that it imports, so pass a duplicate.
        let duplicate = dma_buf.try_clone()?;
        Ok(ReachableMemory::import(&self.context, kind, duplicate, buffer.length_bytes())?)
    }

    fn registered(&self, kind: HostKind, buffer: &Buffer) -> Result<ReachableMemory, Refusal> {
        if kind == HostKind::Memory && buffer.origin().kind == SourceKind::Vfio {
            return Err(Refusal::NotApplicable("a BAR is MMIO and has no struct pages to pin"));
        }
        let mapping = buffer.view().mapping();
        let mapping = mapping
            .ok_or(Refusal::NotApplicable("the buffer is not mapped into this process, or not as one mapping"))?;
        let registered = match kind {
            HostKind::Memory => ReachableMemory::register(&self.context, mapping, kind),
            HostKind::Io => self.registered_io(buffer, &mapping),
        };
        Ok(registered?)
    }

    /// Registers the CPU's mapping of a BAR.
    ///
    /// The driver's kernel module walks the page tables of such a mapping, and does not fault pages in. VFIO fills a page
    /// table entry at the first access to its page, so the driver can refuse a mapping until every page has been read.
    /// Reading a large BAR is slow, so this method first tests with one page whether missing entries are the reason.
    fn registered_io(&self, buffer: &Buffer, mapping: &HostMemory) -> Result<ReachableMemory, DriverError> {
        let register = |memory: HostMemory| ReachableMemory::register(&self.context, memory, HostKind::Io);
        let refusal = match register(mapping.clone()) {
            Err(error) if !error.is_loss() => error,
            registered => return registered,
        };
        let page_bytes = page_bytes();
        let fault_in = |length_bytes| fault_in(buffer, length_bytes, page_bytes).is_ok();
        if fault_in(page_bytes) && register(mapping.first(page_bytes)).is_ok() && fault_in(buffer.length_bytes()) {
            return register(mapping.clone());
        }
        Err(refusal)
    }
}

/// Formats the versions of the kernel module and of CUDA, e.g. `580.95.05, CUDA 13.0`. Omits the module's version if sysfs does
/// not show it.
fn described(driver: &Driver) -> String {
    let module = NvidiaModule::read(&Tree::live()).and_then(|module| module.version);
    let version = module.map_or_else(String::new, |version| format!("{version}, "));
    format!("{version}CUDA {}", driver.version())
}

/// Reads one byte of every page in the first `length_bytes` of the buffer, so that the kernel fills the page tables.
fn fault_in(buffer: &Buffer, length_bytes: u64, page_bytes: u64) -> io::Result<()> {
    let mut offset = 0;
    while offset < length_bytes.min(buffer.length_bytes()) {
        buffer.view().read(offset, &mut [0])?;
        offset += page_bytes;
    }
    Ok(())
}
