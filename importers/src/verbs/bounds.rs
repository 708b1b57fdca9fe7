//! What a transfer has to fit into. It is checked before anything is posted: a device answers a misfit with the end of the
//! connection.

use crate::Transfer;

/// The room for transfers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Length of the buffer.
    pub(super) buffer_bytes: u64,
    /// Length of the far side.
    pub(super) far_bytes: u64,
    /// Longest message that the port carries.
    pub(super) message_bytes: u32,
}

impl Bounds {
    /// Whether it lies within both sides and goes into one message.
    #[inline]
    pub(super) fn admit(&self, transfer: &Transfer) -> bool {
        let length = u64::from(transfer.length_bytes);
        let within = |offset: u64, total: u64| length <= total && offset <= total - length;
        length != 0
            && transfer.length_bytes <= self.message_bytes
            && within(transfer.buffer_offset, self.buffer_bytes)
            && within(transfer.far_offset, self.far_bytes)
    }

    /// Why it was not admitted.
    #[cold]
    pub(super) fn misfit(&self, transfer: &Transfer) -> String {
        let Transfer { buffer_offset, far_offset, length_bytes, .. } = *transfer;
        if length_bytes == 0 {
            "it has no length".to_owned()
        } else if length_bytes > self.message_bytes {
            format!("{length_bytes} bytes are more than the {} of one message", self.message_bytes)
        } else {
            format!(
                "{length_bytes} bytes at {buffer_offset:#x} of {:#x} in the buffer and at {far_offset:#x} of {:#x} on the \
                 far side",
                self.buffer_bytes, self.far_bytes
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { buffer_bytes: 8192, far_bytes: 4096, message_bytes: 4096 };

    fn transfer(buffer_offset: u64, far_offset: u64, length_bytes: u32) -> Transfer {
        Transfer { id: 0, op: Op::Write, buffer_offset, far_offset, length_bytes }
    }

    #[test]
    fn the_last_byte_of_both_sides_can_be_reached() {
        assert!(BOUNDS.admit(&transfer(0, 0, 4096)));
        assert!(BOUNDS.admit(&transfer(4096, 0, 4096)));
        assert!(BOUNDS.admit(&transfer(8191, 4095, 1)));
    }

    #[test]
    fn a_misfit_says_what_does_not_fit() {
        for (misfit, why) in [
            (transfer(0, 0, 0), "no length"),
            (transfer(0, 0, 4097), "one message"),
            (transfer(4097, 0, 4096), "in the buffer"),
            (transfer(0, 1, 4096), "far side"),
            (transfer(u64::MAX, 0, 1), "in the buffer"),
            (transfer(0, u64::MAX - 4095, 4096), "far side"),
        ] {
            assert!(!BOUNDS.admit(&misfit), "{misfit:?}");
            assert!(BOUNDS.misfit(&misfit).contains(why), "{}", BOUNDS.misfit(&misfit));
        }
        assert!(!Bounds { buffer_bytes: 0, far_bytes: 0, message_bytes: 1 }.admit(&transfer(0, 0, 1)));
    }

    proptest! {
        #[test]
        fn arithmetic_without_limits_agrees(
            sizes in (any::<u64>(), any::<u64>(), any::<u32>()),
            (buffer_offset, far_offset, length) in (any::<u64>(), any::<u64>(), any::<u32>()),
        ) {
            let (buffer_bytes, far_bytes, message_bytes) = sizes;
            let end = |offset: u64| u128::from(offset) + u128::from(length);
            let expected = length > 0
                && length <= message_bytes
                && end(buffer_offset) <= u128::from(buffer_bytes)
                && end(far_offset) <= u128::from(far_bytes);
            let bounds = Bounds { buffer_bytes, far_bytes, message_bytes };
            prop_assert_eq!(bounds.admit(&transfer(buffer_offset, far_offset, length)), expected);
        }
    }
}
