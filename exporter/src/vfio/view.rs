//! The exporter's own look at exported bytes: the processor's mapping of the BAR.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::Device;
use super::regions::Region;
use crate::range::total_bytes;
use crate::sys::mapping::Mapping;
use crate::sys::vfio as sys;
use crate::view::no_direct_copy;
use crate::{BarRange, Error, HostMemory, View, check_span, page_bytes};

/// The mapped parts of a BAR's ranges; what cannot be mapped is reached through the device's fd.
#[derive(Debug)]
pub(crate) struct Windows {
    // Unmapped before the device is closed.
    mappings: Vec<Arc<Mapping>>,
    /// Where in the BAR each of them lies.
    spans: Vec<Range<u64>>,
    device: Arc<Device>,
    fd_offset: u64,
}

impl Windows {
    pub(crate) fn map(device: Arc<Device>, region: &Region, ranges: &[BarRange]) -> Result<Self, Error> {
        let page_bytes = page_bytes();
        let (mut mappings, mut spans) = (Vec::new(), Vec::new());
        for range in ranges {
            for area in &region.mappable {
                let start = range.offset_bytes.max(area.start).next_multiple_of(page_bytes);
                let end = (range.offset_bytes + range.length_bytes).min(area.end) / page_bytes * page_bytes;
                if start < end {
                    let mapping = Mapping::shared(device.fd(), region.fd_offset + start, end - start)
                        .map_err(device.failed("map the BAR"))?;
                    mappings.push(Arc::new(mapping));
                    spans.push(start..end);
                }
            }
        }
        Ok(Self { mappings, spans, fd_offset: region.fd_offset, device })
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

/// Cuts the span into pieces, without allocating: it may be timed. The span must lie within the ranges.
fn pieces<'a>(
    ranges: &'a [BarRange],
    windows: &'a [Range<u64>],
    offset: u64,
    length: usize,
) -> impl Iterator<Item = Piece> + 'a {
    let mut ranges = ranges.iter();
    let (mut range, mut range_start, mut range_end, mut done) = (None::<&BarRange>, 0, 0, 0);
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        while done < length && at >= range_end {
            let next = ranges.next()?;
            (range_start, range_end) = (range_end, range_end + next.length_bytes);
            range = Some(next);
        }
        let range = range.filter(|_| done < length)?;
        let in_bar = range.offset_bytes + (at - range_start);
        let window = windows.iter().position(|window| window.contains(&in_bar));
        let starts = windows.iter().map(|window| window.start).filter(|&start| start > in_bar);
        let end = window.map_or_else(|| starts.min().unwrap_or(u64::MAX), |window| windows[window].end);
        let count = (end - in_bar).min(range_end - at);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(length - done);
        let piece = Piece { window, in_bar, place: done..done + count };
        done += count;
        Some(piece)
    })
}

/// The bytes of a list of ranges, one behind the other as in the dma-buf.
#[derive(Debug)]
pub(crate) struct BarView {
    pub(crate) windows: Arc<Windows>,
    pub(crate) ranges: Vec<BarRange>,
}

impl BarView {
    /// The pieces of a span that lies within the view.
    fn pieces(&self, offset: u64, length: usize) -> io::Result<impl Iterator<Item = Piece>> {
        check_span(offset, length, self.length_bytes())?;
        Ok(pieces(&self.ranges, &self.windows.spans, offset, length))
    }

    /// The mapping that a piece lies in, and where in it.
    fn mapped(&self, piece: &Piece) -> Option<(&Mapping, u64)> {
        let index = piece.window?;
        Some((&*self.windows.mappings[index], piece.in_bar - self.windows.spans[index].start))
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
        let pieces = self.pieces(offset, into.len())?;
        self.require_memory()?;
        for piece in pieces {
            let part = &mut into[piece.place.clone()];
            match self.mapped(&piece) {
                Some((mapping, at)) => mapping.read(at, part)?,
                None => sys::read_at(self.windows.device.fd(), part, self.windows.fd_offset + piece.in_bar)?,
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let pieces = self.pieces(offset, from.len())?;
        self.require_memory()?;
        for piece in pieces {
            let part = &from[piece.place.clone()];
            match self.mapped(&piece) {
                // Read back, so that the bytes are in the device when we return and not on the way.
                Some((mapping, at)) => mapping.write(at, part, true)?,
                None => sys::write_at(self.windows.device.fd(), part, self.windows.fd_offset + piece.in_bar)?,
            }
        }
        Ok(())
    }

    fn mapping(&self) -> Option<HostMemory> {
        let [range] = &self.ranges[..] else { return None };
        let end = range.offset_bytes + range.length_bytes;
        let index = self.windows.spans.iter().position(|span| span.start == range.offset_bytes && end <= span.end)?;
        Some(HostMemory::front(Arc::clone(&self.windows.mappings[index]), range.length_bytes))
    }

    fn read_into(&self, offset: u64, memory: &HostMemory, at: u64, length: usize) -> io::Result<()> {
        check_span(at, length, memory.length_bytes() as u64)?;
        for piece in self.pieces(offset, length)? {
            let (mapping, in_mapping) = self.mapped(&piece).ok_or_else(no_direct_copy)?;
            let to = at + piece.place.start as u64;
            mapping.copy_to(in_mapping, memory.mapping(), to, piece.place.len(), false)?;
        }
        Ok(())
    }

    fn write_from(&self, offset: u64, memory: &HostMemory, at: u64, length: usize) -> io::Result<()> {
        check_span(at, length, memory.length_bytes() as u64)?;
        for piece in self.pieces(offset, length)? {
            let (mapping, in_mapping) = self.mapped(&piece).ok_or_else(no_direct_copy)?;
            let from = at + piece.place.start as u64;
            memory.mapping().copy_to(from, mapping, in_mapping, piece.place.len(), true)?;
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
        let pieces = |windows, offset, length| pieces(&ranges, windows, offset, length).collect::<Vec<_>>();
        assert_eq!(
            pieces(&windows, 0x800, 0x2000),
            [piece(None, 0x8800, 0..0x800), piece(Some(0), 0x9000, 0x800..0x1800), piece(Some(1), 0, 0x1800..0x2000)]
        );
        assert_eq!(pieces(&[], 0x2fff, 1), [piece(None, 0xfff, 0..1)]);
        assert_eq!(pieces(&windows, 0x3000, 0), []);
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
