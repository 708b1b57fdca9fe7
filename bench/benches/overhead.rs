//! What measuring costs an operation, beside what it cannot do without: the bare time stamps and the bare record of a
//! histogram. The ratios stand at the end; all of it is one run, so they hold whatever the machine.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use hdrhistogram::Histogram;
use peerpath_bench::interrupt::Interrupt;
use peerpath_bench::measure::{Limit, LoopControl, Recorder};
use quanta::Clock;

/// Operations in a row: the loop around them is measured, too.
const OPERATIONS: u64 = 1000;
const GROUP: &str = "measuring an operation";

/// The histogram that a recorder has.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 4_800_000_000_000, 3).expect("constant bounds are valid")
}

/// The processor's own counter, with nothing around it.
#[cfg(target_arch = "x86_64")]
fn counter() -> u64 {
    sys::counter()
}

/// Elsewhere the clock's is as bare as it gets.
#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    Clock::new().raw()
}

#[cfg(target_arch = "x86_64")]
mod sys {
    #![allow(unsafe_code)] // The counter is read by an instruction.

    #[inline]
    pub(super) fn counter() -> u64 {
        // SAFETY: the instruction is there on every processor of this architecture.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
}

fn bare(criterion: &mut Criterion, stamps: u64) {
    let mut group = criterion.benchmark_group(GROUP);
    group.throughput(Throughput::Elements(OPERATIONS));
    group.bench_function(BenchmarkId::new("bare", stamps), |bencher| {
        let mut histogram = histogram();
        let mut start = counter();
        bencher.iter(|| {
            for _ in 0..OPERATIONS {
                if stamps == 2 {
                    start = counter();
                }
                let end = counter();
                histogram.saturating_record(end.saturating_sub(start));
                start = end;
            }
        });
    });
    group.finish();
}

fn ours(criterion: &mut Criterion, stamps: u64) {
    let mut group = criterion.benchmark_group(GROUP);
    group.throughput(Throughput::Elements(OPERATIONS));
    group.bench_function(BenchmarkId::new("ours", stamps), |bencher| {
        let (clock, interrupt) = (Clock::new(), Interrupt::default());
        let mut recorder = Recorder::new(clock.clone());
        let limit = Limit { iterations: u64::MAX, duration: Duration::MAX };
        let mut control = LoopControl::new(&clock, limit, &interrupt);
        let mut start = recorder.now();
        bencher.iter(|| {
            for _ in 0..OPERATIONS {
                if stamps == 2 {
                    start = recorder.now();
                }
                let end = recorder.now();
                recorder.record(start, end);
                black_box(control.continues(start, end).is_ok());
                start = end;
            }
        });
    });
    group.finish();
}

/// Nanoseconds an operation, as criterion has just found and saved them.
fn found(name: &str, stamps: u64) -> Option<f64> {
    let target =
        std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../target").into());
    let file = Path::new(&target).join(format!("criterion/{GROUP}/{name}/{stamps}/new/estimates.json"));
    let estimates: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
    Some(estimates["median"]["point_estimate"].as_f64()? / OPERATIONS as f64)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for stamps in [1, 2] {
        bare(&mut criterion, stamps);
        ours(&mut criterion, stamps);
    }
    criterion.final_summary();
    for stamps in [1, 2] {
        if let (Some(bare), Some(ours)) = (found("bare", stamps), found("ours", stamps)) {
            let ratio = ours / bare;
            println!("{stamps} time stamp(s) an operation: {ours:.1} ns, bare {bare:.1} ns, ratio {ratio:.3}");
        }
    }
}
