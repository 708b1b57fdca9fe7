//! Transfers through queue pairs.
//!
//! Initiator and responder ([`Side`]) each have [`QueuePairs`], and share one completion queue. The initiator posts writes,
//! reads, sends and atomic operations; with `both_sides`, the responder also posts. If another host or thread owns the
//! responder's queue pairs, the sends of the responder arrive in initiator memory.

use std::mem;
use std::sync::Arc;

use peerpath_exporter::{Buffer, Exporter, Handle, HostExporter, OpenOptions, View};

use super::bounds::{Bounds, Part, place};
use super::device::OpenPort;
use super::errors::Error;
use super::queue_pairs::{QueueDepths, QueuePairs};
use super::registration::Registration;
use super::ring::Ring;
use super::status::{self, FLUSHED, SUCCESS};
use super::sys::{CompletionQueue, MemoryRegion, Peer, WorkCompletions};
use crate::{Completion, ConnectedEnd, DataPlane, DataPlaneSettings, Op, Side, Transfer};

/// Maximum wait for a completion event. It limits the delay until the caller notices an interrupt (Ctrl-C).
const MAX_SLEEP_MS: u16 = 100;

/// Bit of `wr_id` that marks a receive. The lower bits hold the index of the ring and the slot.
const RECEIVE: u64 = 1 << 63;

fn number(ring: usize, place: u32) -> u64 {
    (ring as u64) << 32 | u64::from(place)
}

pub(super) struct QueuePairDataPlane<'r> {
    // Fields are dropped in this order: the queue pairs first, so that the device no longer accesses memory of either side.
    /// Queue pairs of the initiator.
    far_end: QueuePairs,
    /// Queue pairs of the responder. `None` if another host or thread owns them.
    buffer_end: Option<QueuePairs>,
    completions: Arc<CompletionQueue>,
    far: FarMemory,

    registration: &'r Registration,
    bounds: Bounds,
    /// Transfers in flight: one ring per queue of the initiator, followed by one per queue of the responder if it posts.
    rings: Box<[Ring]>,
    queues: u32,
    /// Receives for the sends of the responder, if another host or thread owns the responder's queue pairs.
    incoming: Incoming,
    /// Completions polled outside [`DataPlane::poll`].
    backlog: Vec<Completion>,
    work_completions: WorkCompletions,
    /// Whether a completion event was requested.
    armed: bool,
    ended: bool,
}

/// Initiator memory, registered with the device. It is newly allocated host memory, or, in a connection to a peer, the buffer of
/// the registration: the peer's memory is then the buffer of the data plane.
pub(super) struct FarMemory {
    // Dropped before the memory. Empty if the registration owns the regions.
    pub(super) regions: Vec<MemoryRegion>,
    pub(super) memory: Arc<Buffer>,
    pub(super) parts: Vec<Part>,
}

impl FarMemory {
    /// Allocates and registers host memory.
    pub(super) fn new(device: &OpenPort, bytes: u64) -> Result<Self, Error> {
        let options = OpenOptions { huge_pages: device.connection.huge_pages, ..OpenOptions::default() };
        let memory = HostExporter::open(bytes, &options).and_then(|memory| memory.export(bytes));
        let memory = memory.map_err(|source| Error::FarMemory { bytes, source })?;
        let regions = device.regions(&memory)?;
        // Host memory is registered as one region.
        let parts = Part::in_a_row(regions.iter().map(|region| (memory.length_bytes(), region.keys())));
        Ok(Self { regions, memory, parts })
    }
}

/// Receive work requests for the sends of the peer: the responder on another host or in another thread.
#[derive(Default)]
struct Incoming {
    offsets: Vec<u64>,
    length_bytes: u32,
    /// Maximum number of posted receives per queue.
    capacity: usize,
    /// Per queue: number of receives posted so far, and number of receives to repost.
    queues: Box<[(u64, usize)]>,
    arrived: u64,
    /// Status of the first receive that failed.
    failed: Option<u32>,
}

impl<'r> QueuePairDataPlane<'r> {
    pub(super) fn new(registration: &'r Registration, settings: &DataPlaneSettings) -> Result<Self, Error> {
        let device = &registration.device;
        let DataPlaneSettings { depth, queues, both_sides, far_bytes } = *settings;
        let sides = 1 + u32::from(both_sides);
        // A transfer can have two work completions: of the send and of the receive.
        device.completions_each(depth, queues, 2 * sides)?;
        let entries = depth * 2 * sides * queues;
        let far = FarMemory::new(device, far_bytes)?;
        let completions = device.completion_queue(entries)?;
        let back = if both_sides { depth } else { 0 };
        let is_memory = matches!(registration.buffer.handle(), Handle::Memory(_));
        let far_end =
            QueuePairs::new(device, &completions, QueueDepths { queues, sends: depth, receives: back }, true)?;
        let buffer_end =
            QueuePairs::new(device, &completions, QueueDepths { queues, sends: back, receives: depth }, is_memory)?;
        for (end, peer) in [(&buffer_end, &far_end), (&far_end, &buffer_end)] {
            end.connect(device, &device.route(), &peers(device, peer))?;
        }
        Ok(Self {
            far_end,
            buffer_end: Some(buffer_end),
            completions,
            bounds: Bounds {
                transport: device.connection.transport,
                atomics: device.limits.atomics,
                buffer: registration.parts(),
                far: far.parts.clone(),
                message_bytes: device.message_bytes(),
            },
            far,
            registration,
            rings: (0..queues * sides).map(|_| Ring::new(depth)).collect(),
            queues,
            incoming: Incoming::default(),
            backlog: Vec::new(),
            work_completions: WorkCompletions::with_capacity(entries as usize),
            armed: false,
            ended: false,
        })
    }

    /// Creates a data plane from the initiator's connected queue pairs. Those of the responder belong to another host or thread.
    pub(super) fn connected(
        registration: &'r Registration,
        (far_end, depths): (QueuePairs, QueueDepths),
        completions: Arc<CompletionQueue>,
        bounds: Bounds,
        far: FarMemory,
    ) -> Self {
        let QueueDepths { queues, sends, receives } = depths;
        let incoming = Incoming {
            capacity: receives as usize,
            queues: vec![(0, 0); queues as usize].into(),
            ..Incoming::default()
        };
        Self {
            far_end,
            buffer_end: None,
            completions,
            far,
            registration,
            bounds,
            rings: (0..queues).map(|_| Ring::new(sends)).collect(),
            queues,
            incoming,
            backlog: Vec::with_capacity(sends as usize * queues as usize),
            work_completions: WorkCompletions::with_capacity((sends + receives) as usize * queues as usize),
            armed: false,
            ended: false,
        }
    }

    /// Polls the completion queue, and appends the completed transfers to `done`.
    fn collect(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
        loop {
            let count = self.completions.poll(&mut self.work_completions).map_err(|source| Error::Poll { source })?;
            for index in 0..count {
                let ended = self.work_completions.get(index);
                let is_send = ended.id & RECEIVE == 0;
                // A flushed receive shows only that the responder refused a request. The NAK tells the initiator which request
                // was refused, so do not move the initiator's queue pair to the error state before the NAK arrives.
                if ended.status != SUCCESS && (is_send || ended.status != FLUSHED) {
                    self.end();
                }
                // Every posted `wr_id` holds the index of a ring and a slot.
                let (ring, place) = (((ended.id & !RECEIVE) >> 32) as usize, ended.id as u32);
                if is_send {
                    self.rings[ring].sent(place, ended.status);
                } else if self.buffer_end.is_some() {
                    self.rings[ring].received(place, ended.status);
                } else {
                    self.incoming.record_receive(ring, ended.status);
                    continue;
                }
                while let Some((id, status)) = self.rings[ring].pop() {
                    done.push(if status == SUCCESS {
                        Completion { id, result: Ok(()) }
                    } else {
                        self.failure(id, status)
                    });
                }
            }
            if count < self.work_completions.capacity() {
                return Ok(());
            }
        }
    }

    /// Reposts completed receives.
    fn repost_receives(&mut self) -> Result<(), Error> {
        for queue in 0..self.queues {
            let free = mem::take(&mut self.incoming.queues[queue as usize].1);
            if free > 0 {
                self.post_receives(queue, free)?;
            }
        }
        Ok(())
    }

    fn post_receives(&mut self, queue: u32, count: usize) -> Result<(), Error> {
        let Incoming { offsets, length_bytes, queues, .. } = &mut self.incoming;
        let posted = &mut queues[queue as usize].0;
        for index in 0..count {
            let turn = u64::from(queue) + *posted * u64::from(self.queues);
            let offset = offsets[(turn % offsets.len() as u64) as usize];
            let Some(place) = place(&self.bounds.far, offset, (*length_bytes).into()) else {
                let why = format!("{length_bytes} bytes at {offset:#x} exceed the memory for incoming sends");
                return Err(Error::Transfer { why });
            };
            self.far_end.fill_receive(index, RECEIVE | number(queue as usize, 0), place, *length_bytes);
            *posted += 1;
        }
        self.far_end.post_receives(queue, count).map_err(|source| Error::Post { source })
    }

    /// Returns the error of a failed receive. Reports a flushed receive only after all other completions, because their
    /// statuses are more specific.
    fn failed_receive(&self, done: &[Completion]) -> Result<(), Error> {
        let Some(status) = self.incoming.failed else { return Ok(()) };
        if status == FLUSHED && !(done.is_empty() && self.rings.iter().all(Ring::is_empty)) {
            return Ok(());
        }
        let dma_buf = !matches!(self.far.memory.handle(), Handle::Memory(_));
        Err(Error::Received { source: status::transfer_error(status, dma_buf) })
    }

    /// Moves all queue pairs to the error state, which flushes the work requests in flight.
    #[cold]
    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.far_end.fail();
            if let Some(end) = &self.buffer_end {
                end.fail();
            }
        }
    }

    #[cold]
    fn failure(&self, id: u64, status: u32) -> Completion {
        // If the peer refused access, the memory is the peer's, which may be a dma-buf.
        let is_peers = self.buffer_end.is_none() && status::is_refusal(status);
        let dma_buf = is_peers || !matches!(self.registration.buffer.handle(), Handle::Memory(_));
        Completion { id, result: Err(status::transfer_error(status, dma_buf)) }
    }

    /// Returns the index of the ring for a transfer's queue and side. `None` if that side does not post or has no such queue.
    #[inline]
    fn ring(&self, transfer: &Transfer) -> Option<usize> {
        if transfer.queue >= self.queues {
            return None;
        }
        let ring = match transfer.posted_by {
            Side::Far => transfer.queue,
            Side::Buffer => self.queues + transfer.queue,
        };
        Some(ring as usize).filter(|ring| *ring < self.rings.len())
    }

    /// Posts transfers while the ring has free slots, up to the first transfer of another queue or side. Returns the number
    /// of posted transfers.
    #[inline]
    fn post(&mut self, at: usize, batch: &[Transfer]) -> Result<usize, Error> {
        let [Transfer { queue, posted_by, .. }, ..] = *batch else { return Ok(0) };
        let ring = &mut self.rings[at];
        let (poster, mut other) = match (posted_by, &mut self.buffer_end) {
            // `ring` returned an index, so the responder posts and has queue pairs here.
            (Side::Buffer, Some(buffer)) => (buffer, Some(&mut self.far_end)),
            (_, buffer) => (&mut self.far_end, buffer.as_mut()),
        };
        let (mut sends, mut receives) = (0, 0);
        let free = ring.free_slots();
        for transfer in batch {
            if sends == free || (transfer.queue, transfer.posted_by) != (queue, posted_by) {
                break;
            }
            let Some(places) = self.bounds.admit(transfer) else {
                ring.forget(sends);
                return Err(self.bounds.rejection(transfer, &self.registration.device.info.name));
            };
            let other = other.as_mut().filter(|_| matches!(transfer.op, Op::Send | Op::WriteImm));
            let number = number(at, ring.push(transfer.id, 1 + u8::from(other.is_some())));
            let (local, remote) = match posted_by {
                Side::Far => (places.far, places.buffer),
                Side::Buffer => (places.buffer, places.far),
            };
            poster.fill_send(sends, number, transfer, local, remote);
            sends += 1;
            if let Some(other) = other {
                other.fill_receive(receives, number | RECEIVE, remote, transfer.length_bytes);
                receives += 1;
            }
        }
        // Post the receives first, so that each send finds its receive.
        let posted = match other {
            Some(other) if receives > 0 => other.post_receives(queue, receives),
            _ => Ok(()),
        };
        match posted.and_then(|()| poster.post_sends(queue, sends)) {
            Ok(()) => Ok(sends),
            Err(source) => {
                self.end();
                Err(Error::Post { source })
            }
        }
    }
}

impl DataPlane for QueuePairDataPlane<'_> {
    fn far(&self) -> Arc<dyn View> {
        Arc::clone(self.far.memory.view())
    }

    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, crate::Error> {
        if self.ended {
            // Accept no transfers until the failure has been polled: its completion is more specific than `Error::Ended`.
            return if self.rings.iter().all(Ring::is_empty) { Err(Error::Ended.into()) } else { Ok(0) };
        }
        let mut taken = 0;
        while let [first, ..] = &batch[taken..] {
            let Some(ring) = self.ring(first) else {
                return Err(Error::Transfer {
                    why: format!("queue pair {} does not exist on the initiator", first.queue),
                }
                .into());
            };
            let posted = self.post(ring, &batch[taken..])?;
            taken += posted;
            if posted == 0 {
                break;
            }
        }
        Ok(taken)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), crate::Error> {
        if !self.backlog.is_empty() {
            done.append(&mut self.backlog);
        }
        self.collect(done)?;
        if self.incoming.offsets.is_empty() {
            return Ok(());
        }
        self.failed_receive(done)?;
        // A queue pair in the error state flushes every receive, so do not repost.
        if !self.ended {
            self.repost_receives()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<bool, crate::Error> {
        let failed = |source| Error::Poll { source };
        if self.armed {
            self.armed = !self.completions.sleep(MAX_SLEEP_MS).map_err(failed)?;
            return Ok(self.armed);
        }
        // Completions that arrived before `arm` generate no event; the next poll returns them.
        self.armed = self.completions.arm().map_err(failed)?;
        Ok(false)
    }
}

impl ConnectedEnd for QueuePairDataPlane<'_> {
    fn receive(&mut self, offsets: &[u64], length_bytes: u32) -> Result<(), crate::Error> {
        let capacity = self.incoming.capacity;
        if offsets.is_empty() || capacity == 0 || !self.incoming.offsets.is_empty() {
            return Err(Error::Transfer {
                why: "the local queue pairs have no receive queue, or their receive work requests are already posted"
                    .to_owned(),
            }
            .into());
        }
        self.incoming.offsets = offsets.to_vec();
        self.incoming.length_bytes = length_bytes;
        Ok((0..self.queues).try_for_each(|queue| self.post_receives(queue, capacity))?)
    }

    fn arrived(&mut self) -> Result<u64, crate::Error> {
        let mut backlog = mem::take(&mut self.backlog);
        let taken = self.collect(&mut backlog);
        self.backlog = backlog;
        taken?;
        self.failed_receive(&self.backlog)?;
        Ok(self.incoming.arrived)
    }
}

impl Incoming {
    /// Records the completion of a receive.
    #[inline]
    fn record_receive(&mut self, queue: usize, status: u32) {
        if status == SUCCESS {
            self.queues[queue].1 += 1;
            self.arrived += 1;
        } else if self.failed.is_none_or(|failed| failed == FLUSHED) {
            self.failed = Some(status);
        }
    }
}

/// Returns the queue pairs of one side as peers for the other side.
fn peers(device: &OpenPort, end: &QueuePairs) -> Vec<Peer> {
    end.numbers().into_iter().map(|number| Peer { number, first_packet: 0, addressing: device.addressing }).collect()
}
