//! Passes a dma-buf to another process over a Unix socket of type `SOCK_SEQPACKET`.
//!
//! The sender sends one message: a JSON line with `bdf`, `bar`, `ranges` and `size_bytes`, together with exactly one file
//! descriptor. [`DmaBufSender`] adds `kind` and `"view": 1`. The connection then stays open, and the receiver reads and writes
//! the bytes through the sender's view, with one message for each request and each reply (see `protocol.rs`). A sender without
//! `view` only sends the first message; the receiver then has no view. If the function of the memory is removed, the
//! sender reports that to the receivers before it closes the function. Closing the function revokes the dma-buf.

mod listen;
mod lock;
mod protocol;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use receiver::SocketExporter;
pub use sender::DmaBufSender;
