//! Unsafe code: memory that a GPU can access, and the copies between that memory and the GPU's own memory.
//!
//! Only this module passes addresses to the GPU. It first checks that every copy lies within both memories.
#![allow(unsafe_code, reason = "a GPU reads and writes at the addresses it is given")]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use peerpath_cuda::{
    Context, DeviceMemory, Error as DriverError, ExternalKind, ExternalMemory, HostKind, HostRegistration, Kernels,
    Stream,
};
use peerpath_exporter::HostMemory;

use crate::Direction;

/// Memory that the driver allows a GPU to access.
pub(super) struct ReachableMemory {
    kind: Reach,
    address: u64,
    length_bytes: u64,
}

enum Reach {
    External(ExternalMemory),
    /// Registration of host memory or of a BAR's mapping. It is dropped before the mapping that it covers.
    Registered(HostRegistration, #[expect(dead_code, reason = "keeps the pages mapped")] HostMemory),
    Device(#[expect(dead_code, reason = "keeps the memory allocated")] Arc<DeviceMemory>),
}

impl ReachableMemory {
    /// Imports a file descriptor as external memory.
    pub(super) fn import(
        context: &Arc<Context>,
        kind: ExternalKind,
        fd: OwnedFd,
        length_bytes: u64,
    ) -> Result<Self, DriverError> {
        let external = ExternalMemory::new(context, kind, fd, length_bytes)?;
        Ok(Self { address: external.address(), length_bytes, kind: Reach::External(external) })
    }

    /// Registers memory that is mapped into this process.
    pub(super) fn register(context: &Arc<Context>, memory: HostMemory, kind: HostKind) -> Result<Self, DriverError> {
        // SAFETY: `HostMemory` keeps its bytes mapped for as long as it lives, without a Rust reference to them. It is
        // dropped after the registration.
        let registration = unsafe { HostRegistration::new(context, memory.address(), memory.length_bytes(), kind) }?;
        let length_bytes = memory.length_bytes() as u64;
        Ok(Self { address: registration.address(), length_bytes, kind: Reach::Registered(registration, memory) })
    }

    /// Wraps memory of a GPU after enabling peer access to it ([`Context::reach`]).
    pub(super) fn of_gpu(context: &Context, memory: &Arc<DeviceMemory>) -> Result<Self, DriverError> {
        context.reach(memory.context())?;
        let (address, length_bytes) = (memory.address(), memory.length_bytes());
        Ok(Self { address, length_bytes, kind: Reach::Device(Arc::clone(memory)) })
    }

    /// Releases the import or the registration, once.
    pub(super) fn release(&mut self) -> Result<(), DriverError> {
        match &mut self.kind {
            Reach::External(external) => external.release(),
            Reach::Registered(registration, _) => registration.unregister(),
            // The exporter owns this memory, and nothing was registered.
            Reach::Device(_) => Ok(()),
        }
    }
}

/// Unit of the GPU that copies the bytes: a copy engine or a kernel.
#[derive(Clone, Copy)]
pub(super) enum Engine<'k> {
    CopyEngine,
    Kernel(&'k Kernels),
}

/// Memory of the GPU (initiator memory), memory that the GPU can access (the buffer), and streams that copy between them.
pub(super) struct CopyStreams<'r> {
    // Dropped first: the drop waits for all copies, so the GPU no longer accesses either memory.
    streams: Box<[Stream]>,
    far: Arc<DeviceMemory>,
    reachable: &'r ReachableMemory,
    buffer_bytes: u64,
}

impl<'r> CopyStreams<'r> {
    pub(super) fn new(
        context: &Arc<Context>,
        reachable: &'r ReachableMemory,
        buffer_bytes: u64,
        streams: u32,
        far_bytes: u64,
    ) -> Result<Self, DriverError> {
        Ok(Self {
            streams: (0..streams).map(|_| Stream::new(context)).collect::<Result<_, _>>()?,
            far: Arc::new(DeviceMemory::new(context, far_bytes)?),
            reachable,
            // The buffer may be shorter than the reachable memory.
            buffer_bytes: buffer_bytes.min(reachable.length_bytes),
        })
    }

    pub(super) fn far(&self) -> &Arc<DeviceMemory> {
        &self.far
    }

    pub(super) fn stream(&self, queue: u32) -> Option<&Stream> {
        self.streams.get(queue as usize)
    }

    /// Whether the bytes lie within the buffer and initiator memory.
    #[inline]
    pub(super) fn fits(&self, buffer_offset: u64, far_offset: u64, length_bytes: u64) -> bool {
        let within = |offset: u64, total: u64| length_bytes <= total && offset <= total - length_bytes;
        within(buffer_offset, self.buffer_bytes) && within(far_offset, self.far.length_bytes())
    }

    /// Whether both addresses and the length are multiples of 4 bytes, the narrowest access of a copy kernel.
    #[inline]
    pub(super) fn is_aligned(&self, buffer_offset: u64, far_offset: u64, length_bytes: u64) -> bool {
        let all = (self.reachable.address + buffer_offset) | (self.far.address() + far_offset) | length_bytes;
        all.is_multiple_of(Kernels::SHORTEST_WORD_BYTES)
    }

    /// Enqueues a copy. Rejects a copy that exceeds the buffer or initiator memory, or that is not aligned for a copy kernel.
    #[inline]
    pub(super) fn post(
        &self,
        stream: &Stream,
        (engine, direction): (Engine<'_>, Direction),
        (buffer_offset, far_offset): (u64, u64),
        length_bytes: u64,
    ) -> Result<(), DriverError> {
        let outside = || DriverError::Nothing { call: "a transfer outside of its memory" };
        if !self.fits(buffer_offset, far_offset, length_bytes) {
            return Err(outside());
        }
        let (buffer, far) = (self.reachable.address + buffer_offset, self.far.address() + far_offset);
        let (to, from) = match direction {
            Direction::IntoSource => (buffer, far),
            Direction::OutOfSource => (far, buffer),
        };
        match engine {
            // SAFETY: both spans lie within the reachable memory and initiator memory, as just checked. Both outlive the streams,
            // whose drop waits for the copy: the reachable memory is borrowed, initiator memory is dropped after the streams.
            Engine::CopyEngine => unsafe { stream.copy(to, from, length_bytes) },
            Engine::Kernel(kernels) if self.is_aligned(buffer_offset, far_offset, length_bytes) => {
                // SAFETY: as above, and the spans are aligned.
                unsafe { kernels.copy(stream, to, from, length_bytes) }
            }
            Engine::Kernel(_) => Err(outside()),
        }
    }
}
