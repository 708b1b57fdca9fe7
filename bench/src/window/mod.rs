//! A window: the part of the buffer that a cell uses. It is filled before the transfers and verified after them.
//!
//! A window consists of slots, one per transfer in flight, between two guards. Both sides are filled: the sending side with new
//! data, the receiving side with other data. The transfers must replace that other data in the slots and must not change it in
//! the guards. So the comparison detects missing, misplaced and corrupted data.
//!
//! Some sending sides must not be written, e.g. the content of a drive. Such a side is read before the transfers, and both
//! sides are compared with what was read.

mod error;
mod memory;
#[cfg(test)]
mod tests;

use peerpath_exporter::View;
use peerpath_importers::Direction;

use crate::layout::Layout;
use crate::pattern::Pattern;
use crate::peer::remote_memory::RemoteMemory;
pub use error::{Mismatch, VerifyError};
pub use memory::Memory;
use memory::{Data, Expectation, Side};

/// Access to the exported memory.
#[derive(Clone, Copy)]
pub enum Access<'a> {
    /// Direct access on this host.
    Local(&'a dyn View),
    /// Access through a peer, to the window with this index.
    Remote(&'a dyn RemoteMemory, u32),
}

impl Access<'_> {
    /// Selects the window with this index in a peer's memory. A local view covers all windows, so it is returned unchanged.
    pub fn window(self, index: u32) -> Self {
        match self {
            Self::Local(view) => Self::Local(view),
            Self::Remote(remote, _) => Self::Remote(remote, index),
        }
    }
}

/// The memory of both sides of a cell, and the data that it contains.
pub struct Window<'a> {
    layout: &'a Layout,
    direction: Direction,
    near: Access<'a>,
    far: &'a dyn View,
    sent: Data,
    /// Data in the receiving side's memory before the transfers.
    stale: Data,
}

impl<'a> Window<'a> {
    /// Fills the memory of both sides. If the sending side must not be written, reads it instead.
    ///
    /// # Errors
    /// Reading or writing the memory of either side fails.
    pub fn fill(
        layout: &'a Layout,
        direction: Direction,
        near: Access<'a>,
        far: &'a dyn View,
    ) -> Result<Self, VerifyError> {
        let random = || Data::Pattern(Pattern::random());
        let mut window = Self { layout, direction, near, far, sent: random(), stale: random() };
        let (sender, receiver) = window.sides();
        receiver.write(&window.stale)?;
        match sender.access() {
            Access::Local(view) if !view.is_writable() => window.sent = Data::Content(sender.read(view)?),
            _ => sender.write(&window.sent)?,
        }
        Ok(window)
    }

    /// Compares both sides, including the guards, with the expected state after `operations` operations. Returns the number of
    /// compared bytes in slots.
    ///
    /// # Errors
    /// Some bytes are wrong, or reading the memory of either side fails.
    pub fn verify(&self, operations: u64) -> Result<u64, VerifyError> {
        let used = self.layout.used_slots(operations);
        let (sender, receiver) = self.sides();
        receiver.compare(used, Expectation { slots: &self.sent, rest: &self.stale })?;
        sender.compare(used, Expectation { slots: &self.sent, rest: &self.sent })?;
        Ok(used * self.layout.size_bytes())
    }

    /// Returns the sending side and the receiving side, in this order.
    fn sides(&self) -> (Memory<'a>, Memory<'a>) {
        let near = Memory::new(Side::Near, self.layout, self.near);
        let far = Memory::new(Side::Far, self.layout, Access::Local(self.far));
        match self.direction {
            Direction::IntoSource => (far, near),
            Direction::OutOfSource => (near, far),
        }
    }
}
