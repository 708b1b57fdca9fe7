//! Transfers by the copy engines of a GPU, or by loads and stores of a copy kernel.

use std::collections::VecDeque;
use std::sync::Arc;

use peerpath_cuda::{Error as DriverError, Event};
use peerpath_exporter::{GpuView, View};
use peerpath_paths::{Cause, Explained};

use super::errors::Error;
use super::registration::Registration;
use super::sys::{CopyStreams, Engine};
use crate::{Completion, DataPlane, DataPlaneSettings, Direction, Op, Side, Transfer, TransferError};

/// The transfers in flight on a stream, which complete in order.
struct Ring {
    /// One event per transfer in flight, recorded on the stream after the transfer.
    ends: Box<[Event]>,
    /// ID of each transfer in flight, and the index of its event in `ends`.
    in_flight: VecDeque<(u64, usize)>,
    next: usize,
}

impl Ring {
    fn is_full(&self) -> bool {
        self.in_flight.len() == self.ends.len()
    }
}

pub(super) struct CudaDataPlane<'r> {
    // Dropped first: the drop waits for the transfers in flight.
    streams: CopyStreams<'r>,
    registration: &'r Registration,
    rings: Box<[Ring]>,
    /// Event before the first transfer since the last call of `device_time_ns`: the start of the measured time.
    begun: Event,
    has_begun: bool,
    /// Ring and event index of the transfer that completed last.
    last: Option<(usize, usize)>,
    view: Arc<GpuView>,
    /// Error after which this data plane accepts no more transfers.
    ended: Option<DriverError>,
}

impl<'r> CudaDataPlane<'r> {
    pub(super) fn new(registration: &'r Registration, settings: &DataPlaneSettings) -> Result<Self, Error> {
        let DataPlaneSettings { depth, queues, both_sides, far_bytes: bytes } = *settings;
        let (gpu, context) = (registration.device.gpu(), &registration.device.context);
        if both_sides {
            return Err(Error::OneSide { gpu });
        }
        let failed = |source| Error::Failed { gpu, source };
        let streams =
            CopyStreams::new(context, &registration.reachable, registration.buffer.length_bytes(), queues, bytes)
                .map_err(|source| Error::FarMemory { gpu, bytes, source })?;
        let ring = || {
            let ends = (0..depth).map(|_| Event::new(context)).collect::<Result<_, _>>()?;
            Ok(Ring { ends, in_flight: VecDeque::with_capacity(depth as usize), next: 0 })
        };
        let rings = (0..queues).map(|_| ring()).collect::<Result<_, _>>().map_err(failed)?;
        let begun = Event::new(context).map_err(failed)?;
        let view = Arc::new(GpuView::whole(Arc::clone(streams.far())));
        Ok(Self { streams, registration, rings, begun, has_begun: false, last: None, view, ended: None })
    }

    fn gpu(&self) -> u32 {
        self.registration.device.gpu()
    }

    /// Checks a transfer, and returns its engine and direction.
    #[inline]
    fn admit(&self, transfer: &Transfer) -> Result<(Engine<'r>, Direction), Error> {
        let Transfer { buffer_offset, far_offset, length_bytes, .. } = *transfer;
        let length = u64::from(length_bytes);
        let is_ours = transfer.posted_by == Side::Far && (transfer.queue as usize) < self.rings.len();
        if !is_ours || length == 0 || !self.streams.fits(buffer_offset, far_offset, length) {
            return Err(self.rejection(transfer));
        }
        let (by_kernel, direction) = match transfer.op {
            Op::CopyIn => (false, Direction::IntoSource),
            Op::CopyOut => (false, Direction::OutOfSource),
            Op::KernelStore => (true, Direction::IntoSource),
            Op::KernelLoad => (true, Direction::OutOfSource),
            _ => return Err(self.rejection(transfer)),
        };
        if !by_kernel {
            return Ok((Engine::CopyEngine, direction));
        }
        if !self.streams.is_aligned(buffer_offset, far_offset, length) {
            return Err(Error::NotAligned { length_bytes, buffer_offset, far_offset });
        }
        Ok((Engine::Kernel(self.registration.device.kernels()?), direction))
    }

    #[cold]
    fn rejection(&self, transfer: &Transfer) -> Error {
        let Transfer { op, buffer_offset, far_offset, length_bytes, .. } = *transfer;
        let (buffer, far) = (self.registration.buffer.length_bytes(), self.streams.far().length_bytes());
        Error::Transfer {
            why: format!(
                "`{op}` of {length_bytes} bytes exceeds the buffer (offset {buffer_offset:#x} of {buffer:#x} bytes) \
                 or the GPU memory (offset {far_offset:#x} of {far:#x} bytes), or the GPU does not support the \
                 operation"
            ),
        }
    }

    /// Enqueues a transfer. The ring must not be full.
    #[inline]
    fn post(&mut self, transfer: &Transfer, what: (Engine<'_>, Direction)) -> Result<(), DriverError> {
        let Some(stream) = self.streams.stream(transfer.queue) else { return Ok(()) };
        if !self.has_begun {
            stream.record(&self.begun)?;
            self.has_begun = true;
        }
        let places = (transfer.buffer_offset, transfer.far_offset);
        self.streams.post(stream, what, places, u64::from(transfer.length_bytes))?;
        let ring = &mut self.rings[transfer.queue as usize];
        stream.record(&ring.ends[ring.next])?;
        ring.in_flight.push_back((transfer.id, ring.next));
        ring.next = (ring.next + 1) % ring.ends.len();
        Ok(())
    }

    /// Completes every transfer in flight with this error.
    #[cold]
    fn fail(&mut self, error: DriverError, done: &mut Vec<Completion>) {
        for ring in &mut self.rings {
            for (id, _) in ring.in_flight.drain(..) {
                let mut explanation = error.explanation();
                if !error.is_loss() {
                    // The driver accepted the transfer, so the cause is not a refusal.
                    explanation.cause = Some(Cause::TransferFailed);
                }
                let explanation = Box::new(explanation);
                done.push(Completion { id, result: Err(TransferError { status: error.word(), explanation }) });
            }
        }
        self.ended = Some(error);
    }
}

impl DataPlane for CudaDataPlane<'_> {
    fn far(&self) -> Arc<dyn View> {
        Arc::clone(&self.view) as Arc<dyn View>
    }

    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, crate::Error> {
        if let Some(source) = &self.ended {
            return Err(if source.is_loss() {
                Error::Failed { gpu: self.gpu(), source: source.clone() }.into()
            } else {
                Error::Ended.into()
            });
        }
        let mut taken = 0;
        for transfer in batch {
            let what = self.admit(transfer)?;
            if self.rings[transfer.queue as usize].is_full() {
                break;
            }
            if let Err(source) = self.post(transfer, what) {
                self.ended = Some(source.clone());
                return Err(Error::Failed { gpu: self.gpu(), source }.into());
            }
            taken += 1;
        }
        Ok(taken)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), crate::Error> {
        for index in 0..self.rings.len() {
            while let Some((id, place)) = self.rings[index].in_flight.front().copied() {
                match self.rings[index].ends[place].has_completed() {
                    Ok(false) => break,
                    Ok(true) => {
                        self.rings[index].in_flight.pop_front();
                        self.last = Some((index, place));
                        done.push(Completion { id, result: Ok(()) });
                    }
                    Err(error) => {
                        self.fail(error, done);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn device_time_ns(&mut self) -> Option<u64> {
        self.has_begun = false;
        let (ring, place) = self.last.take()?;
        // The GPU does not report which of several streams started first.
        if self.rings.len() > 1 {
            return None;
        }
        let time = self.rings[ring].ends[place].since(&self.begun).ok()?;
        u64::try_from(time.as_nanos()).ok()
    }
}
