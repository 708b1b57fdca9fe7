//! What can go wrong: one variant for each operation that fails, with what it was done to.

mod explained;

use std::io;
use std::path::PathBuf;

use peerpath_paths::Bdf;

use crate::changes::Subject;
use crate::range::RangeProblem;
use crate::{BarRange, Door, InUse, NotExportable};

/// An exporter's failure. The message says what failed; [`peerpath_paths::Explained`] says why and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // What the user wrote.
    /// The text is no source.
    #[error("{text:?} names no source: {why}")]
    BadSource {
        /// What was written, cut to a reasonable length.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The text is no range.
    #[error("{text:?} is not a range such as 0x4000+0x2000")]
    BadRangeText {
        /// What was written.
        text: String,
    },
    /// The text is no door.
    #[error("{text:?} is not one of auto, group and cdev")]
    BadDoor {
        /// What was written.
        text: String,
    },
    /// No such function.
    #[error("there is no PCI function {bdf}")]
    NoFunction {
        /// The function.
        bdf: Bdf,
    },
    /// The BAR cannot be exported.
    #[error("BAR {bar} of {bdf} cannot be exported: {problem}")]
    BadBar {
        /// The function.
        bdf: Bdf,
        /// The BAR's index.
        bar: u8,
        /// Why not.
        problem: NotExportable,
    },
    /// A range cannot be exported.
    #[error("the range {range} of BAR {bar} of {bdf} cannot be exported: {problem}")]
    BadRange {
        /// The function.
        bdf: Bdf,
        /// The BAR's index.
        bar: u8,
        /// The range.
        range: BarRange,
        /// Why not.
        problem: RangeProblem,
    },
    /// A length to export that the source does not have.
    #[error("{length_bytes} bytes of {source_name} cannot be exported: {why}")]
    BadLength {
        /// The source as the user writes it.
        source_name: String,
        /// The length asked for.
        length_bytes: u64,
        /// Why not.
        why: String,
    },
    /// The source is exported only as a whole or by its front.
    #[error("{source_name} cannot be exported by ranges")]
    NoRanges {
        /// The source.
        source_name: String,
    },
    /// The function is a bridge.
    #[error("{bdf} is a bridge, which VFIO does not take")]
    Bridge {
        /// The function.
        bdf: Bdf,
    },

    // What the host is like.
    /// A file of `/sys` or `/proc` could not be read.
    #[error("{path} could not be read")]
    ReadHost {
        /// The file.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The function has no IOMMU group.
    #[error("{bdf} has no IOMMU group")]
    NoIommuGroup {
        /// The function.
        bdf: Bdf,
    },
    /// The group exists only in VFIO's no-IOMMU mode.
    #[error("{bdf} is bound through VFIO's no-IOMMU mode")]
    NoiommuGroup {
        /// The function.
        bdf: Bdf,
    },
    /// Another driver has the function.
    #[error("{bdf} is not bound to a VFIO driver")]
    NotVfioDriver {
        /// The function.
        bdf: Bdf,
        /// The driver that has it.
        driver: Option<String>,
    },
    /// Functions of the group belong to drivers that VFIO does not tolerate beside itself.
    #[error("IOMMU group {group} of {bdf} cannot be given to VFIO")]
    GroupNotViable {
        /// The function that was wanted.
        bdf: Bdf,
        /// Its group.
        group: u32,
        /// The functions in the way, and their drivers.
        offenders: Vec<(String, String)>,
    },
    /// The kernel offers no such way in.
    #[error("{bdf} cannot be opened through the {door} door: {path} does not exist")]
    NoDoor {
        /// The function.
        bdf: Bdf,
        /// The door.
        door: Door,
        /// What is missing.
        path: PathBuf,
    },
    /// This process has the function open through the other door.
    #[error("{bdf} is open already through the {open} door")]
    OtherDoor {
        /// The function.
        bdf: Bdf,
        /// The door through which it is open.
        open: Door,
    },
    /// Another peerpath holds the function or the group.
    #[error("{subject} is taken by another run")]
    Taken {
        /// What is held.
        subject: Subject,
        /// The process that holds it, where it said so.
        pid: Option<u32>,
    },
    /// Another program has the function, or its group, through VFIO.
    #[error("{bdf} belongs to another program")]
    Owned {
        /// The function.
        bdf: Bdf,
        /// The processes with the group or the device open, as far as we may know.
        pids: Vec<u32>,
        /// The answer: EBUSY.
        #[source]
        source: io::Error,
    },
    /// Something uses the function.
    #[error("{bdf} is in use: {}", list(uses))]
    InUse {
        /// The function.
        bdf: Bdf,
        /// What uses it.
        uses: Vec<InUse>,
        /// Whether the user asked to take it all the same.
        forced: bool,
    },
    /// The vfio-pci driver is not there.
    #[error("the vfio-pci driver is not loaded")]
    VfioPciMissing,

    // Opening a device.
    /// The container or the iommufd could not be opened.
    #[error("{path} could not be opened")]
    OpenIommu {
        /// The file.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The container speaks another version or has no type 1 IOMMU.
    #[error("the VFIO container offers no type 1 IOMMU")]
    NoType1,
    /// The group or the device could not be opened.
    #[error("{path}, the VFIO file of {bdf}, could not be opened")]
    OpenVfio {
        /// The function.
        bdf: Bdf,
        /// The file.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The group could not be asked for its state or put under an IOMMU.
    #[error("{operation} failed for IOMMU group {group} of {bdf}")]
    AttachGroup {
        /// The function.
        bdf: Bdf,
        /// Its group.
        group: u32,
        /// The step.
        operation: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The device could not be put under an iommufd.
    #[error("{operation} failed for {bdf}")]
    AttachIommufd {
        /// The function.
        bdf: Bdf,
        /// The step.
        operation: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The device's fd or its description could not be had.
    #[error("{operation} failed for {bdf}")]
    OpenDevice {
        /// The function.
        bdf: Bdf,
        /// The step.
        operation: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },

    // An open device.
    /// A region could not be read, written or mapped.
    #[error("{operation} failed for {bdf}")]
    Region {
        /// The function.
        bdf: Bdf,
        /// The step.
        operation: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The function cannot be reset.
    #[error("{bdf} offers no reset")]
    NoReset {
        /// The function.
        bdf: Bdf,
    },
    /// The reset failed.
    #[error("the reset of {bdf} failed")]
    Reset {
        /// The function.
        bdf: Bdf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The kernel or the driver has no dma-buf export.
    #[error("no BAR of {bdf} can be exported as a dma-buf")]
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
    #[error("the export of BAR {bar} of {bdf} failed")]
    Export {
        /// The function.
        bdf: Bdf,
        /// The BAR's index.
        bar: u8,
        /// Its driver.
        driver: Option<String>,
        /// The ranges asked for.
        ranges: Vec<BarRange>,
        /// The answer.
        #[source]
        source: io::Error,
    },

    // Giving functions to drivers.
    /// A step of giving a function to another driver failed.
    #[error("{operation} failed for {bdf}")]
    Bind {
        /// The function.
        bdf: Bdf,
        /// The step.
        operation: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The kernel took the request and bound nothing.
    #[error("{driver} did not take {bdf}")]
    NotTaken {
        /// The function.
        bdf: Bdf,
        /// The driver that should have.
        driver: String,
    },

    // Arranging a path.
    /// What would have to go for a change could not be made again afterwards.
    #[error("{subject} is left alone, since what it carries could not be put back: {what}")]
    CannotPutBack {
        /// What was to be changed.
        subject: Subject,
        /// What could not be put back.
        what: String,
    },
    /// The type of a group's domain could not be changed.
    #[error("IOMMU group {group} did not get a domain of type {kind}")]
    SetDomain {
        /// The group.
        group: u32,
        /// The type.
        kind: String,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// A port's ACS control could not be read or written.
    #[error("{operation} failed for {bdf}")]
    Acs {
        /// The function.
        bdf: Bdf,
        /// The step.
        operation: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// A program of the system is not there.
    #[error("the program {program} is not installed")]
    NoProgram {
        /// Its name.
        program: &'static str,
    },
    /// A program of the system failed.
    #[error("`{command}` failed: {said}")]
    Program {
        /// The program and its arguments.
        command: String,
        /// What it said.
        said: String,
    },
    /// What went with a driver did not come back with it.
    #[error("{what} of {bdf} did not come back within {waited_s} s")]
    NotBack {
        /// The function.
        bdf: Bdf,
        /// What is missing.
        what: String,
        /// How long it was waited for.
        waited_s: u64,
    },

    /// Changes failed in the middle, and what was done by then could not be undone.
    #[error("{error}; what had been changed by then could not be put back: {left}")]
    LeftChanged {
        /// Why the changes were not made.
        error: Box<Error>,
        /// Why they were not undone.
        left: Box<Error>,
    },

    // The journal.
    /// The state directory or a file in it could not be used.
    #[error("{operation} failed for {path}")]
    State {
        /// The file.
        path: PathBuf,
        /// The step.
        operation: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The journal is not one that we wrote.
    #[error("the journal {path} cannot be understood")]
    BadJournal {
        /// The file.
        path: PathBuf,
        /// What the reader found.
        #[source]
        source: serde_json::Error,
    },

    // Ordinary memory.
    /// More memory than there is.
    #[error("{size_bytes} bytes of memory are not to be had")]
    NotEnoughMemory {
        /// What was asked for.
        size_bytes: u64,
        /// What is free.
        available_bytes: u64,
    },
    /// There are not as many huge pages.
    #[error("{size_bytes} bytes of huge pages could not be had")]
    HugePages {
        /// What was asked for.
        size_bytes: u64,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// Memory could not be allocated or mapped.
    #[error("{operation} failed for {size_bytes} bytes")]
    Memory {
        /// The step.
        operation: &'static str,
        /// What was asked for.
        size_bytes: u64,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// A maker of dma-bufs could not be opened, or refused.
    #[error("{path} gave no dma-buf of {size_bytes} bytes")]
    CreateDmaBuf {
        /// The device file.
        path: PathBuf,
        /// What was asked for.
        size_bytes: u64,
        /// The answer.
        #[source]
        source: io::Error,
    },

    /// The driver of a GPU refused.
    #[error("{what} failed: {source}")]
    Gpu {
        /// The step.
        what: &'static str,
        /// The answer; part of the message.
        source: peerpath_cuda::Error,
    },

    // The handover.
    /// The path of a socket cannot be used.
    #[error("{path} cannot be the socket: {why}")]
    BadSocketPath {
        /// The path.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// Somebody serves that socket already.
    #[error("another process serves {path}")]
    SocketTaken {
        /// The path.
        path: PathBuf,
    },
    /// Host memory has no fd to give away.
    #[error("{source_name} is no dma-buf and cannot be handed to another process")]
    NothingToHandOver {
        /// The source.
        source_name: String,
    },
    /// A step of making or reaching the socket failed.
    #[error("{operation} failed for {path}")]
    Socket {
        /// The path.
        path: PathBuf,
        /// The step.
        operation: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The other process handed over something else than one described dma-buf.
    #[error("what {path} handed over is not one described dma-buf: {why}")]
    BadHandover {
        /// The path of the socket.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

fn list(uses: &[InUse]) -> String {
    uses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
