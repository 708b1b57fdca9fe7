//! What a plain loop of copies reaches in a GPU's memory: what our own figures for it are held against. It shares no code with
//! the importer, not even how the driver is called.
//!
//! `copy_loop GPU BYTES SECONDS` prints `{"bytes_per_s": ..., "copies": ..., "size_bytes": ...}`.

mod sys;

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Copies between two looks at the clock, so that looking costs nothing.
const COPIES_A_LOOK: u32 = 16;

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
    let number = |text: &String| text.parse::<u64>().map_err(|_| format!("{text:?} is no number"));
    let (bytes, limit) = (number(bytes)?, Duration::from_secs(number(seconds)?));
    let bytes = usize::try_from(bytes).map_err(|_| "too long".to_owned())?;
    let memory = sys::Copies::prepare(i32::try_from(number(gpu)?).unwrap_or(-1), bytes)?;
    // The first ones find the GPU asleep.
    memory.copy(COPIES_A_LOOK)?;
    let begun = Instant::now();
    let mut copies = 0_u64;
    while begun.elapsed() < limit {
        memory.copy(COPIES_A_LOOK)?;
        copies += u64::from(COPIES_A_LOOK);
    }
    let rate = copies as f64 * bytes as f64 / begun.elapsed().as_secs_f64();
    Ok(format!("{{\"bytes_per_s\": {rate:.0}, \"copies\": {copies}, \"size_bytes\": {bytes}}}"))
}
