//! Tests that CPU time and memory grow with the number of functions, not with its square: a server with virtual functions has
//! thousands of functions, in one IOMMU group or in a group each.

mod hostile;
#[path = "../support/mod.rs"]
mod support;
mod sys;

use peerpath_paths::doctor::{Selection, run_checks};
use peerpath_paths::{Inventory, Limits, Request, Tree};
use support::Machine;
use sys::{cpu_time_ns, peak_bytes};

const SMALL: usize = 128;
const LARGE: usize = 4096;
/// Linear growth is a factor of 32 in theory and up to 250 in practice, because large hosts exceed the CPU caches. Quadratic
/// growth is a factor of 1024.
const LIMIT: i64 = 500;

fn own_groups(functions: usize) -> Machine {
    support::large(functions)
}

fn one_group(functions: usize) -> Machine {
    support::large(functions).one_group()
}

/// One group whose functions all have drivers that VFIO does not tolerate.
fn foreign_drivers(functions: usize) -> Machine {
    support::large(functions).one_group().drivers("nvme")
}

/// A sysfs copy without the directories of the root buses, so that only bus numbers show the bridges.
fn flat(functions: usize) -> Machine {
    support::large(functions).flat()
}

/// Every function in a segment of its own, below a root bus of its own.
fn segments(functions: usize) -> Machine {
    let machine = Machine::new(support::INTEL);
    (0..functions).fold(machine, |machine, segment| {
        let address = format!("{segment:05x}:{:02x}:{:02x}.0", segment / 32 % 256, segment % 32);
        machine.add(&address, None, support::Kind::Endpoint, |function| function)
    })
}

/// The smallest CPU time of several runs: interrupts and cold caches only add to it.
fn cost<T>(work: impl Fn() -> T) -> i64 {
    let once = || {
        let start = cpu_time_ns();
        std::hint::black_box(work());
        cpu_time_ns() - start
    };
    (0..3).map(|_| once()).min().unwrap_or(0)
}

/// The CPU time of each step on a host.
fn costs(machine: &Machine) -> [(&'static str, i64); 5] {
    let archive = machine.archive();
    let open = || Tree::from_archive(&archive[..], &Limits::default()).unwrap();
    let tree = open();
    let inventory = Inventory::read(&tree);
    [
        ("reading the archive", cost(open)),
        ("reading the functions", cost(|| Inventory::read(&tree))),
        ("preparing predictions", cost(|| inventory.predictor(Request::default()).exporters().count())),
        ("doctor", cost(|| run_checks(&tree, &inventory, &Selection::default(), None))),
        ("list", cost(|| inventory.list())),
    ]
}

#[track_caller]
fn grows_linearly(machine: fn(usize) -> Machine) {
    for ((step, small), (_, large)) in costs(&machine(SMALL)).into_iter().zip(costs(&machine(LARGE))) {
        let ratio = large / small.max(1);
        println!("{step}: {small} ns for {SMALL} functions, {large} ns for {LARGE}");
        assert!(ratio < LIMIT, "{step} takes {ratio} times as long for 32 times the functions");
    }
}

/// Asserts that the peak memory of `list` and `doctor` on one inventory is at most 100 MiB.
#[track_caller]
fn fits_in_100_mib(machine: fn(usize) -> Machine) {
    let archive = machine(LARGE).archive();
    let ((), bytes) = peak_bytes(|| {
        let tree = Tree::from_archive(&archive[..], &Limits::default()).unwrap();
        let inventory = Inventory::read(&tree);
        let findings = run_checks(&tree, &inventory, &Selection::default(), None);
        assert!(!findings.is_empty() && inventory.list().len() > 3000);
    });
    assert!(bytes < 100 << 20, "{} MiB", bytes >> 20);
}

#[test]
fn one_group_per_function_grows_linearly() {
    grows_linearly(own_groups);
    fits_in_100_mib(own_groups);
}

#[test]
fn one_group_for_all_functions_grows_linearly() {
    grows_linearly(one_group);
    fits_in_100_mib(one_group);
}

#[test]
fn one_group_with_other_drivers_grows_linearly() {
    grows_linearly(foreign_drivers);
    fits_in_100_mib(foreign_drivers);
}

#[test]
fn a_copy_without_directories_of_root_buses_grows_linearly() {
    grows_linearly(flat);
    fits_in_100_mib(flat);
}

#[test]
fn one_segment_per_function_grows_linearly() {
    grows_linearly(segments);
    fits_in_100_mib(segments);
}

/// The matrix predicts one pair per pair of function groups, not every pair of functions.
#[test]
fn a_matrix_of_4096_functions_needs_little_memory() {
    for machine in [own_groups, one_group, segments] {
        let inventory = machine(LARGE).inventory();
        let (groups, bytes) = peak_bytes(|| {
            let predictor = inventory.predictor(Request::default());
            let functions: Vec<_> = predictor.importers().collect();
            predictor.matrix(&functions, 1024).merged().function_groups().len()
        });
        assert!(groups <= 1024 && bytes < 20 << 20, "{groups} function groups, {} MiB", bytes >> 20);
    }
}

/// Memory must not depend on the number of pairs that were reported.
#[test]
fn reports_need_constant_memory() {
    let inventory = one_group(1024).inventory();
    let after = |pairs: usize| {
        let (count, bytes) =
            peak_bytes(|| inventory.reports(None, None, Request::default()).take(pairs).map(|_| ()).count());
        assert_eq!(count, pairs);
        bytes
    };
    let (few, many) = (after(1000), after(200_000));
    assert!(many < few + (1 << 16), "{few} bytes for 1000 pairs, {many} for 200000");
}
