//! Registers a BAR with an RDMA device and prints which path the kernel chose.
//!
//! ```text
//! observe verbs:rxe0 0000:01:00.0:2@0x0+0x100000
//! ```

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use peerpath_exporter::{Buffer, Exporter, OpenOptions, Source};
use peerpath_importers::{Device, QueuePairOptions, parse_target};
use peerpath_observe::{DmaBufOp, Expected, FaultWatch, Memory, Observer, ObserverOptions, ProbeSet, remove_stale};
use peerpath_paths::{Explained, Topology, Tree};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [target, source] => run(target, source),
        _ => Err("usage: observe TARGET SOURCE".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("observe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(target: &str, source: &str) -> Result<(), Box<dyn Error>> {
    let source: Source = source.parse().map_err(explained)?;
    let exporter = source.open(&OpenOptions::default()).map_err(explained)?;
    let (importer, address) = parse_target(target).map_err(explained)?;
    let device = importer.open(address, &QueuePairOptions::default()).map_err(explained)?;
    let expected = expected(exporter.as_ref(), device.info().bdf).ok_or("the source is not a BAR")?;

    let mut faults = FaultWatch::start(Path::new("/")).map_err(explained)?;
    let started = Instant::now();
    let mut observer = Observer::start(&ObserverOptions::default()).map_err(explained)?;
    println!("observer ready after {:?}; {:?}; {:?}", started.elapsed(), observer.missing(), observer.removed());

    let buffer = exporter.export(exporter.length_bytes()).map_err(explained)?;
    let started = Instant::now();
    let watching = observer.begin(ProbeSet::Path).map_err(explained)?;
    println!("probes enabled in {:?}", started.elapsed());
    let registration = Arc::clone(&device).register(Arc::clone(&buffer));
    let started = Instant::now();
    let trace = watching.end().map_err(explained)?;
    println!("probes disabled and trace read in {:?}", started.elapsed());
    let expected = match &registration {
        Ok(_) => expected,
        Err(error) => {
            println!("registration failed: {error}: {:?}", error.explanation());
            expected.failed(error)
        }
    };
    println!("{:#?}", trace.classify(&expected));
    if let Ok(registration) = registration {
        registration.unregister().map_err(explained)?;
        let watching = observer.begin(ProbeSet::Calls).map_err(explained)?;
        for _ in 0..20 {
            Arc::clone(&device).register(Arc::clone(&buffer)).map_err(explained)?.unregister().map_err(explained)?;
        }
        let trace = watching.end().map_err(explained)?;
        println!("time resolution {} ns, {} events lost", trace.resolution_ns(), trace.lost_events());
        for kind in [DmaBufOp::Attach, DmaBufOp::Pin, DmaBufOp::Map, DmaBufOp::Unmap, DmaBufOp::Detach] {
            println!("{kind}: {:?} ns", trace.durations_ns(kind));
        }
        print_cost_of_probes(&device, &buffer, &mut observer)?;
    }
    drop(observer);
    println!(
        "faults: {:?}; stale trace instances: {:?}",
        faults.faults()?,
        remove_stale(Path::new("/")).map_err(explained)?
    );
    Ok(())
}

/// Prints the shortest and the median `map` with no probes but its own, and with those of one part, which a second observer
/// enables. The difference is the cost of the part's probes: entry and return, once per call.
fn print_cost_of_probes(
    device: &Arc<dyn Device>,
    buffer: &Arc<Buffer>,
    observer: &mut Observer,
) -> Result<(), Box<dyn Error>> {
    let parts = [None, Some(DmaBufOp::Allocate), Some(DmaBufOp::Link), Some(DmaBufOp::Sync)];
    let mut other = Observer::start(&ObserverOptions::default()).map_err(explained)?;
    let mut times_ns = parts.map(|_| Vec::new());
    // In turns, so that a slow phase of the host affects all of them.
    for _ in 0..20 {
        for (part, times_ns) in parts.iter().zip(&mut times_ns) {
            let with = part.map(|part| other.begin(ProbeSet::Call(part))).transpose().map_err(explained)?;
            let map = observer.begin(ProbeSet::Call(DmaBufOp::Map)).map_err(explained)?;
            for _ in 0..10 {
                map.begin_step().map_err(explained)?;
                Arc::clone(device).register(Arc::clone(buffer)).map_err(explained)?.unregister().map_err(explained)?;
            }
            times_ns.extend(map.end().map_err(explained)?.durations_per_step_ns(DmaBufOp::Map));
            drop(with);
        }
    }
    for (part, times_ns) in parts.iter().zip(&mut times_ns) {
        times_ns.sort_unstable();
        let with = part.map_or_else(|| "no other".to_owned(), |part| part.to_string());
        let (shortest, median) = (times_ns.first(), times_ns.get(times_ns.len() / 2));
        println!("map with {with} probes: min {shortest:?} ns, median {median:?} ns, {} times", times_ns.len());
    }
    Ok(())
}

fn expected(exporter: &dyn Exporter, to: Option<peerpath_paths::Bdf>) -> Option<Expected> {
    let origin = exporter.origin();
    let (Some(from), Some(bar)) = (origin.bdf, origin.bar) else { return Some(Expected::new(Memory::Ordinary)) };
    let ranges: Vec<_> = origin.ranges.iter().map(|range| (range.offset_bytes, range.length_bytes)).collect();
    Expected::of_bar(&Topology::read(&Tree::live()), from, bar.get(), &ranges, to)
}

fn explained(error: impl Explained) -> Box<dyn Error> {
    let explanation = error.explanation();
    format!("{error}: {} {}", explanation.why, explanation.remedy).into()
}
