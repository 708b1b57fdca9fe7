//! Resources in use while nothing runs.

use std::fmt;
use std::fs;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::sys;

/// Resources of this process, of the RDMA devices and of the kernel.
#[derive(Debug, Clone)]
pub(super) struct Resources {
    fds: usize,
    mapped_files: usize,
    allocated_kib: usize,
    /// Anonymous and shared memory, without file pages, which programs and libraries load on first use.
    resident_kib: u64,
    kernel_kib: u64,
    rdma: Value,
}

/// Allowed growth of allocated memory, for the outcomes that the soak test records.
const ALLOCATED_SLACK_KIB: usize = 64;
/// Allowed growth of resident memory, for heap fragmentation and the kernel's caches of exited processes. A leak of one
/// page per operation would be a hundred times larger.
const RESIDENT_SLACK_KIB: u64 = 1024;
const KERNEL_SLACK_KIB: u64 = 4096;

impl Resources {
    pub(super) fn now() -> Result<Self, Failed> {
        let rdma = Command::new("rdma").args(["-j", "resource", "show"]).output()?;
        // Freed memory is not a leak, and the amount that malloc keeps varies.
        sys::trim_heap();
        Ok(Self {
            fds: fs::read_dir("/proc/self/fd")?.count(),
            mapped_files: fs::read_to_string("/proc/self/maps")?.lines().filter(|line| line.contains(" /")).count(),
            allocated_kib: sys::allocated_bytes() >> 10,
            resident_kib: field("/proc/self/status", "RssAnon:")? + field("/proc/self/status", "RssShmem:")?,
            kernel_kib: field("/proc/meminfo", "SUnreclaim:")? + field("/proc/meminfo", "VmallocUsed:")?,
            rdma: serde_json::from_slice(&rdma.stdout)?,
        })
    }

    pub(super) fn as_json(&self) -> Value {
        let Self { fds, mapped_files, allocated_kib, resident_kib, kernel_kib, rdma } = self;
        json!({
            "fds": fds,
            "mapped_files": mapped_files,
            "allocated_kib": allocated_kib,
            "resident_kib": resident_kib,
            "kernel_kib": kernel_kib,
            "rdma": rdma,
        })
    }
}

fn field(file: &str, name: &str) -> Result<u64, Failed> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("{file} has no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fds, mapped_files, allocated_kib, resident_kib, kernel_kib, .. } = self;
        write!(
            f,
            "{fds} fds, {mapped_files} mapped files, {allocated_kib} KiB allocated, {resident_kib} KiB resident, \
             {kernel_kib} KiB in the kernel"
        )
    }
}

/// Returns the resources that grew since the first stretch. Growth during the first stretch is ignored, because it fills
/// caches and pools.
pub(super) fn grown(at_rest: &[Resources]) -> Vec<String> {
    let (Some(first), Some(last)) = (at_rest.first(), at_rest.last()) else { return Vec::new() };
    let mut grown = Vec::new();
    if last.fds != first.fds {
        grown.push(format!("fds changed from {} to {}", first.fds, last.fds));
    }
    if last.rdma != first.rdma {
        grown.push(format!("RDMA resources changed from {} to {}", first.rdma, last.rdma));
    }
    if last.mapped_files != first.mapped_files {
        grown.push(format!("mapped files changed from {} to {}", first.mapped_files, last.mapped_files));
    }
    if last.allocated_kib > first.allocated_kib + ALLOCATED_SLACK_KIB {
        grown.push(format!("allocated memory grew from {} KiB to {} KiB", first.allocated_kib, last.allocated_kib));
    }
    if last.resident_kib > first.resident_kib + RESIDENT_SLACK_KIB {
        grown.push(format!("resident memory grew from {} KiB to {} KiB", first.resident_kib, last.resident_kib));
    }
    if last.kernel_kib > first.kernel_kib + KERNEL_SLACK_KIB {
        grown.push(format!("kernel memory grew from {} KiB to {} KiB", first.kernel_kib, last.kernel_kib));
    }
    grown
}
