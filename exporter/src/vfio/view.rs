//! The exporter's view of a BAR, through the CPU's mapping.

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

/// Access to a BAR: through mappings of the areas that can be mapped, and with `pread` and `pwrite` on the device elsewhere.
#[derive(Debug)]
pub(crate) struct BarMappings {
    // Dropped before the device, so that the areas are unmapped before the device is closed.
    areas: Vec<Arc<Mapping>>,
    /// Byte offsets of each area in the BAR.
    spans: Vec<Range<u64>>,
    device: Arc<Device>,
    /// Offset of the BAR in the device's file descriptor, in bytes.
    fd_offset: u64,
}

impl BarMappings {
    /// Maps whole pages of the ranges.
    pub(crate) fn new(device: Arc<Device>, region: &Region, ranges: &[BarRange]) -> Result<Self, Error> {
        let page_bytes = page_bytes();
        let (mut areas, mut spans) = (Vec::new(), Vec::new());
        for range in ranges {
            for area in &region.mappable {
                let start = range.offset_bytes.max(area.start).next_multiple_of(page_bytes);
                let end = (range.offset_bytes + range.length_bytes).min(area.end) / page_bytes * page_bytes;
                if start < end {
                    let mapping = Mapping::shared(device.fd(), region.fd_offset + start, end - start)
                        .map_err(device.failed("map the BAR"))?;
                    areas.push(Arc::new(mapping));
                    spans.push(start..end);
                }
            }
        }
        Ok(Self { areas, spans, fd_offset: region.fd_offset, device })
    }
}

/// A contiguous part of an access: within one range of the BAR, and within one mapped area or none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    /// Index of the mapped area. `None` if the chunk is not mapped.
    area: Option<usize>,
    /// Offset of the chunk in the BAR, in bytes.
    in_bar: u64,
    /// Byte offsets of the chunk in the access.
    part: Range<usize>,
}

/// Divides an access to `length` bytes at `offset` into chunks. The access must lie within the ranges. Allocates nothing,
/// because it may run in a timed section.
fn chunks<'a>(
    ranges: &'a [BarRange],
    areas: &'a [Range<u64>],
    offset: u64,
    length: usize,
) -> impl Iterator<Item = Chunk> + 'a {
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
        let area = areas.iter().position(|area| area.contains(&in_bar));
        let starts = areas.iter().map(|area| area.start).filter(|&start| start > in_bar);
        let end = area.map_or_else(|| starts.min().unwrap_or(u64::MAX), |area| areas[area].end);
        let count = (end - in_bar).min(range_end - at);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(length - done);
        let chunk = Chunk { area, in_bar, part: done..done + count };
        done += count;
        Some(chunk)
    })
}

/// View of the bytes of several ranges, concatenated as in the dma-buf.
#[derive(Debug)]
pub(crate) struct BarView {
    pub(crate) bar: Arc<BarMappings>,
    pub(crate) ranges: Vec<BarRange>,
}

impl BarView {
    fn chunks(&self, offset: u64, length: usize) -> io::Result<impl Iterator<Item = Chunk>> {
        check_span(offset, length, self.length_bytes())?;
        Ok(chunks(&self.ranges, &self.bar.spans, offset, length))
    }

    /// Returns the mapping of a chunk, and the offset of the chunk in the mapping. `None` if the chunk is not mapped.
    fn mapped(&self, chunk: &Chunk) -> Option<(&Mapping, u64)> {
        let index = chunk.area?;
        Some((&*self.bar.areas[index], chunk.in_bar - self.bar.spans[index].start))
    }

    /// Checks that the kernel has not requested the release of the function, and that memory decoding is on. If it is off, an
    /// access to a mapping raises SIGBUS. Only this process can turn it off between this check and the access, because VFIO
    /// allows only one process to open the function, and the kernel removes the function only after this process has closed it.
    fn require_memory(&self) -> io::Result<()> {
        self.bar.device.removal().refuse()?;
        match self.bar.device.memory_enabled() {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::Error::other(format!("memory decoding of {} is off", self.bar.device.bdf()))),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl View for BarView {
    fn length_bytes(&self) -> u64 {
        total_bytes(&self.ranges).unwrap_or(u64::MAX)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let chunks = self.chunks(offset, into.len())?;
        self.require_memory()?;
        for chunk in chunks {
            let part = &mut into[chunk.part.clone()];
            match self.mapped(&chunk) {
                Some((mapping, at)) => mapping.read(at, part)?,
                None => sys::read_at(self.bar.device.fd(), part, self.bar.fd_offset + chunk.in_bar)?,
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let chunks = self.chunks(offset, from.len())?;
        self.require_memory()?;
        for chunk in chunks {
            let part = &from[chunk.part.clone()];
            match self.mapped(&chunk) {
                // Read back, because posted writes may otherwise still be in flight when `write` returns.
                Some((mapping, at)) => mapping.write(at, part, true)?,
                None => sys::write_at(self.bar.device.fd(), part, self.bar.fd_offset + chunk.in_bar)?,
            }
        }
        Ok(())
    }

    fn mapping(&self) -> Option<HostMemory> {
        let [range] = &self.ranges[..] else { return None };
        let end = range.offset_bytes + range.length_bytes;
        let index = self.bar.spans.iter().position(|span| span.start == range.offset_bytes && end <= span.end)?;
        Some(HostMemory::front(Arc::clone(&self.bar.areas[index]), range.length_bytes))
    }

    fn read_into(&self, offset: u64, memory: &HostMemory, at: u64, length: usize) -> io::Result<()> {
        check_span(at, length, memory.length_bytes() as u64)?;
        for chunk in self.chunks(offset, length)? {
            let (mapping, in_mapping) = self.mapped(&chunk).ok_or_else(no_direct_copy)?;
            let to = at + chunk.part.start as u64;
            mapping.copy_to(in_mapping, memory.mapping(), to, chunk.part.len(), false)?;
        }
        Ok(())
    }

    fn write_from(&self, offset: u64, memory: &HostMemory, at: u64, length: usize) -> io::Result<()> {
        check_span(at, length, memory.length_bytes() as u64)?;
        for chunk in self.chunks(offset, length)? {
            let (mapping, in_mapping) = self.mapped(&chunk).ok_or_else(no_direct_copy)?;
            let from = at + chunk.part.start as u64;
            memory.mapping().copy_to(from, mapping, in_mapping, chunk.part.len(), true)?;
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
    fn divides_an_access_at_ranges_and_areas() {
        let ranges = [range(0x8000, 0x2000), range(0, 0x1000)];
        let areas = [0x9000..0xa000, 0..0x1000];
        let chunk = |area, in_bar, part| Chunk { area, in_bar, part };
        let chunks = |areas, offset, length| chunks(&ranges, areas, offset, length).collect::<Vec<_>>();
        assert_eq!(
            chunks(&areas, 0x800, 0x2000),
            [chunk(None, 0x8800, 0..0x800), chunk(Some(0), 0x9000, 0x800..0x1800), chunk(Some(1), 0, 0x1800..0x2000)]
        );
        assert_eq!(chunks(&[], 0x2fff, 1), [chunk(None, 0xfff, 0..1)]);
        assert_eq!(chunks(&areas, 0x3000, 0), []);
    }

    proptest! {
        #[test]
        fn chunks_cover_every_byte_once_in_order(
            raw in proptest::collection::vec((0u64..32, 1u64..8), 1..4),
            mapped in proptest::collection::vec((0u64..300, 1u64..60), 0..4),
            start in 0u64..64,
            length in 0usize..64,
        ) {
            let ranges: Vec<_> = raw.iter().map(|&(at, length)| range(at * 8, length * 8)).collect();
            let areas: Vec<_> = mapped.iter().map(|&(at, length)| at..at + length).collect();
            let bytes: Vec<u64> =
                ranges.iter().flat_map(|range| range.offset_bytes..range.offset_bytes + range.length_bytes).collect();
            let start = start.min(bytes.len() as u64);
            let length = length.min(bytes.len() - usize::try_from(start).unwrap());
            let mut seen = Vec::new();
            for Chunk { area, in_bar, part } in chunks(&ranges, &areas, start, length) {
                prop_assert_eq!(part.start, seen.len());
                prop_assert!(!part.is_empty());
                for at in in_bar..in_bar + part.len() as u64 {
                    seen.push(at);
                    match area {
                        Some(index) => prop_assert!(areas[index].contains(&at)),
                        None => prop_assert!(!areas.iter().any(|area| area.contains(&at))),
                    }
                }
            }
            let start = usize::try_from(start).unwrap();
            prop_assert_eq!(&seen[..], &bytes[start..start + length]);
        }
    }
}
