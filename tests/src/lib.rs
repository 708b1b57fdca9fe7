//! Package of the lab tests, which use several crates and run inside an emulated machine (`lab/`).
