//! Bounds of transfers, checked before posting: a transfer outside a memory region would move the queue pair to the error
//! state.

use super::errors::Error;
use super::sys::Keys;
use crate::{Op, Region, Transfer, Transport};

/// Part of the buffer or of initiator memory that is one memory region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    start: u64,
    length_bytes: u64,
    keys: Keys,
}

impl Part {
    /// Creates consecutive parts from the length and the keys of each region.
    pub(super) fn in_a_row(regions: impl Iterator<Item = (u64, Keys)>) -> Vec<Self> {
        let mut end = 0;
        let part = |(length_bytes, keys)| {
            let start = end;
            end += length_bytes;
            Self { start, length_bytes, keys }
        };
        regions.map(part).collect()
    }

    /// Returns the description of the region that the endpoint sends to a peer.
    pub(super) fn region(&self) -> Region {
        Region { length_bytes: self.length_bytes, address: self.keys.base, key: self.keys.remote }
    }
}

/// Memory regions of both sides, and the limits of the connection.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) transport: Transport,
    /// Whether the device supports atomic operations.
    pub(super) atomics: bool,
    /// Parts of the buffer, in order.
    pub(super) buffer: Vec<Part>,
    /// Parts of initiator memory, in order.
    pub(super) far: Vec<Part>,
    /// Maximum message size of the port, in bytes.
    pub(super) message_bytes: u32,
}

/// Address and keys of a span of memory in work requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: u64,
    pub(super) keys: Keys,
}

/// Spans of a transfer in the buffer and in initiator memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) buffer: Place,
    pub(super) far: Place,
}

/// Returns the last part that starts at or before the offset.
#[inline]
fn part(parts: &[Part], offset: u64) -> Option<&Part> {
    parts[..parts.partition_point(|part| part.start <= offset)].last()
}

/// Returns the address of a span. `None` if the span does not lie within one part.
#[inline]
pub(super) fn place(parts: &[Part], offset: u64, length: u64) -> Option<Place> {
    let part = part(parts, offset)?;
    let in_part = offset - part.start;
    let fits = length <= part.length_bytes && in_part <= part.length_bytes - length;
    fits.then(|| Place { address: part.keys.base + in_part, keys: part.keys })
}

fn total_bytes(parts: &[Part]) -> u64 {
    parts.last().map_or(0, |part| part.start + part.length_bytes)
}

impl Bounds {
    /// Returns the addresses of a transfer. `None` if the transfer does not lie within one region on each side, exceeds one
    /// message, or needs an op that the transport or the device lacks.
    #[inline]
    pub(super) fn admit(&self, transfer: &Transfer) -> Option<Places> {
        let length = u64::from(transfer.length_bytes);
        if length == 0 || transfer.length_bytes > self.message_bytes {
            return None;
        }
        let buffer = place(&self.buffer, transfer.buffer_offset, length)?;
        let places = Places { buffer, far: place(&self.far, transfer.far_offset, length)? };
        let can = self.transport.has(transfer.op) && (!transfer.op.is_atomic() || self.can_be_atomic(length, &places));
        can.then_some(places)
    }

    fn can_be_atomic(&self, length: u64, places: &Places) -> bool {
        self.atomics && length == 8 && places.buffer.address.is_multiple_of(8) && places.far.address.is_multiple_of(8)
    }

    /// Returns the error for a transfer that `admit` rejected.
    #[cold]
    pub(super) fn rejection(&self, transfer: &Transfer, device: &str) -> Error {
        let Transfer { buffer_offset, far_offset, length_bytes, .. } = *transfer;
        if length_bytes > self.message_bytes {
            return Error::Message { device: device.to_owned(), length_bytes, limit_bytes: self.message_bytes };
        }
        let (buffer_bytes, far_bytes) = (total_bytes(&self.buffer), total_bytes(&self.far));
        let end = buffer_offset.saturating_add(length_bytes.into());
        let fits = |parts, offset| place(parts, offset, length_bytes.into()).is_some();
        let why = if length_bytes == 0 {
            "its length is zero".to_owned()
        } else if fits(&self.buffer, buffer_offset) && fits(&self.far, far_offset) {
            return self.cannot(transfer.op, device);
        } else if end <= buffer_bytes && part(&self.buffer, buffer_offset) != part(&self.buffer, end - 1) {
            format!("{length_bytes} bytes at {buffer_offset:#x} of the buffer span more than one memory region")
        } else {
            format!(
                "{length_bytes} bytes at {buffer_offset:#x} of {buffer_bytes:#x} in the buffer and at {far_offset:#x} of \
                 {far_bytes:#x} of initiator memory"
            )
        };
        Error::Transfer { why }
    }

    /// Returns the error for a transfer within the bounds whose op the transport or the device does not support.
    fn cannot(&self, op: Op, device: &str) -> Error {
        if self.transport != Transport::Rc {
            Error::Transport { op, transport: self.transport }
        } else if !self.atomics {
            Error::NoAtomics { device: device.to_owned() }
        } else {
            Error::Transfer { why: format!("`{op}` needs a length of 8 bytes and offsets that are a multiple of 8") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerpath_paths::{Cause, Explained as _, Severity};
    use proptest::prelude::*;

    /// Address of initiator memory in these tests.
    const FAR: u64 = 1 << 20;

    fn keys(base: u64) -> Keys {
        Keys { base, local: 1, remote: 2 }
    }

    /// Creates bounds of a buffer with regions of these lengths. The upper 32 bits of an address are the index of the region.
    fn bounds(lengths: &[u64], far_bytes: u64, message_bytes: u32) -> Bounds {
        let regions = lengths.iter().enumerate().map(|(index, length)| (*length, keys((index as u64) << 32)));
        let far = Part::in_a_row([(far_bytes, keys(FAR))].into_iter());
        Bounds { transport: Transport::Rc, atomics: true, buffer: Part::in_a_row(regions), far, message_bytes }
    }

    fn transfer(buffer_offset: u64, far_offset: u64, length_bytes: u32) -> Transfer {
        Transfer::new(0, Op::Write, buffer_offset, far_offset, length_bytes)
    }

    #[test]
    fn admits_the_last_byte_of_both_sides() {
        let bounds = bounds(&[8192], 4096, 4096);
        for (buffer_offset, far_offset, length) in [(0, 0, 4096), (4096, 0, 4096), (8191, 4095, 1)] {
            let place = bounds.admit(&transfer(buffer_offset, far_offset, length));
            let buffer = Place { address: buffer_offset, keys: keys(0) };
            let far = Place { address: FAR + far_offset, keys: keys(FAR) };
            assert_eq!(place, Some(Places { buffer, far }));
        }
    }

    #[test]
    fn rejection_names_the_exceeded_bound() {
        let bounds = bounds(&[4096, 4096], 4096, 4096);
        for (rejected, why) in [
            (transfer(0, 0, 0), "length is zero"),
            (transfer(0, 0, 4097), "in one message"),
            (transfer(8000, 0, 4096), "in the buffer"),
            (transfer(0, 1, 4096), "initiator memory"),
            (transfer(1, 0, 4096), "more than one memory region"),
            (transfer(u64::MAX, 0, 1), "in the buffer"),
            (transfer(0, u64::MAX - 4095, 4096), "initiator memory"),
        ] {
            assert_eq!(bounds.admit(&rejected), None, "{rejected:?}");
            let text = bounds.rejection(&rejected, "rxe0").to_string();
            assert!(text.contains(why), "{text}");
        }
        let nothing = Bounds { buffer: Vec::new(), far: Vec::new(), ..bounds };
        assert_eq!(nothing.admit(&transfer(0, 0, 1)), None);
        nothing.rejection(&transfer(0, 0, 1), "rxe0");
    }

    #[test]
    fn too_long_a_message_exceeds_a_limit() {
        let error = bounds(&[8192], 8192, 4096).rejection(&transfer(0, 0, 8192), "rxe0");
        assert_eq!((error.severity(), error.explanation().cause), (Severity::Unavailable, Some(Cause::LimitReached)));
    }

    #[test]
    fn each_transport_supports_its_operations() {
        let reliable = bounds(&[4096], 4096, 4096);
        let over = |transport| Bounds { transport, ..reliable.clone() };
        let (uc, ud) = (over(Transport::Uc), over(Transport::Ud));
        let none = Bounds { atomics: false, ..reliable.clone() };
        for op in [Op::Write, Op::WriteImm, Op::Read, Op::Send, Op::FetchAdd, Op::CmpSwap] {
            let word = Transfer::new(0, op, 8, 16, 8);
            assert!(reliable.admit(&word).is_some(), "{op}");
            let writes = matches!(op, Op::Write | Op::WriteImm);
            assert_eq!(
                (uc.admit(&word).is_some(), ud.admit(&word).is_some()),
                (writes || op == Op::Send, op == Op::Send)
            );
            assert_eq!(none.admit(&word).is_none(), op.is_atomic(), "{op}");
            let long = Transfer { length_bytes: 16, ..word };
            let askew = [Transfer { buffer_offset: 4, ..word }, Transfer { far_offset: 4, ..word }, long];
            assert!(askew.iter().all(|word| reliable.admit(word).is_none() == op.is_atomic()), "{op}");
        }
        let word = Transfer::new(0, Op::FetchAdd, 4, 0, 8);
        let text = |bounds: &Bounds| bounds.rejection(&word, "rxe0").to_string();
        assert!(text(&reliable).contains("multiple of 8"), "{}", text(&reliable));
        assert!(matches!(uc.rejection(&word, "rxe0"), Error::Transport { .. }));
        assert!(matches!(none.rejection(&word, "rxe0"), Error::NoAtomics { .. }));
    }

    #[test]
    fn finds_the_region_of_an_offset() {
        let bounds = bounds(&[4096, 8192, 4096], 8192, 8192);
        for (offset, length, region, in_region) in
            [(0, 4096, 0, 0), (4096, 8192, 1, 0), (8192, 4096, 1, 4096), (12_288, 1, 2, 0), (16_383, 1, 2, 4095)]
        {
            let place = bounds.admit(&transfer(offset, 0, length)).unwrap();
            assert_eq!(place.buffer.address, (region << 32) + in_region, "{offset}");
        }
        for (offset, length) in [(0, 4097), (12_287, 2), (16_384, 1)] {
            assert_eq!(bounds.admit(&transfer(offset, 0, length)), None, "{offset}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_wide_arithmetic(
            // Limit the length of initiator memory so that its addresses fit 64 bits.
            sizes in (any::<u64>(), 0..u64::MAX - FAR, any::<u32>()),
            (buffer_offset, far_offset, length) in (any::<u64>(), any::<u64>(), any::<u32>()),
        ) {
            let (buffer_bytes, far_bytes, message_bytes) = sizes;
            let end = |offset: u64| u128::from(offset) + u128::from(length);
            let expected = length > 0
                && length <= message_bytes
                && end(buffer_offset) <= u128::from(buffer_bytes)
                && end(far_offset) <= u128::from(far_bytes);
            let bounds = bounds(&[buffer_bytes], far_bytes, message_bytes);
            prop_assert_eq!(bounds.admit(&transfer(buffer_offset, far_offset, length)).is_some(), expected);
        }

        #[test]
        fn admits_only_what_lies_in_one_region(
            lengths in proptest::collection::vec(1u64..20, 1..6), offset in 0u64..130, length in 1u32..30,
        ) {
            let bounds = bounds(&lengths, 1000, 1000);
            let owner: Vec<usize> =
                lengths.iter().enumerate().flat_map(|(index, &length)| (0..length).map(move |_| index)).collect();
            let span = owner.get(offset as usize..offset as usize + length as usize);
            let expected = span.is_some_and(|span| span.iter().all(|region| *region == span[0]));
            let place = bounds.admit(&transfer(offset, 0, length));
            prop_assert_eq!(place.is_some(), expected);
            if let Some(place) = place {
                prop_assert_eq!((place.buffer.address >> 32) as usize, owner[offset as usize]);
            }
        }
    }
}
