//! The crate's error: a variant for each operation that can fail.

mod explained;

use std::io;
use std::path::PathBuf;

use peerpath_paths::{BarIndex, Bdf, GroupError, IommuGroupId};

use crate::range::RangeProblem;
use crate::vfio::NotExportable;
use crate::{BarRange, VfioInterface};

/// Error of an exporter. The message names the operation and its object. [`Error::cause`] returns the cause, and
/// [`peerpath_paths::Explained`] the reason and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Invalid input.
    /// The text does not name a source.
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
    #[error("invalid VFIO interface {text:?}: expected auto, group or cdev")]
    BadVfioInterface {
        /// The text, shortened.
        text: String,
    },
    /// The BAR cannot be exported.
    #[error("cannot export BAR {bar} of {bdf}: {problem}")]
    BadBar {
        /// Address of the function.
        bdf: Bdf,
        /// Index of the BAR.
        bar: BarIndex,
        /// The reason.
        problem: NotExportable,
    },
    /// A range cannot be exported.
    #[error("cannot export the range {range} of BAR {bar} of {bdf}: {problem}")]
    BadRange {
        /// Address of the function.
        bdf: Bdf,
        /// Index of the BAR.
        bar: BarIndex,
        /// The range.
        range: BarRange,
        /// The reason.
        problem: RangeProblem,
    },
    /// The source cannot export this length.
    #[error("cannot export {length_bytes} bytes of {source_name}: {why}")]
    BadLength {
        /// The source, or its kind.
        source_name: String,
        /// The requested length in bytes.
        length_bytes: u64,
        /// The reason.
        why: String,
    },
    /// The source is not a BAR, so it exports only its first bytes.
    #[error("cannot export ranges of {source_name}")]
    NoRanges {
        /// Description of the source.
        source_name: String,
    },
    // State of the host.
    /// VFIO cannot open the function under any driver.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// No VFIO driver is bound to the function.
    #[error("cannot open {bdf}: no VFIO driver is bound to it")]
    NotVfioDriver {
        /// Address of the function.
        bdf: Bdf,
        /// The driver that is bound to it, if any.
        driver: Option<String>,
    },
    /// The kernel does not offer this VFIO interface.
    #[error("cannot open {bdf} through the VFIO interface {interface}: {path} does not exist")]
    NoVfioInterface {
        /// Address of the function.
        bdf: Bdf,
        /// The interface.
        interface: VfioInterface,
        /// The missing device file.
        path: PathBuf,
    },
    /// This process has the function open through the other VFIO interface.
    #[error("cannot open {bdf}: it is open through the VFIO interface {open}")]
    OtherVfioInterface {
        /// Address of the function.
        bdf: Bdf,
        /// The interface through which it is open.
        open: VfioInterface,
    },
    /// Another program has the function, or its group, open through VFIO.
    #[error("cannot open {bdf}: another program has it open")]
    OpenElsewhere {
        /// Address of the function.
        bdf: Bdf,
        /// The processes that have the group or the device open, as far as this user can see them.
        pids: Vec<u32>,
        /// EBUSY from the kernel.
        #[source]
        source: io::Error,
    },

    // Opening a device.
    /// The VFIO container or the iommufd cannot be opened.
    #[error("cannot open {path}")]
    OpenIommu {
        /// The device file.
        path: PathBuf,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The VFIO container has another API version or offers no type 1 IOMMU.
    #[error("cannot use the VFIO container: it offers no type 1 IOMMU")]
    NoType1,
    /// The group or the device cannot be opened.
    #[error("cannot open {path}, the VFIO file of {bdf}")]
    OpenVfio {
        /// Address of the function.
        bdf: Bdf,
        /// The device file.
        path: PathBuf,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The state of the group cannot be read, or the group cannot be attached to an IOMMU.
    #[error("cannot {operation} of IOMMU group {group} of {bdf}")]
    AttachGroup {
        /// Address of the function.
        bdf: Bdf,
        /// IOMMU group of the function.
        group: IommuGroupId,
        /// What failed, as an infinitive.
        operation: &'static str,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The device cannot be bound to an iommufd, or attached to an I/O address space.
    #[error("cannot {operation} for {bdf}")]
    AttachIommufd {
        /// Address of the function.
        bdf: Bdf,
        /// What failed, as an infinitive.
        operation: &'static str,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The device cannot be opened through its group, or VFIO's description of it cannot be read.
    #[error("cannot {operation} of {bdf}")]
    OpenDevice {
        /// Address of the function.
        bdf: Bdf,
        /// What failed, as an infinitive.
        operation: &'static str,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },

    // An open device.
    /// A region cannot be read, written or mapped.
    #[error("cannot {operation} of {bdf}")]
    Region {
        /// Address of the function.
        bdf: Bdf,
        /// What failed, as an infinitive.
        operation: &'static str,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The function has no reset.
    #[error("cannot reset {bdf}: it has no reset")]
    NoReset {
        /// Address of the function.
        bdf: Bdf,
    },
    /// The reset failed.
    #[error("cannot reset {bdf}")]
    Reset {
        /// Address of the function.
        bdf: Bdf,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The kernel or the driver does not support the export of dma-bufs.
    #[error("cannot export BARs of {bdf} as dma-bufs")]
    ExportUnsupported {
        /// Address of the function.
        bdf: Bdf,
        /// Driver of the function.
        driver: Option<String>,
        /// Error of the probe.
        #[source]
        source: io::Error,
    },
    /// The export failed.
    #[error("cannot export BAR {bar} of {bdf}")]
    Export {
        /// Address of the function.
        bdf: Bdf,
        /// Index of the VFIO region. Regions 0 to 5 are the BARs.
        bar: u8,
        /// Driver of the function.
        driver: Option<String>,
        /// The requested ranges.
        ranges: Vec<BarRange>,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },

    // Host memory.
    /// The host has not enough available memory.
    #[error("cannot allocate {size_bytes} bytes: {available_bytes} bytes are available")]
    NotEnoughMemory {
        /// The requested size in bytes.
        size_bytes: u64,
        /// `MemAvailable` of `/proc/meminfo`, in bytes.
        available_bytes: u64,
    },
    /// The host has not enough free huge pages of 2 MiB.
    #[error("cannot allocate {size_bytes} bytes of huge pages")]
    HugePages {
        /// The requested size in bytes.
        size_bytes: u64,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// Memory cannot be allocated or mapped.
    #[error("cannot {operation} of {size_bytes} bytes")]
    Memory {
        /// What failed, as an infinitive.
        operation: &'static str,
        /// The requested size in bytes.
        size_bytes: u64,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// A device file that creates dma-bufs cannot be opened, or the creation failed.
    #[error("cannot allocate a dma-buf of {size_bytes} bytes from {path}")]
    CreateDmaBuf {
        /// The device file.
        path: PathBuf,
        /// The requested size in bytes.
        size_bytes: u64,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },

    /// The GPU's driver cannot be loaded, or returned an error.
    #[error("cannot {what}: {source}")]
    Gpu {
        /// What failed, as an infinitive.
        what: &'static str,
        /// Error of the driver; part of the message.
        source: peerpath_cuda::Error,
    },

    // Sockets that pass dma-bufs.
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
    /// The source is not exported as one dma-buf, so it has no file descriptor to send.
    #[error("cannot send {source_name} to another process: it is not a dma-buf")]
    NotADmaBuf {
        /// Description of the source.
        source_name: String,
    },
    /// The socket cannot be created or used.
    #[error("cannot {operation} {path}")]
    Socket {
        /// The path.
        path: PathBuf,
        /// What failed, as an infinitive.
        operation: &'static str,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The sender's message is not one dma-buf with its description.
    #[error("cannot receive a dma-buf from {path}: {why}")]
    BadSocketMessage {
        /// The path of the socket.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}
