//! A dma-buf passed to another process over a unix socket.
//!
//! The exporting side sends one message: a JSON line `{"bdf", "bar", "ranges", "size_bytes"}` with exactly one fd. Ours adds
//! `"kind"` and `"view": 1`: the connection then stays open, and the receiver looks at the bytes through the exporter's own
//! mapping by requests of one message each (see `protocol.rs`). An exporter that sends the one message only works as well;
//! its bytes cannot be looked at.

mod client;
mod listen;
mod protocol;
mod server;
#[cfg(test)]
mod tests;

pub use client::SocketExporter;
pub use server::ExportServer;
