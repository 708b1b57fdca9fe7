//! Saved results of `peerpath`: read, compared, and reported on.
//!
//! [`saved`] reads results of any version, truncated or edited ones included. [`compare`] compares two of them cell by cell.
//! [`document`] reports on one or more as HTML, Markdown or CSV.

pub mod compare;
pub mod document;
pub mod saved;
pub mod units;
