//! A PCI function, as sysfs describes it.

use crate::bar::parse_resource;
use crate::config::KNOWN_CONFIG;
use crate::{
    AcsControl, Ats, Bar, Bdf, Capability, ConfigSpace, Ide, KernelVersion, Pcie, PortType, Tree, printable_within,
};

/// The IOMMU group of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupMembership {
    /// The function is in the group with this number.
    Group(u32),
    /// The function has no group: the host has no IOMMU for this function, or the IOMMU is off.
    None,
    /// Unknown, because the sysfs copy does not contain the links of the function.
    Unknown,
}

/// A PCI function. Fields that are not readable are `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// The PCI address.
    pub bdf: Bdf,
    /// Vendor ID.
    pub vendor: Option<u16>,
    /// Device ID.
    pub device: Option<u16>,
    /// Base class, subclass, programming interface: `0x020700`.
    pub class: Option<u32>,
    /// The readable part of config space.
    pub config: ConfigSpace,
    /// The PCIe capability of the function.
    pub pcie: Capability<Pcie>,
    /// The function's ACS Control register.
    pub acs: Capability<AcsControl>,
    /// The function's ATS capability.
    pub ats: Capability<Ats>,
    /// The function's IDE capability.
    pub ide: Capability<Ide>,
    /// Implemented BARs, ordered by index; empty if they are unknown.
    pub bars: Vec<Bar>,
    /// Whether the BARs are known: a sysfs copy may lack the file `resource`.
    pub bars_known: bool,
    /// Name of the bound driver; `None` if no driver is bound, or if the driver is unknown.
    pub driver: Option<String>,
    /// Whether the driver is known: a sysfs copy may lack the links of the function, and lspci output may not show it.
    pub driver_known: bool,
    /// Number of the NUMA node; `None` if sysfs reports none or a negative number.
    pub numa_node: Option<u32>,
    /// The DMA mask that the bound driver set, in bits; 32 before a driver sets it.
    pub dma_mask_bits: Option<u8>,
    /// The IOMMU group.
    pub membership: GroupMembership,
    /// The physical function, if this is a virtual function.
    pub physical_function: Option<Bdf>,
    /// State of the TEE device interface (TDISP): `bound` or `locked`; `None` if neither.
    pub tdisp: Option<String>,
    /// Name of the TSM (TEE security manager of the platform) that is connected to the function: `tsm0`. The connection secures
    /// the function's link or its configuration.
    pub tsm: Option<String>,
    /// The function that manages the TSM connection of this function, such as the physical function of a virtual function.
    pub security_manager: Option<Bdf>,
    /// The devices of the function: `verbs:mlx5_0`, `net:eth0`, `nvme:nvme0`, `drm:card0`.
    pub devices: Vec<String>,
    /// The devices in `devices` that belong to a subfunction (an auxiliary device, such as `mlx5_core.sf.4`), with its name. A
    /// subfunction has no PCI address: its parent function performs its DMA.
    pub subfunctions: Vec<(String, String)>,
}

impl Function {
    /// Reads the function with the directory `path`; `None` if `path` is not a directory.
    pub(crate) fn read(tree: &Tree, bdf: Bdf, path: &str) -> Option<Self> {
        if !tree.is_directory(path) {
            return None;
        }
        let at = |name: &str| format!("{path}/{name}");
        let hex = |name: &str| u32::from_str_radix(tree.text(&at(name))?.trim().strip_prefix("0x")?, 16).ok();
        let config = tree.read(&at("config")).unwrap_or_default();
        let config = match tree.read(&at(KNOWN_CONFIG)) {
            Some(known) => ConfigSpace::partial(config, known),
            None => ConfigSpace::new(config),
        };
        let physical_function = tree.link_name(&at("physfn")).and_then(|name| name.parse().ok());
        // In the config space of a virtual function the IDs read as all ones; sysfs reports the actual IDs.
        let ids = config.ids().filter(|ids| ids.0 != 0xffff);
        // An empty file was not copied correctly: the kernel lists every BAR register, implemented or not.
        let resource = tree.text(&at("resource")).filter(|text| !text.is_empty());
        let driver = tree.link_name(&at("driver")).map(|name| printable_name(&name));
        Some(Self {
            bdf,
            vendor: hex("vendor").map(|id| id as u16).or(ids.map(|ids| ids.0)),
            device: hex("device").map(|id| id as u16).or(ids.map(|ids| ids.1)),
            class: hex("class").or_else(|| config.class()),
            pcie: config.pcie(),
            acs: config.acs(),
            ats: config.ats(),
            ide: config.ide(),
            bars: resource.as_deref().map(parse_resource).unwrap_or_default(),
            bars_known: resource.is_some(),
            driver_known: driver.is_some() || tree.has(&at("subsystem")),
            driver,
            numa_node: tree.text(&at("numa_node")).and_then(|node| node.parse().ok()),
            dma_mask_bits: tree
                .text(&at("dma_mask_bits"))
                .and_then(|bits| bits.parse().ok())
                .filter(|bits| *bits <= 64),
            membership: membership(tree, path),
            physical_function,
            tdisp: tdisp(tree, path),
            tsm: connected_tsm(tree, path),
            security_manager: tree.text(&at("tsm/dsm")).and_then(|bdf| bdf.parse().ok()),
            devices: Vec::new(),
            subfunctions: Vec::new(),
            config,
        })
    }

    /// Whether the function is a bridge, which neither exports nor imports. A host bridge counts as a bridge although it has the
    /// configuration header of an endpoint; "other" bridges (NVSwitch, non-transparent bridges) count as endpoints.
    pub fn is_bridge(&self) -> bool {
        if matches!(self.config.header_type(), Some(1 | 2)) {
            return true;
        }
        match self.class.map(|class| ((class >> 16) as u8, (class >> 8) as u8)) {
            Some((0x06, subclass)) => !matches!(subclass, 0x0a | 0x80),
            _ => false,
        }
    }

    /// Whether the function is a root port; `None` if that depends on an unreadable capability.
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

    /// Whether memory decoding is on; `None` for a virtual function, which has no bit for it.
    pub fn memory_decode(&self) -> Option<bool> {
        self.config.memory_decode().filter(|_| self.physical_function.is_none())
    }

    /// The ACS Control register: present if P2PDMA considers the function to redirect peer-to-peer requests to the root complex,
    /// absent if not, unknown if it is not readable.
    pub fn redirects(&self) -> Capability<AcsControl> {
        match self.acs {
            Capability::Present(control) if !control.redirects() => Capability::Absent,
            other => other,
        }
    }

    /// The largest exportable BAR; the first one if several have the same size.
    pub fn main_bar(&self, page_bytes: u64) -> Option<&Bar> {
        let exportable = self.bars.iter().filter(|bar| bar.why_not_exportable(page_bytes).is_none());
        exportable.max_by_key(|bar| (bar.size_bytes, std::cmp::Reverse(bar.index)))
    }

    /// Whether the function may have a BAR that vfio-pci exports: it has one, or its BARs are unknown.
    pub fn may_export(&self, page_bytes: u64) -> bool {
        !self.is_bridge() && (!self.bars_known || self.main_bar(page_bytes).is_some())
    }

    /// Vendor and device as lspci prints them: `1af4:1110`.
    pub fn ids(&self) -> String {
        let id = |id: Option<u16>| id.map_or_else(|| "????".to_owned(), |id| format!("{id:04x}"));
        format!("{}:{}", id(self.vendor), id(self.device))
    }

    /// Name of the PCI class of the function.
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

/// Reads the IOMMU group. Every function in sysfs has the link `subsystem`; if a sysfs copy contains this link, a missing group
/// link means that the function has no group, unless the kernel is older than IOMMU groups.
fn membership(tree: &Tree, path: &str) -> GroupMembership {
    match tree.link_name(&format!("{path}/iommu_group")).and_then(|number| number.parse().ok()) {
        Some(number) => GroupMembership::Group(number),
        None if tree.has(&format!("{path}/subsystem")) && !is_older_than_groups(tree) => GroupMembership::None,
        None => GroupMembership::Unknown,
    }
}

fn is_older_than_groups(tree: &Tree) -> bool {
    let release = ["proc/sys/kernel/osrelease", "proc/version"].into_iter().find_map(|path| tree.text(path));
    release.and_then(|text| KernelVersion::find(&text)).is_some_and(|kernel| kernel < KernelVersion::IOMMU_GROUPS)
}

/// The TSM that is connected to the function. The attribute is empty without a connection, and exists only if the platform has a
/// TSM (`connect_show` in `drivers/pci/tsm.c`).
fn connected_tsm(tree: &Tree, path: &str) -> Option<String> {
    tree.text(&format!("{path}/tsm/connect"))
        .filter(|name| !name.is_empty() && name != "0")
        .map(|name| printable_name(&name))
}

/// State of the TEE device interface, from the attributes of the kernel's TSM core; `None` if neither locked nor bound.
fn tdisp(tree: &Tree, path: &str) -> Option<String> {
    ["lock", "bound"].into_iter().find_map(|name| {
        let text = tree.text(&format!("{path}/tsm/{name}"))?;
        (!text.is_empty() && text != "0").then(|| if name == "lock" { "locked".to_owned() } else { "bound".to_owned() })
    })
}

/// Makes the name of a driver, a device or a type printable, and limits its length: an untrusted snapshot may contain any text.
pub(crate) fn printable_name(name: &str) -> String {
    const MOST_CHARACTERS: usize = 64;
    printable_within(name, MOST_CHARACTERS)
}
