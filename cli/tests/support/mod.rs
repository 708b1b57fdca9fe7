//! Synthetic results for tests, in the format of real ones and with given samples.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use serde_json::{Value, json};

/// Runs the program.
pub(crate) fn peerpath(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peerpath")).args(arguments).output().unwrap()
}

/// Standard output, then standard error.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Directory of the reference results.
pub(crate) fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference")
}

/// The latency object of a result, with these samples in nanoseconds.
pub(crate) fn latency(samples: &[u64]) -> Value {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 600_000_000_000, 3).unwrap();
    for sample in samples {
        histogram.record(*sample).unwrap();
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut bytes).unwrap();
    let at = |share| histogram.value_at_quantile(share);
    json!({
        "min": histogram.min(), "p10": at(0.1), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999),
        "max": histogram.max(), "mean": histogram.mean(), "stdev": histogram.stdev(),
        "histogram": base64::engine::general_purpose::STANDARD.encode(bytes)
    })
}

/// A cell with a BAR and a NIC below one switch.
pub(crate) fn cell(op: &str, size_bytes: u64) -> Value {
    json!({
        "id": format!("0000:03:00.0:2/verbs:mlx5_0/{op}/completion/{size_bytes}/1"),
        "source": {"kind": "vfio", "bdf": "0000:03:00.0", "bar": 2, "ranges": [{"offset_bytes": 0, "length_bytes": 16 << 20}]},
        "target": {"kind": "verbs", "device": "mlx5_0", "bdf": "0000:04:00.0"},
        "path": {
            "asked": null, "predicted": "bus-address", "observed": "bus-address",
            "hops": ["0000:03:00.0", "0000:02:00.0", "0000:01:00.0", "0000:02:01.0", "0000:04:00.0"], "turns_at": "0000:01:00.0",
            "deciding": {"bdf": "0000:01:00.0", "fact": "the functions have a common bridge, and no ACS redirect is set between them"},
            "blockers": [], "evidence": ["pci_p2pdma_map_type returned BUS_ADDR (3)"]
        },
        "op": op, "mode": "completion", "direction": if op == "read" { "out_of_source" } else { "into_source" },
        "engine": "device", "mechanism": "uverbs-ioctl", "size_bytes": size_bytes, "depth": 1, "threads": 1, "qps": 1,
        "iterations": 1000, "warmup": 10, "outcome": "passed", "verified_bytes": size_bytes * 4
    })
}

/// Adds repeats to a cell: a list of latency samples in nanoseconds for each. The figures of the cell are those of the median repeat.
pub(crate) fn repeat_latency(cell: &mut Value, repeats: &[Vec<u64>]) {
    let mut sorted: Vec<Value> = repeats.iter().map(|samples| latency(samples)).collect();
    cell["repeats"] = repeats
        .iter()
        .map(|samples| json!({"iterations": samples.len(), "latency_ns": latency(samples), "steady": true}))
        .collect();
    sorted.sort_by(|one, other| one["p50"].as_f64().unwrap().total_cmp(&other["p50"].as_f64().unwrap()));
    cell["iterations"] = json!(repeats[0].len());
    cell["latency_ns"] = sorted[(sorted.len() - 1) / 2].clone();
}

/// Adds repeats with these throughputs to a cell.
pub(crate) fn repeat_throughput(cell: &mut Value, repeats: &[f64]) {
    cell["mode"] = json!("bandwidth");
    cell["repeats"] = repeats.iter().map(|rate| json!({"throughput_bytes_per_s": rate})).collect();
    let mut sorted = repeats.to_vec();
    sorted.sort_by(f64::total_cmp);
    cell["throughput_bytes_per_s"] = json!(sorted[(sorted.len() - 1) / 2]);
}

/// The same cell with host memory as source.
pub(crate) fn baseline(cell: &Value) -> Value {
    let mut cell = cell.clone();
    cell["id"] = json!(cell["id"].as_str().unwrap().replace("0000:03:00.0:2", "host:16M"));
    cell["source"] =
        json!({"kind": "host", "bdf": null, "bar": null, "ranges": [{"offset_bytes": 0, "length_bytes": 16 << 20}]});
    cell["path"] = json!({
        "asked": null, "predicted": "host-memory", "observed": "host-memory", "blockers": [],
        "evidence": ["the source is ordinary memory of this host"]
    });
    cell
}

/// A result from hardware, with these cells.
pub(crate) fn result(cells: &[Value]) -> Value {
    json!({
        "schema_version": 2,
        "tool": {"name": "peerpath", "version": "0.1.0"},
        "run": {"id": "2026-01-01T00:00:00Z-1", "started_at": "2026-01-01T00:00:00Z", "arguments": ["peerpath", "run"], "plan": {}},
        "environment": {
            "hostname": "lab-7", "kernel": "7.2.12", "iommu": "intel", "emulated": false, "soft_rdma": false,
            "devices": [{"bdf": "0000:03:00.0", "name": "a card"}, {"bdf": "0000:04:00.0", "name": "a NIC"}]
        },
        "cells": cells
    })
}

/// Writes the result to a file.
pub(crate) fn save(folder: &Path, name: &str, result: &Value) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, result.to_string()).unwrap();
    file
}

/// Reproducible pseudo-random numbers (splitmix64). The field is the seed.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    /// Uniform between 0 and 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Latencies in nanoseconds: normally distributed around `middle_ns`; one sample in a hundred is three times as long.
    pub(crate) fn latencies(&mut self, count: usize, middle_ns: f64, spread: f64) -> Vec<u64> {
        let mut one = || {
            let bell: f64 = (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0;
            let late = if self.uniform() < 0.01 { 3.0 } else { 1.0 };
            (middle_ns * (1.0 + spread * bell).max(0.05) * late) as u64
        };
        (0..count).map(|_| one()).collect()
    }
}
