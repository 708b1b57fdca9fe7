//! All that this crate asks of the kernel beyond what safe wrappers offer: ioctls, mappings, device memory, fds in
//! messages. Each function is safe to call; the reason stands at every `unsafe` block.
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

/// Takes ownership of an fd that an ioctl made for us.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::other(format!("the kernel answered with the fd {fd}")));
    }
    // SAFETY: the kernel installed this fd for the caller of the ioctl that returned it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
