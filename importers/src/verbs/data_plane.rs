//! Data through two queue pairs of one port that are connected with each other.
//!
//! The *active* queue pair works from the far side: it posts all writes, reads and sends. The *passive* one belongs to the
//! buffer: its keys are what writes and reads name, and receives for sends are posted to it. Both report to one
//! completion queue, so one poll sees everything.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Exporter, Handle, HostExporter, OpenOptions, View};

use super::bounds::{Bounds, Place};
use super::errors::Error;
use super::registration::VerbsRegistration;
use super::status::{self, FLUSHED, SUCCESS};
use super::sys::{
    CompletionQueue, Ended, Keys, MemoryRegion, Opcode, Polled, QueuePair, ReceiveList, Remote, Route, SendList, Span,
};
use crate::{Completion, DataPlane, DataPlaneSettings, Op, Transfer};

/// More reads than this under way at once are of no use, and take device memory.
const READS_IN_FLIGHT: u32 = 16;

/// A transfer under way. Its place in the table is the number of its work requests.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// The caller's number.
    id: u64,
    /// Work requests that have not ended: one, or two for a send and its receive.
    open: u32,
    /// The first failure, or success.
    status: u32,
}

pub(super) struct VerbsDataPlane<'r> {
    // Dropped in this order: once both queue pairs are gone, the device touches neither side's memory any more.
    active: QueuePair,
    passive: QueuePair,
    completions: Arc<CompletionQueue>,
    _far_regions: Vec<MemoryRegion>,
    far: Arc<Buffer>,

    registration: &'r VerbsRegistration,
    far_keys: Keys,
    bounds: Bounds,

    sends: SendList,
    receives: ReceiveList,
    polled: Polled,
    slots: Box<[Slot]>,
    /// Slots that are not in use: the next one is taken from the end.
    free: Vec<u32>,
    ended: bool,
}

impl<'r> VerbsDataPlane<'r> {
    pub(super) fn new(registration: &'r VerbsRegistration, settings: &DataPlaneSettings) -> Result<Self, Error> {
        let device = &registration.device;
        let name = || device.info.name.clone();
        let depth = settings.depth;
        // Each transfer can leave two completions.
        let limit = device.limits.queue_depth.min(device.limits.completions / 2);
        if depth == 0 || depth > limit {
            return Err(Error::Depth { device: name(), depth, limit });
        }
        let entries = depth * 2;
        let capacity = depth as usize;

        let far = far_memory(settings.far_bytes)?;
        let far_regions = device.regions(&far)?;
        let completions = CompletionQueue::new(&device.context, entries).map_err(|source| Error::CompletionQueue {
            device: name(),
            entries,
            source,
        })?;
        let completions = Arc::new(completions);
        let queue_pair = |sends, receives| {
            QueuePair::new(&device.domain, &completions, sends, receives).map_err(|source| Error::QueuePair {
                device: name(),
                depth,
                source,
            })
        };
        let (active, passive) = (queue_pair(depth, 1)?, queue_pair(1, depth)?);
        let route = Route {
            port: device.address.port,
            mtu: device.port.mtu,
            addressing: device.addressing,
            // At most 16, and a device without reads in flight still has queue pairs.
            reads_in_flight: device.limits.reads_in_flight.clamp(1, READS_IN_FLIGHT) as u8,
        };
        for (this, peer) in [(&passive, &active), (&active, &passive)] {
            this.connect(peer.number(), &route).map_err(|(state, source)| Error::Connect {
                device: name(),
                state,
                source,
            })?;
        }

        Ok(Self {
            active,
            passive,
            completions,
            // Host memory is one region.
            far_keys: far_regions[0].keys(),
            _far_regions: far_regions,
            bounds: Bounds {
                parts: registration.parts(),
                far_bytes: far.length_bytes(),
                message_bytes: device.port.max_message_bytes,
            },
            far,
            registration,
            sends: SendList::new(capacity),
            receives: ReceiveList::new(capacity),
            polled: Polled::with_room_for(entries as usize),
            slots: vec![Slot::default(); capacity].into(),
            free: (0..depth).rev().collect(),
            ended: false,
        })
    }

    /// Ends both queue pairs, so that whatever is under way ends as well.
    #[cold]
    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            // Where this is refused the device is gone, and completions come from its removal.
            let _ = self.active.fail();
            let _ = self.passive.fail();
        }
    }

    /// Notes a failure: of a send and its receive, the one that is not a mere consequence; the receive's where both say
    /// something, because that is where the buffer is.
    #[cold]
    fn failed(&mut self, slot: usize, ended: Ended) {
        let noted = &mut self.slots[slot].status;
        let received = ended.queue_pair == self.passive.number();
        if *noted == SUCCESS || *noted == FLUSHED || (received && ended.status != FLUSHED) {
            *noted = ended.status;
        }
        self.end();
    }

    #[cold]
    fn failure(&self, id: u64, status: u32) -> Completion {
        let dma_buf = !matches!(self.registration.buffer.handle(), Handle::Memory(_));
        Completion { id, result: Err(status::transfer_error(status, dma_buf)) }
    }
}

impl DataPlane for VerbsDataPlane<'_> {
    fn far(&self) -> Arc<dyn View> {
        Arc::clone(self.far.view())
    }

    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, crate::Error> {
        if self.ended {
            // Until the failure has been told, there is something to poll for, and that says more.
            return if self.free.len() < self.slots.len() { Ok(0) } else { Err(Error::Ended.into()) };
        }
        let count = batch.len().min(self.free.len());
        let kept = self.free.len() - count;
        let mut receive_count = 0;
        for (index, transfer) in batch[..count].iter().enumerate() {
            let Some(Place { address: in_buffer, keys }) = self.bounds.admit(transfer) else {
                return Err(self.bounds.misfit(transfer, &self.registration.device.info.name).into());
            };
            let slot = self.free[kept + index];
            let number = u64::from(slot);
            let far = Span {
                address: self.far_keys.base + transfer.far_offset,
                length_bytes: transfer.length_bytes,
                key: self.far_keys.local,
            };
            let remote = Remote { address: in_buffer, key: keys.remote };
            let (opcode, open) = match transfer.op {
                Op::Write => (Opcode::Write, 1),
                Op::Read => (Opcode::Read, 1),
                Op::Send => {
                    let into = Span { address: in_buffer, length_bytes: transfer.length_bytes, key: keys.local };
                    self.receives.fill(receive_count, number, into);
                    receive_count += 1;
                    (Opcode::Send, 2)
                }
                other => return Err(Error::Transfer { why: format!("`{other}` is no transfer of this target") }.into()),
            };
            self.sends.fill(index, number, far);
            self.sends.aim(index, opcode, remote);
            self.slots[slot as usize] = Slot { id: transfer.id, open, status: SUCCESS };
        }
        // Receives first: a send never finds the receiver without one.
        let posted =
            self.receives.post(&self.passive, receive_count).and_then(|()| self.sends.post(&self.active, count));
        if let Err(source) = posted {
            self.end();
            return Err(Error::Post { source }.into());
        }
        self.free.truncate(kept);
        Ok(count)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), crate::Error> {
        loop {
            let count = self.completions.poll(&mut self.polled).map_err(|source| Error::Poll { source })?;
            for index in 0..count {
                let ended = self.polled.get(index);
                // Only numbers of slots are ever posted.
                let number = ended.id as usize;
                if ended.status != SUCCESS {
                    self.failed(number, ended);
                }
                let slot = &mut self.slots[number];
                slot.open -= 1;
                if slot.open > 0 {
                    continue;
                }
                let Slot { id, status, .. } = *slot;
                self.free.push(ended.id as u32);
                done.push(if status == SUCCESS { Completion { id, result: Ok(()) } } else { self.failure(id, status) });
            }
            if count < self.polled.room() {
                return Ok(());
            }
        }
    }
}

/// Ordinary memory, as a buffer: its view is the far side's.
fn far_memory(bytes: u64) -> Result<Arc<Buffer>, Error> {
    let memory = HostExporter::open(bytes, &OpenOptions::default()).and_then(|memory| memory.export(bytes));
    memory.map_err(|source| Error::FarMemory { bytes, source })
}
