//! The kinds of endpoints that perform peer-to-peer transfers.

use crate::vfio::is_vfio_driver;
use crate::{Function, RdmaDriver};

/// Kind of an endpoint that exports or imports in practice. Hosts also have many functions that do neither, such as USB
/// controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointKind {
    /// A GPU or another processing accelerator.
    Gpu,
    /// A NIC with an RDMA device or with a driver that creates one, or an InfiniBand controller.
    Rdma,
    /// An NVMe controller.
    Nvme,
    /// A function that is bound to vfio-pci or a variant of it.
    Vfio,
}

/// Vendors of display controllers in management controllers (BMCs): ASPEED and Matrox.
const MANAGEMENT: [u16; 2] = [0x1a03, 0x102b];

/// Vendors of GPUs: AMD, NVIDIA and Intel.
const GPU_VENDORS: [u16; 3] = [0x1002, 0x10de, 0x8086];

impl EndpointKind {
    /// Plural of the kind, as a noun phrase.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Gpu => "GPUs",
            Self::Rdma => "RDMA NICs",
            Self::Nvme => "NVMe drives",
            Self::Vfio => "functions bound to VFIO",
        }
    }
}

impl Function {
    /// Whether the function is a GPU by its class and vendor: a display controller except those of BMCs, or a processing
    /// accelerator of a vendor of GPUs (AMD's Instinct).
    pub(crate) fn is_gpu(&self) -> bool {
        match self.class.map(|class| class >> 16) {
            Some(0x03) => !self.vendor.is_some_and(|vendor| MANAGEMENT.contains(&vendor)),
            Some(0x12) => self.vendor.is_some_and(|vendor| GPU_VENDORS.contains(&vendor)),
            _ => false,
        }
    }

    /// Whether the function is a GPU or another processing accelerator.
    pub(crate) fn is_accelerator(&self) -> bool {
        self.is_gpu() || self.class.is_some_and(|class| class >> 16 == 0x12)
    }

    /// The kind of the function; `None` for bridges and for other functions.
    pub fn endpoint_kind(&self) -> Option<EndpointKind> {
        if self.is_bridge() {
            return None;
        }
        let driver = self.driver.as_deref();
        if driver.is_some_and(is_vfio_driver) {
            return Some(EndpointKind::Vfio);
        }
        let class = self.class.map(|class| ((class >> 16) as u8, (class >> 8) as u8));
        let has_device = |prefix: &str| self.devices.iter().any(|device| device.starts_with(prefix));
        match class {
            _ if has_device("verbs:") => Some(EndpointKind::Rdma),
            Some((0x02, 0x07)) => Some(EndpointKind::Rdma),
            Some((0x02, _)) if driver.and_then(RdmaDriver::named).is_some() => Some(EndpointKind::Rdma),
            _ if self.is_accelerator() => Some(EndpointKind::Gpu),
            Some((0x01, 0x08)) => Some(EndpointKind::Nvme),
            _ if has_device("nvme:") => Some(EndpointKind::Nvme),
            _ => None,
        }
    }
}
