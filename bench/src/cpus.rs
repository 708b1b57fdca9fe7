//! CPUs and their NUMA nodes.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
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

/// The CPUs that the calling thread may run on. Empty if the kernel does not report them.
pub fn of_this_thread() -> Vec<u32> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).map(|cpu| cpu as u32).collect()
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

/// The CPUs of `allowed` on the NUMA node of the function, or all of them if the node is unknown or has none of them. The order
/// is that in which measuring threads should use them: first one CPU of each core, so that no two threads share a core, and
/// CPU 0 last of these, because it handles the interrupts of many drivers by default.
pub fn near(tree: &Tree, function: Option<Bdf>, allowed: &[u32]) -> Vec<u32> {
    let node = |function| tree.text(&format!("sys/bus/pci/devices/{function}/numa_node"))?.parse::<u32>().ok();
    let local = function.and_then(node).and_then(|node| of_node(tree, node)).unwrap_or_default();
    let mut cpus: Vec<u32> = allowed.iter().copied().filter(|cpu| local.contains(cpu)).collect();
    if cpus.is_empty() {
        cpus = allowed.to_vec();
    }
    let core = |cpu: u32| {
        let siblings = tree.text(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
        siblings.and_then(|text| parse_list(&text)).and_then(|siblings| siblings.into_iter().min()).unwrap_or(cpu)
    };
    let mut seen = std::collections::BTreeMap::<u32, u32>::new();
    let mut order: Vec<(u32, bool, u32)> = Vec::new();
    for cpu in cpus {
        let core = core(cpu);
        let siblings_before = seen.entry(core).or_default();
        order.push((*siblings_before, core == 0, cpu));
        *siblings_before += 1;
    }
    order.sort_unstable();
    order.into_iter().map(|(.., cpu)| cpu).collect()
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

    #[test]
    fn uses_one_cpu_per_core_near_the_function_and_the_core_of_cpu_0_last() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: String, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let function: Bdf = "0000:03:00.0".parse().unwrap();
        write(format!("sys/bus/pci/devices/{function}/numa_node"), "0\n");
        write("sys/devices/system/node/node0/cpulist".to_owned(), "0-2,4-6\n");
        for cpu in 0..8 {
            let siblings = format!("{},{}\n", cpu % 4, cpu % 4 + 4);
            write(format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), &siblings);
        }
        let tree = Tree::open(root.path()).unwrap();
        let all: Vec<u32> = (0..8).collect();
        assert_eq!(near(&tree, Some(function), &all), [1, 2, 0, 5, 6, 4]);
        assert_eq!(near(&tree, Some(function), &[2, 3, 6]), [2, 6], "only CPUs that the process may use");
        assert_eq!(near(&tree, Some(function), &[3, 7]), [3, 7], "none of the node");
        assert_eq!(near(&tree, None, &[0, 1, 4, 5]), [1, 0, 5, 4]);
        std::fs::write(root.path().join(format!("sys/bus/pci/devices/{function}/numa_node")), "-1\n").unwrap();
        assert_eq!(near(&tree, Some(function), &[0, 1]), [1, 0], "unknown node");
    }

    proptest! {
        #[test]
        fn does_not_panic_on_any_text(text in ".*") {
            let _ = parse_list(&text);
        }
    }
}
