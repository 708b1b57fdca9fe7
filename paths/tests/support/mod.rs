//! Builds the sysfs and procfs files of a constructed host, as an archive in the format of a snapshot.

// Tests and the benchmark include this file; each uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, HashMap};

use peerpath_paths::{Bdf, Inventory, Limits, PathReport, Request, Tree};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Endpoint,
    RootPort,
    Upstream,
    Downstream,
    /// A conventional PCI device, such as the host bridge at 00:00.0 of an old chipset.
    Conventional,
}

#[derive(Debug, Clone)]
pub struct Function {
    bdf: Bdf,
    above: Option<Bdf>,
    root: (u32, u8),
    /// Path between `sys/devices` and the root bus.
    host: String,
    kind: Kind,
    ids: (u16, u16),
    class: u32,
    acs: Option<u16>,
    ats: Option<bool>,
    config_bytes: usize,
    padded: bool,
    bar: Option<(u64, u64)>,
    /// CPU address minus bus address.
    offset: i64,
    driver: Option<String>,
    group: Option<u32>,
    mask: u8,
    numa_node: i32,
    virtual_function_of: Option<Bdf>,
    devices: Vec<(String, String)>,
    /// Value of the command register.
    command: u8,
    /// The PCIe capability's Device Control: payload and read request sizes, relaxed ordering.
    device_control: u16,
    /// Double words that replace those of the generated config space, with their offsets. The PCIe capability is at 0x40, the
    /// first extended capability at 0x100.
    patches: Vec<(usize, u32)>,
    /// Generation and lanes: current, and supported.
    link: [(u8, u8); 2],
}

macro_rules! setters {
    ($($name:ident: $kind:ty),+ $(,)?) => { $(pub fn $name(mut self, value: $kind) -> Self { self.$name = value; self })+ };
}

impl Function {
    setters!(numa_node: i32, ids: (u16, u16), class: u32, config_bytes: usize, padded: bool, offset: i64, mask: u8, host: String, command: u8, device_control: u16, link: [(u8, u8); 2]);

    pub fn acs(mut self, control: u16) -> Self {
        self.acs = Some(control);
        self
    }

    pub fn ats(mut self, enabled: bool) -> Self {
        self.ats = Some(enabled);
        self
    }

    pub fn patch(mut self, offset: usize, value: u32) -> Self {
        self.patches.push((offset, value));
        self
    }

    pub fn bar(mut self, start: u64, size_bytes: u64) -> Self {
        self.bar = Some((start, size_bytes));
        self
    }

    pub fn no_bar(mut self) -> Self {
        self.bar = None;
        self
    }

    pub fn driver(mut self, driver: &str) -> Self {
        self.driver = Some(driver.to_owned());
        self
    }

    pub fn no_driver(mut self) -> Self {
        self.driver = None;
        self
    }

    pub fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    pub fn virtual_function_of(mut self, physical: &str) -> Self {
        self.virtual_function_of = Some(bdf(physical));
        self
    }

    pub fn device(mut self, class: &str, name: &str) -> Self {
        self.devices.push((class.to_owned(), name.to_owned()));
        self
    }

    /// Config space with header, PCIe capability, ACS and ATS.
    fn config(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let bridge = matches!(self.kind, Kind::RootPort | Kind::Upstream | Kind::Downstream);
        let ids = if self.virtual_function_of.is_some() { (0xffff, 0xffff) } else { self.ids };
        bytes[0..2].copy_from_slice(&ids.0.to_le_bytes());
        bytes[2..4].copy_from_slice(&ids.1.to_le_bytes());
        bytes[4] = self.command;
        bytes[9..12].copy_from_slice(&self.class.to_le_bytes()[..3]);
        bytes[0x0e] = u8::from(bridge);
        if let (Some((start, _)), None) = (self.bar, self.virtual_function_of) {
            let bus_address = start.wrapping_add_signed(-self.offset);
            bytes[0x18..0x20].copy_from_slice(&(bus_address | 0xc).to_le_bytes());
        }
        if self.kind != Kind::Conventional {
            bytes[0x06] = 0x10;
            bytes[0x34] = 0x40;
            let kind: u16 = match self.kind {
                Kind::RootPort => 4,
                Kind::Upstream => 5,
                Kind::Downstream => 6,
                _ if self.above.is_none() => 9,
                _ => 0,
            };
            bytes[0x40] = 0x10;
            bytes[0x42..0x44].copy_from_slice(&(kind << 4 | 2).to_le_bytes());
            bytes[0x48..0x4a].copy_from_slice(&self.device_control.to_le_bytes());
            let [now, limit] = self.link.map(|(generation, lanes)| u16::from(generation) | u16::from(lanes) << 4);
            bytes[0x4c..0x4e].copy_from_slice(&limit.to_le_bytes());
            bytes[0x52..0x54].copy_from_slice(&now.to_le_bytes());
        }
        let mut at = 0x100;
        for (id, control) in [(0x000d_u32, self.acs), (0x000f, self.ats.map(|enabled| u16::from(enabled) << 15))] {
            let Some(control) = control else { continue };
            let next = at + 0x10;
            bytes[at..at + 4].copy_from_slice(&(id | 1 << 16 | (next as u32) << 20).to_le_bytes());
            // Ports with ACS support all bits except egress control.
            let supported = if id == 0x000d { 0x5f } else { 0 };
            bytes[at + 4..at + 6].copy_from_slice(&u16::to_le_bytes(supported));
            bytes[at + 6..at + 8].copy_from_slice(&control.to_le_bytes());
            at = next;
        }
        for (offset, value) in &self.patches {
            bytes[*offset..*offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        let whole = if self.kind == Kind::Conventional { 256 } else { 4096 };
        bytes.truncate(whole.min(self.config_bytes));
        if self.padded {
            bytes.resize(whole, 0);
        }
        bytes
    }

    fn resource(&self) -> String {
        let (start, size) = self.bar.unwrap_or_default();
        let line = |index| match (index, self.bar) {
            (2, Some(_)) => format!("{start:#018x} {:#018x} 0x000000000014220c\n", start + size - 1),
            _ => "0x0000000000000000 0x0000000000000000 0x0000000000000000\n".to_owned(),
        };
        (0..7).map(line).collect()
    }

    /// A line of `/proc/bus/pci/devices`.
    fn line(&self) -> String {
        let (start, size) = self.bar.unwrap_or_default();
        let place = u32::from(self.bdf.bus()) << 8 | u32::from(self.bdf.device()) << 3 | u32::from(self.bdf.function());
        let bars =
            |value: u64| (0..7).map(|bar| format!("\t{:16x}", if bar == 2 { value } else { 0 })).collect::<String>();
        let flags = if self.bar.is_some() { 0xc } else { 0 };
        format!("{place:04x}\t{:04x}{:04x}\t0{}{}\t\n", self.ids.0, self.ids.1, bars(start | flags), bars(size))
    }
}

#[derive(Debug, Clone)]
pub struct Machine {
    functions: Vec<Function>,
    index: HashMap<Bdf, usize>,
    groups: BTreeMap<u32, (String, String)>,
    files: BTreeMap<String, Vec<u8>>,
    /// Order of enumeration by the kernel; `None` for the order by address.
    order: Option<Vec<Bdf>>,
    /// Path prefixes of files to omit.
    missing: Vec<String>,
    next_group: u32,
    flat: bool,
}

pub const INTEL: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nflags\t\t: fpu\n";
pub const EPYC: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nflags\t\t: fpu\n";

pub fn bdf(text: &str) -> Bdf {
    text.parse().unwrap()
}

impl Machine {
    /// A host with Linux 7.2 and a translating IOMMU.
    pub fn new(cpuinfo: &str) -> Self {
        let text = |text: &str| text.as_bytes().to_vec();
        Self {
            functions: Vec::new(),
            index: HashMap::new(),
            groups: BTreeMap::new(),
            files: BTreeMap::from([
                ("proc/cpuinfo".to_owned(), text(cpuinfo)),
                ("proc/cmdline".to_owned(), text("quiet intel_iommu=on\n")),
                ("proc/sys/kernel/osrelease".to_owned(), text("7.2.12-test\n")),
            ]),
            order: None,
            missing: Vec::new(),
            next_group: 0,
            flat: false,
        }
    }

    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.as_bytes().to_vec());
        self
    }

    pub fn kernel(self, release: &str) -> Self {
        self.file("proc/sys/kernel/osrelease", release)
    }

    pub fn command_line(self, text: &str) -> Self {
        self.file("proc/cmdline", text)
    }

    pub fn without(mut self, path: &str) -> Self {
        self.missing.push(path.to_owned());
        self
    }

    pub fn order(mut self, order: &[&str]) -> Self {
        self.order = Some(order.iter().map(|text| bdf(text)).collect());
        self
    }

    /// Modifies every function.
    pub fn each(mut self, with: impl Fn(Function) -> Function) -> Self {
        self.functions = self.functions.into_iter().map(with).collect();
        self
    }

    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Puts every function into one IOMMU group.
    pub fn one_group(mut self) -> Self {
        for function in &mut self.functions {
            function.group = Some(0);
        }
        self.groups = BTreeMap::from([(0, ("DMA".to_owned(), String::new()))]);
        self
    }

    /// Sets the driver of every function except bridges.
    pub fn drivers(mut self, driver: &str) -> Self {
        for function in self.functions.iter_mut().filter(|function| function.kind == Kind::Endpoint) {
            function.driver = Some(driver.to_owned());
        }
        self
    }

    /// Puts the functions directly into `sys/bus/pci/devices`, without the directories of bridges and root buses.
    pub fn flat(mut self) -> Self {
        self.flat = true;
        self
    }

    /// Sets the domain type of every group.
    pub fn domain_type(mut self, kind: &str) -> Self {
        for (known, _) in self.groups.values_mut() {
            *known = kind.to_owned();
        }
        self
    }

    pub fn group_type(mut self, group: u32, kind: &str, name: &str) -> Self {
        self.groups.insert(group, (kind.to_owned(), name.to_owned()));
        self
    }

    /// Removes the IOMMU: no function has a group.
    pub fn no_iommu(mut self) -> Self {
        self.groups.clear();
        for function in &mut self.functions {
            function.group = None;
        }
        self
    }

    /// Adds a function below a bridge, or on the root bus of its own segment and bus. Endpoints get a 64-bit BAR of
    /// 1 MiB above 4 GiB, a driver and their own group; `with` modifies the function.
    pub fn add(
        mut self,
        address: &str,
        above: Option<&str>,
        kind: Kind,
        with: impl FnOnce(Function) -> Function,
    ) -> Self {
        let bdf = bdf(address);
        let above = above.map(|text| text.parse().unwrap());
        let root = above.and_then(|above| self.find(above)).map_or((bdf.segment(), bdf.bus()), |above| above.root);
        let host = above.and_then(|above| self.find(above)).map_or_else(String::new, |above| above.host.clone());
        let number = self.functions.len() as u64;
        let (ids, class) = match kind {
            Kind::Endpoint => ((0x1af4, 0x1110), 0x05_0000),
            Kind::Conventional => ((0x8086, 0x29c0), 0x06_0000),
            _ => ((0x1b36, 0x000c), 0x06_0400),
        };
        let endpoint = kind == Kind::Endpoint;
        let function = with(Function {
            bdf,
            above,
            root,
            host,
            kind,
            ids,
            class,
            acs: None,
            ats: None,
            config_bytes: 4096,
            padded: false,
            bar: endpoint.then_some((0x80_0000_0000 + number * 0x10_0000, 0x10_0000)),
            offset: 0,
            driver: Some(if endpoint { "vfio-pci" } else { "pcieport" }.to_owned()),
            group: Some(self.next_group),
            mask: 64,
            numa_node: -1,
            virtual_function_of: None,
            devices: Vec::new(),
            command: 6,
            device_control: 0,
            patches: Vec::new(),
            link: [(0, 0); 2],
        });
        if let Some(group) = function.group {
            self.groups.entry(group).or_insert_with(|| ("DMA".to_owned(), String::new()));
        }
        self.next_group += 1;
        self.index.insert(function.bdf, self.functions.len());
        self.functions.push(function);
        self
    }

    pub fn endpoint(self, address: &str, above: &str) -> Self {
        self.add(address, Some(above), Kind::Endpoint, |function| function)
    }

    fn find(&self, bdf: Bdf) -> Option<&Function> {
        self.index.get(&bdf).map(|&at| &self.functions[at])
    }

    fn path(&self, function: &Function) -> String {
        if self.flat {
            return format!("sys/bus/pci/devices/{}", function.bdf);
        }
        let mut parts = vec![function.bdf.to_string()];
        let mut above = function.above;
        while let Some(bridge) = above.and_then(|bdf| self.find(bdf)) {
            parts.push(bridge.bdf.to_string());
            above = bridge.above;
        }
        parts.push(format!("pci{:04x}:{:02x}", function.root.0, function.root.1));
        if !function.host.is_empty() {
            parts.push(function.host.clone());
        }
        parts.push("sys/devices".to_owned());
        parts.reverse();
        parts.join("/")
    }

    /// Derives the secondary and subordinate bus of each bridge from the functions below it.
    fn buses(&self) -> HashMap<Bdf, (u8, u8)> {
        let mut buses: HashMap<Bdf, (u8, u8)> = HashMap::new();
        for function in &self.functions {
            let bus = function.bdf.bus();
            let mut above = function.above;
            while let Some(at) = above {
                let (first, last) = buses.entry(at).or_insert((bus, bus));
                (*first, *last) = ((*first).min(bus), (*last).max(bus));
                above = self.find(at).and_then(|function| function.above);
            }
        }
        buses
    }

    /// The machine as an uncompressed archive.
    pub fn archive(&self) -> Vec<u8> {
        let mut tar = Archive { builder: tar::Builder::new(Vec::new()), missing: &self.missing };
        tar.directory("sys/kernel/iommu_groups");
        for (path, bytes) in &self.files {
            tar.file(path, bytes);
        }
        let buses = self.buses();
        for function in &self.functions {
            self.add_function(&mut tar, function, buses.get(&function.bdf).copied().unwrap_or_default());
        }
        for (number, (kind, name)) in &self.groups {
            let path = format!("sys/kernel/iommu_groups/{number}");
            tar.file(&format!("{path}/type"), format!("{kind}\n").as_bytes());
            if !name.is_empty() {
                tar.file(&format!("{path}/name"), format!("{name}\n").as_bytes());
            }
        }
        let addresses: Vec<Bdf> = match &self.order {
            Some(order) => order.clone(),
            None => {
                let mut all: Vec<Bdf> = self.functions.iter().map(|function| function.bdf).collect();
                all.sort_unstable();
                all
            }
        };
        let lines: String = addresses.iter().filter_map(|bdf| self.find(*bdf)).map(Function::line).collect();
        tar.file("proc/bus/pci/devices", lines.as_bytes());
        tar.builder.into_inner().unwrap()
    }

    fn add_function(&self, tar: &mut Archive<'_>, function: &Function, (secondary, subordinate): (u8, u8)) {
        let path = self.path(function);
        let up = "../".repeat(path.split('/').count() - 1);
        let mut config = function.config();
        if config.get(0x0e) == Some(&1) {
            config[0x19..0x1b].copy_from_slice(&[secondary, subordinate]);
        }
        let at = |name: &str| format!("{path}/{name}");
        tar.file(&at("config"), &config);
        tar.file(&at("vendor"), format!("{:#06x}\n", function.ids.0).as_bytes());
        tar.file(&at("device"), format!("{:#06x}\n", function.ids.1).as_bytes());
        tar.file(&at("class"), format!("{:#08x}\n", function.class).as_bytes());
        tar.file(&at("resource"), function.resource().as_bytes());
        tar.file(&at("dma_mask_bits"), format!("{}\n", function.mask).as_bytes());
        tar.file(&at("numa_node"), format!("{}\n", function.numa_node).as_bytes());
        tar.link(&at("subsystem"), &format!("{up}bus/pci"));
        if let Some(driver) = &function.driver {
            tar.link(&at("driver"), &format!("{up}bus/pci/drivers/{driver}"));
        }
        if let Some(physical) = function.virtual_function_of {
            tar.link(&at("physfn"), &format!("../{physical}"));
        }
        for (class, name) in &function.devices {
            tar.link(&format!("sys/class/{class}/{name}"), &format!("../../../{path}/{class}/{name}"));
        }
        if let Some(group) = function.group {
            tar.link(&at("iommu_group"), &format!("{up}kernel/iommu_groups/{group}"));
            let member = format!("sys/kernel/iommu_groups/{group}/devices/{}", function.bdf);
            tar.link(&member, &format!("../../../../../{path}"));
        }
        if !self.flat {
            tar.link(&format!("sys/bus/pci/devices/{}", function.bdf), &format!("../../../../{path}"));
        }
    }

    pub fn tree(&self) -> Tree {
        Tree::from_archive(&self.archive()[..], &Limits::default()).unwrap()
    }

    pub fn inventory(&self) -> Inventory {
        Inventory::read(&self.tree())
    }

    pub fn report(&self, from: &str, to: &str) -> PathReport {
        self.report_of(from, to, Request::default())
    }

    pub fn report_of(&self, from: &str, to: &str, request: Request) -> PathReport {
        self.inventory().predictor(request).explain(bdf(from), bdf(to)).unwrap()
    }
}

struct Archive<'a> {
    builder: tar::Builder<Vec<u8>>,
    missing: &'a [String],
}

impl Archive<'_> {
    fn is_missing(&self, path: &str) -> bool {
        // A leading star matches every path with this suffix.
        self.missing.iter().any(|missing| match missing.strip_prefix('*') {
            Some(end) => path.ends_with(end),
            None => path.starts_with(missing.as_str()),
        })
    }

    fn file(&mut self, path: &str, bytes: &[u8]) {
        if !self.is_missing(path) {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            self.builder.append_data(&mut header, path, bytes).unwrap();
        }
    }

    fn directory(&mut self, path: &str) {
        if !self.is_missing(path) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            self.builder.append_data(&mut header, path, std::io::empty()).unwrap();
        }
    }

    fn link(&mut self, path: &str, target: &str) {
        if !self.is_missing(path) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            self.builder.append_link(&mut header, path, target).unwrap();
        }
    }
}

/// A host with the given number of functions: one segment per socket, each with a switch of thirty ports below its root port, and
/// eight functions below each port.
pub fn large(functions: usize) -> Machine {
    let mut machine = Machine::new(INTEL);
    let address = |segment: u32, bus: u32, device: u32| format!("{segment:04x}:{bus:02x}:{device:02x}.0");
    for socket in 0.. {
        let root = address(socket, 0, 0);
        machine = machine.add(&root, None, Kind::RootPort, |port| port.ids((0x8086, 0x2030)));
        let upstream = address(socket, 1, 0);
        machine = machine.add(&upstream, Some(&root), Kind::Upstream, |port| port);
        for port in 0..30 {
            if machine.functions.len() + 2 > functions {
                return machine;
            }
            let downstream = address(socket, 2, port);
            let redirect = if port % 3 == 0 { 0x1d } else { 0 };
            machine = machine.add(&downstream, Some(&upstream), Kind::Downstream, |bridge| bridge.acs(redirect));
            for function in 0..8 {
                if machine.functions.len() >= functions {
                    return machine;
                }
                machine = machine.endpoint(&format!("{socket:04x}:{:02x}:00.{function}", 3 + port), &downstream);
            }
        }
    }
    machine
}
