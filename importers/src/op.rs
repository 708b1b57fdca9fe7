//! The operations that targets offer.

use std::fmt;
use std::str::FromStr;

/// An operation by the name that `--op` and results use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// Make a dma-buf of the BAR.
    Export,
    /// Make the target's device known to the dma-buf; happens inside the registration.
    Attach,
    /// Get addresses for the device: inside a registration, or all that there is to it (an IOAS).
    Map,
    /// Register the buffer with the target.
    Register,
    /// Take the registration back.
    Unregister,
    /// Take a mapping back.
    Unmap,
    /// An RDMA write carries bytes into the buffer, a drive's write out of it.
    Write,
    /// An RDMA read carries bytes out of the buffer, a drive's read into it.
    Read,
    /// An RDMA write that is told to the other side: it takes a receive as well.
    WriteImm,
    /// Send into a receive posted on the buffer.
    Send,
    /// Add to 8 bytes of the buffer and bring what was there before.
    FetchAdd,
    /// Replace 8 bytes of the buffer if they are what was expected, and bring what was there before.
    CmpSwap,
    /// A GPU's copy engine copies into the buffer.
    CopyIn,
    /// A GPU's copy engine copies out of the buffer.
    CopyOut,
    /// A kernel on a GPU stores to the buffer.
    KernelStore,
    /// A kernel on a GPU loads from the buffer.
    KernelLoad,
}

impl Op {
    /// Every op.
    pub const ALL: [Self; 16] = [
        Self::Export,
        Self::Attach,
        Self::Map,
        Self::Register,
        Self::Unregister,
        Self::Unmap,
        Self::Write,
        Self::WriteImm,
        Self::Read,
        Self::Send,
        Self::FetchAdd,
        Self::CmpSwap,
        Self::CopyIn,
        Self::CopyOut,
        Self::KernelStore,
        Self::KernelLoad,
    ];

    /// The name on the command line and in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Attach => "attach",
            Self::Map => "map",
            Self::Register => "register",
            Self::Unregister => "unregister",
            Self::Unmap => "unmap",
            Self::Write => "write",
            Self::WriteImm => "write_imm",
            Self::Read => "read",
            Self::Send => "send",
            Self::FetchAdd => "fetch_add",
            Self::CmpSwap => "cmp_swap",
            Self::CopyIn => "copy_in",
            Self::CopyOut => "copy_out",
            Self::KernelStore => "kernel_store",
            Self::KernelLoad => "kernel_load",
        }
    }

    /// Whether it works on one word of 8 bytes.
    pub fn is_atomic(self) -> bool {
        matches!(self, Self::FetchAdd | Self::CmpSwap)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no op.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no operation")]
pub struct ParseOpError(String);

impl FromStr for Op {
    type Err = ParseOpError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|op| op.as_str() == text)
            .ok_or_else(|| ParseOpError(text.chars().take(64).collect()))
    }
}

/// Which way bytes go, seen from the exported memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Bytes arrive in the exported memory.
    IntoSource,
    /// Bytes leave it.
    OutOfSource,
}

/// What part of the machinery an op measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The exporter's export call.
    Export,
    /// What the kernel does inside [`crate::Device::register`] to attach the device; seen by tracing.
    Attach,
    /// What the kernel does inside [`crate::Device::register`] to map the memory; seen by tracing.
    Map,
    /// [`crate::Device::register`].
    Register,
    /// [`crate::Registration::unregister`].
    Unregister,
    /// A transfer of the data plane.
    Transfer(Direction),
}

/// One op that an importer offers. The same name can mean the other direction at another target (an NVMe `read` goes
/// into the buffer, an RDMA `read` out of it), so the direction stands here and not in [`Op`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpSpec {
    /// The name.
    pub op: Op,
    /// What it measures.
    pub role: Role,
    /// One line for `--help`.
    pub summary: &'static str,
}

/// One way by which a target can be made to reach a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MechanismSpec {
    /// The name on the command line and in results.
    pub name: &'static str,
    /// One line for `--help`.
    pub summary: &'static str,
}
