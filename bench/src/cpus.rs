//! Processors and the NUMA nodes that they belong to.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use peerpath_paths::{Bdf, Tree};

use crate::measure::MeasureError;

/// Lets the calling thread run on one processor only.
///
/// # Errors
/// There is no such processor for it.
pub fn bind_this_thread(cpu: u32) -> Result<(), MeasureError> {
    keep_this_thread_to(&[cpu]).map_err(|errno| MeasureError::Bind { cpu, source: errno.into() })
}

/// Lets the calling thread run on these processors only: memory that it touches first is then of their NUMA node.
///
/// # Errors
/// None of them is there for it.
pub fn keep_this_thread_to(cpus: &[u32]) -> nix::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu as usize)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// The numbers in a list as the kernel writes it: `0-3,8`.
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // More processors than the kernel counts are a slip.
        if first > last || last >= CpuSet::count() as u32 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// The processors of a node; none where there is no such node.
pub fn of_node(tree: &Tree, node: u32) -> Option<Vec<u32>> {
    parse_list(&tree.text(&format!("sys/devices/system/node/node{node}/cpulist"))?)
}

/// Whether the processor is there and running; unknown where the kernel does not say.
pub fn is_online(tree: &Tree, cpu: u32) -> Option<bool> {
    Some(parse_list(&tree.text("sys/devices/system/cpu/online")?)?.contains(&cpu))
}

/// Why the threads of a run may be far from the function, where they may be: on a host of several nodes, each access goes
/// through the interconnect then.
pub fn far_from(tree: &Tree, function: Bdf, cpus: &[u32]) -> Option<String> {
    let node = tree.text(&format!("sys/bus/pci/devices/{function}/numa_node"))?.parse::<u32>().ok()?;
    let near = of_node(tree, node)?;
    let more_nodes = tree.names("sys/devices/system/node").iter().filter(|name| is_node(name)).count() > 1;
    if !more_nodes {
        return None;
    }
    if cpus.is_empty() {
        return Some(format!(
            "threads may run far from {function}, which is on NUMA node {node}: bind them to the processors of that node"
        ));
    }
    let far: Vec<String> = cpus.iter().filter(|cpu| !near.contains(cpu)).map(u32::to_string).collect();
    (!far.is_empty())
        .then(|| format!("processor {} is far from {function}, which is on NUMA node {node}", far.join(", ")))
}

fn is_node(name: &str) -> bool {
    name.strip_prefix("node").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_as_the_kernel_writes_them() {
        for (text, expected) in [("0", vec![0]), ("0-3,8\n", vec![0, 1, 2, 3, 8]), ("1,0", vec![1, 0])] {
            assert_eq!(parse_list(text), Some(expected));
        }
        for text in ["", "a", "3-1", "0-4294967295", "1,,2", "-1"] {
            assert_eq!(parse_list(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_list(&text);
        }
    }
}
