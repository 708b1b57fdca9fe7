//! The order in which the kernel enumerated the functions. P2PDMA checks the *first* device on a root bus in this order; removing
//! and rescanning a function changes the order. `/proc/bus/pci/devices` lists functions in this order but without segments, so on
//! hosts with several segments a line may match several functions.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::{Bdf, Function};

/// One line of `/proc/bus/pci/devices`, which this module calls the kernel's list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    bus: u8,
    devfn: u8,
    vendor: u16,
    device: u16,
    /// Start and size of the six BARs, without type bits.
    bars: Vec<(u64, u64)>,
}

/// The positions that each function may have in the kernel's list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListOrder {
    /// For each function, the indexes of the lines that match the function.
    positions: HashMap<Bdf, BTreeSet<usize>>,
}

impl ListOrder {
    /// Parses the kernel's list; `None` if the list is missing or empty.
    pub(crate) fn read(text: Option<&str>, functions: &[Function]) -> Option<Self> {
        let lines: Vec<Line> = text?.lines().filter_map(parse).collect();
        (!lines.is_empty()).then(|| Self::matching(&lines, functions))
    }

    fn matching(lines: &[Line], functions: &[Function]) -> Self {
        let mut by_address: HashMap<(u8, u8), Vec<usize>> = HashMap::new();
        for (index, function) in functions.iter().enumerate() {
            by_address.entry(bus_and_devfn(function.bdf)).or_default().push(index);
        }
        let mut owners: Vec<Vec<usize>> = Vec::with_capacity(lines.len());
        for line in lines {
            let all = by_address.get(&(line.bus, line.devfn)).cloned().unwrap_or_default();
            owners.push(narrowed(all, line, functions));
        }
        settle(&mut owners);
        narrow_to_blocks(&mut owners, functions);
        settle(&mut owners);
        let mut positions: HashMap<Bdf, BTreeSet<usize>> = HashMap::new();
        for (position, owners) in owners.iter().enumerate() {
            for owner in owners {
                positions.entry(functions[*owner].bdf).or_default().insert(position);
            }
        }
        Self { positions }
    }

    /// Selects the functions among `candidates` (sorted by address) that may be the first in the kernel's order: one function,
    /// unless lines of `/proc/bus/pci/devices` match several functions. Returns all candidates if no line matches any of them.
    pub(crate) fn possible_first(&self, candidates: &[Bdf]) -> Vec<Bdf> {
        let known: Vec<(Bdf, Vec<usize>)> = candidates
            .iter()
            .filter_map(|bdf| Some((*bdf, self.positions.get(bdf)?.iter().copied().collect())))
            .collect();
        if known.is_empty() {
            return candidates.to_vec();
        }
        let mut first = first_in_rounds(&known).unwrap_or_else(|| first_in_ranges(&known));
        first.sort_unstable();
        first.dedup();
        first
    }
}

/// Selects the possible first functions if several segments have the same devices. The kernel enumerates one segment after the
/// other, so the ambiguous lines repeat the same addresses in the same order, once per segment. Each repetition (a *round*)
/// belongs to one segment; only the assignment is unknown.
fn first_in_rounds(known: &[(Bdf, Vec<usize>)]) -> Option<Vec<Bdf>> {
    let ambiguous = || known.iter().filter(|(_, positions)| positions.len() > 1);
    let rounds = ambiguous().next().map_or(1, |(_, positions)| positions.len());
    if ambiguous().any(|(_, positions)| positions.len() != rounds) {
        return None;
    }
    let in_sequence: Vec<usize> =
        (0..rounds).flat_map(|round| ambiguous().map(move |(_, positions)| positions[round])).collect();
    if !in_sequence.is_sorted() {
        return None;
    }
    let at = |positions: &[usize], round: usize| positions.get(round).or(positions.first()).copied();
    (0..rounds)
        .map(|round| known.iter().min_by_key(|(_, positions)| at(positions, round)).map(|(bdf, _)| *bdf))
        .collect()
}

/// Selects the possible first functions if the lines form no rounds: a function may be first if its smallest possible position
/// does not exceed the largest possible position of any other function.
fn first_in_ranges(known: &[(Bdf, Vec<usize>)]) -> Vec<Bdf> {
    let latest = known.iter().filter_map(|(_, positions)| positions.last()).min();
    known.iter().filter(|(_, positions)| positions.first() <= latest).map(|(bdf, _)| *bdf).collect()
}

/// Of the functions that have the same address in different segments, keeps those with the IDs and BARs in `line`.
fn narrowed(mut owners: Vec<usize>, line: &Line, functions: &[Function]) -> Vec<usize> {
    if owners.len() > 1 {
        owners.retain(|&owner| {
            let function = &functions[owner];
            function.vendor.is_none_or(|vendor| vendor == line.vendor)
                && function.device.is_none_or(|device| device == line.device)
        });
    }
    if owners.len() > 1 {
        owners.retain(|&owner| fits(&functions[owner], line));
    }
    owners
}

fn fits(function: &Function, line: &Line) -> bool {
    function.bars.iter().filter(|bar| bar.assigned).all(|bar| {
        line.bars
            .get(usize::from(bar.index))
            .is_none_or(|&(start, size)| (start, size) == (bar.start & !0xf, bar.size_bytes))
    })
}

/// Removes a function from all other lines if one line matches only this function.
fn settle(owners: &mut [Vec<usize>]) {
    let mut single: VecDeque<usize> = VecDeque::new();
    // For each function, the lines that match it and others.
    let mut shared: HashMap<usize, Vec<usize>> = HashMap::new();
    for (position, owners) in owners.iter().enumerate() {
        match owners.as_slice() {
            [only] => single.push_back(*only),
            several => several.iter().for_each(|owner| shared.entry(*owner).or_default().push(position)),
        }
    }
    while let Some(owner) = single.pop_front() {
        for position in shared.remove(&owner).unwrap_or_default() {
            let owners = &mut owners[position];
            if owners.len() > 1 {
                owners.retain(|other| *other != owner);
                if let [only] = owners.as_slice() {
                    single.push_back(*only);
                }
            }
        }
    }
}

/// Assigns a line that matches several segments to one segment if it is between two lines of this segment. The kernel scans one
/// host bridge after the other (`pci_lock_rescan_remove`), so the lines of a segment are consecutive, unless functions were
/// removed and rescanned. Changes nothing if the unambiguous lines of the segments are mixed.
fn narrow_to_blocks(owners: &mut [Vec<usize>], functions: &[Function]) {
    let segment = |owner: &usize| functions[*owner].bdf.segment();
    let known: Vec<Option<u32>> = owners
        .iter()
        .map(|owners| {
            let first = segment(owners.first()?);
            owners.iter().all(|owner| segment(owner) == first).then_some(first)
        })
        .collect();
    let mut blocks: Vec<u32> = known.iter().copied().flatten().collect();
    blocks.dedup();
    let distinct: BTreeSet<u32> = blocks.iter().copied().collect();
    if distinct.len() != blocks.len() {
        return;
    }
    let mut before = None;
    let mut after: Vec<Option<u32>> = Vec::with_capacity(known.len());
    let mut next = None;
    for known in known.iter().rev() {
        after.push(next);
        next = known.or(next);
    }
    let all = owners.to_vec();
    for ((owners, known), after) in owners.iter_mut().zip(&known).zip(after.into_iter().rev()) {
        if let (None, Some(block)) = (known, before.filter(|_| before == after))
            && owners.iter().any(|owner| segment(owner) == block)
        {
            owners.retain(|owner| segment(owner) == block);
        }
        before = known.or(before);
    }
    // If a function has lost all its lines, it was removed and rescanned, so the lines of a segment are not consecutive: undo the
    // assignment.
    let having_lines = |owners: &[Vec<usize>]| owners.iter().flatten().copied().collect::<BTreeSet<usize>>();
    if having_lines(owners) != having_lines(&all) {
        owners.clone_from_slice(&all);
    }
}

fn bus_and_devfn(bdf: Bdf) -> (u8, u8) {
    (bdf.bus(), bdf.device() << 3 | bdf.function())
}

/// Parses a line of `/proc/bus/pci/devices`: bus and devfn (`0100`), IDs (`1af41110`), interrupt, seven addresses, seven sizes
/// and driver, separated by tabs.
fn parse(line: &str) -> Option<Line> {
    let mut fields = line.split_whitespace();
    let mut number = || u64::from_str_radix(fields.next()?, 16).ok();
    let (address, ids, _interrupt) = (number()?, number()?, number()?);
    let numbers: Vec<u64> = std::iter::from_fn(number).take(14).collect();
    let bars = match numbers.len() {
        14 => (0..6).map(|bar| (numbers[bar] & !0xf, numbers[bar + 7])).collect(),
        _ => Vec::new(),
    };
    Some(Line {
        bus: u8::try_from(address >> 8).ok()?,
        devfn: (address & 0xff) as u8,
        vendor: u16::try_from(ids >> 16).ok()?,
        device: (ids & 0xffff) as u16,
        bars,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first(positions: &[(&str, &[usize])]) -> Vec<String> {
        let positions: HashMap<Bdf, BTreeSet<usize>> = positions
            .iter()
            .map(|(bdf, positions)| (bdf.parse().unwrap(), positions.iter().copied().collect()))
            .collect();
        let mut candidates: Vec<Bdf> = positions.keys().copied().collect();
        candidates.sort_unstable();
        ListOrder { positions }.possible_first(&candidates).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_function_is_the_first_in_the_list() {
        assert_eq!(first(&[("00:00.0", &[7]), ("00:01.0", &[3])]), ["0000:00:01.0"]);
    }

    #[test]
    fn assigns_rounds_to_segments() {
        assert_eq!(first(&[("00:00.0", &[0, 5]), ("00:01.0", &[1, 6])]), ["0000:00:00.0"]);
        // An unambiguous device is listed after the first round and before the second.
        assert_eq!(
            first(&[("00:00.0", &[0, 5]), ("00:01.0", &[1, 6]), ("00:02.0", &[3])]),
            ["0000:00:00.0", "0000:00:02.0"]
        );
    }

    #[test]
    fn returns_every_possible_first_function_without_rounds() {
        assert_eq!(first(&[("00:00.0", &[2, 3]), ("00:01.0", &[0, 4])]), ["0000:00:00.0", "0000:00:01.0"]);
        assert_eq!(first(&[("00:00.0", &[0, 1]), ("00:01.0", &[4, 6]), ("00:02.0", &[5])]), ["0000:00:00.0"]);
    }

    #[test]
    fn parses_a_line_with_bars() {
        let line =
            parse("0100\t1af41110\t0\t0\t0\t800000000c\t0\t0\t0\t0\t0\t0\t8000000\t0\t0\t0\t0\tvfio-pci").unwrap();
        assert_eq!((line.bus, line.devfn, line.vendor, line.device), (1, 0, 0x1af4, 0x1110));
        assert_eq!(line.bars[2], (0x80_0000_0000, 0x800_0000));
    }

    proptest! {
        #[test]
        fn accepts_any_text(text in "([0-9a-f]{4,9}[\t ]|\n|.){0,60}") {
            let _ = ListOrder::read(Some(&text), &[]);
        }
    }
}
