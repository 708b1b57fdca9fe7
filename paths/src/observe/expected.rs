//! What is known of a step before its trace is read.

use std::error::Error;
use std::io;
use std::ops::Range;

use crate::{Bdf, Function, Membership, Topology};

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
    /// Bus address minus physical address of the exporter's memory behind its host bridge, modulo 2^64, where known.
    pub bus_offset: Option<u64>,
    /// The errno with which the step failed, if it did; 0 where it is not known.
    pub failed_with: Option<i32>,
}

impl Expected {
    /// Of a step that succeeded, with nothing else known.
    pub fn new(memory: Memory) -> Self {
        Self { memory, translated: None, bus_offset: None, failed_with: None }
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

    /// The step failed with this error; its errno is looked for in the chain of its sources.
    #[must_use]
    pub fn failed(self, error: &(dyn Error + 'static)) -> Self {
        let chain = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
        let errno = |error: &(dyn Error + 'static)| error.downcast_ref::<io::Error>()?.raw_os_error();
        // Without an errno it failed all the same.
        Self { failed_with: Some(chain.into_iter().find_map(errno).unwrap_or_default()), ..self }
    }

    /// Whether some of the memory lies there.
    pub(super) fn covers(&self, phys: u64, length_bytes: u64) -> bool {
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
