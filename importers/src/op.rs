//! Operations of importers.

use std::fmt;
use std::str::FromStr;

/// An operation that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// Export the source as a dma-buf.
    Export,
    /// Attach the device to the dma-buf, as part of the registration.
    Attach,
    /// Map the buffer for the device: part of a registration, or the whole registration (IOAS).
    Map,
    /// Register the buffer with the device.
    Register,
    /// Unregister the buffer.
    Unregister,
    /// Unmap the buffer.
    Unmap,
    /// Write: an RDMA write goes into the buffer, an NVMe write goes out of the buffer.
    Write,
    /// Read: an RDMA read goes out of the buffer, an NVMe read goes into the buffer.
    Read,
    /// RDMA write with immediate data, which consumes a receive.
    WriteImm,
    /// Send into a receive posted on the buffer.
    Send,
    /// Add to 8 bytes of the buffer and return the previous value.
    FetchAdd,
    /// Replace 8 bytes of the buffer if they have the expected value, and return the previous value.
    CmpSwap,
    /// Copy GPU memory into the buffer by a copy engine.
    CopyIn,
    /// Copy the buffer into GPU memory by a copy engine.
    CopyOut,
    /// Store to the buffer by a kernel on a GPU.
    KernelStore,
    /// Load from the buffer by a kernel on a GPU.
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

    /// Name in text and in results.
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

    /// Whether the operation is atomic, on 8 bytes.
    pub fn is_atomic(self) -> bool {
        matches!(self, Self::FetchAdd | Self::CmpSwap)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text does not name an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an operation")]
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

/// Direction of a transfer, seen from the exported memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into the exported memory.
    IntoSource,
    /// Out of the exported memory.
    OutOfSource,
}

/// Step that an operation measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The exporter's export call.
    Export,
    /// The kernel's attachment of the device, as part of [`crate::Device::register`]; measured by tracing.
    Attach,
    /// The kernel's mapping of the memory, as part of [`crate::Device::register`]; measured by tracing.
    Map,
    /// [`crate::Device::register`].
    Register,
    /// [`crate::Registration::unregister`].
    Unregister,
    /// A transfer of the data plane.
    Transfer(Direction),
}

/// An operation of an importer. The direction belongs here and not to [`Op`], because one name can have either: an NVMe
/// `read` goes into the buffer, an RDMA `read` out of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpSpec {
    /// Operation, by its name.
    pub op: Op,
    /// Step that the operation measures.
    pub role: Role,
    /// Description for help texts, in one line.
    pub summary: &'static str,
}

/// A mechanism that registers a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MechanismSpec {
    /// Name in text and in results.
    pub name: &'static str,
    /// Description for help texts, in one line.
    pub summary: &'static str,
}
