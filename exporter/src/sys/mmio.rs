//! Copies to and from MMIO, and to and from host memory that devices access.
//!
//! Every access is volatile and naturally aligned, and 8 bytes wide if alignment and length allow. Unaligned or vector accesses
//! to a BAR may be split or fault. Volatile accesses keep the compiler from repeating or merging reads of memory that a device
//! changes.

use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

/// Returns the width in bytes of the widest access that the alignment of `address` and the `left` remaining bytes allow.
#[inline]
fn width(address: usize, left: usize) -> usize {
    [8, 4, 2].into_iter().find(|&width| address.is_multiple_of(width) && left >= width).unwrap_or(1)
}

/// Copies bytes from memory that devices may change.
///
/// # Safety
/// `from` must be mapped readable for the length of `into` during the call.
pub(crate) unsafe fn copy_out(from: NonNull<u8>, into: &mut [u8]) {
    // Order the reads after the caller's read of the completion that reported the data.
    fence(Ordering::SeqCst);
    let mut done = 0;
    while done < into.len() {
        // SAFETY: `done` stays below the length that the caller guarantees.
        let at = unsafe { from.as_ptr().add(done) };
        let width = width(at.addr(), into.len() - done);
        // SAFETY: aligned to `width` and within the mapping, by the choice of `width`.
        let word = unsafe { load(at, width) };
        spread(word, &mut into[done..done + width]);
        done += width;
    }
}

/// Copies bytes to memory that devices may read. With `flush`, reads the last bytes back: a read of MMIO completes only after
/// the posted writes before it.
///
/// # Safety
/// `to` must be mapped readable and writable for the length of `from` during the call.
pub(crate) unsafe fn copy_in(to: NonNull<u8>, from: &[u8], flush: bool) {
    let mut done = 0;
    let mut last = None;
    while done < from.len() {
        // SAFETY: `done` stays below the length that the caller guarantees.
        let at = unsafe { to.as_ptr().add(done) };
        let width = width(at.addr(), from.len() - done);
        // SAFETY: aligned to `width` and within the mapping, by the choice of `width`.
        unsafe { store(at, width, gather(&from[done..done + width])) };
        last = Some((at, width));
        done += width;
    }
    // The fence also drains write-combining buffers.
    fence(Ordering::SeqCst);
    if let Some((at, width)) = last.filter(|_| flush) {
        // SAFETY: the address that was just written.
        unsafe { load(at, width) };
    }
}

/// Copies bytes between two areas of memory that devices may access. For `flush`, see [`copy_in`].
///
/// # Safety
/// `from` must be mapped readable and `to` readable and writable for `length` bytes during the call.
pub(crate) unsafe fn copy(from: NonNull<u8>, to: NonNull<u8>, length: usize, flush: bool) {
    fence(Ordering::SeqCst);
    let mut done = 0;
    let mut last = None;
    while done < length {
        // SAFETY: `done` stays below the length that the caller guarantees.
        let (source, sink) = unsafe { (from.as_ptr().add(done), to.as_ptr().add(done)) };
        // The width must suit the alignment of both addresses.
        let width = width(source.addr() | sink.addr(), length - done);
        // SAFETY: aligned to `width` and within the mappings, by the choice of `width`.
        unsafe { store(sink, width, load(source, width)) };
        last = Some((sink, width));
        done += width;
    }
    fence(Ordering::SeqCst);
    if let Some((at, width)) = last.filter(|_| flush) {
        // SAFETY: the address that was just written.
        unsafe { load(at, width) };
    }
}

/// Stores the low bytes of `word` in `into`. One case per width avoids a call of `memcpy`.
#[inline]
fn spread(word: u64, into: &mut [u8]) {
    match into.len() {
        8 => into.copy_from_slice(&word.to_ne_bytes()),
        4 => into.copy_from_slice(&(word as u32).to_ne_bytes()),
        2 => into.copy_from_slice(&(word as u16).to_ne_bytes()),
        _ => into[0] = word as u8,
    }
}

/// Returns the integer whose bytes in memory are `from`.
#[inline]
fn gather(from: &[u8]) -> u64 {
    match *from {
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
        [a, b] => u16::from_ne_bytes([a, b]).into(),
        _ => from[0].into(),
    }
}

/// # Safety
/// `at` must be mapped readable and aligned for `width` bytes.
unsafe fn load(at: *mut u8, width: usize) -> u64 {
    // SAFETY: forwarded from the caller.
    unsafe {
        match width {
            8 => at.cast::<u64>().read_volatile(),
            4 => at.cast::<u32>().read_volatile().into(),
            2 => at.cast::<u16>().read_volatile().into(),
            _ => at.read_volatile().into(),
        }
    }
}

/// # Safety
/// `at` must be mapped writable and aligned for `width` bytes.
unsafe fn store(at: *mut u8, width: usize, value: u64) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match width {
            8 => at.cast::<u64>().write_volatile(value),
            4 => at.cast::<u32>().write_volatile(value as u32),
            2 => at.cast::<u16>().write_volatile(value as u16),
            _ => at.write_volatile(value as u8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chooses_the_widest_aligned_access() {
        assert_eq!(width(0x1000, 100), 8);
        assert_eq!(width(0x1004, 100), 4);
        assert_eq!(width(0x1006, 100), 2);
        assert_eq!(width(0x1007, 100), 1);
        assert_eq!(width(0x1000, 7), 4);
        assert_eq!(width(0x1000, 1), 1);
    }

    proptest! {
        #[test]
        fn copies_like_memcpy(start in 0usize..24, other_start in 0usize..24, bytes in proptest::collection::vec(any::<u8>(), 0..96), flush: bool) {
            let mut memory = [0xee_u8; 128];
            let at = NonNull::new(memory.as_mut_ptr()).unwrap();
            // SAFETY: `start` plus the length is at most 24 + 96 < 128.
            unsafe { copy_in(at.add(start), &bytes, flush) };
            let mut back = vec![0; bytes.len()];
            // SAFETY: as above.
            unsafe { copy_out(at.add(start), &mut back) };
            prop_assert_eq!(&back, &bytes);
            let mut other = [0xdd_u8; 128];
            let there = NonNull::new(other.as_mut_ptr()).unwrap();
            // SAFETY: both starts plus the length are at most 24 + 96 < 128.
            unsafe { copy(at.add(start), there.add(other_start), bytes.len(), flush) };
            prop_assert_eq!(&other[other_start..other_start + bytes.len()], &bytes);
            prop_assert!(other[..other_start].iter().chain(&other[other_start + bytes.len()..]).all(|&byte| byte == 0xdd));
            prop_assert!(memory[..start].iter().chain(&memory[start + bytes.len()..]).all(|&byte| byte == 0xee));
        }
    }
}
