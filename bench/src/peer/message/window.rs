//! Messages about windows and their content.

use serde::{Deserialize, Serialize};

use super::default::is_default;
use crate::layout::Layout;

/// The windows of a cell in the server's buffer. All windows have the same slots; each lane has one window per direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowLayout {
    /// Length of a window, in bytes.
    pub length_bytes: u64,
    /// Length of a slot, in bytes.
    pub slot_bytes: u64,
    /// Offsets of the slots in a window, in ascending order. Operation `n` uses the slot with index `n` modulo the number of
    /// slots.
    pub slots: Vec<u64>,
    /// Offsets of the windows in the buffer: one or two per lane.
    #[serde(default = "one_at_start", skip_serializing_if = "is_one_at_start")]
    pub starts: Vec<u64>,
}

impl WindowLayout {
    /// Converts layouts that differ only in their start offsets. `None` for an empty list.
    pub fn of(layouts: &[Layout]) -> Option<Self> {
        let first = layouts.first()?;
        Some(Self {
            length_bytes: first.length_bytes(),
            slot_bytes: first.size_bytes(),
            slots: first.slot_offsets().to_vec(),
            starts: layouts.iter().map(Layout::near_start).collect(),
        })
    }

    /// Converts the windows to layouts. `None` if slots or windows overlap or are out of order.
    pub fn layouts(&self) -> Option<Vec<Layout>> {
        Layout::at(&self.starts, self.slots.clone(), self.slot_bytes, self.length_bytes)
    }
}

fn one_at_start() -> Vec<u64> {
    vec![0]
}

fn is_one_at_start(starts: &[u64]) -> bool {
    starts == [0]
}

/// Request to fill all bytes of a window with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Index of the window.
    #[serde(default, skip_serializing_if = "is_default")]
    pub window: u32,
    /// Seed of the pattern.
    pub seed: u64,
    /// 8-byte values of atomic operations, to be written to the slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<AtomicState>,
}

/// The 8-byte values of atomic operations. The value of slot `s` is `first` plus `s` times 2^32 plus the number of operations
/// on the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtomicState {
    /// 8-byte value of the first slot before any operation.
    pub first: u64,
    /// Total number of operations. They use the slots in turn.
    pub operations: u64,
}

/// Request to compare a window with the expected content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// Index of the window.
    #[serde(default, skip_serializing_if = "is_default")]
    pub window: u32,
    /// Number of used slots, counted from the first.
    pub used: u64,
    /// Seed of the pattern in the used slots.
    pub slots_seed: u64,
    /// Seed of the pattern everywhere else.
    pub rest_seed: u64,
    /// 8-byte values of atomic operations in all slots. Replaces `used` and `slots_seed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<AtomicState>,
}
