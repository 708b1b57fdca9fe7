//! Explains an errno of the kernel: cause, severity, reason and remedy.
//!
//! The meaning of an errno depends on the step that failed. The table [`rows`] lists the meanings; they come from the kernel's
//! source (drivers/vfio, drivers/dma-buf, drivers/pci/p2pdma.c, drivers/infiniband, drivers/iommu/iommufd, Linux 7.2 and
//! 7.3).

mod errno;
mod listing;
mod program_text;
mod rows;
mod step_names;

use crate::Explanation;
use crate::rdma_drivers::{DmaBufSupport, RdmaDriver};

pub use errno::{errno_name, parse_errno};
pub use listing::{DocumentedErrno, ErrnoMeaning, documented_errnos, errno_meanings};
pub use program_text::errno_in;
pub use step_names::{NamedCall, UnknownStepError, call_in};

/// The step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Binding a function to another driver through sysfs: unbind, `driver_override`, bind.
    BindDriver,
    /// Writing another domain type to `iommu_groups/N/type`.
    SetDomainType,
    /// Opening `/dev/vfio/vfio` or `/dev/iommu`.
    OpenIommu,
    /// Opening `/dev/vfio/GROUP` or `/dev/vfio/devices/vfioN`.
    OpenVfio,
    /// Adding the group to a container, or binding and attaching the device to an iommufd.
    AttachIommu,
    /// Getting the device's file descriptor or querying its regions.
    OpenDevice,
    /// `VFIO_DEVICE_RESET`.
    ResetDevice,
    /// Access to a region of the device: mapping it, or reading and writing through the device's file descriptor.
    RegionAccess,
    /// `VFIO_DEVICE_FEATURE_DMA_BUF`, the export of BAR ranges.
    Export,
    /// Creating a dma-buf of ordinary memory: `/dev/udmabuf`, `/dev/dma_heap`.
    CreateDmaBuf,
    /// Allocating ordinary memory.
    AllocateMemory,
    /// Opening an RDMA device and querying its capabilities.
    OpenRdma,
    /// Registering a dma-buf with an RDMA driver, which attaches and maps it.
    RegisterDmaBuf,
    /// Registering memory by address (`ibv_reg_mr`).
    RegisterMemory,
    /// Registering memory for the firmware of an mlx5 device, by address or as a dma-buf (`mlx5dv_devx_umem_reg`).
    RegisterUmem,
    /// Deregistering a memory region.
    Deregister,
    /// Creating protection domains, completion queues and queue pairs.
    CreateQueues,
    /// Connecting a queue pair (`ibv_modify_qp`).
    ConnectQueues,
    /// Posting work requests.
    PostTransfers,
    /// `IOMMU_IOAS_MAP_FILE` of a dma-buf.
    MapFile,
    /// `IOMMU_IOAS_MAP` of memory of this process.
    MapMemory,
    /// `IOMMU_IOAS_UNMAP`.
    Unmap,
}

impl Step {
    /// The step as a noun phrase, as in "the kernel does not document ENXIO for opening the VFIO device".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BindDriver => "binding the function to another driver",
            Self::SetDomainType => "changing the IOMMU domain type",
            Self::OpenIommu => "opening /dev/vfio/vfio or /dev/iommu",
            Self::OpenVfio => "opening the VFIO group or device node",
            Self::AttachIommu => "attaching the device to its IOMMU",
            Self::OpenDevice => "opening the VFIO device",
            Self::ResetDevice => "resetting the function",
            Self::RegionAccess => "accessing a region of the device",
            Self::Export => "exporting the BAR as a dma-buf",
            Self::CreateDmaBuf => "creating a dma-buf of ordinary memory",
            Self::AllocateMemory => "allocating ordinary memory",
            Self::OpenRdma => "opening the RDMA device",
            Self::RegisterDmaBuf => "registering the dma-buf",
            Self::RegisterMemory => "registering the memory",
            Self::RegisterUmem => "registering a devx umem",
            Self::Deregister => "deregistering a memory region",
            Self::CreateQueues => "creating queues of the RDMA device",
            Self::ConnectQueues => "connecting a queue pair",
            Self::PostTransfers => "posting work requests",
            Self::MapFile => "mapping the dma-buf into an IOAS",
            Self::MapMemory => "mapping memory into an IOAS",
            Self::Unmap => "unmapping memory from an IOAS",
        }
    }
}

impl Step {
    /// Whether the step exports or allocates another kind of memory than `source`, so that it does not occur for this kind.
    fn is_foreign_to(self, source: Option<MemoryKind>) -> bool {
        let of_vfio = matches!(
            self,
            Self::BindDriver
                | Self::OpenIommu
                | Self::OpenVfio
                | Self::AttachIommu
                | Self::OpenDevice
                | Self::ResetDevice
                | Self::RegionAccess
        );
        let of_the_host = matches!(self, Self::CreateDmaBuf | Self::AllocateMemory);
        match source {
            None => false,
            Some(MemoryKind::VfioBar) => of_the_host,
            Some(MemoryKind::Gpu) => of_vfio || of_the_host,
            Some(MemoryKind::Host) => of_vfio || self == Self::Export,
        }
    }
}

/// Result of the P2PDMA check for a pair of functions (`pci_p2pdma_map_type`, drivers/pci/p2pdma.c), predicted or observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// Peer-to-peer below a common bridge, with bus addresses.
    BusAddress,
    /// Through a trusted host bridge.
    HostBridge,
    /// No permitted route.
    NotSupported,
}

/// The kind of memory that an importer maps. Drivers check different conditions for each kind, so the same errno has different
/// causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryKind {
    /// A BAR that VFIO exports. The P2PDMA check decides whether the importer may map it.
    VfioBar,
    /// Memory of a GPU that the GPU's own driver exports.
    Gpu,
    /// Ordinary memory of the host, with or without a dma-buf.
    Host,
}

/// Facts about exporter and importer. They distinguish between causes that share an errno. `None` means unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Kind of the memory that the importer maps.
    pub source: Option<MemoryKind>,
    /// Number of ranges of the dma-buf.
    pub ranges: Option<usize>,
    /// Driver of the importer: the RDMA name (`rxe`, `mlx5`) or the name of the PCI driver (`mlx5_core`).
    pub driver: Option<String>,
    /// Whether the importer's IOMMU domain translates.
    pub translated: Option<bool>,
    /// Whether the kernel command line contains `swiotlb=force`.
    pub swiotlb_forced: Option<bool>,
    /// Whether the importer's DMA mask covers the whole BAR.
    pub mask_reaches_bar: Option<bool>,
    /// Whether memory decoding of the exporter is on.
    pub memory_decode: Option<bool>,
    /// Whether the host is an SEV, TDX or CCA guest.
    pub confidential_guest: Option<bool>,
    /// Whether the exporter is in a no-IOMMU group of VFIO.
    pub noiommu: Option<bool>,
    /// Result of the P2PDMA check for exporter and importer.
    pub route: Option<Route>,
}

impl Facts {
    /// Whether VFIO possibly exports the memory. The conditions of VFIO and of the P2PDMA check apply only then.
    fn possibly_vfio(&self) -> bool {
        matches!(self.source, None | Some(MemoryKind::VfioBar))
    }

    fn is_gpu(&self) -> bool {
        self.source == Some(MemoryKind::Gpu)
    }

    fn support(&self) -> Option<DmaBufSupport> {
        RdmaDriver::named(self.driver.as_deref()?).map(|driver| driver.support)
    }
}

/// Explains why the kernel returned `errno` at `step`. The `severity` of the explanation is always set.
///
/// ```
/// use peerpath_paths::{Cause, Facts, Route, Severity, Step, explain};
///
/// let facts = Facts { route: Some(Route::NotSupported), ..Facts::default() };
/// let explanation = explain(Step::RegisterDmaBuf, 22, &facts); // EINVAL
/// assert_eq!(explanation.cause, Some(Cause::Topology));
/// assert_eq!(explanation.severity, Some(Severity::Unavailable));
/// ```
pub fn explain(step: Step, errno: i32, facts: &Facts) -> Explanation {
    documented(step, errno, facts).unwrap_or_else(|| undocumented(step, errno, facts))
}

/// The explanation of an errno whose meaning at this step is documented ([`rows::ROWS`]).
fn documented(step: Step, errno: i32, facts: &Facts) -> Option<Explanation> {
    let row = rows::ROWS.iter().find(|row| row.step == step && row.errno == errno && (row.when)(facts))?;
    Some(row.explanation())
}

/// Explains an errno without a documented meaning at this step. Missing permissions and exhausted limits have the same meaning at
/// every step; any other errno is reported without interpretation.
fn undocumented(step: Step, errno: i32, facts: &Facts) -> Explanation {
    if let Some(row) = rows::EVERYWHERE.iter().find(|row| row.errno == errno) {
        return Explanation { severity: Some(row.severity(step)), ..row.explanation() };
    }
    let severity = Some(rows::if_undocumented(step));
    if step == Step::Export && facts.is_gpu() {
        return Explanation {
            cause: None,
            severity,
            why: format!("{} {}", rows::GPU_EXPORT, rows::GPU_EXPORT_CONDITIONS),
            remedy: rows::CHECK_GPU_EXPORT.into(),
        };
    }
    Explanation {
        cause: None,
        severity,
        why: format!("The kernel does not document {} for {}.", errno::described(errno), step.as_str()),
        remedy: "Check the kernel log (dmesg).".into(),
    }
}

/// The explanation of an errno with the same meaning at every step. It has no severity, which depends on the step.
pub(crate) fn common(errno: i32) -> Option<Explanation> {
    rows::EVERYWHERE.iter().find(|row| row.errno == errno).map(rows::Common::explanation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, Severity};
    use nix::errno::Errno;

    fn cause(step: Step, errno: Errno, facts: &Facts) -> Option<Cause> {
        explain(step, errno as i32, facts).cause
    }

    fn driver(name: &str) -> Facts {
        Facts { driver: Some(name.into()), ..Facts::default() }
    }

    #[test]
    fn the_meaning_of_an_errno_depends_on_the_step() {
        let facts = Facts::default();
        assert_eq!(cause(Step::Export, Errno::EINVAL, &facts), Some(Cause::BarNotExportable));
        assert_eq!(cause(Step::Export, Errno::EOPNOTSUPP, &facts), Some(Cause::DriverNotVfio));
        assert_eq!(cause(Step::Export, Errno::ENOTTY, &facts), Some(Cause::KernelTooOld));
        assert_eq!(cause(Step::RegisterDmaBuf, Errno::EADDRINUSE, &facts), Some(Cause::MultiRangeDefect));
        assert_eq!(cause(Step::MapFile, Errno::ENODEV, &facts), Some(Cause::Revoked));
        assert_eq!(cause(Step::AttachIommu, Errno::EBUSY, &facts), Some(Cause::GroupNotViable));
        assert_eq!(cause(Step::OpenVfio, Errno::EBUSY, &facts), Some(Cause::InUse));
    }

    #[test]
    fn the_meaning_of_eopnotsupp_depends_on_the_driver() {
        for (name, expected) in [
            ("rxe", Cause::ImporterNoDmabuf),
            ("mlx4_core", Cause::ImporterNoDmabuf),
            ("bnxt_en", Cause::ImporterNotRevocable),
            ("efa", Cause::ImporterNotRevocable),
            ("mlx5_core", Cause::ImporterNotRevocable),
            ("unknown-driver", Cause::ImporterNotP2p),
        ] {
            assert_eq!(cause(Step::RegisterDmaBuf, Errno::EOPNOTSUPP, &driver(name)), Some(expected), "{name}");
        }
    }

    #[test]
    fn einval_at_registration_means_topology_only_if_p2pdma_refuses() {
        let refused = |route| cause(Step::RegisterDmaBuf, Errno::EINVAL, &Facts { route, ..Facts::default() });
        assert_eq!(refused(Some(Route::NotSupported)), Some(Cause::Topology));
        assert_eq!(refused(Some(Route::BusAddress)), None);
        assert_eq!(refused(Some(Route::HostBridge)), None);
        assert_eq!(refused(None), None);
        let permitted = Facts { route: Some(Route::HostBridge), ..Facts::default() };
        let why = explain(Step::RegisterDmaBuf, Errno::EINVAL as i32, &permitted).why;
        assert!(why.contains("revoked"), "{why}");
    }

    #[test]
    fn the_meaning_of_enomem_depends_on_the_facts() {
        let direct = |facts: Facts| Facts { translated: Some(false), ..facts };
        for (facts, expected) in [
            (direct(Facts { swiotlb_forced: Some(true), ..Facts::default() }), Some(Cause::SwiotlbForced)),
            (direct(Facts { confidential_guest: Some(true), ..Facts::default() }), Some(Cause::ConfidentialGuest)),
            (direct(Facts { mask_reaches_bar: Some(false), ..Facts::default() }), Some(Cause::DmaMask)),
            // swiotlb, confidential guests and the DMA mask do not affect a translated domain.
            (Facts { translated: Some(true), swiotlb_forced: Some(true), ..Facts::default() }, None),
            (Facts::default(), None),
        ] {
            assert_eq!(cause(Step::RegisterDmaBuf, Errno::ENOMEM, &facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn conditions_of_vfio_do_not_explain_memory_of_a_gpu() {
        let gpu = |facts: Facts| Facts { source: Some(MemoryKind::Gpu), ..facts };
        let other = [
            gpu(Facts { memory_decode: Some(false), ranges: Some(2), ..driver("mlx5_core") }),
            gpu(driver("bnxt_en")),
            gpu(driver("unknown-driver")),
            Facts { source: Some(MemoryKind::Host), ..driver("mlx5_core") },
        ];
        for facts in &other {
            for errno in [Errno::EOPNOTSUPP, Errno::EINVAL, Errno::ENODEV, Errno::EADDRINUSE] {
                let explanation = explain(Step::RegisterDmaBuf, errno as i32, facts);
                let of_vfio = [Cause::Topology, Cause::ImporterNotRevocable, Cause::MultiRangeDefect];
                assert!(explanation.cause.is_none_or(|cause| !of_vfio.contains(&cause)), "{explanation:?}");
                let text = explanation.why + &explanation.remedy;
                assert!(facts.source != Some(MemoryKind::Gpu) || !text.contains("VFIO"), "{text}");
            }
            assert_eq!(cause(Step::MapFile, Errno::EOPNOTSUPP, facts), Some(Cause::ForeignDmaBuf));
        }
    }

    #[test]
    fn vfio_has_no_part_in_the_export_of_memory_of_a_gpu() {
        let facts = Facts { source: Some(MemoryKind::Gpu), ..Facts::default() };
        for errno in (1..=133).filter(|errno| errno_name(*errno).is_some()) {
            let explanation = explain(Step::Export, errno, &facts);
            let text = explanation.why + &explanation.remedy;
            assert!(!text.contains("vfio-pci") && !text.contains("VFIO_PCI_DMABUF"), "{errno}: {text}");
            for meaning in errno_meanings(errno, &facts) {
                let text = meaning.explanation.remedy;
                assert!(!text.contains("Bind the function to vfio-pci"), "{errno} at {:?}: {text}", meaning.step);
            }
        }
        let einval = explain(Step::Export, Errno::EINVAL as i32, &facts);
        assert!(einval.why.contains("cuMemGetHandleForAddressRange"), "{einval:?}");
    }

    #[test]
    fn names_an_undocumented_errno_without_a_cause() {
        let answer = explain(Step::Export, Errno::EXDEV as i32, &Facts::default());
        assert_eq!(answer.cause, None);
        assert!(answer.why.contains("EXDEV") && answer.why.contains("does not document"));
        assert!(!explain(Step::Export, -7, &Facts::default()).why.is_empty());
        let kernel = explain(Step::Export, 517, &Facts::default());
        assert!(kernel.why.contains("EPROBE_DEFER"), "{}", kernel.why);
    }

    #[test]
    fn every_row_is_reachable_and_ends_its_sentences() {
        for (index, row) in rows::ROWS.iter().enumerate() {
            assert!(row.why.ends_with('.') && row.remedy.ends_with('.'), "{row:?}");
            let always = |row: &rows::Row| (row.when)(&Facts::default());
            let hidden = rows::ROWS[..index]
                .iter()
                .any(|earlier| earlier.step == row.step && earlier.errno == row.errno && always(earlier));
            assert!(!hidden, "an unconditional row precedes {row:?}");
        }
    }

    /// Severity of each cause in earlier versions. The severities in [`rows::ROWS`] must be the same.
    fn former(step: Step, cause: Option<Cause>) -> Severity {
        let unavailable = match step {
            Step::BindDriver
            | Step::OpenIommu
            | Step::OpenVfio
            | Step::AttachIommu
            | Step::RegionAccess
            | Step::CreateDmaBuf
            | Step::AllocateMemory
            | Step::OpenRdma => true,
            Step::SetDomainType | Step::OpenDevice | Step::ResetDevice | Step::Export => {
                !matches!(cause, None | Some(Cause::Revoked | Cause::TimedOut | Cause::TransferFailed))
            }
            Step::RegisterDmaBuf => matches!(
                cause,
                Some(
                    Cause::Topology
                        | Cause::SwiotlbForced
                        | Cause::DmaMask
                        | Cause::ImporterNotP2p
                        | Cause::ImporterNotRevocable
                        | Cause::ImporterNoDmabuf
                        | Cause::MultiRangeDefect
                        | Cause::LegacyDmaOps
                        | Cause::ConfidentialGuest
                        | Cause::KernelTooOld
                        | Cause::MechanismRefused
                        | Cause::NoPermission
                )
            ),
            Step::CreateQueues => cause == Some(Cause::LimitReached),
            Step::MapFile => matches!(
                cause,
                Some(Cause::OneRangeOnly | Cause::ForeignDmaBuf | Cause::KernelTooOld | Cause::NoPermission)
            ),
            Step::RegisterMemory
            | Step::RegisterUmem
            | Step::Deregister
            | Step::ConnectQueues
            | Step::PostTransfers
            | Step::MapMemory
            | Step::Unmap => false,
        };
        if unavailable { Severity::Unavailable } else { Severity::Failed }
    }

    const STEPS: [Step; 22] = [
        Step::BindDriver,
        Step::SetDomainType,
        Step::OpenIommu,
        Step::OpenVfio,
        Step::AttachIommu,
        Step::OpenDevice,
        Step::ResetDevice,
        Step::RegionAccess,
        Step::Export,
        Step::CreateDmaBuf,
        Step::AllocateMemory,
        Step::OpenRdma,
        Step::RegisterDmaBuf,
        Step::RegisterMemory,
        Step::RegisterUmem,
        Step::Deregister,
        Step::CreateQueues,
        Step::ConnectQueues,
        Step::PostTransfers,
        Step::MapFile,
        Step::MapMemory,
        Step::Unmap,
    ];

    #[test]
    fn severities_agree_with_the_former_decision_by_cause() {
        for row in rows::ROWS {
            assert_eq!(row.severity, former(row.step, row.cause), "{row:?}");
        }
        for step in STEPS {
            let everywhere = rows::EVERYWHERE.iter().map(|row| row.errno);
            for errno in everywhere.chain([Errno::EXDEV as i32]) {
                let explanation = explain(step, errno, &Facts::default());
                assert_eq!(explanation.severity, Some(former(step, explanation.cause)), "{step:?} {errno:?}");
            }
        }
    }
}
