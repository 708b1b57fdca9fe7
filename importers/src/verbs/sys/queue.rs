//! Completion queues and queue pairs.

use std::io;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};

use super::backend::ffi;
use super::{Context, Mtu, ProtectionDomain, check};
use crate::Transport;

/// Completion channel, on which the device signals completion events.
struct Channel {
    channel: NonNull<ffi::ibv_comp_channel>,
    _context: Arc<Context>,
}

impl Channel {
    fn new(context: &Arc<Context>) -> io::Result<Self> {
        // SAFETY: the context is open, and the returned value holds it.
        let channel = unsafe { ffi::ibv_create_comp_channel(context.as_ptr()) };
        let channel = NonNull::new(channel).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { channel, _context: Arc::clone(context) })
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: created by `ibv_create_comp_channel` and destroyed once, after its completion queue.
        unsafe { ffi::ibv_destroy_comp_channel(self.channel.as_ptr()) };
    }
}

/// A completion queue.
pub(in crate::verbs) struct CompletionQueue {
    queue: NonNull<ffi::ibv_cq>,
    // Destroyed after the completion queue.
    channel: Option<Channel>,
    _context: Arc<Context>,
}

// SAFETY: libibverbs locks completion queues and channels.
unsafe impl Send for CompletionQueue {}
// SAFETY: as above.
unsafe impl Sync for CompletionQueue {}

impl CompletionQueue {
    /// Creates a completion queue with `entries` entries and, optionally, completion events.
    pub(in crate::verbs) fn new(context: &Arc<Context>, entries: u32, events: bool) -> io::Result<Self> {
        let entries = libc::c_int::try_from(entries).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let channel = events.then(|| Channel::new(context)).transpose()?;
        let at = channel.as_ref().map_or(ptr::null_mut(), |channel| channel.channel.as_ptr());
        // SAFETY: the context is open. The channel is null (no events), or outlives the queue.
        let queue = unsafe { ffi::ibv_create_cq(context.as_ptr(), entries, ptr::null_mut(), at, 0) };
        let queue = NonNull::new(queue).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { queue, channel, _context: Arc::clone(context) })
    }

    /// Requests a completion event for the next completion. Returns false if the queue has no completion channel.
    pub(in crate::verbs) fn arm(&self) -> io::Result<bool> {
        if self.channel.is_none() {
            return Ok(false);
        }
        // SAFETY: the queue is alive.
        check(unsafe { ffi::ibv_req_notify_cq(self.queue.as_ptr(), 0) })?;
        Ok(true)
    }

    /// Sleeps until the requested event arrives, for at most `milliseconds`. Returns whether it arrived.
    pub(in crate::verbs) fn sleep(&self, milliseconds: u16) -> io::Result<bool> {
        let Some(channel) = &self.channel else { return Ok(false) };
        let channel = channel.channel.as_ptr();
        // SAFETY: the channel is alive.
        let mut waiting = libc::pollfd { fd: unsafe { (*channel).fd }, events: libc::POLLIN, revents: 0 };
        // SAFETY: the count matches the one entry.
        let ready = unsafe { libc::poll(&raw mut waiting, 1, milliseconds.into()) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
        }
        if ready == 0 {
            return Ok(false);
        }
        let (mut queue, mut context) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the channel is alive, and the call writes both results.
        if unsafe { ffi::ibv_get_cq_event(channel, &raw mut queue, &raw mut context) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the event is of this queue, the only one of the channel, and is acknowledged once.
        unsafe { ffi::ibv_ack_cq_events(self.queue.as_ptr(), 1) };
        Ok(true)
    }

    /// Polls for at most `into.capacity()` work completions. Returns their number.
    #[inline]
    pub(in crate::verbs) fn poll(&self, into: &mut WorkCompletions) -> io::Result<usize> {
        let entries = &mut into.entries;
        // SAFETY: the queue is alive, and the count is that of the entries (at most 1024).
        let count =
            unsafe { ffi::ibv_poll_cq(self.queue.as_ptr(), entries.len() as libc::c_int, entries.as_mut_ptr()) };
        // A negative count means that the completion queue overflowed or failed. The library sets no errno.
        usize::try_from(count).map_err(|_| io::Error::from_raw_os_error(libc::EIO))
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // SAFETY: created by `ibv_create_cq` and destroyed once. Each of its queue pairs holds it, so none exists anymore.
        unsafe { ffi::ibv_destroy_cq(self.queue.as_ptr()) };
    }
}

/// Work completions of one poll.
pub(in crate::verbs) struct WorkCompletions {
    entries: Box<[ffi::ibv_wc]>,
}

/// A work completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct WorkCompletion {
    /// `wr_id` of the work request.
    pub(in crate::verbs) id: u64,
    /// Status of the work completion (`enum ibv_wc_status`).
    pub(in crate::verbs) status: u32,
}

impl WorkCompletions {
    /// Allocates space for `entries` work completions, at most 1024.
    pub(in crate::verbs) fn with_capacity(entries: usize) -> Self {
        let entries = entries.clamp(1, 1024);
        // SAFETY: the structure consists of integers, for which zero is valid.
        Self { entries: (0..entries).map(|_| unsafe { mem::zeroed() }).collect() }
    }

    /// Returns the maximum number of work completions per poll.
    pub(in crate::verbs) fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Returns a work completion of the last poll.
    #[inline]
    pub(in crate::verbs) fn get(&self, index: usize) -> WorkCompletion {
        let entry = &self.entries[index];
        WorkCompletion { id: entry.wr_id, status: entry.status }
    }
}

/// Address of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) enum Addressing {
    /// GID, on Ethernet.
    Gid {
        /// Index in the port's GID table.
        index: u8,
        /// The GID, in network byte order.
        bytes: [u8; 16],
    },
    /// LID, on InfiniBand.
    Lid(u16),
}

/// Parameters for connecting a queue pair, other than the peer.
#[derive(Debug, Clone, Copy)]
pub(in crate::verbs) struct Route {
    pub(in crate::verbs) port: u8,
    /// Address of the local port.
    pub(in crate::verbs) own: Addressing,
    pub(in crate::verbs) mtu: Mtu,
    /// Maximum RDMA reads and atomic operations in flight per queue pair.
    pub(in crate::verbs) reads_in_flight: u8,
    /// Whether the peer may perform atomic operations.
    pub(in crate::verbs) atomics: bool,
    pub(in crate::verbs) service_level: u8,
    pub(in crate::verbs) traffic_class: u8,
    /// Whether to retry without limit after RNR NAKs, i.e. while the peer has no receive posted. Needed if another process
    /// posts the peer's receives.
    pub(in crate::verbs) retry_rnr_forever: bool,
}

/// Remote queue pair to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct Peer {
    pub(in crate::verbs) number: u32,
    /// Initial packet sequence number (PSN).
    pub(in crate::verbs) first_packet: u32,
    pub(in crate::verbs) addressing: Addressing,
}

/// Capacity of a queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct QueuePairCapacity {
    pub(in crate::verbs) transport: Transport,
    pub(in crate::verbs) sends: u32,
    pub(in crate::verbs) receives: u32,
    /// Bytes of inline data per work request.
    pub(in crate::verbs) inline_bytes: u32,
}

/// Local ACK timeout: 4.096 us x 2^16 = 0.27 s. With the retries below, the device reports a dead peer after about 2 s (NICs
/// may wait up to four times as long), and a peer on an emulated CPU still has enough time to respond.
const ACK_TIMEOUT: u8 = 16;
const RETRIES: u8 = 7;
/// Maximum RNR retries. 6 is the largest finite value. Receives are posted before their sends, so retries are rare.
const RNR_RETRIES: u8 = 6;
/// Value of `rnr_retry` for retries without limit.
const RNR_RETRY_FOREVER: u8 = 7;
/// Minimum RNR NAK timer: 12 encodes 0.64 ms (InfiniBand specification).
const RNR_TIMER: u8 = 12;
const HOP_LIMIT: u8 = 64;
/// Q_Key of all datagrams. The highest bit must be 0, because it is reserved for privileged consumers.
const DATAGRAM_KEY: u32 = 0x1111_1111;

/// Queue pair that is connected to one peer, or sends datagrams to one peer.
pub(in crate::verbs) struct QueuePair {
    pair: NonNull<ffi::ibv_qp>,
    transport: Transport,
    /// Destination of datagrams.
    destination: OnceLock<Destination>,
    domain: Arc<ProtectionDomain>,
    _completions: Arc<CompletionQueue>,
}

// SAFETY: libibverbs is thread-safe: its provider locks each queue, because no thread domain is used.
unsafe impl Send for QueuePair {}
// SAFETY: as above.
unsafe impl Sync for QueuePair {}

impl QueuePair {
    /// Creates an unconnected queue pair.
    pub(in crate::verbs) fn new(
        domain: &Arc<ProtectionDomain>,
        completions: &Arc<CompletionQueue>,
        capacity: QueuePairCapacity,
    ) -> io::Result<Self> {
        // SAFETY: the structure consists of integers and pointers, for which zero is valid.
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
        // A received datagram starts with a GRH, which gets a separate SGE.
        attributes.cap.max_recv_sge = 2;
        attributes.cap.max_inline_data = capacity.inline_bytes;
        // SAFETY: the domain and the completion queue are alive, and the returned value holds them.
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

    /// Returns the queue pair number.
    pub(in crate::verbs) fn number(&self) -> u32 {
        // SAFETY: the pair is alive, and its number does not change.
        unsafe { (*self.as_ptr()).qp_num }
    }

    /// Returns the destination of datagrams, after `connect`.
    #[inline]
    pub(super) fn destination(&self) -> Option<&Destination> {
        self.destination.get()
    }

    /// Connects the queue pair to a peer, or sets the peer as the destination of datagrams.
    ///
    /// # Errors
    /// The queue pair cannot enter a state; the error holds the state and the errno.
    pub(in crate::verbs) fn connect(&self, peer: &Peer, route: &Route) -> Result<(), (&'static str, io::Error)> {
        self.initialize(route).map_err(|error| ("INIT", error))?;
        self.make_ready_to_receive(peer, route).map_err(|error| ("RTR", error))?;
        self.make_ready_to_send(route).map_err(|error| ("RTS", error))?;
        if self.transport == Transport::Ud {
            let destination =
                Destination::new(&self.domain, peer, route).map_err(|error| ("an address handle", error))?;
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

    /// Moves the queue pair to the error state: posted work requests complete with `WR_FLUSH_ERR`.
    pub(in crate::verbs) fn fail(&self) -> io::Result<()> {
        let mut attributes = blank_attributes();
        attributes.qp_state = ffi::ibv_qp_state::IBV_QPS_ERR;
        self.modify(&mut attributes, ffi::ibv_qp_attr_mask::IBV_QP_STATE)
    }

    fn modify(&self, attributes: &mut ffi::ibv_qp_attr, given: ffi::ibv_qp_attr_mask) -> io::Result<()> {
        // SAFETY: the pair is alive, and every field of the structure is initialized.
        check(unsafe { ffi::ibv_modify_qp(self.as_ptr(), attributes, given.0.cast_signed()) })
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: created by `ibv_create_qp` and destroyed once. The address handle is destroyed after it.
        unsafe { ffi::ibv_destroy_qp(self.as_ptr()) };
    }
}

/// Destination of datagrams.
pub(super) struct Destination {
    handle: NonNull<ffi::ibv_ah>,
    number: u32,
    _domain: Arc<ProtectionDomain>,
}

// SAFETY: libibverbs only reads address handles.
unsafe impl Send for Destination {}
// SAFETY: as above.
unsafe impl Sync for Destination {}

impl Destination {
    fn new(domain: &Arc<ProtectionDomain>, peer: &Peer, route: &Route) -> io::Result<Self> {
        let mut attributes = address(peer, route);
        // SAFETY: the domain is allocated, and the returned value holds it. The attributes are read within the call.
        let handle = unsafe { ffi::ibv_create_ah(domain.as_ptr(), &raw mut attributes) };
        let handle = NonNull::new(handle).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { handle, number: peer.number, _domain: Arc::clone(domain) })
    }

    /// Returns the address handle, the queue pair number and the Q_Key for a work request.
    #[inline]
    pub(super) fn parts(&self) -> (*mut ffi::ibv_ah, u32, u32) {
        (self.handle.as_ptr(), self.number, DATAGRAM_KEY)
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        // SAFETY: created by `ibv_create_ah` and destroyed once, after the queue pair that posted with it.
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
    // SAFETY: the structure consists of integers and a union of byte arrays, for which zero is valid.
    unsafe { mem::zeroed() }
}
