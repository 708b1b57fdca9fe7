//! Copies a BAR through host memory, for hosts whose devices cannot reach each other.
//!
//! The target transfers between its own memory and a staging buffer in host memory. The CPU copies between the staging buffer
//! and the BAR, once per operation and within the measured time.

use std::io;
use std::sync::Arc;

use peerpath_exporter::{HostMemory, View};
use peerpath_importers::{Completion, DataPlane, Direction, Error, Transfer};
use peerpath_paths::{Explained, Explanation, Severity};

/// A data plane for a BAR that uses the target's data plane for the staging buffer. A byte has the same offset in BAR and
/// staging buffer.
pub(super) struct Staged<'a> {
    target: Box<dyn DataPlane + 'a>,
    staging: HostMemory,
    bar: Arc<dyn View>,
    direction: Direction,
    /// Transfers in flight, indexed by the identifiers that this data plane passes to the target.
    in_flight: Box<[InFlight]>,
    /// Indexes of `in_flight` that are not in use.
    free: Vec<u64>,
    batch: Vec<Transfer>,
    completions: Vec<Completion>,
}

#[derive(Debug, Clone, Copy, Default)]
struct InFlight {
    /// Identifier that the caller chose for the transfer.
    id: u64,
    offset: u64,
    length_bytes: usize,
}

/// The copy by the CPU to or from the BAR failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot copy the BAR")]
struct NotCopied {
    #[source]
    source: io::Error,
}

impl Explained for NotCopied {
    fn explanation(&self) -> Explanation {
        if self.source.kind() == io::ErrorKind::Unsupported {
            return Explanation::uncaused(
                "The staged copy needs the BAR mapped into this process, but another driver or process owns the BAR.",
                "Name a BAR that VFIO lets this process map.",
            );
        }
        Explanation::uncaused(
            "The function does not respond.",
            "Look at the kernel log (dmesg) from the time of the failure.",
        )
    }

    fn severity(&self) -> Severity {
        if self.source.kind() == io::ErrorKind::Unsupported { Severity::Unavailable } else { Severity::Failed }
    }
}

fn not_copied(source: io::Error) -> Error {
    Error::new(NotCopied { source })
}

impl<'a> Staged<'a> {
    /// Wraps a data plane of the staging buffer for `depth` transfers, and adds the copy by the CPU.
    ///
    /// # Errors
    /// Reading the BAR fails. It is read once here, because the copies themselves do not detect a BAR that does not respond.
    pub(super) fn new(
        target: Box<dyn DataPlane + 'a>,
        staging: HostMemory,
        bar: Arc<dyn View>,
        direction: Direction,
        depth: u32,
    ) -> Result<Self, Error> {
        bar.read(0, &mut [0]).map_err(not_copied)?;
        let room = depth as usize;
        Ok(Self {
            target,
            staging,
            bar,
            direction,
            in_flight: vec![InFlight::default(); room].into(),
            free: (0..u64::from(depth)).rev().collect(),
            batch: Vec::with_capacity(room),
            completions: Vec::with_capacity(room),
        })
    }
}

impl DataPlane for Staged<'_> {
    fn far(&self) -> Arc<dyn View> {
        self.target.far()
    }

    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
        self.batch.clear();
        // Copy only as many transfers as there are free identifiers. The target accepts that many, so no copy is wasted.
        for (transfer, &own_id) in batch.iter().zip(self.free.iter().rev()) {
            let (offset, length_bytes) = (transfer.buffer_offset, transfer.length_bytes as usize);
            if self.direction == Direction::OutOfSource {
                self.bar.read_into(offset, &self.staging, offset, length_bytes).map_err(not_copied)?;
            }
            self.in_flight[own_id as usize] = InFlight { id: transfer.id, offset, length_bytes };
            self.batch.push(Transfer { id: own_id, ..*transfer });
        }
        let taken = self.target.submit(&self.batch)?;
        self.free.truncate(self.free.len() - taken);
        Ok(taken)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
        self.target.poll(&mut self.completions)?;
        for Completion { id: own_id, result } in self.completions.drain(..) {
            let InFlight { id, offset, length_bytes } = self.in_flight[own_id as usize];
            self.free.push(own_id);
            if self.direction == Direction::IntoSource && result.is_ok() {
                self.bar.write_from(offset, &self.staging, offset, length_bytes).map_err(not_copied)?;
            }
            done.push(Completion { id, result });
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<bool, Error> {
        self.target.wait()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use peerpath_exporter::{Buffer, Exporter, Handle, HostExporter, OpenOptions};
    use peerpath_importers::Op;

    const LENGTH: u64 = 8192;

    fn memory() -> Arc<Buffer> {
        HostExporter::open(LENGTH, &OpenOptions::default()).unwrap().export(LENGTH).unwrap()
    }

    /// A fake target that copies between two buffers when it is polled, and records the identifiers.
    struct Target {
        staging: Arc<Buffer>,
        far: Arc<Buffer>,
        direction: Direction,
        in_flight: Vec<Transfer>,
        seen: Arc<Mutex<Vec<u64>>>,
    }

    impl DataPlane for Target {
        fn far(&self) -> Arc<dyn View> {
            Arc::clone(self.far.view())
        }
        fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
            self.in_flight.extend_from_slice(batch);
            Ok(batch.len())
        }
        fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
            for transfer in self.in_flight.drain(..) {
                let mut bytes = vec![0; transfer.length_bytes as usize];
                let (from, to) = match self.direction {
                    Direction::IntoSource => (&self.far, &self.staging),
                    Direction::OutOfSource => (&self.staging, &self.far),
                };
                from.view().read(transfer.buffer_offset, &mut bytes).unwrap();
                to.view().write(transfer.buffer_offset, &bytes).unwrap();
                self.seen.lock().unwrap().push(transfer.id);
                done.push(Completion { id: transfer.id, result: Ok(()) });
            }
            Ok(())
        }
    }

    fn bytes_of(buffer: &Buffer) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH as usize];
        buffer.view().read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn copies_to_the_other_end_and_keeps_identifiers() {
        for direction in [Direction::IntoSource, Direction::OutOfSource] {
            let (bar, staging, far) = (memory(), memory(), memory());
            let Handle::Memory(host_memory) = staging.handle() else { panic!("host memory has an address") };
            let (given, taken) = match direction {
                Direction::IntoSource => (&far, &bar),
                Direction::OutOfSource => (&bar, &far),
            };
            let data: Vec<u8> = (0..LENGTH).map(|at| at as u8 ^ 0x5a).collect();
            given.view().write(0, &data).unwrap();
            let seen = Arc::default();
            let target = Target {
                staging: Arc::clone(&staging),
                far: Arc::clone(&far),
                direction,
                in_flight: Vec::new(),
                seen: Arc::clone(&seen),
            };
            let view = Arc::clone(bar.view());
            let mut plane = Staged::new(Box::new(target), host_memory.clone(), view, direction, 2).unwrap();
            let transfer = |id, offset, length_bytes| Transfer::new(id, Op::Write, offset, offset, length_bytes);
            let batch = [transfer(70, 64, 100), transfer(71, 4096, 3), transfer(72, 5000, 1000)];
            let mut done = Vec::new();
            assert_eq!(plane.submit(&batch).unwrap(), 2, "the depth limits a batch");
            assert_eq!(plane.submit(&batch[2..]).unwrap(), 0);
            plane.poll(&mut done).unwrap();
            assert_eq!(plane.submit(&batch[2..]).unwrap(), 1);
            plane.poll(&mut done).unwrap();
            assert_eq!(done.iter().map(|completion| completion.id).collect::<Vec<_>>(), [70, 71, 72]);
            assert!(seen.lock().unwrap().iter().all(|id| *id < 2));
            let expected: Vec<u8> = (0..LENGTH)
                .map(|at| if matches!(at, 64..164 | 4096..4099 | 5000..6000) { data[at as usize] } else { 0 })
                .collect();
            assert_eq!(bytes_of(taken), expected);
        }
    }
}
