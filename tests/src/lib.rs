//! Holds the tests that cross crates: `lab/` runs inside an emulated machine.
