//! The exporter's own look at exported bytes: the processor's mapping of the BAR.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::Device;
use super::regions::Region;
use crate::range::total_bytes;
use crate::sys::mapping::Mapping;
use crate::sys::vfio as sys;
use crate::{BarRange, Error, View, check_span, page_bytes};

/// The mapped parts of a BAR's ranges; what cannot be mapped is reached through the device's fd.
#[derive(Debug)]
pub(crate) struct Windows {
    // Unmapped before the device is closed.
    windows: Vec<Window>,
    device: Arc<Device>,
    fd_offset: u64,
}

#[derive(Debug)]
struct Window {
    start: u64,
    mapping: Mapping,
}

impl Windows {
    pub(crate) fn map(device: Arc<Device>, region: &Region, ranges: &[BarRange]) -> Result<Self, Error> {
        let page_bytes = page_bytes();
        let mut windows = Vec::new();
        for range in ranges {
            for area in &region.mappable {
                let start = range.offset_bytes.max(area.start).next_multiple_of(page_bytes);
                let end = (range.offset_bytes + range.length_bytes).min(area.end) / page_bytes * page_bytes;
                if start < end {
                    let mapping = Mapping::shared(device.fd(), region.fd_offset + start, end - start)
                        .map_err(device.failed("mapping the BAR"))?;
                    windows.push(Window { start, mapping });
                }
            }
        }
        Ok(Self { windows, fd_offset: region.fd_offset, device })
    }
}

impl Window {
    fn span(&self) -> Range<u64> {
        self.start..self.start + self.mapping.length_bytes() as u64
    }
}

/// A contiguous part of a view's span: in one range of the BAR, and within one window or outside all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// The window's index.
    window: Option<usize>,
    /// Where it starts in the BAR.
    in_bar: u64,
    /// Where it lies in the span.
    place: Range<usize>,
}

/// Cuts the span into pieces. It must lie within the ranges.
fn pieces(ranges: &[BarRange], windows: &[Range<u64>], offset: u64, length: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut range_start, mut done) = (0, 0);
    for range in ranges {
        let range_end = range_start + range.length_bytes;
        while done < length && offset + (done as u64) < range_end {
            let at = offset + done as u64;
            let in_bar = range.offset_bytes + (at - range_start);
            let window = windows.iter().position(|window| window.contains(&in_bar));
            let starts = windows.iter().map(|window| window.start).filter(|&start| start > in_bar);
            let end = window.map_or_else(|| starts.min().unwrap_or(u64::MAX), |window| windows[window].end);
            let count = (end - in_bar).min(range_end - at);
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(length - done);
            pieces.push(Piece { window, in_bar, place: done..done + count });
            done += count;
        }
        range_start = range_end;
    }
    pieces
}

/// The bytes of a list of ranges, one behind the other as in the dma-buf.
#[derive(Debug)]
pub(crate) struct BarView {
    pub(crate) windows: Arc<Windows>,
    pub(crate) ranges: Vec<BarRange>,
}

impl BarView {
    /// The pieces of a span that lies within the view, once it is safe to touch them.
    fn pieces(&self, offset: u64, length: usize) -> io::Result<Vec<Piece>> {
        check_span(offset, length, self.length_bytes())?;
        if length == 0 {
            return Ok(Vec::new());
        }
        self.require_memory()?;
        let windows: Vec<_> = self.windows.windows.iter().map(Window::span).collect();
        Ok(pieces(&self.ranges, &windows, offset, length))
    }

    /// A mapped access to a function that does not answer would end this process with SIGBUS. The function can still be
    /// switched off between this look and the access, but only by somebody else than us: VFIO gives it to one process.
    fn require_memory(&self) -> io::Result<()> {
        match self.windows.device.memory_enabled() {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::Error::other(format!("memory decoding of {} is off", self.windows.device.bdf()))),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl View for BarView {
    fn length_bytes(&self) -> u64 {
        total_bytes(&self.ranges).unwrap_or(u64::MAX)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        for Piece { window, in_bar, place } in self.pieces(offset, into.len())? {
            let part = &mut into[place];
            match window.map(|index| &self.windows.windows[index]) {
                Some(window) => window.mapping.read(in_bar - window.start, part)?,
                None => sys::read_at(self.windows.device.fd(), part, self.windows.fd_offset + in_bar)?,
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        for Piece { window, in_bar, place } in self.pieces(offset, from.len())? {
            let part = &from[place];
            match window.map(|index| &self.windows.windows[index]) {
                // Read back, so that the bytes are in the device when we return and not on the way.
                Some(window) => window.mapping.write(in_bar - window.start, part, true)?,
                None => sys::write_at(self.windows.device.fd(), part, self.windows.fd_offset + in_bar)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(offset_bytes: u64, length_bytes: u64) -> BarRange {
        BarRange { offset_bytes, length_bytes }
    }

    #[test]
    fn cuts_at_ranges_and_windows() {
        let ranges = [range(0x8000, 0x2000), range(0, 0x1000)];
        let windows = [0x9000..0xa000, 0..0x1000];
        let piece = |window, in_bar, place| Piece { window, in_bar, place };
        assert_eq!(
            pieces(&ranges, &windows, 0x800, 0x2000),
            [piece(None, 0x8800, 0..0x800), piece(Some(0), 0x9000, 0x800..0x1800), piece(Some(1), 0, 0x1800..0x2000)]
        );
        assert_eq!(pieces(&ranges, &[], 0x2fff, 1), [piece(None, 0xfff, 0..1)]);
        assert_eq!(pieces(&ranges, &windows, 0x3000, 0), []);
    }

    proptest! {
        #[test]
        fn every_byte_once_and_at_its_place(
            raw in proptest::collection::vec((0u64..32, 1u64..8), 1..4),
            mapped in proptest::collection::vec((0u64..300, 1u64..60), 0..4),
            start in 0u64..64,
            length in 0usize..64,
        ) {
            let ranges: Vec<_> = raw.iter().map(|&(at, length)| range(at * 8, length * 8)).collect();
            let windows: Vec<_> = mapped.iter().map(|&(at, length)| at..at + length).collect();
            let bytes: Vec<u64> =
                ranges.iter().flat_map(|range| range.offset_bytes..range.offset_bytes + range.length_bytes).collect();
            let start = start.min(bytes.len() as u64);
            let length = length.min(bytes.len() - usize::try_from(start).unwrap());
            let mut seen = Vec::new();
            for Piece { window, in_bar, place } in pieces(&ranges, &windows, start, length) {
                prop_assert_eq!(place.start, seen.len());
                prop_assert!(!place.is_empty());
                for at in in_bar..in_bar + place.len() as u64 {
                    seen.push(at);
                    match window {
                        Some(index) => prop_assert!(windows[index].contains(&at)),
                        None => prop_assert!(!windows.iter().any(|window| window.contains(&at))),
                    }
                }
            }
            let start = usize::try_from(start).unwrap();
            prop_assert_eq!(&seen[..], &bytes[start..start + length]);
        }
    }
}
