//! The dma-buf operations of an importer, and the kernel functions that implement them.

use std::fmt;

/// A dma-buf operation. The importer's driver requests it, and dma-buf forwards it to the exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DmaBufOp {
    /// Attaches the importer's device to the buffer.
    Attach,
    /// Pins the buffer's memory.
    Pin,
    /// Maps the buffer: returns DMA addresses.
    Map,
    /// Unmaps the buffer.
    Unmap,
    /// Detaches the importer's device.
    Detach,
}

impl DmaBufOp {
    /// Whether a registration contains this operation, so that its failure fails the registration.
    pub(crate) fn is_of_import(self) -> bool {
        matches!(self, Self::Attach | Self::Pin | Self::Map)
    }

    /// The name in evidence: `attach`, `pin`, `map`, `unmap` or `detach`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Pin => "pin",
            Self::Map => "map",
            Self::Unmap => "unmap",
            Self::Detach => "detach",
        }
    }
}

impl fmt::Display for DmaBufOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A kernel function with a probe at its entry and at its return.
#[derive(Debug)]
pub(crate) struct TimedFunction {
    pub(crate) symbol: &'static str,
    pub(crate) operation: DmaBufOp,
    /// The probe type of the return value: `s64` for a pointer, which may encode an errno, `s32` for an int; `None` for void.
    pub(crate) result: Option<&'static str>,
}

const fn timed(symbol: &'static str, operation: DmaBufOp, result: Option<&'static str>) -> TimedFunction {
    TimedFunction { symbol, operation, result }
}

/// The `_unlocked` variants call the functions without this suffix; only the outer call is counted.
pub(crate) static TIMED: &[TimedFunction] = &[
    timed("dma_buf_dynamic_attach", DmaBufOp::Attach, Some("s64")),
    timed("dma_buf_pin", DmaBufOp::Pin, Some("s32")),
    timed("dma_buf_map_attachment", DmaBufOp::Map, Some("s64")),
    timed("dma_buf_map_attachment_unlocked", DmaBufOp::Map, Some("s64")),
    timed("dma_buf_unmap_attachment", DmaBufOp::Unmap, None),
    timed("dma_buf_unmap_attachment_unlocked", DmaBufOp::Unmap, None),
    timed("dma_buf_detach", DmaBufOp::Detach, None),
];

impl TimedFunction {
    pub(crate) fn of(symbol: &str) -> Option<&'static Self> {
        TIMED.iter().find(|function| function.symbol == symbol)
    }
}
