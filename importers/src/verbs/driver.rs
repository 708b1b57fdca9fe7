//! Properties of RDMA drivers, from a table in `peerpath_paths`.

use peerpath_paths::RdmaDriver;

/// Returns the driver ID (`enum rdma_driver_id`) for the name of a PCI driver or a software driver in sysfs. `None` for
/// drivers without dma-buf support.
pub(super) fn uverbs_driver_id(name: &str) -> Option<u32> {
    RdmaDriver::named(name)?.uverbs_id
}

/// Whether the CPU performs the device's RDMA operations.
pub(super) fn is_software(name: &str) -> bool {
    RdmaDriver::named(name).is_some_and(RdmaDriver::is_software)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rxe_is_software_and_supports_the_ioctl() {
        assert_eq!((uverbs_driver_id("rxe"), is_software("rxe")), (Some(14), true));
        assert_eq!((uverbs_driver_id("siw"), is_software("siw")), (None, true));
        assert_eq!((uverbs_driver_id("mlx5_core"), is_software("mlx5_core")), (Some(1), false));
    }
}
