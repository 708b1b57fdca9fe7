//! Revokes exported memory while an importer transfers, and measures when the importer can no longer reach the memory.
//!
//! One operation:
//! 1. Export, register, and write and read in a loop on two data planes, one per direction ([`traffic`]).
//! 2. Call the function that revokes the memory. The loop continues for up to [`Timing::after_return`] after its return.
//! 3. If the memory stays revoked, try a write and a read over new queues of the same registration: both must fail.
//! 4. Make the memory usable again, and count stale bytes ([`stale`]): bytes that the importer wrote or read after the return of
//!    the call. Then write and read once more over new queues of the old registration. If they succeed, the importer has mapped
//!    the memory again, as drivers with on-demand paging do. Otherwise they must not have moved a byte.
//! 5. Export and register anew, write, read and verify.
//!
//! The time until the importer can no longer reach the memory lies between two bounds ([`observed`]).

pub(super) mod observed;
mod stale;
pub(super) mod summary;
#[cfg(test)]
mod tests;
mod traffic;
mod transfer_once;

use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use peerpath_exporter::{Buffer, Handle, View, page_bytes};
use peerpath_importers::{DataPlaneSettings, Device, Op, Registration, Revocation, Transfer};
use peerpath_paths::Explanation;
use quanta::Clock;

use super::cell_error::CellError;
use crate::cpus;
use crate::interrupt::Interrupt;
use crate::measure::MeasureError;
use crate::window::{Mismatch, VerifyError};
use observed::{Call, Observed, Seen};
use stale::{Content, Place, StaleBytes};
use traffic::{Lane, Shared};

/// Maximum number of outstanding transfers in each direction.
pub(super) const MOST_OUTSTANDING: u32 = 4;
/// Minimum length of a transfer: shorter data could match other content by chance.
pub(super) const SHORTEST_BYTES: u64 = 8;

/// Source whose memory can be revoked.
pub(super) trait Revocable {
    /// Exports the first bytes of the memory. Neither the export nor the returned buffer may keep another owner of the function
    /// open.
    fn export(&mut self, length_bytes: u64) -> Result<Arc<Buffer>, CellError>;
    /// Revokes the memory. This is the measured call. No buffer of [`Self::export`] exists.
    fn revoke(&mut self) -> Result<(), CellError>;
    /// Makes the memory usable again. Called after every call of [`Self::revoke`], including one that failed.
    fn restore(&mut self) -> Result<(), CellError>;
}

/// Durations of the phases that are not measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// How long transfers continue after the return of the call, unless they fail earlier.
    pub(super) after_return: Duration,
    /// Maximum wait for the completions of outstanding transfers.
    pub(super) drain: Duration,
    /// Wait for late accesses after the memory is usable again.
    pub(super) settle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { after_return: ms(100), drain: ms(2000), settle: ms(20) }
    }
}

/// The parameters of all operations of a cell.
pub(super) struct Trial<'a> {
    pub(super) kind: Revocation,
    pub(super) device: &'a Arc<dyn Device>,
    pub(super) size_bytes: u32,
    /// Outstanding transfers in each direction.
    pub(super) outstanding: u32,
    /// CPU of the thread that posts and polls. `None`: any.
    pub(super) cpu: Option<u32>,
    pub(super) clock: &'a Clock,
    pub(super) interrupt: &'a Interrupt,
    pub(super) timing: Timing,
}

/// The result of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) observed: Observed,
    pub(super) call_ns: u64,
    /// Duration of the call, of making the memory usable, and of a new export, registration and verified transfers.
    pub(super) usable_again_ns: u64,
    /// Whether the old registration reached the memory again after it was usable.
    pub(super) resumed: bool,
    pub(super) stale: StaleBytes,
    pub(super) verified_bytes: u64,
}

/// The number of outstanding transfers per direction that fit into this memory. `None` if not even one fits.
pub(super) fn outstanding(size_bytes: u64, memory_bytes: u64) -> Option<u32> {
    let pairs = memory_bytes / size_bytes.checked_mul(2)?;
    let pairs = u32::try_from(pairs).unwrap_or(u32::MAX).min(MOST_OUTSTANDING);
    (pairs > 0).then_some(pairs)
}

/// Whether the call was made, and what the transfers saw.
struct Revoked {
    /// `None` if the traffic ended before the call.
    call: Option<(Call, Result<(), CellError>)>,
    seen: Result<[Seen; 2], MeasureError>,
}

impl Trial<'_> {
    /// Bytes of the buffer: slots of the writes, followed by slots of the reads.
    fn slots_bytes(&self) -> u64 {
        2 * u64::from(self.outstanding) * u64::from(self.size_bytes)
    }

    /// Exports whole pages with all slots.
    fn export(&self, function: &mut dyn Revocable) -> Result<Arc<Buffer>, CellError> {
        function.export(self.slots_bytes().next_multiple_of(page_bytes()))
    }

    fn register(&self, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, CellError> {
        Ok(Arc::clone(self.device).register(buffer)?)
    }

    /// Runs one operation. Afterwards the memory is usable, unless making it usable failed.
    pub(super) fn run(&self, function: &mut dyn Revocable) -> Result<Operation, CellError> {
        let buffer = self.export(function)?;
        let registration = self.register(detached(&buffer)?)?;
        let content = Content::random();
        content.write_to(&**buffer.view(), 0, self.slots_bytes())?;
        // An open buffer would keep the function open.
        drop(buffer);
        let mut lanes = [
            Lane::new(&*registration, Op::Write, 0, self.size_bytes, self.outstanding)?,
            Lane::new(&*registration, Op::Read, self.slots_bytes() / 2, self.size_bytes, self.outstanding)?,
        ];
        for lane in &lanes {
            content.write_to(&*lane.far(), lane.first_offset(), self.slots_bytes() / 2)?;
        }

        let Revoked { call, seen } = self.revoke_under_traffic(function, &mut lanes, content);
        let Some((call, revoked)) = call else {
            // The memory was not revoked. The transfers failed, or the run is interrupted.
            let failed = seen?.into_iter().find_map(|seen| seen.first_failure);
            return Err(failed.map_or(MeasureError::TimedOut, |(_, error)| MeasureError::Transfer(error)).into());
        };
        let stays_revoked = revoked.is_ok() && !self.kind.ends_with_the_call();
        let while_revoked = stays_revoked.then(|| self.try_again(&*registration, content.complement()));
        let before_restore = self.clock.raw();
        let restored = function.restore();
        let restored_ns = self.ns(before_restore, self.clock.raw());
        // A function that is not restored is the worse of two failures.
        restored?;
        revoked?;
        let seen = seen?;
        let while_revoked = while_revoked.transpose()?;

        let observed = Observed::of(call, &seen, self.clock)?;
        let (resumed, stale) = self.after_restore(function, &*registration, &lanes, &seen, content, while_revoked)?;
        drop(lanes);
        registration.unregister()?;
        let call_ns = self.ns(call.start, call.end);
        let (again_ns, verified_bytes) = self.use_again(function)?;
        let usable_again_ns = call_ns + restored_ns + again_ns;
        Ok(Operation { observed, call_ns, usable_again_ns, resumed, stale, verified_bytes })
    }

    fn ns(&self, start: u64, end: u64) -> u64 {
        self.clock.delta_as_nanos(start, end)
    }

    /// Starts the transfers, revokes the memory, and waits for the transfers to end.
    fn revoke_under_traffic(
        &self,
        function: &mut dyn Revocable,
        lanes: &mut [Lane<'_>; 2],
        content: Content,
    ) -> Revoked {
        let shared = Shared::default();
        let (timing, clock, interrupt, cpu) = (self.timing, self.clock, self.interrupt, self.cpu);
        std::thread::scope(|scope| {
            let (shared, failed) = (&shared, |source| MeasureError::Thread { source });
            let post = move || {
                cpu.map_or(Ok(()), cpus::bind_this_thread)?;
                traffic::run(lanes, shared, content, timing, clock, interrupt)
            };
            let poster = match Builder::new().spawn_scoped(scope, move || shared.ending(post)) {
                Ok(poster) => poster,
                Err(source) => return Revoked { call: None, seen: Err(failed(source)) },
            };
            let call = shared.wait_for_traffic(clock, interrupt).then(|| {
                let start = clock.raw();
                let revoked = function.revoke();
                let end = clock.raw();
                shared.call_returned();
                (Call { start, end }, revoked)
            });
            if call.is_none() {
                shared.stop();
            }
            Revoked { call, seen: poster.join().unwrap_or(Err(MeasureError::Panicked)) }
        })
    }

    /// Writes and reads once over new queues of a registration, with `data` in initiator memory. Returns what became of them.
    fn try_again(&self, registration: &dyn Registration, data: Content) -> Result<Attempts, CellError> {
        let size = u64::from(self.size_bytes);
        let attempt = |op: Op, offset: u64| -> Result<Attempt, CellError> {
            let mut plane = registration.data_plane(&DataPlaneSettings::simple(1, size))?;
            let far = plane.far();
            data.write_to(&*far, offset, size)?;
            let transfer = Transfer::new(0, op, offset, 0, self.size_bytes);
            let done = transfer_once::run(&mut *plane, transfer, self.timing.drain, self.clock, self.interrupt)?;
            Ok(Attempt { succeeded: done.is_ok(), far })
        };
        Ok(Attempts { write: attempt(Op::Write, 0)?, read: attempt(Op::Read, self.slots_bytes() / 2)? })
    }

    /// Counts stale bytes, and finds out whether the old registration reaches the memory again.
    fn after_restore(
        &self,
        function: &mut dyn Revocable,
        registration: &dyn Registration,
        lanes: &[Lane<'_>; 2],
        seen: &[Seen; 2],
        content: Content,
        while_revoked: Option<Attempts>,
    ) -> Result<(bool, StaleBytes), CellError> {
        let (size, half) = (u64::from(self.size_bytes), self.slots_bytes() / 2);
        let buffer = self.export(function)?;
        let view = &**buffer.view();
        let [written, read] = &lanes;
        let successes = [0, 1].map(|lane| seen[lane].successes_after_return);
        // If the memory is usable when the call returns, an importer may map it again and continue.
        let resumed = self.kind.ends_with_the_call() && successes != [0, 0];
        let mut stale = StaleBytes::default();
        if !resumed {
            // Since the return of the call, writes send the complement of the content, and reads overwrite it.
            stale.written = content.complement().matching(view, 0, Place { offset: 0, length: half })?;
            for slot in read.slots_prepared_after_return() {
                let place = Place { offset: slot * size, length: size };
                stale.read += content.matching(&*read.far(), half + slot * size, place)?;
            }
            if let Some(attempts) = &while_revoked {
                let place = Place { offset: 0, length: size };
                stale.read += content.matching(&*attempts.read.far, half, place)?;
            }
            // A success counts, even if the bytes cannot be seen any more.
            let tried = while_revoked.as_ref().map_or([false; 2], Attempts::succeeded);
            stale.written = stale.written.max(size * (successes[0] + u64::from(tried[0])));
            stale.read = stale.read.max(size * (successes[1] + u64::from(tried[1])));
        }
        drop(while_revoked);

        // Late accesses of transfers that have ended, or were lost: none may change or read the new content.
        let fresh = Content::random();
        fresh.write_to(view, 0, 2 * half)?;
        for lane in [written, read] {
            fresh.complement().write_to(&*lane.far(), lane.first_offset(), half)?;
        }
        std::thread::sleep(self.timing.settle);
        let all = Place { offset: 0, length: 2 * half };
        stale.written += fresh.differing(view, 0, all)?;
        stale.read += fresh.complement().differing(&*read.far(), half, Place { offset: 0, length: half })?;

        fresh.write_to(view, 0, 2 * half)?;
        let attempts = self.try_again(registration, fresh.complement())?;
        let [write, read] = attempts.succeeded();
        let may_resume = self.kind != Revocation::Close;
        match write {
            true if !may_resume => stale.written += size,
            true => {}
            false => stale.written += fresh.differing(view, 0, all)?,
        }
        match read {
            true if !may_resume => stale.read += size,
            true => {}
            false => {
                let place = Place { offset: 0, length: size };
                stale.read += fresh.complement().differing(&*attempts.read.far, half, place)?;
            }
        }
        Ok((resumed || may_resume && (write || read), stale))
    }

    /// Exports and registers anew, writes, reads and verifies. Returns the duration, and the number of compared bytes.
    fn use_again(&self, function: &mut dyn Revocable) -> Result<(u64, u64), CellError> {
        let size = u64::from(self.size_bytes);
        let start = self.clock.raw();
        let buffer = self.export(function)?;
        let registration = self.register(Arc::clone(&buffer))?;
        let mut plane = registration.data_plane(&DataPlaneSettings::simple(1, 2 * size))?;
        let (far, view, content) = (plane.far(), &**buffer.view(), Content::random());
        content.write_to(&*far, 0, size)?;
        content.write_at(view, size, Place { offset: size, length: size })?;
        for transfer in [
            Transfer::new(0, Op::Write, 0, 0, self.size_bytes),
            Transfer::new(1, Op::Read, size, size, self.size_bytes),
        ] {
            transfer_once::run(&mut *plane, transfer, self.timing.drain, self.clock, self.interrupt)?
                .map_err(MeasureError::Transfer)?;
        }
        content.verify(view, "of the exported memory", Place { offset: 0, length: size })?;
        content.verify(&*far, "of initiator memory", Place { offset: size, length: size })?;
        let duration_ns = self.ns(start, self.clock.raw());
        drop(plane);
        registration.unregister()?;
        Ok((duration_ns, 2 * size))
    }
}

/// A transfer over new queues of an old registration.
struct Attempt {
    succeeded: bool,
    far: Arc<dyn View>,
}

struct Attempts {
    write: Attempt,
    read: Attempt,
}

impl Attempts {
    fn succeeded(&self) -> [bool; 2] {
        [self.write.succeeded, self.read.succeeded]
    }
}

/// A buffer with the same dma-buf that does not keep the exporter's function open. It has no view.
fn detached(buffer: &Buffer) -> Result<Arc<Buffer>, CellError> {
    let Some(dma_buf) = buffer.dma_buf() else {
        return Err(CellError::waived(
            "cannot revoke this memory",
            Explanation::uncaused("It is not one dma-buf.", "Use a BAR as the source, in one dma-buf."),
        ));
    };
    let dma_buf = dma_buf.try_clone_to_owned().map_err(MeasureError::View)?;
    let length_bytes = buffer.length_bytes();
    let origin = buffer.origin().clone();
    Ok(Arc::new(Buffer::new(Handle::DmaBuf(dma_buf), origin, Arc::new(NoView { length_bytes }))))
}

/// View of memory whose exporter may be closed: no access is possible.
struct NoView {
    length_bytes: u64,
}

impl View for NoView {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }
    fn read(&self, _offset: u64, _into: &mut [u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    fn write(&self, _offset: u64, _from: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl Content {
    /// Compares a part of a memory with the content of the same offset.
    fn verify(&self, view: &dyn View, place: &'static str, at: Place) -> Result<(), VerifyError> {
        let (expected, found) = self.expected_and_found(view, at.offset, at)?;
        match Mismatch::between(&expected, &found) {
            None => Ok(()),
            Some(mismatch) => {
                let first_offset = at.offset + mismatch.first_offset;
                let guess = "after the memory was usable again";
                Err(Mismatch { place, first_offset, guess, ..mismatch }.into())
            }
        }
    }
}
