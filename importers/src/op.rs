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
    /// Map the buffer for the device: part of a registration, or the whole registration (iommufd).
    Map,
    /// Allocate the IOVA of the mapping, as part of `map`.
    Allocate,
    /// Link every range of the buffer to the IOVA, as part of `map`.
    Link,
    /// Synchronize the IOMMU with the linked ranges, as part of `map`.
    Sync,
    /// Register the buffer with the device.
    Register,
    /// Unregister the buffer.
    Unregister,
    /// Unmap the buffer: part of the release of a registration, or the whole release (iommufd).
    Unmap,
    /// Detach the device from the dma-buf, as part of the release.
    Detach,
    /// Write: an RDMA write transfers into the buffer, an NVMe write out of the buffer.
    Write,
    /// Read: an RDMA read transfers out of the buffer, an NVMe read into the buffer.
    Read,
    /// RDMA write with immediate data, which consumes a posted receive.
    WriteImm,
    /// Send to a receive that was posted with the buffer as its memory.
    Send,
    /// Atomic add to 8 bytes of the buffer. Returns the previous value.
    FetchAdd,
    /// Atomic compare and swap of 8 bytes of the buffer. Returns the previous value.
    CmpSwap,
    /// Copy from GPU memory into the buffer, by a copy engine.
    CopyIn,
    /// Copy from the buffer into GPU memory, by a copy engine.
    CopyOut,
    /// Stores of a GPU kernel to the buffer.
    KernelStore,
    /// Loads of a GPU kernel from the buffer.
    KernelLoad,
    /// Reset the function of the source while transfers are under way.
    RevokeReset,
    /// Turn memory decoding of the function off while transfers are under way.
    RevokeMemoryOff,
    /// Put the function into D3hot while transfers are under way.
    RevokeD3,
    /// Hot-reset the function (its bus or slot) while transfers are under way.
    RevokeHotReset,
    /// Close the function while transfers are under way.
    RevokeClose,
}

impl Op {
    /// All operations.
    pub const ALL: [Self; 25] = [
        Self::Export,
        Self::Attach,
        Self::Map,
        Self::Allocate,
        Self::Link,
        Self::Sync,
        Self::Register,
        Self::Unregister,
        Self::Unmap,
        Self::Detach,
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
        Self::RevokeReset,
        Self::RevokeMemoryOff,
        Self::RevokeD3,
        Self::RevokeHotReset,
        Self::RevokeClose,
    ];

    /// Name in text and in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Attach => "attach",
            Self::Map => "map",
            Self::Allocate => "allocate",
            Self::Link => "link",
            Self::Sync => "sync",
            Self::Register => "register",
            Self::Unregister => "unregister",
            Self::Unmap => "unmap",
            Self::Detach => "detach",
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
            Self::RevokeReset => "revoke_reset",
            Self::RevokeMemoryOff => "revoke_memory_off",
            Self::RevokeD3 => "revoke_d3",
            Self::RevokeHotReset => "revoke_hot_reset",
            Self::RevokeClose => "revoke_close",
        }
    }

    /// Whether the operation is an RDMA atomic, which accesses 8 bytes.
    pub fn is_atomic(self) -> bool {
        matches!(self, Self::FetchAdd | Self::CmpSwap)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Error: the text does not name an operation.
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

/// Direction of a transfer, relative to the exported memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into the exported memory.
    IntoSource,
    /// Out of the exported memory.
    OutOfSource,
}

/// Call by which the exporter revokes its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revocation {
    /// Reset of the function by VFIO: a function-level reset, or another method that resets this function alone.
    Reset,
    /// Memory decoding off, in the command register.
    MemoryOff,
    /// Power state D3hot.
    D3,
    /// Reset of the function's bus or slot.
    HotReset,
    /// Close of the function by the exporting process.
    Close,
}

impl Revocation {
    /// All kinds of revocation.
    pub const ALL: [Self; 5] = [Self::Reset, Self::MemoryOff, Self::D3, Self::HotReset, Self::Close];

    /// Name in text and in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::MemoryOff => "memory_off",
            Self::D3 => "d3",
            Self::HotReset => "hot_reset",
            Self::Close => "close",
        }
    }

    /// The operation that measures this kind of revocation.
    pub fn op(self) -> Op {
        match self {
            Self::Reset => Op::RevokeReset,
            Self::MemoryOff => Op::RevokeMemoryOff,
            Self::D3 => Op::RevokeD3,
            Self::HotReset => Op::RevokeHotReset,
            Self::Close => Op::RevokeClose,
        }
    }

    /// The kind of revocation that an operation measures. `None` if it measures none.
    pub fn of(op: Op) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.op() == op)
    }

    /// Whether the memory is usable again when the call returns. Otherwise it stays revoked until the exporter undoes the call.
    pub fn ends_with_the_call(self) -> bool {
        matches!(self, Self::Reset | Self::HotReset)
    }
}

/// Step that an operation measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Call that exports the source.
    Export,
    /// Attachment of the device by the kernel, as part of [`crate::Device::register`]. Measured by tracing the kernel.
    Attach,
    /// Mapping of the memory by the kernel, as part of [`crate::Device::register`]. Measured by tracing the kernel.
    Map,
    /// Allocation of the IOVA, as part of [`Role::Map`]. Measured by tracing the kernel.
    Allocate,
    /// Linking of every range to the IOVA, as part of [`Role::Map`]. Measured by tracing the kernel.
    Link,
    /// Synchronization of the IOMMU, as part of [`Role::Map`]. Measured by tracing the kernel.
    Sync,
    /// Removal of the mapping by the kernel, as part of [`crate::Registration::unregister`]. Measured by tracing the kernel.
    Unmap,
    /// Detachment of the device by the kernel, as part of [`crate::Registration::unregister`]. Measured by tracing the kernel.
    Detach,
    /// Call of [`crate::Device::register`].
    Register,
    /// Call of [`crate::Registration::unregister`].
    Unregister,
    /// Transfer of the data plane.
    Transfer(Direction),
    /// Revocation of the memory by the exporter, while the data plane transfers.
    Revoke(Revocation),
}

impl Role {
    /// Whether the step is measured by tracing the kernel.
    pub fn is_traced(self) -> bool {
        match self {
            Self::Attach | Self::Map | Self::Allocate | Self::Link | Self::Sync | Self::Unmap | Self::Detach => true,
            Self::Export | Self::Register | Self::Unregister | Self::Transfer(_) | Self::Revoke(_) => false,
        }
    }
}

/// Operation that an importer offers. This struct holds the direction, not [`Op`], because the direction depends on the
/// importer: an NVMe `read` transfers into the buffer, an RDMA `read` out of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpSpec {
    /// Name of the operation.
    pub op: Op,
    /// Step that the operation measures.
    pub role: Role,
    /// Description for help texts, in one line.
    pub summary: &'static str,
}

/// Mechanism that registers a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MechanismSpec {
    /// Name in text and in results.
    pub name: &'static str,
    /// Description for help texts, in one line.
    pub summary: &'static str,
}
