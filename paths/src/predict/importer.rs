//! Mappings of the DMA API for an importer, if the route leads through a host bridge.

use std::collections::{BTreeMap, BTreeSet};

use super::PossiblePaths;
use super::iova::ReservedRanges;
use crate::inbound::Inbound;
use crate::{
    Bar, Bounce, Cause, Cpu, Function, GroupMembership, Host, IommuGroup, KernelRules, KernelVersion, LegacyDma,
    Topology,
};

/// Kind of mapping that the DMA API creates for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mapping {
    /// DMA address = physical address: no IOMMU, or a domain that the DMA API does not manage.
    Direct,
    /// The IOMMU translates the DMA address.
    Translated,
    /// POWER maps without translation or through a TCE table; no file shows which of the two applies.
    DirectOrTce,
    /// The domain type is not readable.
    Unknown,
}

/// Whether an untranslated mapping of a BAR gives an address that the importer can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Reached,
    /// The address exceeds the DMA mask.
    BeyondMask,
    /// The address is in no inbound range of the importer's host bridge.
    BeyondInbound,
    /// The inbound ranges of the host bridge, the DMA mask or the BAR are unknown.
    Unknown,
}

/// The smallest mask that drivers set (32 bits), as the highest DMA address.
const SMALLEST_MASK: u64 = u32::MAX as u64;

/// The BAR that is mapped.
#[derive(Debug, Clone, Copy)]
pub(super) struct MappedBar<'a> {
    /// The BAR; `None` if it does not exist or is unknown.
    pub(super) bar: Option<&'a Bar>,
    /// Whether the BAR exists; `None` if the BARs of the exporter are unknown.
    pub(super) exists: Option<bool>,
}

/// Facts about a function as an importer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImporterFacts<'host> {
    pub(super) mapping: Mapping,
    /// DMA mask that the bound device driver set, as the highest DMA address. Every driver except VFIO drivers and pci-stub
    /// counts as a device driver. `None` if the mask is not readable, or if no device driver is bound: the mask is then the
    /// kernel's initial value of 32 bits, which the importing driver replaces.
    pub(super) mask: Option<u64>,
    /// Whether a device driver is bound and the DMA mask that it set is not readable. Device drivers set masks of at least 32
    /// bits.
    pub(super) mask_unread: bool,
    /// Description of the mapping, as a clause.
    pub(super) mapping_fact: String,
    /// The inbound ranges of the importer's host bridge.
    inbound: &'host Inbound,
    /// IOVA ranges that the IOMMU driver reserves.
    pub(super) reserved_iova: ReservedRanges,
}

impl<'host> ImporterFacts<'host> {
    /// The facts of all functions, in the order of the topology.
    pub(super) fn of_all(host: &Host, topology: &'host Topology) -> Vec<Self> {
        let reserved = GroupRanges::of(host, topology);
        topology.functions().iter().map(|function| Self::of(host, topology, &reserved, function)).collect()
    }

    fn of(host: &Host, topology: &'host Topology, reserved: &GroupRanges, function: &Function) -> Self {
        let is_device_driver = |driver: &str| !driver.contains("vfio") && driver != "pci-stub";
        let has_driver = function.driver.as_deref().is_some_and(is_device_driver);
        Self {
            mapping: mapping(host, topology, function),
            mask_unread: has_driver && function.dma_mask_bits.is_none(),
            mapping_fact: mapping_fact(host, topology, function),
            mask: function
                .dma_mask_bits
                .filter(|bits| has_driver && *bits > 0)
                .map(|bits| u64::MAX >> (64 - u32::from(bits))),
            inbound: topology.root_above(function.bdf).map_or(&Inbound::All, |root| &root.inbound),
            reserved_iova: reserved.of_function(function),
        }
    }

    /// Whether the inbound ranges of the importer's host bridge are known.
    pub(super) fn inbound_known(&self) -> bool {
        *self.inbound != Inbound::Unknown
    }

    pub(super) fn translated(&self) -> Option<bool> {
        match self.mapping {
            Mapping::Direct => Some(false),
            Mapping::Translated => Some(true),
            Mapping::DirectOrTce | Mapping::Unknown => None,
        }
    }

    /// The possible mappings of a BAR. `bounce` is [`Host::bounce`], which is the same for all pairs.
    pub(super) fn map(&self, host: &Host, bounce: Option<Bounce>, bar: MappedBar<'_>, ranges: usize) -> PossiblePaths {
        match self.mapping {
            Mapping::Direct => self.map_directly(host, bounce, bar),
            Mapping::Translated => self.map_translated(host, bar, ranges),
            Mapping::DirectOrTce => PossiblePaths { bypass: true, translated: true, ..PossiblePaths::default() },
            Mapping::Unknown => self.map_directly(host, bounce, bar).or(self.map_translated(host, bar, ranges)),
        }
    }

    fn map_directly(&self, host: &Host, bounce: Option<Bounce>, bar: MappedBar<'_>) -> PossiblePaths {
        if legacy(host).is_some_and(LegacyDma::rejects_mmio) {
            return PossiblePaths::refused(Cause::LegacyDmaOps);
        }
        let reach = self.reach(host, bar);
        let bypass = PossiblePaths { bypass: true, ..PossiblePaths::default() };
        let mapped = match reach {
            Reach::Reached => bypass,
            Reach::BeyondMask | Reach::BeyondInbound => PossiblePaths::refused(Cause::DmaMask),
            Reach::Unknown => PossiblePaths::refused(Cause::DmaMask).or(bypass),
        };
        match bounce {
            Some(Bounce::No) => mapped,
            Some(Bounce::Forced) => PossiblePaths::refused(Cause::SwiotlbForced),
            Some(Bounce::Encryption) => PossiblePaths::refused(Cause::ConfidentialGuest),
            // The kernel refuses in any case, and the mask is the cause that is known.
            None if mapped.is_refused() => mapped,
            None => PossiblePaths::refused(Cause::SwiotlbForced).or(mapped),
        }
    }

    /// Whether the address of an untranslated mapping is below the DMA mask and in the inbound ranges (`dma_direct_map_phys` and
    /// `dma_capable`, kernel/dma/direct.c and include/linux/dma-direct.h). A mask that no driver has set counts as 64 bits.
    pub(super) fn reach(&self, host: &Host, bar: MappedBar<'_>) -> Reach {
        let mask = self.mask.unwrap_or(u64::MAX);
        let Some(bar) = bar.bar else {
            let reaches_all = mask == u64::MAX && !self.mask_unread && *self.inbound == Inbound::All;
            return if bar.exists == Some(false) || reaches_all { Reach::Reached } else { Reach::Unknown };
        };
        let below_mask = match bar.last() {
            last if last > mask => Reach::BeyondMask,
            last if self.mask_unread && last > SMALLEST_MASK => Reach::Unknown,
            _ => Reach::Reached,
        };
        let translates = KernelRules::fact(host.kernel, |rules| rules.mmio_translates_inbound);
        let ranges = match self.inbound {
            Inbound::All => return below_mask,
            Inbound::Unknown => {
                let refused = translates == Some(false) && below_mask == Reach::BeyondMask;
                return if refused { below_mask } else { Reach::Unknown };
            }
            Inbound::Ranges(ranges) => ranges,
        };
        let highest = self.inbound.highest();
        let untranslated = match below_mask {
            Reach::Reached if bar.last() > highest => Reach::BeyondInbound,
            other => other,
        };
        let translated = match ranges.iter().find_map(|range| range.dma_address(bar.start)) {
            None => Reach::BeyondInbound,
            Some(start) => match start.checked_add(bar.last() - bar.start) {
                Some(last) if last > mask => Reach::BeyondMask,
                Some(last) if last <= highest => Reach::Reached,
                _ => Reach::BeyondInbound,
            },
        };
        match translates {
            Some(true) => translated,
            Some(false) => untranslated,
            None if translated == untranslated => translated,
            None => Reach::Unknown,
        }
    }

    fn map_translated(&self, host: &Host, bar: MappedBar<'_>, ranges: usize) -> PossiblePaths {
        // The address of the BAR does not matter, because the DMA API allocates an IOVA.
        let limit = self.mask.unwrap_or(u64::MAX).min(self.inbound.highest());
        let fits = |limit| bar.bar.is_none_or(|bar| self.reserved_iova.leave_free(bar.size_bytes, limit));
        if !fits(limit) {
            return PossiblePaths::refused(Cause::DmaMask);
        }
        let mapped = PossiblePaths { translated: true, ..PossiblePaths::default() };
        let mapped = match (ranges > 1).then(|| multi_range_defect(host)) {
            None | Some(Some(false)) => mapped,
            Some(Some(true)) => PossiblePaths::refused(Cause::MultiRangeDefect),
            Some(None) => PossiblePaths::refused(Cause::MultiRangeDefect).or(mapped),
        };
        let may_not_fit = bar.exists.is_none() && limit < u64::MAX;
        if may_not_fit || (self.mask_unread && !fits(SMALLEST_MASK)) {
            return mapped.or(PossiblePaths::refused(Cause::DmaMask));
        }
        mapped
    }
}

fn legacy(host: &Host) -> Option<LegacyDma> {
    host.cpu.as_ref()?.legacy_dma
}

/// The reserved ranges of every IOMMU group. Groups with the same ranges share one copy.
struct GroupRanges {
    of_group: BTreeMap<u32, ReservedRanges>,
    /// The ranges of a function without a known group.
    other: ReservedRanges,
}

impl GroupRanges {
    fn of(host: &Host, topology: &Topology) -> Self {
        let is_x86 = host.cpu.as_ref().is_some_and(Cpu::is_x86);
        let other = reserved_iova(is_x86, None);
        let mut different = BTreeSet::from([other.clone()]);
        let mut shared = |ranges: ReservedRanges| {
            if let Some(known) = different.get(&ranges) {
                return known.clone();
            }
            different.insert(ranges.clone());
            ranges
        };
        let groups = topology.groups().iter();
        Self {
            of_group: groups.map(|(number, group)| (*number, shared(reserved_iova(is_x86, Some(group))))).collect(),
            other,
        }
    }

    fn of_function(&self, function: &Function) -> ReservedRanges {
        let known = match function.membership {
            GroupMembership::Group(number) => self.of_group.get(&number),
            _ => None,
        };
        known.unwrap_or(&self.other).clone()
    }
}

/// The reserved regions of an IOMMU group. On x86 every IOMMU driver reserves the window of MSI addresses, so that window is
/// known even without the file `reserved_regions`. On other architectures the kernel itself places the window
/// (`IOMMU_RESV_SW_MSI`) and reserves no IOVA for it, although the file lists it.
fn reserved_iova(is_x86: bool, group: Option<&IommuGroup>) -> ReservedRanges {
    const MSI_OF_X86: (u64, u64) = (0xfee0_0000, 0xfeef_ffff);
    match group.and_then(|group| group.reserved.as_ref()) {
        Some(regions) => {
            let reserving = regions.iter().filter(|region| is_x86 || region.kind != "msi");
            ReservedRanges::of(reserving.map(|region| (region.first, region.last)))
        }
        None => ReservedRanges::of(is_x86.then_some(MSI_OF_X86).into_iter()),
    }
}

/// The DMA API maps through the IOMMU only if the group's default domain has a DMA type (`iommu_setup_dma_ops`). Otherwise it
/// maps without translation.
fn mapping(host: &Host, topology: &Topology, function: &Function) -> Mapping {
    if legacy(host) == Some(LegacyDma::PowerTce) {
        return Mapping::DirectOrTce;
    }
    match function.membership {
        GroupMembership::None => return Mapping::Direct,
        // The domain type of the group does not apply to the platform's own DMA operations.
        _ if legacy(host).is_some_and(LegacyDma::rejects_mmio) => return Mapping::Direct,
        GroupMembership::Unknown => {
            // Without an IOMMU, nothing translates either.
            return if boot_default(host).is_some_and(|(_, identity)| identity) {
                Mapping::Direct
            } else {
                Mapping::Unknown
            };
        }
        GroupMembership::Group(_) => {}
    }
    let Some(group) = topology.group_of(function) else { return Mapping::Unknown };
    match group.domain_type.as_deref() {
        _ if group.noiommu => Mapping::Direct,
        Some("DMA" | "DMA-FQ") => Mapping::Translated,
        Some("identity" | "unmanaged" | "blocked") => Mapping::Direct,
        Some(_) => Mapping::Unknown,
        None => match boot_default(host) {
            Some((_, true)) => Mapping::Direct,
            Some((_, false)) => Mapping::Translated,
            None => Mapping::Unknown,
        },
    }
}

/// The boot option that decides the domain types of the host, and whether the type is identity; `None` if no option decides it.
/// The generic default of Linux 5.4 and later applies to every function, except that
/// - functions below a port that the firmware marks as external get a translating domain,
/// - the AMD IOMMU driver gives functions with PASID an identity domain (`amd_iommu_def_domain_type`), so that on AMD no option
///   makes all domains translate.
fn boot_default(host: &Host) -> Option<(&'static str, bool)> {
    const FIRST: KernelVersion = KernelVersion { major: 5, minor: 4 };
    let cpu = host.cpu.as_ref();
    let may_be_x86 = cpu.is_none_or(|cpu| cpu.architecture.is_none() || cpu.is_x86());
    let default = host.command_line.as_ref()?.default_domain(may_be_x86)?;
    let may_be_amd = cpu.is_none_or(|cpu| cpu.vendor.as_deref() != Some("GenuineIntel") || cpu.is_guest());
    let decides = host.kernel.is_none_or(|kernel| kernel >= FIRST) && (default.1 || !may_be_amd);
    decides.then_some(default)
}

/// The boot option from which the domain type of a function was derived because the type itself is unknown.
pub(super) fn derived_from(host: &Host, topology: &Topology, function: &Function) -> Option<&'static str> {
    let is_known = match function.membership {
        GroupMembership::None => true,
        GroupMembership::Unknown => false,
        GroupMembership::Group(_) => {
            topology.group_of(function).is_some_and(|group| group.noiommu || group.domain_type.is_some())
        }
    };
    if is_known || legacy(host).is_some() { None } else { boot_default(host).map(|(option, _)| option) }
}

fn mapping_fact(host: &Host, topology: &Topology, importer: &Function) -> String {
    if let (Some(option), Some((_, identity))) = (derived_from(host, topology, importer), boot_default(host)) {
        let kind = if identity { "identity" } else { "DMA" };
        return match importer.membership {
            GroupMembership::Group(number) => {
                format!("the domain type of {} (IOMMU group {number}) is {kind} by {option}", importer.bdf)
            }
            _ => format!("no IOMMU translates for {}, by {option}", importer.bdf),
        };
    }
    match (importer.membership, topology.group_of(importer)) {
        (GroupMembership::None, _) => format!("{} has no IOMMU", importer.bdf),
        (_, Some(group)) if group.noiommu => format!("{} has no IOMMU (vfio-noiommu)", importer.bdf),
        (_, Some(group)) => format!(
            "the domain type of {} (IOMMU group {}) is {}",
            importer.bdf,
            group.number,
            group.domain_type.as_deref().unwrap_or("unknown")
        ),
        _ => format!("the IOMMU group of {} is unknown", importer.bdf),
    }
}

/// Whether the kernel maps every range of a dma-buf at offset 0 ([`KernelRules::multi_range_defect`]); `None` for a version that
/// is unknown, newer than the tables, or older than the export: a vendor that backports the export may have corrected the
/// defect.
pub(crate) fn multi_range_defect(host: &Host) -> Option<bool> {
    if let Some(corrected) = host.multi_range_corrected {
        return Some(!corrected);
    }
    let known = KernelVersion::VFIO_DMA_BUF..=KernelRules::NEWEST;
    host.kernel.filter(|kernel| known.contains(kernel)).map(|kernel| KernelRules::of(kernel).multi_range_defect)
}
