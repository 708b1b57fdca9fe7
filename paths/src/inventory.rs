//! A host as the commands `list` and `paths` show it.

use pci_ids::FromId as _;
use serde::Serialize;

use crate::{Bar, BarKind, Bdf, Function, GroupMembership, Host, PathReport, Predictor, Request, Topology, Tree};

/// Everything that was read of a host.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// What concerns all of it.
    pub host: Host,
    /// Its functions.
    pub topology: Topology,
}

/// One object of `list --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListEntry {
    /// The function.
    pub bdf: Bdf,
    /// Vendor and device in words, as far as the table of PCI ids knows them.
    pub name: String,
    /// The driver bound to it.
    pub driver: Option<String>,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// Type of the group's default domain.
    pub domain_type: Option<String>,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// BARs that exist.
    pub bars: Vec<ListBar>,
    /// `verbs:mlx5_0`, `net:eth0`, `nvme:nvme0`, `drm:card0`.
    pub devices: Vec<String>,
}

/// A BAR in [`ListEntry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListBar {
    /// Its index.
    pub index: u8,
    /// Its size.
    pub size_bytes: u64,
    /// What it decodes: `mem64-prefetch`.
    pub kind: BarKind,
    /// VFIO could export it.
    pub exportable: bool,
    /// Why not.
    pub why: Option<String>,
}

impl Inventory {
    /// Reads a host.
    pub fn read(tree: &Tree) -> Self {
        Self { host: Host::read(tree), topology: Topology::read(tree) }
    }

    /// Prepares predictions.
    pub fn predictor(&self, request: Request) -> Predictor<'_> {
        Predictor::new(&self.host, &self.topology, request)
    }

    /// Functions with BARs that can be exported, in the order of their addresses.
    pub fn list(&self) -> Vec<ListEntry> {
        let page_bytes = self.host.page_bytes();
        let functions = self.topology.functions().iter();
        functions
            .filter(|function| !function.is_bridge() && function.main_bar(page_bytes).is_some())
            .map(|function| self.entry(function))
            .collect()
    }

    /// The entry of one function, exportable or not.
    pub fn entry(&self, function: &Function) -> ListEntry {
        let page_bytes = self.host.page_bytes();
        let bar = |bar: &Bar| {
            let why = bar.why_not_exportable(page_bytes);
            ListBar { index: bar.index, size_bytes: bar.size_bytes, kind: bar.kind, exportable: why.is_none(), why }
        };
        ListEntry {
            bdf: function.bdf,
            name: name(function),
            driver: function.driver.clone(),
            iommu_group: match function.membership {
                GroupMembership::Group(number) => Some(number),
                GroupMembership::None | GroupMembership::Unknown => None,
            },
            domain_type: self.topology.group_of(function).and_then(|group| group.domain_type.clone()),
            numa_node: function.numa_node,
            bars: function.bars.iter().map(bar).collect(),
            devices: function.devices.clone(),
        }
    }

    /// The function that a device such as `verbs:rxe0` sits on; a port after it (`verbs:mlx5_0/2`) says nothing about that.
    pub fn function_under(&self, device: &str) -> Option<Bdf> {
        let device = device.split('/').next().unwrap_or(device);
        let sits_here = |function: &&Function| function.devices.iter().any(|name| name == device);
        self.topology.functions().iter().find(sits_here).map(|function| function.bdf)
    }

    /// The reports that `paths` prints: every exporter with every importer, or with the functions that are named, which
    /// are then taken whatever they are. Addresses that do not exist give no report.
    pub fn reports(&self, from: Option<Bdf>, to: Option<Bdf>, request: Request) -> Vec<PathReport> {
        let predictor = self.predictor(request);
        let exporters = from.map_or_else(|| predictor.exporters().collect(), |bdf| vec![bdf]);
        let importers = to.map_or_else(|| predictor.importers().collect(), |bdf| vec![bdf]);
        let pairs = exporters.iter().flat_map(|from| importers.iter().map(move |to| (*from, *to)));
        pairs.filter_map(|(from, to)| predictor.explain(from, to)).collect()
    }
}

/// What the table of PCI ids calls it; its class and numbers where the table has no word.
fn name(function: &Function) -> String {
    let (Some(vendor), Some(device)) = (function.vendor, function.device) else {
        return function.class_name().to_owned();
    };
    let known_vendor = pci_ids::Vendor::from_id(vendor).map(pci_ids::Vendor::name);
    match (known_vendor, pci_ids::Device::from_vid_pid(vendor, device).map(pci_ids::Device::name)) {
        (Some(vendor), Some(device)) => format!("{vendor} {device}"),
        (Some(vendor), None) => format!("{vendor} {} [{}]", function.class_name(), function.ids()),
        _ => format!("{} [{}]", function.class_name(), function.ids()),
    }
}
