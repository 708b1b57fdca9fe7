//! One PCI function, as sysfs describes it.

use crate::bar::parse_resource;
use crate::{AcsControl, Ats, Bar, Bdf, Capability, ConfigSpace, Pcie, PortType, Tree};

/// Which IOMMU group a function is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupMembership {
    /// In this one.
    Group(u32),
    /// In none: no IOMMU stands between the function and memory.
    None,
    /// The links were not copied.
    Unknown,
}

/// A function. Fields that could not be read are `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its address.
    pub bdf: Bdf,
    /// Vendor id.
    pub vendor: Option<u16>,
    /// Device id.
    pub device: Option<u16>,
    /// Base class, subclass, programming interface: `0x020700`.
    pub class: Option<u32>,
    /// Config space, as far as it was readable.
    pub config: ConfigSpace,
    /// The PCIe capability.
    pub pcie: Capability<Pcie>,
    /// ACS.
    pub acs: Capability<AcsControl>,
    /// ATS.
    pub ats: Capability<Ats>,
    /// BARs that exist.
    pub bars: Vec<Bar>,
    /// The driver bound to it.
    pub driver: Option<String>,
    /// Its NUMA node; negative and missing ones are none.
    pub numa_node: Option<u32>,
    /// Bits of DMA address that the bound driver asked for; 32 before any driver did.
    pub dma_mask_bits: Option<u8>,
    /// Its IOMMU group.
    pub membership: GroupMembership,
    /// The physical function, of a virtual one.
    pub physical_function: Option<Bdf>,
    /// State of a TEE device interface, as the kernel exposes it: `bound`, `locked`.
    pub tdisp: Option<String>,
    /// What sits on it: `verbs:mlx5_0`, `net:eth0`, `nvme:nvme0`, `drm:card0`.
    pub devices: Vec<String>,
}

impl Function {
    /// Reads the function whose directory is `path`. `None` where that is no directory.
    pub(crate) fn read(tree: &Tree, bdf: Bdf, path: &str) -> Option<Self> {
        if !tree.is_directory(path) {
            return None;
        }
        let at = |name: &str| format!("{path}/{name}");
        let hex = |name: &str| u32::from_str_radix(tree.text(&at(name))?.trim().strip_prefix("0x")?, 16).ok();
        let config = ConfigSpace::new(tree.read(&at("config")).unwrap_or_default());
        let physical_function = tree.link_name(&at("physfn")).and_then(|name| name.parse().ok());
        // In a virtual function's config space the ids read as all ones; sysfs knows better.
        let ids = config.ids().filter(|ids| ids.0 != 0xffff);
        Some(Self {
            bdf,
            vendor: hex("vendor").map(|id| id as u16).or(ids.map(|ids| ids.0)),
            device: hex("device").map(|id| id as u16).or(ids.map(|ids| ids.1)),
            class: hex("class").or_else(|| config.class()),
            pcie: config.pcie(),
            acs: config.acs(),
            ats: config.ats(),
            bars: tree.text(&at("resource")).map(|text| parse_resource(&text)).unwrap_or_default(),
            driver: tree.link_name(&at("driver")).map(|name| printable(&name)),
            numa_node: tree.text(&at("numa_node")).and_then(|node| node.parse().ok()),
            dma_mask_bits: tree
                .text(&at("dma_mask_bits"))
                .and_then(|bits| bits.parse().ok())
                .filter(|bits| *bits <= 64),
            membership: membership(tree, path),
            physical_function,
            tdisp: tdisp(tree, path),
            devices: Vec::new(),
            config,
        })
    }

    /// Bridges forward transfers and neither export nor import. A host bridge counts although its header looks like an
    /// endpoint's; "other" bridges (NVSwitch, non-transparent bridges) are endpoints that do.
    pub fn is_bridge(&self) -> bool {
        if matches!(self.config.header_type(), Some(1 | 2)) {
            return true;
        }
        match self.class.map(|class| ((class >> 16) as u8, (class >> 8) as u8)) {
            Some((0x06, subclass)) => !matches!(subclass, 0x0a | 0x80),
            _ => false,
        }
    }

    /// Whether it is a root port; unknown where the capability could not be seen and the answer depends on it.
    pub fn is_root_port(&self) -> Option<bool> {
        match self.pcie {
            Capability::Present(pcie) => Some(pcie.port_type == PortType::RootPort),
            Capability::Absent => Some(false),
            // Every root port is a bridge.
            Capability::Unknown => {
                if self.config.header_type() == Some(0) {
                    Some(false)
                } else {
                    None
                }
            }
        }
    }

    /// Whether it answers memory accesses; a virtual function has no bit of its own for that.
    pub fn memory_decode(&self) -> Option<bool> {
        self.config.memory_decode().filter(|_| self.physical_function.is_none())
    }

    /// Whether requests between its neighbours are sent up to the root complex, as p2pdma sees it.
    pub fn redirects(&self) -> Capability<AcsControl> {
        match self.acs {
            Capability::Present(control) if !control.redirects() => Capability::Absent,
            other => other,
        }
    }

    /// The BAR that people export: the largest one that can be.
    pub fn main_bar(&self, page_bytes: u64) -> Option<&Bar> {
        let exportable = self.bars.iter().filter(|bar| bar.why_not_exportable(page_bytes).is_none());
        exportable.max_by_key(|bar| (bar.size_bytes, std::cmp::Reverse(bar.index)))
    }

    /// Vendor and device as lspci prints them: `1af4:1110`.
    pub fn ids(&self) -> String {
        let id = |id: Option<u16>| id.map_or_else(|| "????".to_owned(), |id| format!("{id:04x}"));
        format!("{}:{}", id(self.vendor), id(self.device))
    }

    /// What its class is called.
    pub fn class_name(&self) -> &'static str {
        let Some(class) = self.class else { return "unknown device" };
        match ((class >> 16) as u8, (class >> 8) as u8) {
            (0x01, 0x08) => "NVMe controller",
            (0x01, _) => "storage controller",
            (0x02, 0x07) => "InfiniBand controller",
            (0x02, 0x00) => "Ethernet controller",
            (0x02, _) => "network controller",
            (0x03, _) => "display controller",
            (0x04, _) => "multimedia controller",
            (0x05, _) => "memory controller",
            (0x06, 0x00) => "host bridge",
            (0x06, 0x04) => "PCI bridge",
            (0x06, _) => "bridge",
            (0x08, _) => "system peripheral",
            (0x0b, _) => "processor",
            (0x0c, _) => "serial bus controller",
            (0x12, _) => "processing accelerator",
            _ => "device",
        }
    }
}

/// A function of sysfs always has the link `subsystem`: where that was copied, a missing group is a fact.
fn membership(tree: &Tree, path: &str) -> GroupMembership {
    match tree.link_name(&format!("{path}/iommu_group")).and_then(|number| number.parse().ok()) {
        Some(number) => GroupMembership::Group(number),
        None if tree.has(&format!("{path}/subsystem")) => GroupMembership::None,
        None => GroupMembership::Unknown,
    }
}

/// The TSM core's attributes, where the kernel has it.
fn tdisp(tree: &Tree, path: &str) -> Option<String> {
    ["lock", "bound"].into_iter().find_map(|name| {
        let text = tree.text(&format!("{path}/tsm/{name}"))?;
        (!text.is_empty() && text != "0").then(|| if name == "lock" { "locked".to_owned() } else { "bound".to_owned() })
    })
}

/// Names come from files of strangers and end on terminals.
pub(crate) fn printable(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_graphic() { character } else { '?' }).take(64).collect()
}
