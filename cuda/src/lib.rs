//! The CUDA driver, loaded at run time: GPUs, their memory, and the ways by which they reach memory of others.
//!
//! Both who exports a GPU's memory and who imports with a GPU stand on this. A host without a driver, a driver without some
//! function, and a GPU that is lost are all an [`Error`] that explains itself.
//!
//! A library that says of itself that it stands in for the driver (it has the symbol `peerpath_stand_in`) is used like one, and
//! [`stand_in`] tells: what was measured with it is no measurement.

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
