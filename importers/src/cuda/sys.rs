//! The only place of this importer that hands addresses to a GPU.
#![allow(unsafe_code, reason = "a GPU reads and writes at the addresses that it is given")]

use std::sync::Arc;

use peerpath_cuda::{Context, DeviceMemory, Error as DriverError, HostKind, HostRegistration, Kernels, Stream};
use peerpath_exporter::HostMemory;

use super::registration::CudaRegistration;

/// Memory mapped into this process that a GPU reaches. The registration is dropped before the mapping.
pub(super) struct RegisteredMemory {
    registration: HostRegistration,
    _memory: HostMemory,
}

impl RegisteredMemory {
    pub(super) fn new(context: &Arc<Context>, memory: HostMemory, kind: HostKind) -> Result<Self, DriverError> {
        // SAFETY: from its address on so many bytes stay mapped as long as the value lives, without a Rust reference to them;
        // it is dropped after the registration.
        let registration = unsafe { HostRegistration::new(context, memory.address(), memory.length_bytes(), kind) }?;
        Ok(Self { registration, _memory: memory })
    }

    pub(super) fn address(&self) -> u64 {
        self.registration.address()
    }

    pub(super) fn release(&mut self) -> Result<(), DriverError> {
        self.registration.unregister()
    }
}

/// What moves bytes between both sides of a transfer.
#[derive(Clone, Copy)]
pub(super) enum By<'k> {
    CopyEngine,
    Kernel(&'k Kernels),
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    IntoBuffer,
    OutOfBuffer,
}

/// Both sides of transfers, and the queues of the GPU that carry them out.
pub(super) struct Lanes<'r> {
    // Dropped first, which waits for what is under way: from then on the GPU touches neither side any more.
    streams: Box<[Stream]>,
    far: Arc<DeviceMemory>,
    buffer_address: u64,
    buffer_bytes: u64,
    registration: &'r CudaRegistration,
}

impl<'r> Lanes<'r> {
    pub(super) fn new(registration: &'r CudaRegistration, queues: u32, far_bytes: u64) -> Result<Self, DriverError> {
        let context = &registration.device.context;
        Ok(Self {
            streams: (0..queues).map(|_| Stream::new(context)).collect::<Result<_, _>>()?,
            far: Arc::new(DeviceMemory::new(context, far_bytes)?),
            buffer_address: registration.reach.address(),
            buffer_bytes: registration.buffer.length_bytes(),
            registration,
        })
    }

    pub(super) fn registration(&self) -> &'r CudaRegistration {
        self.registration
    }

    pub(super) fn far(&self) -> &Arc<DeviceMemory> {
        &self.far
    }

    pub(super) fn stream(&self, queue: u32) -> Option<&Stream> {
        self.streams.get(queue as usize)
    }

    pub(super) fn buffer_bytes(&self) -> u64 {
        self.buffer_bytes
    }

    /// Whether the bytes lie within both sides.
    #[inline]
    pub(super) fn has(&self, buffer_offset: u64, far_offset: u64, length_bytes: u64) -> bool {
        let within = |offset: u64, total: u64| length_bytes <= total && offset <= total - length_bytes;
        within(buffer_offset, self.buffer_bytes) && within(far_offset, self.far.length_bytes())
    }

    /// Whether both addresses and the length are whole words of a kernel's.
    #[inline]
    pub(super) fn in_words(&self, buffer_offset: u64, far_offset: u64, length_bytes: u64) -> bool {
        let all = (self.buffer_address + buffer_offset) | (self.far.address() + far_offset) | length_bytes;
        all.is_multiple_of(Kernels::SHORTEST_WORD_BYTES)
    }

    /// Puts a transfer into a queue. What leaves a side, or is not in words where it has to be, is not put there.
    #[inline]
    pub(super) fn post(
        &self,
        stream: &Stream,
        (by, way): (By<'_>, Way),
        (buffer_offset, far_offset): (u64, u64),
        length_bytes: u64,
    ) -> Result<(), DriverError> {
        let outside = || DriverError::Nothing { call: "a transfer outside of its memory" };
        if !self.has(buffer_offset, far_offset, length_bytes) {
            return Err(outside());
        }
        let (buffer, far) = (self.buffer_address + buffer_offset, self.far.address() + far_offset);
        let (to, from) = match way {
            Way::IntoBuffer => (buffer, far),
            Way::OutOfBuffer => (far, buffer),
        };
        match by {
            // SAFETY: both spans were just seen to lie within the registered buffer and the far side. Both outlive the
            // streams, whose end waits for the copy: the registration is borrowed, the far side dropped after them.
            By::CopyEngine => unsafe { stream.copy(to, from, length_bytes) },
            By::Kernel(kernels) if self.in_words(buffer_offset, far_offset, length_bytes) => {
                // SAFETY: as above; and it is in words.
                unsafe { kernels.copy(stream, to, from, length_bytes) }
            }
            By::Kernel(_) => Err(outside()),
        }
    }
}
