//! Names of the functions in a kernel log, from the file tree of a host.

use std::collections::HashMap;
use std::sync::OnceLock;

use peerpath_paths::{Bdf, Inventory, Tree};

/// The functions of a host, read when the first one is looked up.
pub(super) struct HostNames {
    tree: Option<Tree>,
    read: OnceLock<Functions>,
    /// Text after an address: whose function it is.
    place: &'static str,
}

#[derive(Default)]
struct Functions {
    names: HashMap<Bdf, HostFunction>,
    /// First and last address of each BAR, its function and its index.
    bars: Vec<(u64, u64, Bdf, u8)>,
}

/// Name and driver of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostFunction {
    pub(super) name: String,
    pub(super) driver: Option<String>,
}

impl HostNames {
    pub(super) fn none() -> Self {
        Self { tree: None, read: OnceLock::new(), place: "" }
    }

    /// `place` follows an address in text, for example " on this host".
    pub(super) fn of(tree: Tree, place: &'static str) -> Self {
        Self { tree: Some(tree), read: OnceLock::new(), place }
    }

    pub(super) fn function(&self, bdf: Bdf) -> Option<&HostFunction> {
        self.functions().names.get(&bdf)
    }

    /// The BAR that contains the physical address.
    pub(super) fn bar_at(&self, address: u64) -> Option<(Bdf, u8)> {
        let bars = &self.functions().bars;
        bars.iter().find(|(first, last, ..)| (*first..=*last).contains(&address)).map(|(.., bdf, index)| (*bdf, *index))
    }

    pub(super) fn place(&self) -> &'static str {
        self.place
    }

    fn functions(&self) -> &Functions {
        self.read.get_or_init(|| self.tree.as_ref().map_or_else(Functions::default, Functions::read))
    }
}

impl Functions {
    fn read(tree: &Tree) -> Self {
        let inventory = Inventory::read(tree);
        let name =
            |entry: peerpath_paths::ListEntry| (entry.bdf, HostFunction { name: entry.name, driver: entry.driver });
        let bars = inventory.topology.functions().iter().flat_map(|function| {
            let assigned = function.bars.iter().filter(|bar| bar.assigned && bar.start != 0);
            assigned.map(|bar| (bar.start, bar.last(), function.bdf, bar.index))
        });
        Self { bars: bars.collect(), names: inventory.list().into_iter().map(name).collect() }
    }
}
