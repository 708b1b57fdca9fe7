//! Memory of NVIDIA GPUs.

use std::io;
use std::sync::Arc;

use peerpath_cuda::{Context, DeviceMemory, Driver};

use crate::{
    BarRange, Buffer, Error, Exporter, Handle, Origin, SourceKind, View, check_length, check_span, page_bytes,
};

/// Memory of an NVIDIA GPU, exported as a dma-buf if the driver supports it.
pub struct CudaExporter {
    origin: Origin,
    memory: Arc<DeviceMemory>,
}

impl CudaExporter {
    /// Checks the size and that the GPU exists, without allocating memory. `index` is the GPU number in the CUDA driver's
    /// enumeration.
    ///
    /// # Errors
    /// [`Error::BadSource`] if the size is not a whole number of pages, or [`Error::Gpu`].
    pub fn check(index: u32, size_bytes: u64) -> Result<(), Error> {
        super::check_pages("cuda", size_bytes)?;
        let driver = Driver::get().map_err(|source| Error::Gpu { what: "use GPU memory", source })?;
        driver.gpu(index).map(drop).map_err(|source| Error::Gpu { what: "open the GPU", source })
    }

    /// Allocates the memory. `index` is the GPU number in the CUDA driver's enumeration.
    ///
    /// # Errors
    /// Same as [`CudaExporter::check`], and [`Error::Gpu`] if the GPU does not have enough free memory.
    pub fn open(index: u32, size_bytes: u64) -> Result<Self, Error> {
        super::check_pages("cuda", size_bytes)?;
        let failed = |what| move |source| Error::Gpu { what, source };
        let driver = Driver::get().map_err(failed("use GPU memory"))?;
        let context = Context::open(driver, index).map_err(failed("open the GPU"))?;
        let bdf = context.gpu().bdf;
        let memory = DeviceMemory::new(&context, size_bytes).map_err(failed("allocate GPU memory"))?;
        let ranges = vec![BarRange { offset_bytes: 0, length_bytes: size_bytes }];
        let origin = Origin { kind: SourceKind::Cuda, bdf, bar: None, ranges };
        Ok(Self { origin, memory: Arc::new(memory) })
    }
}

impl Exporter for CudaExporter {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn export(&self, length_bytes: u64) -> Result<Arc<Buffer>, Error> {
        check_length(self, length_bytes, page_bytes())?;
        // If the driver exports no dma-buf, the importer of GPUs can still use the buffer.
        let handle = self.memory.dma_buf(length_bytes).map_or_else(Handle::GpuNotExported, Handle::DmaBuf);
        let origin = Origin { ranges: self.origin.front(length_bytes), ..self.origin.clone() };
        let view = GpuView { memory: Arc::clone(&self.memory), length_bytes };
        Ok(Arc::new(Buffer::new(handle, origin, Arc::new(view)).of_gpu(Arc::clone(&self.memory))))
    }
}

/// View of the first bytes of GPU memory. The CUDA driver copies the bytes.
pub struct GpuView {
    memory: Arc<DeviceMemory>,
    length_bytes: u64,
}

impl GpuView {
    /// Creates a view of the whole memory.
    pub fn whole(memory: Arc<DeviceMemory>) -> Self {
        Self { length_bytes: memory.length_bytes(), memory }
    }
}

impl View for GpuView {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        check_span(offset, into.len(), self.length_bytes)?;
        self.memory.read(offset, into).map_err(io::Error::other)
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        check_span(offset, from.len(), self.length_bytes)?;
        self.memory.write(offset, from).map_err(io::Error::other)
    }
}
