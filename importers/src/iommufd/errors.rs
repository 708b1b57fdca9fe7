//! What can go wrong with a function that imports through iommufd, one variant for each thing that is done.

use std::io;

use peerpath_paths::{Bdf, Cause, Explained, Explanation, Facts, Severity, Step, explain};

use super::address::{AddressProblem, Blocks};
use super::nvme::Failure;

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{text:?} is no function to import with")]
    Address { text: String, source: AddressProblem },
    #[error("{bdf} cannot import")]
    Open { bdf: Bdf, source: peerpath_exporter::Error },
    #[error("{bdf} is no NVMe drive, so it has no blocks to write")]
    NothingToWrite { bdf: Bdf },
    #[error("blocks {blocks} are not all on the drive {bdf}")]
    BeyondDrive { bdf: Bdf, blocks: Blocks, capacity: u64 },
    #[error("{bdf} cannot move data into its own memory")]
    Itself { bdf: Bdf },
    #[error("a dma-buf of {length_bytes} bytes was not mapped for {bdf}")]
    MapDmaBuf { bdf: Bdf, length_bytes: u64, ranges: usize, source: io::Error },
    #[error("a buffer without ranges was to be mapped for {bdf}")]
    NoRange { bdf: Bdf },
    #[error("there is no dma-buf to map: {source}")]
    Withheld { source: peerpath_cuda::Error },
    #[error("{length_bytes} bytes of memory were not mapped for {bdf}")]
    MapMemory { bdf: Bdf, length_bytes: u64, source: io::Error },
    #[error("a mapping of {bdf} was not taken back")]
    Unmap { bdf: Bdf, source: io::Error },
    #[error("{bdf} moves no data by itself")]
    NoEngine { bdf: Bdf },
    #[error("the drive {bdf} failed")]
    Drive { bdf: Bdf, source: Failure },
    #[error("{bdf} is a drive, which has one queue for a thread, and posts nothing by itself")]
    OneQueue { bdf: Bdf },
    #[error("the drive {bdf} cannot hold {depth} transfers at once")]
    Depth { bdf: Bdf, depth: u32, limit: u32 },
    #[error("{bytes} bytes do not fit into the {room} bytes of the drive {bdf} that may be used")]
    FarTooLong { bdf: Bdf, bytes: u64, room: u64 },
    #[error("the content of {bdf} may not be overwritten")]
    ReadOnly { bdf: Bdf },
    #[error("a transfer cannot be done: {why}")]
    Transfer { why: String },
    #[error("a drive with blocks of {block_bytes} bytes does not move {length_bytes} bytes at {far_offset:#x}")]
    NotInBlocks { block_bytes: u64, length_bytes: u32, far_offset: u64 },
}

fn explained(step: Step, source: &io::Error, facts: &Facts) -> Explanation {
    explain(step, source.raw_os_error().unwrap_or(0), facts)
}

impl Explained for Error {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Address { source, .. } => {
                let why = source.to_string();
                Explanation::uncaused(
                    format!("An address is BDF[?write=LBA+COUNT], and {why}."),
                    "Name a function, for example iommufd:0000:03:00.0; `peerpath list` shows them.",
                )
            }
            Self::Open { source, .. } => source.explanation(),
            Self::NothingToWrite { .. } | Self::NoEngine { .. } => Explanation::new(
                Cause::NoDevice,
                "Buffers can be mapped for any function of VFIO, but only NVMe drives are told to move data.",
                "Name an NVMe function, or measure `map` and `unmap` alone.",
            ),
            Self::BeyondDrive { capacity, .. } => Explanation::uncaused(
                format!("It has {capacity} blocks."),
                "Name blocks that may be lost and that are there; `nvme id-ns` and `lsblk` show them under the kernel's driver.",
            ),
            Self::Itself { .. } => Explanation::uncaused(
                "Exporter and importer are the same function, whose memory is its registers.",
                "Name another exporter or another importer.",
            ),
            Self::MapDmaBuf { ranges, source, .. } => {
                explained(Step::MapFile, source, &Facts { ranges: Some(*ranges), ..Facts::default() })
            }
            Self::Withheld { source } => source.explanation(),
            Self::NoRange { .. } => Explanation::uncaused("There is nothing to map.", "Export at least one range."),
            Self::MapMemory { source, .. } => explained(Step::MapMemory, source, &Facts::default()),
            Self::Unmap { source, .. } => explained(Step::Unmap, source, &Facts::default()),
            Self::Drive { source, .. } => source.explanation(),
            Self::OneQueue { .. } => Explanation::uncaused(
                "Several queues on one thread, both directions at once and ping-pong are what queue pairs do.",
                "Use --threads for several queues of a drive.",
            ),
            Self::Depth { limit, .. } => Explanation::new(
                Cause::LimitReached,
                format!("Its queues take {limit} commands."),
                format!("Use a depth from 1 to {limit}, and smaller sizes where one operation is several commands."),
            ),
            Self::FarTooLong { .. } => Explanation::uncaused(
                "Every transfer under way has blocks of its own, with a guard on both sides of them all.",
                "Use a smaller size or depth, or a larger range.",
            ),
            Self::ReadOnly { .. } => Explanation::new(
                Cause::NoPermission,
                "Its content is precious, and nobody said which part of it may be overwritten.",
                "Name it with --allow-write LBA+COUNT; what stands there is lost.",
            ),
            Self::Transfer { .. } => {
                Explanation::uncaused("It does not fit the buffer or the drive.", "Use sizes and offsets within both.")
            }
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
            Self::Withheld { source } => source.severity(),
            Self::Drive { source, .. } => source.severity(),
            Self::MapDmaBuf { .. } | Self::MapMemory { .. } | Self::Unmap { .. } => {
                self.explanation().severity.unwrap_or(Severity::Failed)
            }
            Self::NoRange { .. } | Self::Transfer { .. } => Severity::Internal,
        }
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
    fn each_errno_of_a_mapping_has_a_cause() {
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
