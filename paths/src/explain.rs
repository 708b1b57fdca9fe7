//! The one place where a refused step of the kernel becomes a cause and a remedy.
//!
//! The meaning of each errno comes from reading the kernel (drivers/vfio, drivers/dma-buf, drivers/pci/p2pdma.c,
//! drivers/infiniband, drivers/iommu/iommufd); the same errno means another thing at another step, so the step is part
//! of the question. The meanings themselves are a table: [`rows`].

mod rows;

use nix::errno::Errno;

use crate::Explanation;
use crate::rdma_drivers::{DmaBufSupport, RdmaDriver};

/// What was being done when the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Giving a function to another driver through sysfs: unbind, `driver_override`, bind.
    BindDriver,
    /// Writing another domain type to `iommu_groups/N/type`.
    SetDomainType,
    /// Opening `/dev/vfio/vfio` or `/dev/iommu`.
    OpenIommu,
    /// Opening `/dev/vfio/GROUP` or `/dev/vfio/devices/vfioN`.
    OpenVfio,
    /// Putting the group into a container, or binding and attaching the device to an iommufd.
    AttachIommu,
    /// Getting the device's fd or asking it for its regions.
    OpenDevice,
    /// `VFIO_DEVICE_RESET`.
    ResetDevice,
    /// Access to a region of the device: mapping it, or reading and writing through the device's fd.
    RegionAccess,
    /// `VFIO_DEVICE_FEATURE_DMA_BUF`, the export of BAR ranges.
    Export,
    /// Making a dma-buf of ordinary memory: `/dev/udmabuf`, `/dev/dma_heap`.
    CreateDmaBuf,
    /// Getting ordinary memory.
    AllocateMemory,
    /// Opening an RDMA device and asking it what it can do.
    OpenRdma,
    /// Registration of a dma-buf by an RDMA driver: attach and map happen inside.
    RegisterDmaBuf,
    /// Registration of ordinary memory by address (`ibv_reg_mr`).
    RegisterMemory,
    /// Taking a registration back.
    Deregister,
    /// Making protection domains, completion queues and queue pairs.
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
    /// The step in a few words, as it stands in "the kernel refused ...".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BindDriver => "giving the function to another driver",
            Self::SetDomainType => "changing the IOMMU domain type",
            Self::OpenIommu => "opening /dev/vfio/vfio or /dev/iommu",
            Self::OpenVfio => "opening the VFIO group or device node",
            Self::AttachIommu => "attaching the device to its IOMMU",
            Self::OpenDevice => "opening the VFIO device",
            Self::ResetDevice => "resetting the function",
            Self::RegionAccess => "accessing a region of the device",
            Self::Export => "exporting the BAR as a dma-buf",
            Self::CreateDmaBuf => "making a dma-buf of ordinary memory",
            Self::AllocateMemory => "getting ordinary memory",
            Self::OpenRdma => "opening the RDMA device",
            Self::RegisterDmaBuf => "registering the dma-buf",
            Self::RegisterMemory => "registering the memory",
            Self::Deregister => "taking a registration back",
            Self::CreateQueues => "making queues of the RDMA device",
            Self::ConnectQueues => "connecting a queue pair",
            Self::PostTransfers => "posting transfers",
            Self::MapFile => "mapping the dma-buf into an IOAS",
            Self::MapMemory => "mapping memory into an IOAS",
            Self::Unmap => "taking a mapping out of an IOAS",
        }
    }
}

/// What is known about the pair at that moment; it decides between causes that share an errno. `None` is "not known".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// How many ranges the dma-buf has.
    pub ranges: Option<usize>,
    /// The importer's driver: its RDMA name (`rxe`, `mlx5`) or that of its PCI driver (`mlx5_core`).
    pub driver: Option<String>,
    /// The importer's IOMMU domain translates.
    pub translated: Option<bool>,
    /// `swiotlb=force` stands on the kernel command line.
    pub swiotlb_forced: Option<bool>,
    /// The importer's DMA mask reaches the whole BAR.
    pub mask_reaches_bar: Option<bool>,
    /// The exporter's memory decoding is on.
    pub memory_decode: Option<bool>,
    /// This is an SEV, TDX or CCA guest.
    pub confidential_guest: Option<bool>,
    /// VFIO runs the function without an IOMMU.
    pub noiommu: Option<bool>,
}

impl Facts {
    fn support(&self) -> Option<DmaBufSupport> {
        RdmaDriver::named(self.driver.as_deref()?).map(|driver| driver.support)
    }
}

/// Why the kernel answered `errno` at `step`, and what to do.
pub fn explain(step: Step, errno: i32, facts: &Facts) -> Explanation {
    let errno = Errno::from_raw(errno);
    match rows::ROWS.iter().find(|row| row.step == step && row.errno == errno && (row.when)(facts)) {
        Some(row) => Explanation { cause: row.cause, why: row.why.into(), remedy: row.remedy.into() },
        None => undocumented(step, errno),
    }
}

/// Permission and exhaustion mean the same everywhere; anything else is named and not interpreted.
fn undocumented(step: Step, errno: Errno) -> Explanation {
    if let Some(row) = rows::EVERYWHERE.iter().find(|row| row.errno == errno) {
        return Explanation { cause: row.cause, why: row.why.into(), remedy: row.remedy.into() };
    }
    Explanation::uncaused(
        format!("{errno:?} ({}): not one that the kernel documents for {}", errno.desc(), step.as_str()),
        "Look at the kernel log (dmesg) of that moment.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cause;

    fn cause(step: Step, errno: Errno, facts: &Facts) -> Option<Cause> {
        explain(step, errno as i32, facts).cause
    }

    fn driver(name: &str) -> Facts {
        Facts { driver: Some(name.into()), ..Facts::default() }
    }

    #[test]
    fn the_same_errno_means_another_thing_at_another_step() {
        let facts = Facts::default();
        assert_eq!(cause(Step::Export, Errno::EINVAL, &facts), Some(Cause::BarNotExportable));
        assert_eq!(cause(Step::RegisterDmaBuf, Errno::EINVAL, &facts), Some(Cause::Topology));
        assert_eq!(cause(Step::Export, Errno::EOPNOTSUPP, &facts), Some(Cause::DriverNotVfio));
        assert_eq!(cause(Step::Export, Errno::ENOTTY, &facts), Some(Cause::KernelTooOld));
        assert_eq!(cause(Step::RegisterDmaBuf, Errno::EADDRINUSE, &facts), Some(Cause::MultiRangeDefect));
        assert_eq!(cause(Step::MapFile, Errno::ENODEV, &facts), Some(Cause::Revoked));
        assert_eq!(cause(Step::AttachIommu, Errno::EBUSY, &facts), Some(Cause::GroupNotViable));
        assert_eq!(cause(Step::OpenVfio, Errno::EBUSY, &facts), Some(Cause::InUse));
    }

    #[test]
    fn the_driver_decides_what_eopnotsupp_means() {
        for (name, expected) in [
            ("rxe", Cause::ImporterNoDmabuf),
            ("mlx4_core", Cause::ImporterNoDmabuf),
            ("bnxt_en", Cause::ImporterNotRevocable),
            ("efa", Cause::ImporterNotRevocable),
            ("mlx5_core", Cause::ImporterNotRevocable),
            ("never-read", Cause::ImporterNotP2p),
        ] {
            assert_eq!(cause(Step::RegisterDmaBuf, Errno::EOPNOTSUPP, &driver(name)), Some(expected), "{name}");
        }
    }

    #[test]
    fn what_is_known_decides_what_enomem_means() {
        let direct = |facts: Facts| Facts { translated: Some(false), ..facts };
        for (facts, expected) in [
            (direct(Facts { swiotlb_forced: Some(true), ..Facts::default() }), Some(Cause::SwiotlbForced)),
            (direct(Facts { confidential_guest: Some(true), ..Facts::default() }), Some(Cause::ConfidentialGuest)),
            (direct(Facts { mask_reaches_bar: Some(false), ..Facts::default() }), Some(Cause::DmaMask)),
            // A translated domain ignores all three, so none of them may be blamed.
            (Facts { translated: Some(true), swiotlb_forced: Some(true), ..Facts::default() }, None),
            (Facts::default(), None),
        ] {
            assert_eq!(cause(Step::RegisterDmaBuf, Errno::ENOMEM, &facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn an_errno_that_was_never_read_is_named_and_not_interpreted() {
        let answer = explain(Step::Export, Errno::EXDEV as i32, &Facts::default());
        assert_eq!(answer.cause, None);
        assert!(answer.why.contains("EXDEV") && answer.why.contains("not one that the kernel documents"));
        assert!(!explain(Step::Export, -7, &Facts::default()).why.is_empty());
    }

    #[test]
    fn every_row_can_be_reached_and_reads_as_two_sentences() {
        for (index, row) in rows::ROWS.iter().enumerate() {
            assert!(row.why.ends_with('.') && row.remedy.ends_with('.'), "{row:?}");
            let always = |row: &rows::Row| (row.when)(&Facts::default());
            let hidden = rows::ROWS[..index]
                .iter()
                .any(|earlier| earlier.step == row.step && earlier.errno == row.errno && always(earlier));
            assert!(!hidden, "an unconditional row stands before {row:?}");
        }
    }
}
