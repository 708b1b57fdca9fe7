//! What the files of a host show of the kernel's list of functions. `/proc/bus/pci/devices` prints no segment, so a line may
//! belong to several functions; every assignment of lines to functions is a list that the kernel may have.

use crate::kernel::{Heads, heads};
use crate::model::{Lost, Machine};
use crate::tree;

/// The first devices that the files permit for each root bus.
pub(crate) fn possible_heads(machine: &Machine) -> Vec<Vec<Option<usize>>> {
    if machine.is_lost(Lost::ListOrder) {
        // The model then has the order after boot.
        return heads(machine).into_iter().map(|head| vec![head]).collect();
    }
    let order: Vec<usize> = machine.order.iter().copied().filter(|index| !machine.functions[*index].removed).collect();
    // The last column names the driver. It is ignored, because drivers are bound and unbound while the files are read.
    let identity = |index: &usize| {
        let line = tree::line(machine, *index);
        line.rsplit_once('\t').map_or(String::new(), |(identity, _)| identity.to_owned())
    };
    let lines: Vec<String> = order.iter().map(identity).collect();
    // Equal lines are indistinguishable: returns the first and the last line that may describe function `index`.
    let span = |index: usize| {
        let own = &lines[order.iter().position(|other| *other == index).expect("every function is in the list")];
        let first = lines.iter().position(|line| line == own);
        let last = lines.iter().rposition(|line| line == own);
        (first, last)
    };
    let certain = heads(machine);
    (0..machine.roots.len())
        .map(|root| {
            let on_bus = |index: &usize| {
                let function = &machine.functions[*index];
                function.root == root && function.bus == machine.roots[root].bus
            };
            let all: Vec<usize> = order.iter().copied().filter(on_bus).collect();
            let may_be_first =
                |index: &usize| all.iter().all(|other| other == index || span(*index).0 < span(*other).1);
            let possible: Vec<Option<usize>> = all.iter().copied().filter(may_be_first).map(Some).collect();
            if possible.is_empty() { vec![certain[root]] } else { possible }
        })
        .collect()
}

/// Every combination of first devices that matters to a pair below two root buses.
pub(crate) fn combinations(possible: &[Vec<Option<usize>>], certain: &Heads, roots: [usize; 2]) -> Vec<Heads> {
    let mut all = Vec::new();
    for first in &possible[roots[0]] {
        for second in &possible[roots[1]] {
            if roots[0] == roots[1] && first != second {
                continue;
            }
            let mut heads = certain.clone();
            heads[roots[0]] = *first;
            heads[roots[1]] = *second;
            all.push(heads);
        }
    }
    all
}
