//! Names of the functions in a kernel log, from the file tree of a host.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use peerpath_paths::{Bdf, Inventory, Tree};

/// The functions of a host, read when the first one is looked up.
pub(super) struct HostNames {
    tree: Option<Tree>,
    read: OnceLock<Functions>,
    /// Text that follows an address in the output and names the host, e.g. " on this host".
    place: &'static str,
}

#[derive(Default)]
struct Functions {
    names: HashMap<Bdf, HostFunction>,
    bars: Bars,
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

    /// `place` follows an address in the output, e.g. " on this host".
    pub(super) fn of(tree: Tree, place: &'static str) -> Self {
        Self { tree: Some(tree), read: OnceLock::new(), place }
    }

    pub(super) fn function(&self, bdf: Bdf) -> Option<&HostFunction> {
        self.functions().names.get(&bdf)
    }

    /// The BAR that contains the physical address.
    pub(super) fn bar_at(&self, address: u64) -> Option<(Bdf, u8)> {
        self.functions().bars.at(address)
    }

    pub(super) fn place(&self) -> &'static str {
        self.place
    }

    fn functions(&self) -> &Functions {
        self.read.get_or_init(|| self.tree.as_ref().map_or_else(Functions::default, Functions::read))
    }
}

/// The BARs of a host by address. A log may have many addresses, and a host many BARs.
#[derive(Default)]
struct Bars {
    /// From each address up to the next one: the function and the index of its BAR, if there is one. Ordered by address.
    parts: Vec<(u64, Option<(Bdf, u8)>)>,
}

impl Bars {
    /// BARs with first and last address. Where BARs overlap, the first in the list counts.
    fn of(bars: Vec<(u64, u64, (Bdf, u8))>) -> Self {
        let starts = bars.iter().enumerate().map(|(at, (first, ..))| (*first, true, at));
        let ends = bars.iter().enumerate().filter_map(|(at, (_, last, _))| Some((last.checked_add(1)?, false, at)));
        let mut changes: Vec<(u64, bool, usize)> = starts.chain(ends).collect();
        changes.sort_unstable();
        let mut parts: Vec<(u64, Option<(Bdf, u8)>)> = Vec::new();
        let mut here = BTreeSet::new();
        for (address, starts, at) in changes {
            if starts {
                here.insert(at);
            } else {
                here.remove(&at);
            }
            let bar = here.first().map(|&at| bars[at].2);
            match parts.last_mut() {
                Some((known, part)) if *known == address => *part = bar,
                _ => parts.push((address, bar)),
            }
        }
        Self { parts }
    }

    /// The BAR that contains an address.
    fn at(&self, address: u64) -> Option<(Bdf, u8)> {
        let next = self.parts.partition_point(|(start, _)| *start <= address);
        self.parts[..next].last()?.1
    }
}

impl Functions {
    fn read(tree: &Tree) -> Self {
        let inventory = Inventory::read(tree);
        let name =
            |entry: peerpath_paths::ListEntry| (entry.bdf, HostFunction { name: entry.name, driver: entry.driver });
        let bars = inventory.topology.functions().iter().flat_map(|function| {
            let assigned = function.bars.iter().filter(|bar| bar.assigned && bar.start != 0);
            assigned.map(|bar| (bar.start, bar.last(), (function.bdf, bar.index)))
        });
        Self { bars: Bars::of(bars.collect()), names: inventory.list().into_iter().map(name).collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_the_first_bar_that_contains_an_address(
            ranges in proptest::collection::vec((0_u64..40, 1_u64..20), 0..12), at_end: bool, address in 0_u64..64
        ) {
            let base = if at_end { u64::MAX - 59 } else { 0 };
            let bar = |(index, (first, size)): (usize, &(u64, u64))| {
                let bdf = Bdf::new(0, 0, 0, 0).unwrap();
                (base + first, (base + first).saturating_add(*size), (bdf, index as u8))
            };
            let bars: Vec<_> = ranges.iter().enumerate().map(bar).collect();
            let address = base.saturating_add(address);
            let expected = bars.iter().find(|(first, last, _)| (*first..=*last).contains(&address)).map(|(.., bar)| *bar);
            prop_assert_eq!(Bars::of(bars).at(address), expected);
        }
    }
}
