//! What every check sees.

use super::LiveFacts;
use crate::{Bdf, FACTS_PATH, Facts, Function, Host, Inventory, PathName, PathReport, Request, Topology, Tree};

/// What the user asks about; nothing named means the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The exporter.
    pub from: Option<Bdf>,
    /// The BAR of it; without one, the largest that can be exported.
    pub bar: Option<u8>,
    /// The importer.
    pub to: Option<Bdf>,
    /// The device on the importer that is meant (`verbs:mlx5_0`); without one, every one.
    pub device: Option<String>,
    /// The importer maps into an I/O address space of its own (`iommufd:BDF`).
    pub own_address_space: bool,
}

/// A host and a selection, with what several checks need of them.
pub(super) struct Context<'a> {
    pub(super) tree: &'a Tree,
    pub(super) inventory: &'a Inventory,
    pub(super) live: Option<&'a LiveFacts>,
    pub(super) exporter: Option<&'a Function>,
    pub(super) bar: Option<u8>,
    pub(super) importer: Option<&'a Function>,
    pub(super) device: Option<&'a str>,
    /// Of the pair, where both are named.
    pub(super) report: Option<PathReport>,
    pub(super) facts: Option<Facts>,
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
            (predictor.explain(from, to), predictor.facts(from, to))
        });
        let (report, facts) = pair.unzip();
        Self {
            tree,
            inventory,
            live,
            exporter: function(selection.from),
            bar: selection.bar,
            importer: function(selection.to),
            device: selection.device.as_deref(),
            report: report.flatten(),
            facts,
        }
    }

    pub(super) fn host(&self) -> &'a Host {
        &self.inventory.host
    }

    pub(super) fn topology(&self) -> &'a Topology {
        &self.inventory.topology
    }

    /// Whether a module that does not show is not loaded. A copy made by hand may simply not have it.
    pub(super) fn modules_known(&self) -> bool {
        self.tree.is_live() || self.tree.has(FACTS_PATH)
    }

    /// Whether the pair goes that way.
    pub(super) fn goes(&self, path: PathName) -> bool {
        self.report.as_ref().is_some_and(|report| report.predicted == path)
    }

    /// Whether nothing hangs on how the importer maps: its way is below the switches, or translated.
    pub(super) fn maps_indirectly(&self) -> bool {
        self.goes(PathName::BusAddress) || self.facts.as_ref().is_some_and(|facts| facts.translated == Some(true))
    }

    /// Functions with an RDMA device.
    pub(super) fn rdma_functions(&self) -> Vec<&'a Function> {
        self.topology().functions().iter().filter(|function| !rdma_devices(function).is_empty()).collect()
    }
}

/// The RDMA devices on a function: `verbs:mlx5_0`.
pub(super) fn rdma_devices(function: &Function) -> Vec<&str> {
    function.devices.iter().map(String::as_str).filter(|name| name.starts_with("verbs:")).collect()
}

/// Several names in a sentence, cut where there are too many of them.
pub(super) fn few(names: &[String]) -> String {
    const SHOWN: usize = 4;
    match names.get(SHOWN..) {
        Some(rest @ [_, _, ..]) => format!("{} and {} more", names[..SHOWN].join(", "), rest.len()),
        _ => names.join(", "),
    }
}
