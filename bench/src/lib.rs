//! Measures data paths between PCI devices: runs a plan, verifies the data, and saves the result. Source and target are on one
//! host or on two.
//!
//! A [`Plan`](plan::Plan) lists sources, targets, operations and sizes. Each combination is a cell: one measurement of one
//! source, one target, one path, one operation, one mode and one size. A [`Runner`](run::Runner) runs the cells one after the
//! other and saves after each. A cell that this host does not support is waived with a reason. A cell fails if its data is
//! wrong, or if the data takes another path than the plan asks for.
//!
//! This program measures writes of host memory through an RDMA device, or through any other importer, including one that you
//! implement:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use peerpath_bench::environment::Host;
//! use peerpath_bench::failure::Failure;
//! use peerpath_bench::interrupt::Interrupt;
//! use peerpath_bench::plan::{Mode, Plan, Target};
//! use peerpath_bench::result::Tool;
//! use peerpath_bench::route::Routes;
//! use peerpath_bench::run::Runner;
//! use peerpath_bench::store::{Destination, Existing};
//! use peerpath_exporter::{OpenOptions, Source};
//! use peerpath_importers::{Importer, Op};
//! use peerpath_paths::Tree;
//!
//! fn measure(importer: &'static dyn Importer, device: &str) -> Result<(), Failure> {
//!     let target = Target::among(&[importer], &format!("{}:{device}", importer.kind()))?;
//!     let plan = Plan {
//!         ops: vec![Op::Write],
//!         modes: vec![Mode::Completion, Mode::Bandwidth],
//!         sizes_bytes: vec![4096, 65536],
//!         depths: vec![16],
//!         iterations: Some(10_000),
//!         ..Plan::new(vec![Source::Host { size_bytes: 16 << 20 }], vec![target])
//!     };
//!     let mut runner = Runner {
//!         plan: &plan,
//!         tool: Tool { name: "example".into(), version: "1.0".into(), git_revision: None },
//!         arguments: Vec::new(),
//!         open: &OpenOptions::default(),
//!         changes: &peerpath_host::Options::default(),
//!         destination: Destination::Folder(Path::new("results/example"), Existing::Refuse),
//!         interrupt: &Interrupt::default(),
//!         host: Host::new(Tree::live()),
//!         routes: Routes::live(),
//!         peer: None,
//!     };
//!     for cell in runner.run(&mut ())?.cells {
//!         println!("{}: {:?} {:?} bytes/s", cell.id, cell.outcome, cell.measured.throughput_bytes_per_s);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! [`measure`] contains the measured loops, [`window`] and [`atomic_words`] verify the data, [`store`] saves the [`result`], and
//! [`peer`] is the protocol between client and server of a run between two hosts.

mod append;
pub mod atomic_words;
pub mod conditions;
pub mod cpus;
pub(crate) mod disturbance;
pub mod environment;
pub mod failure;
mod gcd;
pub mod interrupt;
pub mod layout;
pub mod measure;
pub mod pattern;
pub mod peer;
pub mod plan;
pub mod result;
pub mod route;
pub mod run;
pub mod store;
#[cfg(test)]
mod testing;
pub mod window;
