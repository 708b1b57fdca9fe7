//! The `peerpath` command: arguments, tables, progress, and all messages that name an option or a command.

mod commands;
mod hints;
mod names;
mod similar;
mod steps;
mod table;
mod terminal;
mod text_layout;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main(std::env::args_os())
}
