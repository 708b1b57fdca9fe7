//! The evidence of an observation: the relevant events, one sentence each.

use nix::errno::Errno;

use crate::events::{DMA_MAPPING_ERROR, DirectMapping, MemoryEvents};
use crate::expected::{Expected, Memory};
use crate::observation::MapType;
use crate::parse::Ranges;
use crate::trace::Trace;

pub(crate) fn describe(trace: &Trace, events: &MemoryEvents<'_>, expected: &Expected) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(first_and_count(&events.attachments, |(exporter, device)| {
        format!("{device} attached to the dma-buf of {exporter}")
    }));
    for answer in &events.map_types {
        lines.push(format!("pci_p2pdma_map_type returned {answer}"));
    }
    for call in trace.calls.iter().filter(|call| call.errno.is_some()) {
        let errno = Errno::from_raw(call.errno.unwrap_or_default());
        lines.push(format!("{} failed with {errno:?}", call.operation));
    }
    if let Some(errno) = events.link_errno {
        lines.push(format!("dma_iova_link failed with {:?}", Errno::from_raw(errno)));
    }
    lines.extend(first_and_count(&events.direct, |direct| {
        let DirectMapping { device, phys, dma_address, length_bytes, .. } = direct;
        match *dma_address {
            DMA_MAPPING_ERROR => format!("dma_map_phys refused to map {phys:#x}+{length_bytes:#x} for {device}"),
            _ => {
                format!("dma_map_phys mapped {phys:#x}+{length_bytes:#x} to DMA address {dma_address:#x} for {device}")
            }
        }
    }));
    lines.extend(first_and_count(&events.iommu, |map| {
        format!("the IOMMU mapped IOVA {:#x} to {:#x}+{:#x}", map.iova, map.phys, map.length_bytes)
    }));
    let is_mapped = !events.direct.is_empty() || !events.iommu.is_empty();
    if let (false, Some(Ranges { phys: Some(phys), bus_offset: Some(offset), .. })) = (is_mapped, events.ranges) {
        lines.push(format!("bus address {:#x} for physical address {phys:#x}", phys.wrapping_add(*offset)));
    }
    if events.map_types == [MapType::BusAddress] && !is_mapped {
        lines.push("neither the DMA API nor the IOMMU mapped this memory".into());
    }
    if let Some(attribute) = events.attribute() {
        lines.push(format!("mapped with the attribute {attribute}"));
    }
    if events.of_other_memory > 0 && expected.memory != Memory::Ordinary {
        lines.push(format!("ignored mappings of other memory: {}", events.of_other_memory));
    }
    if trace.log.lost_events > 0 {
        lines.push(format!("lost events: {}", trace.log.lost_events));
    }
    if trace.log.unreadable_lines > 0 {
        lines.push(format!("unreadable lines of the trace: {}", trace.log.unreadable_lines));
    }
    lines.extend(trace.missing.iter().cloned());
    lines
}

/// Formats the first item and the number of further items, because a buffer may have hundreds of ranges.
fn first_and_count<T>(items: &[T], describe: impl Fn(&T) -> String) -> Option<String> {
    let first = describe(items.first()?);
    Some(match items.len() {
        1 => first,
        count => format!("{first}, and {} more", count - 1),
    })
}
