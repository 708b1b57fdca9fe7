//! One end of a connection between two hosts, and what the other one has to know of it.

use std::net::Ipv6Addr;

use peerpath_paths::{Class, Explained, Explanation};
use serde::{Deserialize, Serialize};

use crate::{DataPlane, Error};

/// What one side of a connection tells the other one. It comes from another host: whoever uses it checks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The queue pairs, each for the one at its place on the other side.
    pub queue_pairs: Vec<QueuePairEnd>,
    /// Where packets have to go.
    pub address: PortAddress,
    /// The most that goes into one packet.
    pub mtu_bytes: u32,
    /// RDMA reads, atomic operations among them, that may be under way at once on a queue pair.
    pub reads_in_flight: u8,
    /// The longest message that the port carries.
    pub message_bytes: u32,
    /// The memory that may be read and written, one region behind the other.
    pub regions: Vec<Region>,
}

/// A queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePairEnd {
    /// Its number on its device, 24 bits.
    pub number: u32,
    /// The number of the first packet that it sends, 24 bits.
    pub first_packet: u32,
}

/// How a port is found on its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortAddress {
    /// Ethernet.
    Gid(Ipv6Addr),
    /// InfiniBand.
    Lid(u16),
}

/// Memory that was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its length.
    pub length_bytes: u64,
    /// The address of its first byte in requests.
    pub address: u64,
    /// The key that requests show.
    pub key: u32,
}

/// What an end of connections is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndSettings {
    /// Transfers under way at once, at most, on each queue.
    pub depth: u32,
    /// Queues side by side.
    pub queues: u32,
    /// Whether anything is sent to this end, so that it has to wait for that.
    pub receives: bool,
}

/// One end of connections whose other end somebody else has, before they are made.
pub trait LooseEnd<'registration>: Send {
    /// What the other one has to know.
    fn endpoint(&self) -> &Endpoint;
    /// Connects with what the other one has told.
    ///
    /// # Errors
    /// It does not fit this end, or the device refused.
    fn connect(self: Box<Self>, peer: &Endpoint) -> Result<Box<dyn JoinedEnd + 'registration>, Error>;
}

/// One end of connections whose other end somebody else has. It posts as the far side does: the far side of this data plane
/// is what belongs to this end, and its buffer is the memory that the other one told of.
pub trait JoinedEnd: DataPlane {
    /// Waits for sends. What comes on queue `q` of `n` goes to the places `q`, `q + n`, `q + 2n` and so on of these, which
    /// begin anew behind the last one. Polling makes room for further ones, and has to be done often.
    ///
    /// # Errors
    /// One of them leaves this end's memory, or the device refused.
    fn receive(&mut self, offsets: &[u64], length_bytes: u32) -> Result<(), Error>;
    /// How many sends have arrived since [`JoinedEnd::receive`].
    ///
    /// # Errors
    /// The connection has ended.
    fn arrived(&mut self) -> Result<u64, Error>;
}

/// The target reaches no other host.
#[derive(Debug, thiserror::Error)]
#[error("this target reaches no other host")]
pub(crate) struct NoPeers;

impl Explained for NoPeers {
    fn explanation(&self) -> Explanation {
        Explanation::uncaused("Only RDMA devices do.", "Use a target such as verbs:mlx5_0.")
    }

    fn class(&self) -> Class {
        Class::BadInput
    }
}
