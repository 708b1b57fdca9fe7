//! Selects the memory of a source that a cell exports: its first bytes, or ranges of it.

use std::sync::Arc;

use peerpath_exporter::{BarRange, Buffer, Error, Exporter, Origin, Packing, Source, SourceKind, page_bytes};

use crate::plan::{CellSpec, Mechanism};

/// The memory to export, and its division into dma-bufs.
pub(super) enum ExportSpec {
    /// This many bytes from the start of the source, which is not split.
    Front(u64),
    /// These ranges of the BAR, packed into one or several dma-bufs.
    Ranges(Vec<BarRange>, Packing),
}

impl ExportSpec {
    /// Selects the memory that a cell exports. Without a number of ranges, a transfer exports the whole source, and a control
    /// operation exports as many bytes as the cell's size. With a number of ranges, the total length of the ranges is the
    /// length of the operation, so that a transfer spans all of them. If each range is registered separately, each range has
    /// the length of the operation, because a transfer lies within one range. A transfer on a single range also exports only
    /// the length of the operation, so that its figures are comparable with those of many ranges.
    ///
    /// # Errors
    /// The source cannot be split into that number of ranges.
    pub(super) fn of(origin: &Origin, spec: &CellSpec) -> Result<Self, Error> {
        let whole: u64 = origin.ranges.iter().map(|range| range.length_bytes).sum();
        let (page_bytes, size) = (page_bytes(), spec.size_bytes);
        let per_range = spec.mechanism == Mechanism::MrPerRange;
        let length = match (spec.ranges, spec.transfers()) {
            (_, false) => size,
            (None, true) => whole,
            (Some(1), true) => size.next_multiple_of(page_bytes).min(whole),
            (Some(count), true) if per_range => u64::from(count) * size.next_multiple_of(page_bytes),
            (Some(count), true) => size.next_multiple_of(u64::from(count) * page_bytes),
        };
        Ok(match (spec.ranges, per_range) {
            (None | Some(1), false) => Self::Front(length),
            (None | Some(1), true) => Self::Ranges(origin.front(length), Packing::DmaBufPerRange),
            (Some(count), false) => Self::Ranges(origin.spread(length, count)?, Packing::OneDmaBuf),
            (Some(count), true) => Self::Ranges(origin.spread(length, count)?, Packing::DmaBufPerRange),
        })
    }

    pub(super) fn export(&self, exporter: &dyn Exporter) -> Result<Arc<Buffer>, Error> {
        match self {
            Self::Front(length_bytes) => exporter.export(*length_bytes),
            Self::Ranges(ranges, packing) => exporter.export_ranges(ranges, *packing),
        }
    }

    /// The origin of the buffer, with the facts that are known before the export.
    pub(super) fn origin(&self, origin: &Origin) -> Origin {
        match self {
            Self::Front(_) => origin.clone(),
            Self::Ranges(ranges, _) => Origin { ranges: ranges.clone(), ..origin.clone() },
        }
    }
}

/// The origin of a source that is not open, with the facts that its name contains.
pub(super) fn unopened(source: &Source) -> Origin {
    let whole = |length_bytes: &u64| vec![BarRange { offset_bytes: 0, length_bytes: *length_bytes }];
    let memory = |kind, size_bytes| Origin { kind, bdf: None, bar: None, ranges: whole(size_bytes) };
    match source {
        Source::Vfio { bdf, bar, ranges } => {
            Origin { kind: SourceKind::Vfio, bdf: Some(*bdf), bar: Some(*bar), ranges: ranges.clone() }
        }
        Source::Socket { .. } => Origin { kind: SourceKind::Vfio, bdf: None, bar: None, ranges: Vec::new() },
        Source::Udmabuf { size_bytes } => memory(SourceKind::Udmabuf, size_bytes),
        Source::Heap { size_bytes } => memory(SourceKind::Heap, size_bytes),
        Source::Cuda { size_bytes, .. } => memory(SourceKind::Cuda, size_bytes),
        Source::Host { size_bytes } => memory(SourceKind::Host, size_bytes),
    }
}

/// Number of ranges that the kernel maps as one buffer: those that the cell exports, not all of the source.
pub(super) fn mapped_at_once(origin: &Origin, spec: &CellSpec) -> usize {
    let count = match ExportSpec::of(origin, spec) {
        Ok(ExportSpec::Front(length_bytes)) => origin.front(length_bytes).len(),
        Ok(ExportSpec::Ranges(ranges, Packing::OneDmaBuf)) => ranges.len(),
        Ok(ExportSpec::Ranges(_, Packing::DmaBufPerRange)) => 1,
        // The source cannot be split, or its length is unknown.
        Err(_) if spec.mechanism == Mechanism::MrPerRange => 1,
        Err(_) => spec.ranges.unwrap_or(1) as usize,
    };
    count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerpath_importers::{Direction, Op, OpSpec, Role};

    use crate::plan::Mode;

    const MIB: u64 = 1 << 20;

    fn bar(ranges: &[(u64, u64)]) -> Origin {
        let range = |&(offset_bytes, length_bytes): &(u64, u64)| BarRange { offset_bytes, length_bytes };
        Origin {
            kind: SourceKind::Vfio,
            bdf: None,
            bar: peerpath_paths::BarIndex::new(2).ok(),
            ranges: ranges.iter().map(range).collect(),
        }
    }

    fn spec(op: Op, size_bytes: u64, ranges: impl Into<Option<u32>>, mechanism: Mechanism) -> CellSpec {
        let ranges = ranges.into();
        let role = if op == Op::Register { Role::Register } else { Role::Transfer(Direction::IntoSource) };
        let spec = Some(OpSpec { op, role, summary: "" });
        CellSpec {
            asked: None,
            op,
            spec,
            mode: Mode::Completion,
            size_bytes,
            ranges,
            mechanism,
            depth: 1,
            qps: 1,
            threads: 1,
            rate_per_s: None,
            bidirectional: false,
        }
    }

    fn ranges(origin: &Origin, spec: &CellSpec) -> Option<(Vec<(u64, u64)>, Packing)> {
        match ExportSpec::of(origin, spec).unwrap() {
            ExportSpec::Front(_) => None,
            ExportSpec::Ranges(ranges, packing) => {
                Some((ranges.iter().map(|range| (range.offset_bytes, range.length_bytes)).collect(), packing))
            }
        }
    }

    #[test]
    fn exports_the_source_as_named_without_ranges() {
        let origin = bar(&[(0, 128 * MIB)]);
        for (op, length) in [(Op::Register, MIB), (Op::Write, 128 * MIB)] {
            let export = ExportSpec::of(&origin, &spec(op, MIB, None, Mechanism::Auto)).unwrap();
            assert!(matches!(export, ExportSpec::Front(bytes) if bytes == length));
        }
    }

    #[test]
    fn a_transfer_spans_all_ranges_or_lies_within_each() {
        let origin = bar(&[(0, 128 * MIB)]);
        let of = |op, mechanism| ranges(&origin, &spec(op, 2 * MIB, 2, mechanism)).unwrap();
        let one = ExportSpec::of(&origin, &spec(Op::Write, 2 * MIB, 1, Mechanism::Auto)).unwrap();
        assert!(matches!(one, ExportSpec::Front(bytes) if bytes == 2 * MIB));
        let halves = vec![(0, MIB), (2 * MIB, MIB)];
        for op in [Op::Register, Op::Write] {
            assert_eq!(of(op, Mechanism::Auto), (halves.clone(), Packing::OneDmaBuf));
        }
        assert_eq!(of(Op::Register, Mechanism::MrPerRange), (halves, Packing::DmaBufPerRange));
        assert_eq!(
            of(Op::Write, Mechanism::MrPerRange),
            (vec![(0, 2 * MIB), (4 * MIB, 2 * MIB)], Packing::DmaBufPerRange)
        );
        assert!(
            ExportSpec::of(&origin, &spec(Op::Write, 64 * MIB, 2, Mechanism::MrPerRange)).is_err(),
            "the BAR is too short for the gaps"
        );
    }

    #[test]
    fn named_ranges_can_be_registered_separately() {
        let origin = bar(&[(0x8000, 0x2000), (0, 0x1000)]);
        let named = vec![(0x8000, 0x2000), (0, 0x1000)];
        let write = spec(Op::Write, 64, None, Mechanism::MrPerRange);
        assert_eq!(ranges(&origin, &write), Some((named, Packing::DmaBufPerRange)));
        assert_eq!(mapped_at_once(&origin, &write), 1);
        assert_eq!(mapped_at_once(&origin, &spec(Op::Write, 64, None, Mechanism::Auto)), 2);
        assert_eq!(mapped_at_once(&bar(&[]), &spec(Op::Write, 64, 8, Mechanism::Auto)), 8);
        assert_eq!(mapped_at_once(&bar(&[]), &spec(Op::Write, 64, None, Mechanism::Auto)), 1);
    }

    #[test]
    fn counts_the_ranges_that_the_cell_exports_and_not_those_of_the_source() {
        let origin = bar(&[(0, 0x10000), (0x40000, 0x10000)]);
        let of = |size_bytes, ranges| mapped_at_once(&origin, &spec(Op::Register, size_bytes, ranges, Mechanism::Auto));
        assert_eq!((of(0x1000, None), of(0x10000, None), of(0x11000, None), of(0x100000, None)), (1, 1, 2, 2));
        assert_eq!(of(0x1000, Some(1)), 1);
    }
}
