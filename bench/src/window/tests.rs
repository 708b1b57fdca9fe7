//! Tests that the verification detects corrupted, misplaced and missing data.

use std::io;

use super::*;
use crate::testing::Bytes;
use peerpath_importers::{Op, Transfer};
use proptest::prelude::*;

/// Memory that must not be written, e.g. the content of a drive.
struct ReadOnly(Bytes);

impl View for ReadOnly {
    fn length_bytes(&self) -> u64 {
        self.0.length_bytes()
    }
    fn is_writable(&self) -> bool {
        false
    }
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, into)
    }
    fn write(&self, _offset: u64, _from: &[u8]) -> io::Result<()> {
        panic!("the memory must not be written")
    }
}

/// Performs a transfer, but writes its data `shift` bytes after the correct destination.
fn perform(transfer: Transfer, direction: Direction, near: &Bytes, far: &Bytes, shift: u64) {
    let mut bytes = vec![0; transfer.length_bytes as usize];
    let (from, to) = match direction {
        Direction::IntoSource => (far, near),
        Direction::OutOfSource => (near, far),
    };
    from.read(transfer.far_offset, &mut bytes).unwrap();
    to.write(transfer.buffer_offset + shift, &bytes).unwrap();
}

const DIRECTIONS: [Direction; 2] = [Direction::IntoSource, Direction::OutOfSource];

proptest! {
    #[test]
    fn accepts_right_data_and_finds_one_changed_byte(
        size in 1u64..5000, wanted in 1u32..5, operations in 0u64..8, victim: prop::sample::Index, near_side: bool,
    ) {
        for direction in DIRECTIONS {
            let layout = Layout::new(size, wanted, 40_000).unwrap();
            let (near, far) = (Bytes::new(40_000), Bytes::new(layout.length_bytes()));
            let window = Window::fill(&layout, direction, Access::Local(&near), &far).unwrap();
            for turn in 0..operations {
                perform(layout.transfer(Op::Write, turn), direction, &near, &far, 0);
            }
            prop_assert_eq!(window.verify(operations).unwrap(), layout.used_slots(operations) * size);

            let side = if near_side { &near } else { &far };
            let victim = victim.index(layout.length_bytes() as usize);
            side.0.lock().unwrap()[victim] ^= 0x40;
            prop_assert!(matches!(window.verify(operations), Err(VerifyError::Mismatch(_))));
        }
    }
}

#[test]
fn a_read_only_side_sends_its_content() {
    let direction = Direction::IntoSource;
    let layout = Layout::new(4096, 3, 40_000).unwrap();
    let (near, far) = (Bytes::new(40_000), ReadOnly(Bytes::new(40_000)));
    Pattern::random().fill(0, &mut far.0.0.lock().unwrap());
    let before = far.0.0.lock().unwrap().clone();
    let window = Window::fill(&layout, direction, Access::Local(&near), &far).unwrap();
    assert!(window.verify(1).is_err(), "no data was transferred yet");
    for turn in 0..2 {
        perform(layout.transfer(Op::Read, turn), direction, &near, &far.0, 0);
    }
    assert_eq!(window.verify(2).unwrap(), 8192);
    assert!(window.verify(3).is_err(), "the third transfer is missing");
    assert_eq!(*far.0.0.lock().unwrap(), before);
    for (victim, side) in [(5000, &near), (5000, &far.0), (100, &near), (100, &far.0)] {
        side.0.lock().unwrap()[victim] ^= 0x40;
        assert!(window.verify(2).is_err(), "{victim}");
        side.0.lock().unwrap()[victim] ^= 0x40;
    }
    window.verify(2).unwrap();
}

#[test]
fn finds_missing_stale_and_shifted_data() {
    for direction in DIRECTIONS {
        let layout = Layout::new(256, 2, 40_000).unwrap();
        let (near, far) = (Bytes::new(40_000), Bytes::new(40_000));
        let window = Window::fill(&layout, direction, Access::Local(&near), &far).unwrap();
        let is_missing = |checked| matches!(checked, Err(VerifyError::Mismatch(Mismatch { missing: true, .. })));
        perform(layout.transfer(Op::Write, 0), direction, &near, &far, 0);
        assert!(is_missing(window.verify(2)), "the second transfer is missing");
        perform(layout.transfer(Op::Write, 1), direction, &near, &far, 0);
        window.verify(2).unwrap();
        let window = Window::fill(&layout, direction, Access::Local(&near), &far).unwrap();
        assert!(window.verify(2).is_err(), "the data is from before");
        for turn in 0..2 {
            perform(layout.transfer(Op::Write, turn), direction, &near, &far, 64);
        }
        let shifted = window.verify(2);
        assert!(shifted.is_err() && !is_missing(shifted), "one cache line too far");
    }
}
