//! Connections between two hosts or two threads. Each side creates its queue pairs, exchanges endpoints with its peer, and
//! connects.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Handle};

use super::bounds::{Bounds, Part};
use super::data_plane::{FarMemory, QueuePairDataPlane};
use super::device::OpenPort;
use super::errors::Error;
use super::queue_pairs::{QueueDepths, QueuePairs};
use super::registration::Registration;
use super::sys::{Addressing, CompletionQueue, Keys, MemoryRegion, Mtu, Peer, Route};
use crate::{ConnectedEnd, EndSettings, Endpoint, PortAddress, QueuePairEnd, Region, UnconnectedEnd};

/// Number of receives to post per queue pair, if the device allows it. With spare receives, sends do not wait until the
/// receiving process reposts.
const RECEIVES: u32 = 512;
/// Limit of queue pair numbers and packet sequence numbers (PSNs), which have 24 bits.
const NUMBER_LIMIT: u32 = 1 << 24;

/// Unconnected queue pairs of one side.
pub(super) struct UnconnectedQueuePairs<'r> {
    // Dropped first: afterwards the device accesses no memory of this side.
    end: QueuePairs,
    completions: Arc<CompletionQueue>,
    registration: &'r Registration,
    /// Regions of initiator memory. Empty if the registration owns the regions.
    far_regions: Vec<MemoryRegion>,
    memory: Arc<Buffer>,
    parts: Vec<Part>,
    endpoint: Endpoint,
    depths: QueueDepths,
}

impl<'r> UnconnectedQueuePairs<'r> {
    /// Creates queue pairs whose local memory is the registered buffer.
    pub(super) fn new(registration: &'r Registration, settings: EndSettings) -> Result<Self, Error> {
        let parts = registration.parts();
        let memory = FarMemory { regions: Vec::new(), parts, memory: Arc::clone(&registration.buffer) };
        Self::of_far_side(registration, settings, memory)
    }

    /// Creates queue pairs whose local memory is `far`. It is registered with the same device as the buffer of `registration`.
    pub(super) fn of_far_side(
        registration: &'r Registration,
        settings: EndSettings,
        far: FarMemory,
    ) -> Result<Self, Error> {
        let device = &registration.device;
        let EndSettings { depth, queues, receives } = settings;
        let room = device.completions_each(depth, queues, if receives { 2 } else { 1 })?;
        let most = device.limits.queue_depth.min(room - depth);
        let receives = if receives { RECEIVES.min(most).max(depth) } else { 0 };
        let depths = QueueDepths { queues, sends: depth, receives };
        let completions = device.completion_queue(queues * (depth + receives))?;
        let FarMemory { regions: far_regions, memory, parts } = far;
        let is_memory = matches!(memory.handle(), Handle::Memory(_));
        let end = QueuePairs::new(device, &completions, depths, is_memory)?;
        let queue_pair = |number| QueuePairEnd { number, first_packet: 0 };
        let route = device.route();
        let endpoint = Endpoint {
            queue_pairs: end.numbers().into_iter().map(queue_pair).collect(),
            address: match device.addressing {
                Addressing::Gid { bytes, .. } => PortAddress::Gid(bytes.into()),
                Addressing::Lid(lid) => PortAddress::Lid(lid),
            },
            mtu_bytes: route.mtu.bytes(),
            reads_in_flight: route.reads_in_flight,
            message_bytes: device.message_bytes(),
            regions: parts.iter().map(Part::region).collect(),
        };
        Ok(Self { end, completions, registration, far_regions, memory, parts, endpoint, depths })
    }
}

impl<'r> UnconnectedEnd<'r> for UnconnectedQueuePairs<'r> {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn connect(self: Box<Self>, peer: &Endpoint) -> Result<Box<dyn ConnectedEnd + 'r>, crate::Error> {
        let Self { end, completions, registration, far_regions: regions, memory, parts, endpoint, depths } = *self;
        let device = &registration.device;
        let (route, peers) = negotiate(device, &endpoint, peer).map_err(|why| Error::Peer { why })?;
        end.connect(device, &route, &peers)?;
        let bounds = Bounds {
            transport: device.connection.transport,
            atomics: device.limits.atomics,
            buffer: parts_of(&peer.regions)?,
            far: parts.clone(),
            message_bytes: endpoint.message_bytes.min(peer.message_bytes),
        };
        let far = FarMemory { regions, memory, parts };
        Ok(Box::new(QueuePairDataPlane::connected(registration, (end, depths), completions, bounds, far)))
    }
}

/// Returns the parameters and the peers to connect with. The error names the property that differs.
fn negotiate(device: &OpenPort, own: &Endpoint, peer: &Endpoint) -> Result<(Route, Vec<Peer>), String> {
    if peer.queue_pairs.len() != own.queue_pairs.len() {
        let (theirs, ours) = (peer.queue_pairs.len(), own.queue_pairs.len());
        return Err(format!("the peer has {theirs} queue pairs, the local endpoint has {ours}"));
    }
    let addressing = match (peer.address, device.addressing) {
        (PortAddress::Gid(gid), Addressing::Gid { .. }) => Addressing::Gid { index: 0, bytes: gid.octets() },
        (PortAddress::Gid(gid), Addressing::Lid(_)) => {
            return Err(format!("the peer uses Ethernet (GID {gid}), the local port uses InfiniBand"));
        }
        (PortAddress::Lid(lid), Addressing::Lid(_)) => Addressing::Lid(lid),
        (PortAddress::Lid(lid), Addressing::Gid { .. }) => {
            return Err(format!("the peer uses InfiniBand (LID {lid}), the local port uses Ethernet"));
        }
    };
    let queue_pair = |end: &QueuePairEnd| {
        let QueuePairEnd { number, first_packet } = *end;
        let known = number < NUMBER_LIMIT && first_packet < NUMBER_LIMIT;
        known.then_some(Peer { number, first_packet, addressing }).ok_or("a queue pair number or PSN exceeds 24 bits")
    };
    let peers = peer.queue_pairs.iter().map(queue_pair).collect::<Result<_, _>>()?;
    let mtu = Mtu::of_bytes(peer.mtu_bytes.min(own.mtu_bytes)).ok_or("the MTU of the peer is invalid")?;
    let reads_in_flight = peer.reads_in_flight.min(own.reads_in_flight).max(1);
    Ok((Route { mtu, reads_in_flight, retry_rnr_forever: true, ..device.route() }, peers))
}

/// Returns the memory regions of the peer as parts of the buffer.
fn parts_of(regions: &[Region]) -> Result<Vec<Part>, Error> {
    let mut total: u64 = 0;
    for region in regions {
        let sum = total.checked_add(region.length_bytes).zip(region.address.checked_add(region.length_bytes));
        let Some((sum, _)) = sum else {
            return Err(Error::Peer { why: "the end address of the peer's memory exceeds 64 bits".into() });
        };
        total = sum;
    }
    let keys = |region: &Region| Keys { base: region.address, local: 0, remote: region.key };
    Ok(Part::in_a_row(regions.iter().map(|region| (region.length_bytes, keys(region)))))
}
