//! The `peerpath` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    peerpath::cli::main(std::env::args_os())
}
