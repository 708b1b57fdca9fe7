//! Derives the path from the events of a trace.
//!
//! | events | path |
//! |---|---|
//! | P2PDMA returned `BUS_ADDR`, and neither the DMA API nor the IOMMU mapped this memory | `bus-address` |
//! | `dma:dma_map_phys` of this memory; the DMA address is the physical address, or differs by the known offset of the host bridge | `host-bridge-bypass` |
//! | `iommu:map` of this memory | `host-bridge-translated` |
//! | the last attach, pin or map returned an errno, or the last `dma_map_phys` returned `DMA_MAPPING_ERROR` | `refused` |
//! | anything else, or contradicting events | `unknown`, with the reason |

use nix::errno::Errno;
use peerpath_paths::PathName;

use crate::events::{DMA_MAPPING_ERROR, DirectMapping, MemoryEvents};
use crate::evidence::describe;
use crate::expected::{Expected, Memory};
use crate::observation::{MapType, Observation};
use crate::operation::DmaBufOp;
use crate::parse::Ranges;
use crate::trace::Trace;

impl Trace {
    /// The path that the kernel set up. The trace must contain one registration only: events do not identify their
    /// registration.
    pub fn classify(&self, expected: &Expected) -> Observation {
        let events = MemoryEvents::of(self, expected);
        let path_or_reason = path(self, &events, expected);
        let path = path_or_reason.as_ref().copied().unwrap_or(PathName::Unknown);
        let mappings = events.mappings(expected, path);
        let mut evidence: Vec<String> = path_or_reason.err().into_iter().collect();
        evidence.extend(describe(self, &events, expected));
        let equals =
            mappings.iter().map(|mapping| mapping.dma_address.map(|address| address == mapping.phys)).collect();
        Observation {
            path,
            evidence,
            attribute: events.attribute(),
            dma_address_equals_physical: Option::<Vec<bool>>::filter(equals, |equal| {
                !equal.is_empty() && path != PathName::Refused
            })
            .map(|equal| equal.into_iter().all(|equal| equal)),
            map_type: events.map_types.first().copied(),
            mappings,
            failed_calls: self.calls.iter().filter(|call| call.errno.is_some()).cloned().collect(),
        }
    }
}

/// The path, or the reason why it is unknown.
fn path(trace: &Trace, events: &MemoryEvents<'_>, expected: &Expected) -> Result<PathName, String> {
    if is_refused(trace, events, expected)? {
        return Ok(PathName::Refused);
    }
    if expected.memory == Memory::Ordinary {
        return Ok(PathName::HostMemory);
    }
    let path = match events.map_types[..] {
        [MapType::BusAddress] => bus_address(trace, events, expected),
        [] | [MapType::ThroughHostBridge] => host_bridge(trace, events, expected),
        [MapType::NotSupported] => Err("P2PDMA returned NOT_SUPPORTED, but the memory was mapped".into()),
        [MapType::Other(raw)] => Err(format!("P2PDMA returned the unknown map type {raw}")),
        _ => Err("P2PDMA returned different map types during one registration".into()),
    }?;
    match (path, expected.translated) {
        (PathName::HostBridgeBypass, Some(true)) => {
            Err("the DMA address equals the physical address although the importer's IOMMU domain translates".into())
        }
        (PathName::HostBridgeTranslated, Some(false)) => {
            Err("the IOMMU mapped the memory although the importer's domain does not translate".into())
        }
        _ => Ok(path),
    }
}

fn is_refused(trace: &Trace, events: &MemoryEvents<'_>, expected: &Expected) -> Result<bool, String> {
    // The last call decides, because an importer may retry.
    let last = trace.calls.iter().rfind(|call| call.operation.is_of_import());
    if last.is_some_and(|call| call.errno.is_some()) {
        return Ok(true);
    }
    if events.direct.last().is_some_and(|direct| direct.dma_address == DMA_MAPPING_ERROR) {
        return Ok(true);
    }
    let Some(errno) = expected.failed_with else { return Ok(false) };
    // For an importer with its own address space, attaching alone does not map the memory.
    let attached = last.is_some() && !expected.own_address_space;
    let was_mapped = attached || !events.direct.is_empty() || !events.iommu.is_empty();
    if was_mapped {
        return Ok(false);
    }
    if expected.own_address_space {
        return Ok(true);
    }
    let name = Errno::from_raw(errno);
    if trace.records_calls && name == Errno::EOPNOTSUPP {
        // EOPNOTSUPP before the importer attached: its driver does not support dma-bufs.
        return Ok(true);
    }
    if events.map_types == [MapType::NotSupported] {
        return Ok(true);
    }
    let when = if trace.records_calls {
        "before the importer attached to the buffer"
    } else {
        "and this kernel does not report dma-buf calls"
    };
    Err(match errno {
        0 => format!("the registration failed {when}"),
        _ => format!("the registration failed with {name:?} {when}"),
    })
}

fn bus_address(trace: &Trace, events: &MemoryEvents<'_>, expected: &Expected) -> Result<PathName, String> {
    if !events.direct.is_empty() || !events.iommu.is_empty() {
        return Err("P2PDMA returned BUS_ADDR, but the memory was mapped through the host bridge".into());
    }
    // With BTF the probe reads its arguments by name, bus_offset among them. Without BTF the physical address is unreliable.
    if let Some(&Ranges { phys: Some(phys), length_bytes: Some(length), bus_offset: Some(_), .. }) = events.ranges
        && !expected.covers(phys, length)
    {
        return Err(format!("P2PDMA returned BUS_ADDR for other memory, at {phys:#x}"));
    }
    // The path `bus-address` follows from the absence of mapping events, so the trace must be complete.
    if trace.log.lost_events > 0 || trace.log.unreadable_lines > 0 {
        return Err("P2PDMA returned BUS_ADDR, but events were lost, so other mappings cannot be ruled out".into());
    }
    match trace.missing_tracepoints.first() {
        Some(missing) => Err(format!("P2PDMA returned BUS_ADDR, but {missing}, so other mappings cannot be ruled out")),
        None => Ok(PathName::BusAddress),
    }
}

fn host_bridge(trace: &Trace, events: &MemoryEvents<'_>, expected: &Expected) -> Result<PathName, String> {
    let mut paths: Vec<Result<PathName, String>> =
        events.direct.iter().map(|direct| direct_path(events, expected, direct)).collect();
    if paths.is_empty() && !events.iommu.is_empty() {
        paths.push(Ok(PathName::HostBridgeTranslated));
    }
    let Some(first) = paths.first().cloned() else { return Err(no_mapping(trace, events)) };
    if paths.iter().any(|path| *path != first) {
        return Err("parts of the memory were mapped differently".into());
    }
    first
}

fn direct_path(events: &MemoryEvents<'_>, expected: &Expected, direct: &DirectMapping<'_>) -> Result<PathName, String> {
    if events.is_translated(direct) {
        return Ok(PathName::HostBridgeTranslated);
    }
    let offset = direct.dma_address.wrapping_sub(direct.phys);
    if offset == 0 || expected.bus_offset == Some(offset) {
        return Ok(PathName::HostBridgeBypass);
    }
    Err(format!(
        "the DMA address {:#x} differs from the physical address {:#x}, and no IOMMU mapping covers it",
        direct.dma_address, direct.phys
    ))
}

/// Why the path is unknown, for a trace without a mapping of the memory.
fn no_mapping(trace: &Trace, events: &MemoryEvents<'_>) -> String {
    if trace.log.lost_events > 0 {
        return "events were lost, and no remaining event shows a mapping of the memory".into();
    }
    if !events.map_types.is_empty() {
        return "P2PDMA returned THRU_HOST_BRIDGE, but no event shows a mapping of the memory".into();
    }
    let attached = !events.attachments.is_empty() || trace.calls.iter().any(|call| call.operation == DmaBufOp::Attach);
    let mapped = trace.calls.iter().any(|call| call.operation == DmaBufOp::Map);
    match (attached, mapped) {
        (_, true) | (true, false) if !trace.records_map_type => {
            "no event shows a mapping through the host bridge, and this kernel does not report the map type of P2PDMA"
                .into()
        }
        (_, true) => {
            "the importer mapped the buffer, but no event shows a call of P2PDMA, the DMA API or the IOMMU".into()
        }
        (true, false) => "the importer attached to the buffer but did not map it during the recording".into(),
        (false, false) => "no recorded thread attached to a dma-buf".into(),
    }
}
