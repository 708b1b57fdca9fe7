//! The queue pairs of one side, and the lists of work requests posted on them.

use std::io;
use std::sync::Arc;

use super::bounds::Place;
use super::device::OpenPort;
use super::errors::Error;
use super::sys::{
    CompletionQueue, MemoryRegion, Opcode, Peer, QueuePair, QueuePairCapacity, ReceiveList, Remote, Route, SendFlags,
    SendList, Sge,
};
use crate::{Op, Transfer, Transport};

/// Bytes for the global routing header (GRH) before each received datagram (InfiniBand specification, 9.8.4).
const HEADER_BYTES: u32 = 40;

/// Depths of the queues of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueDepths {
    pub(super) queues: u32,
    /// Send work requests in flight, per queue pair.
    pub(super) sends: u32,
    /// Posted receive work requests, per queue pair.
    pub(super) receives: u32,
}

/// Queue pairs of one side. The owner of this struct registers the memory that their work requests address, and keeps it
/// registered until the queue pairs are destroyed.
pub(super) struct QueuePairs {
    // Dropped first: afterwards the device accesses no memory of this side.
    pairs: Box<[QueuePair]>,
    sends: SendList,
    receives: ReceiveList,
    _header: Option<MemoryRegion>,
    transport: Transport,
    /// Maximum size in bytes of a message that is sent inline. The CPU copies inline data, so it needs memory at an address of
    /// this process.
    inline_bytes: u32,
}

impl QueuePairs {
    /// Creates unconnected queue pairs. `addressable` is true if the memory of this side is registered under addresses of
    /// this process.
    pub(super) fn new(
        device: &OpenPort,
        completions: &Arc<CompletionQueue>,
        depths: QueueDepths,
        addressable: bool,
    ) -> Result<Self, Error> {
        let transport = device.connection.transport;
        let QueueDepths { queues, sends, receives } = depths;
        let inline_bytes = if addressable { device.connection.inline_bytes } else { 0 };
        let capacity = QueuePairCapacity { transport, sends: sends.max(1), receives: receives.max(1), inline_bytes };
        let pair = |_| {
            QueuePair::new(&device.domain, completions, capacity).map_err(|source| Error::QueuePair {
                device: device.info.name.clone(),
                depth: sends.max(receives),
                inline_bytes,
                source,
            })
        };
        let pairs = (0..queues).map(pair).collect::<Result<_, _>>()?;
        let header = (transport == Transport::Ud).then(|| device.scratch(HEADER_BYTES.into())).transpose()?;
        let header_sge = header.as_ref().map(|header| {
            let keys = header.keys();
            Sge { address: keys.base, length_bytes: HEADER_BYTES, key: keys.local }
        });
        Ok(Self {
            pairs,
            sends: SendList::new(sends as usize, None),
            receives: ReceiveList::new(receives as usize, header_sge),
            _header: header,
            transport,
            inline_bytes,
        })
    }

    /// Returns the queue pair numbers, in order.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.pairs.iter().map(QueuePair::number).collect()
    }

    /// Connects each queue pair with the peer at the same index.
    pub(super) fn connect(&self, device: &OpenPort, route: &Route, peers: &[Peer]) -> Result<(), Error> {
        for (pair, peer) in self.pairs.iter().zip(peers) {
            pair.connect(peer, route).map_err(|(state, source)| Error::Connect {
                device: device.info.name.clone(),
                state,
                source,
            })?;
        }
        Ok(())
    }

    /// Moves every queue pair to the error state, which flushes the work requests in flight.
    pub(super) fn fail(&self) {
        for pair in &self.pairs {
            // The call fails only while the device is being removed, which also flushes the work requests.
            let _ = pair.fail();
        }
    }

    /// Fills the send work request at `index` for a transfer that this side posts.
    #[inline]
    pub(super) fn fill_send(&mut self, index: usize, number: u64, transfer: &Transfer, local: Place, remote: Place) {
        let sge = Sge { address: local.address, length_bytes: transfer.length_bytes, key: local.keys.local };
        self.sends.fill(index, number, sge);
        let remote = Remote { address: remote.address, key: remote.keys.remote };
        let sends_data = matches!(transfer.op, Op::Write | Op::WriteImm | Op::Send);
        let flags = SendFlags {
            unsignaled: transfer.unsignaled,
            inline: sends_data && transfer.length_bytes <= self.inline_bytes,
        };
        match transfer.op {
            Op::FetchAdd => self.sends.set_atomic(index, Opcode::FetchAdd, remote, transfer.operands, flags),
            Op::CmpSwap => self.sends.set_atomic(index, Opcode::CmpSwap, remote, transfer.operands, flags),
            Op::Send if self.transport == Transport::Ud => {
                self.sends.set_datagram(index, &self.pairs[transfer.queue as usize], flags);
            }
            Op::Send => self.sends.set_rdma(index, Opcode::Send, remote, flags),
            Op::Read => self.sends.set_rdma(index, Opcode::Read, remote, flags),
            Op::WriteImm => self.sends.set_rdma(index, Opcode::WriteImm, remote, flags),
            _ => self.sends.set_rdma(index, Opcode::Write, remote, flags),
        }
    }

    /// Fills the receive work request at `index`.
    #[inline]
    pub(super) fn fill_receive(&mut self, index: usize, number: u64, into: Place, length_bytes: u32) {
        self.receives.fill(index, number, Sge { address: into.address, length_bytes, key: into.keys.local });
    }

    /// Posts the first `count` send work requests.
    #[inline]
    pub(super) fn post_sends(&mut self, queue: u32, count: usize) -> io::Result<()> {
        self.sends.post(&self.pairs[queue as usize], count)
    }

    /// Posts the first `count` receive work requests.
    #[inline]
    pub(super) fn post_receives(&mut self, queue: u32, count: usize) -> io::Result<()> {
        self.receives.post(&self.pairs[queue as usize], count)
    }
}
