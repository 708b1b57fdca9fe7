//! Reads saved results of peerpath, compares them, and reports on them as HTML, Markdown or CSV.
//!
//! A result file holds the cells of one run. A cell is one measurement: source (the memory under test) x target (the device that
//! moves data) x path x operation x mode x size, and every other setting.
//!
//! - [`saved`] reads result files of any version, also truncated and edited ones.
//! - [`compare`] compares results cell by cell, by their repeats.
//! - [`document`] renders a report on one or more results.
//! - [`expect`] judges a result against bounds for latency, throughput and path.
//! - [`units`] formats bytes, times and rates with units.
//!
//! ```
//! use std::path::PathBuf;
//!
//! use peerpath_report::document::{Document, Format};
//! use peerpath_report::saved;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let results = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../results/reference/demo"));
//! let document = Document::read(&saved::find(&[results]));
//! for error in document.unreadable() {
//!     eprintln!("{error}");
//! }
//! let markdown = document.render(Format::Markdown)?;
//! assert!(markdown.starts_with("# Data paths"));
//! # Ok(())
//! # }
//! ```
//!
//! Comparing two results, or several on each side:
//!
//! ```
//! use std::path::Path;
//!
//! use peerpath_report::compare::{Options, Verdict, compare, rows_by_severity};
//! use peerpath_report::saved;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../results/reference/demo/result.json"));
//! let (base, new) = (saved::read(file)?, saved::read(file)?);
//! let comparison = compare(&[&base], &[&new], Options { threshold_percent: 5.0, force: false })?;
//! for row in rows_by_severity(&comparison) {
//!     println!("{}: {} {}: {}", row.verdict.as_str(), row.key, row.metric, row.why);
//! }
//! assert_ne!(comparison.verdict, Verdict::Worse);
//! # Ok(())
//! # }
//! ```

pub mod compare;
pub mod document;
pub mod expect;
pub mod saved;
pub mod units;
