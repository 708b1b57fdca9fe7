//! What the kernel's RDMA drivers do with a dma-buf of MMIO, as read in drivers/infiniband/hw and sw.

/// How a driver registers a dma-buf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DmaBufSupport {
    /// Attaches dynamically and faults again after a revocation; needs a device with on-demand paging.
    Dynamic,
    /// Pins, but can give the memory back.
    PinnedRevocable,
    /// Pins and cannot give the memory back, so VFIO refuses the attachment.
    PinnedForever,
    /// Has no dma-buf operation at all.
    None,
}

/// One RDMA driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RdmaDriver {
    /// The name that rdma-core and people use.
    pub name: &'static str,
    /// Names of kernel modules and PCI drivers behind it; sysfs shows one of these as the function's driver.
    pub drivers: &'static [&'static str],
    /// What it does with a dma-buf.
    pub support: DmaBufSupport,
}

const fn row(name: &'static str, drivers: &'static [&'static str], support: DmaBufSupport) -> RdmaDriver {
    RdmaDriver { name, drivers, support }
}

/// Every driver that was read (Linux 7.2 and 7.3).
pub static RDMA_DRIVERS: &[RdmaDriver] = &[
    row("mlx5", &["mlx5_core", "mlx5_ib"], DmaBufSupport::Dynamic),
    row("irdma", &["ice", "i40e", "idpf"], DmaBufSupport::PinnedRevocable),
    row("bnxt_re", &["bnxt_en"], DmaBufSupport::PinnedForever),
    row("mana", &["mana_ib"], DmaBufSupport::PinnedForever),
    row("efa", &[], DmaBufSupport::PinnedForever),
    row("ionic", &["ionic_rdma"], DmaBufSupport::PinnedForever),
    row("erdma", &[], DmaBufSupport::None),
    row("hns", &["hns_roce", "hns_roce_hw_v2", "hns3"], DmaBufSupport::None),
    row("cxgb4", &["iw_cxgb4"], DmaBufSupport::None),
    row("qedr", &["qede"], DmaBufSupport::None),
    row("mlx4", &["mlx4_core", "mlx4_ib"], DmaBufSupport::None),
    row("rxe", &["rdma_rxe"], DmaBufSupport::None),
    row("siw", &[], DmaBufSupport::None),
];

impl RdmaDriver {
    /// Finds a driver by its RDMA name or by the name of a module or PCI driver behind it.
    pub fn named(name: &str) -> Option<&'static Self> {
        RDMA_DRIVERS.iter().find(|driver| driver.name == name || driver.drivers.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_by_either_name() {
        assert_eq!(RdmaDriver::named("mlx5_core").map(|driver| driver.name), Some("mlx5"));
        assert_eq!(RdmaDriver::named("siw").map(|driver| driver.support), Some(DmaBufSupport::None));
        assert_eq!(RdmaDriver::named("e1000e"), None);
    }

    #[test]
    fn no_name_means_two_drivers() {
        let mut names: Vec<_> =
            RDMA_DRIVERS.iter().flat_map(|driver| driver.drivers.iter().chain([&driver.name])).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
