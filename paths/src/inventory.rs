//! A host with all its functions, and lists of them.

use pci_ids::FromId as _;
use serde::Serialize;

use crate::{
    Bar, BarKind, Bdf, ExporterRule, Function, GroupMembership, Host, PathReport, Predictor, Request, Topology, Tree,
};

/// A host and its functions.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// Kernel, processor and other facts of the whole host.
    pub host: Host,
    /// The PCI functions and their relations.
    pub topology: Topology,
}

/// One object of `list --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListEntry {
    /// Address of the function.
    pub bdf: Bdf,
    /// Vendor and device name from the table of PCI IDs.
    pub name: String,
    /// Name of the bound driver; `None` if no driver is bound.
    pub driver: Option<String>,
    /// Number of the IOMMU group; `None` if the function has no group or the group is unknown.
    pub iommu_group: Option<u32>,
    /// Type of the group's default domain, as sysfs names it: `DMA`, `DMA-FQ`, `identity`.
    pub domain_type: Option<String>,
    /// Number of the NUMA node; `None` if the firmware assigns none.
    pub numa_node: Option<u32>,
    /// Implemented BARs, ordered by index.
    pub bars: Vec<ListBar>,
    /// `verbs:mlx5_0`, `net:eth0`, `nvme:nvme0`, `drm:card0`.
    pub devices: Vec<String>,
}

/// A BAR in [`ListEntry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListBar {
    /// Index 0 to 5.
    pub index: u8,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Address space, width and prefetchability: `mem64-prefetch`.
    pub kind: BarKind,
    /// Whether vfio-pci can export the BAR.
    pub exportable: bool,
    /// Reason why vfio-pci cannot export the BAR; `None` if it can.
    pub why: Option<String>,
}

impl Inventory {
    /// Reads facts and functions of a host.
    pub fn read(tree: &Tree) -> Self {
        Self { host: Host::read(tree), topology: Topology::read(tree) }
    }

    /// Prepares predictions of paths between functions of this host.
    pub fn predictor(&self, request: Request) -> Predictor<'_> {
        Predictor::new(&self.host, &self.topology, request)
    }

    /// The functions with an exportable BAR, ordered by address, and the functions whose BARs are unknown.
    pub fn list(&self) -> Vec<ListEntry> {
        let page_bytes = self.host.page_bytes();
        let functions = self.topology.functions().iter();
        functions.filter(|function| function.may_export(page_bytes)).map(|function| self.entry(function)).collect()
    }

    /// Describes a function, whether or not it has an exportable BAR.
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

    /// The function of a device such as `verbs:rxe0`. A port number (`verbs:mlx5_0/2`) is ignored.
    pub fn function_under(&self, device: &str) -> Option<Bdf> {
        let device = device.split('/').next().unwrap_or(device);
        let has_device = |function: &&Function| function.devices.iter().any(|name| name == device);
        self.topology.functions().iter().find(has_device).map(|function| function.bdf)
    }

    /// The GPUs of NVIDIA's driver, ordered by address. nvidia-smi numbers them in this order, and so does CUDA with
    /// CUDA_DEVICE_ORDER=PCI_BUS_ID. By default CUDA's GPU 0 is the fastest one, so the numbers agree if all GPUs are of one
    /// model.
    pub fn nvidia_gpus(&self) -> Vec<Bdf> {
        let functions = self.topology.functions().iter();
        let mut gpus: Vec<_> = functions
            .filter(|function| function.physical_function.is_none())
            .filter(|function| ExporterRule::of(function, None) == ExporterRule::Nvidia)
            .map(|function| function.bdf)
            .collect();
        gpus.sort_unstable();
        gpus
    }

    /// Predicts and explains the path from `from` to `to`. `None` selects every possible exporter or importer. The iterator
    /// computes one report at a time, because a host with 4096 functions has 16 million pairs. A pair with a function that does
    /// not exist has no report.
    pub fn reports(&self, from: Option<Bdf>, to: Option<Bdf>, request: Request) -> impl Iterator<Item = PathReport> {
        let predictor = self.predictor(request);
        let exporters: Vec<Bdf> = from.map_or_else(|| predictor.exporters().collect(), |bdf| vec![bdf]);
        let importers: Vec<Bdf> = to.map_or_else(|| predictor.importers().collect(), |bdf| vec![bdf]);
        let pairs = exporters.len() * importers.len();
        (0..pairs)
            .filter_map(move |at| predictor.explain(exporters[at / importers.len()], importers[at % importers.len()]))
    }
}

/// The name in the table of PCI IDs, or class and IDs if the table lacks it.
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
