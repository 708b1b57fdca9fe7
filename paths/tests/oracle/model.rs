//! A random machine as plain data, drawn from a seed: the facts that the kernel's rules read, and nothing derived from them.

use std::fmt;

/// A kernel whose rules the oracle restates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    V7_2,
    V7_3,
}

/// The first processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processor {
    /// An x86 processor: vendor string and family from CPUID.
    X86 {
        vendor: &'static str,
        family: u8,
    },
    Arm64,
}

/// Type of the default domain of an IOMMU group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Domain {
    Dma,
    DmaFq,
    Identity,
}

/// A host bridge with its root bus.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    pub(crate) segment: u32,
    pub(crate) bus: u8,
    /// The function that provides the root bus, such as an Intel VMD controller.
    pub(crate) below: Option<usize>,
    /// Folder between `sys/devices` and the root bus; empty on most hosts.
    pub(crate) folder: &'static str,
    /// CPU address minus bus address of the memory windows.
    pub(crate) offset: u64,
}

/// Value of the device/port type field of the PCI Express capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortType {
    Endpoint = 0,
    LegacyEndpoint = 1,
    RootPort = 4,
    Upstream = 5,
    Downstream = 6,
    PcieToPci = 7,
    IntegratedEndpoint = 9,
    EventCollector = 10,
}

/// A memory BAR.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    pub(crate) index: u8,
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// Whether the register is 64 bits wide.
    pub(crate) wide: bool,
}

impl Bar {
    /// The last byte.
    pub(crate) fn end(self) -> u64 {
        self.start + (self.size - 1)
    }
}

/// A PCI function. Other functions are named by their index in [`Machine::functions`].
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) root: usize,
    pub(crate) bus: u8,
    pub(crate) device: u8,
    pub(crate) function: u8,
    /// The bridge above the function's bus; `None` for a virtual function, which has the bridge of its physical function.
    pub(crate) above: Option<usize>,
    pub(crate) physical: Option<usize>,
    pub(crate) vendor: u16,
    pub(crate) id: u16,
    /// Class code with subclass and programming interface.
    pub(crate) class: u32,
    pub(crate) bridge: bool,
    /// `None` for a function without a PCI Express capability.
    pub(crate) port_type: Option<PortType>,
    /// Whether another capability precedes the PCI Express capability.
    pub(crate) shifted_capability: bool,
    /// IDs of extended capabilities before ACS.
    pub(crate) before_acs: Vec<u16>,
    /// Control register of the ACS capability.
    pub(crate) acs: Option<u16>,
    /// Whether the kernel reaches configuration space after byte 256.
    pub(crate) extended: bool,
    pub(crate) bar: Option<Bar>,
    pub(crate) driver: Option<&'static str>,
    /// Width of the DMA mask in bits.
    pub(crate) mask_bits: u8,
    pub(crate) group: Option<usize>,
    /// Removed by the search for a smaller machine with the same disagreement.
    pub(crate) removed: bool,
}

/// A fact that the tree lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    CommandLine,
    Processor,
    Release,
    ListOrder,
    /// All IOMMU groups: the tree lacks `sys/kernel/iommu_groups`, and the links `iommu_group` and `subsystem` of every function.
    /// With `subsystem` present, a missing `iommu_group` would mean that the function has no group.
    Groups,
    /// The type of one group.
    GroupType(usize),
    /// The link of a function to its group; the group still lists the function.
    GroupLink(usize),
    /// The configuration space of a function.
    Config(usize),
    /// The configuration space of a function after 64 bytes, as without CAP_SYS_ADMIN.
    ConfigAfterHeader(usize),
    /// The same for every function, filled with zeros as `tar` fills files that are shorter than their reported size.
    ConfigAfterHeaders {
        filled: bool,
    },
    Resource(usize),
    ResourceOfAll,
    Mask(usize),
    Ids(usize),
    Class(usize),
    /// The link of a virtual function to its physical function.
    PhysicalFunction(usize),
    /// All links to the subsystem, which a copy without links lacks.
    Subsystems,
    /// The folder `sys/bus`.
    BusLinks,
}

#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) seed: u64,
    pub(crate) kernel: Kernel,
    pub(crate) processor: Processor,
    pub(crate) command_line: String,
    pub(crate) roots: Vec<Root>,
    pub(crate) functions: Vec<Function>,
    /// The functions in the order of the kernel's list.
    pub(crate) order: Vec<usize>,
    pub(crate) groups: Vec<Domain>,
    /// Number of ranges of the exported buffer.
    pub(crate) ranges: usize,
    pub(crate) lost: Vec<Lost>,
}

impl Machine {
    /// Draws a machine. A machine with lost facts equals the machine of the same seed without them, except that it has the boot
    /// order if the order of the list is lost.
    pub(crate) fn draw(seed: u64, with_lost_facts: bool) -> Self {
        let mut dice = Dice::new(seed);
        let mut machine = Builder::new(seed, &mut dice).build();
        if with_lost_facts {
            machine.lose_facts(&mut dice);
        }
        machine
    }

    /// The functions that were not removed.
    pub(crate) fn present(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.functions.len()).filter(|index| !self.functions[*index].removed)
    }

    /// Functions that import: all except bridges.
    pub(crate) fn importers(&self) -> impl Iterator<Item = usize> + '_ {
        // A device of class 06xx is a bridge of some kind, whatever its header type.
        self.present().filter(|index| !self.functions[*index].bridge && self.functions[*index].class >> 16 != 0x06)
    }

    /// Functions that export: importers with a BAR.
    pub(crate) fn exporters(&self) -> impl Iterator<Item = usize> + '_ {
        self.importers().filter(|index| self.functions[*index].bar.is_some())
    }

    pub(crate) fn segment(&self, function: usize) -> u32 {
        self.roots[self.functions[function].root].segment
    }

    pub(crate) fn address(&self, function: usize) -> String {
        let Function { bus, device, function: number, .. } = &self.functions[function];
        format!("{:04x}:{bus:02x}:{device:02x}.{number:x}", self.segment(function))
    }

    pub(crate) fn is_lost(&self, fact: Lost) -> bool {
        self.lost.contains(&fact)
    }

    fn lose_facts(&mut self, dice: &mut Dice) {
        for _ in 0..=dice.below(3) {
            let function = dice.below(self.functions.len());
            let fact = match dice.below(20) {
                0 | 1 => Lost::CommandLine,
                2 | 3 => Lost::Processor,
                4 => Lost::Release,
                5 => Lost::ListOrder,
                6 => Lost::Groups,
                7 | 8 if !self.groups.is_empty() => Lost::GroupType(dice.below(self.groups.len())),
                9 if self.functions[function].group.is_some() => Lost::GroupLink(function),
                10 => Lost::Config(function),
                11 | 12 => Lost::ConfigAfterHeader(function),
                13 => Lost::ConfigAfterHeaders { filled: dice.chance(50) },
                14 => Lost::Resource(function),
                15 => Lost::ResourceOfAll,
                // Drivers set masks of at least 32 bits.
                16 if self.functions[function].mask_bits >= 32 => Lost::Mask(function),
                17 => dice.pick(&[Lost::Ids(function), Lost::Class(function)]),
                18 => Lost::PhysicalFunction(function),
                19 => dice.pick(&[Lost::Subsystems, Lost::BusLinks]),
                _ => continue,
            };
            self.lost.push(fact);
        }
        if self.is_lost(Lost::ListOrder) {
            // Without the list, the prediction assumes the order after boot.
            self.order = self.boot_order();
        }
    }

    /// The order in which the kernel finds the functions: by address on each bus.
    fn boot_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.functions.len()).collect();
        let key = |index: &usize| {
            let Function { root, physical, bus, device, function, .. } = &self.functions[*index];
            // Drivers add virtual functions after the scan of all buses.
            (physical.is_some(), *root, *bus, *device, *function)
        };
        order.sort_by_key(key);
        order
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: Linux {:?}, {:?}, command line {:?}, {} range(s)",
            self.seed, self.kernel, self.processor, self.command_line, self.ranges
        )?;
        for index in self.order.iter().copied().filter(|index| !self.functions[*index].removed) {
            let function = &self.functions[index];
            write!(f, "  {}", self.address(index))?;
            match (function.above, function.physical) {
                (_, Some(physical)) => write!(f, " VF of {}", self.address(physical))?,
                (Some(above), None) => write!(f, " below {}", self.address(above))?,
                (None, None) => {
                    let root = &self.roots[function.root];
                    write!(f, " on pci{:04x}:{:02x}", root.segment, root.bus)?;
                    if let Some(below) = root.below {
                        write!(f, " (below {})", self.address(below))?;
                    }
                }
            }
            write!(f, " {:04x}:{:04x}", function.vendor, function.id)?;
            match function.port_type {
                Some(port_type) => write!(f, " {port_type:?}")?,
                None => write!(f, " conventional")?,
            }
            if let Some(acs) = function.acs {
                write!(f, " ACS {acs:#04x}")?;
            }
            if let Some(bar) = function.bar {
                write!(f, " BAR{} {:#x}+{:#x}", bar.index, bar.start, bar.size)?;
            }
            if let Some(driver) = function.driver {
                write!(f, " {driver} mask {}", function.mask_bits)?;
            }
            match function.group {
                Some(group) => writeln!(f, " group {group} {:?}", self.groups[group])?,
                None => writeln!(f, " no group")?,
            }
        }
        if !self.lost.is_empty() {
            write!(f, "  lost:")?;
            for fact in &self.lost {
                match fact {
                    Lost::GroupLink(index)
                    | Lost::Config(index)
                    | Lost::ConfigAfterHeader(index)
                    | Lost::Resource(index)
                    | Lost::Mask(index)
                    | Lost::Ids(index)
                    | Lost::Class(index)
                    | Lost::PhysicalFunction(index) => write!(f, " {fact:?} ({})", self.address(*index))?,
                    _ => write!(f, " {fact:?}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// IDs of the first device on a root bus: entries of the allowlist, adjacent IDs, and other devices.
const FIRST_IDS: &[(u16, u16)] = &[
    (0x8086, 0x3c00),
    (0x8086, 0x3c01),
    (0x8086, 0x2f00),
    (0x8086, 0x2f01),
    (0x8086, 0x2f02),
    (0x8086, 0x2030),
    (0x8086, 0x2031),
    (0x8086, 0x2032),
    (0x8086, 0x2033),
    (0x8086, 0x2034),
    (0x8086, 0x2020),
    (0x8086, 0x09a2),
    (0x8086, 0x0b25),
    (0x8086, 0x0cfe),
    (0x8086, 0x11fb),
    (0x8086, 0x1212),
    (0x8086, 0x1216),
    (0x8086, 0x4940),
    (0x8086, 0x4942),
    (0x8086, 0x4943),
    (0x8086, 0x4944),
    (0x8086, 0x4946),
    (0x8086, 0x4948),
    (0x8086, 0x29c0),
    (0x8086, 0x1237),
    (0x8086, 0x3e0f),
    (0x1ae0, 0x0001),
    (0x1ae0, 0x2020),
    (0x10de, 0x2f94),
    (0x10de, 0x2f95),
    (0x10de, 0x2f96),
    (0x10de, 0x2f97),
    (0x10de, 0x2f98),
    (0x10de, 0x2f99),
    (0x10de, 0x2020),
    (0x1022, 0x1480),
    (0x1022, 0x2020),
    (0x1b36, 0x0008),
    (0x1b36, 0x000c),
];

const PROCESSORS: &[Processor] = &[
    Processor::X86 { vendor: "AuthenticAMD", family: 0x19 },
    Processor::X86 { vendor: "AuthenticAMD", family: 0x17 },
    Processor::X86 { vendor: "AuthenticAMD", family: 0x1a },
    Processor::X86 { vendor: "AuthenticAMD", family: 0x16 },
    Processor::X86 { vendor: "AuthenticAMD", family: 0x15 },
    Processor::X86 { vendor: "HygonGenuine", family: 0x18 },
    Processor::X86 { vendor: "GenuineIntel", family: 6 },
    Processor::X86 { vendor: "GenuineIntel", family: 6 },
    Processor::X86 { vendor: "GenuineIntel", family: 6 },
    Processor::X86 { vendor: "GenuineIntel", family: 0x19 },
    Processor::X86 { vendor: "CentaurHauls", family: 7 },
    Processor::X86 { vendor: "  Shanghai  ", family: 0x17 },
    Processor::Arm64,
];

/// Values of `swiotlb=`, common and unusual ones.
const SWIOTLB: &[&str] = &[
    "swiotlb=force",
    "swiotlb=noforce",
    "swiotlb=65536",
    "swiotlb=65536,force",
    "swiotlb=0x10000,force",
    "swiotlb=65536,4,force",
    "swiotlb=65536,4,noforce",
    "swiotlb=,force",
    "swiotlb=,,force",
    "swiotlb=,,,force",
    "swiotlb=65536,,force",
    "swiotlb=65536,4,2,force",
    "swiotlb=65536force",
    "swiotlb=64K,force",
    "swiotlb=forced",
    "swiotlb=forcenoforce",
    "swiotlb=force,65536",
    "swiotlb=force,track_hiwater",
    "swiotlb=noforce,track_hiwater",
    "swiotlb=noforceful",
    "swiotlb=forc",
    "swiotlb=Force",
    "swiotlb=on",
    "swiotlb=\"force\"",
    "\"swiotlb=force\"",
    "swiotlb=force swiotlb=noforce",
    "swiotlb=noforce swiotlb=force",
    "swiotlb=force swiotlb=65536",
    "swiotlb=65536 swiotlb=forced",
    "swiotlb.force=1",
    "xswiotlb=force",
    "-- swiotlb=force",
    "root=\"LABEL=a swiotlb=force\"",
];

const DRIVERS: &[Option<&str>] = &[
    Some("vfio-pci"),
    Some("mlx5_core"),
    Some("nvme"),
    Some("8139cp"),
    Some("irdma"),
    Some("mlx5_core"),
    Some("nvme"),
    Some("e1000e"),
    None,
];

struct Builder<'dice> {
    dice: &'dice mut Dice,
    machine: Machine,
    /// Number of functions to reach.
    size: usize,
    /// The next bus number below each root.
    next_bus: Vec<u8>,
}

impl<'dice> Builder<'dice> {
    fn new(seed: u64, dice: &'dice mut Dice) -> Self {
        let kernel = dice.pick(&[Kernel::V7_2, Kernel::V7_3]);
        let processor = dice.pick(PROCESSORS);
        let mut command_line = "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet".to_owned();
        if dice.chance(30) {
            command_line = format!("{command_line} {}", dice.pick(SWIOTLB));
        }
        if dice.chance(30) {
            command_line = format!("{command_line} splash");
        }
        let ranges = if dice.chance(12) { 2 + dice.below(3) } else { 1 };
        let size = 2 + dice.below(13);
        let machine = Machine {
            seed,
            kernel,
            processor,
            command_line,
            roots: Vec::new(),
            functions: Vec::new(),
            order: Vec::new(),
            groups: Vec::new(),
            ranges,
            lost: Vec::new(),
        };
        Self { dice, machine, size, next_bus: Vec::new() }
    }

    fn build(mut self) -> Machine {
        self.add_roots();
        self.add_missing_endpoints();
        self.assign_groups();
        self.machine.order = self.machine.boot_order();
        self.rescan();
        self.machine
    }

    fn is_full(&self) -> bool {
        self.machine.functions.len() >= self.size
    }

    fn add_roots(&mut self) {
        let count = 1 + self.dice.below(3);
        // The roots share a segment, or each has its own segment with the same bus number.
        let segments = self.dice.chance(30);
        let offset = self.dice.chance(10);
        let folder = match (self.machine.processor, self.dice.chance(25)) {
            (_, false) => "",
            (Processor::X86 { .. }, true) => {
                "LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00/5a8b4c2e-0001-0000-3130-444531444531"
            }
            (Processor::Arm64, true) => "platform/40000000.pcie",
        };
        for number in 0..count {
            let (segment, bus) = if segments { (number as u32, 0) } else { (0, number as u8 * 0x40) };
            let offset = if offset { 0x20_0000_0000 * number as u64 } else { 0 };
            self.add_root(Root { segment, bus, below: None, folder, offset });
        }
        let controller = self.machine.importers().find(|index| self.machine.functions[*index].physical.is_none());
        if let (Some(controller), true) = (controller, self.dice.chance(8)) {
            self.size += 3;
            let Root { folder, .. } = self.machine.roots[self.machine.functions[controller].root];
            self.add_root(Root { segment: 0x10000, bus: 0, below: Some(controller), folder, offset: 0 });
        }
    }

    fn add_root(&mut self, root: Root) {
        self.next_bus.push(root.bus + 1);
        self.machine.roots.push(root);
        let root = self.machine.roots.len() - 1;
        let share = self.size.div_ceil(3).max(1);
        let limit = (self.machine.functions.len() + 1 + self.dice.below(share * 2)).min(self.size);
        let mut device = if self.dice.chance(60) { 0 } else { 1 + self.dice.below(3) as u8 };
        while self.machine.functions.len() < limit && device < 32 {
            self.add_device_on_root_bus(root, device);
            device += 1 + self.dice.below(3) as u8;
        }
    }

    fn add_device_on_root_bus(&mut self, root: usize, device: u8) {
        let first = !self.machine.functions.iter().any(|function| function.root == root);
        let bus = self.machine.roots[root].bus;
        let functions = if self.dice.chance(20) { 2 } else { 1 };
        for function in 0..functions {
            // A device need not have function 0 in the tree: a guest may see a part of a device.
            let number = if function == 0 && self.dice.chance(4) { 1 } else { function * 2 };
            let at = Place { root, bus, device, function: number as u8, above: None };
            let kind = if first && function == 0 { self.dice.below(12) } else { self.dice.below(10) };
            let index = match kind {
                0..=4 => {
                    let port = self.bridge(at, Some(PortType::RootPort));
                    self.fill_secondary_bus(port, 1);
                    port
                }
                5..=7 => self.endpoint(at, Some(PortType::IntegratedEndpoint)),
                8 => self.other_on_root_bus(at),
                9 => {
                    let bridge = self.bridge(at, None);
                    self.fill_secondary_bus(bridge, 1);
                    bridge
                }
                _ => self.host_bridge(at),
            };
            if first && function == 0 || self.dice.chance(40) {
                let (vendor, id) = self.dice.pick(FIRST_IDS);
                let function = &mut self.machine.functions[index];
                (function.vendor, function.id) = (vendor, id);
            }
        }
    }

    /// Adds functions below a bridge. `depth` counts the bridges above the bus.
    fn fill_secondary_bus(&mut self, bridge: usize, depth: usize) {
        if self.is_full() || self.dice.chance(8) {
            return;
        }
        let root = self.machine.functions[bridge].root;
        let bus = self.take_bus(root);
        let place = |device: u8, function: u8| Place { root, bus, device, function, above: Some(bridge) };
        let conventional =
            !matches!(self.machine.functions[bridge].port_type, Some(kind) if kind != PortType::PcieToPci);
        if depth < 7 && !conventional && self.dice.chance(if depth == 1 { 45 } else { 20 }) {
            self.switch(place(0, 0), depth);
            if self.dice.chance(15) && !self.is_full() {
                self.endpoint(place(0, 1), Some(PortType::Endpoint));
            }
            return;
        }
        if depth < 7 && !conventional && self.dice.chance(6) {
            let bridge = self.bridge(place(0, 0), Some(PortType::PcieToPci));
            self.fill_secondary_bus(bridge, depth + 1);
            return;
        }
        let functions = 1 + self.dice.below(3).saturating_sub(usize::from(self.dice.chance(60)));
        for number in 0..functions {
            if self.is_full() {
                return;
            }
            let port_type = match (conventional, self.dice.chance(10)) {
                (true, _) => None,
                (false, true) => Some(PortType::LegacyEndpoint),
                (false, false) => Some(PortType::Endpoint),
            };
            // Functions of one device, or devices of one bus.
            let at = if conventional { place(number as u8, 0) } else { place(0, number as u8) };
            self.endpoint(at, port_type);
        }
    }

    fn switch(&mut self, at: Place, depth: usize) {
        let upstream = self.bridge(at, Some(PortType::Upstream));
        let root = at.root;
        let bus = self.take_bus(root);
        for number in 0..1 + self.dice.below(3) {
            if self.is_full() {
                return;
            }
            let (device, function) = if self.dice.chance(85) { (number as u8, 0) } else { (0, number as u8) };
            if self.is_taken(root, bus, device, function) {
                continue;
            }
            let at = Place { root, bus, device, function, above: Some(upstream) };
            let port = self.bridge(at, Some(PortType::Downstream));
            self.fill_secondary_bus(port, depth + 2);
        }
    }

    /// Adds endpoints on a root bus until a pair of exporter and importer exists.
    fn add_missing_endpoints(&mut self) {
        for device in 30..32 {
            if self.machine.exporters().next().is_some() && self.machine.importers().count() > 1 {
                return;
            }
            let bus = self.machine.roots[0].bus;
            let at = Place { root: 0, bus, device, function: 0, above: None };
            let index = self.endpoint(at, Some(PortType::IntegratedEndpoint));
            let bar = self.bar(0);
            self.machine.functions[index].bar.get_or_insert(bar);
        }
    }

    fn is_taken(&self, root: usize, bus: u8, device: u8, function: u8) -> bool {
        let taken =
            |other: &Function| (other.root, other.bus, other.device, other.function) == (root, bus, device, function);
        self.machine.functions.iter().any(taken)
    }

    fn take_bus(&mut self, root: usize) -> u8 {
        let bus = self.next_bus[root];
        self.next_bus[root] += 1;
        bus
    }

    fn bridge(&mut self, at: Place, port_type: Option<PortType>) -> usize {
        let acs = self.acs(if port_type.is_some() { 50 } else { 0 });
        let function = Function {
            vendor: 0x1b36,
            id: if port_type == Some(PortType::RootPort) { 0x000c } else { 0x0001 },
            class: 0x06_0400,
            bridge: true,
            acs,
            driver: port_type.is_some().then_some("pcieport"),
            ..self.plain(at, port_type)
        };
        self.push(function)
    }

    /// A device such as 00:00.0 of an old chipset.
    fn host_bridge(&mut self, at: Place) -> usize {
        let function = Function { class: 0x06_0000, ..self.plain(at, None) };
        self.push(function)
    }

    /// A function that is neither an endpoint nor a bridge.
    fn other_on_root_bus(&mut self, at: Place) -> usize {
        let port_type = self.dice.pick(&[PortType::EventCollector, PortType::IntegratedEndpoint]);
        let function = Function { class: 0x08_0700, ..self.plain(at, Some(port_type)) };
        self.push(function)
    }

    fn endpoint(&mut self, at: Place, port_type: Option<PortType>) -> usize {
        let acs = self.acs(if port_type.is_some() { 12 } else { 0 });
        let bar = self.dice.chance(85).then(|| self.bar(at.root));
        let driver = self.dice.pick(DRIVERS);
        let mask_bits = self.mask_bits(driver);
        let function = Function { class: 0x02_0000, acs, bar, driver, mask_bits, ..self.plain(at, port_type) };
        let index = self.push(function);
        let may_have_virtual_functions = matches!(port_type, Some(PortType::Endpoint | PortType::IntegratedEndpoint));
        if may_have_virtual_functions && self.dice.chance(15) {
            self.virtual_functions(index);
        }
        index
    }

    fn virtual_functions(&mut self, physical: usize) {
        let Function { root, bus, device, port_type, .. } = self.machine.functions[physical];
        let own_bus = self.dice.chance(40).then(|| self.take_bus(root));
        for number in 1..=1 + self.dice.below(2) as u8 {
            let (bus, device, function) = match own_bus {
                Some(bus) => (bus, 0, number - 1),
                None => (bus, device, 7 - number),
            };
            if self.is_taken(root, bus, device, function) {
                continue;
            }
            let acs = self.acs(12);
            let bar = self.dice.chance(85).then(|| self.bar(root));
            let driver = self.dice.pick(DRIVERS);
            let mask_bits = self.mask_bits(driver);
            let at = Place { root, bus, device, function, above: None };
            let virtual_function = Function {
                physical: Some(physical),
                extended: true,
                class: 0x02_0000,
                acs,
                bar,
                driver,
                mask_bits,
                ..self.plain(at, port_type)
            };
            self.push(virtual_function);
        }
    }

    fn plain(&mut self, at: Place, port_type: Option<PortType>) -> Function {
        let before_acs = match self.dice.below(4) {
            0 => vec![0x0001],
            1 => vec![0x0001, 0x0003],
            _ => Vec::new(),
        };
        Function {
            root: at.root,
            bus: at.bus,
            device: at.device,
            function: at.function,
            above: at.above,
            physical: None,
            vendor: 0x15b3,
            id: 0x1017,
            class: 0,
            bridge: false,
            port_type,
            shifted_capability: self.dice.chance(40),
            before_acs: if port_type.is_some() { before_acs } else { Vec::new() },
            acs: None,
            extended: port_type.is_some() && !self.dice.chance(4),
            bar: None,
            driver: None,
            mask_bits: 32,
            group: None,
            removed: false,
        }
    }

    fn push(&mut self, function: Function) -> usize {
        self.machine.functions.push(function);
        self.machine.functions.len() - 1
    }

    /// ACS control, with single redirect bits and bits that do not redirect.
    fn acs(&mut self, percent: u32) -> Option<u16> {
        self.dice.chance(percent).then(|| match self.dice.below(8) {
            0 => 0x04,
            1 => 0x08,
            2 => 0x20,
            3 => 0x1d,
            4 => 0x5f,
            5 => 0x53,
            _ => 0,
        })
    }

    /// Without a driver, or with vfio-pci, a function keeps the 32-bit mask that `pci_setup_device()` sets.
    fn mask_bits(&mut self, driver: Option<&str>) -> u8 {
        if matches!(driver, None | Some("vfio-pci")) {
            return 32;
        }
        if self.dice.chance(55) {
            return 64;
        }
        self.dice.pick(&[24, 28, 30, 31, 32, 32, 33, 36, 39, 40, 42, 44, 46, 47, 48, 52, 63])
    }

    /// A BAR below 4 GiB, at the edge of a mask, or anywhere above; it overlaps no other BAR.
    fn bar(&mut self, root: usize) -> Bar {
        let number = self.machine.functions.len() as u64;
        let high = |base: u64| base + number * 0x10_0000_0000;
        let size = 0x1000_u64 << self.dice.pick(&[0, 2, 8, 12, 16, 17, 18, 19, 20, 21, 22, 24]);
        let (start, size) = match self.dice.below(6) {
            0 | 1 => (0x8000_0000 + number * 0x0200_0000, 0x1000 << self.dice.below(14)),
            2 | 3 => {
                // The last byte is the last one below a mask, or the first byte is the first one above it.
                let edge = 1_u64 << self.dice.pick(&[33, 36, 39, 40, 42, 44, 46]);
                let size = 0x10_0000_u64 << self.dice.below(3);
                if self.dice.chance(50) { (edge - size, size) } else { (edge, size) }
            }
            4 => (high(0x20_0000_0000), size),
            _ => (high(0x1_0000_0000_0000), size),
        };
        let overlaps = |function: &Function| {
            function.bar.is_some_and(|other| start <= other.end() && other.start <= start + (size - 1))
        };
        let shifted = self.machine.roots[root].offset != 0;
        let (start, size) = if shifted || self.machine.functions.iter().any(overlaps) {
            (high(0x2_0000_0000_0000), size.min(0x10_0000_0000))
        } else {
            (start, size)
        };
        let wide = start > u64::from(u32::MAX) || self.dice.chance(30);
        let index = if wide { self.dice.pick(&[0, 2, 4]) } else { self.dice.below(6) as u8 };
        Bar { index, start, size, wide }
    }

    /// No IOMMU, a group for each function, or shared groups.
    fn assign_groups(&mut self) {
        if self.dice.chance(15) {
            return;
        }
        let shared = self.dice.chance(25);
        let one = self.dice.pick(&[Domain::Dma, Domain::DmaFq, Domain::Identity]);
        let mixed = self.dice.chance(30);
        for index in 0..self.machine.functions.len() {
            if self.dice.chance(3) {
                continue;
            }
            if !shared || self.machine.groups.is_empty() || self.dice.chance(50) {
                let domain = if mixed { self.dice.pick(&[Domain::Dma, Domain::DmaFq, Domain::Identity]) } else { one };
                self.machine.groups.push(domain);
            }
            self.machine.functions[index].group = Some(self.machine.groups.len() - 1);
        }
    }

    /// Removes devices of a root bus with all below them and rescans the bus, which moves them to the end of the list.
    fn rescan(&mut self) {
        for _ in 0..self.dice.below(3) {
            if self.dice.chance(50) {
                continue;
            }
            let on_root_bus: Vec<usize> = self
                .machine
                .present()
                .filter(|index| {
                    let function = &self.machine.functions[*index];
                    function.above.is_none() && function.physical.is_none()
                })
                .collect();
            let moved = self.dice.pick(&on_root_bus);
            let belongs = |index: &usize| self.machine.is_at_or_below(*index, moved);
            let (last, first): (Vec<usize>, Vec<usize>) = self.machine.order.iter().partition(|index| belongs(index));
            self.machine.order = first.into_iter().chain(last).collect();
        }
    }
}

impl Machine {
    /// Whether a function disappears when `top` is removed.
    pub(crate) fn is_at_or_below(&self, mut index: usize, top: usize) -> bool {
        loop {
            if index == top {
                return true;
            }
            let function = &self.functions[index];
            match function.physical.or(function.above).or(self.roots[function.root].below) {
                Some(above) => index = above,
                None => return false,
            }
        }
    }
}

/// The address of a function, and the bridge above it.
#[derive(Debug, Clone, Copy)]
struct Place {
    root: usize,
    bus: u8,
    device: u8,
    function: u8,
    above: Option<usize>,
}

/// A random number generator (splitmix64). The same seed gives the same numbers on every host.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `limit`. For a small limit the bias of the modulo is negligible.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
