//! The PCI topology: the bridge above each function, its root bus and its IOMMU group.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::function::printable;
use crate::inbound::Inbound;
use crate::order::ListOrder;
use crate::{Bdf, Capability, Function, GroupMembership, HostChange, PortType, Tree, devices};

/// A root bus. The kernel identifies a host bridge with its root bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootBus {
    /// Segment (*domain* in Linux).
    pub segment: u32,
    /// Bus number within the segment.
    pub bus: u8,
    /// Functions that may be the first on the bus in the kernel's enumeration order; exactly one if the order is known.
    pub possible_first: Vec<Bdf>,
    /// Whether the kernel's enumeration order is known. Otherwise `possible_first` assumes the order of a boot: by address.
    pub order_known: bool,
    /// What the root bus belongs to.
    pub parent: RootParent,
    /// CPU address minus bus address of MMIO below the host bridge, in bytes; `None` if no BAR register shows the bus address.
    pub offset: Option<i128>,
    /// Addresses that the devices below the host bridge may use for DMA.
    pub inbound: Inbound,
}

/// A range of I/O virtual addresses that the IOMMU driver reserves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedRegion {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// Type: `direct`, `direct-relaxable`, `reserved` or `msi`.
    pub kind: String,
}

/// The parent of a root bus in sysfs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RootParent {
    /// A host bridge of the processor or the chip set that the firmware describes.
    #[default]
    Processor,
    /// A PCI function with a root bus of its own: a controller for Intel's Volume Management Device (VMD).
    Function(Bdf),
    /// A host bridge that a device tree describes, as on boards.
    Platform,
    /// A channel of Hyper-V's VMBus, through which the hypervisor passes one function.
    HyperV,
}

/// An IOMMU group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IommuGroup {
    /// Number below `/sys/kernel/iommu_groups`.
    pub number: u32,
    /// Type of the default domain: `DMA`, `DMA-FQ`, `identity`.
    pub domain_type: Option<String>,
    /// Whether VFIO created the group in no-IOMMU mode, for a function without an IOMMU.
    pub noiommu: bool,
    /// Reserved I/O virtual addresses (`reserved_regions`); `None` if the file is not readable, or has more regions than the
    /// kernel prints.
    pub reserved: Option<Vec<ReservedRegion>>,
    /// The functions in the group; empty if they are unknown.
    pub members: Vec<Bdf>,
}

/// The functions of a host and their relations.
#[derive(Debug, Clone)]
pub struct Topology {
    functions: Vec<Function>,
    index: HashMap<Bdf, usize>,
    /// For each function, the bridge above it; for a virtual function, the bridge above its physical function.
    above: Vec<Option<usize>>,
    /// For each function, the last function of its chain: the one on the root bus, unless a bridge is unknown.
    top_of: Vec<usize>,
    root_of: Vec<usize>,
    roots: Vec<RootBus>,
    groups: BTreeMap<u32, IommuGroup>,
    /// For each function, whether the bridge above it is unknown.
    unknown_parent: Vec<bool>,
}

impl Topology {
    /// Reads the topology of a host. An empty tree gives an empty topology.
    pub fn read(tree: &Tree) -> Self {
        let found = find(tree);
        let mut functions = Vec::with_capacity(found.len());
        let mut chains = Vec::with_capacity(found.len());
        let mut devices_of = devices::read(tree);
        let mut host_devices = BTreeMap::new();
        for (bdf, path) in found {
            if let Some(mut function) = Function::read(tree, bdf, &path) {
                let found = devices_of.remove(&bdf).unwrap_or_default();
                (function.devices, function.subfunctions) = (found.names, found.subfunctions);
                function.devices.extend(devices::below(tree, &path));
                functions.push(function);
                let chain = Chain::parse(&path);
                if let (Some(root), Some((device, _))) = (chain.root, path.rsplit_once("/pci")) {
                    host_devices.entry(root).or_insert_with(|| device.to_owned());
                }
                chains.push(chain);
            }
        }
        let groups = groups(tree, &mut functions);
        let order = tree.text("proc/bus/pci/devices");
        let mut topology = Self::assemble(functions, chains, groups, order.as_deref());
        for root in &mut topology.roots {
            if let Some(device) = host_devices.get(&(root.segment, root.bus)) {
                root.inbound = Inbound::read(tree, device);
            }
        }
        topology
    }

    fn assemble(
        functions: Vec<Function>,
        chains: Vec<Chain>,
        groups: BTreeMap<u32, IommuGroup>,
        order: Option<&str>,
    ) -> Self {
        let index: HashMap<Bdf, usize> =
            functions.iter().enumerate().map(|(at, function)| (function.bdf, at)).collect();
        let buses = BusNumbers::of(&functions);
        let physical =
            |at: usize| functions[at].physical_function.and_then(|bdf| index.get(&bdf).copied()).unwrap_or(at);
        let (above, unknown_parent) = (0..functions.len())
            .map(|at| match &chains[physical(at)] {
                Chain { root: Some(_), parent: None, .. } => (None, false),
                // A parent that does not exist means that the bridge is unknown.
                Chain { root: Some(_), parent: Some(bdf), .. } => {
                    let above = index.get(bdf).copied();
                    (above, above.is_none())
                }
                Chain { root: None, .. } => buses.above(&functions, physical(at)),
            })
            .unzip();
        let mut topology = Self {
            functions,
            index,
            above,
            top_of: Vec::new(),
            root_of: Vec::new(),
            roots: Vec::new(),
            groups,
            unknown_parent,
        };
        topology.break_cycles();
        topology.find_roots(&chains, order);
        topology
    }

    /// Breaks each cycle of bridges by removing one link: wrong bus numbers in a damaged copy can put a bridge below itself.
    fn break_cycles(&mut self) {
        // For each function, the start of the walk that reached it first.
        let mut reached_from: Vec<Option<usize>> = vec![None; self.functions.len()];
        for start in 0..self.functions.len() {
            let mut at = start;
            while reached_from[at].is_none() {
                reached_from[at] = Some(start);
                match self.above[at] {
                    Some(next) if reached_from[next] == Some(start) => {
                        self.above[at] = None;
                        self.unknown_parent[at] = true;
                    }
                    Some(next) => at = next,
                    None => break,
                }
            }
        }
    }

    fn find_roots(&mut self, chains: &[Chain], order: Option<&str>) {
        let mut numbers: BTreeMap<(u32, u8), usize> = BTreeMap::new();
        let mut parents: BTreeMap<(u32, u8), RootParent> = BTreeMap::new();
        self.top_of = self.accumulate_down(|at, top| top.unwrap_or(at));
        for (chain, &top) in chains.iter().zip(&self.top_of) {
            let address = self.functions[top].bdf;
            let key = chain.root.or(chains[top].root).unwrap_or((address.segment(), address.bus()));
            parents.entry(key).or_insert(chains[top].root_parent);
            let next = numbers.len();
            self.root_of.push(*numbers.entry(key).or_insert(next));
        }
        let order = ListOrder::read(order, &self.functions);
        let mut roots: Vec<_> = numbers.into_iter().map(|(key, number)| (number, key)).collect();
        roots.sort_unstable();
        let mut below: Vec<Vec<usize>> = vec![Vec::new(); roots.len()];
        for (at, &root) in self.root_of.iter().enumerate() {
            below[root].push(at);
        }
        self.roots = roots
            .into_iter()
            .map(|(number, key)| RootBus {
                parent: parents.get(&key).copied().unwrap_or_default(),
                ..self.root(key, &below[number], order.as_ref())
            })
            .collect();
    }

    /// Describes the root bus above the functions `below`.
    fn root(&self, (segment, bus): (u32, u8), below: &[usize], order: Option<&ListOrder>) -> RootBus {
        // The bus number of a virtual function may differ from that of its root bus.
        let on_bus: Vec<Bdf> = below
            .iter()
            .filter(|&&at| self.above[at].is_none() && self.functions[at].bdf.bus() == bus)
            .map(|&at| self.functions[at].bdf)
            .collect();
        RootBus {
            segment,
            bus,
            // At boot the kernel scans a bus by device and function number.
            possible_first: order.map_or_else(
                || on_bus.iter().min().copied().into_iter().collect(),
                |order| order.possible_first(&on_bus),
            ),
            order_known: order.is_some(),
            parent: RootParent::default(),
            offset: most_frequent(below.iter().filter_map(|&at| bus_offset(&self.functions[at]))),
            inbound: Inbound::default(),
        }
    }

    /// The functions, ordered by address.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The function at an address.
    pub fn function(&self, bdf: Bdf) -> Option<&Function> {
        self.index.get(&bdf).map(|&at| &self.functions[at])
    }

    /// The root buses.
    pub fn roots(&self) -> &[RootBus] {
        &self.roots
    }

    /// The IOMMU groups by number.
    pub fn groups(&self) -> &BTreeMap<u32, IommuGroup> {
        &self.groups
    }

    /// The group of a function.
    pub fn group_of(&self, function: &Function) -> Option<&IommuGroup> {
        match function.membership {
            GroupMembership::Group(number) => self.groups.get(&number),
            _ => None,
        }
    }

    /// Applies a change to the model.
    pub(crate) fn apply(&mut self, change: &HostChange) {
        match *change {
            HostChange::Domain { group, to } => {
                if let Some(group) = self.groups.get_mut(&group.0) {
                    group.domain_type = Some(to.sysfs_names()[0].to_owned());
                }
            }
            HostChange::Acs { bdf, offset, bits, set } => {
                let Some(function) = self.position(bdf).map(|at| &mut self.functions[at]) else { return };
                let Capability::Present(now) = function.acs else { return };
                let control = if set { now.0 | bits.0 } else { now.0 & !bits.0 };
                function.config = function.config.clone().with_word(offset, control);
                function.acs = function.config.acs();
            }
        }
    }

    pub(crate) fn position(&self, bdf: Bdf) -> Option<usize> {
        self.index.get(&bdf).copied()
    }

    /// The function itself and every bridge above it, up to the one on the root bus.
    pub(crate) fn chain(&self, at: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(at), |&at| self.above[at])
    }

    pub(crate) fn above(&self, at: usize) -> Option<usize> {
        self.above[at]
    }

    /// The last function of the chain: the one on the root bus, unless a bridge is unknown.
    pub(crate) fn top(&self, at: usize) -> usize {
        self.top_of[at]
    }

    /// Computes a value for each function from its position and the value of the bridge above it. Computes each value once, so
    /// that the work does not depend on the depth of the tree.
    pub(crate) fn accumulate_down<T: Copy>(&self, value: impl Fn(usize, Option<T>) -> T) -> Vec<T> {
        let mut values: Vec<Option<T>> = vec![None; self.functions.len()];
        let mut pending = Vec::new();
        for start in 0..values.len() {
            let mut next = Some(start);
            while let Some(at) = next.filter(|&at| values[at].is_none()) {
                pending.push(at);
                next = self.above[at];
            }
            let mut above = next.and_then(|at| values[at]);
            while let Some(at) = pending.pop() {
                above = Some(value(at, above));
                values[at] = above;
            }
        }
        values.into_iter().flatten().collect()
    }

    pub(crate) fn root_number(&self, at: usize) -> usize {
        self.root_of[at]
    }

    pub(crate) fn parent_unknown(&self, at: usize) -> bool {
        self.unknown_parent[at]
    }

    /// The bridges above a function, from the nearest up.
    pub fn bridges_above(&self, bdf: Bdf) -> Vec<Bdf> {
        let Some(at) = self.position(bdf) else { return Vec::new() };
        self.chain(at).skip(1).map(|at| self.functions[at].bdf).collect()
    }

    /// The minimum of the maximum payload sizes (MPS) on a path, in bytes; `None` if one is unknown. Conventional PCI functions
    /// have no MPS and are skipped.
    pub fn max_payload_bytes(&self, hops: &[Bdf]) -> Option<u16> {
        let mut smallest = None;
        for hop in hops {
            match self.function(*hop)?.pcie {
                Capability::Present(pcie) => {
                    smallest =
                        Some(smallest.map_or(pcie.max_payload_bytes, |known: u16| known.min(pcie.max_payload_bytes)))
                }
                Capability::Absent => {}
                Capability::Unknown => return None,
            }
        }
        smallest
    }

    /// The VMD controller (Intel Volume Management Device) that contains the host bridge above a function. The functions behind it send
    /// their requests with the requester ID of the controller (`pci_real_dma_dev` in `arch/x86/pci/common.c`).
    pub fn vmd_above(&self, function: &Function) -> Option<Bdf> {
        // The driver of the controller assigns segments above those of the firmware (`vmd_enable_domain` in
        // `drivers/pci/controller/vmd.c`).
        const FIRST_SEGMENT: u32 = 0x1_0000;
        let controller = self.controller_above(function.bdf)?;
        let driver = self.function(controller).and_then(|controller| controller.driver.as_deref());
        let is_vmd = driver == Some("vmd") || (driver.is_none() && function.bdf.segment() >= FIRST_SEGMENT);
        is_vmd.then_some(controller)
    }

    /// The PCI function that the root bus above a function belongs to, such as a VMD controller. `None` for the root buses of
    /// processors.
    fn controller_above(&self, bdf: Bdf) -> Option<Bdf> {
        match self.root_above(bdf)?.parent {
            RootParent::Function(controller) => Some(controller),
            _ => None,
        }
    }

    /// The root bus above a function.
    pub fn root_above(&self, bdf: Bdf) -> Option<&RootBus> {
        self.position(bdf).map(|at| &self.roots[self.root_of[at]])
    }
}

/// The root bus and the bridge above a function, from the function's sysfs path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Chain {
    /// Segment and bus of the last `pciSSSS:BB` in the path: controllers such as VMD have a root bus below a function.
    root: Option<(u32, u8)>,
    parent: Option<Bdf>,
    root_parent: RootParent,
}

impl Chain {
    fn parse(path: &str) -> Self {
        let mut chain = Self::default();
        let mut functions: Vec<Bdf> = Vec::new();
        for part in path.split('/') {
            if let Some(root) = root_bus(part) {
                chain.root = Some(root);
                if let Some(controller) = functions.last() {
                    chain.root_parent = RootParent::Function(*controller);
                }
                functions.clear();
            } else if part == "platform" {
                chain.root_parent = RootParent::Platform;
            } else if part.starts_with("VMBUS:") || part.starts_with("MSFT1000:") {
                chain.root_parent = RootParent::HyperV;
            } else if let Ok(bdf) = part.parse() {
                functions.push(bdf);
            }
        }
        functions.pop();
        Self { parent: functions.pop(), ..chain }
    }
}

/// Parses the name of a root bus: `pci0000:40`.
fn root_bus(name: &str) -> Option<(u32, u8)> {
    let (segment, bus) = name.strip_prefix("pci")?.split_once(':')?;
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !plain(segment) || !plain(bus) {
        return None;
    }
    Some((u32::from_str_radix(segment, 16).ok()?, u8::from_str_radix(bus, 16).ok()?))
}

/// The functions and the paths of their directories, links resolved.
fn find(tree: &Tree) -> BTreeMap<Bdf, String> {
    let mut found = BTreeMap::new();
    for name in tree.names("sys/bus/pci/devices") {
        let path = format!("sys/bus/pci/devices/{name}");
        if let (Ok(bdf), Some(resolved)) = (name.parse(), tree.resolve(&path)) {
            found.insert(bdf, resolved);
        }
    }
    // A copy may lack some or all of the links. The kernel itself lists every function.
    if !tree.is_live() {
        descend(tree, "sys/devices", Within::Devices(0), &mut found);
    }
    found
}

/// The part of `sys/devices` that a search is in.
#[derive(Clone, Copy)]
enum Within {
    /// Directories that may contain root buses, at this depth.
    Devices(usize),
    /// Below a root bus, at this depth: only functions and the root buses of controllers follow.
    RootBus(usize),
}

/// Finds functions in a directory tree. Root buses are in `sys/devices`, in a platform device, or deeper (Hyper-V).
fn descend(tree: &Tree, path: &str, within: Within, found: &mut BTreeMap<Bdf, String>) {
    /// Maximum depth of a root bus.
    const ROOT_DEPTH_LIMIT: usize = 6;
    /// Maximum depth of directories below a root bus; every switch adds levels.
    const DEPTH_LIMIT: usize = 40;
    for name in tree.names(path) {
        let bdf: Option<Bdf> = name.parse().ok();
        let next = match within {
            Within::Devices(_) if root_bus(&name).is_some() => Within::RootBus(1),
            // These contain no PCI function, and in a complete copy many directories.
            Within::Devices(0) if ["system", "virtual"].contains(&name.as_str()) => continue,
            Within::Devices(depth) if depth < ROOT_DEPTH_LIMIT => Within::Devices(depth + 1),
            Within::RootBus(depth) if depth < DEPTH_LIMIT && (bdf.is_some() || root_bus(&name).is_some()) => {
                Within::RootBus(depth + 1)
            }
            _ => continue,
        };
        let below = format!("{path}/{name}");
        if tree.link(&below).is_some() || !tree.is_directory(&below) {
            continue;
        }
        if let Some(bdf) = bdf {
            let known = found.entry(bdf).or_insert_with(|| below.clone());
            // A directory in place of a link shows no bridges. The one in `sys/devices` does, if it was copied with its files.
            if !known.starts_with("sys/devices/")
                && ["config", "vendor", "resource"].iter().any(|file| tree.has(&format!("{below}/{file}")))
            {
                known.clone_from(&below);
            }
        }
        descend(tree, &below, next, found);
    }
}

/// The buses that are root buses for certain, although no path shows it: those with a host bridge, a root port, or an integrated
/// endpoint or event collector of the root complex. An incomplete copy of sysfs may lack the bridge above the functions of other
/// buses.
fn certain_root_buses(functions: &[Function]) -> HashSet<(u32, u8)> {
    let is_at_the_root = |function: &&Function| {
        function.bdf.bus() == 0
            || function.class.is_some_and(|class| class >> 8 == 0x0600)
            || function.pcie.present().is_some_and(|pcie| {
                matches!(pcie.port_type, PortType::RootPort | PortType::IntegratedEndpoint | PortType::EventCollector)
            })
    };
    functions.iter().filter(is_at_the_root).map(|function| (function.bdf.segment(), function.bdf.bus())).collect()
}

/// The bridges by the bus below them. The bus numbers are in the part of config space that is readable without privilege.
struct BusNumbers {
    /// By segment and secondary bus, the first two bridges: a bridge in a damaged copy can be below itself.
    bridges: HashMap<(u32, u8), (usize, Option<usize>)>,
    /// Segments with a bridge whose bus numbers are unknown.
    incomplete: HashSet<u32>,
    /// Buses that are root buses for certain.
    roots: HashSet<(u32, u8)>,
}

impl BusNumbers {
    fn of(functions: &[Function]) -> Self {
        let mut found =
            Self { bridges: HashMap::new(), incomplete: HashSet::new(), roots: certain_root_buses(functions) };
        for (at, bridge) in functions.iter().enumerate() {
            let segment = bridge.bdf.segment();
            match bridge.config.buses_below() {
                Some((0, _)) => {}
                Some((secondary, _)) => {
                    let key = (segment, secondary);
                    found
                        .bridges
                        .entry(key)
                        .and_modify(|(_, second)| *second = second.or(Some(at)))
                        .or_insert((at, None));
                }
                None if bridge.class.is_none_or(|class| class >> 8 == 0x0604) => {
                    found.incomplete.insert(segment);
                }
                None => {}
            }
        }
        found
    }

    /// Finds the bridge whose secondary bus is the function's bus. The second value is whether the search may have missed the
    /// bridge because the bus numbers of a bridge are unknown.
    fn above(&self, functions: &[Function], at: usize) -> (Option<usize>, bool) {
        let bdf = functions[at].bdf;
        let bridge = match self.bridges.get(&(bdf.segment(), bdf.bus())) {
            Some(&(first, second)) if first == at => second,
            Some(&(first, _)) => Some(first),
            None => None,
        };
        let bus = (bdf.segment(), bdf.bus());
        let may_miss = self.incomplete.contains(&bdf.segment()) || !self.roots.contains(&bus);
        (bridge, bridge.is_none() && may_miss)
    }
}

fn groups(tree: &Tree, functions: &mut [Function]) -> BTreeMap<u32, IommuGroup> {
    const PATH: &str = "sys/kernel/iommu_groups";
    let position: HashMap<Bdf, usize> = functions.iter().enumerate().map(|(at, function)| (function.bdf, at)).collect();
    let mut groups: BTreeMap<u32, IommuGroup> = BTreeMap::new();
    let mut listed: HashSet<(u32, Bdf)> = HashSet::new();
    for name in tree.names(PATH) {
        let Ok(number) = name.parse() else { continue };
        let text = |file: &str| tree.text(&format!("{PATH}/{name}/{file}"));
        let members: Vec<Bdf> =
            tree.names(&format!("{PATH}/{name}/devices")).iter().filter_map(|name| name.parse().ok()).collect();
        // A copy may lack some or all of the functions' `iommu_group` links: use the links in the group directories.
        for bdf in &members {
            listed.insert((number, *bdf));
            let Some(function) = position.get(bdf).map(|&at| &mut functions[at]) else { continue };
            if !matches!(function.membership, GroupMembership::Group(_)) {
                function.membership = GroupMembership::Group(number);
            }
        }
        groups.insert(
            number,
            IommuGroup {
                number,
                domain_type: text("type").map(|text| printable(&text)).filter(|text| !text.is_empty()),
                noiommu: text("name").as_deref() == Some("vfio-noiommu"),
                reserved: text("reserved_regions").and_then(|text| reserved_regions(&text)),
                members,
            },
        );
    }
    // If the snapshot lacks /sys/kernel/iommu_groups, derive the groups from the functions.
    for function in functions.iter() {
        if let GroupMembership::Group(number) = function.membership {
            let group = groups.entry(number).or_insert_with(|| IommuGroup { number, ..IommuGroup::default() });
            if listed.insert((number, function.bdf)) {
                group.members.push(function.bdf);
            }
        }
    }
    groups
}

/// Parses `reserved_regions`; `None` if it has more regions than the kernel prints. The kernel prints at most one page
/// (`iommu_group_show_resv_regions`, drivers/iommu/iommu.c), and a page of 64 KiB has space for 1560 lines.
fn reserved_regions(text: &str) -> Option<Vec<ReservedRegion>> {
    const LIMIT: usize = 2048;
    let regions: Vec<_> = text.lines().filter_map(reserved_region).take(LIMIT + 1).collect();
    (regions.len() <= LIMIT).then_some(regions)
}

/// Parses a line of `reserved_regions`: `0x00000000fee00000 0x00000000feefffff msi`.
fn reserved_region(line: &str) -> Option<ReservedRegion> {
    let mut fields = line.split_whitespace();
    let mut address = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
    let (first, last) = (address()?, address()?);
    Some(ReservedRegion { first, last, kind: printable(fields.next()?) }).filter(|_| first <= last)
}

/// Offset of a host bridge: the CPU address in `resource` minus the bus address in the BAR register.
fn bus_offset(function: &Function) -> Option<i128> {
    // A virtual function's BAR registers read as zero.
    if function.physical_function.is_some() {
        return None;
    }
    function.bars.iter().filter(|bar| bar.assigned).find_map(|bar| {
        let crate::BarKind::Memory { wide, .. } = bar.kind else { return None };
        let low = function.config.bar_register(bar.index)?;
        let high = if wide { function.config.bar_register(bar.index + 1)? } else { 0 };
        let bus_address = u64::from(high) << 32 | u64::from(low & !0xf);
        (bus_address != 0).then(|| i128::from(bar.start) - i128::from(bus_address))
    })
}

/// Selects the most frequent offset, because the register of a single function can be stale.
fn most_frequent(offsets: impl Iterator<Item = i128>) -> Option<i128> {
    let mut counts: BTreeMap<i128, usize> = BTreeMap::new();
    for offset in offsets {
        *counts.entry(offset).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(offset, count)| (*count, *offset == 0)).map(|(offset, _)| offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bdf(text: &str) -> Bdf {
        text.parse().unwrap()
    }

    #[test]
    fn finds_root_and_parent_in_the_path() {
        let chain = Chain::parse("sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0");
        assert_eq!(
            chain,
            Chain { root: Some((0, 0x40)), parent: Some(bdf("0000:40:01.0")), root_parent: RootParent::Processor }
        );
        let chain = Chain::parse("sys/devices/platform/40000000.pcie/pci0001:00/0001:00:01.0");
        assert_eq!(chain, Chain { root: Some((1, 0)), parent: None, root_parent: RootParent::Platform });
    }

    #[test]
    fn a_controller_with_its_own_root_bus_is_not_a_parent() {
        let chain = Chain::parse("sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:01.0/10000:e1:00.0");
        let root_parent = RootParent::Function(bdf("0000:00:0e.0"));
        assert_eq!(chain, Chain { root: Some((0x10000, 0xe0)), parent: Some(bdf("10000:e0:01.0")), root_parent });
        let chain = Chain::parse("sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:01.0");
        assert_eq!(chain.parent, None);
    }

    #[test]
    fn parses_reserved_regions() {
        let region = reserved_region("0x00000000fee00000 0x00000000feefffff msi").unwrap();
        assert_eq!((region.first, region.last, region.kind.as_str()), (0xfee0_0000, 0xfeef_ffff, "msi"));
        for damaged in ["", "0x1", "0x2 0x1 direct", "1 2 direct", "0x1 0x2"] {
            assert_eq!(reserved_region(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn a_flat_directory_has_no_root_and_parent() {
        assert_eq!(Chain::parse("sys/bus/pci/devices/0000:01:00.0"), Chain::default());
    }
}
