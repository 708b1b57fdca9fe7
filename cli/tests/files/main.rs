//! Files that the program reads and writes: input files are bounded, and no result is lost.

mod inputs;
#[path = "../contracts/program.rs"]
#[allow(dead_code, reason = "these tests use some of it")]
mod program;
mod result_folder;
