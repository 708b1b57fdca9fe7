//! The unsafe part: libibverbs, and the uverbs ioctl of the kernel.
//!
//! Everything that crosses into C stands here and nowhere else; what leaves this module is safe. Each object holds the
//! objects it was made of, so none is destroyed while another still needs it. libibverbs allows calls on any of them from
//! any thread.
#![allow(unsafe_code)] // libibverbs is a C library, its data path inline functions over raw work-request lists.

mod backend;
mod device;
mod queue;
mod registration;
mod uverbs;
mod work;

use std::io;

pub(super) use device::{Context, DeviceList, Limits, ListError, ListedDevice, Mtu, Port, PortState};
pub(super) use queue::{Addressing, CompletionQueue, Peer, QueuePair, QueuePairCapacity, Route, WorkCompletions};
pub(super) use registration::{AccessFlags, Keys, MemoryRegion, ProtectionDomain};
pub(super) use work::{Opcode, ReceiveList, Remote, SendFlags, SendList, Sge};

/// What a call returned: libibverbs answers 0, an errno, or -1 with the errno set beside it.
fn check(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code if code > 0 => Err(io::Error::from_raw_os_error(code)),
        _ => Err(io::Error::last_os_error()),
    }
}
