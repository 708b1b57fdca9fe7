//! Tests that CPU time and memory stay small for files that no kernel writes, because a snapshot is untrusted input.

use peerpath_paths::doctor::{Selection, run_checks};
use peerpath_paths::{Inventory, Limits, Request, Tree};

use crate::cost;
use crate::support::{self, Kind, Machine};
use crate::sys::peak_bytes;

/// Limit of the time ratio for 16 times the input. Quadratic growth is a factor of 256.
const LIMIT: i64 = 180;

#[track_caller]
fn grew_linearly(small: i64, large: i64) {
    grew_below(LIMIT, small, large);
}

/// Fails if the time for 16 times the input is `limit` or more times as long.
#[track_caller]
fn grew_below(limit: i64, small: i64, large: i64) {
    println!("{small} ns, {large} ns for 16 times as much");
    assert!(large / small.max(1) < limit, "{small} ns, {large} ns for 16 times as much");
}

/// A host with one group whose `reserved_regions` leaves no space for a BAR between its regions.
fn reserved(functions: usize, regions: u64) -> Inventory {
    let text: String = (1..=regions)
        .map(|region| format!("{:#018x} {:#018x} reserved\n", region << 20, (region << 20) + 0xfff))
        .collect();
    support::large(functions).one_group().file("sys/kernel/iommu_groups/0/reserved_regions", &text).inventory()
}

#[test]
fn a_prediction_visits_each_reserved_region_once() {
    let time = |regions| {
        let inventory = reserved(16, regions);
        let predictor = inventory.predictor(Request::default());
        let (from, to) = (predictor.exporters().next().unwrap(), predictor.importers().last().unwrap());
        cost(|| predictor.predict(from, to))
    };
    grew_linearly(time(128), time(2048));
}

#[test]
fn the_functions_of_a_group_share_its_reserved_regions() {
    let inventory = reserved(256, 2048);
    let (count, bytes) = peak_bytes(|| inventory.predictor(Request::default()).exporters().count());
    assert!(count > 100 && bytes < 2 << 20, "{count} exporters, {bytes} bytes");
}

#[test]
fn more_reserved_regions_than_the_kernel_prints_are_unknown() {
    assert!(reserved(4, 2048).topology.groups()[&0].reserved.is_some());
    assert!(reserved(4, 100_000).topology.groups()[&0].reserved.is_none());
}

/// A chain of switches, each with a function and the next switch below it, in a sysfs copy that lacks the paths of bridges.
fn nested_switches(levels: usize) -> Machine {
    let start = Machine::new(support::INTEL);
    let (machine, _) = (0..levels).fold((start, None::<String>), |(machine, above), level| {
        let upstream = format!("0000:{:02x}:00.0", 2 * level);
        let below = |device| format!("0000:{:02x}:{device:02x}.0", 2 * level + 1);
        let machine = machine
            .add(&upstream, above.as_deref(), Kind::Upstream, |port| port)
            .add(&below(0), Some(&upstream), Kind::Downstream, |port| port.acs(0x1d))
            .add(&below(1), Some(&upstream), Kind::Endpoint, |function| function);
        (machine, Some(below(0)))
    });
    machine.flat()
}

fn doctor_time(machine: &Machine) -> i64 {
    let tree = machine.tree();
    let inventory = Inventory::read(&tree);
    cost(|| run_checks(&tree, &inventory, &Selection::default(), None))
}

/// The other checks follow each function up to its root port, so part of the time grows with the square of the depth.
#[test]
fn the_check_of_acs_redirect_does_not_compare_all_functions_below_each_switch() {
    grew_below(70, doctor_time(&nested_switches(7)), doctor_time(&nested_switches(112)));
}

#[test]
fn a_line_of_brackets_is_read_in_linear_time() {
    let time = |brackets| {
        let text = format!("00:00.0 Host bridge [0600]: {}\n", "[".repeat(brackets));
        cost(|| Tree::from_lspci(text.as_bytes()).is_ok())
    };
    grew_linearly(time(16_000), time(256_000));
}

#[test]
fn the_entries_of_a_boot_option_do_not_search_all_functions() {
    let time = |count: usize| {
        let entries: Vec<_> = (0..count).map(|at| format!("{at:x}:0:1f.7/1.0")).collect();
        let option = format!("pci=disable_acs_redir={}", entries.join(";"));
        let machine = support::large(count).command_line(&option);
        doctor_time(&machine)
    };
    grew_linearly(time(128), time(2048));
}

#[test]
fn a_command_line_that_no_kernel_accepts_is_unknown() {
    let read = |bytes: usize| support::large(4).command_line(&"x ".repeat(bytes / 2)).inventory().host.command_line;
    assert!(read(64 << 10).is_some());
    assert!(read((64 << 10) + 2).is_none());
    let limits = Limits::default();
    let archive = support::large(4).command_line(&"x".repeat(1 << 20)).archive();
    let tree = Tree::from_archive(&archive[..], &limits).unwrap();
    let findings = run_checks(&tree, &Inventory::read(&tree), &Selection::default(), None);
    assert!(findings.iter().any(|finding| finding.detail.contains("longer than the kernel accepts")), "{findings:?}");
}
