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
    /// The memory that may be read and written, one region behind the other; empty on the side that only posts.
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

/// The side whose buffer is read and written, in wait of a peer on another host.
pub trait Passive: Send {
    /// What the peer has to know.
    fn endpoint(&self) -> &Endpoint;
    /// Lets the peer in.
    ///
    /// # Errors
    /// It does not fit this side, or the device refused.
    fn connect(&mut self, peer: &Endpoint) -> Result<(), Error>;
    /// Waits for sends: each goes to the next of these offsets in the buffer, and behind the last comes the first. Not before
    /// [`Passive::connect`].
    ///
    /// # Errors
    /// One of them leaves the buffer, or the device refused.
    fn receive(&mut self, offsets: &[u64], length_bytes: u32) -> Result<(), Error>;
    /// Makes room for further sends. Without this, and often, the peer's sends find nobody ready.
    ///
    /// # Errors
    /// The connection has ended.
    fn attend(&mut self) -> Result<(), Error>;
}

/// The side that posts transfers between its registered memory and a buffer on another host.
pub trait Active<'registration>: Send {
    /// What the peer has to know.
    fn endpoint(&self) -> &Endpoint;
    /// Gets to the peer. The far side of what is returned is the memory of the registration.
    ///
    /// # Errors
    /// It does not fit this side, or the device refused.
    fn connect(self: Box<Self>, peer: &Endpoint) -> Result<Box<dyn DataPlane + 'registration>, Error>;
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
