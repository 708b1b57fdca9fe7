//! Facts about a registration that the caller knows before the trace is read.

use std::error::Error;
use std::io;
use std::ops::Range;

use peerpath_paths::{Bdf, Function, GroupMembership, Topology};

/// The registered memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// Device memory (MMIO) at these physical addresses.
    Mmio(Vec<Range<u64>>),
    /// Ordinary memory of the host: the baseline.
    Ordinary,
}

/// Facts about the recorded registration that the caller knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The memory that was registered.
    pub memory: Memory,
    /// Whether the importer's IOMMU domain translates; `None` if unknown. If the trace contradicts this value, the path is
    /// unknown.
    pub translated: Option<bool>,
    /// Whether the importer maps into its own I/O address space (iommufd). A failed registration without a recorded mapping is
    /// then a refusal.
    pub own_address_space: bool,
    /// Bus address minus physical address of the exporter's memory, modulo 2^64; `None` if unknown.
    pub bus_offset: Option<u64>,
    /// Errno of a failed registration, 0 if unknown; `None` if the registration succeeded.
    pub failed_with: Option<i32>,
}

impl Expected {
    /// Describes a successful registration without further facts.
    pub fn new(memory: Memory) -> Self {
        Self { memory, translated: None, own_address_space: false, bus_offset: None, failed_with: None }
    }

    /// Describes the registration of ranges of a BAR (offset and length in bytes) by an importer on the function `to`. An empty
    /// list of ranges means the whole BAR. Returns `None` if the BAR does not exist. `topology` must have been read after the
    /// last change of a domain type.
    pub fn of_bar(topology: &Topology, from: Bdf, bar: u8, ranges: &[(u64, u64)], to: Option<Bdf>) -> Option<Self> {
        let bar = topology.function(from)?.bars.iter().find(|found| found.index == bar && found.assigned)?;
        let range = |&(offset, length): &(u64, u64)| {
            let start = bar.start.checked_add(offset)?;
            Some(start..start.checked_add(length)?)
        };
        let whole = [(0, bar.size_bytes)];
        let ranges = if ranges.is_empty() { &whole[..] } else { ranges };
        let memory = Memory::Mmio(ranges.iter().map(range).collect::<Option<_>>()?);
        let importer = to.and_then(|to| topology.function(to));
        let offset = topology.root_above(from).and_then(|root| root.offset);
        Some(Self {
            translated: importer.and_then(|importer| translates(topology, importer)),
            // The topology stores the opposite sign: CPU address minus bus address.
            bus_offset: offset.and_then(|offset| u64::try_from((-offset).rem_euclid(1 << 64)).ok()),
            ..Self::new(memory)
        })
    }

    /// Records that the importer has its own I/O address space, whose translation does not depend on the domain of the importer's
    /// group.
    #[must_use]
    pub fn in_own_address_space(self) -> Self {
        Self { translated: Some(true), own_address_space: true, ..self }
    }

    /// Records that the registration failed with this error. The errno is that of the first [`io::Error`] in the chain of
    /// sources.
    #[must_use]
    pub fn failed(self, error: &(dyn Error + 'static)) -> Self {
        let chain = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
        let errno = |error: &(dyn Error + 'static)| error.downcast_ref::<io::Error>()?.raw_os_error();
        // 0 is a failure with an unknown errno.
        Self { failed_with: Some(chain.into_iter().find_map(errno).unwrap_or_default()), ..self }
    }

    /// Whether a physical address range overlaps the memory.
    pub(crate) fn covers(&self, phys: u64, length_bytes: u64) -> bool {
        let Memory::Mmio(ranges) = &self.memory else { return false };
        let end = phys.saturating_add(length_bytes);
        ranges.iter().any(|range| phys < range.end && range.start < end)
    }
}

/// Whether the DMA API maps through the IOMMU for this importer: it does so only in domains of type `DMA` and `DMA-FQ`.
fn translates(topology: &Topology, importer: &Function) -> Option<bool> {
    match importer.membership {
        GroupMembership::None => Some(false),
        GroupMembership::Unknown => None,
        GroupMembership::Group(_) => {
            let group = topology.group_of(importer)?;
            if group.noiommu {
                return Some(false);
            }
            group.domain_type.as_deref().map(|name| name.starts_with("DMA"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use peerpath_paths::Tree;

    use super::*;

    /// A fake sysfs with an exporter (BAR of 64 KiB) and an importer, in one IOMMU group of this domain type or without a group.
    fn host(domain_type: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let sys = root.path().join("sys");
        fs::create_dir_all(sys.join("bus/pci/devices")).unwrap();
        for bdf in ["0000:00:01.0", "0000:00:02.0"] {
            let function = sys.join("devices/pci0000:00").join(bdf);
            fs::create_dir_all(&function).unwrap();
            fs::write(function.join("resource"), "0x00000000e0000000 0x00000000e000ffff 0x0000000000040200\n").unwrap();
            symlink("../../../bus/pci", function.join("subsystem")).unwrap();
            symlink(format!("../../../devices/pci0000:00/{bdf}"), sys.join("bus/pci/devices").join(bdf)).unwrap();
            if let Some(domain_type) = domain_type {
                let group = sys.join("kernel/iommu_groups/3");
                fs::create_dir_all(group.join("devices")).unwrap();
                fs::write(group.join("type"), format!("{domain_type}\n")).unwrap();
                symlink("../../../kernel/iommu_groups/3", function.join("iommu_group")).unwrap();
            }
        }
        root
    }

    fn expected(domain_type: Option<&str>, bar: u8, ranges: &[(u64, u64)]) -> Option<Expected> {
        let root = host(domain_type);
        let topology = Topology::read(&Tree::open(root.path()).unwrap());
        let bdf = |text: &str| text.parse().unwrap();
        Expected::of_bar(&topology, bdf("0000:00:01.0"), bar, ranges, Some(bdf("0000:00:02.0")))
    }

    #[test]
    fn finds_the_physical_address_of_bar_ranges() {
        let memory = |ranges| expected(Some("DMA"), 0, ranges).map(|expected| expected.memory);
        assert_eq!(memory(&[]), memory(&[(0, 0x1_0000)]));
        assert_eq!(
            memory(&[(0x1000, 0x1000), (0x8000, 0x2000)]),
            Some(Memory::Mmio(vec![0xe000_1000..0xe000_2000, 0xe000_8000..0xe000_a000]))
        );
        assert_eq!(memory(&[(u64::MAX, 1)]), None);
        assert_eq!(expected(Some("DMA"), 1, &[]), None);
    }

    #[test]
    fn finds_whether_the_importers_domain_translates() {
        for (domain_type, translated) in
            [(Some("DMA"), true), (Some("DMA-FQ"), true), (Some("identity"), false), (None, false)]
        {
            assert_eq!(expected(domain_type, 0, &[]).unwrap().translated, Some(translated), "{domain_type:?}");
        }
    }

    #[test]
    fn finds_the_errno_in_the_chain_of_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);

        let expected = Expected::new(Memory::Ordinary);
        assert_eq!(expected.clone().failed(&Outer(io::Error::from_raw_os_error(22))).failed_with, Some(22));
        assert_eq!(expected.failed(&Outer(io::Error::other("no errno"))).failed_with, Some(0));
    }
}
