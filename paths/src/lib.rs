//! Predicts the path of a peer-to-peer transfer between two PCI functions, and explains refusals.
//!
//! The crate reads a host from sysfs and procfs, from a snapshot of them, or from the output of lspci, and changes nothing:
//!
//! - [`Tree`] reads the files. [`Topology`] models functions, bridges and IOMMU groups, [`Host`] kernel and processor.
//! - [`Predictor`] applies the rules of P2PDMA and of the DMA API to a pair of functions.
//! - [`Inventory::arrange`] plans the changes of the host that give a pair another path.
//! - [`ceiling`] computes the highest rate that the links of a path allow.
//! - [`doctor`] checks whether a host can export, import and observe.
//! - [`explain()`] turns an errno of the kernel into cause, severity, reason and remedy; [`kernel_log`] does so for lines of
//!   the kernel log.
//!
//! ```
//! use peerpath_paths::{Inventory, PathName, Request, Tree};
//!
//! let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/truth/01_switch_epyc.tar.gz");
//! let inventory = Inventory::read(&Tree::open(snapshot.as_ref())?);
//! for report in inventory.reports(None, None, Request::default()) {
//!     println!("{} -> {}: {}, because {}", report.from, report.to, report.predicted, report.deciding.fact);
//! }
//! # let mut reports = inventory.reports(None, None, Request::default());
//! # assert!(reports.any(|report| report.predicted == PathName::BusAddress));
//! # Ok::<(), peerpath_paths::TreeError>(())
//! ```

mod acs_route;
mod arrange;
mod bar;
mod bdf;
mod blockers;
mod boot_option;
mod cause;
pub mod ceiling;
mod config;
mod devices;
pub mod doctor;
mod endpoint_kind;
mod explain;
mod explanation;
mod exporter_rule;
mod function;
mod function_list;
mod group;
mod host;
mod host_change;
mod inbound;
pub mod input_file;
mod inventory;
pub mod kernel_log;
pub mod kernel_rules;
mod kernel_version;
mod link_security;
mod locality;
mod nvidia;
mod open_files;
mod order;
mod path_name;
mod placement;
mod predict;
mod printable;
mod public_command_line;
mod rdma_drivers;
mod route_facts;
mod sentence;
mod snapshot;
mod topology;
mod tree;
mod vfio;

pub use bar::{Bar, BarIndex, BarIndexError, BarKind};
pub use bdf::{Bdf, ParseBdfError};
pub use cause::Cause;
pub use config::{AcsControl, AcsRegister, Ats, Capability, ConfigSpace, Ide, Link, Pcie, PortType};
pub use devices::is_soft_rdma;
pub use endpoint_kind::EndpointKind;
pub use explain::{
    DocumentedErrno, ErrnoMeaning, Facts, MemoryKind, NamedCall, Route, Step, UnknownStepError, call_in,
    documented_errnos, errno_in, errno_meanings, errno_name, explain, parse_errno,
};
pub use explanation::{Explained, Explanation, Severity};
pub use exporter_rule::ExporterRule;
pub use function::{Function, GroupMembership};
pub use group::IommuGroupId;
pub use host::{
    Architecture, Bounce, CommandLine, ConfidentialGuest, Cpu, Evidence, FACTS_PATH, Host, HostFacts, LegacyDma,
    Platform,
};
pub use host_change::{DomainType, HostChange};
pub use inbound::{Inbound, InboundRange};
pub use inventory::{Inventory, ListBar, ListEntry};
pub use kernel_rules::KernelRules;
pub use kernel_version::KernelVersion;
pub use locality::Locality;
pub use nvidia::NvidiaModule;
pub use open_files::limit_of_open_files;
pub use path_name::PathName;
pub use predict::{
    AlikePairs, DecidingFact, FunctionGroup, MatrixCell, PathMatrix, PathReport, Prediction, Predictor, Request,
};
pub use printable::{printable, printable_lines, printable_within};
pub use public_command_line::public_command_line;
pub use rdma_drivers::{DmaBufSupport, RDMA_DRIVERS, RdmaDriver};
pub use sentence::{capitalized, sentence};
pub use snapshot::write_snapshot;
pub use topology::{IommuGroup, ReservedRegion, RootBus, RootParent, Topology};
pub use tree::{Limits, Tree, TreeError};
pub use vfio::{GroupError, UnreadFile, VFIO_PCI, is_tolerated_driver, is_vfio_driver};
