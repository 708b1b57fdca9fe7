//! What is known of a step before its trace is read.

use std::error::Error;
use std::io;
use std::ops::Range;

use peerpath_paths::{Bdf, Function, Membership, Topology};

/// What the memory is that was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// A device's memory, at these physical addresses.
    Mmio(Vec<Range<u64>>),
    /// Ordinary memory: a baseline.
    Ordinary,
}

/// What the caller knows of the step that was watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The memory.
    pub memory: Memory,
    /// Whether the importer's IOMMU domain translates; `None` if not known. It is held against what is seen: a
    /// contradiction is an unknown path, not a guess.
    pub translated: Option<bool>,
    /// The importer has an address space of its own: what the kernel does not map there, it has refused.
    pub own_address_space: bool,
    /// Bus address minus physical address of the exporter's memory behind its host bridge, modulo 2^64, where known.
    pub bus_offset: Option<u64>,
    /// The errno with which the step failed, if it did; 0 where it is not known.
    pub failed_with: Option<i32>,
}

impl Expected {
    /// Of a step that succeeded, with nothing else known.
    pub fn new(memory: Memory) -> Self {
        Self { memory, translated: None, own_address_space: false, bus_offset: None, failed_with: None }
    }

    /// Of ranges (offset and length) of a BAR that are registered with an importer on the function `to`. Without ranges it is
    /// the whole BAR. `None` where there is no such BAR. Read the topology afresh if a domain type was changed.
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
            // The topology has it the other way round: what the bus shows less than the CPU's address.
            bus_offset: offset.and_then(|offset| u64::try_from((-offset).rem_euclid(1 << 64)).ok()),
            ..Self::new(memory)
        })
    }

    /// The importer has an I/O address space of its own, which translates whatever the domain of its group is.
    #[must_use]
    pub fn in_own_address_space(self) -> Self {
        Self { translated: Some(true), own_address_space: true, ..self }
    }

    /// The step failed with this error; its errno is looked for in the chain of its sources.
    #[must_use]
    pub fn failed(self, error: &(dyn Error + 'static)) -> Self {
        let chain = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
        let errno = |error: &(dyn Error + 'static)| error.downcast_ref::<io::Error>()?.raw_os_error();
        // Without an errno it failed all the same.
        Self { failed_with: Some(chain.into_iter().find_map(errno).unwrap_or_default()), ..self }
    }

    /// Whether some of the memory lies there.
    pub(crate) fn covers(&self, phys: u64, length_bytes: u64) -> bool {
        let Memory::Mmio(ranges) = &self.memory else { return false };
        let end = phys.saturating_add(length_bytes);
        ranges.iter().any(|range| phys < range.end && range.start < end)
    }
}

/// The DMA API maps through the IOMMU where the domain is of one of its own types: `DMA` and `DMA-FQ`.
fn translates(topology: &Topology, importer: &Function) -> Option<bool> {
    match importer.membership {
        Membership::None => Some(false),
        Membership::Unknown => None,
        Membership::Group(_) => {
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

    use super::*;
    use peerpath_paths::Tree;

    /// An exporter with a BAR of 64 KiB and an importer in a group of this type, or in none.
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
    fn the_topology_knows_where_the_memory_is() {
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
    fn the_topology_knows_whether_the_importer_is_translated() {
        for (domain_type, translated) in
            [(Some("DMA"), true), (Some("DMA-FQ"), true), (Some("identity"), false), (None, false)]
        {
            assert_eq!(expected(domain_type, 0, &[]).unwrap().translated, Some(translated), "{domain_type:?}");
        }
    }

    #[test]
    fn the_errno_is_found_below_other_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);

        let expected = Expected::new(Memory::Ordinary);
        assert_eq!(expected.clone().failed(&Outer(io::Error::from_raw_os_error(22))).failed_with, Some(22));
        assert_eq!(expected.failed(&Outer(io::Error::other("no errno"))).failed_with, Some(0));
    }
}
