//! Tests of one operation with a fake exporter and a fake importer that share a memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peerpath_exporter::{Buffer, Handle, Origin, SourceKind, View};
use peerpath_importers::{
    Completion, DataPlane, DataPlaneSettings, DeferredRelease, Device, DeviceInfo, Error, Op, Registration, Revocation,
    Transfer, TransferError,
};
use peerpath_paths::{Cause, Explanation};
use quanta::Clock;

use super::summary::{summarize, without_stale_access};
use super::{Operation, Revocable, Timing, Trial, outstanding};
use crate::interrupt::Interrupt;
use crate::measure::Recorder;
use crate::run::cell_error::CellError;
use crate::testing::Bytes;

const MEMORY_BYTES: u64 = 1 << 16;
const SIZE_BYTES: u32 = 256;

/// What a fake importer does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Maps the memory again as soon as it is usable.
    MapsAgain,
    /// Writes, or reads, succeed while the memory is revoked.
    WritesOn,
    ReadsOn,
    /// A refused write still reaches the memory.
    WritesDespiteError,
    /// A write, or a read, of an ended transfer arrives after the memory is usable.
    LateWrite,
    LateRead,
}

/// The exported memory, and whether it is revoked.
struct Memory {
    bytes: Bytes,
    fault: Fault,
    is_revoked: AtomicBool,
    /// Number of revocations so far. A registration of an earlier generation is dead.
    generation: AtomicU64,
    restores: AtomicUsize,
    /// Number of accesses of the exporter's view since the last restore.
    writes: AtomicUsize,
    /// Initiator memory of all data planes, in the order of their creation.
    far: Mutex<Vec<Arc<Bytes>>>,
}

impl Memory {
    fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            bytes: Bytes::new(MEMORY_BYTES),
            fault,
            is_revoked: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            restores: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            far: Mutex::default(),
        })
    }

    fn is_after_restore(&self) -> bool {
        self.restores.load(Ordering::SeqCst) > 0
    }

    fn refuses(&self, generation: u64, op: Op) -> bool {
        let is_dead = generation != self.generation.load(Ordering::SeqCst);
        let is_revoked = self.is_revoked.load(Ordering::SeqCst);
        match (self.fault, op) {
            (Fault::MapsAgain, _) => is_revoked,
            (Fault::WritesOn, Op::Write) | (Fault::ReadsOn, Op::Read) => false,
            _ => is_dead || is_revoked,
        }
    }
}

/// The exporter's view, in which late accesses become visible.
struct ExportView(Arc<Memory>);

impl View for ExportView {
    fn length_bytes(&self) -> u64 {
        self.0.bytes.length_bytes()
    }
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.bytes.read(offset, into)?;
        if self.0.fault == Fault::LateRead && self.0.writes.load(Ordering::SeqCst) == 1 {
            // The second data plane reads. Its memory receives 8 bytes of the second half of the slots.
            let reader = Arc::clone(&self.0.far.lock().unwrap()[1]);
            reader.write(0, &self.0.bytes.bytes(reader.length_bytes(), 8)?)?;
        }
        Ok(())
    }
    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        assert!(!self.0.is_revoked.load(Ordering::SeqCst), "an access of the exporter to revoked memory raises SIGBUS");
        self.0.bytes.write(offset, from)?;
        let is_first = self.0.is_after_restore() && self.0.writes.fetch_add(1, Ordering::SeqCst) == 0;
        if self.0.fault == Fault::LateWrite && is_first {
            let late: Vec<u8> = self.0.bytes.bytes(16, 8)?.iter().map(|byte| !byte).collect();
            self.0.bytes.write(16, &late)?;
        }
        Ok(())
    }
}

struct Function {
    memory: Arc<Memory>,
    kind: Revocation,
    fails: bool,
    revokes: usize,
}

impl Revocable for Function {
    fn export(&mut self, _length_bytes: u64) -> Result<Arc<Buffer>, CellError> {
        let origin = Origin { kind: SourceKind::Vfio, bdf: None, bar: None, ranges: Vec::new() };
        let handle = Handle::DmaBuf(File::open("/dev/null").unwrap().into());
        Ok(Arc::new(Buffer::new(handle, origin, Arc::new(ExportView(Arc::clone(&self.memory))))))
    }
    fn revoke(&mut self) -> Result<(), CellError> {
        self.revokes += 1;
        if self.fails {
            return Err(CellError::failed("cannot reset", Explanation::uncaused("", "")));
        }
        self.memory.is_revoked.store(true, Ordering::SeqCst);
        self.memory.generation.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        if self.kind.ends_with_the_call() {
            self.memory.is_revoked.store(false, Ordering::SeqCst);
        }
        Ok(())
    }
    fn restore(&mut self) -> Result<(), CellError> {
        self.memory.is_revoked.store(false, Ordering::SeqCst);
        self.memory.writes.store(0, Ordering::SeqCst);
        self.memory.restores.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct FakeDevice {
    info: DeviceInfo,
    memory: Arc<Memory>,
}

impl Device for FakeDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn register(self: Arc<Self>, _buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, Error> {
        let generation = self.memory.generation.load(Ordering::SeqCst);
        Ok(Box::new(Registered { memory: Arc::clone(&self.memory), generation }))
    }
}

struct Registered {
    memory: Arc<Memory>,
    generation: u64,
}

impl Registration for Registered {
    fn mechanism(&self) -> &'static str {
        "fake"
    }
    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, Error> {
        let far = Arc::new(Bytes::new(settings.far_bytes));
        self.memory.far.lock().unwrap().push(Arc::clone(&far));
        let (memory, generation) = (Arc::clone(&self.memory), self.generation);
        Ok(Box::new(Plane { memory, generation, far, posted: VecDeque::new(), has_failed: false }))
    }
    fn unregister(self: Box<Self>) -> Result<DeferredRelease, Error> {
        Ok(DeferredRelease::new(self))
    }
}

struct Plane {
    memory: Arc<Memory>,
    generation: u64,
    far: Arc<Bytes>,
    posted: VecDeque<Transfer>,
    has_failed: bool,
}

impl Plane {
    fn transfer(&self, transfer: &Transfer) -> Result<(), &'static str> {
        let is_refused = self.memory.refuses(self.generation, transfer.op);
        if !is_refused || self.memory.fault == Fault::WritesDespiteError {
            let (near, far, length) = (transfer.buffer_offset, transfer.far_offset, transfer.length_bytes as usize);
            match transfer.op {
                Op::Write => self.memory.bytes.write(near, &self.far.bytes(far, length).unwrap()).unwrap(),
                _ if is_refused => {}
                _ => self.far.write(far, &self.memory.bytes.bytes(near, length).unwrap()).unwrap(),
            }
        }
        if is_refused { Err("REM_ACCESS_ERR") } else { Ok(()) }
    }
}

impl DataPlane for Plane {
    fn far(&self) -> Arc<dyn View> {
        Arc::clone(&self.far) as Arc<dyn View>
    }
    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
        if self.has_failed {
            return Ok(0);
        }
        self.posted.extend(batch);
        Ok(batch.len())
    }
    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
        let Some(transfer) = self.posted.pop_front() else { return Ok(()) };
        let outcome = if self.has_failed { Err("WR_FLUSH_ERR") } else { self.transfer(&transfer) };
        self.has_failed |= outcome.is_err();
        let explained = |status| TransferError { status, explanation: Box::new(Explanation::uncaused("", "")) };
        done.push(Completion { id: transfer.id, result: outcome.map_err(explained) });
        Ok(())
    }
}

fn run_with(function: &mut Function, interrupt: &Interrupt) -> Result<Operation, CellError> {
    let device: Arc<dyn Device> =
        Arc::new(FakeDevice { info: DeviceInfo::default(), memory: Arc::clone(&function.memory) });
    let ms = Duration::from_millis;
    let trial = Trial {
        kind: function.kind,
        device: &device,
        size_bytes: SIZE_BYTES,
        outstanding: 4,
        cpu: None,
        clock: &Clock::new(),
        interrupt,
        timing: Timing { after_return: ms(5), drain: ms(30_000), settle: ms(1) },
    };
    trial.run(function)
}

fn run(kind: Revocation, fault: Fault) -> Operation {
    let mut function = Function { memory: Memory::new(fault), kind, fails: false, revokes: 0 };
    let done = run_with(&mut function, &Interrupt::default()).unwrap();
    assert_eq!((function.revokes, function.memory.restores.load(Ordering::SeqCst)), (1, 1));
    done
}

#[test]
fn a_revoked_importer_sees_errors_and_no_stale_bytes() {
    for kind in Revocation::ALL {
        let done = run(kind, Fault::None);
        assert_eq!((done.stale.total(), done.resumed), (0, false), "{kind:?}");
        assert_eq!(done.observed.statuses, [Some("REM_ACCESS_ERR"); 2], "the flushed transfers do not count");
        let unreachable_ns = done.observed.unreachable_ns.unwrap();
        assert!(done.observed.last_access_ns <= unreachable_ns, "{done:?}");
        assert!(done.call_ns >= 1_000_000 && done.usable_again_ns > done.call_ns, "{done:?}");
        assert_eq!(done.verified_bytes, 2 * u64::from(SIZE_BYTES));
        assert!(without_stale_access(kind, 1, &done).is_ok());
    }
}

#[test]
fn a_late_write_and_a_late_read_fail_the_cell() {
    for (fault, expected) in [(Fault::LateWrite, (8, 0)), (Fault::LateRead, (0, 8))] {
        for kind in Revocation::ALL {
            let done = run(kind, fault);
            assert_eq!((done.stale.written, done.stale.read), expected, "{kind:?} {fault:?}");
            match without_stale_access(kind, 3, &done) {
                Err(CellError::Failure(failure)) => {
                    assert_eq!(failure.explanation.cause, Some(Cause::StaleAccess));
                    assert!(failure.what.contains("revocation 3"), "{}", failure.what);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn accesses_that_succeed_while_the_memory_is_revoked_are_stale() {
    for kind in [Revocation::MemoryOff, Revocation::D3, Revocation::Close] {
        let (writes, reads) = (run(kind, Fault::WritesOn), run(kind, Fault::ReadsOn));
        assert!(writes.stale.written >= SIZE_BYTES.into() && writes.stale.read == 0, "{writes:?}");
        assert!(reads.stale.read >= SIZE_BYTES.into() && reads.stale.written == 0, "{reads:?}");
        assert_eq!(writes.observed.statuses, [None, Some("REM_ACCESS_ERR")]);
        assert_eq!(writes.observed.unreachable_ns, None);
    }
}

#[test]
fn a_refused_write_that_reaches_the_memory_is_stale() {
    for kind in Revocation::ALL {
        let done = run(kind, Fault::WritesDespiteError);
        assert!(done.stale.written >= SIZE_BYTES.into(), "{kind:?}: {done:?}");
    }
}

#[test]
fn a_mapping_of_usable_memory_is_no_stale_access_unless_the_function_was_closed() {
    for kind in [Revocation::Reset, Revocation::MemoryOff, Revocation::D3, Revocation::HotReset] {
        let done = run(kind, Fault::MapsAgain);
        assert_eq!((done.stale.total(), done.resumed), (0, true), "{kind:?}");
    }
    let closed = run(Revocation::Close, Fault::MapsAgain);
    assert_eq!((closed.stale.total(), closed.resumed), (2 * u64::from(SIZE_BYTES), false));
}

#[test]
fn makes_the_memory_usable_after_a_call_that_failed() {
    let memory = Memory::new(Fault::None);
    let mut function = Function { memory, kind: Revocation::Reset, fails: true, revokes: 0 };
    let failed = run_with(&mut function, &Interrupt::default());
    assert!(matches!(failed, Err(CellError::Failure(failure)) if failure.what == "cannot reset"));
    assert_eq!((function.revokes, function.memory.restores.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn an_interrupted_run_revokes_nothing() {
    let mut function = Function { memory: Memory::new(Fault::None), kind: Revocation::D3, fails: false, revokes: 0 };
    let interrupt = Interrupt::default();
    interrupt.stop();
    assert!(matches!(run_with(&mut function, &interrupt), Err(CellError::Interrupted)));
    assert_eq!(function.revokes, 0);
}

#[test]
fn summarizes_the_operations_of_a_repeat() {
    let operations = [run(Revocation::Reset, Fault::None), run(Revocation::Reset, Fault::MapsAgain)];
    let mut recorder = Recorder::new(Clock::new());
    let summary = summarize(Revocation::Reset, 4, &operations, &mut recorder).unwrap();
    assert_eq!((summary.kind.as_str(), summary.resumed_operations, summary.stale_bytes), ("reset", 1, 0));
    assert_eq!(summary.write_statuses.values().sum::<u64>(), 2);
    assert_eq!((summary.call_ns.min, summary.call_ns.max), {
        let (one, other) = (operations[0].call_ns, operations[1].call_ns);
        (one.min(other), one.max(other))
    });
    assert!(recorder.count() > 0);
    assert!(summarize(Revocation::Reset, 4, &[], &mut recorder).is_none());
}

#[test]
fn fits_a_write_and_a_read_into_the_memory() {
    assert_eq!(outstanding(4096, 1 << 20), Some(4));
    assert_eq!(outstanding(4096, 4 * 4096), Some(2));
    assert_eq!(outstanding(4096, 4096), None);
    assert_eq!(outstanding(u64::MAX, u64::MAX), None);
}
