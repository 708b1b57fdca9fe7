//! Unsafe code: libibverbs, and the uverbs ioctl of the kernel.
//!
//! All calls into C are in this module, behind a safe interface. Each object holds references to the objects it was created
//! from, so those are destroyed after it. libibverbs allows calls on all objects from any thread.
#![allow(unsafe_code)] // libibverbs is a C library whose data path works on lists of raw work requests.

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

/// Converts the return value of a libibverbs call: 0, an errno, or -1 with `errno` set.
fn check(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code if code > 0 => Err(io::Error::from_raw_os_error(code)),
        _ => Err(io::Error::last_os_error()),
    }
}
