//! What disturbed a measurement: CPU time taken by others, throttled CPUs, retransmissions.
//!
//! Counters of the kernel, the CPUs and the RDMA device are read before and after each repeat. Their differences become part of
//! the result. A repeat is disturbed if
//! - the hypervisor took more than 1 % of the time of the CPUs, and at least 20 ms;
//! - the kernel took the CPU from the program's threads more than 100 times per second and thread. A busy CPU with default
//!   settings of the scheduler switches between two programs every few milliseconds; kernel threads alone need the CPU a few
//!   times per second. The rule does not apply to soft RDMA, whose kernel threads need the CPU for each transfer;
//! - the firmware slowed down a CPU because of its temperature;
//! - the RDMA device counted retransmissions or their causes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use peerpath_paths::Tree;

use crate::result::Measurement;

/// Maximum share of stolen CPU time of an undisturbed repeat, in percent.
const MOST_STEAL_PERCENT: f64 = 1.0;
/// Minimum stolen time that counts, in ticks of 10 ms (`USER_HZ`): the counter can be one tick late.
const LEAST_STEAL_TICKS: u64 = 2;
/// Maximum involuntary context switches per second and thread of an undisturbed repeat.
const MOST_SWITCHES_PER_S: f64 = 100.0;
/// Parts of the names of counters that increase with retransmissions and their causes, in lower case. Drivers name their
/// counters differently, e.g. `out_of_sequence` (mlx5), `completer_retry_err` (rxe), `to_retransmits` (bnxt_re),
/// `RetransSegs` (irdma).
const RETRANSMISSION_WORDS: [&str; 7] = ["retry", "retrans", "seq_err", "out_of_seq", "rnr", "timeout", "duplicate"];
/// Largest number of counters of a device that are read.
const MOST_COUNTERS: usize = 1000;

/// The counters at one moment.
#[derive(Debug)]
pub(crate) struct Counters {
    at: Instant,
    involuntary_switches: Option<u64>,
    /// Stolen ticks and all ticks of the CPUs.
    steal: Option<(u64, u64)>,
    /// Number of times that each CPU was throttled.
    throttled: BTreeMap<u32, u64>,
    device: BTreeMap<String, u64>,
}

/// Whose counters are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched<'a> {
    pub(crate) tree: &'a Tree,
    /// CPUs that the threads are bound to. Empty: the threads run on any CPU.
    pub(crate) cpus: &'a [u32],
    /// Name of the RDMA device, if the target is one.
    pub(crate) rdma_device: Option<&'a str>,
    /// Number of threads that poll.
    pub(crate) threads: usize,
    pub(crate) soft_rdma: bool,
}

impl Watched<'_> {
    /// Reads all counters. A counter that cannot be read is absent from the result.
    pub(crate) fn read(&self) -> Counters {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let throttled = self.cpus.iter().filter_map(|cpu| {
            let file = format!("sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count");
            Some((*cpu, self.tree.text(&file)?.parse().ok()?))
        });
        Counters {
            at: Instant::now(),
            involuntary_switches: usage.and_then(|usage| u64::try_from(usage.involuntary_context_switches()).ok()),
            steal: self.tree.text("proc/stat").and_then(|text| steal(&text, self.cpus)),
            throttled: throttled.collect(),
            device: self.rdma_device.map(|name| device_counters(self.tree, name)).unwrap_or_default(),
        }
    }

    /// Adds the differences to the figures of a repeat, and what disturbed it.
    pub(crate) fn note(&self, before: &Counters, after: &Counters, repeat: &mut Measurement) {
        let duration = after.at.duration_since(before.at);
        repeat.cpus = self.cpus.to_vec();
        repeat.involuntary_context_switches = after
            .involuntary_switches
            .zip(before.involuntary_switches)
            .map(|(after, before)| after.saturating_sub(before));
        repeat.device_counters = increases(&before.device, &after.device);
        let steal = before
            .steal
            .zip(after.steal)
            .map(|(before, after)| (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1).max(1)));
        repeat.steal_percent = steal.map(|(stolen, all)| 100.0 * stolen as f64 / all as f64);
        repeat.disturbed = [
            stolen(steal, repeat.steal_percent),
            self.switched(repeat.involuntary_context_switches, duration),
            throttled(&before.throttled, &after.throttled),
            self.retransmitted(&repeat.device_counters),
        ]
        .into_iter()
        .flatten()
        .collect();
    }

    fn switched(&self, switches: Option<u64>, duration: Duration) -> Option<String> {
        let per_s = switches? as f64 / duration.as_secs_f64() / self.threads.max(1) as f64;
        (!self.soft_rdma && per_s > MOST_SWITCHES_PER_S)
            .then(|| format!("the kernel took the CPU from each thread {per_s:.0} times per second"))
    }

    fn retransmitted(&self, increases: &BTreeMap<String, u64>) -> Option<String> {
        let counts = |name: &str| {
            let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
            RETRANSMISSION_WORDS.iter().any(|word| name.contains(word))
        };
        let (name, increase) = increases.iter().find(|(name, _)| counts(name))?;
        let name = name.rsplit('/').next().unwrap_or(name);
        Some(format!(
            "{} retransmitted: its counter {name} increased by {increase}",
            self.rdma_device.unwrap_or("the device")
        ))
    }
}

/// The stolen ticks and all ticks of the CPUs, or of all CPUs if `cpus` is empty, in `/proc/stat` (proc_stat(5)).
fn steal(text: &str, cpus: &[u32]) -> Option<(u64, u64)> {
    let of = |line: &str| -> Option<(u64, u64)> {
        let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest time is already part of user time.
        Some((*ticks.get(7)?, ticks.iter().take(8).fold(0, |sum, ticks| ticks.saturating_add(sum))))
    };
    let line = |name: &str| text.lines().find(|line| line.split_whitespace().next() == Some(name)).and_then(of);
    if cpus.is_empty() {
        return line("cpu");
    }
    let per_cpu: Option<Vec<_>> = cpus.iter().map(|cpu| line(&format!("cpu{cpu}"))).collect();
    Some(per_cpu?.into_iter().fold((0, 0), |sum, cpu| (sum.0.saturating_add(cpu.0), sum.1.saturating_add(cpu.1))))
}

fn stolen(steal: Option<(u64, u64)>, percent: Option<f64>) -> Option<String> {
    let (ticks, percent) = (steal?.0, percent?);
    (ticks >= LEAST_STEAL_TICKS && percent > MOST_STEAL_PERCENT)
        .then(|| format!("the hypervisor took {percent:.0} % of the CPU time (steal)"))
}

fn throttled(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) -> Option<String> {
    let (cpu, _) = after.iter().find(|(cpu, count)| before.get(cpu).is_some_and(|before| before < count))?;
    Some(format!("CPU {cpu} slowed down because of its temperature"))
}

/// All counters of an RDMA device, by their path below its folder.
fn device_counters(tree: &Tree, device: &str) -> BTreeMap<String, u64> {
    let root = format!("sys/class/infiniband/{device}");
    let mut folders = vec!["hw_counters".to_owned()];
    for port in tree.names(&format!("{root}/ports")) {
        folders.extend(["counters", "hw_counters"].map(|folder| format!("ports/{port}/{folder}")));
    }
    let files = folders.iter().flat_map(|folder| {
        tree.names(&format!("{root}/{folder}")).into_iter().map(move |name| format!("{folder}/{name}"))
    });
    // `lifespan` is the interval in which the kernel updates the counters.
    let counters = files.filter(|file| !file.ends_with("/lifespan")).take(MOST_COUNTERS);
    counters
        .filter_map(|file| Some((tree.text(&format!("{root}/{file}"))?.parse().ok()?, file)))
        .map(|(n, f)| (f, n))
        .collect()
}

fn increases(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grown = |(name, after): (&String, &u64)| {
        let increase = after.checked_sub(*before.get(name)?)?;
        (increase > 0).then(|| (name.clone(), increase))
    };
    after.iter().filter_map(grown).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Tree::open(root.path()).unwrap();
        (root, tree)
    }

    /// Returns the repeat between two states of a host that differ in one file.
    fn repeat(file: &str, before: &str, after: &str) -> Measurement {
        let (root, tree) = host(&[(file, before)]);
        // With soft RDMA, the context switches of this process on a busy machine do not count.
        let watched = Watched { tree: &tree, cpus: &[1], rdma_device: Some("mlx5_0"), threads: 1, soft_rdma: true };
        let first = watched.read();
        fs::write(root.path().join(file), after).unwrap();
        let mut repeat = Measurement::default();
        watched.note(&first, &watched.read(), &mut repeat);
        repeat
    }

    #[test]
    fn reports_stolen_cpu_time_of_the_bound_cpus() {
        let before = "cpu  900 0 0 900 0 0 0 500 0 0\ncpu0 800 0 0 0 0 0 0 400 0 0\ncpu1 100 0 0 900 0 0 0 100 0 0\n";
        let after = "cpu  900 0 0 900 0 0 0 900 0 0\ncpu0 800 0 0 0 0 0 0 780 0 0\ncpu1 180 0 0 900 0 0 0 120 0 0\n";
        let stolen = repeat("proc/stat", before, after);
        assert_eq!(stolen.steal_percent, Some(20.0), "20 of 100 ticks of CPU 1");
        assert_eq!(stolen.disturbed, ["the hypervisor took 20 % of the CPU time (steal)"]);
        let idle = repeat("proc/stat", before, &before.replace("cpu1 100", "cpu1 200"));
        assert_eq!((idle.steal_percent, idle.disturbed.len()), (Some(0.0), 0));
        assert_eq!(repeat("proc/stat", "cpu 1 2\n", "cpu 1 2\n").steal_percent, None, "unknown, not zero");
    }

    #[test]
    fn reports_retransmissions_and_records_all_changed_counters() {
        let file = "sys/class/infiniband/mlx5_0/ports/1/hw_counters/out_of_sequence";
        let lossy = repeat(file, "5\n", "8\n");
        assert_eq!(lossy.device_counters, BTreeMap::from([("ports/1/hw_counters/out_of_sequence".to_owned(), 3)]));
        assert_eq!(lossy.disturbed, ["mlx5_0 retransmitted: its counter out_of_sequence increased by 3"]);
        let traffic = repeat("sys/class/infiniband/mlx5_0/ports/1/counters/port_xmit_data", "5\n", "8\n");
        assert_eq!((traffic.device_counters.len(), traffic.disturbed.len()), (1, 0));
    }

    #[test]
    fn reports_throttled_cpus() {
        let file = "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count";
        assert_eq!(repeat(file, "1\n", "2\n").disturbed, ["CPU 1 slowed down because of its temperature"]);
        assert!(repeat(file, "2\n", "2\n").disturbed.is_empty());
    }

    #[test]
    fn reports_frequent_switches_except_with_soft_rdma() {
        let (_root, tree) = host(&[]);
        for (soft_rdma, expected) in [(false, 1), (true, 0)] {
            let watched = Watched { tree: &tree, cpus: &[], rdma_device: None, threads: 2, soft_rdma };
            let at = |seconds, involuntary_switches| Counters {
                at: Instant::now() + Duration::from_secs(seconds),
                involuntary_switches: Some(involuntary_switches),
                steal: None,
                throttled: BTreeMap::new(),
                device: BTreeMap::new(),
            };
            let mut repeat = Measurement::default();
            watched.note(&at(0, 10), &at(10, 2310), &mut repeat);
            assert_eq!(repeat.involuntary_context_switches, Some(2300));
            assert_eq!(repeat.disturbed.len(), expected, "115 per second and thread: {:?}", repeat.disturbed);
            watched.note(&at(0, 10), &at(10, 1810), &mut repeat);
            assert!(repeat.disturbed.is_empty(), "{:?}", repeat.disturbed);
        }
    }
}
