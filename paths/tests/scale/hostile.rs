//! Tests that CPU time and memory stay small for files that no kernel writes: a snapshot may come from anyone.

use peerpath_paths::{Inventory, Request, Tree};

use crate::support;
use crate::sys::peak_bytes;
use crate::{LIMIT, cost};

/// Fails if `large` is more than [`LIMIT`] times `small`, for 16 times the input.
#[track_caller]
fn grew_linearly(small: i64, large: i64) {
    println!("{small} ns, {large} ns for 16 times as much");
    assert!(large / small.max(1) < LIMIT, "{small} ns, {large} ns for 16 times as much");
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

#[test]
fn a_line_of_brackets_is_read_in_linear_time() {
    let time = |brackets| {
        let text = format!("00:00.0 Host bridge [0600]: {}\n", "[".repeat(brackets));
        cost(|| Tree::from_lspci(text.as_bytes()).is_ok())
    };
    grew_linearly(time(16_000), time(256_000));
}
