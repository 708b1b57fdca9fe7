//! CPUs and their NUMA nodes.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use peerpath_paths::{Bdf, Tree};

use crate::measure::MeasureError;

/// Binds the calling thread to a CPU.
///
/// # Errors
/// The CPU is offline, or is not in the cpuset of the process.
pub fn bind_this_thread(cpu: u32) -> Result<(), MeasureError> {
    restrict_this_thread(&[cpu]).map_err(|errno| MeasureError::Bind { cpu, source: errno.into() })
}

/// Restricts the calling thread to these CPUs. The kernel then allocates the memory that the thread touches first on their NUMA
/// node.
///
/// # Errors
/// All of the CPUs are offline, or none is in the cpuset of the process.
pub fn restrict_this_thread(cpus: &[u32]) -> nix::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu as usize)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Maximum number of CPUs in a list. A CPU may occur more than once, but no run has more threads.
const LONGEST_LIST: usize = 65_536;

/// Parses a CPU list in the format of the kernel, e.g. `0-3,8`. `None` if it is invalid, or has more than 65,536 CPUs.
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // `CpuSet` cannot contain a larger number.
        if first > last || last >= CpuSet::count() as u32 {
            return None;
        }
        all.extend(first..=last);
        if all.len() > LONGEST_LIST {
            return None;
        }
    }
    Some(all)
}

/// The CPUs of a NUMA node; `None` if the node does not exist.
pub fn of_node(tree: &Tree, node: u32) -> Option<Vec<u32>> {
    parse_list(&tree.text(&format!("sys/devices/system/node/node{node}/cpulist"))?)
}

/// Whether the CPU exists and is online; `None` if the kernel does not report it.
pub fn is_online(tree: &Tree, cpu: u32) -> Option<bool> {
    Some(parse_list(&tree.text("sys/devices/system/cpu/online")?)?.contains(&cpu))
}

/// Returns a warning if threads that are bound to these CPUs may run on another NUMA node than that of the function. Each
/// access would then cross the interconnect. An empty list means that threads are not bound. `None` on a host with one node.
pub fn remote_from(tree: &Tree, function: Bdf, cpus: &[u32]) -> Option<String> {
    let node = tree.text(&format!("sys/bus/pci/devices/{function}/numa_node"))?.parse::<u32>().ok()?;
    let local = of_node(tree, node)?;
    let more_nodes = tree.names("sys/devices/system/node").iter().filter(|name| is_node(name)).count() > 1;
    if !more_nodes {
        return None;
    }
    if cpus.is_empty() {
        return Some(format!(
            "threads may run on another NUMA node than {function}, which is on node {node}: bind them to the CPUs of that node"
        ));
    }
    let remote: Vec<String> = cpus.iter().filter(|cpu| !local.contains(cpu)).map(u32::to_string).collect();
    (!remote.is_empty())
        .then(|| format!("CPU {} is on another NUMA node than {function}, which is on node {node}", remote.join(", ")))
}

fn is_node(name: &str) -> bool {
    name.strip_prefix("node").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_cpu_lists_of_the_kernel() {
        for (text, expected) in [("0", vec![0]), ("0-3,8\n", vec![0, 1, 2, 3, 8]), ("1,0", vec![1, 0])] {
            assert_eq!(parse_list(text), Some(expected));
        }
        let long = "0-999,".repeat(100_000) + "0";
        for text in ["", "a", "3-1", "0-4294967295", "1,,2", "-1", &long] {
            assert_eq!(parse_list(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn does_not_panic_on_any_text(text in ".*") {
            let _ = parse_list(&text);
        }
    }
}
