//! Mappings of the DMA API for an importer, if the route leads through a host bridge.

use super::PossiblePaths;
use crate::{Bar, Bounce, Cause, Function, GroupMembership, Host, KernelVersion, Topology};

/// Kind of mapping that the DMA API creates for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    /// DMA address = physical address: no IOMMU, or a domain that the DMA API does not manage.
    Direct,
    /// The IOMMU translates the DMA address.
    Translated,
    /// The domain type is not readable.
    Unknown,
}

/// Facts about a function as an importer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImporterFacts {
    pub(super) mapping: Mapping,
    /// DMA mask that the bound driver set, as the highest DMA address. `None` if no driver of the device is bound: the mask then
    /// has the kernel's initial value of 32 bits, which does not apply to an import, because the device's driver sets its own
    /// mask.
    pub(super) mask: Option<u64>,
    /// Whether a driver of the device is bound and its DMA mask is not readable. Drivers set masks of at least 32 bits.
    pub(super) mask_unread: bool,
    /// Description of the mapping, as a clause.
    pub(super) mapping_fact: String,
}

impl ImporterFacts {
    pub(super) fn of(host: &Host, topology: &Topology, function: &Function) -> Self {
        let is_device_driver = |driver: &str| !driver.contains("vfio") && driver != "pci-stub";
        let has_driver = function.driver.as_deref().is_some_and(is_device_driver);
        Self {
            mapping: mapping(host, topology, function),
            mask_unread: has_driver && function.dma_mask_bits.is_none(),
            mapping_fact: mapping_fact(topology, function),
            mask: function
                .dma_mask_bits
                .filter(|bits| has_driver && *bits > 0)
                .map(|bits| u64::MAX >> (64 - u32::from(bits))),
        }
    }

    pub(super) fn translated(&self) -> Option<bool> {
        match self.mapping {
            Mapping::Direct => Some(false),
            Mapping::Translated => Some(true),
            Mapping::Unknown => None,
        }
    }

    pub(super) fn map(&self, host: &Host, bar: Option<&Bar>, ranges: usize) -> PossiblePaths {
        match self.mapping {
            Mapping::Direct => self.map_directly(host, bar),
            Mapping::Translated => self.map_translated(host, bar, ranges),
            Mapping::Unknown => self.map_directly(host, bar).or(self.map_translated(host, bar, ranges)),
        }
    }

    fn map_directly(&self, host: &Host, bar: Option<&Bar>) -> PossiblePaths {
        if host.cpu.as_ref().is_some_and(|cpu| cpu.legacy_dma.is_some()) {
            return PossiblePaths::refused(Cause::LegacyDmaOps);
        }
        let mapped = if self.mask.zip(bar).is_some_and(|(mask, bar)| bar.last() > mask) {
            PossiblePaths::refused(Cause::DmaMask)
        } else {
            self.or_beyond_mask(PossiblePaths { bypass: true, ..PossiblePaths::default() }, bar.map(Bar::last))
        };
        match host.bounce() {
            Some(Bounce::No) => mapped,
            Some(Bounce::Forced) => PossiblePaths::refused(Cause::SwiotlbForced),
            Some(Bounce::Encryption) => PossiblePaths::refused(Cause::ConfidentialGuest),
            None => PossiblePaths::refused(Cause::SwiotlbForced).or(mapped),
        }
    }

    /// Adds the refusal because of the DMA mask if the mask is not readable and `value`, an address or a size, may exceed it.
    fn or_beyond_mask(&self, mapped: PossiblePaths, value: Option<u64>) -> PossiblePaths {
        if self.mask_unread && value.is_none_or(|value| value > u64::from(u32::MAX)) {
            return mapped.or(PossiblePaths::refused(Cause::DmaMask));
        }
        mapped
    }

    fn map_translated(&self, host: &Host, bar: Option<&Bar>, ranges: usize) -> PossiblePaths {
        // The DMA API allocates the IOVA below the mask, so only the size of the BAR matters.
        if self.mask.zip(bar).is_some_and(|(mask, bar)| bar.size_bytes > mask) {
            return PossiblePaths::refused(Cause::DmaMask);
        }
        let mapped = PossiblePaths { translated: true, ..PossiblePaths::default() };
        let mapped = self.or_beyond_mask(mapped, bar.map(|bar| bar.size_bytes));
        match (ranges > 1).then(|| multi_range_defect(host)) {
            None | Some(Some(false)) => mapped,
            Some(Some(true)) => PossiblePaths::refused(Cause::MultiRangeDefect),
            Some(None) => PossiblePaths::refused(Cause::MultiRangeDefect).or(mapped),
        }
    }
}

/// The DMA API maps through the IOMMU only if the group's default domain has a DMA type (`iommu_setup_dma_ops`). Otherwise it
/// maps directly.
fn mapping(host: &Host, topology: &Topology, function: &Function) -> Mapping {
    match function.membership {
        GroupMembership::None => return Mapping::Direct,
        // The groups of POWER's TCE tables have no domain type: the platform's DMA operations map directly.
        _ if host.cpu.as_ref().is_some_and(|cpu| cpu.legacy_dma.is_some()) => return Mapping::Direct,
        GroupMembership::Unknown => return Mapping::Unknown,
        GroupMembership::Group(_) => {}
    }
    let Some(group) = topology.group_of(function) else { return Mapping::Unknown };
    match group.domain_type.as_deref() {
        _ if group.noiommu => Mapping::Direct,
        Some("DMA" | "DMA-FQ") => Mapping::Translated,
        Some("identity" | "unmanaged" | "blocked") => Mapping::Direct,
        _ => Mapping::Unknown,
    }
}

fn mapping_fact(topology: &Topology, importer: &Function) -> String {
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

/// Whether the kernel maps every range of a dma-buf at offset 0, as Linux 7.2 and 7.3 do; `None` for other versions, whose
/// behavior this crate does not know.
pub(crate) fn multi_range_defect(host: &Host) -> Option<bool> {
    if let Some(corrected) = host.multi_range_corrected {
        return Some(!corrected);
    }
    let read = [KernelVersion { major: 7, minor: 2 }, KernelVersion { major: 7, minor: 3 }];
    host.kernel.filter(|kernel| read.contains(kernel)).map(|_| true)
}
