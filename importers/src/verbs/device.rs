//! Opening and probing an RDMA device.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use peerpath_exporter::{Buffer, Exporter as _, Handle, HostExporter, OpenOptions};
use peerpath_paths::{Facts, Tree};

use super::address::Address;
use super::driver::{is_software, uverbs_driver_id};
use super::errors::Error;
use super::facts;
use super::sys::{
    AccessFlags, Addressing, CompletionQueue, Context, DeviceList, Limits, ListError, MemoryRegion, Mtu, Port,
    PortState, ProtectionDomain, Route,
};
use super::sysfs;
use crate::{DeviceInfo, QueuePairOptions, Transport};

/// An RDMA device, opened at one of its ports. Clones share the open device.
#[derive(Clone)]
pub struct Device {
    pub(super) port: Arc<OpenPort>,
}

impl Device {
    /// Opens a device by its address: a name that `ibv_devices` lists, optionally followed by a slash and a port number
    /// (`mlx5_0`, `mlx5_0/2`). The default is port 1.
    ///
    /// # Errors
    /// The address is malformed, the device does not exist, its port is down or has no address, or the device cannot be opened.
    pub fn open(address: &str) -> Result<Self, Error> {
        Self::open_with(address, &QueuePairOptions::default())
    }

    /// Like [`Device::open`], with options for the queue pairs of this device.
    ///
    /// # Errors
    /// Same as [`Device::open`], or the port does not support one of the options.
    pub fn open_with(address: &str, options: &QueuePairOptions) -> Result<Self, Error> {
        let port = OpenPort::open(&parse(address)?, options, &Tree::live())?;
        Ok(Self { port: Arc::new(port) })
    }

    /// Returns the name, model, PCI function and driver of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.port.info
    }
}

/// An open port of a device, with the protection domain of its regions and queue pairs.
pub(super) struct OpenPort {
    pub(super) info: DeviceInfo,
    pub(super) address: Address,
    pub(super) context: Arc<Context>,
    pub(super) domain: Arc<ProtectionDomain>,
    pub(super) limits: Limits,
    pub(super) port: Port,
    pub(super) addressing: Addressing,
    pub(super) connection: QueuePairOptions,
    mtu: Mtu,
}

/// Maximum RDMA reads in flight per queue pair. More reads would use more device memory without higher throughput.
const READS_IN_FLIGHT: u32 = 16;

/// Checks that the device can be used and can register dma-bufs.
pub(super) fn probe(address: &str, tree: &Tree) -> Result<(), Error> {
    let address = parse(address)?;
    let device = OpenPort::open(&address, &QueuePairOptions::default(), tree)?;
    if device.info.bdf.is_none() && device.info.soft_rdma {
        return Err(device.no_function(tree));
    }
    device.domain.probe_dma_buf().map_err(|source| Error::NoDmaBuf {
        device: address.device.clone(),
        facts: facts::gather(tree, &device.info, None),
        source,
    })
}

impl OpenPort {
    pub(super) fn open(address: &Address, connection: &QueuePairOptions, tree: &Tree) -> Result<Self, Error> {
        let name = &address.device;
        let context = Arc::new(open_context(name, tree)?);
        let limits = context.limits().map_err(|source| Error::Query { device: name.clone(), source })?;
        let port = context.port(address.port).map_err(|source| Error::QueryPort {
            device: name.clone(),
            port: address.port,
            source,
        })?;
        if let PortState::Other(state) = port.state {
            let net_device = sysfs::net_device(tree, name);
            return Err(Error::PortDown { device: name.clone(), port: address.port, state, net_device });
        }
        let addressing = addressing(address, &port, connection, tree)?;
        let mtu = mtu(name, &port, connection)?;
        let driver = sysfs::driver(tree, name);
        let driver_id = driver.as_deref().and_then(uverbs_driver_id);
        let access = AccessFlags { atomics: limits.atomics, relaxed_ordering: connection.relaxed_ordering };
        let domain = ProtectionDomain::new(Arc::clone(&context), driver_id, access)
            .map_err(|source| Error::ProtectionDomain { device: name.clone(), source })?;
        let soft_rdma = driver.as_deref().is_some_and(is_software);
        let info = DeviceInfo {
            name: name.clone(),
            bdf: sysfs::function(tree, name),
            driver,
            // Software devices have no firmware.
            firmware: Some(limits.firmware.clone()).filter(|version| !soft_rdma && !version.is_empty()),
            soft_rdma,
            own_address_space: false,
            model: None,
        };
        Ok(Self {
            info,
            address: address.clone(),
            context,
            domain: Arc::new(domain),
            limits,
            port,
            addressing,
            connection: connection.clone(),
            mtu,
        })
    }

    /// Returns the parameters to connect queue pairs of this port.
    pub(super) fn route(&self) -> Route {
        Route {
            port: self.address.port,
            own: self.addressing,
            mtu: self.mtu,
            // At least 1, so that devices without RDMA read support can connect queue pairs.
            reads_in_flight: self.limits.reads_in_flight.clamp(1, READS_IN_FLIGHT) as u8,
            atomics: self.limits.atomics,
            service_level: self.connection.service_level,
            traffic_class: self.connection.traffic_class,
            retry_rnr_forever: false,
        }
    }

    /// Returns the maximum message size, in bytes.
    pub(super) fn message_bytes(&self) -> u32 {
        match self.connection.transport {
            Transport::Rc | Transport::Uc => self.port.max_message_bytes,
            // A datagram is at most one packet.
            Transport::Ud => self.mtu.bytes().min(self.port.max_message_bytes),
        }
    }

    /// Returns the maximum number of completion queue entries per queue pair if `queues` queue pairs share one completion
    /// queue. Fails if it is too small for `depth` transfers of `of_each` completions each.
    pub(super) fn completions_each(&self, depth: u32, queues: u32, of_each: u32) -> Result<u32, Error> {
        let room = self.limits.completions.checked_div(queues).unwrap_or(0);
        let limit = self.limits.queue_depth.min(room / of_each.max(1));
        if depth == 0 || depth > limit {
            return Err(Error::Depth { device: self.info.name.clone(), depth, queues, limit });
        }
        Ok(room)
    }

    /// Creates a completion queue.
    pub(super) fn completion_queue(&self, entries: u32) -> Result<Arc<CompletionQueue>, Error> {
        let made = CompletionQueue::new(&self.context, entries, self.connection.events);
        let failed = |source| Error::CompletionQueue { device: self.info.name.clone(), entries, source };
        Ok(Arc::new(made.map_err(failed)?))
    }

    /// Registers host memory for received data that is discarded.
    pub(super) fn scratch(&self, bytes: u64) -> Result<MemoryRegion, Error> {
        let memory = HostExporter::open(bytes, &OpenOptions::default()).and_then(|memory| memory.export(bytes));
        let memory = memory.map_err(|source| Error::FarMemory { bytes, source })?;
        match self.regions(&memory)?.pop() {
            Some(region) => Ok(region),
            None => Err(Error::TooLong { length_bytes: bytes }),
        }
    }

    /// Registers a buffer as one region, or as one region per range if each range is a separate dma-buf. Returns the
    /// regions in the order of the buffer.
    pub(super) fn regions(&self, buffer: &Buffer) -> Result<Vec<MemoryRegion>, Error> {
        let length_bytes = buffer.length_bytes();
        let ranges = &buffer.origin().ranges;
        match buffer.handle() {
            Handle::Memory(memory) => {
                let region = self.domain.register_memory(memory.clone());
                let device = || self.info.name.clone();
                Ok(vec![region.map_err(|source| Error::RegisterMemory { device: device(), length_bytes, source })?])
            }
            Handle::DmaBuf(dma_buf) => {
                Ok(vec![self.dma_buf_region(dma_buf.as_fd(), length_bytes, ranges.len(), buffer)?])
            }
            Handle::GpuNotExported(source) => Err(Error::GpuNotExported { source: source.clone() }),
            Handle::DmaBufs(dma_bufs) => {
                let parts = dma_bufs.iter().zip(ranges);
                parts
                    .map(|(dma_buf, range)| self.dma_buf_region(dma_buf.as_fd(), range.length_bytes, 1, buffer))
                    .collect()
            }
        }
    }

    fn dma_buf_region(
        &self,
        dma_buf: BorrowedFd<'_>,
        length_bytes: u64,
        ranges: usize,
        buffer: &Buffer,
    ) -> Result<MemoryRegion, Error> {
        let length = usize::try_from(length_bytes).map_err(|_| Error::TooLong { length_bytes })?;
        self.domain.register_dma_buf(dma_buf, length).map_err(|(mechanism, source)| {
            let tree = Tree::live();
            if self.info.bdf.is_none() && source.raw_os_error() == Some(libc::ENODEV) {
                return self.no_function(&tree);
            }
            let facts = facts::gather(&tree, &self.info, Some(buffer.origin()));
            Error::RegisterDmaBuf {
                device: self.info.name.clone(),
                mechanism: mechanism.as_str(),
                length_bytes,
                facts: Facts { ranges: Some(ranges), ..facts },
                source,
            }
        })
    }

    /// Returns the error of a software device without a PCI function, to which the kernel cannot attach a dma-buf.
    fn no_function(&self, tree: &Tree) -> Error {
        Error::NoFunction { device: self.info.name.clone(), net_device: sysfs::net_device(tree, &self.info.name) }
    }
}

fn parse(text: &str) -> Result<Address, Error> {
    text.parse().map_err(|source| Error::Address {
        target: format!("verbs:{}", text.chars().take(64).collect::<String>()),
        source,
    })
}

/// Lists the devices with libibverbs.
pub(super) fn list() -> Result<DeviceList, Error> {
    DeviceList::read().map_err(|error| match error {
        ListError::NoLibrary => Error::NoLibrary,
        ListError::Failed(source) => Error::List { source },
    })
}

fn open_context(name: &str, tree: &Tree) -> Result<Context, Error> {
    // Check sysfs first: it shows whether the device exists even if libibverbs is missing.
    let present = tree.names("sys/class/infiniband");
    if !present.iter().any(|device| device == name) {
        return Err(Error::NoDevice { device: name.to_owned(), present });
    }
    let list = list()?;
    let device = list.iter().find(|device| device.name() == name);
    let device = device.ok_or_else(|| Error::NotListed { device: name.to_owned() })?;
    if device.is_iwarp() {
        return Err(Error::Iwarp { device: name.to_owned() });
    }
    device.open().map_err(|source| Error::Open { device: name.to_owned(), source })
}

/// Returns the requested MTU if the port supports it; by default, the MTU of the port.
fn mtu(device: &str, port: &Port, connection: &QueuePairOptions) -> Result<Mtu, Error> {
    let Some(bytes) = connection.mtu_bytes else { return Ok(port.mtu) };
    let asked = Mtu::of_bytes(bytes).filter(|mtu| mtu.bytes() <= port.mtu.bytes());
    asked.ok_or_else(|| Error::Mtu { device: device.to_owned(), bytes, max_bytes: port.mtu.bytes() })
}

fn addressing(address: &Address, port: &Port, connection: &QueuePairOptions, tree: &Tree) -> Result<Addressing, Error> {
    if let Some(index) = connection.gid_index {
        let gid = sysfs::gid(tree, &address.device, address.port, index);
        let Some(bytes) = gid else {
            return Err(Error::NoSuchGid { device: address.device.clone(), port: address.port, index });
        };
        return Ok(Addressing::Gid { index, bytes });
    }
    if !port.ethernet {
        return Ok(Addressing::Lid(port.lid));
    }
    match sysfs::best_gid(tree, &address.device, address.port) {
        Some(gid) => Ok(Addressing::Gid { index: gid.index, bytes: gid.bytes }),
        None => Err(Error::NoGid {
            device: address.device.clone(),
            port: address.port,
            net_device: sysfs::net_device(tree, &address.device),
        }),
    }
}
