//! Test data of a stream. It is written before the transfers and verified after them.

use peerpath_exporter::View;
use peerpath_importers::{Direction, Op};

use crate::atomic_words::AtomicWords;
use crate::layout::Layout;
use crate::window::{Access, VerifyError, Window};

/// Kind of test data: a window of bytes, or the 8-byte values of atomic operations.
pub(super) enum Check<'a> {
    Bytes(Window<'a>),
    Words(AtomicWords<'a>),
}

impl<'a> Check<'a> {
    pub(super) fn fill(
        op: Op,
        layout: &'a Layout,
        direction: Direction,
        near: Access<'a>,
        far: &'a dyn View,
    ) -> Result<Self, VerifyError> {
        Ok(if op.is_atomic() {
            Self::Words(AtomicWords::fill(layout, near, far)?)
        } else {
            Self::Bytes(Window::fill(layout, direction, near, far)?)
        })
    }

    /// Compares the memory of both sides with the expected state after `operations` operations. Returns the number of compared
    /// bytes.
    pub(super) fn verify(&self, operations: u64) -> Result<u64, VerifyError> {
        match self {
            Self::Bytes(window) => window.verify(operations),
            Self::Words(words) => words.verify(operations),
        }
    }
}
