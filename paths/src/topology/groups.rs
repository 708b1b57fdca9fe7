//! The IOMMU groups.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::function::printable_name;
use crate::{Bdf, Function, GroupMembership, Tree};

/// An IOMMU group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IommuGroup {
    /// Number below `/sys/kernel/iommu_groups`.
    pub number: u32,
    /// Type of the default domain: `DMA`, `DMA-FQ`, `identity`.
    pub domain_type: Option<String>,
    /// Whether VFIO created the group in no-IOMMU mode, for a function without an IOMMU.
    pub noiommu: bool,
    /// Reserved I/O virtual addresses (`reserved_regions`); `None` if the file is not readable, or has more regions than the
    /// kernel prints.
    pub reserved: Option<Vec<ReservedRegion>>,
    /// The functions in the group; empty if they are unknown.
    pub members: Vec<Bdf>,
}

/// A range of I/O virtual addresses that the IOMMU driver reserves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedRegion {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// Type: `direct`, `direct-relaxable`, `reserved` or `msi`.
    pub kind: String,
}

/// Reads the IOMMU groups, and completes the membership of the functions.
pub(super) fn groups(tree: &Tree, functions: &mut [Function]) -> BTreeMap<u32, IommuGroup> {
    const PATH: &str = "sys/kernel/iommu_groups";
    let position: HashMap<Bdf, usize> = functions.iter().enumerate().map(|(at, function)| (function.bdf, at)).collect();
    let mut groups: BTreeMap<u32, IommuGroup> = BTreeMap::new();
    let mut listed: HashSet<(u32, Bdf)> = HashSet::new();
    for name in tree.names(PATH) {
        let Ok(number) = name.parse() else { continue };
        let text = |file: &str| tree.text(&format!("{PATH}/{name}/{file}"));
        let members: Vec<Bdf> =
            tree.names(&format!("{PATH}/{name}/devices")).iter().filter_map(|name| name.parse().ok()).collect();
        // A sysfs copy may lack some or all of the functions' `iommu_group` links, so use the links in the group directories.
        for bdf in &members {
            listed.insert((number, *bdf));
            let Some(function) = position.get(bdf).map(|&at| &mut functions[at]) else { continue };
            if !matches!(function.membership, GroupMembership::Group(_)) {
                function.membership = GroupMembership::Group(number);
            }
        }
        groups.insert(
            number,
            IommuGroup {
                number,
                domain_type: text("type").map(|text| printable_name(&text)).filter(|text| !text.is_empty()),
                noiommu: text("name").as_deref() == Some("vfio-noiommu"),
                reserved: text("reserved_regions").and_then(|text| reserved_regions(&text)),
                members,
            },
        );
    }
    // If the snapshot lacks /sys/kernel/iommu_groups, derive the groups from the functions.
    for function in functions.iter() {
        if let GroupMembership::Group(number) = function.membership {
            let group = groups.entry(number).or_insert_with(|| IommuGroup { number, ..IommuGroup::default() });
            if listed.insert((number, function.bdf)) {
                group.members.push(function.bdf);
            }
        }
    }
    groups
}

/// Parses `reserved_regions`; `None` if it has more regions than the kernel prints. The kernel prints at most one page
/// (`iommu_group_show_resv_regions`, drivers/iommu/iommu.c), and a page of 64 KiB has space for 1560 lines.
fn reserved_regions(text: &str) -> Option<Vec<ReservedRegion>> {
    const LIMIT: usize = 2048;
    let regions: Vec<_> = text.lines().filter_map(reserved_region).take(LIMIT + 1).collect();
    (regions.len() <= LIMIT).then_some(regions)
}

/// Parses a line of `reserved_regions`: `0x00000000fee00000 0x00000000feefffff msi`.
fn reserved_region(line: &str) -> Option<ReservedRegion> {
    let mut fields = line.split_whitespace();
    let mut address = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
    let (first, last) = (address()?, address()?);
    Some(ReservedRegion { first, last, kind: printable_name(fields.next()?) }).filter(|_| first <= last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_reserved_regions() {
        let region = reserved_region("0x00000000fee00000 0x00000000feefffff msi").unwrap();
        assert_eq!((region.first, region.last, region.kind.as_str()), (0xfee0_0000, 0xfeef_ffff, "msi"));
        for damaged in ["", "0x1", "0x2 0x1 direct", "1 2 direct", "0x1 0x2"] {
            assert_eq!(reserved_region(damaged), None, "{damaged}");
        }
    }
}
