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

use peerpath_exporter::{Exporter, OpenOptions, Source};
use peerpath_importers::{QueuePairOptions, parse_target};
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
    }
    drop(observer);
    println!(
        "faults: {:?}; stale trace instances: {:?}",
        faults.faults()?,
        remove_stale(Path::new("/")).map_err(explained)?
    );
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
