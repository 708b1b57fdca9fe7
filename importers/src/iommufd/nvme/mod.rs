//! A small NVMe driver in user space: one controller, polled queues, reads and writes by device address.
//!
//! Names and numbers: NVM Express Base Specification 1.4 and NVM Command Set. A drive is not believed: what it says of
//! itself is checked before anything is made of it, and it gets no more than a deadline to answer.

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

/// Class code of a function that speaks NVMe: mass storage, non-volatile memory, NVM Express.
pub(super) const CLASS: u32 = 0x01_08_02;
