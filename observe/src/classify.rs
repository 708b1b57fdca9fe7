//! From what was seen to the name of a path.
//!
//! | seen | path |
//! |---|---|
//! | p2pdma answered `BUS_ADDR`, and neither the DMA API nor the IOMMU mapped this memory | `bus-address` |
//! | `dma:dma_map_phys` of this memory, DMA address = physical address (or off by the host bridge's known offset) | `host-bridge-bypass` |
//! | `iommu:map` of this memory | `host-bridge-translated` |
//! | attach or map returned an errno, or `dma_map_phys` an address of all ones | `refused` |
//! | anything else, or two of these at once | `unknown`, with the reason |
//!
//! Events are told from those of other transfers of the same threads (a NIC's receive buffers, mapped in an interrupt)
//! by the physical address: only those within the exported memory count.

use std::fmt;

use nix::errno::Errno;

use crate::calls::{self, Call};
use crate::expected::{Expected, Memory};
use crate::operation::CallKind;
use crate::trace::Trace;
use crate::parse::{Event, Ranges};
use peerpath_paths::PathName;

/// What `pci_p2pdma_map_type` answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapType {
    /// It permits no route.
    NotSupported,
    /// Below a common switch.
    BusAddress,
    /// Through the host bridge.
    ThroughHostBridge,
    /// A number that Linux 7.3 does not have.
    Other(i32),
}

impl MapType {
    fn from_raw(raw: i32) -> Self {
        match raw {
            2 => Self::NotSupported,
            3 => Self::BusAddress,
            4 => Self::ThroughHostBridge,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for MapType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSupported => f.write_str("NOT_SUPPORTED (2)"),
            Self::BusAddress => f.write_str("BUS_ADDR (3)"),
            Self::ThroughHostBridge => f.write_str("THRU_HOST_BRIDGE (4)"),
            Self::Other(raw) => write!(f, "{raw}"),
        }
    }
}

/// A part of the memory, and where the device finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The device it was mapped for, where the event names it.
    pub device: Option<String>,
    /// Physical address.
    pub phys: u64,
    /// The address for the device; `None` where the kernel refused one.
    pub dma_address: Option<u64>,
    /// How much.
    pub length_bytes: u64,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The path taken, or `unknown`.
    pub path: PathName,
    /// What that rests on, a sentence each; for `unknown` the first one is the reason.
    pub evidence: Vec<String>,
    /// The mapping attributes that the kernel used (`MMIO`), where they were seen. A bus address is not mapped at all and has none.
    pub attribute: Option<String>,
    /// Whether the device's addresses are the physical ones.
    pub dma_address_equals_physical: Option<bool>,
    /// p2pdma's answer.
    pub map_type: Option<MapType>,
    /// The mappings of the memory; of a refused one, those that were made before it was refused.
    pub mappings: Vec<Mapping>,
    /// Calls into dma-buf that failed.
    pub failed_calls: Vec<Call>,
}

/// `DMA_MAPPING_ERROR`.
const NO_ADDRESS: u64 = u64::MAX;

/// Names of the attributes' bits, as the kernel's own events print them.
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

/// Events of the memory in question.
#[derive(Default)]
struct Seen<'a> {
    direct: Vec<Direct<'a>>,
    iommu: Vec<Translation>,
    elsewhere: usize,
    map_types: Vec<MapType>,
    attached: Vec<(&'a str, &'a str)>,
    links: Vec<(Option<u64>, Option<u64>)>,
    link_errno: Option<i32>,
    ranges: Option<&'a Ranges>,
}

struct Direct<'a> {
    device: &'a str,
    phys: u64,
    dma_address: u64,
    length_bytes: u64,
    attributes: &'a str,
}

#[derive(Clone, Copy)]
struct Translation {
    iova: u64,
    phys: u64,
    length_bytes: u64,
}

impl Translation {
    fn leads(self, dma_address: u64, phys: u64) -> bool {
        let offset = dma_address.wrapping_sub(self.iova);
        offset < self.length_bytes && self.phys.wrapping_add(offset) == phys
    }
}

impl<'a> Seen<'a> {
    fn of(trace: &'a Trace, expected: &Expected) -> Self {
        let mut seen = Self::default();
        for record in &trace.log.records {
            match &record.event {
                Event::DirectMap { device, phys, dma_address, length_bytes, attributes } => {
                    let direct = Direct {
                        device,
                        phys: *phys,
                        dma_address: *dma_address,
                        length_bytes: *length_bytes,
                        attributes,
                    };
                    seen.keep(expected.covers(*phys, *length_bytes), |seen| seen.direct.push(direct));
                }
                // One that failed says so by a length of zero.
                Event::IommuMap { length_bytes: 0, .. } => {}
                Event::IommuMap { iova, phys, length_bytes } => {
                    let translation = Translation { iova: *iova, phys: *phys, length_bytes: *length_bytes };
                    seen.keep(expected.covers(*phys, *length_bytes), |seen| seen.iommu.push(translation));
                }
                Event::MapType(raw) => {
                    let answer = MapType::from_raw(*raw);
                    if !seen.map_types.contains(&answer) {
                        seen.map_types.push(answer);
                    }
                }
                Event::Attached { exporter, device } => seen.attached.push((exporter, device)),
                Event::Link { phys, attributes } => seen.links.push((*phys, *attributes)),
                Event::Linked(result) => seen.link_errno = seen.link_errno.or(calls::errno(*result)),
                Event::Ranges(ranges) => seen.ranges = seen.ranges.or(Some(ranges)),
                Event::Enter(_) | Event::Leave { .. } | Event::Marker(_) => {}
            }
        }
        seen
    }

    fn keep(&mut self, is_ours: bool, keep: impl FnOnce(&mut Self)) {
        if is_ours { keep(self) } else { self.elsewhere += 1 }
    }

    /// Where the direct mapping went through the IOMMU after all, which its event does not say.
    fn is_translated(&self, direct: &Direct<'_>) -> bool {
        self.iommu.iter().any(|translation| translation.leads(direct.dma_address, direct.phys))
    }

    fn attribute(&self) -> Option<String> {
        if let Some(direct) = self.direct.first() {
            return Some(direct.attributes.to_owned());
        }
        // An argument taken by its number is believed only if the one beside it makes sense.
        let believed = |(phys, attributes): &(Option<u64>, Option<u64>)| {
            let phys = (*phys)?;
            self.iommu
                .iter()
                .any(|map| map.phys <= phys && phys - map.phys < map.length_bytes)
                .then_some(*attributes)?
        };
        self.links.iter().find_map(believed).map(attribute_names)
    }

    fn mappings(&self, expected: &Expected, path: PathName) -> Vec<Mapping> {
        let attached = || self.attached.first().map(|(_, device)| (*device).to_owned());
        if !self.direct.is_empty() {
            let mapping = |direct: &Direct<'_>| Mapping {
                device: Some(direct.device.to_owned()),
                phys: direct.phys,
                dma_address: (direct.dma_address != NO_ADDRESS).then_some(direct.dma_address),
                length_bytes: direct.length_bytes,
            };
            return self.direct.iter().map(mapping).collect();
        }
        if !self.iommu.is_empty() {
            let mapping = |map: &Translation| Mapping {
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

impl Trace {
    /// Which path it was. The trace is taken to be of one registration: nothing tells those of several threads apart.
    pub fn judge(&self, expected: &Expected) -> Observation {
        let seen = Seen::of(self, expected);
        let verdict = verdict(self, &seen, expected);
        let path = verdict.as_ref().copied().unwrap_or(PathName::Unknown);
        let mappings = seen.mappings(expected, path);
        let mut evidence: Vec<String> = verdict.err().into_iter().collect();
        evidence.extend(describe(self, &seen, expected));
        let equals = |mapping: &Mapping| mapping.dma_address.map(|address| address == mapping.phys);
        Observation {
            path,
            evidence,
            attribute: seen.attribute(),
            dma_address_equals_physical: mappings
                .iter()
                .map(equals)
                .collect::<Option<Vec<bool>>>()
                .filter(|equal| !equal.is_empty() && path != PathName::Refused)
                .map(|equal| equal.into_iter().all(|equal| equal)),
            map_type: seen.map_types.first().copied(),
            mappings,
            failed_calls: self.calls.iter().filter(|call| call.errno.is_some()).cloned().collect(),
        }
    }
}

/// The path, or why it cannot be told.
fn verdict(trace: &Trace, seen: &Seen<'_>, expected: &Expected) -> Result<PathName, String> {
    if is_refused(trace, seen, expected)? {
        return Ok(PathName::Refused);
    }
    if expected.memory == Memory::Ordinary {
        return Ok(PathName::HostMemory);
    }
    let path = match seen.map_types[..] {
        [MapType::BusAddress] => bus_address(trace, seen, expected),
        [] | [MapType::ThroughHostBridge] => host_bridge(trace, seen, expected),
        [MapType::NotSupported] => Err("p2pdma permits no route, and yet the memory was mapped".into()),
        [MapType::Other(raw)] => Err(format!("p2pdma answered {raw}, which is not known here")),
        _ => Err("p2pdma gave different answers during one step".into()),
    }?;
    match (path, expected.translated) {
        (PathName::HostBridgeBypass, Some(true)) => {
            Err("the DMA address is the physical one although the importer's IOMMU \
             domain translates"
                .into())
        }
        (PathName::HostBridgeTranslated, Some(false)) => {
            Err("the IOMMU mapped the memory although the importer's domain does not translate".into())
        }
        _ => Ok(path),
    }
}

fn is_refused(trace: &Trace, seen: &Seen<'_>, expected: &Expected) -> Result<bool, String> {
    // The last one counts: an importer may try again.
    let last = trace.calls.iter().rfind(|call| call.kind.is_of_import());
    if last.is_some_and(|call| call.errno.is_some()) {
        return Ok(true);
    }
    if seen.direct.last().is_some_and(|direct| direct.dma_address == NO_ADDRESS) {
        return Ok(true);
    }
    let Some(errno) = expected.failed_with else { return Ok(false) };
    // An attachment alone maps nothing in an address space.
    let attached = last.is_some() && !expected.own_address_space;
    let was_mapped = attached || !seen.direct.is_empty() || !seen.iommu.is_empty();
    if was_mapped {
        return Ok(false);
    }
    if expected.own_address_space {
        return Ok(true);
    }
    let name = Errno::from_raw(errno);
    if trace.sees_calls && name == Errno::EOPNOTSUPP {
        // The driver has no operation for dma-bufs.
        return Ok(true);
    }
    if seen.map_types == [MapType::NotSupported] {
        return Ok(true);
    }
    let why =
        if trace.sees_calls { "before the importer attached to the buffer" } else { "and no call could be watched" };
    Err(match errno {
        0 => format!("the step failed {why}"),
        _ => format!("the step failed with {name:?} {why}"),
    })
}

fn bus_address(trace: &Trace, seen: &Seen<'_>, expected: &Expected) -> Result<PathName, String> {
    if !seen.direct.is_empty() || !seen.iommu.is_empty() {
        return Err("p2pdma answered BUS_ADDR, and yet the memory was mapped through the host bridge".into());
    }
    // The kernel knows the name bus_offset only where it has BTF, and only then is the address beside it certain.
    if let Some(&Ranges { phys: Some(phys), length_bytes: Some(length), bus_offset: Some(_), .. }) = seen.ranges
        && !expected.covers(phys, length)
    {
        return Err(format!("p2pdma answered BUS_ADDR, but for other memory, at {phys:#x}"));
    }
    // Here the absence of events is the proof, so none may be missing.
    if trace.log.lost_events > 0 || trace.log.unreadable_lines > 0 {
        return Err(
            "p2pdma answered BUS_ADDR, but events were lost, so that nothing proves the absence of others".into()
        );
    }
    match trace.missing_tracepoints.first() {
        Some(missing) => Err(format!("p2pdma answered BUS_ADDR, but {missing}, so its absence proves nothing")),
        None => Ok(PathName::BusAddress),
    }
}

fn host_bridge(trace: &Trace, seen: &Seen<'_>, expected: &Expected) -> Result<PathName, String> {
    let mut paths: Vec<Result<PathName, String>> =
        seen.direct.iter().map(|direct| direct_path(seen, expected, direct)).collect();
    if paths.is_empty() && !seen.iommu.is_empty() {
        paths.push(Ok(PathName::HostBridgeTranslated));
    }
    let Some(first) = paths.first().cloned() else { return Err(nothing_seen(trace, seen)) };
    if paths.iter().any(|path| *path != first) {
        return Err("parts of the memory were mapped in different ways".into());
    }
    first
}

fn direct_path(seen: &Seen<'_>, expected: &Expected, direct: &Direct<'_>) -> Result<PathName, String> {
    if seen.is_translated(direct) {
        return Ok(PathName::HostBridgeTranslated);
    }
    let offset = direct.dma_address.wrapping_sub(direct.phys);
    if offset == 0 || expected.bus_offset == Some(offset) {
        return Ok(PathName::HostBridgeBypass);
    }
    Err(format!(
        "the DMA address {:#x} of physical address {:#x} is neither that nor one that the IOMMU was seen to map",
        direct.dma_address, direct.phys
    ))
}

fn nothing_seen(trace: &Trace, seen: &Seen<'_>) -> String {
    if trace.log.lost_events > 0 {
        return "events were lost, and none that is left shows the memory being mapped".into();
    }
    if !seen.map_types.is_empty() {
        return "p2pdma answered THRU_HOST_BRIDGE, but no event shows the memory being mapped".into();
    }
    let attached = !seen.attached.is_empty() || trace.calls.iter().any(|call| call.kind == CallKind::Attach);
    let mapped = trace.calls.iter().any(|call| call.kind == CallKind::Map);
    match (attached, mapped) {
        (_, true) | (true, false) if !trace.sees_map_type => {
            "nothing mapped the memory through the host bridge, and p2pdma's answer could not be watched".into()
        }
        (_, true) => "the buffer was mapped without asking p2pdma, the DMA API or the IOMMU".into(),
        (true, false) => "the importer attached to the buffer and did not map it while it was watched".into(),
        (false, false) => "no thread of this process attached to a dma-buf while it was watched".into(),
    }
}

fn describe(trace: &Trace, seen: &Seen<'_>, expected: &Expected) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(first_and_count(&seen.attached, |(exporter, device)| {
        format!("{device} attached to the dma-buf of {exporter}")
    }));
    for answer in &seen.map_types {
        lines.push(format!("pci_p2pdma_map_type returned {answer}"));
    }
    for call in trace.calls.iter().filter(|call| call.errno.is_some()) {
        let errno = Errno::from_raw(call.errno.unwrap_or_default());
        lines.push(format!("{} failed with {errno:?}", call.kind));
    }
    if let Some(errno) = seen.link_errno {
        lines.push(format!("dma_iova_link failed with {:?}", Errno::from_raw(errno)));
    }
    lines.extend(first_and_count(&seen.direct, |direct| {
        let Direct { device, phys, dma_address, length_bytes, .. } = direct;
        match *dma_address {
            NO_ADDRESS => format!("dma_map_phys refused an address for {phys:#x}+{length_bytes:#x} to {device}"),
            _ => format!("dma_map_phys gave {device} the DMA address {dma_address:#x} for {phys:#x}+{length_bytes:#x}"),
        }
    }));
    lines.extend(first_and_count(&seen.iommu, |map| {
        format!("the IOMMU mapped IOVA {:#x} to {:#x}+{:#x}", map.iova, map.phys, map.length_bytes)
    }));
    if let (true, Some(Ranges { phys: Some(phys), bus_offset: Some(offset), .. })) =
        (seen.direct.is_empty() && seen.iommu.is_empty(), seen.ranges)
    {
        lines.push(format!("bus address {:#x} for physical address {phys:#x}", phys.wrapping_add(*offset)));
    }
    if seen.map_types == [MapType::BusAddress] && seen.direct.is_empty() && seen.iommu.is_empty() {
        lines.push("neither the DMA API nor the IOMMU mapped this memory".into());
    }
    if let Some(attribute) = seen.attribute() {
        lines.push(format!("mapped with the attribute {attribute}"));
    }
    if seen.elsewhere > 0 && expected.memory != Memory::Ordinary {
        lines.push(format!("mappings of other memory, left out here: {}", seen.elsewhere));
    }
    if trace.log.lost_events > 0 {
        lines.push(format!("{} events were lost", trace.log.lost_events));
    }
    if trace.log.unreadable_lines > 0 {
        lines.push(format!("{} lines of the trace were not understood", trace.log.unreadable_lines));
    }
    lines.extend(trace.missing.iter().cloned());
    lines
}

/// 512 ranges are not 512 lines.
fn first_and_count<T>(items: &[T], describe: impl Fn(&T) -> String) -> Option<String> {
    let first = describe(items.first()?);
    Some(match items.len() {
        1 => first,
        count => format!("{first}, and {} more such", count - 1),
    })
}
