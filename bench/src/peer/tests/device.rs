//! A fake RDMA device: both sides are in one process, and a transfer is a copy between their memories.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use peerpath_exporter::{Buffer, View};
use peerpath_importers::{
    Availability, Capabilities, Completion, ConnectedEnd, DataPlane, DataPlaneSettings, DeferredRelease, Device,
    DeviceInfo, Direction, Discovered, EndSettings, Endpoint, Error, Importer, Op, OpSpec, Operands, PortAddress,
    QueuePairEnd, QueuePairOptions, Region, Registration, Role, Transfer, UnconnectedEnd, Usage,
};

use crate::peer::error::PeerError;
use crate::plan::Target;

#[derive(Clone, Copy)]
pub(super) struct Copies {
    /// Sends arrive this many slots after the correct slot.
    shift: u64,
    /// Delay between the completion of a write and its arrival.
    late: Duration,
    /// Loss interval: one of this many writes is lost.
    loses: u64,
}

const PLAIN: Copies = Copies { shift: 0, late: Duration::ZERO, loses: u64::MAX };
static RIGHT: Copies = PLAIN;
static WRONG: Copies = Copies { shift: 1, ..PLAIN };
static LATE: Copies = Copies { late: Duration::from_millis(20), ..PLAIN };
static LOSING: Copies = Copies { loses: 6, ..PLAIN };

pub(super) fn target() -> Target {
    Target { importer: &RIGHT, address: "copy0".into() }
}

/// A target whose writes complete before they arrive.
pub(super) fn late_target() -> Target {
    Target { importer: &LATE, address: "copy0".into() }
}

/// A target that loses some writes.
pub(super) fn losing_target() -> Target {
    Target { importer: &LOSING, address: "copy0".into() }
}

/// A target whose sends arrive in the wrong slots.
pub(super) fn wrong_target() -> Target {
    Target { importer: &WRONG, address: "copy0".into() }
}

/// The memory of each side and lane, by the number that its queue pairs share.
static ENDS: Mutex<Option<HashMap<u32, Arc<EndMemory>>>> = Mutex::new(None);
static NUMBERS: AtomicU32 = AtomicU32::new(1);

struct EndMemory {
    buffer: Arc<Buffer>,
    receives: Mutex<Vec<u64>>,
    /// Number of received sends, per queue.
    received: Mutex<Vec<u64>>,
    shift: u64,
}

impl EndMemory {
    /// Receives a send on a queue. The data is in memory before the receive completes.
    fn receive(&self, queue: u32, bytes: &[u8]) {
        let (receives, mut received) = (self.receives.lock().unwrap(), self.received.lock().unwrap());
        let number = u64::from(queue) + received[queue as usize] * received.len() as u64 + self.shift;
        self.buffer.view().write(receives[number as usize % receives.len()], bytes).unwrap();
        received[queue as usize] += 1;
    }
}

fn ends() -> MutexGuard<'static, Option<HashMap<u32, Arc<EndMemory>>>> {
    ENDS.lock().unwrap()
}

static OPS: [OpSpec; 6] = [
    OpSpec { op: Op::Register, role: Role::Register, summary: "" },
    OpSpec { op: Op::Write, role: Role::Transfer(Direction::IntoSource), summary: "" },
    OpSpec { op: Op::Read, role: Role::Transfer(Direction::OutOfSource), summary: "" },
    OpSpec { op: Op::Send, role: Role::Transfer(Direction::IntoSource), summary: "" },
    OpSpec { op: Op::FetchAdd, role: Role::Transfer(Direction::IntoSource), summary: "" },
    OpSpec { op: Op::CmpSwap, role: Role::Transfer(Direction::IntoSource), summary: "" },
];

impl Importer for Copies {
    fn kind(&self) -> &'static str {
        "copies"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { ops: &OPS, queue_pairs: true, ..Capabilities::default() }
    }
    fn usage(&self) -> Usage {
        Usage { form: "copies:DEV", summary: "copies" }
    }
    fn discover(&self) -> Vec<Discovered> {
        Vec::new()
    }
    fn probe(&self, _address: &str) -> Result<Availability, Error> {
        Ok(Availability::Ready)
    }
    fn open(&self, address: &str, _connection: &QueuePairOptions) -> Result<Arc<dyn Device>, Error> {
        let info = DeviceInfo {
            name: address.to_owned(),
            bdf: None,
            driver: None,
            firmware: None,
            soft_rdma: true,
            own_address_space: false,
            model: None,
        };
        Ok(Arc::new(Opened { info, copies: *self }))
    }
}

struct Opened {
    info: DeviceInfo,
    copies: Copies,
}

impl Device for Opened {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, Error> {
        Ok(Box::new(Registered { buffer, copies: self.copies }))
    }
}

struct Registered {
    buffer: Arc<Buffer>,
    copies: Copies,
}

impl Registration for Registered {
    fn mechanism(&self) -> &'static str {
        "copies"
    }
    fn data_plane(&self, _settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, Error> {
        unreachable!("the two sides are two programs")
    }
    fn end(&self, settings: EndSettings) -> Result<Box<dyn UnconnectedEnd<'_> + '_>, Error> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let region = Region { length_bytes: self.buffer.length_bytes(), address: 0x1000, key: number };
        let own = Arc::new(EndMemory {
            buffer: Arc::clone(&self.buffer),
            receives: Mutex::default(),
            received: Mutex::new(vec![0; settings.queues as usize]),
            shift: self.copies.shift,
        });
        ends().get_or_insert_default().insert(number, Arc::clone(&own));
        let pairs = vec![QueuePairEnd { number, first_packet: 0 }; settings.queues as usize];
        let endpoint = Endpoint {
            queue_pairs: pairs,
            address: PortAddress::Lid(1),
            mtu_bytes: 1024,
            reads_in_flight: 1,
            message_bytes: 1 << 30,
            regions: vec![region],
        };
        Ok(Box::new(Copying { endpoint, own, to: None, copies: self.copies, writes: 0, done: Vec::new() }))
    }
    fn unregister(self: Box<Self>) -> Result<DeferredRelease, Error> {
        Ok(DeferredRelease::new(self))
    }
}

struct Copying {
    endpoint: Endpoint,
    own: Arc<EndMemory>,
    to: Option<Arc<EndMemory>>,
    copies: Copies,
    writes: u64,
    done: Vec<u64>,
}

impl Drop for Copying {
    fn drop(&mut self) {
        ends().as_mut().unwrap().remove(&self.endpoint.queue_pairs[0].number);
    }
}

impl<'r> UnconnectedEnd<'r> for Copying {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
    fn connect(mut self: Box<Self>, peer: &Endpoint) -> Result<Box<dyn ConnectedEnd + 'r>, Error> {
        let number = peer.queue_pairs.first().map_or(0, |pair| pair.number);
        self.to = ends().as_ref().and_then(|ends| ends.get(&number).cloned());
        Ok(self)
    }
}

impl ConnectedEnd for Copying {
    fn receive(&mut self, offsets: &[u64], _length_bytes: u32) -> Result<(), Error> {
        *self.own.receives.lock().unwrap() = offsets.to_vec();
        Ok(())
    }
    fn arrived(&mut self) -> Result<u64, Error> {
        Ok(self.own.received.lock().unwrap().iter().sum())
    }
}

impl DataPlane for Copying {
    fn far(&self) -> Arc<dyn View> {
        Arc::clone(self.own.buffer.view())
    }
    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
        let Some(to) = &self.to else { return Err(Error::new(PeerError::Unexpected)) };
        let own = self.own.buffer.view();
        for transfer in batch {
            let mut bytes = vec![0; transfer.length_bytes as usize];
            let theirs = to.buffer.view();
            if transfer.op == Op::Read {
                theirs.read(transfer.buffer_offset, &mut bytes).unwrap();
                own.write(transfer.far_offset, &bytes).unwrap();
            } else if transfer.op.is_atomic() {
                let mut word = [0; 8];
                theirs.read(transfer.buffer_offset, &mut word).unwrap();
                own.write(transfer.far_offset, &word).unwrap();
                let was = u64::from_ne_bytes(word);
                let Operands { compare_add, swap } = transfer.operands;
                let swapped = if was == compare_add { swap } else { was };
                let is = if transfer.op == Op::FetchAdd { was.wrapping_add(compare_add) } else { swapped };
                theirs.write(transfer.buffer_offset, &is.to_ne_bytes()).unwrap();
            } else {
                own.read(transfer.far_offset, &mut bytes).unwrap();
                match transfer.op {
                    Op::Send => to.receive(transfer.queue, &bytes),
                    _ => {
                        self.writes += 1;
                        if self.writes.is_multiple_of(self.copies.loses) {
                            // The write is lost.
                        } else if self.copies.late.is_zero() {
                            theirs.write(transfer.buffer_offset, &bytes).unwrap();
                        } else {
                            let (to, late, offset) = (Arc::clone(to), self.copies.late, transfer.buffer_offset);
                            std::thread::spawn(move || {
                                std::thread::sleep(late);
                                to.buffer.view().write(offset, &bytes).unwrap();
                            });
                        }
                    }
                }
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
