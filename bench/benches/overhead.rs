//! Measures the overhead of timing an operation. The baseline is the same loop with bare time stamps and a bare histogram.
//! Prints the ratio to the baseline at the end. One run measures both, so the ratios do not depend on the speed of the machine.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use hdrhistogram::Histogram;
use peerpath_bench::interrupt::Interrupt;
use peerpath_bench::layout::Layout;
use peerpath_bench::measure::{Flow, Limit, LoopControl, Recorder, Stream, load};
use peerpath_exporter::{Exporter, HostExporter, OpenOptions, View};
use peerpath_importers::{Completion, DataPlane, Error, Op, Side, Transfer};
use quanta::Clock;

/// Operations per iteration of criterion. The time of the loop around them is included.
const OPERATIONS: u64 = 1000;
const GROUP: &str = "measuring an operation";

/// Histogram with the same bounds as that of `Recorder`.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 4_800_000_000_000, 3).expect("constant bounds are valid")
}

/// Reads the TSC directly.
#[cfg(target_arch = "x86_64")]
fn counter() -> u64 {
    sys::counter()
}

/// Other architectures have no TSC, so read the clock instead.
#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    Clock::new().raw()
}

#[cfg(target_arch = "x86_64")]
mod sys {
    #![allow(unsafe_code)] // The counter is read with an intrinsic.

    #[inline]
    pub(super) fn counter() -> u64 {
        // SAFETY: every x86-64 CPU has the RDTSC instruction.
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

/// A device that completes each operation as soon as it is posted.
struct Immediate {
    memory: Arc<dyn View>,
    posted: Vec<u64>,
}

impl Immediate {
    fn new() -> Self {
        let memory = HostExporter::open(4096, &OpenOptions::default()).and_then(|memory| memory.export(4096));
        Self { memory: Arc::clone(memory.expect("a page is available").view()), posted: Vec::with_capacity(16) }
    }
}

impl DataPlane for Immediate {
    fn far(&self) -> Arc<dyn View> {
        Arc::clone(&self.memory)
    }
    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
        self.posted.extend(batch.iter().map(|transfer| transfer.id));
        Ok(batch.len())
    }
    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
        done.extend(self.posted.drain(..).map(|id| Completion { id, result: Ok(()) }));
        Ok(())
    }
}

/// The open loop at a rate at which every operation is due, one at a time, against a loop that only posts, polls and records.
fn open_loop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(GROUP);
    group.throughput(Throughput::Elements(OPERATIONS));
    let layout = Layout::new(64, 1, 4096).expect("a slot fits");
    group.bench_function(BenchmarkId::new("bare", LOAD), |bencher| {
        let mut plane: Box<dyn DataPlane> = Box::new(Immediate::new());
        let (mut histogram, mut done) = (histogram(), Vec::with_capacity(1));
        bencher.iter(|| {
            for number in 0..OPERATIONS {
                let start = counter();
                plane.submit(&[layout.transfer(Op::Write, number)]).expect("every transfer is accepted");
                plane.poll(&mut done).expect("every transfer completes");
                done.clear();
                histogram.saturating_record(counter().saturating_sub(start));
            }
        });
    });
    group.bench_function(BenchmarkId::new("ours", LOAD), |bencher| {
        let interrupt = Interrupt::default();
        let mut plane = Immediate::new();
        let mut recorder = Recorder::new(Clock::new());
        let stream = Stream { layout: &layout, op: Op::Write, posted_by: Side::Far, queues: 1, first: 0 };
        let limit = Limit { iterations: OPERATIONS, duration: Duration::MAX };
        bencher.iter(|| {
            let loaded = load(&mut plane, stream, Flow::simple(1), 1e12, limit, &mut recorder, &interrupt);
            black_box(loaded.expect("every operation completes"));
        });
    });
    group.finish();
}

/// Identifies the benchmark of the open loop among those with 1 and 2 time stamps.
const LOAD: u64 = 0;

/// Nanoseconds per operation, from the estimates file that criterion has just saved.
fn estimate(name: &str, stamps: u64) -> Option<f64> {
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
    open_loop(&mut criterion);
    criterion.final_summary();
    for stamps in [1, 2] {
        if let (Some(bare), Some(ours)) = (estimate("bare", stamps), estimate("ours", stamps)) {
            let ratio = ours / bare;
            println!("{stamps} time stamp(s) per operation: {ours:.1} ns, bare {bare:.1} ns, ratio {ratio:.3}");
        }
    }
    if let (Some(bare), Some(ours)) = (estimate("bare", LOAD), estimate("ours", LOAD)) {
        println!("open loop, per operation: {ours:.1} ns, bare {bare:.1} ns, {:.1} ns more", ours - bare);
    }
}
