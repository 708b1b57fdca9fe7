//! Finding, probing and opening a function that imports.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use peerpath_exporter::{Access, AddressSpace, Buffer, Device as VfioDevice, Handle, OpenOptions, VfioInterface};
use peerpath_paths::Bdf;

use super::address::{Address, Blocks};
use super::errors::Error;
use super::nvme::{self, Drive, Lifecycle};
use super::registration::{Holder, IommufdRegistration};
use crate::{Device, DeviceInfo, Registration};

/// A function with an address space of its own. Targets on the same function share it.
pub(super) struct Function {
    pub(super) bdf: Bdf,
    pub(super) space: Arc<AddressSpace>,
    /// Of an NVMe function.
    pub(super) drive: Option<(Drive, Arc<Lifecycle>)>,
}

static OPEN: Mutex<Option<HashMap<Bdf, Weak<Function>>>> = Mutex::new(None);

fn options() -> OpenOptions {
    // A group has no address space of its own.
    OpenOptions { vfio: VfioInterface::Cdev, ..OpenOptions::default() }
}

/// Whether the function could be opened; nothing is changed.
pub(super) fn probe(bdf: Bdf) -> Result<(), Error> {
    VfioDevice::probe(bdf, &options()).map_err(|source| Error::Open { bdf, source })
}

impl Function {
    fn share(bdf: Bdf) -> Result<Arc<Self>, Error> {
        // Held while opening: of two threads that want the same function, the second waits and shares.
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        if let Some(function) = open.get(&bdf).and_then(Weak::upgrade) {
            return Ok(function);
        }
        let function = Arc::new(Self::open(bdf)?);
        open.insert(bdf, Arc::downgrade(&function));
        Ok(function)
    }

    fn open(bdf: Bdf) -> Result<Self, Error> {
        let failed = |source| Error::Open { bdf, source };
        let device = VfioDevice::open(bdf, &options()).map_err(failed)?;
        let mut class = [0; 4];
        device.read_config(0x08, &mut class).map_err(failed)?;
        let space = AddressSpace::of(&device).map_err(failed)?;
        if u32::from_le_bytes(class) >> 8 != nvme::CLASS {
            return Ok(Self { bdf, space, drive: None });
        }
        // Brought up once, to know what it is, and switched off again until data are to be moved.
        let lifecycle = Arc::new(Lifecycle::default());
        let controller = lifecycle.start(&space).map_err(|source| Error::Drive { bdf, source })?;
        let drive = controller.drive().clone();
        drop(controller);
        Ok(Self { bdf, space, drive: Some((drive, lifecycle)) })
    }
}

/// An opened target.
pub(super) struct IommufdDevice {
    pub(super) function: Arc<Function>,
    /// What of the drive may be overwritten.
    pub(super) write: Option<Blocks>,
    info: DeviceInfo,
}

impl IommufdDevice {
    pub(super) fn open(address: Address) -> Result<Self, Error> {
        let Address { bdf, write } = address;
        let function = Function::share(bdf)?;
        match (&function.drive, write) {
            (None, Some(_)) => return Err(Error::NothingToWrite { bdf }),
            (Some((drive, _)), Some(blocks)) => check(bdf, drive, blocks)?,
            (_, None) => {}
        }
        let drive = function.drive.as_ref().map(|(drive, _)| drive);
        let info = DeviceInfo {
            name: bdf.to_string(),
            bdf: Some(bdf),
            driver: function.space.device().driver().map(str::to_owned),
            firmware: drive.map(|drive| format!("{} {}", drive.model, drive.firmware)),
            soft_rdma: false,
            own_address_space: true,
            model: None,
        };
        Ok(Self { function, write, info })
    }
}

/// Whether all the blocks are on the drive.
pub(super) fn check(bdf: Bdf, drive: &Drive, blocks: Blocks) -> Result<(), Error> {
    match blocks.first.checked_add(blocks.count) {
        Some(end) if end <= drive.blocks => Ok(()),
        _ => Err(Error::BeyondDrive { bdf, blocks, capacity: drive.blocks }),
    }
}

impl Device for IommufdDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, crate::Error> {
        let bdf = self.function.bdf;
        if buffer.origin().bdf == Some(bdf) {
            return Err(Error::Itself { bdf }.into());
        }
        let length_bytes = buffer.length_bytes();
        let ranges = &buffer.origin().ranges;
        let map = |holder, dma_buf: &OwnedFd, length_bytes, ranges| {
            AddressSpace::map_dma_buf(holder, dma_buf.as_fd(), length_bytes, Access::BOTH)
                .map_err(|source| Error::MapDmaBuf { bdf, length_bytes, ranges, source })
        };
        let holder = Holder(self);
        let (first, others) = match buffer.handle() {
            Handle::DmaBuf(dma_buf) => (map(holder, dma_buf, length_bytes, ranges.len())?, Vec::new()),
            Handle::DmaBufs(dma_bufs) => {
                let mut each = dma_bufs.iter().zip(ranges);
                let mut next = |holder| each.next().map(|(dma_buf, range)| map(holder, dma_buf, range.length_bytes, 1));
                let first = next(holder.clone()).ok_or(Error::NoRange { bdf })??;
                (first, std::iter::from_fn(|| next(holder.clone())).collect::<Result<_, _>>()?)
            }
            Handle::Withheld(source) => return Err(Error::Withheld { source: source.clone() }.into()),
            Handle::Memory(memory) => {
                let mapped = AddressSpace::map_memory(holder, memory.clone());
                (mapped.map_err(|source| Error::MapMemory { bdf, length_bytes, source })?, Vec::new())
            }
        };
        Ok(Box::new(IommufdRegistration { first, others, buffer }))
    }
}
