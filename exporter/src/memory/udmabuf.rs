//! Host memory as a dma-buf from `/dev/udmabuf`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::view::MemoryView;
use super::{check_available, check_pages, origin};
use crate::sys::dma_buf;
use crate::sys::mapping::Mapping;
use crate::{Buffer, Error, Exporter, Handle, Origin, SourceKind, check_length, page_bytes};

/// Host memory of a memfd, from which `/dev/udmabuf` creates a dma-buf.
#[derive(Debug)]
pub struct UdmabufExporter {
    origin: Origin,
    path: PathBuf,
    device: OwnedFd,
    memfd: OwnedFd,
    mapping: Arc<Mapping>,
}

impl UdmabufExporter {
    /// Allocates the memory and opens `/dev/udmabuf`.
    ///
    /// # Errors
    /// [`Error::BadSource`] if the size is not a whole number of pages, [`Error::NotEnoughMemory`], [`Error::Memory`], or
    /// [`Error::CreateDmaBuf`] if `/dev/udmabuf` cannot be opened.
    pub fn open(size_bytes: u64) -> Result<Self, Error> {
        Self::open_at(PathBuf::from("/dev/udmabuf"), size_bytes)
    }

    fn open_at(path: PathBuf, size_bytes: u64) -> Result<Self, Error> {
        check_pages("udmabuf", size_bytes)?;
        let device = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|source| Error::CreateDmaBuf { path: path.clone(), size_bytes, source })?;
        check_available(size_bytes)?;
        let (memfd, mapping) = sealed_memory(size_bytes)?;
        let origin = origin(SourceKind::Udmabuf, size_bytes);
        Ok(Self { origin, path, device: device.into(), memfd, mapping: Arc::new(mapping) })
    }
}

/// Creates a memfd sealed against shrinking, as udmabuf requires, and maps it.
fn sealed_memory(size_bytes: u64) -> Result<(OwnedFd, Mapping), Error> {
    let failed = |operation| move |errno: nix::Error| Error::Memory { operation, size_bytes, source: errno.into() };
    let memfd = memfd_create(c"peerpath", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .map_err(failed("create a memfd"))?;
    let length = i64::try_from(size_bytes).map_err(|_| failed("set the size of the memfd")(nix::Error::EFBIG))?;
    nix::unistd::ftruncate(&memfd, length).map_err(failed("set the size of the memfd"))?;
    fcntl(&memfd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).map_err(failed("seal the memfd"))?;
    let mapping = Mapping::shared(memfd.as_fd(), 0, size_bytes).map_err(|source| Error::Memory {
        operation: "map the memfd",
        size_bytes,
        source,
    })?;
    Ok((memfd, mapping))
}

impl Exporter for UdmabufExporter {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn export(&self, length_bytes: u64) -> Result<Arc<Buffer>, Error> {
        check_length(self, length_bytes, page_bytes())?;
        let failed = |source| Error::CreateDmaBuf { path: self.path.clone(), size_bytes: length_bytes, source };
        let dma_buf = dma_buf::udmabuf_create(self.device.as_fd(), self.memfd.as_fd(), length_bytes).map_err(failed)?;
        let second = dma_buf.try_clone().map_err(failed)?;
        let view = MemoryView { mapping: Arc::clone(&self.mapping), length_bytes, dma_buf: Some(second) };
        let handle = Handle::DmaBuf(dma_buf);
        Ok(Arc::new(Buffer::new(handle, origin(SourceKind::Udmabuf, length_bytes), Arc::new(view))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::View;

    #[test]
    fn seals_the_memory_and_reads_it_through_the_view() {
        let (memfd, mapping) = sealed_memory(8192).unwrap();
        assert!(nix::unistd::ftruncate(&memfd, 4096).is_err(), "the memfd could shrink");
        let view = MemoryView { mapping: Arc::new(mapping), length_bytes: 4096, dma_buf: None };
        view.write(4095, &[7]).unwrap();
        assert!(view.write(4096, &[7]).is_err());
        let mut byte = [0];
        nix::sys::uio::pread(&memfd, &mut byte, 4095).unwrap();
        assert_eq!(byte, [7]);
    }

    #[test]
    fn explains_a_kernel_without_udmabuf() {
        let folder = tempfile::tempdir().unwrap();
        let error = UdmabufExporter::open_at(folder.path().join("udmabuf"), page_bytes()).unwrap_err();
        let explanation = peerpath_paths::Explained::explanation(&error);
        assert!(explanation.remedy.contains("modprobe udmabuf"), "{explanation:?}");
    }
}
