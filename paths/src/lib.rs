//! Predicts the path of a peer-to-peer transfer between two PCI functions, and explains refusals.
//!
//! The crate reads a host from sysfs and procfs, or from a snapshot of them, and changes nothing:
//!
//! - [`Tree`] reads the files, [`Topology`] and [`Host`] model functions, bridges, IOMMU groups, kernel and processor.
//! - [`Predictor`] applies the rules of p2pdma and of the DMA API to a pair of functions.
//! - [`Inventory::arrange`] plans the changes of the host that give a pair another path.
//! - [`doctor`] checks whether a host can export, import and observe.
//! - [`explain()`] turns an errno of the kernel into cause, severity, reason and remedy.
//!
//! ```
//! use peerpath_paths::{Inventory, PathName, Request, Tree};
//!
//! let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/truth/01_switch_epyc.tar.gz");
//! let inventory = Inventory::read(&Tree::open(snapshot.as_ref())?);
//! for report in inventory.reports(None, None, Request::default()) {
//!     println!("{} -> {}: {}, because {}", report.from, report.to, report.predicted, report.deciding.fact);
//! }
//! # let reports = inventory.reports(None, None, Request::default());
//! # assert!(reports.iter().any(|report| report.predicted == PathName::BusAddress));
//! # Ok::<(), peerpath_paths::TreeError>(())
//! ```

mod arrange;
mod bar;
mod bdf;
mod blockers;
mod cause;
mod config;
mod devices;
pub mod doctor;
mod explain;
mod explanation;
mod function;
mod group;
mod host;
mod host_change;
mod inbound;
mod inventory;
pub mod kernel_rules;
mod nvidia;
mod order;
mod path_name;
mod predict;
mod rdma_drivers;
mod snapshot;
mod topology;
mod tree;
mod vfio;

pub use bar::{Bar, BarIndex, BarIndexError, BarKind};
pub use bdf::{Bdf, ParseBdfError};
pub use cause::Cause;
pub use config::{AcsControl, AcsRegister, Ats, Capability, ConfigSpace, Link, Pcie, PortType};
pub use explain::{Facts, Route, Step, explain};
pub use explanation::{Explained, Explanation, Severity};
pub use function::{Function, GroupMembership};
pub use group::IommuGroupId;
pub use host::{
    Bounce, CommandLine, ConfidentialGuest, Cpu, Evidence, FACTS_PATH, Host, HostFacts, KernelVersion, LegacyDma,
};
pub use host_change::{DomainType, HostChange};
pub use inbound::{Inbound, InboundRange};
pub use inventory::{Inventory, ListBar, ListEntry};
pub use kernel_rules::KernelRules;
pub use nvidia::NvidiaModule;
pub use path_name::PathName;
pub use predict::{DecidingFact, PathReport, Prediction, Predictor, Request};
pub use rdma_drivers::{DmaBufSupport, RDMA_DRIVERS, RdmaDriver};
pub use snapshot::write_snapshot;
pub use topology::{IommuGroup, ReservedRegion, RootBus, Topology};
pub use tree::{Limits, Tree, TreeError};
pub use vfio::{GroupError, UnreadFile, VFIO_PCI, is_tolerated_driver, is_vfio_driver};
