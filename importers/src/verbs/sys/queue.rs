//! Completion queues and queue pairs.

use std::io;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};

use super::backend::ffi;
use super::{Context, Mtu, ProtectionDomain, check};
use crate::Transport;

/// Where a device says that there is something in a completion queue.
struct Channel {
    channel: NonNull<ffi::ibv_comp_channel>,
    _context: Arc<Context>,
}

impl Channel {
    fn new(context: &Arc<Context>) -> io::Result<Self> {
        // SAFETY: the context is open, and what is returned keeps it so.
        let channel = unsafe { ffi::ibv_create_comp_channel(context.as_ptr()) };
        let channel = NonNull::new(channel).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { channel, _context: Arc::clone(context) })
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: made by `ibv_create_comp_channel`, destroyed once, and its queue is gone before it.
        unsafe { ffi::ibv_destroy_comp_channel(self.channel.as_ptr()) };
    }
}

/// Where ended work requests are found.
pub(in crate::verbs) struct CompletionQueue {
    queue: NonNull<ffi::ibv_cq>,
    // After the queue.
    channel: Option<Channel>,
    _context: Arc<Context>,
}

// SAFETY: libibverbs locks completion queues and their channels itself.
unsafe impl Send for CompletionQueue {}
// SAFETY: as above.
unsafe impl Sync for CompletionQueue {}

impl CompletionQueue {
    /// Makes one with capacity for so many completions, with events where they are to be slept for.
    pub(in crate::verbs) fn new(context: &Arc<Context>, entries: u32, events: bool) -> io::Result<Self> {
        let entries = libc::c_int::try_from(entries).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let channel = events.then(|| Channel::new(context)).transpose()?;
        let at = channel.as_ref().map_or(ptr::null_mut(), |channel| channel.channel.as_ptr());
        // SAFETY: the context is open, and the channel is null (no events) or alive for as long as the queue.
        let queue = unsafe { ffi::ibv_create_cq(context.as_ptr(), entries, ptr::null_mut(), at, 0) };
        let queue = NonNull::new(queue).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { queue, channel, _context: Arc::clone(context) })
    }

    /// Asks for an event with the next completion; false where the queue was made without events.
    pub(in crate::verbs) fn arm(&self) -> io::Result<bool> {
        if self.channel.is_none() {
            return Ok(false);
        }
        // SAFETY: the queue is alive.
        check(unsafe { ffi::ibv_req_notify_cq(self.queue.as_ptr(), 0) })?;
        Ok(true)
    }

    /// Sleeps until the event that was asked for is there, for so many milliseconds at most; returns whether it was.
    pub(in crate::verbs) fn sleep(&self, milliseconds: u16) -> io::Result<bool> {
        let Some(channel) = &self.channel else { return Ok(false) };
        let channel = channel.channel.as_ptr();
        // SAFETY: the channel is alive.
        let mut waiting = libc::pollfd { fd: unsafe { (*channel).fd }, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry is given, and it is one.
        let ready = unsafe { libc::poll(&raw mut waiting, 1, milliseconds.into()) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
        }
        if ready == 0 {
            return Ok(false);
        }
        let (mut queue, mut context) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the channel is alive, has an event, and both answers are written before the call returns.
        if unsafe { ffi::ibv_get_cq_event(channel, &raw mut queue, &raw mut context) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the event was this queue's, the only one of the channel; it is acknowledged once.
        unsafe { ffi::ibv_ack_cq_events(self.queue.as_ptr(), 1) };
        Ok(true)
    }

    /// Takes ended work requests, at most as many as there is capacity for; returns how many.
    #[inline]
    pub(in crate::verbs) fn poll(&self, into: &mut WorkCompletions) -> io::Result<usize> {
        let entries = &mut into.entries;
        // SAFETY: the queue is alive, and the entries are as many as is said (`WorkCompletions` holds no more than an int counts).
        let count =
            unsafe { ffi::ibv_poll_cq(self.queue.as_ptr(), entries.len() as libc::c_int, entries.as_mut_ptr()) };
        // Negative means that the queue overflowed or is otherwise broken; there is no errno to it.
        usize::try_from(count).map_err(|_| io::Error::from_raw_os_error(libc::EIO))
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // SAFETY: made by `ibv_create_cq`, destroyed once, and the queue pairs that used it held it and are gone.
        unsafe { ffi::ibv_destroy_cq(self.queue.as_ptr()) };
    }
}

/// QueuePairCapacity for what one poll finds.
pub(in crate::verbs) struct WorkCompletions {
    entries: Box<[ffi::ibv_wc]>,
}

/// An ended work request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct WorkCompletion {
    /// The number that it was posted with.
    pub(in crate::verbs) id: u64,
    /// `enum ibv_wc_status`.
    pub(in crate::verbs) status: u32,
}

impl WorkCompletions {
    /// For so many at a time; a thousand is plenty.
    pub(in crate::verbs) fn with_capacity(entries: usize) -> Self {
        let entries = entries.clamp(1, 1024);
        // SAFETY: the structure is plain integers: zero is a value of it.
        Self { entries: (0..entries).map(|_| unsafe { mem::zeroed() }).collect() }
    }

    /// How many fit.
    pub(in crate::verbs) fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// What the last poll found in this place.
    #[inline]
    pub(in crate::verbs) fn get(&self, index: usize) -> WorkCompletion {
        let entry = &self.entries[index];
        WorkCompletion { id: entry.wr_id, status: entry.status }
    }
}

/// How a port is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) enum Addressing {
    /// By the GID of that index (Ethernet).
    Gid {
        /// Its place in the port's table.
        index: u8,
        /// The GID.
        bytes: [u8; 16],
    },
    /// By LID (InfiniBand).
    Lid(u16),
}

/// All that connecting takes, except for the peer.
#[derive(Debug, Clone, Copy)]
pub(in crate::verbs) struct Route {
    pub(in crate::verbs) port: u8,
    /// How this port is reached.
    pub(in crate::verbs) own: Addressing,
    pub(in crate::verbs) mtu: Mtu,
    /// RDMA reads under way at once.
    pub(in crate::verbs) reads_in_flight: u8,
    /// Whether the peer may do atomic operations.
    pub(in crate::verbs) atomics: bool,
    pub(in crate::verbs) service_level: u8,
    pub(in crate::verbs) traffic_class: u8,
    /// Whether the receiver may take its time to get ready: it is another process.
    pub(in crate::verbs) retry_rnr_forever: bool,
}

/// A queue pair of somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct Peer {
    pub(in crate::verbs) number: u32,
    /// The number of the first packet that it sends.
    pub(in crate::verbs) first_packet: u32,
    pub(in crate::verbs) addressing: Addressing,
}

/// What a queue pair has capacity for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct QueuePairCapacity {
    pub(in crate::verbs) transport: Transport,
    pub(in crate::verbs) sends: u32,
    pub(in crate::verbs) receives: u32,
    /// Bytes that travel in a work request.
    pub(in crate::verbs) inline_bytes: u32,
}

/// 4.096 us x 2^16 = 0.27 s for an acknowledgement; with the retries below a dead peer shows within about 2 s (hardware
/// may take four times that), while a peer that is an emulated CPU is not given up too soon.
const ACK_TIMEOUT: u8 = 16;
const RETRIES: u8 = 7;
/// Where receives are posted before their sends, the receiver is always ready; 6 is the most that is not "for ever".
const RNR_RETRIES: u8 = 6;
/// Another process is waited for as long as it answers that it is not ready.
const RNR_RETRY_FOREVER: u8 = 7;
/// `0.64 ms` in the encoding of the specification.
const RNR_TIMER: u8 = 12;
const HOP_LIMIT: u8 = 64;
/// The key of all datagrams of ours; any value without the highest bit, which is the kernel's.
const DATAGRAM_KEY: u32 = 0x1111_1111;

/// One end of a connection, or of datagrams that all go to one peer.
pub(in crate::verbs) struct QueuePair {
    pair: NonNull<ffi::ibv_qp>,
    transport: Transport,
    /// Of datagrams: where they go.
    destination: OnceLock<Destination>,
    domain: Arc<ProtectionDomain>,
    _completions: Arc<CompletionQueue>,
}

// SAFETY: libibverbs locks queue pairs itself.
unsafe impl Send for QueuePair {}
// SAFETY: as above.
unsafe impl Sync for QueuePair {}

impl QueuePair {
    /// Makes one, not yet connected.
    pub(in crate::verbs) fn new(
        domain: &Arc<ProtectionDomain>,
        completions: &Arc<CompletionQueue>,
        capacity: QueuePairCapacity,
    ) -> io::Result<Self> {
        // SAFETY: the structure is integers and pointers: zero is a value of it.
        let mut attributes: ffi::ibv_qp_init_attr = unsafe { mem::zeroed() };
        attributes.qp_type = match capacity.transport {
            Transport::Rc => ffi::ibv_qp_type::IBV_QPT_RC,
            Transport::Uc => ffi::ibv_qp_type::IBV_QPT_UC,
            Transport::Ud => ffi::ibv_qp_type::IBV_QPT_UD,
        };
        attributes.send_cq = completions.queue.as_ptr();
        attributes.recv_cq = completions.queue.as_ptr();
        attributes.cap.max_send_wr = capacity.sends;
        attributes.cap.max_recv_wr = capacity.receives;
        attributes.cap.max_send_sge = 1;
        // The header of a datagram lands in a span of its own.
        attributes.cap.max_recv_sge = 2;
        attributes.cap.max_inline_data = capacity.inline_bytes;
        // SAFETY: domain and completion queue are alive, and what is returned keeps them so.
        let pair = unsafe { ffi::ibv_create_qp(domain.as_ptr(), &raw mut attributes) };
        let pair = NonNull::new(pair).ok_or_else(io::Error::last_os_error)?;
        Ok(Self {
            pair,
            transport: capacity.transport,
            destination: OnceLock::new(),
            domain: Arc::clone(domain),
            _completions: Arc::clone(completions),
        })
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::ibv_qp {
        self.pair.as_ptr()
    }

    /// Its number on this device.
    pub(in crate::verbs) fn number(&self) -> u32 {
        // SAFETY: the pair is alive, and its number does not change.
        unsafe { (*self.as_ptr()).qp_num }
    }

    /// Where its datagrams go, once it is connected.
    #[inline]
    pub(super) fn destination(&self) -> Option<&Destination> {
        self.destination.get()
    }

    /// Connects it with another one, or aims its datagrams there.
    ///
    /// # Errors
    /// The state that it could not be brought to, and why.
    pub(in crate::verbs) fn connect(&self, peer: &Peer, route: &Route) -> Result<(), (&'static str, io::Error)> {
        self.initialize(route).map_err(|error| ("INIT", error))?;
        self.make_ready_to_receive(peer, route).map_err(|error| ("RTR", error))?;
        self.make_ready_to_send(route).map_err(|error| ("RTS", error))?;
        if self.transport == Transport::Ud {
            let destination = Destination::new(&self.domain, peer, route).map_err(|error| ("an address", error))?;
            let _ = self.destination.set(destination);
        }
        Ok(())
    }

    fn initialize(&self, route: &Route) -> io::Result<()> {
        use ffi::ibv_qp_attr_mask as mask;
        let mut attributes = blank_attributes();
        attributes.qp_state = ffi::ibv_qp_state::IBV_QPS_INIT;
        attributes.port_num = route.port;
        let given = mask::IBV_QP_STATE | mask::IBV_QP_PKEY_INDEX | mask::IBV_QP_PORT;
        if self.transport == Transport::Ud {
            attributes.qkey = DATAGRAM_KEY;
            return self.modify(&mut attributes, given | mask::IBV_QP_QKEY);
        }
        use ffi::ibv_access_flags as access;
        attributes.qp_access_flags = access::IBV_ACCESS_REMOTE_WRITE.0;
        if self.transport == Transport::Rc {
            attributes.qp_access_flags |= access::IBV_ACCESS_REMOTE_READ.0;
            if route.atomics {
                attributes.qp_access_flags |= access::IBV_ACCESS_REMOTE_ATOMIC.0;
            }
        }
        self.modify(&mut attributes, given | mask::IBV_QP_ACCESS_FLAGS)
    }

    fn make_ready_to_receive(&self, peer: &Peer, route: &Route) -> io::Result<()> {
        use ffi::ibv_qp_attr_mask as mask;
        let mut attributes = blank_attributes();
        attributes.qp_state = ffi::ibv_qp_state::IBV_QPS_RTR;
        if self.transport == Transport::Ud {
            return self.modify(&mut attributes, mask::IBV_QP_STATE);
        }
        attributes.path_mtu = route.mtu.0;
        attributes.dest_qp_num = peer.number;
        attributes.rq_psn = peer.first_packet;
        attributes.ah_attr = address(peer, route);
        let given =
            mask::IBV_QP_STATE | mask::IBV_QP_AV | mask::IBV_QP_PATH_MTU | mask::IBV_QP_DEST_QPN | mask::IBV_QP_RQ_PSN;
        if self.transport == Transport::Uc {
            return self.modify(&mut attributes, given);
        }
        attributes.max_dest_rd_atomic = route.reads_in_flight;
        attributes.min_rnr_timer = RNR_TIMER;
        self.modify(&mut attributes, given | mask::IBV_QP_MAX_DEST_RD_ATOMIC | mask::IBV_QP_MIN_RNR_TIMER)
    }

    fn make_ready_to_send(&self, route: &Route) -> io::Result<()> {
        use ffi::ibv_qp_attr_mask as mask;
        let mut attributes = blank_attributes();
        attributes.qp_state = ffi::ibv_qp_state::IBV_QPS_RTS;
        let given = mask::IBV_QP_STATE | mask::IBV_QP_SQ_PSN;
        if self.transport != Transport::Rc {
            return self.modify(&mut attributes, given);
        }
        attributes.timeout = ACK_TIMEOUT;
        attributes.retry_cnt = RETRIES;
        attributes.rnr_retry = if route.retry_rnr_forever { RNR_RETRY_FOREVER } else { RNR_RETRIES };
        attributes.max_rd_atomic = route.reads_in_flight;
        let reliable =
            mask::IBV_QP_TIMEOUT | mask::IBV_QP_RETRY_CNT | mask::IBV_QP_RNR_RETRY | mask::IBV_QP_MAX_QP_RD_ATOMIC;
        self.modify(&mut attributes, given | reliable)
    }

    /// Ends it: whatever is posted ends with `WR_FLUSH_ERR`.
    pub(in crate::verbs) fn fail(&self) -> io::Result<()> {
        let mut attributes = blank_attributes();
        attributes.qp_state = ffi::ibv_qp_state::IBV_QPS_ERR;
        self.modify(&mut attributes, ffi::ibv_qp_attr_mask::IBV_QP_STATE)
    }

    fn modify(&self, attributes: &mut ffi::ibv_qp_attr, given: ffi::ibv_qp_attr_mask) -> io::Result<()> {
        // SAFETY: the pair is alive, and the structure is whole, whichever parts of it the mask names.
        check(unsafe { ffi::ibv_modify_qp(self.as_ptr(), attributes, given.0.cast_signed()) })
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: made by `ibv_create_qp`, destroyed once. The device touches no memory for it afterwards, and no address
        // handle: that goes behind.
        unsafe { ffi::ibv_destroy_qp(self.as_ptr()) };
    }
}

/// Where the datagrams of a queue pair go.
pub(super) struct Destination {
    handle: NonNull<ffi::ibv_ah>,
    number: u32,
    _domain: Arc<ProtectionDomain>,
}

// SAFETY: libibverbs only reads address handles once they are made.
unsafe impl Send for Destination {}
// SAFETY: as above.
unsafe impl Sync for Destination {}

impl Destination {
    fn new(domain: &Arc<ProtectionDomain>, peer: &Peer, route: &Route) -> io::Result<Self> {
        let mut attributes = address(peer, route);
        // SAFETY: the domain is allocated, and what is returned keeps it so; the attributes are read within the call.
        let handle = unsafe { ffi::ibv_create_ah(domain.as_ptr(), &raw mut attributes) };
        let handle = NonNull::new(handle).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { handle, number: peer.number, _domain: Arc::clone(domain) })
    }

    /// Address handle, queue pair and key, as a work request names them.
    #[inline]
    pub(super) fn parts(&self) -> (*mut ffi::ibv_ah, u32, u32) {
        (self.handle.as_ptr(), self.number, DATAGRAM_KEY)
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        // SAFETY: made by `ibv_create_ah`, destroyed once, after the queue pair that posted with it.
        unsafe { ffi::ibv_destroy_ah(self.handle.as_ptr()) };
    }
}

fn address(peer: &Peer, route: &Route) -> ffi::ibv_ah_attr {
    let mut address = blank_attributes().ah_attr;
    address.port_num = route.port;
    address.sl = route.service_level;
    match (peer.addressing, route.own) {
        (Addressing::Gid { bytes, .. }, own) => {
            address.is_global = 1;
            address.grh.dgid = ffi::ibv_gid { raw: bytes };
            address.grh.hop_limit = HOP_LIMIT;
            address.grh.traffic_class = route.traffic_class;
            if let Addressing::Gid { index, .. } = own {
                address.grh.sgid_index = index;
            }
        }
        (Addressing::Lid(lid), _) => address.dlid = lid,
    }
    address
}

fn blank_attributes() -> ffi::ibv_qp_attr {
    // SAFETY: the structure is plain integers and a union of byte arrays: zero is a value of it.
    unsafe { mem::zeroed() }
}
