//! Package of the lab tests, which use several crates: `lab/` runs inside an emulated machine.
