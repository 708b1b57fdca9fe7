//! Host memory and memory of GPUs.

mod cuda;
mod heap;
mod host;
mod udmabuf;
mod view;

use peerpath_paths::{Bdf, Tree};

pub use cuda::{CudaExporter, GpuView};
pub use heap::HeapExporter;
pub use host::HostExporter;
pub use udmabuf::UdmabufExporter;

use crate::{BarRange, Error, Origin, SourceKind, page_bytes, whole_pages};

fn origin(kind: SourceKind, length_bytes: u64) -> Origin {
    let ranges = vec![BarRange { offset_bytes: 0, length_bytes }];
    Origin { kind, bdf: None::<Bdf>, bar: None, ranges }
}

/// Rejects an allocation that exceeds the available memory: touching all its pages would invoke the OOM killer.
fn check_available(size_bytes: u64) -> Result<(), Error> {
    let meminfo = Tree::live().text("proc/meminfo").unwrap_or_default();
    match available_bytes(&meminfo) {
        Some(available_bytes) if size_bytes > available_bytes => {
            Err(Error::NotEnoughMemory { size_bytes, available_bytes })
        }
        _ => Ok(()),
    }
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Checks that the size is a whole number of pages, as dma-bufs require.
pub(crate) fn check_pages(kind: &str, size_bytes: u64) -> Result<(), Error> {
    let page_bytes = page_bytes();
    if size_bytes == 0 || !size_bytes.is_multiple_of(page_bytes) {
        let (why, remedy) = whole_pages(page_bytes);
        return Err(Error::BadSource { text: format!("{kind}:{size_bytes}"), why, remedy });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_available_memory() {
        let text = "MemTotal:       24567890 kB\nMemFree:        1 kB\nMemAvailable:   22000000 kB\n";
        assert_eq!(available_bytes(text), Some(22_000_000 * 1024));
        assert_eq!(available_bytes("MemAvailable: x kB"), None);
        assert_eq!(available_bytes(""), None);
    }

    #[test]
    fn rejects_more_than_the_available_memory() {
        let options = crate::OpenOptions::default();
        let error = HostExporter::open(1 << 60, &options).unwrap_err();
        assert!(matches!(error, Error::NotEnoughMemory { .. }), "{error}");
    }

    #[test]
    fn rejects_partial_pages() {
        assert!(check_pages("heap", page_bytes()).is_ok());
        assert!(check_pages("heap", 0).is_err());
        assert!(check_pages("heap", 100).is_err());
    }
}
