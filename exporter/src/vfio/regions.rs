//! Regions of an open device: their offsets in the device's file descriptor, and the areas that can be mapped.

use std::ops::Range;

use vfio_bindings::bindings::vfio as uapi;

use crate::sys::vfio::RegionInfo;

/// A region of an open device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) size_bytes: u64,
    /// Offset of the region in the device's file descriptor, in bytes.
    pub(crate) fd_offset: u64,
    /// Areas that can be mapped, as byte offsets within the region.
    pub(crate) mappable: Vec<Range<u64>>,
}

impl Region {
    pub(crate) fn new(info: &RegionInfo) -> Self {
        let size_bytes = info.size_bytes;
        let mappable = if info.flags & uapi::VFIO_REGION_INFO_FLAG_MMAP == 0 {
            Vec::new()
        } else {
            sparse_areas(info).unwrap_or_else(|| std::iter::once(0..size_bytes).collect())
        };
        let mappable = mappable.into_iter().filter(|area| area.start < area.end && area.end <= size_bytes).collect();
        Self { size_bytes, fd_offset: info.fd_offset, mappable }
    }
}

/// Returns the areas of the sparse-mmap capability. `None` if the region lacks this capability, so that the whole region can
/// be mapped.
fn sparse_areas(info: &RegionInfo) -> Option<Vec<Range<u64>>> {
    let mut at = info.capabilities_at as usize;
    // A capability has at least 8 bytes, so a list with more entries contains a cycle.
    for _ in 0..info.bytes.len() / 8 {
        if at == 0 {
            return None;
        }
        let header = info.bytes.get(at..at.checked_add(8)?)?;
        let id = u16::from_ne_bytes([header[0], header[1]]);
        let next = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if u32::from(id) == uapi::VFIO_REGION_INFO_CAP_SPARSE_MMAP {
            return Some(parse_areas(&info.bytes[at..]));
        }
        at = next;
    }
    None
}

/// Parses a `vfio_region_info_cap_sparse_mmap`: header, `nr_areas`, reserved, then offset and size of each area.
fn parse_areas(capability: &[u8]) -> Vec<Range<u64>> {
    let count = capability.get(8..12).map_or(0, |bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let (areas, _) = capability.get(16..).unwrap_or_default().as_chunks::<16>();
    areas.iter().take(count as usize).filter_map(parse_area).collect()
}

fn parse_area(bytes: &[u8; 16]) -> Option<Range<u64>> {
    let (words, _) = bytes.as_chunks::<8>();
    let (offset, size) = (u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1]));
    Some(offset..offset.checked_add(size)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MMAP: u32 = uapi::VFIO_REGION_INFO_FLAG_MMAP;
    const CAPS: u32 = uapi::VFIO_REGION_INFO_FLAG_CAPS;

    fn info(flags: u32, chain: &[u8]) -> RegionInfo {
        let mut bytes = vec![0; 32];
        bytes.extend_from_slice(chain);
        RegionInfo {
            flags,
            size_bytes: 0x10000,
            fd_offset: 7 << 40,
            bytes,
            capabilities_at: if flags & CAPS != 0 { 32 } else { 0 },
        }
    }

    fn capability(id: u16, next: u32, words: &[u64]) -> Vec<u8> {
        let mut bytes = [id.to_ne_bytes(), 1_u16.to_ne_bytes()].concat();
        bytes.extend(next.to_ne_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)] // The array has one element, a range.
    fn finds_mappable_areas() {
        assert_eq!(Region::new(&info(MMAP, &[])).mappable, [0..0x10000]);
        assert_eq!(Region::new(&info(0, &[])).mappable, []);
        let sparse = capability(1, 0, &[2, 0, 0x4000, 0x8000, 0x1000]);
        assert_eq!(Region::new(&info(MMAP | CAPS, &sparse)).mappable, [0..0x4000, 0x8000..0x9000]);
        let msix_mappable = capability(3, 0, &[]);
        assert_eq!(Region::new(&info(MMAP | CAPS, &msix_mappable)).mappable, [0..0x10000]);
        let both = [capability(3, 40, &[]), sparse].concat();
        assert_eq!(Region::new(&info(MMAP | CAPS, &both)).mappable, [0..0x4000, 0x8000..0x9000]);
    }

    #[test]
    fn survives_malformed_capabilities() {
        let cycle = capability(9, 32, &[]);
        assert_eq!(Region::new(&info(MMAP | CAPS, &cycle)).mappable.len(), 1);
        let outside = capability(9, 0xffff_fff0, &[]);
        Region::new(&info(MMAP | CAPS, &outside));
        let lying = capability(1, 0, &[u64::MAX, 0, 0x4000]);
        assert_eq!(Region::new(&info(MMAP | CAPS, &lying)).mappable.len(), 1);
        let beyond = capability(1, 0, &[1, 0x8000, 0x10000]);
        assert_eq!(Region::new(&info(MMAP | CAPS, &beyond)).mappable, []);
        let overflow = capability(1, 0, &[1, u64::MAX, 2]);
        assert_eq!(Region::new(&info(MMAP | CAPS, &overflow)).mappable, []);
    }
}
