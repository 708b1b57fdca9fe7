//! Errors of the iommufd importer, one variant per failed operation.

use std::io;

use peerpath_paths::{Bdf, Cause, Explained, Explanation, Facts, Severity, Step, explain};

use super::address::{AddressError, Blocks, FORM};
use super::nvme::DriveError;

/// Error of the iommufd importer. Each variant names the operation that failed; [`Error::cause`] and the explanation give
/// the reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of a PCI function is malformed.
    #[error("cannot use {target:?} as a target")]
    Address {
        /// Target with this address, truncated for display.
        target: String,
        /// Reason why the text is not an address.
        source: AddressError,
    },
    /// The function cannot be opened.
    #[error("cannot open {bdf} as an importer")]
    Open {
        /// PCI function of the importer.
        bdf: Bdf,
        /// Error of VFIO or iommufd.
        source: peerpath_exporter::Error,
    },
    /// The address names blocks, but the function is not an NVMe drive.
    #[error("cannot write blocks of {bdf}: it is not an NVMe drive")]
    NothingToWrite {
        /// PCI function of the importer.
        bdf: Bdf,
    },
    /// The blocks exceed the drive.
    #[error("blocks {blocks} exceed the capacity of the drive {bdf}")]
    BeyondDrive {
        /// PCI function of the drive.
        bdf: Bdf,
        /// Requested blocks.
        blocks: Blocks,
        /// Capacity of the drive, in blocks.
        capacity: u64,
    },
    /// Importer and exporter are the same function.
    #[error("{bdf} cannot transfer data into its own memory")]
    Itself {
        /// PCI function of the importer.
        bdf: Bdf,
    },
    /// The kernel refused to map a dma-buf.
    #[error("cannot map a dma-buf of {length_bytes} bytes for {bdf}")]
    MapDmaBuf {
        /// PCI function of the importer.
        bdf: Bdf,
        /// Length of the dma-buf, in bytes.
        length_bytes: u64,
        /// Number of ranges in the dma-buf.
        ranges: usize,
        /// Errno of `IOMMU_IOAS_MAP_FILE`.
        source: io::Error,
    },
    /// The buffer has no ranges.
    #[error("cannot map a buffer for {bdf}: the buffer has no ranges")]
    NoRange {
        /// PCI function of the importer.
        bdf: Bdf,
    },
    /// The GPU that owns the memory exports no dma-buf.
    #[error("cannot map GPU memory: it was not exported as a dma-buf: {source}")]
    GpuNotExported {
        /// Error of the CUDA driver's export.
        source: peerpath_cuda::Error,
    },
    /// The kernel refused to map host memory.
    #[error("cannot map {length_bytes} bytes of memory for {bdf}")]
    MapMemory {
        /// PCI function of the importer.
        bdf: Bdf,
        /// Length of the memory, in bytes.
        length_bytes: u64,
        /// Errno of `IOMMU_IOAS_MAP`.
        source: io::Error,
    },
    /// The kernel refused to unmap a buffer.
    #[error("cannot unmap a buffer of {bdf}")]
    Unmap {
        /// PCI function of the importer.
        bdf: Bdf,
        /// Errno of `IOMMU_IOAS_UNMAP`.
        source: io::Error,
    },
    /// The function is not an NVMe drive, so it cannot transfer data.
    #[error("{bdf} cannot transfer data: it is not an NVMe drive")]
    NoEngine {
        /// PCI function of the importer.
        bdf: Bdf,
    },
    /// The drive failed.
    #[error("the drive {bdf} failed")]
    Drive {
        /// PCI function of the drive.
        bdf: Bdf,
        /// Error of the drive, or of the access to it.
        source: DriveError,
    },
    /// The caller requested more than one queue, or transfers that the responder posts
    /// ([`crate::DataPlaneSettings::both_sides`]).
    #[error(
        "the drive {bdf} supports only one queue per data plane, and cannot run transfers in both directions at once"
    )]
    OneQueue {
        /// PCI function of the drive.
        bdf: Bdf,
    },
    /// The depth exceeds the queue of the drive.
    #[error("the drive {bdf} cannot have {depth} transfers in flight")]
    Depth {
        /// PCI function of the drive.
        bdf: Bdf,
        /// Requested depth.
        depth: u32,
        /// Maximum number of commands in flight.
        limit: u32,
    },
    /// Initiator memory (the blocks that the buffer exchanges data with) exceeds the usable blocks.
    #[error("{bytes} bytes exceed the {available_bytes} usable bytes of the drive {bdf}")]
    FarTooLong {
        /// PCI function of the drive.
        bdf: Bdf,
        /// Requested length of initiator memory, in bytes.
        bytes: u64,
        /// Length of the usable blocks, in bytes.
        available_bytes: u64,
        /// Length of a block, in bytes.
        block_bytes: u64,
        /// Whether the target names the blocks that may be overwritten. Reads are restricted to them, too.
        is_restricted: bool,
    },
    /// No blocks of the drive may be overwritten.
    #[error("cannot write to the drive {bdf}: overwriting blocks is not allowed")]
    ReadOnly {
        /// PCI function of the drive.
        bdf: Bdf,
    },
    /// The transfer does not fit the buffer or the drive.
    #[error("cannot post a transfer: {why}")]
    Transfer {
        /// Bound that the transfer exceeds.
        why: String,
    },
    /// The transfer does not consist of whole blocks.
    #[error("cannot transfer {length_bytes} bytes at {far_offset:#x} in blocks of {block_bytes} bytes")]
    NotInBlocks {
        /// Length of a block, in bytes.
        block_bytes: u64,
        /// Length of the transfer, in bytes.
        length_bytes: u32,
        /// Offset on the drive, in bytes.
        far_offset: u64,
    },
}

fn explained(step: Step, source: &io::Error, facts: &Facts) -> Explanation {
    explain(step, source.raw_os_error().unwrap_or(0), facts)
}

impl Explained for Error {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Address { source, .. } => {
                let remedy = match source {
                    AddressError::Blocks => {
                        "Name the blocks that may be overwritten, e.g. iommufd:0000:03:00.0?write=2048+16. Their content is lost."
                    }
                    _ => "Name a function that `lspci -D` lists, e.g. iommufd:0000:03:00.0.",
                };
                Explanation::uncaused(format!("The form is {FORM}: {source}."), remedy)
            }
            Self::Open { source, .. } => source.explanation(),
            Self::NothingToWrite { .. } | Self::NoEngine { .. } => Explanation::new(
                Cause::NoDevice,
                "Any function can map buffers, but only NVMe drives can transfer data.",
                "Use an NVMe drive, or measure only map and unmap.",
            ),
            Self::BeyondDrive { capacity, .. } => Explanation::uncaused(
                format!("The drive has {capacity} blocks."),
                format!("Name blocks whose content may be lost, with LBA + COUNT of at most {capacity}."),
            ),
            Self::Itself { .. } => Explanation::uncaused(
                "Exporter and importer are the same function.",
                "Use another exporter or another importer.",
            ),
            Self::MapDmaBuf { ranges, source, .. } => {
                explained(Step::MapFile, source, &Facts { ranges: Some(*ranges), ..Facts::default() })
            }
            Self::GpuNotExported { source } => source.explanation(),
            Self::NoRange { .. } => {
                Explanation::uncaused("A mapping needs at least one range.", "Export at least one range.")
            }
            Self::MapMemory { source, .. } => explained(Step::MapMemory, source, &Facts::default()),
            Self::Unmap { source, .. } => explained(Step::Unmap, source, &Facts::default()),
            Self::Drive { source, .. } => source.explanation(),
            Self::OneQueue { .. } => Explanation::uncaused(
                "Only RDMA devices support several queue pairs, and bidirectional transfers.",
                "Use one queue, and one direction at a time.",
            ),
            Self::Depth { limit, .. } => Explanation::new(
                Cause::LimitReached,
                format!("A queue of the drive holds up to {limit} commands."),
                format!(
                    "Use a depth from 1 to {limit}; if a transfer consumes several commands, use smaller transfers."
                ),
            ),
            Self::FarTooLong { bytes, block_bytes, is_restricted: true, .. } => Explanation::uncaused(
                "Each transfer in flight has its own blocks, and the target names the blocks. Reads are restricted to them, too.",
                format!(
                    "Name {} blocks whose content is not needed, or use a smaller size or depth.",
                    bytes.div_ceil(*block_bytes)
                ),
            ),
            Self::FarTooLong { .. } => Explanation::uncaused(
                "Each transfer in flight has its own blocks.",
                "Use a smaller size or depth, or a larger drive.",
            ),
            Self::ReadOnly { .. } => Explanation::new(
                Cause::NoPermission,
                "By default the drive is only read.",
                "Allow writes to blocks whose content is not needed: iommufd:BDF?write=LBA+COUNT. Their content is \
                 lost.",
            ),
            Self::Transfer { .. } => Explanation::uncaused(
                "The transfer exceeds the buffer, or the blocks of the drive that may be used.",
                "Use sizes and offsets within the buffer and these blocks.",
            ),
            Self::NotInBlocks { block_bytes, .. } => Explanation::uncaused(
                "A drive reads and writes whole blocks.",
                format!("Use sizes that are multiples of {block_bytes}."),
            ),
        }
    }

    fn severity(&self) -> Severity {
        match self {
            Self::Address { .. }
            | Self::NothingToWrite { .. }
            | Self::BeyondDrive { .. }
            | Self::Itself { .. }
            | Self::Depth { .. }
            | Self::FarTooLong { .. }
            | Self::NotInBlocks { .. } => Severity::BadInput,
            Self::NoEngine { .. } | Self::ReadOnly { .. } | Self::OneQueue { .. } => Severity::Unavailable,
            Self::Open { source, .. } => source.severity(),
            Self::GpuNotExported { source } => source.severity(),
            Self::Drive { source, .. } => source.severity(),
            Self::MapDmaBuf { .. } | Self::MapMemory { .. } | Self::Unmap { .. } => {
                self.explanation().severity.unwrap_or(Severity::Failed)
            }
            Self::NoRange { .. } | Self::Transfer { .. } => Severity::Internal,
        }
    }
}

impl Error {
    /// Returns the cause of the failure. `None` if it is unknown.
    pub fn cause(&self) -> Option<Cause> {
        self.explanation().cause
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        Self::new(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32, ranges: usize) -> Error {
        let source = io::Error::from_raw_os_error(errno);
        Error::MapDmaBuf { bdf: Bdf::new(0, 3, 0, 0).unwrap(), length_bytes: 4096, ranges, source }
    }

    #[test]
    fn a_transfer_that_exceeds_the_named_blocks_states_how_many_it_needs() {
        let error = |is_restricted| {
            let bdf = Bdf::new(0, 3, 0, 0).unwrap();
            Error::FarTooLong { bdf, bytes: 73_728, available_bytes: 32_768, block_bytes: 512, is_restricted }
        };
        let Explanation { why, remedy, .. } = error(true).explanation();
        assert!(
            why.contains("Reads are restricted to them, too") && remedy.contains("Name 144 blocks"),
            "{why} {remedy}"
        );
        assert!(!error(false).explanation().remedy.contains("144"));
    }

    #[test]
    fn explains_each_errno_of_a_mapping() {
        for (errno, ranges, cause, class) in [
            (libc::EOPNOTSUPP, 2, Cause::OneRangeOnly, Severity::Unavailable),
            (libc::EOPNOTSUPP, 1, Cause::ForeignDmaBuf, Severity::Unavailable),
            (libc::ENODEV, 1, Cause::Revoked, Severity::Failed),
            (libc::EINVAL, 1, Cause::BarNotExportable, Severity::Failed),
            (libc::ENOTTY, 1, Cause::KernelTooOld, Severity::Unavailable),
            (libc::ENOSPC, 1, Cause::LimitReached, Severity::Failed),
        ] {
            let error = refused(errno, ranges);
            assert_eq!((error.explanation().cause, error.severity()), (Some(cause), class), "{errno} {ranges}");
        }
    }
}
