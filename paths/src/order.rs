//! The kernel's own order of functions. p2pdma asks the *first* device on a root bus, and "first" means the order in
//! which the kernel found them, which a remove and rescan changes. `/proc/bus/pci/devices` shows that order; it prints
//! no segment, so on hosts with several segments a line may fit several functions.

use std::collections::{BTreeSet, HashMap};

use crate::{Bdf, Function};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    bus: u8,
    slot: u8,
    vendor: u16,
    device: u16,
    /// Start and size of the six BARs, type bits taken off.
    bars: Vec<(u64, u64)>,
}

/// Positions in the kernel's list, as far as they can be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListOrder {
    /// The lines that may be this function's.
    positions: HashMap<Bdf, BTreeSet<usize>>,
}

impl ListOrder {
    /// `None` where there is no list.
    pub(crate) fn read(text: Option<&str>, functions: &[Function]) -> Option<Self> {
        let lines: Vec<Line> = text?.lines().filter_map(parse).collect();
        (!lines.is_empty()).then(|| Self::matching(&lines, functions))
    }

    fn matching(lines: &[Line], functions: &[Function]) -> Self {
        let mut places: HashMap<(u8, u8), Vec<usize>> = HashMap::new();
        for (index, function) in functions.iter().enumerate() {
            places.entry(place(function.bdf)).or_default().push(index);
        }
        let mut owners: Vec<Vec<usize>> = Vec::with_capacity(lines.len());
        for line in lines {
            let all = places.get(&(line.bus, line.slot)).cloned().unwrap_or_default();
            owners.push(narrowed(all, line, functions));
        }
        settle(&mut owners);
        let mut positions: HashMap<Bdf, BTreeSet<usize>> = HashMap::new();
        for (position, owners) in owners.iter().enumerate() {
            for owner in owners {
                positions.entry(functions[*owner].bdf).or_default().insert(position);
            }
        }
        Self { positions }
    }

    /// Which of these functions may be the first of them: one, unless lines fit several functions.
    pub(crate) fn possible_first(&self, candidates: &[Bdf]) -> Vec<Bdf> {
        let range = |bdf: &Bdf| {
            let positions = self.positions.get(bdf)?;
            Some((*positions.first()?, *positions.last()?))
        };
        // Somebody stands here at the latest, so nobody behind it can be first.
        let Some(latest) = candidates.iter().filter_map(range).map(|(_, last)| last).min() else {
            return candidates.to_vec();
        };
        candidates.iter().copied().filter(|bdf| range(bdf).is_some_and(|(first, _)| first <= latest)).collect()
    }
}

/// Among functions at the same place in different segments, those whose ids and BARs are the line's.
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

/// A line that fits one function only is that function's line, and no other line is.
fn settle(owners: &mut [Vec<usize>]) {
    let mut settled: BTreeSet<usize> = BTreeSet::new();
    loop {
        let single: Vec<(usize, usize)> = owners
            .iter()
            .enumerate()
            .filter_map(|(position, owners)| match owners.as_slice() {
                [only] if !settled.contains(only) => Some((position, *only)),
                _ => None,
            })
            .collect();
        if single.is_empty() {
            return;
        }
        for (at, owner) in single {
            settled.insert(owner);
            for (position, owners) in owners.iter_mut().enumerate() {
                if position != at && owners.len() > 1 {
                    owners.retain(|other| *other != owner);
                }
            }
        }
    }
}

fn place(bdf: Bdf) -> (u8, u8) {
    (bdf.bus(), bdf.device() << 3 | bdf.function())
}

/// Place (`0100`), ids (`1af41110`), interrupt, seven addresses, seven sizes, driver; tabs between them.
fn parse(line: &str) -> Option<Line> {
    let mut words = line.split_whitespace();
    let mut number = || u64::from_str_radix(words.next()?, 16).ok();
    let (place, ids, _interrupt) = (number()?, number()?, number()?);
    let numbers: Vec<u64> = std::iter::from_fn(number).take(14).collect();
    let bars = match numbers.len() {
        14 => (0..6).map(|bar| (numbers[bar] & !0xf, numbers[bar + 7])).collect(),
        _ => Vec::new(),
    };
    Some(Line {
        bus: u8::try_from(place >> 8).ok()?,
        slot: (place & 0xff) as u8,
        vendor: u16::try_from(ids >> 16).ok()?,
        device: (ids & 0xffff) as u16,
        bars,
    })
}
