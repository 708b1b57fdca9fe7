//! An RDMA device as far as the conversation is concerned: its transfers are copies between the memories of both sides,
//! which here are one process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use peerpath_exporter::{Buffer, View};
use peerpath_importers::{
    Active, Availability, Completion, Connection, DataPlane, DataPlaneSettings, Device, DeviceInfo, Direction,
    Discovered, Endpoint, Error, Importer, Op, OpSpec, Passive, PortAddress, QueuePairEnd, Region, Registration,
    Remains, Role, Transfer,
};

use crate::peer::active::PeerError;
use crate::plan::Target;

pub(super) struct Copies {
    /// The sends of this device come so many slots late.
    pub(super) shift: usize,
}

static RIGHT: Copies = Copies { shift: 0 };
static WRONG: Copies = Copies { shift: 1 };

pub(super) fn target() -> Target {
    Target { importer: &RIGHT, address: "copy0".into() }
}

/// One that puts everything into the wrong place.
pub(super) fn wrong_target() -> Target {
    Target { importer: &WRONG, address: "copy0".into() }
}

/// The ends that wait for a peer, by the numbers of their queue pairs.
static WAITING: Mutex<Option<HashMap<u32, Arc<Waiting>>>> = Mutex::new(None);
static NUMBERS: AtomicU32 = AtomicU32::new(1);

struct Waiting {
    buffer: Arc<Buffer>,
    receives: Mutex<Vec<u64>>,
    received: AtomicUsize,
}

fn waiting() -> MutexGuard<'static, Option<HashMap<u32, Arc<Waiting>>>> {
    WAITING.lock().unwrap()
}

static OPS: [OpSpec; 4] = [
    OpSpec { op: Op::Register, role: Role::Register, summary: "" },
    OpSpec { op: Op::Write, role: Role::Transfer(Direction::IntoSource), summary: "" },
    OpSpec { op: Op::Read, role: Role::Transfer(Direction::OutOfSource), summary: "" },
    OpSpec { op: Op::Send, role: Role::Transfer(Direction::IntoSource), summary: "" },
];

impl Importer for Copies {
    fn kind(&self) -> &'static str {
        "copies"
    }
    fn form(&self) -> &'static str {
        "copies:DEV"
    }
    fn summary(&self) -> &'static str {
        "copies"
    }
    fn ops(&self) -> &'static [OpSpec] {
        &OPS
    }
    fn discover(&self) -> Vec<Discovered> {
        Vec::new()
    }
    fn probe(&self, _address: &str) -> Result<Availability, Error> {
        Ok(Availability::Ready)
    }
    fn open(&self, address: &str, _connection: &Connection) -> Result<Arc<dyn Device>, Error> {
        let info = DeviceInfo {
            name: address.to_owned(),
            bdf: None,
            driver: None,
            firmware: None,
            soft_rdma: true,
            own_address_space: false,
        };
        Ok(Arc::new(Opened { info, shift: self.shift }))
    }
}

struct Opened {
    info: DeviceInfo,
    shift: usize,
}

impl Device for Opened {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, Error> {
        Ok(Box::new(Registered { buffer, shift: self.shift }))
    }
}

struct Registered {
    buffer: Arc<Buffer>,
    shift: usize,
}

impl Registration for Registered {
    fn mechanism(&self) -> &'static str {
        "copies"
    }
    fn data_plane(&self, _settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, Error> {
        unreachable!("both sides are always apart here")
    }
    fn passive(&self, _depth: u32, _queues: u32) -> Result<Box<dyn Passive + '_>, Error> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let region = Region { length_bytes: self.buffer.length_bytes(), address: 0x1000, key: number };
        let end = Waiting {
            buffer: Arc::clone(&self.buffer),
            receives: Mutex::default(),
            received: AtomicUsize::new(self.shift),
        };
        waiting().get_or_insert_default().insert(number, Arc::new(end));
        Ok(Box::new(Lent { endpoint: endpoint(number, vec![region]) }))
    }
    fn active(&self, _depth: u32, _queues: u32) -> Result<Box<dyn Active<'_> + '_>, Error> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Copying {
            own: endpoint(number, Vec::new()),
            far: Arc::clone(&self.buffer),
            to: None,
            done: Vec::new(),
        }))
    }
    fn unregister(self: Box<Self>) -> Result<Remains, Error> {
        Ok(Remains::new(self))
    }
}

fn endpoint(number: u32, regions: Vec<Region>) -> Endpoint {
    Endpoint {
        queue_pairs: vec![QueuePairEnd { number, first_packet: 0 }],
        address: PortAddress::Lid(1),
        mtu_bytes: 1024,
        reads_in_flight: 1,
        message_bytes: 1 << 30,
        regions,
    }
}

struct Lent {
    endpoint: Endpoint,
}

impl Lent {
    fn end(&self) -> Arc<Waiting> {
        Arc::clone(&waiting().as_ref().unwrap()[&self.endpoint.queue_pairs[0].number])
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        waiting().as_mut().unwrap().remove(&self.endpoint.queue_pairs[0].number);
    }
}

impl Passive for Lent {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
    fn connect(&mut self, _peer: &Endpoint) -> Result<(), Error> {
        Ok(())
    }
    fn receive(&mut self, offsets: &[u64], _length_bytes: u32) -> Result<(), Error> {
        *self.end().receives.lock().unwrap() = offsets.to_vec();
        Ok(())
    }
    fn attend(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

struct Copying {
    own: Endpoint,
    far: Arc<Buffer>,
    to: Option<Arc<Waiting>>,
    done: Vec<u64>,
}

impl<'r> Active<'r> for Copying {
    fn endpoint(&self) -> &Endpoint {
        &self.own
    }
    fn connect(mut self: Box<Self>, peer: &Endpoint) -> Result<Box<dyn DataPlane + 'r>, Error> {
        self.to = waiting().as_ref().and_then(|ends| ends.get(&peer.queue_pairs[0].number).cloned());
        if self.to.is_some() { Ok(self) } else { Err(Error::new(PeerError::OutOfTurn)) }
    }
}

impl DataPlane for Copying {
    fn far(&self) -> Arc<dyn View> {
        Arc::clone(self.far.view())
    }
    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
        let to = self.to.as_ref().unwrap();
        for transfer in batch {
            let mut bytes = vec![0; transfer.length_bytes as usize];
            if transfer.op == Op::Read {
                to.buffer.view().read(transfer.buffer_offset, &mut bytes).unwrap();
                self.far.view().write(transfer.far_offset, &bytes).unwrap();
            } else {
                let mut at = transfer.buffer_offset;
                if transfer.op == Op::Send {
                    let receives = to.receives.lock().unwrap();
                    at = receives[to.received.fetch_add(1, Ordering::Relaxed) % receives.len()];
                }
                self.far.view().read(transfer.far_offset, &mut bytes).unwrap();
                to.buffer.view().write(at, &bytes).unwrap();
            }
            self.done.push(transfer.id);
        }
        Ok(batch.len())
    }
    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
        done.extend(self.done.drain(..).map(|id| Completion { id, result: Ok(()) }));
        Ok(())
    }
}
