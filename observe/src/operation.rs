//! The dma-buf operations of an importer and their parts, and the kernel functions that implement them.

use std::fmt;

use crate::calls;

/// A dma-buf operation, or a part of one. The importer's driver requests the operation, and dma-buf forwards it to the exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DmaBufOp {
    /// Attaches the importer's device to the buffer.
    Attach,
    /// Pins the buffer's memory.
    Pin,
    /// Maps the buffer: returns DMA addresses.
    Map,
    /// Allocates the IOVA of the mapping. Part of [`Map`](Self::Map) on a translated path.
    Allocate,
    /// Links one range of the buffer to the IOVA: writes IOMMU page tables. Part of [`Map`](Self::Map) on a translated path.
    Link,
    /// Synchronizes the IOMMU with the page tables of all linked ranges. Part of [`Map`](Self::Map) on a translated path.
    Sync,
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

    /// Whether this is a part of [`Map`](Self::Map). A probe on a part lengthens the operation.
    pub fn is_part_of_map(self) -> bool {
        matches!(self, Self::Allocate | Self::Link | Self::Sync)
    }

    /// The name in evidence: `attach`, `pin`, `map`, `allocate`, `link`, `sync`, `unmap` or `detach`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Pin => "pin",
            Self::Map => "map",
            Self::Allocate => "allocate",
            Self::Link => "link",
            Self::Sync => "sync",
            Self::Unmap => "unmap",
            Self::Detach => "detach",
        }
    }

    /// The kernel functions that perform the operation.
    pub fn functions(self) -> impl Iterator<Item = &'static str> {
        TIMED.iter().filter(move |function| function.operation == self).map(|function| function.symbol)
    }
}

impl fmt::Display for DmaBufOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Returns {
    Nothing,
    /// A pointer, which may encode an errno.
    Pointer,
    /// Zero, or a negative errno.
    Int,
    /// Whether the call succeeded.
    Bool,
}

impl Returns {
    /// The alternative argument lists of a return probe, as `probes` defines them.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[""],
            Self::Pointer => &["result=$retval:s64"],
            Self::Int => &["result=$retval:s32"],
            // The ABI defines only the lowest byte.
            Self::Bool => &["result=$retval:u8"],
        }
    }

    /// Whether a call with this result succeeded, and its errno. `result` is `None` if the trace does not contain the value.
    pub(crate) fn outcome(self, result: Option<i64>) -> (bool, Option<i32>) {
        match self {
            Self::Bool => (result.is_some_and(|result| result != 0), None),
            Self::Nothing | Self::Pointer | Self::Int => {
                let errno = result.and_then(calls::errno);
                (errno.is_none(), errno)
            }
        }
    }
}

/// A kernel function with a probe at its entry and at its return.
#[derive(Debug)]
pub(crate) struct TimedFunction {
    pub(crate) symbol: &'static str,
    pub(crate) operation: DmaBufOp,
    pub(crate) returns: Returns,
    /// The only caller whose calls count; `None` if every call counts. Drivers of other devices call the functions of the DMA API
    /// too, e.g. for blocks that the recorded thread reads from an NVMe drive.
    pub(crate) caller: Option<&'static str>,
}

const fn timed(symbol: &'static str, operation: DmaBufOp, returns: Returns) -> TimedFunction {
    TimedFunction { symbol, operation, returns, caller: None }
}

/// A function of the DMA API, called by the function that maps the BAR of a VFIO exporter (`drivers/dma-buf/dma-buf-mapping.c`).
const fn part_of_map(symbol: &'static str, operation: DmaBufOp, returns: Returns) -> TimedFunction {
    TimedFunction { symbol, operation, returns, caller: Some("dma_buf_phys_vec_to_sgt") }
}

/// The `_unlocked` variants call the functions without this suffix; only the outer call is counted.
pub(crate) static TIMED: &[TimedFunction] = &[
    timed("dma_buf_dynamic_attach", DmaBufOp::Attach, Returns::Pointer),
    timed("dma_buf_pin", DmaBufOp::Pin, Returns::Int),
    timed("dma_buf_map_attachment", DmaBufOp::Map, Returns::Pointer),
    timed("dma_buf_map_attachment_unlocked", DmaBufOp::Map, Returns::Pointer),
    part_of_map("dma_iova_try_alloc", DmaBufOp::Allocate, Returns::Bool),
    part_of_map("dma_iova_link", DmaBufOp::Link, Returns::Int),
    part_of_map("dma_iova_sync", DmaBufOp::Sync, Returns::Int),
    timed("dma_buf_unmap_attachment", DmaBufOp::Unmap, Returns::Nothing),
    timed("dma_buf_unmap_attachment_unlocked", DmaBufOp::Unmap, Returns::Nothing),
    timed("dma_buf_detach", DmaBufOp::Detach, Returns::Nothing),
];

/// Prefixes of the names of the probes at entry and return. A part of `map` has names of its own, because the probes that show
/// the path are on the same functions.
const PREFIXES: [[&str; 2]; 2] = [["in_", "out_"], ["timed_in_", "timed_out_"]];

/// The end of a call that a probe reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Entry,
    Return,
}

impl TimedFunction {
    fn prefixes(&self) -> [&'static str; 2] {
        PREFIXES[usize::from(self.operation.is_part_of_map())]
    }

    /// The names of the probes at entry and return.
    pub(crate) fn events(&self) -> [String; 2] {
        self.prefixes().map(|prefix| format!("{prefix}{}", self.symbol))
    }

    /// The function whose probe has this name, and which end of a call the probe reports.
    pub(crate) fn of_event(name: &str) -> Option<(&'static Self, End)> {
        TIMED.iter().find_map(|function| {
            let [entry, exit] = function.prefixes().map(|prefix| name.strip_prefix(prefix) == Some(function.symbol));
            let end = if entry { End::Entry } else { End::Return };
            (entry || exit).then_some((function, end))
        })
    }
}
