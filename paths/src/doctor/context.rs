//! The input of every check.

use super::{LiveFacts, Verdict};
use crate::placement::Placement;
use crate::route_facts::RouteFact;
use crate::{
    Bdf, ExporterRule, FACTS_PATH, Facts, Function, GroupMembership, Host, Inventory, PathName, PathReport, Platform,
    Request, Topology, Tree, blockers,
};

/// Selection of the functions to check. The default checks the whole host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Function that exports; `None` for every function that can export.
    pub from: Option<Bdf>,
    /// Index of the exporter's BAR; `None` for the largest exportable BAR.
    pub bar: Option<u8>,
    /// The GPU whose memory is exported (`cuda:0`); `None` for another exporter.
    pub exporter_device: Option<String>,
    /// Function that imports; `None` for every function with an RDMA device.
    pub to: Option<Bdf>,
    /// The device on the importer (`verbs:mlx5_0`); `None` for every device.
    pub device: Option<String>,
    /// Whether the importer maps into its own I/O address space (`iommufd:BDF`).
    pub own_address_space: bool,
}

/// A host, the selected functions, and facts that several checks need.
pub(super) struct Context<'a> {
    pub(super) tree: &'a Tree,
    pub(super) inventory: &'a Inventory,
    pub(super) live: Option<&'a LiveFacts>,
    pub(super) exporter: Option<&'a Function>,
    pub(super) bar: Option<u8>,
    pub(super) exporter_device: Option<&'a str>,
    pub(super) importer: Option<&'a Function>,
    pub(super) device: Option<&'a str>,
    pub(super) own_address_space: bool,
    /// Whether no exporter is selected, and only GPU drivers export memory on this host.
    pub(super) only_gpus_export: bool,
    /// The predicted path, if exporter and importer are selected.
    pub(super) report: Option<PathReport>,
    pub(super) facts: Option<Facts>,
    /// Statements about the route of the packets between exporter and importer.
    pub(super) route_facts: Vec<RouteFact>,
    /// The kind of machine, which decides the advice; `None` for an ordinary server or desktop.
    pub(super) platform: Option<Platform>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        inventory: &'a Inventory,
        selection: &'a Selection,
        live: Option<&'a LiveFacts>,
    ) -> Self {
        let function = |bdf: Option<Bdf>| inventory.topology.function(bdf?);
        let request =
            Request { bar: selection.bar, own_address_space: selection.own_address_space, ..Request::default() };
        let pair = selection.from.zip(selection.to).map(|(from, to)| {
            let predictor = inventory.predictor(request);
            let report = predictor.explain(from, to);
            let path = report.as_ref().map_or(PathName::Unknown, |report| report.predicted);
            (report, predictor.facts(from, to), predictor.route_facts(from, to, path))
        });
        let (report, facts, route_facts) = match pair {
            Some((report, facts, route_facts)) => (report, Some(facts), route_facts),
            None => (None, None, Vec::new()),
        };
        Self {
            tree,
            inventory,
            live,
            exporter: function(selection.from),
            bar: selection.bar,
            exporter_device: selection.exporter_device.as_deref(),
            importer: function(selection.to),
            device: selection.device.as_deref(),
            report,
            own_address_space: selection.own_address_space,
            only_gpus_export: selection.from.is_none() && only_gpus_export(&inventory.topology),
            facts,
            route_facts,
            platform: Platform::of(&inventory.host, &inventory.topology),
        }
    }

    /// The exporter rule of the selected memory; the rule of VFIO if no exporter is selected.
    pub(super) fn rule(&self) -> ExporterRule {
        match self.exporter {
            Some(exporter) => ExporterRule::of(exporter, self.bar),
            // A virtual machine may hide the function of the GPU.
            None if self.exporter_device.is_some() => ExporterRule::Nvidia,
            None => ExporterRule::Vfio,
        }
    }

    /// Whether it is unknown which driver exports the memory of the selected GPU. A selected BAR is exported through VFIO.
    pub(super) fn rule_unknown(&self) -> bool {
        self.bar.is_none() && self.exporter.is_some_and(|exporter| !exporter.driver_known && exporter.is_gpu())
    }

    /// Whether VFIO exports the selected memory, or no exporter is selected. Otherwise the requirements of VFIO do not apply.
    pub(super) fn through_vfio(&self) -> bool {
        !self.rule().is_gpu()
    }

    pub(super) fn host(&self) -> &'a Host {
        &self.inventory.host
    }

    /// The placement of the selected pair.
    pub(super) fn placement(&self) -> Option<Placement> {
        let pair = [self.topology().position(self.exporter?.bdf)?, self.topology().position(self.importer?.bdf)?];
        Some(Placement::of(self.platform, self.topology(), pair))
    }

    pub(super) fn topology(&self) -> &'a Topology {
        &self.inventory.topology
    }

    /// Whether the absence of a module's directory means that the module is not loaded. A manual copy of sysfs may lack
    /// `sys/module`.
    pub(super) fn modules_known(&self) -> bool {
        self.tree.is_live() || self.tree.has(FACTS_PATH)
    }

    /// Whether this is the predicted path of the pair.
    pub(super) fn takes(&self, path: PathName) -> bool {
        self.report.as_ref().is_some_and(|report| report.predicted == path)
    }

    /// Whether swiotlb and the DMA mask do not matter: the path is bus-address, or the IOMMU translates.
    pub(super) fn maps_indirectly(&self) -> bool {
        self.takes(PathName::BusAddress) || self.facts.as_ref().is_some_and(|facts| facts.translated == Some(true))
    }

    /// Whether the domain of an importer may translate. Checks every function if no importer is selected. A selected importer
    /// counts as translating, except on a platform with DMA operations of its own.
    pub(super) fn some_importer_may_translate(&self) -> bool {
        let direct = self.host().cpu.as_ref().is_some_and(|cpu| cpu.legacy_dma.is_some());
        let may_translate = |function: &Function| match function.membership {
            GroupMembership::None => false,
            GroupMembership::Unknown => true,
            GroupMembership::Group(_) => {
                let group = self.topology().group_of(function);
                let domain = group.and_then(|group| group.domain_type.as_deref());
                group.is_none_or(|group| !group.noiommu)
                    && !matches!(domain, Some("identity" | "unmanaged" | "blocked"))
            }
        };
        // With a selected importer, the checks of the pair state whether the domain matters.
        if self.importer.is_some() || direct {
            return self.importer.is_some() && !direct;
        }
        self.topology().functions().iter().any(|function| !function.is_bridge() && may_translate(function))
    }

    /// The remedy that replaces the advice to bind a function to vfio-pci if no setting of the platform enables an IOMMU; `None`
    /// if an IOMMU is or may be possible. The check `iommu` reports a platform without an IOMMU.
    pub(super) fn instead_of_vfio(&self) -> Option<&'static str> {
        let functions = self.topology().functions();
        let none =
            !functions.is_empty() && functions.iter().all(|function| function.membership == GroupMembership::None);
        let impossible = none && self.platform.is_some_and(Platform::never_has_iommu);
        impossible.then_some("VFIO cannot work on this platform; see the check iommu.")
    }

    pub(super) fn rdma_functions(&self) -> Vec<&'a Function> {
        self.topology().functions().iter().filter(|function| !rdma_devices(function).is_empty()).collect()
    }
}

/// Whether functions with a GPU driver exist, and no function is bound to vfio-pci.
fn only_gpus_export(topology: &Topology) -> bool {
    let through_vfio = |function: &Function| function.driver.as_deref().is_some_and(blockers::exports);
    let functions = topology.functions();
    functions.iter().any(|function| ExporterRule::of(function, None).is_gpu()) && !functions.iter().any(through_vfio)
}

/// The RDMA devices on a function: `verbs:mlx5_0`.
pub(super) fn rdma_devices(function: &Function) -> Vec<&str> {
    function.devices.iter().map(String::as_str).filter(|name| name.starts_with("verbs:")).collect()
}

/// Joins names for a sentence; a long list is shortened.
pub(super) fn few(names: &[String]) -> String {
    few_of(names, names.len())
}

/// Joins the first of `count` names for a sentence.
pub(super) fn few_of(first: &[String], count: usize) -> String {
    const SHOWN: usize = 4;
    match first.get(..SHOWN) {
        Some(shown) if count > SHOWN + 1 => format!("{} and {} more", shown.join(", "), count - SHOWN),
        _ => first.join(", "),
    }
}

/// Returns the finding for a function whose config space is not readable.
pub(super) fn unreadable(subject: String) -> Vec<Verdict> {
    vec![Verdict::unknown(
        subject,
        "The config space of a function on the path is not readable.",
        "Run as root, or take the snapshot as root.",
    )]
}
