//! The dma-buf operations of an importer, and the kernel functions that carry them out.

use std::fmt;

/// What an importer's driver asks of dma-buf, and through it of the exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// Makes the importer's device known to the buffer: the op `attach`.
    Attach,
    /// Asks that the memory stay where it is.
    Pin,
    /// Gets DMA addresses: the op `map`.
    Map,
    /// Gives them back: the op `unmap`.
    Unmap,
    /// Ends the attachment.
    Detach,
}

impl CallKind {
    /// Part of a registration, and able to refuse it.
    pub(crate) fn is_of_import(self) -> bool {
        matches!(self, Self::Attach | Self::Pin | Self::Map)
    }

    /// The word in evidence.
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

impl fmt::Display for CallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A kernel function at whose entry and return a time is taken.
#[derive(Debug)]
pub(crate) struct TimedFunction {
    pub(crate) symbol: &'static str,
    pub(crate) kind: CallKind,
    /// It returns a pointer or an errno in a pointer, or an int; none where it returns nothing.
    pub(crate) result: Option<&'static str>,
}

const fn timed(symbol: &'static str, kind: CallKind, result: Option<&'static str>) -> TimedFunction {
    TimedFunction { symbol, kind, result }
}

/// The `_unlocked` variants call the others: the outer call is the one that counts.
pub(crate) static TIMED: &[TimedFunction] = &[
    timed("dma_buf_dynamic_attach", CallKind::Attach, Some("s64")),
    timed("dma_buf_pin", CallKind::Pin, Some("s32")),
    timed("dma_buf_map_attachment", CallKind::Map, Some("s64")),
    timed("dma_buf_map_attachment_unlocked", CallKind::Map, Some("s64")),
    timed("dma_buf_unmap_attachment", CallKind::Unmap, None),
    timed("dma_buf_unmap_attachment_unlocked", CallKind::Unmap, None),
    timed("dma_buf_detach", CallKind::Detach, None),
];

impl TimedFunction {
    pub(crate) fn of(symbol: &str) -> Option<&'static Self> {
        TIMED.iter().find(|function| function.symbol == symbol)
    }
}

