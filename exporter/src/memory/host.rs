//! Anonymous host memory, which importers register by address.

use std::sync::Arc;

use super::view::MemoryView;
use super::{check_available, origin};
use crate::sys::mapping::Mapping;
use crate::{Buffer, Error, Exporter, Handle, HostMemory, OpenOptions, Origin, SourceKind, check_length};

/// Host memory without a dma-buf, as a baseline for measurements.
#[derive(Debug)]
pub struct HostExporter {
    origin: Origin,
    mapping: Arc<Mapping>,
}

impl HostExporter {
    /// Allocates page-aligned memory and touches every page.
    ///
    /// # Errors
    /// [`Error::NotEnoughMemory`], [`Error::HugePages`] or [`Error::Memory`].
    pub fn open(size_bytes: u64, options: &OpenOptions) -> Result<Self, Error> {
        // `MemAvailable` does not count huge pages, which are reserved in advance.
        if !options.huge_pages {
            check_available(size_bytes)?;
        }
        let mapping = if options.huge_pages {
            Mapping::huge(size_bytes).map_err(|source| Error::HugePages { size_bytes, source })
        } else {
            let operation = "allocate memory";
            Mapping::anonymous(size_bytes).map_err(|source| Error::Memory { operation, size_bytes, source })
        }?;
        Ok(Self { origin: origin(SourceKind::Host, size_bytes), mapping: Arc::new(mapping) })
    }
}

impl Exporter for HostExporter {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn export(&self, length_bytes: u64) -> Result<Arc<Buffer>, Error> {
        check_length(self, length_bytes, 1)?;
        let memory = HostMemory::front(Arc::clone(&self.mapping), length_bytes);
        let view = MemoryView { mapping: Arc::clone(&self.mapping), length_bytes, dma_buf: None };
        let handle = Handle::Memory(memory);
        Ok(Arc::new(Buffer::new(handle, origin(SourceKind::Host, length_bytes), Arc::new(view))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_the_first_bytes_with_a_view_of_them() {
        let exporter = HostExporter::open(10_000, &OpenOptions::default()).unwrap();
        assert_eq!(exporter.length_bytes(), 10_000);
        let buffer = exporter.export(5000).unwrap();
        assert_eq!(buffer.length_bytes(), 5000);
        assert!(buffer.dma_buf().is_none());
        let Handle::Memory(memory) = buffer.handle() else { panic!("host memory has an address") };
        assert_eq!(memory.length_bytes(), 5000);
        assert!(memory.address().addr().get().is_multiple_of(4096));
        buffer.view().write(4996, b"tail").unwrap();
        let mut back = [0; 4];
        exporter.export(10_000).unwrap().view().read(4996, &mut back).unwrap();
        assert_eq!(&back, b"tail");
        assert!(buffer.view().write(4997, b"tail").is_err());
        for length in [0, 10_001] {
            assert!(matches!(exporter.export(length), Err(Error::BadLength { .. })), "{length}");
        }
    }
}
