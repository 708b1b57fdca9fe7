//! The part of the buffer that a cell uses, filled before its transfers and verified after them.
//!
//! A window consists of slots, one per transfer in flight, between two guards. Both sides are filled: the sending side with new
//! data, the receiving side with other data, which the transfers must replace in the slots and must not change in the guards. So
//! the comparison finds data that is missing, misplaced or corrupted.
//!
//! A sending side that must not be written (the content of a drive) keeps its content. It is read before the transfers, and both
//! sides are compared with it.

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

/// How memory is accessed.
#[derive(Clone, Copy)]
pub enum Access<'a> {
    /// Directly, on this host.
    Local(&'a dyn View),
    /// Through a peer: the window with this index.
    Remote(&'a dyn RemoteMemory, u32),
}

impl Access<'_> {
    /// The window with this index of a peer's memory. A view of this host covers all windows.
    pub fn window(self, index: u32) -> Self {
        match self {
            Self::Local(view) => Self::Local(view),
            Self::Remote(remote, _) => Self::Remote(remote, index),
        }
    }
}

/// The two sides of a cell and the data in them.
pub struct Window<'a> {
    layout: &'a Layout,
    direction: Direction,
    near: Access<'a>,
    far: &'a dyn View,
    sent: Data,
    /// Data of the receiving side before the transfers.
    stale: Data,
}

impl<'a> Window<'a> {
    /// Fills both sides. Reads the sending side if it must not be written.
    ///
    /// # Errors
    /// A side could not be written or read.
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

    /// Compares both sides, guards included, with the state after `operations` operations. Returns the number of slot bytes that
    /// were compared.
    ///
    /// # Errors
    /// Wrong bytes, or a side that could not be read.
    pub fn verify(&self, operations: u64) -> Result<u64, VerifyError> {
        let used = self.layout.used_slots(operations);
        let (sender, receiver) = self.sides();
        receiver.compare(used, Expectation { slots: &self.sent, rest: &self.stale })?;
        sender.compare(used, Expectation { slots: &self.sent, rest: &self.sent })?;
        Ok(used * self.layout.size_bytes())
    }

    /// The sending side and the receiving side.
    fn sides(&self) -> (Memory<'a>, Memory<'a>) {
        let near = Memory::new(Side::Near, self.layout, self.near);
        let far = Memory::new(Side::Far, self.layout, Access::Local(self.far));
        match self.direction {
            Direction::IntoSource => (far, near),
            Direction::OutOfSource => (near, far),
        }
    }
}
