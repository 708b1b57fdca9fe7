//! Which way a transfer between two PCI functions goes, and why it is refused where it is.
//!
//! This crate knows the host and changes nothing on it (but for the trace instance and the probes of [`observe`], which it
//! takes away again): the names that all other crates share ([`Bdf`], [`PathName`],
//! [`Cause`], [`Explanation`]), what sysfs says, and the kernel's own decision worked out from it.

mod arrange;
mod bar;
mod bdf;
pub mod blockers;
mod cause;
mod claim;
mod config;
mod devices;
pub mod doctor;
mod explain;
mod explanation;
mod function;
mod group;
mod host;
mod host_bridges;
mod inventory;
mod nvidia;
pub mod observe;
mod order;
mod path_name;
mod predict;
mod rdma_drivers;
mod snapshot;
mod topology;
mod tree;
mod vfio;

pub use arrange::{DomainType, HostChange};
pub use bar::{Bar, BarIndex, BarIndexError, BarKind};
pub use bdf::{Bdf, ParseBdfError};
pub use cause::Cause;
pub use claim::{FunctionClaim, FunctionGuard};
pub use config::{AcsControl, AcsRegister, Ats, ConfigSpace, Link, Pcie, PortType, Seen};
pub use explain::{Facts, Step, explain};
pub use explanation::{Class, Explained, Explanation};
pub use function::{Function, Membership};
pub use group::IommuGroup;
pub use host::{Bounce, CommandLine, ConfidentialGuest, Cpu, FACTS_PATH, Host, HostFacts, KernelVersion, LegacyDma};
pub use inventory::{Inventory, ListBar, ListEntry};
pub use nvidia::NvidiaModule;
pub use path_name::PathName;
pub use predict::{Deciding, PathReport, Prediction, Predictor, Request};
pub use rdma_drivers::{DmaBufSupport, RDMA_DRIVERS, RdmaDriver};
pub use snapshot::write_snapshot;
pub use topology::{Group, RootBus, Topology};
pub use tree::{Limits, Tree, TreeError};
pub use vfio::{GroupError, VFIO_PCI, is_tolerated_driver, is_vfio_driver};
