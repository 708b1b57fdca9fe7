//! Measures the overhead that peerpath adds to `map` and `unmap` of an `iommufd:` target. Times each operation as a run does
//! and as the bare ioctl, in alternation, in the same address space. Needs root and two PCI functions that are not in use.
//!
//! ```text
//! ioas_overhead BDF:BAR BDF
//! ```

mod sys;

use std::error::Error;
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::sync::Arc;

use peerpath_bench::measure::Recorder;
use peerpath_exporter::vfio::{self, AddressSpace};
use peerpath_exporter::{Buffer, OpenOptions, Source, VfioInterface};
use peerpath_host::{Hold, Options};
use peerpath_importers::{Device, QueuePairOptions, parse_target};
use quanta::Clock;

/// Rounds of each variant. With fewer rounds, the medians vary too much on a shared machine.
const ROUNDS: u32 = 100;
/// Operations of each variant per round.
const LAPS: u32 = 8;
const SIZES: [u64; 5] = [4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [source, importer] => compare(source, importer),
        _ => Err("usage: ioas_overhead BDF:BAR BDF".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("ioas_overhead: {error}");
            std::iter::successors(error.source(), |&error| error.source()).for_each(|error| eprint!(": {error}"));
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

/// Latencies of map and unmap: first as a run times them, then as bare ioctls.
struct Comparison {
    clock: Clock,
    map: [Recorder; 2],
    unmap: [Recorder; 2],
}

impl Comparison {
    fn new() -> Self {
        let clock = Clock::new();
        let recorders = || [Recorder::new(clock.clone()), Recorder::new(clock.clone())];
        Self { map: recorders(), unmap: recorders(), clock }
    }

    fn as_a_run_does(&mut self, device: &Arc<dyn Device>, buffer: &Arc<Buffer>) -> Result<(), Box<dyn Error>> {
        let (device, mapped) = (Arc::clone(device), Arc::clone(buffer));
        let before_map = self.clock.raw();
        let registration = device.register(mapped)?;
        let after_map = self.clock.raw();
        let before_unmap = self.clock.raw();
        let _open = registration.unregister()?;
        let after_unmap = self.clock.raw();
        self.map[0].record(before_map, after_map);
        self.unmap[0].record(before_unmap, after_unmap);
        Ok(())
    }

    fn bare(&mut self, ioas: (BorrowedFd<'_>, u32), buffer: &Buffer) -> Result<(), Box<dyn Error>> {
        let dma_buf = buffer.dma_buf().ok_or("a BAR is exported as a dma-buf")?;
        let mut map = sys::Map::new(ioas, dma_buf, buffer.length_bytes());
        let before_map = self.clock.raw();
        map.call()?;
        let after_map = self.clock.raw();
        let mut unmap = sys::Unmap::of(&map);
        let before_unmap = self.clock.raw();
        unmap.call()?;
        let after_unmap = self.clock.raw();
        self.map[1].record(before_map, after_map);
        self.unmap[1].record(before_unmap, after_unmap);
        Ok(())
    }

    fn print(&self, size_bytes: u64) {
        for (op, [ours, bare]) in [("map", &self.map), ("unmap", &self.unmap)] {
            let (Some(ours), Some(bare)) = (ours.latency(), bare.latency()) else { continue };
            let share = |ours: u64, bare: u64| (ours as f64 - bare as f64) / bare as f64 * 100.0;
            println!(
                "{op:5} {:>6} KiB  bare ioctl p50 {:>8} ns  as a run times it {:>8} ns  {:+.1} %   minima {:>8} {:>8} ns  {:+.1} %",
                size_bytes >> 10,
                bare.p50,
                ours.p50,
                share(ours.p50, bare.p50),
                bare.min,
                ours.min,
                share(ours.min, bare.min),
            );
        }
    }
}

fn compare(source: &str, importer: &str) -> Result<(), Box<dyn Error>> {
    let source: Source = source.parse()?;
    let Source::Vfio { bdf, .. } = source else { return Err("the source is not a BAR".into()) };
    let _hold = Hold::acquire(bdf, &Options::default())?;
    let exporter = source.open(&OpenOptions::default())?;
    let device = parse_target("iommufd:")?.0.open(importer, &QueuePairOptions::default())?;
    let space = AddressSpace::of(&vfio::Device::open_through(importer.parse()?, VfioInterface::Cdev)?)?;
    for size_bytes in SIZES.into_iter().filter(|size| *size <= exporter.length_bytes()) {
        let mut comparison = Comparison::new();
        let buffer = exporter.export(size_bytes)?;
        for turn in 0..ROUNDS * 2 {
            for _ in 0..LAPS {
                match turn % 2 {
                    0 => comparison.as_a_run_does(&device, &buffer)?,
                    _ => comparison.bare(space.raw(), &buffer)?,
                }
            }
        }
        comparison.print(size_bytes);
    }
    Ok(())
}
