//! Writes a snapshot of a synthetic host, to measure how time and memory grow with the number of functions:
//!
//! ```text
//! cargo run -p peerpath-paths --example large_host -- 4096 one-group host.tar
//! ```

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (functions, machine, file) = match arguments.as_slice() {
        [functions, groups, file] => match (functions.parse(), groups.as_str()) {
            (Ok(functions), "one-group") => (functions, support::large(functions).one_group(), file),
            (Ok(functions), "own-groups") => (functions, support::large(functions), file),
            _ => return usage(),
        },
        _ => return usage(),
    };
    match std::fs::write(file, machine.archive()) {
        Ok(()) => {
            eprintln!("{file}: {functions} functions");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot write {file}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: large_host FUNCTIONS one-group|own-groups FILE.tar");
    ExitCode::from(2)
}
