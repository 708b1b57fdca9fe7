//! Predictions of all pairs of many functions, without predicting each pair: functions that the kernel treats alike form a group,
//! and all pairs of two groups have the same prediction. These groups are independent of IOMMU groups.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use super::importer::Mapping;
use super::{Prediction, Predictor};
use crate::inbound::Inbound;
use crate::{AcsControl, Bdf, Capability, Cause, GroupMembership, Locality, PathName};

/// Functions with equal paths. All pairs of a function of one group and a function of another group have the same prediction and
/// locality, and so do all pairs within one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionGroup {
    /// The functions, ordered by address.
    pub functions: Vec<Bdf>,
    /// Whether the functions have an exportable BAR.
    pub exports: bool,
}

/// An entry of the matrix: the prediction for the pairs of two function groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatrixCell {
    /// The path that the kernel will choose, or `unknown`.
    pub path: PathName,
    /// The cause, if the path is `refused`.
    pub cause: Option<Cause>,
    /// The distance between the functions; `None` if unknown.
    pub locality: Option<Locality>,
}

/// Pairs with the same path and cause, for which the facts behind the path are also the same: common bridge, ACS redirect, common
/// root bus, and the importer's domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlikePairs {
    /// Number of pairs.
    pub pairs: u64,
    /// Prediction of one of these pairs; [`Predictor::report`] explains it.
    pub example: Prediction,
}

/// The predicted paths between function groups.
#[derive(Debug, Clone)]
pub struct PathMatrix {
    groups: Vec<FunctionGroup>,
    /// For each exporter group, in order, and each importer group: index of the entry in `kinds`, or [`NO_PAIR`].
    cells: Vec<u16>,
    /// The distinct entries.
    kinds: Vec<MatrixCell>,
    reasons: Vec<AlikePairs>,
    left_out: usize,
}

/// Index for groups without a pair: the exporters have no BAR, or exporter and importer would be the only function of one group.
const NO_PAIR: u16 = u16::MAX;

/// All properties of a function that affect predictions or the locality, except its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Likeness<'a> {
    above: Option<usize>,
    root: usize,
    parent_unknown: bool,
    redirects: Capability<AcsControl>,
    /// What the DMA API uses of the BAR: the number of bits of its last address, which decides the comparison with a DMA mask,
    /// and its size.
    bar: Option<(u32, u64)>,
    /// Start of the BAR, if a host bridge declares inbound ranges that may not contain it.
    start: Option<u64>,
    bars_known: bool,
    driver: Option<&'a str>,
    mask: Option<u64>,
    mask_unread: bool,
    /// Address of the reserved ranges, which groups share: a comparison of the ranges themselves would read them all.
    reserved_iova: *const (u64, u64),
    domain: Domain<'a>,
    tdisp: Option<&'a str>,
    numa_node: Option<u32>,
    is_virtual: bool,
    /// The function itself, if others are below it: it is then like no other function.
    itself: Option<usize>,
    exports: bool,
    imports: bool,
}

/// The importer's domain: it decides between bypass and translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Domain<'host> {
    mapping: Mapping,
    has_group: Option<bool>,
    noiommu: bool,
    domain_type: Option<&'host str>,
}

/// Functions with equal [`Likeness`], as positions in the topology.
struct Class {
    members: Vec<usize>,
    exports: bool,
    imports: bool,
}

impl<'host> Predictor<'host> {
    /// Predicts the paths between `functions`. Functions without an exportable BAR are importers only. Covers the first `limit`
    /// function groups; [`PathMatrix::left_out`] counts the functions of the others.
    pub fn matrix(&self, functions: &[Bdf], limit: usize) -> PathMatrix {
        let positions = functions.iter().filter_map(|bdf| self.topology.position(*bdf));
        let mut classes = self.classes(positions.map(|at| (at, self.bars[at].is_some(), true)));
        let left_out = classes.iter().skip(limit).map(|class| class.members.len()).sum();
        classes.truncate(limit);
        let domains: Vec<Domain<'_>> = classes.iter().map(|class| self.domain(class.members[0])).collect();
        let mut matrix = PathMatrix {
            groups: classes.iter().map(|class| self.group(class)).collect(),
            cells: Vec::with_capacity(classes.len() * classes.len()),
            kinds: Vec::new(),
            reasons: Vec::new(),
            left_out,
        };
        let mut kinds: HashMap<MatrixCell, u16> = HashMap::new();
        let mut reasons: HashMap<_, usize> = HashMap::new();
        for exporters in &classes {
            for (importers, domain) in classes.iter().zip(&domains) {
                let Some((from, to, pairs)) = pairs(exporters, importers) else {
                    matrix.cells.push(NO_PAIR);
                    continue;
                };
                let prediction = self.pair(from, to);
                let common = self.common(from, to);
                let locality = self.distances.between(self.topology, from, to, common);
                let cell = MatrixCell { path: prediction.path, cause: prediction.cause, locality };
                let kind = *kinds.entry(cell).or_insert_with(|| {
                    matrix.kinds.push(cell);
                    // Far fewer combinations of path, cause and locality exist than 16 bits can count.
                    (matrix.kinds.len() - 1) as u16
                });
                matrix.cells.push(kind);
                let redirects = common.is_some_and(|at| self.count_between(&self.redirects_above, from, to, at) > 0);
                let same_root = self.topology.root_number(from) == self.topology.root_number(to);
                let reason = (cell.path, cell.cause, common.is_some(), redirects, same_root, *domain);
                let reason = *reasons.entry(reason).or_insert_with(|| {
                    matrix.reasons.push(AlikePairs { pairs: 0, example: prediction });
                    matrix.reasons.len() - 1
                });
                matrix.reasons[reason].pairs += pairs;
            }
        }
        matrix
    }

    /// Counts the pairs of different functions by path and cause.
    pub fn count_paths(&self, from: &[Bdf], to: &[Bdf]) -> BTreeMap<(PathName, Option<Cause>), u64> {
        let mut roles: BTreeMap<usize, (bool, bool)> = BTreeMap::new();
        for at in from.iter().filter_map(|bdf| self.topology.position(*bdf)) {
            roles.entry(at).or_default().0 = true;
        }
        for at in to.iter().filter_map(|bdf| self.topology.position(*bdf)) {
            roles.entry(at).or_default().1 = true;
        }
        let classes = self.classes(roles.into_iter().map(|(at, (exports, imports))| (at, exports, imports)));
        let mut counts = BTreeMap::new();
        for exporters in &classes {
            for (from, to, pairs) in classes.iter().filter_map(|importers| pairs(exporters, importers)) {
                let Prediction { path, cause, .. } = self.pair(from, to);
                *counts.entry((path, cause)).or_default() += pairs;
            }
        }
        counts
    }

    /// Groups functions with equal [`Likeness`]. An item of `functions` is the position, whether it exports, and whether it
    /// imports.
    fn classes(&self, functions: impl Iterator<Item = (usize, bool, bool)>) -> Vec<Class> {
        let mut has_below = vec![false; self.topology.functions().len()];
        for above in (0..has_below.len()).filter_map(|at| self.topology.above(at)) {
            has_below[above] = true;
        }
        let ranges = self.topology.roots().iter().any(|root| root.inbound != Inbound::All);
        let mut classes: Vec<Class> = Vec::new();
        let mut index: HashMap<Likeness<'_>, usize> = HashMap::new();
        for (at, exports, imports) in functions {
            let function = &self.topology.functions()[at];
            let likeness = Likeness {
                above: self.topology.above(at),
                root: self.topology.root_number(at),
                parent_unknown: self.topology.parent_unknown(at),
                redirects: function.redirects(),
                bar: self.bars[at].map(|bar| (bits(bar.last()), bar.size_bytes)),
                start: self.bars[at].filter(|_| ranges).map(|bar| bar.start),
                bars_known: function.bars_known,
                driver: function.driver.as_deref(),
                mask: self.importers[at].mask,
                mask_unread: self.importers[at].mask_unread,
                reserved_iova: self.importers[at].reserved_iova.identity(),
                domain: self.domain(at),
                tdisp: function.tdisp.as_deref(),
                numa_node: function.numa_node,
                is_virtual: function.physical_function.is_some(),
                itself: has_below[at].then_some(at),
                exports,
                imports,
            };
            let class = *index.entry(likeness).or_insert_with(|| {
                classes.push(Class { members: Vec::new(), exports, imports });
                classes.len() - 1
            });
            classes[class].members.push(at);
        }
        classes
    }

    fn domain(&self, at: usize) -> Domain<'host> {
        let topology = self.topology;
        let function = &topology.functions()[at];
        let group = topology.group_of(function);
        Domain {
            mapping: self.importers[at].mapping,
            has_group: match function.membership {
                GroupMembership::Group(_) => Some(true),
                GroupMembership::None => Some(false),
                GroupMembership::Unknown => None,
            },
            noiommu: group.is_some_and(|group| group.noiommu),
            domain_type: group.and_then(|group| group.domain_type.as_deref()),
        }
    }

    fn group(&self, class: &Class) -> FunctionGroup {
        let functions = class.members.iter().map(|&at| self.topology.functions()[at].bdf).collect();
        FunctionGroup { functions, exports: class.exports }
    }
}

/// A pair of different functions that represents all pairs of two classes, and the number of pairs; `None` without a pair.
fn pairs(exporters: &Class, importers: &Class) -> Option<(usize, usize, u64)> {
    if !exporters.exports || !importers.imports {
        return None;
    }
    let (from, to) = (exporters.members[0], importers.members[0]);
    let (rows, columns) = (exporters.members.len() as u64, importers.members.len() as u64);
    if from != to {
        Some((from, to, rows * columns))
    } else {
        Some((from, *importers.members.get(1)?, rows * (rows - 1)))
    }
}

/// Number of bits of a value. A value exceeds a mask of `n` ones if and only if it has more than `n` bits.
fn bits(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

impl PathMatrix {
    /// The function groups, in the order of rows and columns.
    pub fn function_groups(&self) -> &[FunctionGroup] {
        &self.groups
    }

    /// The prediction for exporters of one function group and importers of another, by the indexes of the groups. `None` if no
    /// pair of different functions exists, or the exporters have no BAR.
    pub fn cell(&self, exporters: usize, importers: usize) -> Option<MatrixCell> {
        self.kinds.get(usize::from(self.code(exporters, importers))).copied()
    }

    /// The distinct entries of the matrix.
    pub fn kinds(&self) -> &[MatrixCell] {
        &self.kinds
    }

    /// All pairs, grouped by path, cause and the facts behind the path.
    pub fn reasons(&self) -> &[AlikePairs] {
        &self.reasons
    }

    /// Number of functions that the limit excludes.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Index in `kinds` of the entry for two groups, or [`NO_PAIR`].
    fn code(&self, row: usize, column: usize) -> u16 {
        self.cells[row * self.groups.len() + column]
    }

    /// Joins function groups with equal rows and columns, e.g. the groups below different ports of one switch.
    #[must_use]
    pub fn merged(self) -> Self {
        let count = self.groups.len();
        // For each group, a sum of hashes over its row and column. To exclude one other group, subtract the hash of that group:
        // two groups are then compared without reading their rows.
        let sums: Vec<u64> = (0..count)
            .map(|at| {
                let others = (0..count).filter(|&other| other != at);
                others.fold(0, |sum: u64, other| {
                    sum.wrapping_add(mixed(other, self.code(at, other), self.code(other, at)))
                })
            })
            .collect();
        let mut joined: Vec<Vec<usize>> = Vec::new();
        for at in 0..count {
            let joins = |members: &&mut Vec<usize>| self.are_equal(members[0], at, &sums);
            match joined.iter_mut().find(joins) {
                Some(members) => members.push(at),
                None => joined.push(vec![at]),
            }
        }
        let cells = joined.iter().flat_map(|row| joined.iter().map(move |column| (row, column)));
        let code = |(row, column): (&Vec<usize>, &Vec<usize>)| match row.as_slice() {
            [first, second, ..] if row[0] == column[0] => self.code(*first, *second),
            _ => self.code(row[0], column[0]),
        };
        let group = |members: &Vec<usize>| {
            let mut functions: Vec<Bdf> = members.iter().flat_map(|&at| &self.groups[at].functions).copied().collect();
            functions.sort_unstable();
            FunctionGroup { functions, exports: self.groups[members[0]].exports }
        };
        Self {
            cells: cells.map(code).collect(),
            groups: joined.iter().map(group).collect(),
            kinds: self.kinds,
            reasons: self.reasons,
            left_out: self.left_out,
        }
    }

    /// Whether two groups have the same entries with all other groups, in both directions, and the same entry with each other as
    /// within themselves. The relation is transitive.
    fn are_equal(&self, a: usize, b: usize, sums: &[u64]) -> bool {
        let between = self.code(a, b);
        let within = |at: usize| [NO_PAIR, between].contains(&self.code(at, at));
        self.groups[a].exports == self.groups[b].exports
            && between == self.code(b, a)
            && within(a)
            && within(b)
            && sums[a].wrapping_sub(mixed(b, between, between)) == sums[b].wrapping_sub(mixed(a, between, between))
            && (0..self.groups.len())
                .filter(|other| ![a, b].contains(other))
                .all(|other| self.code(a, other) == self.code(b, other) && self.code(other, a) == self.code(other, b))
    }
}

/// The hash of a group's entries with one other group: a summand of the group's sum in [`PathMatrix::merged`].
fn mixed(other: usize, out: u16, back: u16) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one((other, out, back))
}
