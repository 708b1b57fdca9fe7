//! Simple reads and writes of a registered buffer, over a data plane.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use peerpath_exporter::View;
use peerpath_paths::Cause;

use crate::{Completion, DataPlane, DataPlaneSettings, Error, Op, Registration, Transfer, TransferError};

/// Maximum bytes per transfer. Longer reads and writes are split into several transfers.
const SLOT_BYTES: u64 = 64 << 10;
/// Timeout for the completion of a transfer. If the connection is lost, a NIC reports an error earlier.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Reads and writes a registered buffer through the device, between the buffer and memory of the same host.
///
/// Each call starts transfers and returns a handle to wait for, so several transfers can be in flight. Each call also copies
/// the data to or from memory that this type owns, so use a [`DataPlane`] if speed matters.
pub struct Loopback<'r> {
    shared: Arc<Mutex<Shared<'r>>>,
}

impl<'r> Loopback<'r> {
    /// Sets up a data plane for `depth` transfers in flight; `buffer_bytes` is the length of the registered buffer.
    ///
    /// # Errors
    /// Same as [`Registration::data_plane`].
    pub fn new(registration: &'r dyn Registration, depth: u32, buffer_bytes: u64) -> Result<Self, Error> {
        let slot_bytes = SLOT_BYTES.min(buffer_bytes);
        let plane = registration.data_plane(&DataPlaneSettings::simple(depth, u64::from(depth) * slot_bytes))?;
        let shared = Shared {
            far: plane.far(),
            plane,
            slots: vec![Slot::Free; depth as usize].into(),
            slot_bytes,
            done: Vec::with_capacity(depth as usize),
        };
        Ok(Self { shared: Arc::new(Mutex::new(shared)) })
    }

    /// Starts to write `bytes` into the buffer at `offset`.
    ///
    /// # Errors
    /// The bytes exceed the buffer, the data plane has failed, or unfinished handles occupy all `depth` slots.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<Pending<'r>, LoopbackError> {
        let mut pending = Pending { shared: Arc::clone(&self.shared), parts: VecDeque::new(), op: Op::Write };
        for (place, at) in pending.pieces(offset, bytes.len()) {
            let slot = pending.slot(|_, _| Ok(()))?;
            let mut shared = pending.lock();
            let start = shared.start_of(slot);
            shared.far.write(start, &bytes[place.clone()])?;
            shared.post(Op::Write, slot, at, place.len())?;
            drop(shared);
            pending.parts.push_back((slot, place));
        }
        Ok(pending)
    }

    /// Starts to read `length_bytes` bytes of the buffer at `offset`.
    ///
    /// # Errors
    /// Same as [`Loopback::write`].
    pub fn read(&mut self, offset: u64, length_bytes: usize) -> Result<PendingRead<'r>, LoopbackError> {
        let mut pending = Pending { shared: Arc::clone(&self.shared), parts: VecDeque::new(), op: Op::Read };
        let mut bytes = vec![0; length_bytes];
        for (place, at) in pending.pieces(offset, length_bytes) {
            let slot = pending.slot(|(far, start), place| far.read(start, &mut bytes[place]))?;
            pending.lock().post(Op::Read, slot, at, place.len())?;
            pending.parts.push_back((slot, place));
        }
        Ok(PendingRead { pending, bytes })
    }
}

/// A write in flight. Dropping it leaves the write in flight.
#[must_use = "the write may not have completed before `wait` returns"]
pub struct Pending<'r> {
    shared: Arc<Mutex<Shared<'r>>>,
    /// Slot of each transfer, and its byte range within the write or read, in order.
    parts: VecDeque<(usize, Range<usize>)>,
    op: Op,
}

impl<'r> Pending<'r> {
    /// Waits until the write has completed, for at most 30 s.
    ///
    /// # Errors
    /// A transfer failed or timed out; [`LoopbackError::cause`] gives the reason.
    pub fn wait(mut self) -> Result<(), LoopbackError> {
        while self.settle(|_, _| Ok(()))? {}
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Shared<'r>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Divides a span of the buffer into transfers: the byte range of each, and its offset in the buffer.
    fn pieces(&self, offset: u64, length_bytes: usize) -> impl Iterator<Item = (Range<usize>, u64)> + use<> {
        // A slot has at most 64 KiB, so its length fits `usize`.
        let step = (self.lock().slot_bytes as usize).max(1);
        let piece = move |start: usize| (start..length_bytes.min(start + step), offset.saturating_add(start as u64));
        (0..length_bytes).step_by(step).map(piece)
    }

    /// Returns a free slot. If all slots are in use, waits for the oldest transfer of this handle, or for a transfer whose
    /// handle was dropped.
    fn slot(
        &mut self,
        mut consume: impl FnMut((&dyn View, u64), Range<usize>) -> io::Result<()>,
    ) -> Result<usize, LoopbackError> {
        let begun = Instant::now();
        loop {
            let mut shared = self.lock();
            shared.poll()?;
            if let Some(slot) = shared.slots.iter().position(|slot| matches!(slot, Slot::Free)) {
                return Ok(slot);
            }
            let has_abandoned = shared.slots.iter().any(|slot| matches!(slot, Slot::Abandoned));
            drop(shared);
            if !self.settle(&mut consume)? && !has_abandoned {
                return Err(LoopbackError::Full);
            }
            check_deadline(begun, self.op)?;
        }
    }

    /// Waits for the oldest transfer and passes its initiator memory to `consume`. Returns false if no transfer is left.
    fn settle(
        &mut self,
        mut consume: impl FnMut((&dyn View, u64), Range<usize>) -> io::Result<()>,
    ) -> Result<bool, LoopbackError> {
        let Some((slot, place)) = self.parts.front().cloned() else { return Ok(false) };
        let mut shared = self.lock();
        let result = shared.wait_for(slot, self.op)?;
        let taken = consume((shared.far.as_ref(), shared.start_of(slot)), place);
        shared.slots[slot] = Slot::Free;
        drop(shared);
        self.parts.pop_front();
        result.map_err(|source| LoopbackError::Transfer { op: self.op, source })?;
        taken?;
        Ok(true)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let parts = std::mem::take(&mut self.parts);
        let mut shared = self.lock();
        for (slot, _) in parts {
            let is_completed = matches!(shared.slots[slot], Slot::Completed(_));
            shared.slots[slot] = if is_completed { Slot::Free } else { Slot::Abandoned };
        }
    }
}

/// A read in flight. Dropping it discards the bytes.
#[must_use = "`wait` returns the bytes"]
pub struct PendingRead<'r> {
    pending: Pending<'r>,
    bytes: Vec<u8>,
}

impl PendingRead<'_> {
    /// Waits until the read has completed, for at most 30 s, and returns the bytes.
    ///
    /// # Errors
    /// Same as [`Pending::wait`].
    pub fn wait(self) -> Result<Vec<u8>, LoopbackError> {
        let Self { mut pending, mut bytes } = self;
        while pending.settle(|(far, start), place| far.read(start, &mut bytes[place]))? {}
        Ok(bytes)
    }
}

/// State of a slot. A slot is a span of initiator memory for one transfer at a time.
#[derive(Clone)]
enum Slot {
    Free,
    InFlight,
    /// The transfer is in flight, and its handle was dropped.
    Abandoned,
    Completed(Result<(), TransferError>),
}

struct Shared<'r> {
    plane: Box<dyn DataPlane + 'r>,
    far: Arc<dyn View>,
    slots: Box<[Slot]>,
    slot_bytes: u64,
    done: Vec<Completion>,
}

impl Shared<'_> {
    fn start_of(&self, slot: usize) -> u64 {
        slot as u64 * self.slot_bytes
    }

    fn post(&mut self, op: Op, slot: usize, offset: u64, length: usize) -> Result<(), LoopbackError> {
        // A slot has at most 64 KiB, so the length fits 32 bits.
        let transfer = Transfer::new(slot as u64, op, offset, self.start_of(slot), length as u32);
        let begun = Instant::now();
        while self.plane.submit(&[transfer])? == 0 {
            self.poll()?;
            check_deadline(begun, op)?;
        }
        self.slots[slot] = Slot::InFlight;
        Ok(())
    }

    fn wait_for(&mut self, slot: usize, op: Op) -> Result<Result<(), TransferError>, LoopbackError> {
        let begun = Instant::now();
        loop {
            if let Slot::Completed(result) = &self.slots[slot] {
                return Ok(result.clone());
            }
            self.poll()?;
            check_deadline(begun, op)?;
        }
    }

    fn poll(&mut self) -> Result<(), LoopbackError> {
        self.plane.poll(&mut self.done)?;
        if self.done.is_empty() {
            std::thread::yield_now();
        }
        for Completion { id, result } in self.done.drain(..) {
            // The ID of every transfer is the number of its slot.
            let Some(slot) = usize::try_from(id).ok().and_then(|id| self.slots.get_mut(id)) else { continue };
            *slot = if matches!(slot, Slot::Abandoned) { Slot::Free } else { Slot::Completed(result) };
        }
        Ok(())
    }
}

fn check_deadline(begun: Instant, op: Op) -> Result<(), LoopbackError> {
    if begun.elapsed() < TIMEOUT { Ok(()) } else { Err(LoopbackError::TimedOut { op, seconds: TIMEOUT.as_secs() }) }
}

/// An error of a [`Loopback`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoopbackError {
    /// No slot is free: every slot has a transfer in flight, or a completed transfer whose handle has not been waited on.
    #[error("cannot start a transfer: the maximum number of transfers is in flight; wait for a handle first")]
    Full,
    /// A transfer did not complete before the timeout.
    #[error("cannot complete a {op}: no completion within {seconds} s")]
    TimedOut {
        /// Operation of the transfer.
        op: Op,
        /// Timeout in seconds.
        seconds: u64,
    },
    /// The device completed a transfer with an error.
    #[error("cannot complete a {op}")]
    Transfer {
        /// Operation of the transfer.
        op: Op,
        /// Status of the completion.
        source: TransferError,
    },
    /// The data plane rejected a transfer, or failed.
    #[error(transparent)]
    DataPlane(#[from] Error),
    /// Initiator memory cannot be accessed.
    #[error("cannot access initiator memory")]
    Far(#[from] io::Error),
}

impl LoopbackError {
    /// Returns the cause of the failure. `None` if it is unknown.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Full => Some(Cause::LimitReached),
            Self::TimedOut { .. } => Some(Cause::TimedOut),
            Self::Transfer { source, .. } => source.cause(),
            Self::DataPlane(error) => error.cause(),
            Self::Far(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicBool, Ordering};

    use peerpath_exporter::{Exporter, HostExporter, OpenOptions};
    use peerpath_paths::Explanation;

    use super::*;
    use crate::DeferredRelease;

    fn memory(bytes: u64) -> Arc<dyn View> {
        let exporter = HostExporter::open(bytes, &OpenOptions::default()).unwrap();
        Arc::clone(exporter.export(bytes).unwrap().view())
    }

    /// A fake device that copies one transfer per poll.
    struct Copier {
        buffer: Arc<dyn View>,
        fails: AtomicBool,
    }

    struct CopierPlane<'r> {
        copier: &'r Copier,
        far: Arc<dyn View>,
        depth: usize,
        queue: VecDeque<Transfer>,
    }

    impl Registration for Copier {
        fn mechanism(&self) -> &'static str {
            "copy"
        }

        fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, Error> {
            let (far, depth) = (memory(settings.far_bytes), settings.depth as usize);
            Ok(Box::new(CopierPlane { copier: self, far, depth, queue: VecDeque::new() }))
        }

        fn unregister(self: Box<Self>) -> Result<DeferredRelease, Error> {
            Ok(DeferredRelease::new(self))
        }
    }

    impl DataPlane for CopierPlane<'_> {
        fn far(&self) -> Arc<dyn View> {
            Arc::clone(&self.far)
        }

        fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
            let taken = batch.len().min(self.depth - self.queue.len());
            self.queue.extend(&batch[..taken]);
            Ok(taken)
        }

        fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
            let Some(transfer) = self.queue.pop_front() else { return Ok(()) };
            let Transfer { id, op, buffer_offset, far_offset, length_bytes, .. } = transfer;
            if self.copier.fails.load(Ordering::Relaxed) {
                let explanation = Box::new(Explanation::new(Cause::Revoked, "It is a test.", "Ignore it."));
                let result = Err(TransferError { status: "REM_ACCESS_ERR", explanation });
                done.push(Completion { id, result });
                return Ok(());
            }
            let mut bytes = vec![0; length_bytes as usize];
            if op == Op::Write {
                self.far.read(far_offset, &mut bytes).unwrap();
                self.copier.buffer.write(buffer_offset, &bytes).unwrap();
            } else {
                self.copier.buffer.read(buffer_offset, &mut bytes).unwrap();
                self.far.write(far_offset, &bytes).unwrap();
            }
            done.push(Completion { id, result: Ok(()) });
            Ok(())
        }
    }

    fn copier(bytes: u64) -> Copier {
        Copier { buffer: memory(bytes), fails: AtomicBool::new(false) }
    }

    #[test]
    fn writes_and_reads_back() {
        let copier = copier(4096);
        let mut loopback = Loopback::new(&copier, 16, 4096).unwrap();
        loopback.write(5, b"hello").unwrap().wait().unwrap();
        assert_eq!(loopback.read(5, 5).unwrap().wait().unwrap(), b"hello");
        let mut bytes = [0; 5];
        copier.buffer.read(5, &mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }

    #[test]
    fn transfers_more_bytes_than_all_slots_hold() {
        let length = 10 * SLOT_BYTES + 123;
        let copier = copier(length);
        let pattern: Vec<u8> = (0..length).map(|at| ((at * 7) >> 3) as u8).collect();
        for depth in [1, 3] {
            let mut loopback = Loopback::new(&copier, depth, length).unwrap();
            loopback.write(0, &pattern).unwrap().wait().unwrap();
            assert!(loopback.read(0, pattern.len()).unwrap().wait().unwrap() == pattern, "{depth}");
        }
    }

    #[test]
    fn several_transfers_in_flight_complete_in_any_order() {
        let copier = copier(4096);
        let mut loopback = Loopback::new(&copier, 4, 4096).unwrap();
        let writes: Vec<_> = (0..4_u8).map(|at| loopback.write(u64::from(at), &[at]).unwrap()).collect();
        assert!(matches!(loopback.write(9, b"x"), Err(LoopbackError::Full)));
        for write in writes.into_iter().rev() {
            write.wait().unwrap();
        }
        assert_eq!(loopback.read(0, 4).unwrap().wait().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn dropping_a_handle_frees_its_transfer() {
        let copier = copier(4096);
        let mut loopback = Loopback::new(&copier, 1, 4096).unwrap();
        drop(loopback.write(0, b"a").unwrap());
        loopback.write(1, b"b").unwrap().wait().unwrap();
        assert_eq!(loopback.read(0, 2).unwrap().wait().unwrap(), b"ab");
    }

    #[test]
    fn failed_transfer_has_a_cause() {
        let copier = copier(4096);
        copier.fails.store(true, Ordering::Relaxed);
        let mut loopback = Loopback::new(&copier, 2, 4096).unwrap();
        let error = loopback.write(0, b"a").unwrap().wait().unwrap_err();
        assert_eq!(error.cause(), Some(Cause::Revoked));
        assert!(std::error::Error::source(&error).is_some());
    }
}
