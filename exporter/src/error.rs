//! What can go wrong: one variant for each operation that can fail, with the object it failed on.

mod explained;

use std::io;
use std::path::PathBuf;

use peerpath_paths::{BarIndex, Bdf, GroupError, IommuGroupId};

use crate::range::RangeProblem;
use crate::vfio::NotExportable;
use crate::{BarRange, VfioInterface};

/// An exporter's failure. The message says what failed; [`peerpath_paths::Explained`] says why and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // What the user wrote.
    /// The text is not a source.
    #[error("cannot parse {text:?} as a source: {why}")]
    BadSource {
        /// The text, shortened.
        text: String,
        /// The reason.
        why: String,
    },
    /// The text is not a range.
    #[error("cannot parse {text:?} as a range, e.g. 0x4000+0x2000")]
    BadRangeText {
        /// The text, shortened.
        text: String,
    },
    /// The text is not a VFIO interface.
    #[error("invalid VFIO interface {text:?}: not one of auto, group and cdev")]
    BadVfioInterface {
        /// The text, shortened.
        text: String,
    },
    /// The BAR cannot be exported.
    #[error("cannot export BAR {bar} of {bdf}: {problem}")]
    BadBar {
        /// The function.
        bdf: Bdf,
        /// The BAR's index.
        bar: BarIndex,
        /// The reason.
        problem: NotExportable,
    },
    /// A range cannot be exported.
    #[error("cannot export the range {range} of BAR {bar} of {bdf}: {problem}")]
    BadRange {
        /// The function.
        bdf: Bdf,
        /// The BAR's index.
        bar: BarIndex,
        /// The range.
        range: BarRange,
        /// The reason.
        problem: RangeProblem,
    },
    /// The source does not have this length, or cannot export it.
    #[error("cannot export {length_bytes} bytes of {source_name}: {why}")]
    BadLength {
        /// The source as the user writes it.
        source_name: String,
        /// The length asked for.
        length_bytes: u64,
        /// The reason.
        why: String,
    },
    /// The source can be exported only as a whole or from its start.
    #[error("cannot export ranges of {source_name}")]
    NoRanges {
        /// The source.
        source_name: String,
    },
    // The state of the host.
    /// VFIO cannot open the function, whichever driver is bound to it.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// No VFIO driver is bound to the function.
    #[error("cannot open {bdf}: no VFIO driver is bound to it")]
    NotVfioDriver {
        /// The function.
        bdf: Bdf,
        /// The driver that is bound to it, if any.
        driver: Option<String>,
    },
    /// The kernel does not offer this VFIO interface.
    #[error("cannot open {bdf} through the VFIO interface {interface}: {path} does not exist")]
    NoVfioInterface {
        /// The function.
        bdf: Bdf,
        /// The interface.
        interface: VfioInterface,
        /// The missing file.
        path: PathBuf,
    },
    /// This process has the function open through the other VFIO interface.
    #[error("cannot open {bdf}: it is open through the VFIO interface {open}")]
    OtherVfioInterface {
        /// The function.
        bdf: Bdf,
        /// The interface through which it is open.
        open: VfioInterface,
    },
    /// Another program has the function, or its group, open through VFIO.
    #[error("cannot open {bdf}: another program has it open")]
    OpenElsewhere {
        /// The function.
        bdf: Bdf,
        /// The processes that have the group or the device open, as far as this user can see them.
        pids: Vec<u32>,
        /// The kernel's answer: EBUSY.
        #[source]
        source: io::Error,
    },

    // Opening a device.
    /// The container or the iommufd cannot be opened.
    #[error("cannot open {path}")]
    OpenIommu {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The container has another API version or no type 1 IOMMU.
    #[error("cannot use the VFIO container: it offers no type 1 IOMMU")]
    NoType1,
    /// The group or the device cannot be opened.
    #[error("cannot open {path}, the VFIO file of {bdf}")]
    OpenVfio {
        /// The function.
        bdf: Bdf,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The state of the group cannot be read, or the group cannot be attached to an IOMMU.
    #[error("cannot {operation} of IOMMU group {group} of {bdf}")]
    AttachGroup {
        /// The function.
        bdf: Bdf,
        /// Its group.
        group: IommuGroupId,
        /// The step.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The device cannot be bound to an iommufd, or attached to an address space of it.
    #[error("cannot {operation} for {bdf}")]
    AttachIommufd {
        /// The function.
        bdf: Bdf,
        /// The step.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The device cannot be opened through its group, or its description cannot be read.
    #[error("cannot {operation} of {bdf}")]
    OpenDevice {
        /// The function.
        bdf: Bdf,
        /// The step.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },

    // An open device.
    /// A region cannot be read, written or mapped.
    #[error("cannot {operation} of {bdf}")]
    Region {
        /// The function.
        bdf: Bdf,
        /// The step.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The function has no reset.
    #[error("cannot reset {bdf}: it has no reset")]
    NoReset {
        /// The function.
        bdf: Bdf,
    },
    /// The reset failed.
    #[error("cannot reset {bdf}")]
    Reset {
        /// The function.
        bdf: Bdf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel or the driver does not support the export of dma-bufs.
    #[error("cannot export BARs of {bdf} as dma-bufs")]
    ExportUnsupported {
        /// The function.
        bdf: Bdf,
        /// Its driver.
        driver: Option<String>,
        /// The answer to the probe.
        #[source]
        source: io::Error,
    },
    /// The export failed.
    #[error("cannot export BAR {bar} of {bdf}")]
    Export {
        /// The function.
        bdf: Bdf,
        /// Index of the VFIO region: the BAR's own.
        bar: u8,
        /// Its driver.
        driver: Option<String>,
        /// The ranges asked for.
        ranges: Vec<BarRange>,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },

    // Ordinary memory.
    /// More memory than there is.
    #[error("cannot allocate {size_bytes} bytes: {available_bytes} bytes are available")]
    NotEnoughMemory {
        /// What was asked for.
        size_bytes: u64,
        /// What is free.
        available_bytes: u64,
    },
    /// There are not enough huge pages.
    #[error("cannot allocate {size_bytes} bytes of huge pages")]
    HugePages {
        /// What was asked for.
        size_bytes: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Memory cannot be allocated or mapped.
    #[error("cannot {operation} of {size_bytes} bytes")]
    Memory {
        /// The step.
        operation: &'static str,
        /// What was asked for.
        size_bytes: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A device that allocates dma-bufs cannot be opened, or refused.
    #[error("cannot allocate a dma-buf of {size_bytes} bytes from {path}")]
    CreateDmaBuf {
        /// The device file.
        path: PathBuf,
        /// What was asked for.
        size_bytes: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },

    /// The driver of a GPU refused.
    #[error("cannot {what}: {source}")]
    Gpu {
        /// The step.
        what: &'static str,
        /// The answer; part of the message.
        source: peerpath_cuda::Error,
    },

    // The handover.
    /// The path of a socket cannot be used.
    #[error("cannot create the socket {path}: {why}")]
    BadSocketPath {
        /// The path.
        path: PathBuf,
        /// The reason.
        why: &'static str,
    },
    /// Another process serves this socket.
    #[error("cannot create the socket {path}: another process serves it")]
    SocketTaken {
        /// The path.
        path: PathBuf,
    },
    /// Host memory has no fd to pass on.
    #[error("cannot hand {source_name} to another process: it is not a dma-buf")]
    NothingToHandOver {
        /// The source.
        source_name: String,
    },
    /// The socket cannot be created or used.
    #[error("cannot {operation} {path}")]
    Socket {
        /// The path.
        path: PathBuf,
        /// The step.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The other process sent something other than one dma-buf with its description.
    #[error("cannot use what {path} sent: {why}")]
    BadHandover {
        /// The path of the socket.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}
