//! Exports of BARs as dma-bufs.

use std::ops::RangeBounds;
use std::sync::Arc;

use peerpath_paths::{Bar, BarIndex, Bdf, Tree};

use super::Device;
use super::bars::{NotExportable, exportable_bar};
use super::view::{BarMappings, BarView};
use crate::range::{RangeProblem, find_problem, is_within};
use crate::{
    BarRange, Buffer, Error, Exporter, Handle, OpenOptions, Origin, Packing, Removal, SourceKind, check_length,
    page_bytes,
};

impl Device {
    /// Exports a range of a BAR as a dma-buf. `..` is the whole BAR. The range must consist of whole pages.
    ///
    /// Enables memory decoding, which accesses to the BAR require, and maps the range for the buffer's [`View`](crate::View).
    /// The buffer keeps the device open. [`VfioExporter`] maps once for several exports, and exports several ranges as one
    /// buffer.
    ///
    /// # Errors
    /// [`Error::BadBar`] or [`Error::BadRange`] if the BAR or the range cannot be exported, [`Error::ExportUnsupported`] if the
    /// kernel or the driver has no dma-buf export (Linux 6.19 added it), and errors of the kernel.
    pub fn export(self: &Arc<Self>, bar: BarIndex, range: impl RangeBounds<u64>) -> Result<Arc<Buffer>, Error> {
        let size_bytes = exportable_bar(&Tree::live(), self.bdf(), bar)?.size_bytes;
        let range = BarRange::from_bounds(&range, size_bytes);
        let (description, ranges) = exportable_ranges(self.bdf(), bar, &[range])?;
        let exporter = VfioExporter::new(Arc::clone(self), bar, description, ranges)?;
        exporter.export(range.length_bytes)
    }
}

/// Exporter of a BAR, or of ranges of a BAR, which are already mapped for verification.
#[derive(Debug)]
pub struct VfioExporter {
    origin: Origin,
    bar: Bar,
    index: BarIndex,
    mappings: Arc<BarMappings>,
    device: Arc<Device>,
}

impl VfioExporter {
    /// Opens the function, enables memory decoding and maps the ranges for verification. If `ranges` is empty, maps the whole
    /// BAR.
    ///
    /// # Errors
    /// Same as [`Device::open`] and [`Device::export`].
    pub fn open(bdf: Bdf, bar_index: BarIndex, ranges: &[BarRange], options: &OpenOptions) -> Result<Self, Error> {
        let (bar, ranges) = exportable_ranges(bdf, bar_index, ranges)?;
        Self::new(Device::open_through(bdf, options.vfio)?, bar_index, bar, ranges)
    }

    /// Creates the exporter. The caller has checked that the ranges can be exported.
    fn new(device: Arc<Device>, index: BarIndex, bar: Bar, ranges: Vec<BarRange>) -> Result<Self, Error> {
        let bdf = device.bdf();
        device.require_export()?;
        device.set_memory_enabled(true)?;
        let absent = Error::BadBar { bdf, bar: index, problem: NotExportable::Absent };
        let region = device.region(index).ok_or(absent)?.clone();
        let mappings = Arc::new(BarMappings::new(Arc::clone(&device), &region, &ranges)?);
        let origin = Origin { kind: SourceKind::Vfio, bdf: Some(bdf), bar: Some(index), ranges };
        Ok(Self { origin, bar, index, mappings, device })
    }

    /// Checks that the BAR and the ranges exist, without opening the function.
    ///
    /// # Errors
    /// The BAR or a range cannot be exported, or VFIO cannot open the function under any driver.
    pub fn check(bdf: Bdf, bar_index: BarIndex, ranges: &[BarRange]) -> Result<(), Error> {
        exportable_ranges(bdf, bar_index, ranges)?;
        Ok(Tree::live().vfio_group(bdf).map(drop)?)
    }

    /// Returns the open function, e.g. to reset it.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Returns the properties of the BAR in sysfs.
    pub fn bar(&self) -> &Bar {
        &self.bar
    }
}

/// Returns the BAR and the ranges to export. If `ranges` is empty, the range is the whole BAR.
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

    fn removal(&self) -> Option<&Removal> {
        Some(self.device.removal())
    }

    fn function(&self) -> Option<&Arc<Device>> {
        Some(&self.device)
    }

    fn export(&self, length_bytes: u64) -> Result<Arc<Buffer>, Error> {
        check_length(self, length_bytes, page_bytes())?;
        self.export_ranges(&self.origin.front(length_bytes), Packing::OneDmaBuf)
    }

    fn export_ranges(&self, ranges: &[BarRange], packing: Packing) -> Result<Arc<Buffer>, Error> {
        let (index, bdf) = (self.index, self.device.bdf());
        let not_opened = |range: &&BarRange| !is_within(**range, &self.origin.ranges);
        let problem = ranges.iter().find(not_opened).map(|range| (*range, RangeProblem::NotOpened));
        if let Some((range, problem)) = problem.or_else(|| find_problem(ranges, self.bar.size_bytes, page_bytes())) {
            return Err(Error::BadRange { bdf, bar: index, range, problem });
        }
        let handle = match packing {
            Packing::OneDmaBuf => Handle::DmaBuf(self.device.export_ranges(index.get(), ranges)?),
            Packing::DmaBufPerRange => {
                let each =
                    ranges.iter().map(|range| self.device.export_ranges(index.get(), std::slice::from_ref(range)));
                Handle::DmaBufs(each.collect::<Result<_, _>>()?)
            }
        };
        let view = BarView { bar: Arc::clone(&self.mappings), ranges: ranges.to_vec() };
        let origin = Origin { ranges: ranges.to_vec(), ..self.origin.clone() };
        Ok(Arc::new(Buffer::new(handle, origin, Arc::new(view))))
    }
}
