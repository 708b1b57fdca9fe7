//! Which way a transfer between two PCI functions goes, and why it is refused where it is.
//!
//! This crate knows the host and changes nothing on it: the names that all other crates share ([`Bdf`], [`PathName`],
//! [`Cause`], [`Explanation`]), what sysfs says, and the kernel's own decision worked out from it.

mod arrange;
mod bar;
mod bdf;
pub mod blockers;
mod cause;
mod config;
mod devices;
pub mod doctor;
mod explain;
mod explanation;
mod function;
mod host;
mod host_bridges;
mod inventory;
mod nvidia;
mod order;
mod path_name;
mod predict;
mod rdma_drivers;
mod snapshot;
mod topology;
mod tree;

pub use arrange::{DomainType, HostChange};
pub use bar::{Bar, BarKind};
pub use bdf::{Bdf, ParseBdfError};
pub use cause::Cause;
pub use config::{AcsControl, AcsRegister, Ats, Capability, ConfigSpace, Link, Pcie, PortType};
pub use explain::{Facts, Step, explain};
pub use explanation::{Explained, Explanation, Severity};
pub use function::{Function, GroupMembership};
pub use host::{Bounce, CommandLine, ConfidentialGuest, Cpu, FACTS_PATH, Host, HostFacts, KernelVersion, LegacyDma};
pub use inventory::{Inventory, ListBar, ListEntry};
pub use nvidia::NvidiaModule;
pub use path_name::PathName;
pub use predict::{DecidingFact, PathReport, Prediction, Predictor, Request};
pub use rdma_drivers::{DmaBufSupport, RDMA_DRIVERS, RdmaDriver};
pub use snapshot::write_snapshot;
pub use topology::{IommuGroup, RootBus, Topology};
pub use tree::{Limits, Tree, TreeError};
