//! Ends of connections between two hosts or two threads, and the endpoints they exchange.

use std::net::Ipv6Addr;

use peerpath_paths::{Explanation, Severity};
use serde::{Deserialize, Serialize};

use crate::{DataPlane, Error};

/// What one end sends to the other to connect. It may come from another host, so nothing in it is trusted unchecked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The queue pairs, each connected with the one at the same index of the other end.
    pub queue_pairs: Vec<QueuePairEnd>,
    /// Address of the port.
    pub address: PortAddress,
    /// MTU of the port.
    pub mtu_bytes: u32,
    /// Most RDMA reads and atomic operations in flight per queue pair.
    pub reads_in_flight: u8,
    /// Longest message of the port.
    pub message_bytes: u32,
    /// Memory regions that may be read and written, in the order of the buffer.
    pub regions: Vec<Region>,
}

impl Endpoint {
    /// Joins the endpoints of several threads, which differ only in their queue pairs. `None` without any.
    pub fn of_lanes<'a>(lanes: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut lanes = lanes.into_iter();
        let mut whole = lanes.next()?.clone();
        lanes.for_each(|lane| whole.queue_pairs.extend(&lane.queue_pairs));
        Some(whole)
    }

    /// Divides the endpoint among `count` threads, which share one region. `None` where the queue pairs do not divide evenly.
    pub fn lanes(&self, count: usize) -> Option<Vec<Self>> {
        let Self { queue_pairs, regions, .. } = self;
        let divides = count > 0 && queue_pairs.len().is_multiple_of(count) && (count == 1 || regions.len() <= 1);
        let each = divides.then(|| queue_pairs.len() / count)?;
        let lane =
            |lane| Self { queue_pairs: queue_pairs[lane * each..][..each].to_vec(), regions: regions.clone(), ..*self };
        Some((0..count).map(lane).collect())
    }
}

/// Address of a queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePairEnd {
    /// Queue pair number, 24 bits.
    pub number: u32,
    /// Packet sequence number of its first packet, 24 bits.
    pub first_packet: u32,
}

/// Address of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortAddress {
    /// GID, on Ethernet.
    Gid(Ipv6Addr),
    /// LID, on InfiniBand.
    Lid(u16),
}

/// A registered memory region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Length of the region.
    pub length_bytes: u64,
    /// Address of its first byte in work requests.
    pub address: u64,
    /// Remote key (rkey).
    pub key: u32,
}

/// Size of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndSettings {
    /// Most transfers in flight per queue pair.
    pub depth: u32,
    /// Number of queue pairs.
    pub queues: u32,
    /// The other end sends to this one, so this end posts receives.
    pub receives: bool,
}

/// Unconnected queue pairs. The other end belongs to another host or to another thread.
pub trait UnconnectedEnd<'registration>: Send {
    /// What the other end needs to connect.
    fn endpoint(&self) -> &Endpoint;
    /// Connects to the other end.
    ///
    /// # Errors
    /// The endpoint of the other end does not fit this one, or the device refused.
    fn connect(self: Box<Self>, peer: &Endpoint) -> Result<Box<dyn ConnectedEnd + 'registration>, Error>;
}

/// Connected queue pairs. The other end belongs to another host or to another thread.
///
/// This end posts as the far side: the far side of this data plane is the memory of this end, and the buffer is the memory
/// that the other end's endpoint describes.
pub trait ConnectedEnd: DataPlane {
    /// Posts receives for sends of the other end. The sends on queue `q` of `n` go to the offsets at index `q`, `q + n`, `q +
    /// 2n` and so on; after the last offset they start over. Each poll posts receives anew, so poll often.
    ///
    /// # Errors
    /// An offset leaves the memory of this end, or the device refused.
    fn receive(&mut self, offsets: &[u64], length_bytes: u32) -> Result<(), Error>;
    /// Number of sends that have arrived since [`ConnectedEnd::receive`].
    ///
    /// # Errors
    /// The connection failed.
    fn arrived(&mut self) -> Result<u64, Error>;
}

/// The error of devices without queue pairs.
pub(crate) fn no_remote_ends() -> Error {
    let explanation = Explanation::uncaused("Only RDMA devices have queue pairs.", "Use an RDMA device.");
    Error::untyped("cannot connect to another end: the device has no queue pairs", Severity::BadInput, explanation)
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
    fn joins_and_divides_lanes() {
        let lanes = [endpoint(&[1, 2], 1), endpoint(&[3, 4], 1), endpoint(&[5, 6], 1)];
        let whole = Endpoint::of_lanes(&lanes).unwrap();
        assert_eq!(whole, endpoint(&[1, 2, 3, 4, 5, 6], 1));
        assert_eq!(whole.lanes(3).unwrap(), lanes);
        assert_eq!(Endpoint::of_lanes(&[]), None);
    }

    #[test]
    fn rejects_uneven_divisions() {
        for (numbers, regions, count) in
            [(&[1, 2, 3][..], 1, 2), (&[1, 2], 1, 0), (&[1, 2], 2, 2), (&[1], 1, usize::MAX)]
        {
            assert_eq!(endpoint(numbers, regions).lanes(count), None, "{numbers:?} {regions} {count}");
        }
        assert_eq!(endpoint(&[1, 2], 7).lanes(1).unwrap(), [endpoint(&[1, 2], 7)]);
        assert_eq!(endpoint(&[], 0).lanes(1).unwrap(), [endpoint(&[], 0)]);
    }
}
