//! The data of a stream, filled before its transfers and verified after them.

use peerpath_exporter::View;
use peerpath_importers::{Direction, Op};

use crate::atomic_words::AtomicWords;
use crate::layout::Layout;
use crate::window::{Access, VerifyError, Window};

/// Bytes, or the words of atomic operations.
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

    /// Compares both sides with the state after `operations` operations. Returns the number of bytes compared.
    pub(super) fn verify(&self, operations: u64) -> Result<u64, VerifyError> {
        match self {
            Self::Bytes(window) => window.verify(operations),
            Self::Words(words) => words.verify(operations),
        }
    }
}
