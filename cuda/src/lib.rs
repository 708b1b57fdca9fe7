//! NVIDIA's CUDA driver, loaded at run time: GPUs, their memory, and the mechanisms that give them access to other memory.
//!
//! The exporter and the importer of GPUs both use this crate. A program that uses it also starts on hosts without a driver. A
//! missing driver, a function that the driver lacks and a lost GPU are each an [`Error`] with a cause and a remedy.
//!
//! ```no_run
//! use peerpath_cuda::{Context, DeviceMemory, Driver};
//!
//! # fn main() -> Result<(), peerpath_cuda::Error> {
//! let driver = Driver::get()?;
//! for gpu in driver.gpus()? {
//!     println!("{}: {}, {} bytes", gpu.index, gpu.name, gpu.memory_bytes);
//! }
//! let context = Context::open(driver, 0)?;
//! let memory = DeviceMemory::new(&context, 2 << 20)?;
//! memory.write(0, b"hello")?;
//! let dma_buf = memory.dma_buf(memory.length_bytes())?;
//! # drop(dma_buf);
//! # Ok(())
//! # }
//! ```
//!
//! Tests replace the driver with a fake CUDA driver: a library of the same name that exports the symbol `peerpath_stand_in`.
//! [`stand_in`] detects the fake, so that its results are marked as emulated.

mod error;
mod gpu;
mod status;
mod sys;

pub use error::Error;
pub use gpu::{Gpu, Version};
pub use sys::{
    Context, DeviceMemory, Driver, Event, ExternalKind, ExternalMemory, HostKind, HostRegistration, Kernels, Stream,
    stand_in,
};
