//! Connections whose two ends are on two hosts: each end is made alone, tells the other host of itself, and is connected to
//! what that host has told.

use std::sync::Arc;

use peerpath_exporter::Handle;

use super::bounds::{Bounds, Part, place};
use super::data_plane::VerbsDataPlane;
use super::device::VerbsDevice;
use super::end::{Depths, End};
use super::errors::Error;
use super::registration::VerbsRegistration;
use super::status::{self, SUCCESS};
use super::sys::{Addressing, CompletionQueue, Keys, Mtu, Peer, Polled, Route};
use crate::{Active, DataPlane, Endpoint, Passive, PortAddress, QueuePairEnd, Region};

/// As many receives wait at least, so that sends need not wait for the process that posts them anew.
const LEAST_RECEIVES: u32 = 512;
/// Queue pairs and packets have numbers of 24 bits.
const NUMBER_LIMIT: u32 = 1 << 24;

/// What either side has.
struct Half<'r> {
    // Dropped first: from then on the device touches no memory of this side.
    end: End,
    completions: Arc<CompletionQueue>,
    registration: &'r VerbsRegistration,
    endpoint: Endpoint,
}

impl<'r> Half<'r> {
    fn new(registration: &'r VerbsRegistration, depths: Depths, regions: Vec<Region>) -> Result<Self, Error> {
        let device = &registration.device;
        let name = || device.info.name.clone();
        let Depths { queues, sends, receives } = depths;
        let depth = sends.max(receives);
        let limit = device.limits.queue_depth.min(device.limits.completions.checked_div(queues).unwrap_or(0));
        let Some(entries) = depth.checked_mul(queues).filter(|_| depth > 0 && depth <= limit) else {
            return Err(Error::Depth { device: name(), depth, queues, limit });
        };
        let completions = CompletionQueue::new(&device.context, entries, device.connection.events);
        let completions =
            Arc::new(completions.map_err(|source| Error::CompletionQueue { device: name(), entries, source })?);
        let is_memory = matches!(registration.buffer.handle(), Handle::Memory(_));
        let end = End::new(device, &completions, depths, is_memory)?;
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
            regions,
        };
        Ok(Self { end, completions, registration, endpoint })
    }

    /// Connects with what the other host has told.
    fn connect(&self, peer: &Endpoint) -> Result<(), Error> {
        let device = &self.registration.device;
        let (route, peers) = meet(device, &self.endpoint, peer).map_err(|why| Error::Peer { why })?;
        self.end.connect(device, &route, &peers)
    }
}

/// How the queue pairs of two hosts are connected, and with which; the `Err` says what does not fit together.
fn meet(device: &VerbsDevice, own: &Endpoint, peer: &Endpoint) -> Result<(Route, Vec<Peer>), String> {
    if peer.queue_pairs.len() != own.queue_pairs.len() {
        return Err(format!("it has {} queue pairs for {} of ours", peer.queue_pairs.len(), own.queue_pairs.len()));
    }
    let addressing = match (peer.address, device.addressing) {
        (PortAddress::Gid(gid), Addressing::Gid { .. }) => Addressing::Gid { index: 0, bytes: gid.octets() },
        (PortAddress::Gid(gid), Addressing::Lid(_)) => return Err(format!("{gid} is not on InfiniBand, as we are")),
        (PortAddress::Lid(lid), Addressing::Lid(_)) => Addressing::Lid(lid),
        (PortAddress::Lid(lid), Addressing::Gid { .. }) => {
            return Err(format!("LID {lid} is not on Ethernet, as we are"));
        }
    };
    let queue_pair = |end: &QueuePairEnd| {
        let QueuePairEnd { number, first_packet } = *end;
        let known = number < NUMBER_LIMIT && first_packet < NUMBER_LIMIT;
        known.then_some(Peer { number, first_packet, addressing }).ok_or("a number has more than 24 bits")
    };
    let peers = peer.queue_pairs.iter().map(queue_pair).collect::<Result<_, _>>()?;
    let mtu = Mtu::of_bytes(peer.mtu_bytes.min(own.mtu_bytes)).ok_or("its MTU is none of the five that there are")?;
    let reads_in_flight = peer.reads_in_flight.min(own.reads_in_flight).max(1);
    Ok((Route { mtu, reads_in_flight, patient: true, ..device.route() }, peers))
}

/// The parts of a buffer on another host.
fn parts_of(regions: &[Region]) -> Result<Vec<Part>, Error> {
    let mut total: u64 = 0;
    for region in regions {
        let sum = total.checked_add(region.length_bytes).zip(region.address.checked_add(region.length_bytes));
        let Some((sum, _)) = sum else { return Err(Error::Peer { why: "its memory leaves the address space".into() }) };
        total = sum;
    }
    let keys = |region: &Region| Keys { base: region.address, local: 0, remote: region.key };
    Ok(Part::in_a_row(regions.iter().map(|region| (region.length_bytes, keys(region)))))
}

/// See [`Passive`].
pub(super) struct VerbsPassive<'r> {
    half: Half<'r>,
    /// Receives that can wait at once.
    capacity: usize,
    parts: Vec<Part>,
    offsets: Vec<u64>,
    length_bytes: u32,
    /// Receives posted so far.
    posted: u64,
    polled: Polled,
}

impl<'r> VerbsPassive<'r> {
    pub(super) fn new(registration: &'r VerbsRegistration, depth: u32, queues: u32) -> Result<Self, Error> {
        let parts = registration.parts();
        let regions = parts.iter().map(Part::region).collect();
        // With more than one queue pair nothing is sent, and nothing received.
        let wanted = if queues == 1 { depth.max(LEAST_RECEIVES) } else { 1 };
        let receives = wanted.min(registration.device.limits.queue_depth);
        let half = Half::new(registration, Depths { queues, sends: 0, receives }, regions)?;
        let capacity = receives as usize;
        let polled = Polled::with_room_for(capacity);
        Ok(Self { half, capacity, parts, offsets: Vec::new(), length_bytes: 0, posted: 0, polled })
    }

    fn post(&mut self, count: usize) -> Result<(), Error> {
        for index in 0..count {
            let offset = self.offsets[((self.posted + index as u64) % self.offsets.len() as u64) as usize];
            let Some(place) = place(&self.parts, offset, self.length_bytes.into()) else {
                let why = format!("{} bytes at {offset:#x} do not lie in the buffer", self.length_bytes);
                return Err(Error::Transfer { why });
            };
            self.half.end.fill_receive(index, index as u64, place, self.length_bytes);
        }
        self.posted += count as u64;
        self.half.end.post_receives(0, count).map_err(|source| Error::Post { source })
    }
}

impl Passive for VerbsPassive<'_> {
    fn endpoint(&self) -> &Endpoint {
        &self.half.endpoint
    }

    fn connect(&mut self, peer: &Endpoint) -> Result<(), crate::Error> {
        Ok(self.half.connect(peer)?)
    }

    fn receive(&mut self, offsets: &[u64], length_bytes: u32) -> Result<(), crate::Error> {
        if offsets.is_empty() {
            return Err(Error::Transfer { why: "there is nowhere to receive".to_owned() }.into());
        }
        self.offsets = offsets.to_vec();
        self.length_bytes = length_bytes;
        Ok(self.post(self.capacity)?)
    }

    fn attend(&mut self) -> Result<(), crate::Error> {
        let count = self.half.completions.poll(&mut self.polled).map_err(|source| Error::Poll { source })?;
        let failed = (0..count).map(|index| self.polled.get(index).status).find(|status| *status != SUCCESS);
        if let Some(status) = failed {
            let dma_buf = !matches!(self.half.registration.buffer.handle(), Handle::Memory(_));
            return Err(Error::Received { source: status::transfer_error(status, dma_buf) }.into());
        }
        Ok(self.post(count)?)
    }
}

/// See [`Active`].
pub(super) struct VerbsActive<'r> {
    half: Half<'r>,
    depth: u32,
    queues: u32,
}

impl<'r> VerbsActive<'r> {
    pub(super) fn new(registration: &'r VerbsRegistration, depth: u32, queues: u32) -> Result<Self, Error> {
        let half = Half::new(registration, Depths { queues, sends: depth, receives: 0 }, Vec::new())?;
        Ok(Self { half, depth, queues })
    }
}

impl<'r> Active<'r> for VerbsActive<'r> {
    fn endpoint(&self) -> &Endpoint {
        &self.half.endpoint
    }

    fn connect(self: Box<Self>, peer: &Endpoint) -> Result<Box<dyn DataPlane + 'r>, crate::Error> {
        let Self { half, depth, queues } = *self;
        half.connect(peer)?;
        let bounds = Bounds {
            buffer: parts_of(&peer.regions)?,
            far: half.registration.parts(),
            message_bytes: half.endpoint.message_bytes.min(peer.message_bytes),
        };
        let Half { end, completions, registration, .. } = half;
        Ok(Box::new(VerbsDataPlane::apart(registration, end, completions, bounds, (depth, queues))))
    }
}
