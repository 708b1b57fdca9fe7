//! dma-buf support of the RDMA drivers in drivers/infiniband/hw and drivers/infiniband/sw.

use crate::KernelVersion;

/// Support of a driver for registering a dma-buf of MMIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DmaBufSupport {
    /// The driver attaches dynamically and maps pages again on demand after a revocation. The device needs on-demand paging.
    Dynamic,
    /// The driver pins the buffer and supports revocation.
    PinnedRevocable,
    /// The driver pins the buffer without support for revocation, so VFIO rejects the attachment.
    PinnedForever,
    /// The driver has no dma-buf operation.
    None,
}

/// One RDMA driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RdmaDriver {
    /// Name in rdma-core.
    pub name: &'static str,
    /// Names of the kernel modules and PCI drivers; sysfs shows one of them as the function's driver.
    pub drivers: &'static [&'static str],
    /// Support for dma-bufs of MMIO, in the newest known kernel.
    pub support: DmaBufSupport,
    /// Value in `enum rdma_driver_id` (`include/uapi/rdma/ib_user_ioctl_verbs.h`), which the registration ioctl requires. `None`
    /// for drivers that support dma-bufs in no known kernel.
    pub uverbs_id: Option<u32>,
}

const fn row(
    name: &'static str,
    drivers: &'static [&'static str],
    support: DmaBufSupport,
    uverbs_id: Option<u32>,
) -> RdmaDriver {
    RdmaDriver { name, drivers, support, uverbs_id }
}

/// First kernel in which irdma supports revocation (commit 4707bf5f6c86, "revocable pinned dmabuf import").
const IRDMA_REVOCABLE: KernelVersion = KernelVersion { major: 7, minor: 1 };

/// The known drivers (Linux 7.2 and 7.3): `reg_user_mr_dmabuf` in the `ib_device_ops` of each driver, and the
/// `ib_umem_dmabuf_get` variant that it calls.
pub static RDMA_DRIVERS: &[RdmaDriver] = &[
    row("mlx5", &["mlx5_core", "mlx5_ib"], DmaBufSupport::Dynamic, Some(1)),
    row("irdma", &["ice", "i40e", "idpf"], DmaBufSupport::PinnedRevocable, Some(9)),
    row("bnxt_re", &["bnxt_en"], DmaBufSupport::PinnedForever, Some(6)),
    row("mana", &["mana_ib"], DmaBufSupport::PinnedForever, Some(20)),
    row("efa", &[], DmaBufSupport::PinnedForever, Some(17)),
    row("ionic", &["ionic_rdma"], DmaBufSupport::PinnedForever, Some(21)),
    row("erdma", &[], DmaBufSupport::None, None),
    row("hns", &["hns_roce", "hns_roce_hw_v2", "hns3"], DmaBufSupport::None, None),
    row("cxgb4", &["iw_cxgb4"], DmaBufSupport::None, None),
    row("qedr", &["qede"], DmaBufSupport::None, None),
    row("mlx4", &["mlx4_core", "mlx4_ib"], DmaBufSupport::None, None),
    row("mthca", &["ib_mthca"], DmaBufSupport::None, None),
    row("ocrdma", &["be2net"], DmaBufSupport::None, None),
    row("usnic", &["usnic_verbs"], DmaBufSupport::None, None),
    row("vmw_pvrdma", &[], DmaBufSupport::None, None),
    row("hfi1", &[], DmaBufSupport::None, None),
    row("bng_re", &["bng_en"], DmaBufSupport::None, None),
    row("rxe", &["rdma_rxe"], DmaBufSupport::None, Some(14)),
    row("siw", &[], DmaBufSupport::None, None),
];

impl RdmaDriver {
    /// Finds a driver by its RDMA name, or by the name of one of its modules or PCI drivers.
    pub fn named(name: &str) -> Option<&'static Self> {
        RDMA_DRIVERS.iter().find(|driver| driver.name == name || driver.drivers.contains(&name))
    }

    /// Support for dma-bufs of MMIO in a kernel; that of the newest known kernel if the version is unknown.
    pub fn support_in(&self, kernel: Option<KernelVersion>) -> DmaBufSupport {
        match (self.support, kernel) {
            (DmaBufSupport::PinnedRevocable, Some(kernel)) if kernel < IRDMA_REVOCABLE => DmaBufSupport::PinnedForever,
            (support, _) => support,
        }
    }

    /// Whether the CPU implements the device (rxe, siw), on top of a net device.
    pub fn is_software(&self) -> bool {
        matches!(self.name, "rxe" | "siw")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_driver_by_either_name() {
        assert_eq!(RdmaDriver::named("mlx5_core").map(|driver| driver.name), Some("mlx5"));
        assert_eq!(RdmaDriver::named("siw").map(|driver| driver.support), Some(DmaBufSupport::None));
        assert_eq!(RdmaDriver::named("e1000e"), None);
    }

    #[test]
    fn irdma_supports_revocation_since_7_1() {
        let irdma = |text| RdmaDriver::named("ice").map(|driver| driver.support_in(KernelVersion::find(text)));
        assert_eq!(irdma("7.0.2"), Some(DmaBufSupport::PinnedForever));
        assert_eq!(irdma("7.1.0"), Some(DmaBufSupport::PinnedRevocable));
        assert_eq!(irdma(""), Some(DmaBufSupport::PinnedRevocable));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> =
            RDMA_DRIVERS.iter().flat_map(|driver| driver.drivers.iter().chain([&driver.name])).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
