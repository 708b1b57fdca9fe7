//! Transfers a pattern by every operation of a target and verifies both sides: a test of an importer without measurements.
//!
//! ```text
//! transfers TARGET SOURCE [DEPTH]        transfers verbs:rxe0 host:1M 16
//! transfers TARGET BDF:BAR DEPTH reset   resets the exporting function with transfers in flight
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use peerpath_exporter::{Exporter, OpenOptions, Source, VfioExporter, View};
use peerpath_importers::{
    Completion, DataPlane, DataPlaneSettings, Direction, Importer, Op, QueuePairOptions, Role, Transfer, TransferError,
    parse_target,
};
use peerpath_paths::Explained;

/// Longer than a device retries a lost transfer.
const TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [target, source] => run(target, source, "16", false),
        [target, source, depth] => run(target, source, depth, false),
        [target, source, depth, "reset"] => run(target, source, depth, true),
        _ => Err("usage: transfers TARGET SOURCE [DEPTH [reset]]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("transfers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(target: &str, source: &str, depth: &str, reset: bool) -> Result<(), Box<dyn Error>> {
    let depth: u32 = depth.parse()?;
    let (importer, address) = parse_target(target).map_err(explained)?;
    println!("{target}: {:?}", importer.probe(address).map_err(explained)?);
    let device = importer.open(address, &QueuePairOptions::default()).map_err(explained)?;
    println!("{:?}", device.info());

    let source: Source = source.parse().map_err(explained)?;
    let options = OpenOptions::default();
    let function;
    let exporter: Box<dyn Exporter> = match &source {
        Source::Vfio { bdf, bar, ranges } => {
            let bar = VfioExporter::open(*bdf, *bar, ranges, &options).map_err(explained)?;
            function = Some(Arc::clone(bar.device()));
            Box::new(bar)
        }
        _ => {
            function = None;
            source.open(&options).map_err(explained)?
        }
    };
    let length = exporter.length_bytes();
    let buffer = exporter.export(length).map_err(explained)?;
    let started = Instant::now();
    let registration = Arc::clone(&device).register(Arc::clone(&buffer)).map_err(explained)?;
    println!("{length} bytes registered by {} in {:?}", registration.mechanism(), started.elapsed());

    let settings = DataPlaneSettings::simple(depth, length);
    {
        let mut plane = registration.data_plane(&settings).map_err(explained)?;
        let far = plane.far();
        for (op, direction) in transfers(importer) {
            for size in [1, 4096, 65_536, 1 << 20] {
                if size <= length {
                    move_pattern(plane.as_mut(), op, direction, buffer.view().as_ref(), far.as_ref(), size, depth)?;
                }
            }
        }
    }
    let transfer = |id| Transfer::new(id, Op::Write, 0, 0, 4096);
    let batch: Vec<_> = (0..u64::from(depth)).map(transfer).collect();
    if length >= 4096 {
        let mut abandoned = registration.data_plane(&settings).map_err(explained)?;
        println!("abandoned with {} transfers in flight", abandoned.submit(&batch).map_err(explained)?);
    }
    if let (true, Some(function)) = (reset, function) {
        let mut plane = registration.data_plane(&settings).map_err(explained)?;
        plane.submit(&batch).map_err(explained)?;
        function.reset().map_err(explained)?;
        let mut done = collect(plane.as_mut(), batch.len())?;
        if let Ok(again) = plane.submit(&batch) {
            done.append(&mut collect(plane.as_mut(), again)?);
        }
        let mut refused = done.iter().filter_map(failure);
        let (_, first) = refused.next().ok_or("transfers continued after the reset")?;
        println!("after a reset: {first} ({}), then {} more", first.explanation.why, refused.count());
        let refused = plane.submit(&batch).expect_err("a failed connection accepts nothing");
        println!("after that: {refused}");
    }
    registration.unregister().map_err(explained)?;
    println!("unregistered");
    Ok(())
}

fn transfers(importer: &dyn Importer) -> impl Iterator<Item = (Op, Direction)> {
    importer.capabilities().ops.iter().filter_map(|spec| match spec.role {
        Role::Transfer(direction) => Some((spec.op, direction)),
        _ => None,
    })
}

/// Covers the buffer (at most 256 transfers of it) in pieces of `size`, and compares received with sent bytes.
fn move_pattern(
    plane: &mut dyn DataPlane,
    op: Op,
    direction: Direction,
    buffer: &dyn View,
    far: &dyn View,
    size: u64,
    depth: u32,
) -> Result<(), Box<dyn Error>> {
    let (from, into) = match direction {
        Direction::IntoSource => (far, buffer),
        Direction::OutOfSource => (buffer, far),
    };
    let count = (from.length_bytes() / size).min(256);
    let covered = usize::try_from(count * size)?;
    let salt = size ^ u64::from(op.as_str().as_bytes()[0]);
    let pattern: Vec<u8> =
        (0..covered as u64).map(|at| (at.wrapping_mul(0x9e37_79b9).wrapping_add(salt) >> 11) as u8).collect();
    from.write(0, &pattern)?;
    into.write(0, &vec![0xa5; covered])?;

    let batch: Vec<Transfer> = (0..count)
        .map(|id| Transfer::new(id, op, id * size, id * size, u32::try_from(size).unwrap_or(u32::MAX)))
        .collect();
    let mut done = Vec::with_capacity(batch.len());
    let started = Instant::now();
    let mut moved = started;
    let mut next = 0;
    while done.len() < batch.len() {
        let ended = done.len();
        next += plane.submit(&batch[next..]).map_err(explained)?;
        plane.poll(&mut done).map_err(explained)?;
        if let Some((id, error)) = done[ended..].iter().find_map(failure) {
            let waited = moved.elapsed();
            return Err(
                format!("{op} of {size}, transfer {id}, after {waited:?}: {error}. {}", error.explanation.why).into()
            );
        }
        if done.len() > ended {
            moved = Instant::now();
        }
        if moved.elapsed() > TIMEOUT {
            return Err(format!("{op} of {size}: only {} of {count} completed", done.len()).into());
        }
    }
    let elapsed = started.elapsed();
    let mut ids: Vec<_> = done.iter().map(|completion| completion.id).collect();
    ids.sort_unstable();
    if ids != (0..count).collect::<Vec<_>>() {
        return Err(format!("{op} of {size}: a transfer completed twice or never").into());
    }
    let mut arrived = vec![0; covered];
    into.read(0, &mut arrived)?;
    if let Some(at) = arrived.iter().zip(&pattern).position(|(got, sent)| got != sent) {
        return Err(format!("{op} of {size}: byte {at} is {:#x}, not {:#x}", arrived[at], pattern[at]).into());
    }
    println!(
        "{op:>6} {size:>8} bytes x {count:>3}, depth {depth}: {:?} per transfer, verified",
        elapsed / u32::try_from(count)?
    );
    Ok(())
}

fn failure(completion: &Completion) -> Option<(u64, &TransferError)> {
    Some((completion.id, completion.result.as_ref().err()?))
}

fn collect(plane: &mut dyn DataPlane, count: usize) -> Result<Vec<Completion>, Box<dyn Error>> {
    let started = Instant::now();
    let mut done = Vec::with_capacity(count);
    while done.len() < count {
        plane.poll(&mut done).map_err(explained)?;
        if started.elapsed() > TIMEOUT {
            return Err(format!("only {} of {count} transfers completed", done.len()).into());
        }
    }
    Ok(done)
}

fn explained(error: impl Explained) -> String {
    let explanation = error.explanation();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    format!("{text}. {} {}", explanation.why, explanation.remedy)
}
