//! The inbound ranges of a host bridge: the addresses that its devices may use for DMA. Devicetree declares them in the property
//! `dma-ranges` (Devicetree Specification, 2.3.9); the kernel reads it in `of_dma_get_range` (drivers/of/address.c).

use crate::Tree;

/// Maximum number of ranges. Firmware declares a few; the ranges of a host bridge with more count as unknown.
const MAX_RANGES: usize = 256;

const BASE: &str = "sys/firmware/devicetree/base";

/// The inbound ranges of a host bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Inbound {
    /// The host bridge forwards every address unchanged: it declares no ranges, or the firmware has no devicetree.
    #[default]
    All,
    /// The host bridge forwards these ranges only.
    Ranges(Vec<InboundRange>),
    /// The ranges are not readable.
    Unknown,
}

/// One inbound range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundRange {
    /// First address on the PCI bus.
    pub dma_start: u64,
    /// First physical address, as the CPU sees it.
    pub cpu_start: u64,
    /// Size in bytes.
    pub size_bytes: u64,
}

impl InboundRange {
    /// The address on the PCI bus that corresponds to a physical address; `None` if the address is outside of the range.
    pub fn dma_address(&self, physical: u64) -> Option<u64> {
        let offset = physical.checked_sub(self.cpu_start).filter(|offset| *offset < self.size_bytes)?;
        self.dma_start.checked_add(offset)
    }
}

impl Inbound {
    /// The highest address on the PCI bus that a device may use (`bus_dma_limit`); `u64::MAX` without a limit.
    pub fn highest(&self) -> u64 {
        match self {
            Self::All | Self::Unknown => u64::MAX,
            Self::Ranges(ranges) => {
                let last = |range: &InboundRange| range.dma_start.saturating_add(range.size_bytes.saturating_sub(1));
                ranges.iter().map(last).max().unwrap_or(u64::MAX)
            }
        }
    }

    /// Reads the ranges of the host bridge with the directory `device`: the parent of `pciSSSS:BB` in sysfs.
    pub(crate) fn read(tree: &Tree, device: &str) -> Self {
        if !device.starts_with("sys/devices/platform/") || is_acpi(device) {
            return Self::All;
        }
        let Some(node) = node(tree, device) else { return Self::Unknown };
        // A node without `dma-ranges`, or with an empty one, has the ranges of the node above.
        let mut ancestors = std::iter::successors(Some(node.as_str()), |node| above(node));
        let declaring = ancestors.find_map(|node| {
            let bytes = tree.read(&format!("{node}/dma-ranges")).filter(|bytes| !bytes.is_empty())?;
            Some((node.to_owned(), bytes))
        });
        let Some((declaring, bytes)) = declaring else { return Self::All };
        // The kernel also translates the addresses through the ranges of the nodes above, and this code does not.
        if ancestors.any(|node| tree.read(&format!("{node}/dma-ranges")).is_some_and(|bytes| !bytes.is_empty())) {
            return Self::Unknown;
        }
        parse(tree, &declaring, &bytes, declaring == node).map_or(Self::Unknown, Self::Ranges)
    }
}

/// Names of the properties that [`Inbound::read`] needs, for the snapshot.
pub(crate) const PROPERTIES: [&str; 3] = ["dma-ranges", "#address-cells", "#size-cells"];

/// The node of a host bridge and the nodes above it, for the snapshot.
pub(crate) fn nodes(tree: &Tree, device: &str) -> Vec<String> {
    std::iter::successors(node(tree, device), |node| above(node).map(str::to_owned)).collect()
}

/// The node above a node of the devicetree; `None` for the root node.
fn above(node: &str) -> Option<&str> {
    node.rsplit_once('/').map(|(above, _)| above).filter(|above| above.len() >= BASE.len())
}

/// Whether firmware describes the host bridge with ACPI: the device has the name of its ACPI ID, such as `ACPI0016:00`.
fn is_acpi(device: &str) -> bool {
    device.rsplit('/').next().is_some_and(|name| name.contains(':'))
}

/// The node of a platform device: the target of its link `of_node`, or the node that gave the device its name. For node
/// `soc/pcie@50000000` the kernel creates the device `soc/50000000.pcie`.
fn node(tree: &Tree, device: &str) -> Option<String> {
    if let Some(node) = tree.resolve(&format!("{device}/of_node")).filter(|node| node.starts_with(BASE)) {
        return Some(node);
    }
    let names = device.strip_prefix("sys/devices/platform/")?.split('/').map(|name| match name.split_once('.') {
        Some((address, name)) => format!("{name}@{address}"),
        None => name.to_owned(),
    });
    let path = format!("{BASE}/{}", names.collect::<Vec<_>>().join("/"));
    tree.is_directory(&path).then_some(path)
}

/// Parses `bytes`, the property `dma-ranges` of `node`. The number of 32-bit cells per entry depends on `#address-cells` and
/// `#size-cells` of `node` (3 and 2 for a host bridge), and on `#address-cells` of the node above. A sysfs copy may lack the
/// latter. Its value is then 1 or 2, whichever fits the length of the property; `None` if both or neither fit.
fn parse(tree: &Tree, node: &str, bytes: &[u8], is_host_bridge: bool) -> Option<Vec<InboundRange>> {
    let cells = |node: &str, name: &str| {
        let bytes = tree.read(&format!("{node}/{name}"))?;
        usize::try_from(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?)).ok().filter(|cells| *cells <= 4)
    };
    // The bus address of a host bridge has one cell of flags and two cells of address (IEEE 1275 PCI binding).
    let bus = if is_host_bridge { 3 } else { cells(node, "#address-cells")? };
    let size = if is_host_bridge { 2 } else { cells(node, "#size-cells")? };
    let above = above(node).unwrap_or(node);
    let words: Vec<u32> =
        bytes.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]])).collect();
    let fits = |cpu: usize| words.len().is_multiple_of(bus + cpu + size);
    let cpu = match cells(above, "#address-cells") {
        Some(cells) => cells,
        None => match (fits(2), fits(1)) {
            (true, false) => 2,
            (false, true) => 1,
            _ => return None,
        },
    };
    let is_whole = bytes.len().is_multiple_of(4) && fits(cpu);
    if !is_whole || bus == 0 || size == 0 || words.len() / (bus + cpu + size) > MAX_RANGES {
        return None;
    }
    let number =
        |words: &[u32]| words.iter().rev().take(2).rev().fold(0_u64, |value, word| value << 32 | u64::from(*word));
    let entries = words.chunks_exact(bus + cpu + size).map(|entry| InboundRange {
        // The first of three cells holds flags.
        dma_start: number(&entry[..bus][usize::from(bus == 3)..]),
        cpu_start: number(&entry[bus..bus + cpu]),
        size_bytes: number(&entry[bus + cpu..]),
    });
    Some(entries.filter(|range| range.size_bytes > 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "sys/devices/platform/soc/50000000.pcie";

    fn property(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn read(files: &[(&str, Vec<u8>)], link: bool) -> Inbound {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let device = root.path().join(DEVICE);
        std::fs::create_dir_all(&device).unwrap();
        if link {
            let target = "../../../../firmware/devicetree/base/axi/pcie@120000";
            std::os::unix::fs::symlink(target, device.join("of_node")).unwrap();
        }
        Inbound::read(&Tree::open(root.path()).unwrap(), DEVICE)
    }

    #[test]
    fn reads_the_property_of_the_node_that_names_the_device() {
        let file = "sys/firmware/devicetree/base/soc/pcie@50000000/dma-ranges";
        let entry = property(&[0x4300_0000, 0, 0x8000_0000, 0, 0x9000_0000, 8, 0]);
        let Inbound::Ranges(ranges) = read(&[(file, entry.clone())], false) else { panic!() };
        assert_eq!(ranges, [InboundRange { dma_start: 0x8000_0000, cpu_start: 0x9000_0000, size_bytes: 8 << 32 }]);
        assert_eq!(ranges[0].dma_address(0x9000_0010), Some(0x8000_0010));
        assert_eq!((ranges[0].dma_address(0x8fff_ffff), ranges[0].dma_address(u64::MAX)), (None, None));
        assert_eq!(Inbound::Ranges(ranges).highest(), 0x8_7fff_ffff);
        assert_eq!(read(&[(file, entry[..20].to_vec())], false), Inbound::Unknown, "truncated");
    }

    #[test]
    fn follows_the_link_to_the_node() {
        let file = "sys/firmware/devicetree/base/axi/pcie@120000/dma-ranges";
        let entries = property(&[0x0200_0000, 0, 0, 0x1f, 0, 0, 0x40_0000, 0x4300_0000, 0x10, 0, 0, 0, 0x10, 0]);
        let Inbound::Ranges(ranges) = read(&[(file, entries)], true) else { panic!() };
        assert_eq!(ranges.len(), 2);
        assert_eq!(ranges[1].dma_address(0x1000), Some(0x10_0000_1000));
    }

    #[test]
    fn a_node_without_the_property_forwards_everything() {
        let file = "sys/firmware/devicetree/base/soc/pcie@50000000/compatible";
        assert_eq!(read(&[(file, b"pci".to_vec())], false), Inbound::All);
        assert_eq!(read(&[("sys/firmware/devicetree/base/soc/pcie@50000000/dma-ranges", vec![])], false), Inbound::All);
    }

    #[test]
    fn more_ranges_than_firmware_declares_are_unknown() {
        let file = "sys/firmware/devicetree/base/soc/pcie@50000000/dma-ranges";
        let ranges = |count| {
            let entry = [0x4300_0000, 0, 0x8000_0000, 0, 0x9000_0000, 8, 0];
            read(&[(file, property(&entry.repeat(count)))], false)
        };
        assert!(matches!(ranges(MAX_RANGES), Inbound::Ranges(found) if found.len() == MAX_RANGES));
        assert_eq!(ranges(MAX_RANGES + 6), Inbound::Unknown);
    }

    #[test]
    fn a_copy_without_devicetree_leaves_the_ranges_unknown() {
        assert_eq!(read(&[], false), Inbound::Unknown);
    }

    #[test]
    fn host_bridges_of_acpi_have_no_ranges() {
        let tree = Tree::open(tempfile::tempdir().unwrap().path()).unwrap();
        assert_eq!(Inbound::read(&tree, "sys/devices"), Inbound::All);
        assert_eq!(Inbound::read(&tree, "sys/devices/platform/ACPI0016:00"), Inbound::All);
    }
}
