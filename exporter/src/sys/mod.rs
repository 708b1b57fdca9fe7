//! System interfaces without safe wrappers: ioctls, mappings, MMIO, and file descriptors in messages. Functions that are
//! not marked `unsafe` are sound for all arguments; each `unsafe` block states why.
#![allow(unsafe_code)] // The kernel's interfaces are pointers and raw fds; everything above this module is safe code.

pub(crate) mod dma_buf;
pub(crate) mod iommufd;
pub(crate) mod mapping;
pub(crate) mod message;
#[cfg(test)]
mod misuse;
pub(crate) mod mmio;
pub(crate) mod vfio;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a file descriptor that a system call returned.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::other(format!("the kernel returned the invalid file descriptor {fd}")));
    }
    // SAFETY: the kernel created this fd for the caller of the system call that returned it, so it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
