//! The PCI topology: the bridge above each function, its root bus and its IOMMU group.

mod bus_numbers;
mod find;
mod groups;

use std::collections::{BTreeMap, HashMap};

use self::bus_numbers::BusNumbers;
use self::find::{Chain, find};
use self::groups::groups;
pub use self::groups::{IommuGroup, ReservedRegion};
use crate::inbound::Inbound;
use crate::order::ListOrder;
use crate::{Bdf, Capability, Function, GroupMembership, HostChange, Tree, devices};

/// A root bus. The kernel identifies a host bridge with its root bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootBus {
    /// Segment (*domain* in Linux).
    pub segment: u32,
    /// Bus number within the segment.
    pub bus: u8,
    /// Functions that may be the first on the bus in the kernel's enumeration order; several if the kernel's list does not show
    /// which one is.
    pub possible_first: Vec<Bdf>,
    /// Whether the kernel's list of functions is readable. Otherwise `possible_first` assumes the order of a boot: by address.
    pub order_known: bool,
    /// The parent of the root bus in sysfs.
    pub parent: RootParent,
    /// CPU address minus bus address of MMIO below the host bridge, in bytes; `None` if no BAR register shows the bus address.
    pub offset: Option<i128>,
    /// Addresses that the devices below the host bridge may use for DMA.
    pub inbound: Inbound,
}

/// The parent of a root bus in sysfs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RootParent {
    /// A host bridge of the processor or the chipset that the firmware describes.
    #[default]
    Processor,
    /// A PCI function with a root bus of its own: a controller for Intel's Volume Management Device (VMD).
    Function(Bdf),
    /// A host bridge that a devicetree describes, as on boards.
    Platform,
    /// A channel of Hyper-V's VMBus, through which the hypervisor passes one function.
    HyperV,
}

/// The functions of a host and their relations.
#[derive(Debug, Clone)]
pub struct Topology {
    functions: Vec<Function>,
    index: HashMap<Bdf, usize>,
    /// For each function, the bridge above it; for a virtual function, the bridge above its physical function.
    above: Vec<Option<usize>>,
    /// For each function, the highest bridge above it, or the function itself if no bridge is above it. The result is on the root
    /// bus, unless a bridge is unknown.
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
                // If the tree lacks the parent, the bridge is unknown.
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

    /// Breaks each cycle of bridges at one link. Wrong bus numbers in a damaged sysfs copy can put a bridge below itself.
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

    /// The highest bridge above a function, or the function itself if no bridge is above it. The result is on the root bus,
    /// unless a bridge is unknown.
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

    /// The VMD controller (Intel Volume Management Device) that contains the host bridge above a function. The functions behind
    /// it send their requests with the requester ID of the controller (`pci_real_dma_dev` in `arch/x86/pci/common.c`).
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
