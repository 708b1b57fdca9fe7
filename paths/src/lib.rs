//! Which way a transfer between two PCI functions goes, and why it is refused where it is.
//!
//! This crate knows the host and changes nothing on it: the names that all other crates share ([`Bdf`], [`PathName`],
//! [`Cause`], [`Explanation`]), what sysfs says, and the kernel's own decision worked out from it.

mod bdf;
mod cause;
mod explain;
mod explanation;
mod path_name;
mod rdma_drivers;
mod tree;

pub use bdf::{Bdf, ParseBdfError};
pub use cause::Cause;
pub use explain::{Facts, Step, explain};
pub use explanation::{Class, Explained, Explanation};
pub use path_name::PathName;
pub use rdma_drivers::{DmaBufSupport, RDMA_DRIVERS, RdmaDriver};
pub use tree::{Limits, Tree, TreeError};
