//! Error type of the crate, with one variant per operation that can fail.

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
        /// The text, truncated for display.
        text: String,
        /// Reason of the error.
        why: String,
        /// Remedy, as an imperative.
        remedy: String,
    },
    /// The text is not a range.
    #[error("{text:?} is not a range")]
    BadRangeText {
        /// The text, truncated for display.
        text: String,
    },
    /// The text is not a VFIO interface.
    #[error("invalid VFIO interface {text:?}: expected auto, group or cdev")]
    BadVfioInterface {
        /// The text, truncated for display.
        text: String,
    },
    /// The BAR cannot be exported.
    #[error("cannot export BAR {bar} of {bdf}: {problem}")]
    BadBar {
        /// PCI address of the function.
        bdf: Bdf,
        /// Index of the BAR.
        bar: BarIndex,
        /// Reason of the error.
        problem: NotExportable,
    },
    /// A range cannot be exported.
    #[error("cannot export the range {range} of BAR {bar} of {bdf}: {problem}")]
    BadRange {
        /// PCI address of the function.
        bdf: Bdf,
        /// Index of the BAR.
        bar: BarIndex,
        /// Range that was requested.
        range: BarRange,
        /// Reason of the error.
        problem: RangeProblem,
    },
    /// The source cannot export the requested length.
    #[error("cannot export {length_bytes} bytes of {source_name}: {why}")]
    BadLength {
        /// Name or kind of the source.
        source_name: String,
        /// Requested length in bytes.
        length_bytes: u64,
        /// Reason of the error.
        why: String,
        /// Remedy, as a sentence.
        remedy: String,
    },
    /// The caller requested ranges, but only BARs can be exported as ranges.
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
        /// PCI address of the function.
        bdf: Bdf,
        /// Driver that is bound to the function, if any.
        driver: Option<String>,
    },
    /// The kernel does not offer this VFIO interface.
    #[error("cannot open {bdf} through the VFIO interface {interface}: {path} does not exist")]
    NoVfioInterface {
        /// PCI address of the function.
        bdf: Bdf,
        /// Requested VFIO interface.
        interface: VfioInterface,
        /// Device file that does not exist.
        path: PathBuf,
    },
    /// This process has the function open through the other VFIO interface.
    #[error("cannot open {bdf}: it is open through the VFIO interface {open}")]
    OtherVfioInterface {
        /// PCI address of the function.
        bdf: Bdf,
        /// VFIO interface through which the function is open.
        open: VfioInterface,
    },
    /// Another program has the function, or its group, open through VFIO.
    #[error("cannot open {bdf}: another program has it open")]
    OpenElsewhere {
        /// PCI address of the function.
        bdf: Bdf,
        /// IDs of the processes that have the group or the device open. Contains only processes visible to this user.
        pids: Vec<u32>,
        /// EBUSY that the kernel returned.
        #[source]
        source: io::Error,
    },

    // Opening a device.
    /// The VFIO container or the iommufd cannot be opened.
    #[error("cannot open {path}")]
    OpenIommu {
        /// Path of the device file.
        path: PathBuf,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The VFIO container has another API version or offers no type 1 IOMMU.
    #[error("cannot use the VFIO container: it does not support the type 1 IOMMU driver")]
    NoType1,
    /// The group or the device cannot be opened.
    #[error("cannot open {path}, the VFIO file of {bdf}")]
    OpenVfio {
        /// PCI address of the function.
        bdf: Bdf,
        /// Path of the device file.
        path: PathBuf,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The state of the group cannot be read, or the group cannot be attached to an IOMMU.
    #[error("cannot {operation} of IOMMU group {group} of {bdf}")]
    AttachGroup {
        /// PCI address of the function.
        bdf: Bdf,
        /// IOMMU group of the function.
        group: IommuGroupId,
        /// Operation that failed, as a verb phrase.
        operation: &'static str,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The device cannot be bound to an iommufd, or attached to an I/O address space.
    #[error("cannot {operation} for {bdf}")]
    AttachIommufd {
        /// PCI address of the function.
        bdf: Bdf,
        /// Operation that failed, as a verb phrase.
        operation: &'static str,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The device cannot be opened through its group, or the kernel's description of the device or its regions cannot be read.
    #[error("cannot {operation} of {bdf}")]
    OpenDevice {
        /// PCI address of the function.
        bdf: Bdf,
        /// Operation that failed, as a verb phrase.
        operation: &'static str,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },

    // An open device.
    /// A region cannot be read, written or mapped.
    #[error("cannot {operation} of {bdf}")]
    Region {
        /// PCI address of the function.
        bdf: Bdf,
        /// Operation that failed, as a verb phrase.
        operation: &'static str,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The kernel requested the release of the function.
    #[error("cannot use {name} any longer")]
    Removed {
        /// Function or memory that is being removed.
        name: String,
    },
    /// The function does not support a reset.
    #[error("cannot reset {bdf}: the function does not support a reset")]
    NoReset {
        /// PCI address of the function.
        bdf: Bdf,
    },
    /// The reset failed.
    #[error("cannot reset {bdf}")]
    Reset {
        /// PCI address of the function.
        bdf: Bdf,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The function has no power management capability.
    #[error("cannot change the power state of {bdf}: the function has no power management capability")]
    NoPowerManagement {
        /// PCI address of the function.
        bdf: Bdf,
    },
    /// The function did not enter a power state.
    #[error("cannot put {bdf} into {state}: the function stays in another power state")]
    PowerState {
        /// PCI address of the function.
        bdf: Bdf,
        /// The requested power state.
        state: &'static str,
    },
    /// Neither the bus nor the slot of the function can be reset.
    #[error("cannot hot-reset {bdf}: the kernel cannot reset its bus or slot")]
    NoHotReset {
        /// PCI address of the function.
        bdf: Bdf,
        /// Error of the query.
        #[source]
        source: io::Error,
    },
    /// A hot reset of the function would also reset other functions.
    #[error("cannot hot-reset {bdf}: the reset would affect other functions")]
    SharedHotReset {
        /// PCI address of the function.
        bdf: Bdf,
        /// The other functions.
        others: Vec<Bdf>,
    },
    /// The kernel or the driver does not support exporting dma-bufs.
    #[error("cannot export BARs of {bdf} as dma-bufs")]
    ExportUnsupported {
        /// PCI address of the function.
        bdf: Bdf,
        /// Driver of the function.
        driver: Option<String>,
        /// Error of the probe for dma-buf support.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to export the ranges.
    #[error("cannot export BAR {bar} of {bdf}")]
    Export {
        /// PCI address of the function.
        bdf: Bdf,
        /// Index of the VFIO region. Regions 0 to 5 are the BARs.
        bar: u8,
        /// Driver of the function.
        driver: Option<String>,
        /// Requested ranges.
        ranges: Vec<BarRange>,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },

    // Host memory.
    /// The host does not have enough available memory.
    #[error("cannot allocate {size_bytes} bytes: {available_bytes} bytes are available")]
    NotEnoughMemory {
        /// Requested size in bytes.
        size_bytes: u64,
        /// `MemAvailable` of `/proc/meminfo`, in bytes.
        available_bytes: u64,
    },
    /// The host does not have enough free huge pages of 2 MiB.
    #[error("cannot allocate {size_bytes} bytes of huge pages")]
    HugePages {
        /// Requested size in bytes.
        size_bytes: u64,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// Memory cannot be allocated or mapped.
    #[error("cannot {operation} of {size_bytes} bytes")]
    Memory {
        /// Operation that failed, as a verb phrase.
        operation: &'static str,
        /// Requested size in bytes.
        size_bytes: u64,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// `/dev/udmabuf` or the system heap cannot be opened, or cannot create a dma-buf.
    #[error("cannot allocate a dma-buf of {size_bytes} bytes from {path}")]
    CreateDmaBuf {
        /// Path of the device file.
        path: PathBuf,
        /// Requested size in bytes.
        size_bytes: u64,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },

    /// The CUDA driver cannot be loaded, or returned an error.
    #[error("cannot {what}: {source}")]
    Gpu {
        /// Operation that failed, as a verb phrase.
        what: &'static str,
        /// Error of the driver. The message of this error contains it.
        source: peerpath_cuda::Error,
    },

    // Sockets that pass dma-bufs.
    /// No socket can be created at the path.
    #[error("cannot create the socket {path}: {why}")]
    BadSocketPath {
        /// Path of the socket.
        path: PathBuf,
        /// Reason of the error.
        why: &'static str,
    },
    /// Another process serves this socket.
    #[error("cannot create the socket {path}: another process is listening on it")]
    SocketTaken {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The source is not exported as one dma-buf, so it has no file descriptor to send.
    #[error("cannot send {source_name} to another process: it is not a dma-buf")]
    NotADmaBuf {
        /// Description of the source.
        source_name: String,
    },
    /// The socket of the exporting program does not exist.
    #[error("cannot connect to {path}")]
    NoSocket {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The socket cannot be created or used.
    #[error("cannot {operation} {path}")]
    Socket {
        /// Path of the socket.
        path: PathBuf,
        /// Operation that failed, as a verb phrase.
        operation: &'static str,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
    /// The sender's message does not carry exactly one dma-buf and its description.
    #[error("cannot receive a dma-buf from {path}: {why}")]
    BadSocketMessage {
        /// Path of the socket.
        path: PathBuf,
        /// Reason of the error.
        why: String,
    },
}
