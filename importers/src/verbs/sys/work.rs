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

/// What a send request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(in crate::verbs) enum Opcode {
    Write = ffi::ibv_wr_opcode::IBV_WR_RDMA_WRITE,
    Read = ffi::ibv_wr_opcode::IBV_WR_RDMA_READ,
    Send = ffi::ibv_wr_opcode::IBV_WR_SEND,
}

/// Bytes of a region of this side.
#[derive(Debug, Clone, Copy)]
pub(in crate::verbs) struct Span {
    pub(in crate::verbs) address: u64,
    pub(in crate::verbs) length_bytes: u32,
    pub(in crate::verbs) key: u32,
}

/// An address of the peer.
#[derive(Debug, Clone, Copy)]
pub(in crate::verbs) struct Remote {
    pub(in crate::verbs) address: u64,
    pub(in crate::verbs) key: u32,
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

/// Send requests with one local span each.
pub(in crate::verbs) struct SendList {
    requests: Pinned<ffi::ibv_send_wr>,
    spans: Pinned<ffi::ibv_sge>,
}

// SAFETY: the list owns what it points to, and is only written through `&mut self`.
unsafe impl Send for SendList {}

impl SendList {
    /// Room for so many requests, each of which reports its end.
    pub(in crate::verbs) fn new(capacity: usize) -> Self {
        let list = Self { requests: Pinned::zeroed(capacity), spans: Pinned::zeroed(capacity) };
        for index in 0..capacity {
            // SAFETY: both arrays have this index, and nobody else knows of them yet.
            unsafe {
                let request = list.requests.at(index);
                (*request).sg_list = list.spans.at(index);
                (*request).num_sge = 1;
                (*request).send_flags = ffi::ibv_send_flags::IBV_SEND_SIGNALED.0;
                (*request).next = list.next(index);
            }
        }
        list
    }

    /// Fills the request at `index`.
    #[inline]
    pub(in crate::verbs) fn fill(&mut self, index: usize, id: u64, opcode: Opcode, local: Span, remote: Remote) {
        let request = self.requests.at(index);
        let span = self.spans.at(index);
        // SAFETY: both are within their arrays, which only `&mut self` reaches; the request's own layout of the union is
        // the one for RDMA, and a send ignores it.
        unsafe {
            (*request).wr_id = id;
            (*request).opcode = opcode as u32;
            (*request).wr.rdma.remote_addr = remote.address;
            (*request).wr.rdma.rkey = remote.key;
            *span = ffi::ibv_sge { addr: local.address, length: local.length_bytes, lkey: local.key };
        }
    }

    /// Posts the first `count` requests as one list. Where one is refused, those before it have been posted.
    #[inline]
    pub(in crate::verbs) fn post(&mut self, pair: &QueuePair, count: usize) -> io::Result<()> {
        let Some(last) = count.checked_sub(1) else { return Ok(()) };
        let mut refused = ptr::null_mut();
        // SAFETY: the chain from the first request to the last one is linked and lies in the arrays. The device reads and
        // writes memory only under keys of regions that hold it in place, so no request can reach anything else.
        unsafe {
            (*self.requests.at(last)).next = ptr::null_mut();
            let code = ffi::ibv_post_send(pair.as_ptr(), self.requests.at(0), &raw mut refused);
            (*self.requests.at(last)).next = self.next(last);
            check(code)
        }
    }

    fn next(&self, index: usize) -> *mut ffi::ibv_send_wr {
        if index + 1 < self.requests.count { self.requests.at(index + 1) } else { ptr::null_mut() }
    }
}

/// Receive requests with one local span each.
pub(in crate::verbs) struct ReceiveList {
    requests: Pinned<ffi::ibv_recv_wr>,
    spans: Pinned<ffi::ibv_sge>,
}

// SAFETY: the list owns what it points to, and is only written through `&mut self`.
unsafe impl Send for ReceiveList {}

impl ReceiveList {
    /// Room for so many requests.
    pub(in crate::verbs) fn new(capacity: usize) -> Self {
        let list = Self { requests: Pinned::zeroed(capacity), spans: Pinned::zeroed(capacity) };
        for index in 0..capacity {
            // SAFETY: both arrays have this index, and nobody else knows of them yet.
            unsafe {
                let request = list.requests.at(index);
                (*request).sg_list = list.spans.at(index);
                (*request).num_sge = 1;
                (*request).next = list.next(index);
            }
        }
        list
    }

    /// Fills the request at `index`.
    #[inline]
    pub(in crate::verbs) fn fill(&mut self, index: usize, id: u64, local: Span) {
        let request = self.requests.at(index);
        let span = self.spans.at(index);
        // SAFETY: both are within their arrays, which only `&mut self` reaches.
        unsafe {
            (*request).wr_id = id;
            *span = ffi::ibv_sge { addr: local.address, length: local.length_bytes, lkey: local.key };
        }
    }

    /// Posts the first `count` requests as one list. Where one is refused, those before it have been posted.
    #[inline]
    pub(in crate::verbs) fn post(&mut self, pair: &QueuePair, count: usize) -> io::Result<()> {
        let Some(last) = count.checked_sub(1) else { return Ok(()) };
        let mut refused = ptr::null_mut();
        // SAFETY: as for sends.
        unsafe {
            (*self.requests.at(last)).next = ptr::null_mut();
            let code = ffi::ibv_post_recv(pair.as_ptr(), self.requests.at(0), &raw mut refused);
            (*self.requests.at(last)).next = self.next(last);
            check(code)
        }
    }

    fn next(&self, index: usize) -> *mut ffi::ibv_recv_wr {
        if index + 1 < self.requests.count { self.requests.at(index + 1) } else { ptr::null_mut() }
    }
}
