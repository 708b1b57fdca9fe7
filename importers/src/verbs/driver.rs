//! The kernel's numbers of RDMA drivers, which its ioctl wants in every command.

/// The number (`enum rdma_driver_id`) of a driver by the name that sysfs shows: that of the PCI driver, or of the software
/// device. Only drivers that register dma-bufs are here; the rest answers the same with or without the ioctl.
pub(super) fn uverbs_driver_id(name: &str) -> Option<u32> {
    Some(match name {
        "mlx5_core" => 1,
        "bnxt_en" => 6,
        "ice" | "i40e" | "idpf" | "irdma" => 9,
        "rxe" => 14,
        "efa" => 17,
        "mana" => 20,
        "ionic" => 21,
        _ => return None,
    })
}

/// RDMA done by the CPU.
pub(super) fn is_software(name: &str) -> bool {
    matches!(name, "rxe" | "siw")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rxe_is_software_that_takes_the_ioctl() {
        assert_eq!((uverbs_driver_id("rxe"), is_software("rxe")), (Some(14), true));
        assert_eq!((uverbs_driver_id("siw"), is_software("siw")), (None, true));
        assert_eq!((uverbs_driver_id("mlx5_core"), is_software("mlx5_core")), (Some(1), false));
    }
}
