//! Measures the throughput of a plain loop of copies within GPU memory, as a reference for the CUDA importer. It shares no code
//! with the importer.
//!
//! `copy_loop GPU BYTES SECONDS` prints `{"bytes_per_s": ..., "copies": ..., "size_bytes": ...}`.

mod sys;

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Copies between two reads of the clock, so that the reads do not affect the throughput.
const COPIES_PER_CLOCK_READ: u32 = 16;

fn main() -> ExitCode {
    match measure() {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("copy_loop: {why}");
            ExitCode::from(3)
        }
    }
}

fn measure() -> Result<String, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [gpu, bytes, seconds] = &arguments[..] else { return Err("usage: copy_loop GPU BYTES SECONDS".into()) };
    let number = |text: &String| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
    let (bytes, limit) = (number(bytes)?, Duration::from_secs(number(seconds)?));
    let bytes = usize::try_from(bytes).map_err(|_| "BYTES is too large".to_owned())?;
    let memory = sys::Copies::prepare(i32::try_from(number(gpu)?).unwrap_or(-1), bytes)?;
    // The first copies wake up the GPU, so they are not measured.
    memory.copy(COPIES_PER_CLOCK_READ)?;
    let begun = Instant::now();
    let mut copies = 0_u64;
    while begun.elapsed() < limit {
        memory.copy(COPIES_PER_CLOCK_READ)?;
        copies += u64::from(COPIES_PER_CLOCK_READ);
    }
    let rate = copies as f64 * bytes as f64 / begun.elapsed().as_secs_f64();
    Ok(format!("{{\"bytes_per_s\": {rate:.0}, \"copies\": {copies}, \"size_bytes\": {bytes}}}"))
}
