//! One end of a connection between two hosts, and what the other one has to know of it.

use std::net::Ipv6Addr;

use peerpath_paths::{Explained, Explanation, Severity};
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

impl Endpoint {
    /// That of lanes which differ in their queue pairs alone; none where there is no lane.
    pub fn of_lanes<'a>(lanes: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut lanes = lanes.into_iter();
        let mut whole = lanes.next()?.clone();
        lanes.for_each(|lane| whole.queue_pairs.extend(&lane.queue_pairs));
        Some(whole)
    }

    /// The lanes that it is made of; none where it cannot be divided like that. Several lanes share one region.
    pub fn lanes(&self, count: usize) -> Option<Vec<Self>> {
        let Self { queue_pairs, regions, .. } = self;
        let divides = count > 0 && queue_pairs.len().is_multiple_of(count) && (count == 1 || regions.len() <= 1);
        let each = divides.then(|| queue_pairs.len() / count)?;
        let lane =
            |lane| Self { queue_pairs: queue_pairs[lane * each..][..each].to_vec(), regions: regions.clone(), ..*self };
        Some((0..count).map(lane).collect())
    }
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
pub trait UnconnectedEnd<'registration>: Send {
    /// What the other one has to know.
    fn endpoint(&self) -> &Endpoint;
    /// Connects with what the other one has told.
    ///
    /// # Errors
    /// It does not fit this end, or the device refused.
    fn connect(self: Box<Self>, peer: &Endpoint) -> Result<Box<dyn ConnectedEnd + 'registration>, Error>;
}

/// One end of connections whose other end somebody else has. It posts as the far side does: the far side of this data plane
/// is what belongs to this end, and its buffer is the memory that the other one told of.
pub trait ConnectedEnd: DataPlane {
    /// Waits for sends. What comes on queue `q` of `n` goes to the places `q`, `q + n`, `q + 2n` and so on of these, which
    /// begin anew behind the last one. Polling makes room for further ones, and has to be done often.
    ///
    /// # Errors
    /// One of them leaves this end's memory, or the device refused.
    fn receive(&mut self, offsets: &[u64], length_bytes: u32) -> Result<(), Error>;
    /// How many sends have arrived since [`ConnectedEnd::receive`].
    ///
    /// # Errors
    /// The connection has ended.
    fn arrived(&mut self) -> Result<u64, Error>;
}

/// The target reaches no other host.
#[derive(Debug, thiserror::Error)]
#[error("this target reaches no other host")]
pub(crate) struct NoRemoteEnds;

impl Explained for NoRemoteEnds {
    fn explanation(&self) -> Explanation {
        Explanation::uncaused("Only RDMA devices do.", "Use a target such as verbs:mlx5_0.")
    }

    fn severity(&self) -> Severity {
        Severity::BadInput
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(numbers: &[u32], regions: usize) -> Endpoint {
        Endpoint {
            queue_pairs: numbers.iter().map(|&number| QueuePairEnd { number, first_packet: 0 }).collect(),
            address: PortAddress::Lid(1),
            mtu_bytes: 1024,
            reads_in_flight: 1,
            message_bytes: 64,
            regions: vec![Region { length_bytes: 64, address: 0, key: 0 }; regions],
        }
    }

    #[test]
    fn lanes_are_put_together_and_divided_again() {
        let lanes = [endpoint(&[1, 2], 1), endpoint(&[3, 4], 1), endpoint(&[5, 6], 1)];
        let whole = Endpoint::of_lanes(&lanes).unwrap();
        assert_eq!(whole, endpoint(&[1, 2, 3, 4, 5, 6], 1));
        assert_eq!(whole.lanes(3).unwrap(), lanes);
        assert_eq!(Endpoint::of_lanes(&[]), None);
    }

    #[test]
    fn what_does_not_divide_is_no_lanes() {
        for (numbers, regions, count) in
            [(&[1, 2, 3][..], 1, 2), (&[1, 2], 1, 0), (&[1, 2], 2, 2), (&[1], 1, usize::MAX)]
        {
            assert_eq!(endpoint(numbers, regions).lanes(count), None, "{numbers:?} {regions} {count}");
        }
        assert_eq!(endpoint(&[1, 2], 7).lanes(1).unwrap(), [endpoint(&[1, 2], 7)]);
        assert_eq!(endpoint(&[], 0).lanes(1).unwrap(), [endpoint(&[], 0)]);
    }
}
