//! The kernel's numbers of RDMA drivers (`enum rdma_driver_id`), which every uverbs ioctl carries.

/// Number of a driver, by the name of the PCI driver or of the software device in sysfs. Only drivers that register dma-bufs
/// are listed, because the ioctl is used for nothing else.
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

/// Whether the CPU performs the RDMA operations.
pub(super) fn is_software(name: &str) -> bool {
    matches!(name, "rxe" | "siw")
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
