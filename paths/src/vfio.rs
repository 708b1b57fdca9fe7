//! Whether VFIO can have a function, as far as its IOMMU group decides.

use peerpath_paths::Bdf;

use crate::Error;
use crate::host_tree::{HostTree, link_name, names, read_trimmed};

/// The driver that functions are given to.
pub(crate) const VFIO_PCI: &str = "vfio-pci";

/// Drivers beside which VFIO takes a group: they start no DMA of their own.
const TOLERATED: [&str; 2] = ["pci-stub", "pcieport"];

/// The IOMMU group of a function that VFIO can take safely.
pub(crate) fn require_group(host: &HostTree, bdf: Bdf) -> Result<u32, Error> {
    host.require(bdf)?;
    if is_bridge(host, bdf)? {
        return Err(Error::Bridge { bdf });
    }
    let group = host.iommu_group(bdf)?.ok_or(Error::NoIommuGroup { bdf })?;
    let name = read_trimmed(&host.path(format!("sys/kernel/iommu_groups/{group}/name")))?;
    if name.as_deref() == Some("vfio-noiommu") {
        return Err(Error::NoiommuGroup { bdf });
    }
    Ok(group)
}

fn is_bridge(host: &HostTree, bdf: Bdf) -> Result<bool, Error> {
    Ok(host.function_number(bdf, "class")?.is_some_and(|class| matches!(class >> 8, 0x0604 | 0x0607 | 0x0609)))
}

/// Whether a driver of the VFIO family has the function.
pub(crate) fn has_vfio_driver(host: &HostTree, bdf: Bdf) -> Result<bool, Error> {
    Ok(host.driver(bdf)?.as_deref().is_some_and(is_vfio_name)
        || !names(&host.function(bdf).join("vfio-dev"))?.is_empty())
}

/// `vfio-pci` and its variants (`mlx5_vfio_pci`, `nvgrace_gpu_vfio_pci`).
fn is_vfio_name(driver: &str) -> bool {
    driver == VFIO_PCI || driver.ends_with("vfio_pci") || driver.ends_with("vfio-pci")
}

/// Whether a driver does no DMA of its own, so that the kernel gives the group away beside it.
pub(crate) fn is_tolerated(driver: &str) -> bool {
    is_vfio_name(driver) || TOLERATED.contains(&driver)
}

/// The functions of a group whose drivers keep VFIO out, and the drivers; `taking` are about to be given to VFIO.
pub(crate) fn offenders(host: &HostTree, group: u32, taking: &[Bdf]) -> Result<Vec<(String, String)>, Error> {
    let devices = host.path(format!("sys/kernel/iommu_groups/{group}/devices"));
    let mut offenders = Vec::new();
    for name in names(&devices)? {
        if name.parse().is_ok_and(|bdf: Bdf| taking.contains(&bdf)) {
            continue;
        }
        if let Some(driver) = link_name(&devices.join(&name).join("driver"))?
            && !is_tolerated(&driver)
        {
            offenders.push((name, driver));
        }
    }
    Ok(offenders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn a_group_is_viable_when_all_drivers_are_tolerated() {
        let fixture = Fixture::new();
        let wanted = fixture.function("0000:01:00.0").group(7).driver("vfio-pci").bdf();
        fixture.function("0000:00:1c.0").group(7).driver("pcieport");
        fixture.function("0000:01:00.2").group(7);
        let sound = fixture.function("0000:01:00.1").group(7).driver("snd_hda_intel").bdf();
        let host = fixture.host();
        assert_eq!(require_group(&host, wanted).unwrap(), 7);
        assert_eq!(offenders(&host, 7, &[]).unwrap(), [("0000:01:00.1".to_owned(), "snd_hda_intel".to_owned())]);
        assert_eq!(offenders(&host, 7, &[sound]).unwrap(), []);
    }

    #[test]
    fn no_group_noiommu_and_bridges_are_told_apart() {
        let fixture = Fixture::new();
        let host = fixture.host();
        let bare = fixture.function("0000:01:00.0").bdf();
        assert!(matches!(require_group(&host, bare), Err(Error::NoIommuGroup { .. })));
        let noiommu = fixture.function("0000:02:00.0").group(0).bdf();
        fixture.file("sys/kernel/iommu_groups/0/name", "vfio-noiommu\n");
        assert!(matches!(require_group(&host, noiommu), Err(Error::NoiommuGroup { .. })));
        let bridge = fixture.function("0000:00:1c.0").group(1).file("class", "0x060400\n").bdf();
        assert!(matches!(require_group(&host, bridge), Err(Error::Bridge { .. })));
        let absent = "0000:7f:00.0".parse().unwrap();
        assert!(matches!(require_group(&host, absent), Err(Error::NoFunction { .. })));
    }

    #[test]
    fn variants_of_vfio_pci_count() {
        for (driver, vfio) in [("vfio-pci", true), ("mlx5_vfio_pci", true), ("nvme", false), ("vfio", false)] {
            assert_eq!(is_vfio_name(driver), vfio, "{driver}");
        }
    }
}
