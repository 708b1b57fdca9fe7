//! Plans, runs, results and the command line of `peerpath`.
//!
//! A [`plan`] becomes cells; [`run`] carries them out one by one through an exporter and an importer, [`measure`] times
//! them, [`window`] verifies what arrived, and [`store`] saves the [`result`] after every cell. [`saved`] results, whoever
//! wrote them, become a [`report`], or are set against each other by [`compare`].

pub mod cli;
pub mod compare;
pub mod cpus;
pub mod environment;
pub mod failure;
pub mod interrupt;
pub mod layout;
pub mod measure;
pub mod pattern;
pub mod peer;
pub mod plan;
pub mod report;
pub mod result;
pub mod route;
pub mod run;
pub mod saved;
pub mod store;
pub mod table;
#[cfg(test)]
mod testing;
pub mod units;
pub mod window;
pub mod words;
