//! Contracts that scripts and other programs rely on: options, exit codes, `--json`, `result.json`, the two protocols and
//! the journal.
//!
//! Every test compares what the program does with a file below `golden/`. A difference is a defect or a change of a contract.
//! After a deliberate change, run the tests with `PEERPATH_BLESS=1`, which rewrites the files, and commit them with the reason.
//! The tests compare names, types, words and numbers, never the wording of messages.

mod causes;
mod command_line;
mod exit_codes;
mod golden;
mod handover;
mod journal;
mod json_output;
mod program;
mod result_file;
mod shape;
mod wire;
