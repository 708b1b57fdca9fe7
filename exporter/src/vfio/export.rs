//! A BAR as a source.

use std::sync::Arc;

use peerpath_paths::{Bar, BarIndex, Bdf, Tree};

use super::Device;
use super::bars::{NotExportable, exportable_bar};
use super::view::{BarView, Windows};
use crate::range::{RangeProblem, find_problem, is_within};
use crate::{
    BarRange, Buffer, Error, Exporter, Handle, OpenOptions, Origin, Packing, SourceKind, check_length, page_bytes,
};

/// A BAR, or ranges of it, ready to be exported.
#[derive(Debug)]
pub struct VfioExporter {
    origin: Origin,
    bar: Bar,
    index: BarIndex,
    windows: Arc<Windows>,
    device: Arc<Device>,
}

impl VfioExporter {
    /// Opens the function, lets it answer memory accesses and maps the ranges for verification; no ranges means the whole
    /// BAR.
    ///
    /// # Errors
    /// A BAR or range that cannot be exported, or whatever stands in the way of opening the function.
    pub fn open(bdf: Bdf, bar_index: BarIndex, ranges: &[BarRange], options: &OpenOptions) -> Result<Self, Error> {
        let (bar, ranges) = exportable_ranges(bdf, bar_index, ranges)?;
        let device = Device::open(bdf, options)?;
        device.require_export()?;
        device.set_memory_enabled(true)?;
        let absent = Error::BadBar { bdf, bar: bar_index, problem: NotExportable::Absent };
        let region = device.region(bar_index).ok_or(absent)?.clone();
        let windows = Arc::new(Windows::map(Arc::clone(&device), &region, &ranges)?);
        let origin = Origin { kind: SourceKind::Vfio, bdf: Some(bdf), bar: Some(bar_index), ranges };
        Ok(Self { origin, bar, index: bar_index, windows, device })
    }

    /// Checks that the BAR and the ranges exist, without opening the function.
    ///
    /// # Errors
    /// The function cannot be opened through VFIO whatever its driver, or the BAR or a range cannot be exported.
    pub fn check(bdf: Bdf, bar_index: BarIndex, ranges: &[BarRange]) -> Result<(), Error> {
        exportable_ranges(bdf, bar_index, ranges)?;
        Ok(Tree::live().vfio_group(bdf).map(drop)?)
    }

    /// The open function: what tests and tools reset and switch off.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The BAR.
    pub fn bar(&self) -> &Bar {
        &self.bar
    }
}

/// The BAR and the ranges of it; no ranges means the whole BAR.
fn exportable_ranges(bdf: Bdf, bar_index: BarIndex, ranges: &[BarRange]) -> Result<(Bar, Vec<BarRange>), Error> {
    let bar = exportable_bar(&Tree::live(), bdf, bar_index)?;
    let ranges = match ranges {
        [] => vec![BarRange { offset_bytes: 0, length_bytes: bar.size_bytes }],
        ranges => ranges.to_vec(),
    };
    match find_problem(&ranges, bar.size_bytes, page_bytes()) {
        Some((range, problem)) => Err(Error::BadRange { bdf, bar: bar_index, range, problem }),
        None => Ok((bar, ranges)),
    }
}

impl Exporter for VfioExporter {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn export(&self, length_bytes: u64) -> Result<Arc<Buffer>, Error> {
        check_length(self, length_bytes, page_bytes())?;
        self.export_ranges(&self.origin.front(length_bytes), Packing::Together)
    }

    fn export_ranges(&self, ranges: &[BarRange], packing: Packing) -> Result<Arc<Buffer>, Error> {
        let (index, bdf) = (self.index, self.device.bdf());
        let not_opened = |range: &&BarRange| !is_within(**range, &self.origin.ranges);
        let problem = ranges.iter().find(not_opened).map(|range| (*range, RangeProblem::NotOpened));
        if let Some((range, problem)) = problem.or_else(|| find_problem(ranges, self.bar.size_bytes, page_bytes())) {
            return Err(Error::BadRange { bdf, bar: index, range, problem });
        }
        let handle = match packing {
            Packing::Together => Handle::DmaBuf(self.device.export_ranges(index.get(), ranges)?),
            Packing::Apart => {
                let each =
                    ranges.iter().map(|range| self.device.export_ranges(index.get(), std::slice::from_ref(range)));
                Handle::DmaBufs(each.collect::<Result<_, _>>()?)
            }
        };
        let view = BarView { windows: Arc::clone(&self.windows), ranges: ranges.to_vec() };
        let origin = Origin { ranges: ranges.to_vec(), ..self.origin.clone() };
        Ok(Arc::new(Buffer::new(handle, origin, Arc::new(view))))
    }
}
