//! What scripts and other programs rely on: options, exit codes, `--json`, `result.json`, the two protocols, the journal.
//!
//! Every test compares what the program does with a file below `golden/`. A difference is either a defect or a change of a
//! contract. After a deliberate change run the tests with `PEERPATH_BLESS=1`, which rewrites the files, and commit them
//! together with the reason. Names, types, words and numbers are compared, never sentences.

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
