//! Benchmarks of data paths: a plan, what is measured, what is verified, and the result; on one host or between two.
//!
//! A [`plan`] becomes cells. [`run`] carries them out one by one through an exporter and an importer, [`measure`] times them,
//! [`window`] verifies the data, and [`store`] saves the [`result`] after every cell. [`peer`] is the protocol between the two
//! hosts of a run.

pub mod atomic_words;
pub mod cpus;
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
