//! Finding, probing and opening an RDMA device.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Handle};
use peerpath_paths::Facts;

use super::address::Address;
use super::driver::{is_software, uverbs_driver_id};
use super::errors::Error;
use super::registration::VerbsRegistration;
use super::sys::{Addressing, Context, DeviceList, Limits, ListError, Port, PortState, ProtectionDomain};
use super::sysfs::Sysfs;
use crate::{Device, DeviceInfo, Registration};

/// An opened port of a device, with the domain that all its regions and queue pairs belong to.
pub(super) struct VerbsDevice {
    pub(super) info: DeviceInfo,
    pub(super) address: Address,
    pub(super) context: Arc<Context>,
    pub(super) domain: Arc<ProtectionDomain>,
    pub(super) limits: Limits,
    pub(super) port: Port,
    pub(super) addressing: Addressing,
    translated: Option<bool>,
}

/// Whether the address can be used, and for dma-bufs too.
pub(super) fn probe(address: &Address, sysfs: &Sysfs) -> Result<(), Error> {
    let device = VerbsDevice::open(address, sysfs)?;
    device.domain.probe_dma_buf().map_err(|source| Error::NoDmaBuf {
        device: address.device.clone(),
        facts: device.facts(None),
        source,
    })
}

impl VerbsDevice {
    /// Opens it.
    pub(super) fn open(address: &Address, sysfs: &Sysfs) -> Result<Self, Error> {
        let name = &address.device;
        let context = Arc::new(open_context(name)?);
        let limits = context.limits().map_err(|source| Error::Query { device: name.clone(), source })?;
        let port = context.port(address.port).map_err(|source| Error::QueryPort {
            device: name.clone(),
            port: address.port,
            source,
        })?;
        if let PortState::Other(state) = port.state {
            let net_device = sysfs.net_device(name);
            return Err(Error::PortDown { device: name.clone(), port: address.port, state, net_device });
        }
        let addressing = addressing(address, &port, sysfs)?;
        let driver = sysfs.driver(name);
        let driver_id = driver.as_deref().and_then(uverbs_driver_id);
        let domain = ProtectionDomain::new(Arc::clone(&context), driver_id)
            .map_err(|source| Error::ProtectionDomain { device: name.clone(), source })?;
        let bdf = sysfs.function(name);
        let info = DeviceInfo {
            name: name.clone(),
            bdf,
            soft_rdma: driver.as_deref().is_some_and(is_software),
            driver,
            firmware: Some(limits.firmware.clone()).filter(|version| !version.is_empty()),
        };
        Ok(Self {
            info,
            address: address.clone(),
            context,
            domain: Arc::new(domain),
            limits,
            port,
            addressing,
            translated: bdf.and_then(|bdf| sysfs.translated(bdf)),
        })
    }

    /// What decides between causes of one errno, as far as it is known here.
    fn facts(&self, buffer: Option<&Buffer>) -> Facts {
        Facts {
            ranges: buffer.map(|buffer| buffer.origin().ranges.len()),
            driver: self.info.driver.clone(),
            translated: self.translated,
            ..Facts::default()
        }
    }
}

impl Device for VerbsDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, crate::Error> {
        let device = || self.info.name.clone();
        let length_bytes = buffer.length_bytes();
        let region = match buffer.handle() {
            Handle::Memory(memory) => self
                .domain
                .register_memory(Arc::clone(memory))
                .map_err(|source| Error::RegisterMemory { device: device(), length_bytes, source })?,
            Handle::DmaBuf(_) => {
                let length = usize::try_from(length_bytes).map_err(|_| Error::TooLong { length_bytes })?;
                let Some(dma_buf) = buffer.dma_buf() else { unreachable!("the handle is a dma-buf") };
                self.domain.register_dma_buf(dma_buf, length).map_err(|(mechanism, source)| Error::RegisterDmaBuf {
                    device: device(),
                    mechanism: mechanism.as_str(),
                    length_bytes,
                    facts: self.facts(Some(&buffer)),
                    source,
                })?
            }
        };
        Ok(Box::new(VerbsRegistration::new(region, buffer, self)))
    }
}

fn open_context(name: &str) -> Result<Context, Error> {
    let list = DeviceList::read().map_err(|error| match error {
        ListError::NoLibrary => Error::NoLibrary,
        ListError::Failed(source) => Error::List { source },
    })?;
    let device = list.iter().find(|device| device.name() == name).ok_or_else(|| Error::NoDevice {
        device: name.to_owned(),
        present: list.iter().map(|device| device.name()).collect(),
    })?;
    if device.is_iwarp() {
        return Err(Error::Iwarp { device: name.to_owned() });
    }
    device.open().map_err(|source| Error::Open { device: name.to_owned(), source })
}

fn addressing(address: &Address, port: &Port, sysfs: &Sysfs) -> Result<Addressing, Error> {
    if !port.ethernet {
        return Ok(Addressing::Lid(port.lid));
    }
    match sysfs.best_gid(&address.device, address.port) {
        Some(gid) => Ok(Addressing::Gid { index: gid.index, bytes: gid.bytes }),
        None => Err(Error::NoGid {
            device: address.device.clone(),
            port: address.port,
            net_device: sysfs.net_device(&address.device),
        }),
    }
}
