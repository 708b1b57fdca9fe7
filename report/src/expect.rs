//! Judges a result against expectations: bounds for latency, throughput and path that a run has to satisfy.

use std::fmt;

use peerpath_paths::PathName;

use crate::document::baseline_share;
use crate::saved::{Outcome, Saved, SavedCell};
use crate::units;

/// Which cells an expectation concerns, and the bounds that each of them has to satisfy. A field that is `None` selects every cell,
/// or leaves the figure unbounded. If all bounds are `None`, the cells only have to pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expectation {
    /// Operation, e.g. `write`.
    pub op: Option<String>,
    /// `completion`, `pingpong` or `bandwidth`.
    pub mode: Option<String>,
    /// Bytes per operation.
    pub size_bytes: Option<u64>,
    /// Kind of source, e.g. `vfio`.
    pub source: Option<String>,
    /// Name of the target device, e.g. `mlx5_0`.
    pub target: Option<String>,
    /// Lowest throughput, in bytes per second.
    pub min_bytes_per_s: Option<f64>,
    /// Highest throughput, in bytes per second.
    pub max_bytes_per_s: Option<f64>,
    /// Highest median latency, in nanoseconds.
    pub max_p50_ns: Option<f64>,
    /// Highest 99th percentile of the latency, in nanoseconds.
    pub max_p99_ns: Option<f64>,
    /// Lowest speed relative to the same operation on host memory in the same result, in percent.
    pub min_percent_of_host_memory: Option<f64>,
    /// Lowest throughput relative to the ceiling of the path ([`SavedCell::percent_of_ceiling`]), in percent.
    pub min_percent_of_ceiling: Option<f64>,
    /// Paths that the data may take. Empty: every path.
    pub paths: Vec<PathName>,
}

/// A bound that a cell does not satisfy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Index of the expectation.
    pub expectation: usize,
    /// Identifier of the cell. `None` if no cell matches the expectation.
    pub cell: Option<String>,
    /// What was expected and what was found, in a phrase.
    pub why: String,
}

/// Returns each bound that the result does not satisfy. An expectation without a matching cell is broken, and so is one whose cell
/// did not pass or lacks the figure: an expectation that cannot be checked must not count as satisfied.
pub fn broken(saved: &Saved, expectations: &[Expectation]) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (expectation, expected) in expectations.iter().enumerate() {
        let mut matching = saved.cells.iter().filter(|cell| expected.concerns(cell)).peekable();
        if matching.peek().is_none() {
            let why = format!("no cell matches {expected}");
            broken.push(Broken { expectation, cell: None, why });
        }
        for cell in matching {
            let whys = expected.broken_by(saved, cell);
            broken.extend(whys.into_iter().map(|why| Broken { expectation, cell: Some(cell.id.clone()), why }));
        }
    }
    broken
}

impl Expectation {
    fn concerns(&self, cell: &SavedCell) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.op, &cell.op)
            && is(&self.mode, &cell.mode)
            && is(&self.source, &cell.source.kind)
            && is(&self.target, &cell.target.device)
            && self.size_bytes.is_none_or(|wanted| cell.size_bytes == Some(wanted))
    }

    fn broken_by(&self, saved: &Saved, cell: &SavedCell) -> Vec<String> {
        if cell.outcome != Outcome::Passed {
            return vec![format!("the cell is {}", cell.outcome.as_str())];
        }
        let nanoseconds = units::nanoseconds;
        let rate = units::bytes_per_second;
        let percent = |percent: f64| format!("{percent:.0} %");
        let share = || baseline_share(saved, cell).map(|share| share * 100.0);
        let checks: [Option<String>; 6] = [
            at_least("throughput", self.min_bytes_per_s, || cell.throughput, rate),
            at_most("throughput", self.max_bytes_per_s, || cell.throughput, rate),
            at_most("p50", self.max_p50_ns, || cell.p50(), nanoseconds),
            at_most("p99", self.max_p99_ns, || cell.p99(), nanoseconds),
            at_least("share of host memory", self.min_percent_of_host_memory, share, percent),
            at_least("share of the ceiling", self.min_percent_of_ceiling, || cell.percent_of_ceiling(), percent),
        ];
        let path = cell.path.best_known();
        let allowed: Vec<&str> = self.paths.iter().map(|path| path.as_str()).collect();
        let wrong_path = (!self.paths.is_empty() && !self.paths.contains(&path))
            .then(|| format!("path {path}, expected {}", allowed.join(" or ")));
        checks.into_iter().flatten().chain(wrong_path).collect()
    }
}

impl fmt::Display for Expectation {
    /// The properties by which it selects cells.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size_bytes.map(units::bytes);
        let parts = [
            ("op", &self.op),
            ("mode", &self.mode),
            ("size", &size),
            ("source", &self.source),
            ("target", &self.target),
        ];
        let parts: Vec<String> =
            parts.iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?))).collect();
        formatter.write_str(if parts.is_empty() { "any cell" } else { "" })?;
        formatter.write_str(&parts.join(", "))
    }
}

fn at_least(
    what: &str,
    bound: Option<f64>,
    found: impl FnOnce() -> Option<f64>,
    text: impl Fn(f64) -> String,
) -> Option<String> {
    checked(what, bound, found, text, "at least", |found, bound| found >= bound)
}

fn at_most(
    what: &str,
    bound: Option<f64>,
    found: impl FnOnce() -> Option<f64>,
    text: impl Fn(f64) -> String,
) -> Option<String> {
    checked(what, bound, found, text, "at most", |found, bound| found <= bound)
}

fn checked(
    what: &str,
    bound: Option<f64>,
    found: impl FnOnce() -> Option<f64>,
    text: impl Fn(f64) -> String,
    comparison: &str,
    keeps: fn(f64, f64) -> bool,
) -> Option<String> {
    let bound = bound?;
    match found() {
        Some(found) if keeps(found, bound) => None,
        Some(found) => Some(format!("{what} {}, expected {comparison} {}", text(found), text(bound))),
        None => Some(format!("{what} unknown, expected {comparison} {}", text(bound))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A result with a write of 4 KiB to a BAR and to host memory.
    fn saved() -> Saved {
        let cell = |id: &str, kind: &str, path: &str, rate: f64| {
            serde_json::json!({
                "id": id, "source": {"kind": kind}, "target": {"kind": "verbs", "device": "mlx5_0"},
                "path": {"observed": path}, "op": "write", "mode": "bandwidth", "direction": "into_source",
                "size_bytes": 4096, "depth": 1, "threads": 1, "qps": 1, "iterations": 1000, "outcome": "passed",
                "throughput_bytes_per_s": rate
            })
        };
        let mut bar = cell("bar", "vfio", "bus-address", 8e9);
        bar["ceiling"] = serde_json::json!({"bytes_per_s": 10e9, "limited_by": "link a - b"});
        let mut failed = cell("failed", "udmabuf", "host-memory", 0.0);
        failed["outcome"] = "failed".into();
        let result = serde_json::json!({
            "schema_version": 2, "environment": {},
            "cells": [bar, cell("host", "host", "host-memory", 10e9), failed]
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("result.json");
        std::fs::write(&file, result.to_string()).unwrap();
        crate::saved::read(&file).unwrap()
    }

    fn whys(expectation: Expectation) -> Vec<String> {
        broken(&saved(), &[expectation]).into_iter().map(|broken| broken.why).collect()
    }

    fn of(source: &str) -> Expectation {
        Expectation { source: Some(source.to_owned()), ..Expectation::default() }
    }

    #[test]
    fn kept_bounds_are_not_reported() {
        let kept = Expectation {
            op: Some("write".to_owned()),
            mode: Some("bandwidth".to_owned()),
            size_bytes: Some(4096),
            target: Some("mlx5_0".to_owned()),
            min_bytes_per_s: Some(7.9e9),
            max_bytes_per_s: Some(8e9),
            min_percent_of_host_memory: Some(80.0),
            min_percent_of_ceiling: Some(80.0),
            paths: vec![PathName::HostBridgeBypass, PathName::BusAddress],
            ..of("vfio")
        };
        assert_eq!(whys(kept), Vec::<String>::new());
    }

    #[test]
    fn each_broken_bound_is_named_with_both_values() {
        let broken = Expectation {
            min_bytes_per_s: Some(9e9),
            max_bytes_per_s: Some(1e9),
            max_p50_ns: Some(2000.0),
            min_percent_of_host_memory: Some(81.0),
            min_percent_of_ceiling: Some(82.0),
            paths: vec![PathName::HostBridgeBypass],
            ..of("vfio")
        };
        assert_eq!(
            whys(broken),
            [
                "throughput 8.00 GB/s, expected at least 9.00 GB/s",
                "throughput 8.00 GB/s, expected at most 1.00 GB/s",
                "p50 unknown, expected at most 2.00 us",
                "share of host memory 80 %, expected at least 81 %",
                "share of the ceiling 80 %, expected at least 82 %",
                "path bus-address, expected host-bridge-bypass",
            ]
        );
    }

    #[test]
    fn what_cannot_be_checked_is_broken() {
        assert_eq!(whys(of("cuda")), ["no cell matches source cuda"]);
        assert_eq!(whys(of("udmabuf")), ["the cell is failed"]);
        let without_baseline = Expectation { min_percent_of_host_memory: Some(1.0), ..of("host") };
        assert_eq!(whys(without_baseline), ["share of host memory unknown, expected at least 1 %"]);
        let without_ceiling = Expectation { min_percent_of_ceiling: Some(1.0), ..of("host") };
        assert_eq!(whys(without_ceiling), ["share of the ceiling unknown, expected at least 1 %"]);
    }
}
