//! The BAR copied through host memory by the CPU: what is left to a host whose devices do not reach each other.
//!
//! The target moves between its far side and a staging buffer, this processor between the staging buffer and the BAR, once
//! for each operation and within the time that is measured.

use std::io;
use std::sync::Arc;

use peerpath_exporter::{HostMemory, View};
use peerpath_importers::{Completion, DataPlane, Direction, Error, Transfer};
use peerpath_paths::{Explained, Explanation, Severity};

/// A data plane whose transfers end in the BAR, or begin there, though the target knows only the staging buffer. Both have
/// every byte at the same offset.
pub(super) struct Staged<'a> {
    target: Box<dyn DataPlane + 'a>,
    staging: HostMemory,
    bar: Arc<dyn View>,
    direction: Direction,
    /// Transfers under way, each at the number by which the target knows it.
    under_way: Box<[UnderWay]>,
    /// Numbers that are not in use.
    free: Vec<u64>,
    batch: Vec<Transfer>,
    ended: Vec<Completion>,
}

#[derive(Debug, Clone, Copy, Default)]
struct UnderWay {
    /// The caller's number.
    id: u64,
    offset: u64,
    length_bytes: usize,
}

/// The processor did not reach the BAR.
#[derive(Debug, thiserror::Error)]
#[error("the BAR could not be copied")]
struct NotCopied {
    #[source]
    source: io::Error,
}

impl Explained for NotCopied {
    fn explanation(&self) -> Explanation {
        if self.source.kind() == io::ErrorKind::Unsupported {
            return Explanation::uncaused(
                "The copy needs a mapping of the BAR in this process, and the driver or another process keeps it.",
                "Name a BAR that VFIO lets this process map.",
            );
        }
        Explanation::uncaused("The function does not answer.", "Look at the kernel log (dmesg) of that moment.")
    }

    fn severity(&self) -> Severity {
        if self.source.kind() == io::ErrorKind::Unsupported { Severity::Unavailable } else { Severity::Failed }
    }
}

fn not_copied(source: io::Error) -> Error {
    Error::new(NotCopied { source })
}

impl<'a> Staged<'a> {
    /// Puts the copy before or behind a data plane of the staging buffer that was set up for `depth` transfers.
    ///
    /// # Errors
    /// The BAR does not answer: it is looked at once, because the copies do not ask.
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
            under_way: vec![UnderWay::default(); room].into(),
            free: (0..u64::from(depth)).rev().collect(),
            batch: Vec::with_capacity(room),
            ended: Vec::with_capacity(room),
        })
    }
}

impl DataPlane for Staged<'_> {
    fn far(&self) -> Arc<dyn View> {
        self.target.far()
    }

    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
        self.batch.clear();
        // The target has room for as many as are free here, so none is copied and then turned away.
        for (transfer, &number) in batch.iter().zip(self.free.iter().rev()) {
            let (offset, length_bytes) = (transfer.buffer_offset, transfer.length_bytes as usize);
            if self.direction == Direction::OutOfSource {
                self.bar.read_into(offset, &self.staging, offset, length_bytes).map_err(not_copied)?;
            }
            self.under_way[number as usize] = UnderWay { id: transfer.id, offset, length_bytes };
            self.batch.push(Transfer { id: number, ..*transfer });
        }
        let taken = self.target.submit(&self.batch)?;
        self.free.truncate(self.free.len() - taken);
        Ok(taken)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
        self.target.poll(&mut self.ended)?;
        for Completion { id: number, result } in self.ended.drain(..) {
            let UnderWay { id, offset, length_bytes } = self.under_way[number as usize];
            self.free.push(number);
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

    /// Moves between two buffers when it is polled, and says so in a log.
    struct Target {
        staging: Arc<Buffer>,
        far: Arc<Buffer>,
        direction: Direction,
        under_way: Vec<Transfer>,
        seen: Arc<Mutex<Vec<u64>>>,
    }

    impl DataPlane for Target {
        fn far(&self) -> Arc<dyn View> {
            Arc::clone(self.far.view())
        }
        fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
            self.under_way.extend_from_slice(batch);
            Ok(batch.len())
        }
        fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
            for transfer in self.under_way.drain(..) {
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
    fn bytes_reach_the_other_end_and_the_caller_sees_its_own_numbers() {
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
                under_way: Vec::new(),
                seen: Arc::clone(&seen),
            };
            let view = Arc::clone(bar.view());
            let mut plane = Staged::new(Box::new(target), host_memory.clone(), view, direction, 2).unwrap();
            let transfer = |id, offset, length_bytes| Transfer::new(id, Op::Write, offset, offset, length_bytes);
            let batch = [transfer(70, 64, 100), transfer(71, 4096, 3), transfer(72, 5000, 1000)];
            let mut done = Vec::new();
            assert_eq!(plane.submit(&batch).unwrap(), 2, "as many as the depth");
            assert_eq!(plane.submit(&batch[2..]).unwrap(), 0);
            plane.poll(&mut done).unwrap();
            assert_eq!(plane.submit(&batch[2..]).unwrap(), 1);
            plane.poll(&mut done).unwrap();
            assert_eq!(done.iter().map(|completion| completion.id).collect::<Vec<_>>(), [70, 71, 72]);
            assert!(seen.lock().unwrap().iter().all(|number| *number < 2));
            let expected: Vec<u8> = (0..LENGTH)
                .map(|at| if matches!(at, 64..164 | 4096..4099 | 5000..6000) { data[at as usize] } else { 0 })
                .collect();
            assert_eq!(bytes_of(taken), expected);
        }
    }
}
