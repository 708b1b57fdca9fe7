//! Writes and reads in a loop, while another thread revokes the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use peerpath_exporter::View;
use peerpath_importers::{Completion, DataPlane, DataPlaneSettings, Op, Registration, Transfer};
use quanta::Clock;

use super::Timing;
use super::observed::Seen;
use super::stale::{Content, Place};
use crate::interrupt::Interrupt;
use crate::measure::MeasureError;
use crate::run::cell_error::CellError;

/// Transfers of each direction that succeed before the memory is revoked, so that the traffic is under way.
const BEFORE_THE_CALL: u64 = 8;
/// Maximum wait for these transfers.
const LONGEST_START: Duration = Duration::from_secs(30);
/// Polls without a completion between two yields of the CPU. Soft RDMA may need the CPU of this thread.
const POLLS_PER_YIELD: u32 = 64;

/// State that the posting thread and the revoking thread share.
#[derive(Default)]
pub(super) struct Shared {
    /// Whether the call that revokes the memory returned.
    has_returned: AtomicBool,
    /// Whether the posting thread must end, because the memory will not be revoked.
    must_stop: AtomicBool,
    /// Number of directions in which the traffic is under way.
    under_way: AtomicU32,
    /// Whether the posting thread ended.
    has_ended: AtomicBool,
}

impl Shared {
    /// Waits until both directions are under way. Returns false if the posting thread ended, or if the wait takes too long.
    pub(super) fn wait_for_traffic(&self, clock: &Clock, interrupt: &Interrupt) -> bool {
        let start = clock.raw();
        while self.under_way.load(Ordering::Acquire) < 2 {
            let is_late = clock.delta(start, clock.raw()) > LONGEST_START;
            if self.has_ended.load(Ordering::Acquire) || interrupt.is_set() || is_late {
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        !interrupt.is_set()
    }

    pub(super) fn call_returned(&self) {
        self.has_returned.store(true, Ordering::Release);
    }

    pub(super) fn stop(&self) {
        self.must_stop.store(true, Ordering::Release);
    }

    /// Runs the posting thread's work, and records its end, also of work that panics.
    pub(super) fn ending<T>(&self, work: impl FnOnce() -> T) -> T {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let _end = End(&self.has_ended);
        work()
    }
}

/// The place of one outstanding transfer.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    is_busy: bool,
    /// Raw time stamp before the last post.
    posted_at: u64,
    /// Whether initiator memory holds the complement of the content, because the call had returned.
    is_complement: bool,
    /// Whether the last post followed the return of the call.
    after_return: bool,
}

/// The transfers of one direction, on queues of their own: a failed transfer ends only its own direction.
pub(super) struct Lane<'r> {
    plane: Box<dyn DataPlane + 'r>,
    far: Arc<dyn View>,
    op: Op,
    /// Offset of the first slot in the buffer. Initiator memory starts with its slot.
    first_offset: u64,
    size_bytes: u32,
    slots: Vec<Slot>,
    done: Vec<Completion>,
    seen: Seen,
    /// Whether the device accepts no more transfers.
    is_closed: bool,
}

impl<'r> Lane<'r> {
    pub(super) fn new(
        registration: &'r dyn Registration,
        op: Op,
        first_offset: u64,
        size_bytes: u32,
        outstanding: u32,
    ) -> Result<Self, CellError> {
        let far_bytes = u64::from(outstanding) * u64::from(size_bytes);
        let plane = registration.data_plane(&DataPlaneSettings::simple(outstanding, far_bytes))?;
        let far = plane.far();
        let slots = vec![Slot::default(); outstanding as usize];
        let done = Vec::with_capacity(slots.len());
        let (seen, is_closed) = (Seen::default(), false);
        Ok(Self { plane, far, op, first_offset, size_bytes, slots, done, seen, is_closed })
    }

    pub(super) fn far(&self) -> Arc<dyn View> {
        Arc::clone(&self.far)
    }

    pub(super) fn first_offset(&self) -> u64 {
        self.first_offset
    }

    /// Indexes of the slots whose initiator memory was set to the complement after the return of the call.
    pub(super) fn slots_prepared_after_return(&self) -> impl Iterator<Item = u64> {
        (0..).zip(&self.slots).filter(|(_, slot)| slot.is_complement).map(|(index, _)| index)
    }

    fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| !slot.is_busy)
    }

    /// Collects completions. Returns whether there were any.
    fn collect(&mut self, clock: &Clock) -> Result<bool, MeasureError> {
        self.plane.poll(&mut self.done)?;
        if self.done.is_empty() {
            return Ok(false);
        }
        let now = clock.raw();
        for completion in self.done.drain(..) {
            let Some(slot) = self.slots.get_mut(completion.id as usize) else { continue };
            slot.is_busy = false;
            match completion.result {
                Ok(()) => {
                    self.seen.successes += 1;
                    self.seen.successes_after_return += u64::from(slot.after_return);
                    let last = self.seen.last_success_posted_at.unwrap_or(0);
                    self.seen.last_success_posted_at = Some(last.max(slot.posted_at));
                }
                Err(error) => {
                    self.is_closed = true;
                    self.seen.first_failure.get_or_insert((now, error));
                }
            }
        }
        Ok(true)
    }

    /// Posts a transfer on each free slot.
    fn post(&mut self, has_returned: bool, content: Content, clock: &Clock) -> Result<(), MeasureError> {
        let size = u64::from(self.size_bytes);
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if self.is_closed || slot.is_busy {
                continue;
            }
            let (far_offset, buffer_offset) = (index as u64 * size, self.first_offset + index as u64 * size);
            if has_returned && !slot.is_complement {
                let place = Place { offset: far_offset, length: size };
                let written = content.complement().write_at(&*self.far, buffer_offset, place);
                written.map_err(|_| MeasureError::View(std::io::Error::other("cannot write initiator memory")))?;
                slot.is_complement = true;
            }
            (slot.posted_at, slot.after_return) = (clock.raw(), has_returned);
            let transfer = Transfer::new(index as u64, self.op, buffer_offset, far_offset, self.size_bytes);
            match self.plane.submit(&[transfer]) {
                Ok(0) => return Ok(()),
                Ok(_) => slot.is_busy = true,
                // After a failure, the data plane accepts no more transfers.
                Err(_) if self.seen.first_failure.is_some() => self.is_closed = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Posts and polls until transfers of both directions failed, or for some time after the return of the call. Then waits for the
/// outstanding transfers.
///
/// # Errors
/// The device refused a transfer or its completion queue failed, or the run is interrupted before the call.
pub(super) fn run(
    lanes: &mut [Lane<'_>; 2],
    shared: &Shared,
    content: Content,
    timing: Timing,
    clock: &Clock,
    interrupt: &Interrupt,
) -> Result<[Seen; 2], MeasureError> {
    let (mut returned_at, mut idle_polls, mut drain_from) = (None, 0_u32, None);
    loop {
        let has_returned = shared.has_returned.load(Ordering::Acquire);
        let mut has_progress = false;
        for lane in lanes.iter_mut() {
            let before = lane.seen.successes;
            has_progress |= lane.collect(clock)?;
            if before < BEFORE_THE_CALL && lane.seen.successes >= BEFORE_THE_CALL {
                shared.under_way.fetch_add(1, Ordering::AcqRel);
            }
            if drain_from.is_none() {
                lane.post(has_returned, content, clock)?;
            }
        }
        let now = clock.raw();
        if has_returned && returned_at.is_none() {
            returned_at = Some(now);
        }
        let is_over = returned_at.is_some_and(|at| clock.delta(at, now) > timing.after_return);
        let must_stop = shared.must_stop.load(Ordering::Acquire) || interrupt.is_set() && !has_returned;
        let all_closed = lanes.iter().all(|lane| lane.is_closed);
        if drain_from.is_none() && (is_over || must_stop || all_closed) {
            drain_from = Some(now);
        }
        if let Some(from) = drain_from {
            let is_lost = clock.delta(from, now) > timing.drain;
            if is_lost || lanes.iter().all(Lane::is_idle) {
                break;
            }
        }
        idle_polls = if has_progress { 0 } else { idle_polls + 1 };
        if idle_polls % POLLS_PER_YIELD == POLLS_PER_YIELD - 1 {
            std::thread::yield_now();
        }
    }
    if interrupt.is_set() && returned_at.is_none() {
        return Err(MeasureError::Interrupted);
    }
    Ok(lanes.each_mut().map(|lane| std::mem::take(&mut lane.seen)))
}
