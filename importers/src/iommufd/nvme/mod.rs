//! A small NVMe driver in user space: one controller, polled queues, reads and writes by I/O virtual address.
//!
//! Names and numbers are from the NVM Express Base Specification 1.4 and the NVM Command Set. The driver does not trust the
//! drive: it checks every value that the drive reports before use, and every command has a timeout.

mod command;
mod completion;
mod controller;
mod error;
mod identify;
mod io_queue;
mod prp;
mod queue;
mod registers;
mod status;

pub(super) use command::Direction;
pub(super) use controller::{Controller, Lifecycle};
pub use error::DriveError;
pub(super) use identify::Drive;
pub(super) use io_queue::IoQueue;
pub use status::Status;

/// Class code of an NVMe controller: mass storage, non-volatile memory, NVM Express.
pub(super) const CLASS: u32 = 0x01_08_02;
