//! Lists of work requests, laid out once and filled for every batch.
//!
//! Each request is linked to the next when the list is made; posting cuts the chain behind the last one of the batch and
//! mends it afterwards. The lists are reached through raw pointers only, because they point into each other and C follows
//! those pointers.

use std::io;
use std::mem;
use std::ptr;

use super::QueuePair;
use super::backend::ffi;
use super::check;
use crate::Operands;

/// What a send request does.
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

/// Bytes of a region of this side.
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

/// An address of the peer.
#[derive(Debug, Clone, Copy)]
pub(in crate::verbs) struct Remote {
    pub(in crate::verbs) address: u64,
    pub(in crate::verbs) key: u32,
}

/// How a send request is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct SendFlags {
    /// Its completion comes with a later one.
    pub(in crate::verbs) unsignaled: bool,
    /// The processor copies the bytes into the request.
    pub(in crate::verbs) inline: bool,
}

/// An array that C holds pointers into: never reached through a reference while it lives.
struct Pinned<T> {
    first: *mut T,
    count: usize,
}

impl<T> Pinned<T> {
    /// `T` must be a structure of C, for which zero is a value.
    fn zeroed(count: usize) -> Self {
        // SAFETY: the only types used here are libibverbs' work requests and scatter entries: integers and pointers.
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
        // SAFETY: the pointer and the count are those of the boxed slice that was taken apart in `zeroed`.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(self.first, self.count)) });
    }
}

/// What a list needs to know of its kind of request.
///
/// # Safety
/// The functions are given pointers to requests of one array, which live and which nobody else uses meanwhile; they must
/// touch nothing but what those lead to.
pub(in crate::verbs) unsafe trait Request: Sized {
    /// Ties a request to its sges.
    unsafe fn prepare(request: *mut Self, sges: *mut ffi::ibv_sge, count: libc::c_int);
    /// Numbers a request.
    unsafe fn number(request: *mut Self, id: u64);
    /// Links a request to the one behind it.
    unsafe fn link(request: *mut Self, next: *mut Self);
    /// Posts the chain that begins with this request.
    unsafe fn post(pair: *mut ffi::ibv_qp, first: *mut Self) -> libc::c_int;
}

// SAFETY: each function touches the request, its span or the chain behind it, and nothing else.
unsafe impl Request for ffi::ibv_send_wr {
    unsafe fn prepare(request: *mut Self, sges: *mut ffi::ibv_sge, count: libc::c_int) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            (*request).sg_list = sges;
            (*request).num_sge = count;
        }
    }

    #[inline]
    unsafe fn number(request: *mut Self, id: u64) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { (*request).wr_id = id };
    }

    #[inline]
    unsafe fn link(request: *mut Self, next: *mut Self) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { (*request).next = next };
    }

    #[inline]
    unsafe fn post(pair: *mut ffi::ibv_qp, first: *mut Self) -> libc::c_int {
        let mut refused = ptr::null_mut();
        // SAFETY: the caller vouches for the pair and the chain.
        unsafe { ffi::ibv_post_send(pair, first, &raw mut refused) }
    }
}

// SAFETY: as for sends.
unsafe impl Request for ffi::ibv_recv_wr {
    unsafe fn prepare(request: *mut Self, sges: *mut ffi::ibv_sge, count: libc::c_int) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            (*request).sg_list = sges;
            (*request).num_sge = count;
        }
    }

    #[inline]
    unsafe fn number(request: *mut Self, id: u64) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { (*request).wr_id = id };
    }

    #[inline]
    unsafe fn link(request: *mut Self, next: *mut Self) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { (*request).next = next };
    }

    #[inline]
    unsafe fn post(pair: *mut ffi::ibv_qp, first: *mut Self) -> libc::c_int {
        let mut refused = ptr::null_mut();
        // SAFETY: the caller vouches for the pair and the chain.
        unsafe { ffi::ibv_post_recv(pair, first, &raw mut refused) }
    }
}

/// Requests with one local span each; those that receive datagrams have one for the header before it.
pub(in crate::verbs) struct List<R: Request> {
    requests: Pinned<R>,
    sges: Pinned<ffi::ibv_sge>,
    sges_each: usize,
}

/// What the active side posts; each reports its end.
pub(in crate::verbs) type SendList = List<ffi::ibv_send_wr>;
/// What waits for sends.
pub(in crate::verbs) type ReceiveList = List<ffi::ibv_recv_wr>;

// SAFETY: the list owns what it points to, and is only written through `&mut self`.
unsafe impl<R: Request> Send for List<R> {}

impl<R: Request> List<R> {
    /// Room for so many requests, each of which has the span `first` where there is one.
    pub(in crate::verbs) fn new(capacity: usize, first: Option<Sge>) -> Self {
        let sges_each = 1 + usize::from(first.is_some());
        let (requests, sges) = (Pinned::zeroed(capacity), Pinned::zeroed(capacity * sges_each));
        let list = Self { requests, sges, sges_each };
        for index in 0..capacity {
            let (request, sges) = (list.requests.at(index), list.sges.at(index * sges_each));
            // SAFETY: both arrays have these places, and nobody else knows of them yet.
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

    /// Numbers the request at `index` and says what memory of this side it is about.
    #[inline]
    pub(in crate::verbs) fn fill(&mut self, index: usize, id: u64, local: Sge) {
        // SAFETY: both are within their arrays, which only `&mut self` reaches.
        unsafe {
            R::number(self.requests.at(index), id);
            *self.sges.at((index + 1) * self.sges_each - 1) = local.entry();
        }
    }

    /// Posts the first `count` requests as one list. Where one is refused, those before it have been posted.
    #[inline]
    pub(in crate::verbs) fn post(&mut self, pair: &QueuePair, count: usize) -> io::Result<()> {
        let Some(last) = count.checked_sub(1) else { return Ok(()) };
        let (first, next) = (self.requests.at(0), self.next(last));
        let last = self.requests.at(last);
        // SAFETY: the chain from the first request to the last one is linked and lies in the arrays. The device reads and
        // writes memory only under keys of regions that hold it in place, so no request can reach anything else.
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
    /// Says what a filled request does, to which memory of the peer, and how.
    #[inline]
    pub(in crate::verbs) fn set_rdma(&mut self, index: usize, opcode: Opcode, remote: Remote, flags: SendFlags) {
        let request = self.requests.at(index);
        // SAFETY: within the array, which only `&mut self` reaches; the request's own layout of the union is the one for
        // RDMA, and a send ignores it.
        unsafe {
            (*request).opcode = opcode as u32;
            (*request).send_flags = flags.bits();
            (*request).wr.rdma.remote_addr = remote.address;
            (*request).wr.rdma.rkey = remote.key;
        }
    }

    /// Says which atomic operation a filled request is, on which word of the peer.
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
        // SAFETY: as in `set_rdma`; the union is laid out for atomic operations.
        unsafe {
            (*request).opcode = opcode as u32;
            (*request).send_flags = flags.bits();
            (*request).wr.atomic.remote_addr = remote.address;
            (*request).wr.atomic.compare_add = operands.compare_add;
            (*request).wr.atomic.swap = operands.swap;
            (*request).wr.atomic.rkey = remote.key;
        }
    }

    /// Says that a filled request sends a datagram to where those of a queue pair go.
    #[inline]
    pub(in crate::verbs) fn set_datagram(&mut self, index: usize, pair: &QueuePair, flags: SendFlags) {
        let destination = pair.destination().expect("only connected queue pairs are posted on");
        let (handle, number, key) = destination.parts();
        let request = self.requests.at(index);
        // SAFETY: as in `set_rdma`; the union is laid out for datagrams, and the pair keeps the address handle.
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
