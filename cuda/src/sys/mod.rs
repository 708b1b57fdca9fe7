//! All calls of the driver. The interface is safe, except for functions that take an address.
#![allow(unsafe_code, reason = "the driver is a library of C functions")]

mod abi;
mod context;
mod external;
mod kernel;
mod library;
mod memory;
mod queue;

pub use context::Context;
pub use external::{ExternalKind, ExternalMemory};
pub use kernel::Kernels;
pub use library::{Driver, stand_in};
pub use memory::{DeviceMemory, HostKind, HostRegistration};
pub use queue::{Event, Stream};
