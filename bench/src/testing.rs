//! Test helpers that several modules use.

use std::io;
use std::sync::Mutex;

use peerpath_exporter::View;
use peerpath_importers::Op;

use crate::plan::{CellSpec, Mechanism, Mode};

/// A write of 4 KiB that no target offers.
pub(crate) fn spec() -> CellSpec {
    CellSpec {
        asked: None,
        op: Op::Write,
        spec: None,
        mode: Mode::Completion,
        size_bytes: 4096,
        ranges: None,
        mechanism: Mechanism::Auto,
        depth: 1,
        qps: 1,
        threads: 1,
        rate_per_s: None,
        bidirectional: false,
    }
}

/// Memory with a [`View`], in place of a BAR.
pub(crate) struct Bytes(pub(crate) Mutex<Vec<u8>>);

impl Bytes {
    pub(crate) fn new(length: u64) -> Self {
        Self(Mutex::new(vec![0; length as usize]))
    }
}

impl View for Bytes {
    fn length_bytes(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        into.copy_from_slice(&self.0.lock().unwrap()[offset as usize..][..into.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap()[offset as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }
}
