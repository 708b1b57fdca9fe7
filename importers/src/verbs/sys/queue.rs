//! Completion queues and queue pairs.

use std::io;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::backend::ffi;
use super::{Context, ProtectionDomain, check};

/// Where ended work requests are found.
pub(in crate::verbs) struct CompletionQueue {
    queue: NonNull<ffi::ibv_cq>,
    _context: Arc<Context>,
}

// SAFETY: libibverbs locks completion queues itself.
unsafe impl Send for CompletionQueue {}
// SAFETY: as above.
unsafe impl Sync for CompletionQueue {}

impl CompletionQueue {
    /// Makes one with room for so many completions.
    pub(in crate::verbs) fn new(context: &Arc<Context>, entries: u32) -> io::Result<Self> {
        let entries = libc::c_int::try_from(entries).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: the context is open; no completion channel is used, so a null one is right.
        let queue = unsafe { ffi::ibv_create_cq(context.as_ptr(), entries, ptr::null_mut(), ptr::null_mut(), 0) };
        let queue = NonNull::new(queue).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { queue, _context: Arc::clone(context) })
    }

    /// Takes ended work requests, at most as many as there is room for; returns how many.
    #[inline]
    pub(in crate::verbs) fn poll(&self, into: &mut Polled) -> io::Result<usize> {
        let entries = &mut into.entries;
        // SAFETY: the queue is alive, and the entries are as many as is said (`Polled` holds no more than an int counts).
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

/// Room for what one poll finds.
pub(in crate::verbs) struct Polled {
    entries: Box<[ffi::ibv_wc]>,
}

/// An ended work request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct Ended {
    /// The number that it was posted with.
    pub(in crate::verbs) id: u64,
    /// `enum ibv_wc_status`.
    pub(in crate::verbs) status: u32,
    /// The queue pair that it was posted to.
    pub(in crate::verbs) queue_pair: u32,
}

impl Polled {
    /// For so many at a time; a thousand is plenty.
    pub(in crate::verbs) fn with_room_for(entries: usize) -> Self {
        let entries = entries.clamp(1, 1024);
        // SAFETY: the structure is plain integers: zero is a value of it.
        Self { entries: (0..entries).map(|_| unsafe { mem::zeroed() }).collect() }
    }

    /// How many fit.
    pub(in crate::verbs) fn room(&self) -> usize {
        self.entries.len()
    }

    /// What the last poll found in this place.
    #[inline]
    pub(in crate::verbs) fn get(&self, index: usize) -> Ended {
        let entry = &self.entries[index];
        Ended { id: entry.wr_id, status: entry.status, queue_pair: entry.qp_num }
    }
}

/// How the two queue pairs reach each other.
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
    pub(in crate::verbs) mtu: ffi::ibv_mtu::Type,
    pub(in crate::verbs) addressing: Addressing,
    /// RDMA reads under way at once.
    pub(in crate::verbs) reads_in_flight: u8,
}

/// 4.096 us x 2^16 = 0.27 s for an acknowledgement; with the retries below a dead peer shows within about 2 s (hardware
/// may take four times that), while a peer that is an emulated CPU is not given up too soon.
const ACK_TIMEOUT: u8 = 16;
const RETRIES: u8 = 7;
/// Receives are posted before their sends, so the receiver is always ready; 6 is the most that is not "for ever".
const RECEIVER_NOT_READY_RETRIES: u8 = 6;
/// `0.64 ms` in the encoding of the specification.
const RECEIVER_NOT_READY_TIMER: u8 = 12;
const HOP_LIMIT: u8 = 64;

/// A reliable connection's one end.
pub(in crate::verbs) struct QueuePair {
    pair: NonNull<ffi::ibv_qp>,
    _domain: Arc<ProtectionDomain>,
    _completions: Arc<CompletionQueue>,
}

// SAFETY: libibverbs locks queue pairs itself.
unsafe impl Send for QueuePair {}
// SAFETY: as above.
unsafe impl Sync for QueuePair {}

impl QueuePair {
    /// Makes one with room for so many sends and receives, not yet connected.
    pub(in crate::verbs) fn new(
        domain: &Arc<ProtectionDomain>,
        completions: &Arc<CompletionQueue>,
        sends: u32,
        receives: u32,
    ) -> io::Result<Self> {
        // SAFETY: the structure is integers and pointers: zero is a value of it.
        let mut attributes: ffi::ibv_qp_init_attr = unsafe { mem::zeroed() };
        attributes.qp_type = ffi::ibv_qp_type::IBV_QPT_RC;
        attributes.send_cq = completions.queue.as_ptr();
        attributes.recv_cq = completions.queue.as_ptr();
        attributes.cap.max_send_wr = sends;
        attributes.cap.max_recv_wr = receives;
        attributes.cap.max_send_sge = 1;
        attributes.cap.max_recv_sge = 1;
        // SAFETY: domain and completion queue are alive, and what is returned keeps them so.
        let pair = unsafe { ffi::ibv_create_qp(domain.as_ptr(), &raw mut attributes) };
        let pair = NonNull::new(pair).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { pair, _domain: Arc::clone(domain), _completions: Arc::clone(completions) })
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::ibv_qp {
        self.pair.as_ptr()
    }

    /// Its number on this device.
    pub(in crate::verbs) fn number(&self) -> u32 {
        // SAFETY: the pair is alive, and its number does not change.
        unsafe { (*self.as_ptr()).qp_num }
    }

    /// Connects it with a queue pair of the same port.
    ///
    /// # Errors
    /// The state that it could not be brought to, and why.
    pub(in crate::verbs) fn connect(&self, peer: u32, route: &Route) -> Result<(), (&'static str, io::Error)> {
        use ffi::ibv_qp_attr_mask as mask;
        use ffi::ibv_qp_state as state;
        let access = ffi::ibv_access_flags::IBV_ACCESS_REMOTE_WRITE | ffi::ibv_access_flags::IBV_ACCESS_REMOTE_READ;

        let mut attributes = blank_attributes();
        attributes.qp_state = state::IBV_QPS_INIT;
        attributes.port_num = route.port;
        attributes.qp_access_flags = access.0;
        let given = mask::IBV_QP_STATE | mask::IBV_QP_PKEY_INDEX | mask::IBV_QP_PORT | mask::IBV_QP_ACCESS_FLAGS;
        self.modify(&mut attributes, given).map_err(|error| ("INIT", error))?;

        let mut attributes = blank_attributes();
        attributes.qp_state = state::IBV_QPS_RTR;
        attributes.path_mtu = route.mtu;
        attributes.dest_qp_num = peer;
        attributes.max_dest_rd_atomic = route.reads_in_flight;
        attributes.min_rnr_timer = RECEIVER_NOT_READY_TIMER;
        attributes.ah_attr.port_num = route.port;
        match route.addressing {
            Addressing::Gid { index, bytes } => {
                attributes.ah_attr.is_global = 1;
                attributes.ah_attr.grh.dgid = ffi::ibv_gid { raw: bytes };
                attributes.ah_attr.grh.sgid_index = index;
                attributes.ah_attr.grh.hop_limit = HOP_LIMIT;
            }
            Addressing::Lid(lid) => attributes.ah_attr.dlid = lid,
        }
        let given = mask::IBV_QP_STATE
            | mask::IBV_QP_AV
            | mask::IBV_QP_PATH_MTU
            | mask::IBV_QP_DEST_QPN
            | mask::IBV_QP_RQ_PSN
            | mask::IBV_QP_MAX_DEST_RD_ATOMIC
            | mask::IBV_QP_MIN_RNR_TIMER;
        self.modify(&mut attributes, given).map_err(|error| ("RTR", error))?;

        let mut attributes = blank_attributes();
        attributes.qp_state = state::IBV_QPS_RTS;
        attributes.timeout = ACK_TIMEOUT;
        attributes.retry_cnt = RETRIES;
        attributes.rnr_retry = RECEIVER_NOT_READY_RETRIES;
        attributes.max_rd_atomic = route.reads_in_flight;
        let given = mask::IBV_QP_STATE
            | mask::IBV_QP_TIMEOUT
            | mask::IBV_QP_RETRY_CNT
            | mask::IBV_QP_RNR_RETRY
            | mask::IBV_QP_SQ_PSN
            | mask::IBV_QP_MAX_QP_RD_ATOMIC;
        self.modify(&mut attributes, given).map_err(|error| ("RTS", error))
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
        // SAFETY: made by `ibv_create_qp`, destroyed once. The device touches no memory for it afterwards.
        unsafe { ffi::ibv_destroy_qp(self.as_ptr()) };
    }
}

fn blank_attributes() -> ffi::ibv_qp_attr {
    // SAFETY: the structure is plain integers and a union of byte arrays: zero is a value of it.
    unsafe { mem::zeroed() }
}
