//! What is in use while everything rests.

use std::fmt;
use std::fs;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::{Value, json};

/// Of this process, of the RDMA devices, and of the kernel.
#[derive(Debug, Clone)]
pub(super) struct Resources {
    fds: usize,
    resident_kib: u64,
    kernel_kib: u64,
    rdma: Value,
}

/// What an allocator keeps, and the kernel's caches of what processes that ended had; a leak of one page an operation would
/// be a hundred times that.
const RESIDENT_SLACK_KIB: u64 = 2048;
const KERNEL_SLACK_KIB: u64 = 8192;

impl Resources {
    pub(super) fn now() -> Result<Self, Failed> {
        let rdma = Command::new("rdma").args(["-j", "resource", "show"]).output()?;
        Ok(Self {
            fds: fs::read_dir("/proc/self/fd")?.count(),
            resident_kib: field("/proc/self/status", "VmRSS:")?,
            kernel_kib: field("/proc/meminfo", "SUnreclaim:")? + field("/proc/meminfo", "VmallocUsed:")?,
            rdma: serde_json::from_slice(&rdma.stdout)?,
        })
    }

    pub(super) fn as_json(&self) -> Value {
        let Self { fds, resident_kib, kernel_kib, rdma } = self;
        json!({ "fds": fds, "resident_kib": resident_kib, "kernel_kib": kernel_kib, "rdma": rdma })
    }
}

fn field(file: &str, name: &str) -> Result<u64, Failed> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("{file} has no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fds, resident_kib, kernel_kib, .. } = self;
        write!(f, "{fds} fds, {resident_kib} KiB resident, {kernel_kib} KiB of the kernel's")
    }
}

/// What there is more of at the end than after the first stretch, which filled caches and pools.
pub(super) fn grown(at_rest: &[Resources]) -> Vec<String> {
    let (Some(first), Some(last)) = (at_rest.first(), at_rest.last()) else { return Vec::new() };
    let mut grown = Vec::new();
    if last.fds != first.fds {
        grown.push(format!("{} fds became {}", first.fds, last.fds));
    }
    if last.rdma != first.rdma {
        grown.push(format!("RDMA resources were {} and are {}", first.rdma, last.rdma));
    }
    if last.resident_kib > first.resident_kib + RESIDENT_SLACK_KIB {
        grown.push(format!("{} KiB of memory became {}", first.resident_kib, last.resident_kib));
    }
    if last.kernel_kib > first.kernel_kib + KERNEL_SLACK_KIB {
        grown.push(format!("{} KiB of the kernel's became {}", first.kernel_kib, last.kernel_kib));
    }
    grown
}
