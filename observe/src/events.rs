//! The events of a trace that concern the registered memory.
//!
//! The recorded threads also map other memory, e.g. the receive buffers of a NIC during an interrupt. The physical address
//! distinguishes them: only mappings that overlap the registered memory count.

use peerpath_paths::PathName;

use crate::calls;
use crate::expected::Expected;
use crate::observation::{MapType, Mapping};
use crate::parse::{Event, Ranges};
use crate::trace::Trace;

/// `DMA_MAPPING_ERROR`: the DMA address of a refused mapping.
pub(crate) const DMA_MAPPING_ERROR: u64 = u64::MAX;

/// Bit numbers of the DMA attributes (`include/linux/dma-mapping.h`), with the names that the kernel's trace events print.
const ATTRIBUTES: [(u32, &str); 11] = [
    (1, "WEAK_ORDERING"),
    (2, "WRITE_COMBINE"),
    (4, "NO_KERNEL_MAPPING"),
    (5, "SKIP_CPU_SYNC"),
    (6, "FORCE_CONTIGUOUS"),
    (7, "ALLOC_SINGLE_PAGES"),
    (8, "NO_WARN"),
    (9, "PRIVILEGED"),
    (10, "MMIO"),
    (12, "REQUIRE_COHERENT"),
    (13, "CC_SHARED"),
];

fn attribute_names(bits: u64) -> String {
    let named = ATTRIBUTES.iter().filter(|(bit, _)| bits & (1 << bit) != 0);
    let known = named.clone().fold(0, |known, (bit, _)| known | 1 << bit);
    let mut names: Vec<String> = named.map(|(_, name)| (*name).to_owned()).collect();
    if bits & !known != 0 {
        names.push(format!("{:#x}", bits & !known));
    }
    names.join("|")
}

/// The events that concern the registered memory.
#[derive(Default)]
pub(crate) struct MemoryEvents<'a> {
    pub(crate) direct: Vec<DirectMapping<'a>>,
    pub(crate) iommu: Vec<IommuMapping>,
    /// Number of mappings of other memory.
    pub(crate) of_other_memory: usize,
    /// Distinct map types that P2PDMA returned, in order of their first occurrence.
    pub(crate) map_types: Vec<MapType>,
    /// Exporter and device of each attachment.
    pub(crate) attachments: Vec<(&'a str, &'a str)>,
    /// Physical address and attributes of each call of `dma_iova_link`.
    links: Vec<(Option<u64>, Option<u64>)>,
    pub(crate) link_errno: Option<i32>,
    pub(crate) ranges: Option<&'a Ranges>,
}

/// A `dma:dma_map_phys` event.
pub(crate) struct DirectMapping<'a> {
    pub(crate) device: &'a str,
    pub(crate) phys: u64,
    pub(crate) dma_address: u64,
    pub(crate) length_bytes: u64,
    attributes: &'a str,
}

/// An `iommu:map` event.
#[derive(Clone, Copy)]
pub(crate) struct IommuMapping {
    pub(crate) iova: u64,
    pub(crate) phys: u64,
    pub(crate) length_bytes: u64,
}

impl IommuMapping {
    fn translates(self, dma_address: u64, phys: u64) -> bool {
        let offset = dma_address.wrapping_sub(self.iova);
        offset < self.length_bytes && self.phys.wrapping_add(offset) == phys
    }
}

impl<'a> MemoryEvents<'a> {
    pub(crate) fn of(trace: &'a Trace, expected: &Expected) -> Self {
        let mut events = Self::default();
        for record in &trace.log.records {
            match &record.event {
                Event::DirectMap { device, phys, dma_address, length_bytes, attributes } => {
                    let direct = DirectMapping {
                        device,
                        phys: *phys,
                        dma_address: *dma_address,
                        length_bytes: *length_bytes,
                        attributes,
                    };
                    events.add(expected.covers(*phys, *length_bytes), |events| events.direct.push(direct));
                }
                // The kernel reports a failed mapping with a length of zero.
                Event::IommuMap { length_bytes: 0, .. } => {}
                Event::IommuMap { iova, phys, length_bytes } => {
                    let mapping = IommuMapping { iova: *iova, phys: *phys, length_bytes: *length_bytes };
                    events.add(expected.covers(*phys, *length_bytes), |events| events.iommu.push(mapping));
                }
                Event::MapType(raw) => {
                    let answer = MapType::from_raw(*raw);
                    if !events.map_types.contains(&answer) {
                        events.map_types.push(answer);
                    }
                }
                Event::Attached { exporter, device } => events.attachments.push((exporter, device)),
                Event::Link { phys, attributes } => events.links.push((*phys, *attributes)),
                Event::Linked(result) => events.link_errno = events.link_errno.or(calls::errno(*result)),
                Event::Ranges(ranges) => events.ranges = events.ranges.or(Some(ranges)),
                Event::Enter(_) | Event::Return { .. } | Event::Marker(_) => {}
            }
        }
        events
    }

    fn add(&mut self, concerns_memory: bool, add: impl FnOnce(&mut Self)) {
        if concerns_memory { add(self) } else { self.of_other_memory += 1 }
    }

    /// Whether an `iommu:map` event covers a mapping of `dma_map_phys`. The `dma_map_phys` event alone does not show whether the
    /// IOMMU translates the address.
    pub(crate) fn is_translated(&self, direct: &DirectMapping<'_>) -> bool {
        self.iommu.iter().any(|mapping| mapping.translates(direct.dma_address, direct.phys))
    }

    pub(crate) fn attribute(&self) -> Option<String> {
        if let Some(direct) = self.direct.first() {
            return Some(direct.attributes.to_owned());
        }
        // A probe that reads arguments by number may read the wrong argument. The attributes count only if the physical address
        // from the same probe lies in a recorded mapping.
        let plausible = |(phys, attributes): &(Option<u64>, Option<u64>)| {
            let phys = (*phys)?;
            self.iommu
                .iter()
                .any(|map| map.phys <= phys && phys - map.phys < map.length_bytes)
                .then_some(*attributes)?
        };
        self.links.iter().find_map(plausible).map(attribute_names)
    }

    pub(crate) fn mappings(&self, expected: &Expected, path: PathName) -> Vec<Mapping> {
        let attached = || self.attachments.first().map(|(_, device)| (*device).to_owned());
        if !self.direct.is_empty() {
            let mapping = |direct: &DirectMapping<'_>| Mapping {
                device: Some(direct.device.to_owned()),
                phys: direct.phys,
                dma_address: (direct.dma_address != DMA_MAPPING_ERROR).then_some(direct.dma_address),
                length_bytes: direct.length_bytes,
            };
            return self.direct.iter().map(mapping).collect();
        }
        if !self.iommu.is_empty() {
            let mapping = |map: &IommuMapping| Mapping {
                device: attached(),
                phys: map.phys,
                dma_address: Some(map.iova),
                length_bytes: map.length_bytes,
            };
            return self.iommu.iter().map(mapping).collect();
        }
        let bus_address = || {
            let ranges = self.ranges?;
            let (phys, length_bytes) = (ranges.phys?, ranges.length_bytes?);
            let offset = ranges.bus_offset.or(expected.bus_offset)?;
            let dma_address = Some(phys.wrapping_add(offset));
            expected.covers(phys, length_bytes).then(|| Mapping {
                device: ranges.device.clone().or_else(attached),
                phys,
                dma_address,
                length_bytes,
            })
        };
        (path == PathName::BusAddress).then(bus_address).flatten().into_iter().collect()
    }
}
