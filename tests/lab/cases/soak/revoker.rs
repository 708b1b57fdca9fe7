//! Revokes the memory at random times and records the times.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use libtest_mimic::Failed;
use peerpath_exporter::vfio::Device;
use peerpath_exporter::{BarRange, Buffer, Error, Exporter, Handle, Origin, Packing, VfioExporter, View};

use crate::chance::Chance;

const LONGEST_PAUSE: Duration = Duration::from_secs(6);
const LONGEST_OFF: Duration = Duration::from_millis(300);

pub(super) struct Revoker {
    device: Arc<Device>,
    /// Odd while the memory is revoked. An operation was not disturbed if this value is even and equal before and after it.
    turns: AtomicU64,
    /// Held for writing while the memory is revoked: an access to a BAR that does not respond would kill this process.
    accesses: Arc<RwLock<()>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Revoker {
    pub(super) fn new(device: &Arc<Device>) -> Self {
        let (turns, accesses, counts) = Default::default();
        Self { device: Arc::clone(device), turns, accesses, counts }
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the current value of `turns`, for [`Self::has_revoked_since`].
    pub(super) fn moment(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    /// Whether the memory was revoked, even briefly, since `moment`.
    pub(super) fn has_revoked_since(&self, moment: u64) -> bool {
        moment % 2 == 1 || self.moment() != moment
    }

    pub(super) fn run(&self, mut chance: Chance, is_over: &dyn Fn() -> bool) -> Result<(), Failed> {
        while !is_over() {
            std::thread::sleep(chance.time(LONGEST_PAUSE));
            let name = chance.of(&["reset", "memory off"]);
            let no_access = self.accesses.write().unwrap_or_else(PoisonError::into_inner);
            self.turns.fetch_add(1, Ordering::SeqCst);
            let revoked = match name {
                "reset" => self.device.reset(),
                _ => self.device.set_memory_enabled(false).and_then(|()| {
                    std::thread::sleep(chance.time(LONGEST_OFF));
                    self.device.set_memory_enabled(true)
                }),
            };
            self.turns.fetch_add(1, Ordering::SeqCst);
            drop(no_access);
            revoked?;
            *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        }
        Ok(())
    }
}

/// A part of the BAR. Accesses through its views wait while the memory is revoked.
pub(super) struct Guarded<'e> {
    exporter: &'e VfioExporter,
    part: Origin,
    accesses: Arc<RwLock<()>>,
}

impl<'e> Guarded<'e> {
    pub(super) fn new(exporter: &'e VfioExporter, part: BarRange, revoker: &Revoker) -> Self {
        let part = Origin { ranges: vec![part], ..exporter.origin().clone() };
        Self { exporter, part, accesses: Arc::clone(&revoker.accesses) }
    }
}

impl Exporter for Guarded<'_> {
    fn origin(&self) -> &Origin {
        &self.part
    }

    fn export(&self, length_bytes: u64) -> Result<Arc<Buffer>, Error> {
        let buffer = self.exporter.export_ranges(&self.part.front(length_bytes), Packing::OneDmaBuf)?;
        let dma_buf = buffer.dma_buf().map(|fd| fd.try_clone_to_owned());
        let Some(Ok(dma_buf)) = dma_buf else {
            return Err(Error::NotADmaBuf { source_name: buffer.origin().to_string() });
        };
        let origin = buffer.origin().clone();
        let view = GuardedView { buffer, accesses: Arc::clone(&self.accesses) };
        Ok(Arc::new(Buffer::new(Handle::DmaBuf(dma_buf), origin, Arc::new(view))))
    }
}

struct GuardedView {
    buffer: Arc<Buffer>,
    accesses: Arc<RwLock<()>>,
}

impl View for GuardedView {
    fn length_bytes(&self) -> u64 {
        self.buffer.length_bytes()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let _access = self.accesses.read().unwrap_or_else(PoisonError::into_inner);
        self.buffer.view().read(offset, into)
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let _access = self.accesses.read().unwrap_or_else(PoisonError::into_inner);
        self.buffer.view().write(offset, from)
    }
}
