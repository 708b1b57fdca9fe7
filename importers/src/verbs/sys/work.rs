//! Lists of work requests, allocated once and filled for every batch.
//!
//! Creating a list links each work request to the next one through `next`. Posting a batch sets `next` of its last request to
//! null, and restores it afterwards. This module accesses the arrays through raw pointers only, because they point into each
//! other and C follows those pointers.

use std::io;
use std::mem;
use std::ptr;

use super::QueuePair;
use super::backend::ffi;
use super::check;
use crate::Operands;

/// Opcode of a send work request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(in crate::verbs) enum Opcode {
    Write = ffi::ibv_wr_opcode::IBV_WR_RDMA_WRITE,
    WriteImm = ffi::ibv_wr_opcode::IBV_WR_RDMA_WRITE_WITH_IMM,
    Read = ffi::ibv_wr_opcode::IBV_WR_RDMA_READ,
    Send = ffi::ibv_wr_opcode::IBV_WR_SEND,
    FetchAdd = ffi::ibv_wr_opcode::IBV_WR_ATOMIC_FETCH_AND_ADD,
    CmpSwap = ffi::ibv_wr_opcode::IBV_WR_ATOMIC_CMP_AND_SWP,
}

/// Scatter/gather element (SGE): a span of a local memory region.
#[derive(Debug, Clone, Copy)]
pub(in crate::verbs) struct Sge {
    pub(in crate::verbs) address: u64,
    pub(in crate::verbs) length_bytes: u32,
    pub(in crate::verbs) key: u32,
}

impl Sge {
    fn entry(self) -> ffi::ibv_sge {
        ffi::ibv_sge { addr: self.address, length: self.length_bytes, lkey: self.key }
    }
}

/// Address and rkey in a memory region of the peer.
#[derive(Debug, Clone, Copy)]
pub(in crate::verbs) struct Remote {
    pub(in crate::verbs) address: u64,
    pub(in crate::verbs) key: u32,
}

/// Flags of a send work request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct SendFlags {
    /// Whether the work request is unsignaled: a success generates no work completion.
    pub(in crate::verbs) unsignaled: bool,
    /// Whether the CPU copies the bytes into the work request as inline data.
    pub(in crate::verbs) inline: bool,
}

/// An array that C holds pointers into. No Rust reference into it exists while it lives.
struct Pinned<T> {
    first: *mut T,
    count: usize,
}

impl<T> Pinned<T> {
    /// `T` must be a C structure for which zero is valid.
    fn zeroed(count: usize) -> Self {
        // SAFETY: the only types in use are work requests and SGEs of libibverbs: integers and pointers, for which zero is
        // valid.
        let array: Box<[T]> = (0..count).map(|_| unsafe { mem::zeroed() }).collect();
        Self { first: Box::into_raw(array).cast(), count }
    }

    #[inline]
    fn at(&self, index: usize) -> *mut T {
        assert!(index < self.count);
        // SAFETY: within the array.
        unsafe { self.first.add(index) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        // SAFETY: pointer and count are from the boxed slice that `zeroed` created.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(self.first, self.count)) });
    }
}

/// Access to the fields of a work request: `ibv_send_wr` or `ibv_recv_wr`.
///
/// # Safety
/// The functions receive pointers to live requests of one array to which the caller has exclusive access. They must access
/// only the memory that those pointers reach.
pub(in crate::verbs) unsafe trait Request: Sized {
    /// Sets the SGEs of a request.
    unsafe fn prepare(request: *mut Self, sges: *mut ffi::ibv_sge, count: libc::c_int);
    /// Sets the `wr_id` of a request.
    unsafe fn number(request: *mut Self, id: u64);
    /// Links a request to the next one.
    unsafe fn link(request: *mut Self, next: *mut Self);
    /// Posts this request and the requests linked behind it.
    unsafe fn post(pair: *mut ffi::ibv_qp, first: *mut Self) -> libc::c_int;
}

// SAFETY: each function accesses only the request, its SGEs, or the chain behind it.
unsafe impl Request for ffi::ibv_send_wr {
    unsafe fn prepare(request: *mut Self, sges: *mut ffi::ibv_sge, count: libc::c_int) {
        // SAFETY: the caller guarantees a valid pointer.
        unsafe {
            (*request).sg_list = sges;
            (*request).num_sge = count;
        }
    }

    #[inline]
    unsafe fn number(request: *mut Self, id: u64) {
        // SAFETY: the caller guarantees a valid pointer.
        unsafe { (*request).wr_id = id };
    }

    #[inline]
    unsafe fn link(request: *mut Self, next: *mut Self) {
        // SAFETY: the caller guarantees a valid pointer.
        unsafe { (*request).next = next };
    }

    #[inline]
    unsafe fn post(pair: *mut ffi::ibv_qp, first: *mut Self) -> libc::c_int {
        let mut refused = ptr::null_mut();
        // SAFETY: the caller guarantees a live queue pair and a valid chain.
        unsafe { ffi::ibv_post_send(pair, first, &raw mut refused) }
    }
}

// SAFETY: as for sends.
unsafe impl Request for ffi::ibv_recv_wr {
    unsafe fn prepare(request: *mut Self, sges: *mut ffi::ibv_sge, count: libc::c_int) {
        // SAFETY: the caller guarantees a valid pointer.
        unsafe {
            (*request).sg_list = sges;
            (*request).num_sge = count;
        }
    }

    #[inline]
    unsafe fn number(request: *mut Self, id: u64) {
        // SAFETY: the caller guarantees a valid pointer.
        unsafe { (*request).wr_id = id };
    }

    #[inline]
    unsafe fn link(request: *mut Self, next: *mut Self) {
        // SAFETY: the caller guarantees a valid pointer.
        unsafe { (*request).next = next };
    }

    #[inline]
    unsafe fn post(pair: *mut ffi::ibv_qp, first: *mut Self) -> libc::c_int {
        let mut refused = ptr::null_mut();
        // SAFETY: the caller guarantees a live queue pair and a valid chain.
        unsafe { ffi::ibv_post_recv(pair, first, &raw mut refused) }
    }
}

/// Work requests with one SGE each. Receives of datagrams have another SGE before it, for the GRH.
pub(in crate::verbs) struct List<R: Request> {
    requests: Pinned<R>,
    sges: Pinned<ffi::ibv_sge>,
    sges_each: usize,
}

/// Send work requests.
pub(in crate::verbs) type SendList = List<ffi::ibv_send_wr>;
/// Receive work requests.
pub(in crate::verbs) type ReceiveList = List<ffi::ibv_recv_wr>;

// SAFETY: the list owns what it points to, and writes only through `&mut self`.
unsafe impl<R: Request> Send for List<R> {}

impl<R: Request> List<R> {
    /// Creates a list of `capacity` work requests. If `first` is given, it becomes the first SGE of each request.
    pub(in crate::verbs) fn new(capacity: usize, first: Option<Sge>) -> Self {
        let sges_each = 1 + usize::from(first.is_some());
        let (requests, sges) = (Pinned::zeroed(capacity), Pinned::zeroed(capacity * sges_each));
        let list = Self { requests, sges, sges_each };
        for index in 0..capacity {
            let (request, sges) = (list.requests.at(index), list.sges.at(index * sges_each));
            // SAFETY: both indices are within their arrays, which nothing else accesses yet.
            unsafe {
                if let Some(first) = first {
                    *sges = first.entry();
                }
                R::prepare(request, sges, if first.is_some() { 2 } else { 1 });
                R::link(request, list.next(index));
            }
        }
        list
    }

    /// Sets the `wr_id` and the local memory of the request at `index`.
    #[inline]
    pub(in crate::verbs) fn fill(&mut self, index: usize, id: u64, local: Sge) {
        // SAFETY: both indices are within their arrays, to which `&mut self` has exclusive access.
        unsafe {
            R::number(self.requests.at(index), id);
            *self.sges.at((index + 1) * self.sges_each - 1) = local.entry();
        }
    }

    /// Posts the first `count` requests as one list. If the device refuses a request, the requests before it stay posted.
    #[inline]
    pub(in crate::verbs) fn post(&mut self, pair: &QueuePair, count: usize) -> io::Result<()> {
        let Some(last) = count.checked_sub(1) else { return Ok(()) };
        let (first, next) = (self.requests.at(0), self.next(last));
        let last = self.requests.at(last);
        // SAFETY: the chain from the first request to the last is linked and within the arrays. The device accesses memory
        // only by keys of regions, which keep it in place.
        unsafe {
            R::link(last, ptr::null_mut());
            let code = R::post(pair.as_ptr(), first);
            R::link(last, next);
            check(code)
        }
    }

    fn next(&self, index: usize) -> *mut R {
        if index + 1 < self.requests.count { self.requests.at(index + 1) } else { ptr::null_mut() }
    }
}

impl SendList {
    /// Turns a filled request into an RDMA operation or a send.
    #[inline]
    pub(in crate::verbs) fn set_rdma(&mut self, index: usize, opcode: Opcode, remote: Remote, flags: SendFlags) {
        let request = self.requests.at(index);
        // SAFETY: within the array, to which `&mut self` has exclusive access. The union holds the fields for RDMA, which a
        // send ignores.
        unsafe {
            (*request).opcode = opcode as u32;
            (*request).send_flags = flags.bits();
            (*request).wr.rdma.remote_addr = remote.address;
            (*request).wr.rdma.rkey = remote.key;
        }
    }

    /// Turns a filled request into an atomic operation.
    #[inline]
    pub(in crate::verbs) fn set_atomic(
        &mut self,
        index: usize,
        opcode: Opcode,
        remote: Remote,
        operands: Operands,
        flags: SendFlags,
    ) {
        let request = self.requests.at(index);
        // SAFETY: as in `set_rdma`. The union holds the fields for atomic operations.
        unsafe {
            (*request).opcode = opcode as u32;
            (*request).send_flags = flags.bits();
            (*request).wr.atomic.remote_addr = remote.address;
            (*request).wr.atomic.compare_add = operands.compare_add;
            (*request).wr.atomic.swap = operands.swap;
            (*request).wr.atomic.rkey = remote.key;
        }
    }

    /// Turns a filled request into a datagram to the destination of the queue pair.
    #[inline]
    pub(in crate::verbs) fn set_datagram(&mut self, index: usize, pair: &QueuePair, flags: SendFlags) {
        let destination = pair.destination().expect("cannot post a work request: the queue pair is not connected");
        let (handle, number, key) = destination.parts();
        let request = self.requests.at(index);
        // SAFETY: as in `set_rdma`. The union holds the fields for datagrams, and the queue pair holds the address handle.
        unsafe {
            (*request).opcode = Opcode::Send as u32;
            (*request).send_flags = flags.bits();
            (*request).wr.ud.ah = handle;
            (*request).wr.ud.remote_qpn = number;
            (*request).wr.ud.remote_qkey = key;
        }
    }
}

impl SendFlags {
    #[inline]
    fn bits(self) -> u32 {
        let signaled = if self.unsignaled { 0 } else { ffi::ibv_send_flags::IBV_SEND_SIGNALED.0 };
        signaled | if self.inline { ffi::ibv_send_flags::IBV_SEND_INLINE.0 } else { 0 }
    }
}
