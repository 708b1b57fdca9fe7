//! Connections between two hosts or two threads. An end is the queue pairs of one side with their memory. An endpoint holds
//! the parameters that an end sends to its peer to connect.

use std::net::Ipv6Addr;

use peerpath_paths::{Explanation, Severity};
use serde::{Deserialize, Serialize};

use crate::{DataPlane, Error};

/// Parameters that each end sends to its peer to connect. The peer may be another host, so every field is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Queue pairs. Each is connected with the peer's queue pair at the same index.
    pub queue_pairs: Vec<QueuePairEnd>,
    /// Address of the port.
    pub address: PortAddress,
    /// MTU of the port, in bytes.
    pub mtu_bytes: u32,
    /// Maximum number of RDMA reads and atomic operations in flight per queue pair.
    pub reads_in_flight: u8,
    /// Maximum message size of the port, in bytes.
    pub message_bytes: u32,
    /// Memory regions that the peer may read and write, in the order of the buffer.
    pub regions: Vec<Region>,
}

impl Endpoint {
    /// Merges the endpoints of several threads, which differ only in their queue pairs. `None` if `lanes` is empty.
    pub fn of_lanes<'a>(lanes: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut lanes = lanes.into_iter();
        let mut whole = lanes.next()?.clone();
        lanes.for_each(|lane| whole.queue_pairs.extend(&lane.queue_pairs));
        Some(whole)
    }

    /// Divides the endpoint among `count` threads, which share one region. `None` if the queue pairs do not divide evenly.
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
    /// Initial packet sequence number (PSN), 24 bits.
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
    /// Length of the region, in bytes.
    pub length_bytes: u64,
    /// Address of the region's first byte in work requests.
    pub address: u64,
    /// Remote key (rkey).
    pub key: u32,
}

/// Number and depth of the queues of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndSettings {
    /// Maximum number of transfers in flight per queue pair.
    pub depth: u32,
    /// Number of queue pairs.
    pub queues: u32,
    /// Whether this end posts receive work requests, because the peer posts sends.
    pub receives: bool,
}

/// Unconnected queue pairs. Their peers belong to another host or another thread.
pub trait UnconnectedEnd<'registration>: Send {
    /// Returns the parameters that the peer needs to connect.
    fn endpoint(&self) -> &Endpoint;
    /// Connects to the peer.
    ///
    /// # Errors
    /// The peer's endpoint is incompatible with this one, or the device cannot connect the queue pairs.
    fn connect(self: Box<Self>, peer: &Endpoint) -> Result<Box<dyn ConnectedEnd + 'registration>, Error>;
}

/// Connected queue pairs. Their peers belong to another host or another thread.
///
/// This end is the initiator of its data plane: it posts the transfers, and initiator memory is the memory of this end. The
/// buffer is the memory that the peer's endpoint describes.
pub trait ConnectedEnd: DataPlane {
    /// Posts receive work requests for the peer's sends. Sends on queue `q` of `n` arrive at the offsets with index `q`,
    /// `q + n`, `q + 2n` and so on, cyclically. Each poll reposts completed receives, so poll often.
    ///
    /// # Errors
    /// An offset exceeds the memory of this end, or the device refused the receives.
    fn receive(&mut self, offsets: &[u64], length_bytes: u32) -> Result<(), Error>;
    /// Returns the number of sends that have arrived since [`ConnectedEnd::receive`].
    ///
    /// # Errors
    /// The connection failed.
    fn arrived(&mut self) -> Result<u64, Error>;
}

/// Returns the error of devices without queue pairs.
pub(crate) fn no_remote_ends() -> Error {
    let explanation = Explanation::uncaused("Only RDMA devices have queue pairs.", "Use an RDMA device.");
    Error::untyped("cannot connect to a peer: the device has no queue pairs", Severity::BadInput, explanation)
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
