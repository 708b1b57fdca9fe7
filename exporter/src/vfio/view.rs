//! The exporter's own look at exported bytes: the processor's mapping of the BAR.

use std::io;
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

    /// A span of the BAR from `at` on, of at most `left` bytes: within one window, or outside all of them.
    fn find(&self, at: u64, left: u64) -> (Option<&Window>, u64) {
        let inside = self.windows.iter().find(|window| (window.start..window.end()).contains(&at));
        let end = match inside {
            Some(window) => window.end(),
            None => {
                self.windows.iter().map(|window| window.start).filter(|&start| start > at).min().unwrap_or(u64::MAX)
            }
        };
        (inside, left.min(end - at))
    }
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.mapping.length_bytes() as u64
    }
}

/// The bytes of a list of ranges, one behind the other as in the dma-buf.
#[derive(Debug)]
pub(crate) struct BarView {
    pub(crate) windows: Arc<Windows>,
    pub(crate) ranges: Vec<BarRange>,
}

impl BarView {
    /// Calls `each` with every contiguous piece of a span: its place in the BAR and its place in the span.
    fn for_each_piece(
        &self,
        offset: u64,
        length: usize,
        mut each: impl FnMut(Option<&Window>, u64, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        check_span(offset, length, self.length_bytes())?;
        if length == 0 {
            return Ok(());
        }
        self.require_memory()?;
        let (mut range_start, mut done) = (0, 0);
        for range in &self.ranges {
            let range_end = range_start + range.length_bytes;
            while done < length && offset + (done as u64) < range_end {
                let at = offset + done as u64;
                let in_bar = range.offset_bytes + (at - range_start);
                let left = (range_end - at).min((length - done) as u64);
                let (window, count) = self.windows.find(in_bar, left);
                let count = usize::try_from(count).map_err(io::Error::other)?;
                each(window, in_bar, done..done + count)?;
                done += count;
            }
            range_start = range_end;
        }
        Ok(())
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
        self.for_each_piece(offset, into.len(), |window, in_bar, place| match window {
            Some(window) => window.mapping.read(in_bar - window.start, &mut into[place]),
            None => sys::read_at(self.windows.device.fd(), &mut into[place], self.windows.fd_offset + in_bar),
        })
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.for_each_piece(offset, from.len(), |window, in_bar, place| match window {
            // Read back, so that the bytes are in the device when we return and not on the way.
            Some(window) => window.mapping.write(in_bar - window.start, &from[place], true),
            None => sys::write_at(self.windows.device.fd(), &from[place], self.windows.fd_offset + in_bar),
        })
    }
}
