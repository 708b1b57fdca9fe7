//! Facts about importer and exporter, which distinguish the causes of a refused registration if they share an errno.

use peerpath_exporter::Origin;
use peerpath_paths::{Bar, Bounce, ConfigSpace, Facts, Inventory, Request, Route, Tree};

use super::sysfs;
use crate::DeviceInfo;

/// Reads the facts from sysfs. Call this function only after a refused registration, outside the measured time.
pub(super) fn gather(tree: &Tree, importer: &DeviceInfo, origin: Option<&Origin>) -> Facts {
    let inventory = Inventory::read(tree);
    let host = &inventory.host;
    let exporter = origin.and_then(|origin| origin.bdf).map(|bdf| format!("sys/bus/pci/devices/{bdf}"));
    let config = exporter.as_ref().and_then(|exporter| tree.read(&format!("{exporter}/config")));
    Facts {
        source: origin.map(|origin| origin.kind.memory()),
        ranges: origin.map(|origin| origin.ranges.len()),
        driver: importer.driver.clone(),
        translated: importer.bdf.and_then(|bdf| sysfs::translated(tree, bdf)),
        swiotlb_forced: host.bounce().map(|bounce| bounce == Bounce::Forced),
        // `None` instead of false, because some confidential guests cannot be recognized.
        confidential_guest: host.confidential_guest.map(|_| true),
        mask_reaches_bar: mask_reaches_bar(tree, importer, origin),
        memory_decode: config.and_then(|bytes| ConfigSpace::new(bytes).memory_decode()),
        noiommu: None,
        route: route(&inventory, importer, origin),
    }
}

/// The result of the P2PDMA check, if the topology shows it. It does not depend on the BAR.
fn route(inventory: &Inventory, importer: &DeviceInfo, origin: Option<&Origin>) -> Option<Route> {
    inventory.predictor(Request::default()).facts(origin?.bdf?, importer.bdf?).route
}

fn mask_reaches_bar(tree: &Tree, importer: &DeviceInfo, origin: Option<&Origin>) -> Option<bool> {
    let bits: u32 = tree.text(&format!("sys/bus/pci/devices/{}/dma_mask_bits", importer.bdf?))?.parse().ok()?;
    let mask = u64::MAX.checked_shr(64_u32.checked_sub(bits)?).unwrap_or(0);
    let (bdf, index) = (origin?.bdf?, origin?.bar?);
    let resource = tree.text(&format!("sys/bus/pci/devices/{bdf}/resource"))?;
    let bar = Bar::parse_all(&resource).into_iter().find(|bar| bar.index == index.get())?;
    bar.assigned.then(|| bar.last() <= mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerpath_exporter::{BarRange, SourceKind};
    use peerpath_paths::MemoryKind;
    use std::fs;

    fn importer(bdf: &str) -> DeviceInfo {
        let bdf = bdf.parse().ok();
        let driver = Some("rxe".into());
        DeviceInfo { name: "rxe0".into(), bdf, driver, firmware: None, soft_rdma: true, ..DeviceInfo::default() }
    }

    fn bar(index: u8) -> Origin {
        let range = BarRange { offset_bytes: 0, length_bytes: 4096 };
        let bdf = "0000:01:00.0".parse().ok();
        Origin { kind: SourceKind::Vfio, bdf, bar: peerpath_paths::BarIndex::new(index).ok(), ranges: vec![range; 3] }
    }

    #[test]
    fn reads_no_facts_of_unknown_devices() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let facts = gather(&tree, &importer("0000:02:00.0"), Some(&bar(2)));
        let source = Some(MemoryKind::VfioBar);
        let expected = Facts { source, ranges: Some(3), driver: Some("rxe".into()), ..Facts::default() };
        assert_eq!(facts, expected);
        assert_eq!(gather(&tree, &importer("none"), None), Facts { source: None, ranges: None, ..expected });
        let of_gpu = Origin { kind: SourceKind::Cuda, bar: None, ..bar(2) };
        assert_eq!(gather(&tree, &importer("none"), Some(&of_gpu)).source, Some(MemoryKind::Gpu));
    }

    #[test]
    fn reads_the_mask_and_the_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str, content: &[u8]| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        // BAR 0: 4 KiB below the 4 GiB boundary. BAR 2: 128 MiB above it.
        let resource = "0x00000000febf1000 0x00000000febf1fff 0x0000000000040200\n\
                        0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                        0x0000383800000000 0x0000383807ffffff 0x000000000014220c\n";
        file("sys/bus/pci/devices/0000:01:00.0/resource", resource.as_bytes());
        let mut config = [0_u8; 64];
        config[..6].copy_from_slice(&[0xf4, 0x1a, 0x10, 0x11, 0x02, 0x00]);
        file("sys/bus/pci/devices/0000:01:00.0/config", &config);
        file("sys/bus/pci/devices/0000:02:00.0/dma_mask_bits", b"32\n");
        file("sys/bus/pci/devices/0000:02:00.0/iommu_group/type", b"identity\n");
        file("proc/cmdline", b"iommu=pt swiotlb=force\n");
        let tree = Tree::open(folder.path()).unwrap();
        let importer = importer("0000:02:00.0");
        let low = gather(&tree, &importer, Some(&bar(0)));
        assert_eq!((low.mask_reaches_bar, low.memory_decode), (Some(true), Some(true)));
        assert_eq!((low.translated, low.swiotlb_forced), (Some(false), Some(true)));
        assert_eq!(gather(&tree, &importer, Some(&bar(2))).mask_reaches_bar, Some(false));
        file("sys/bus/pci/devices/0000:02:00.0/dma_mask_bits", b"64\n");
        assert_eq!(gather(&tree, &importer, Some(&bar(2))).mask_reaches_bar, Some(true));
        assert_eq!(gather(&tree, &importer, Some(&bar(5))).mask_reaches_bar, None);
    }
}
