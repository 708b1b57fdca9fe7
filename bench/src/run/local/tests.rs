//! Tests of runs during which the function of a target is removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use peerpath_exporter::{Buffer, OpenOptions, Removal};
use peerpath_importers::{
    Availability, Capabilities, DataPlane, DataPlaneSettings, DeferredRelease, Device, DeviceInfo, Discovered, Error,
    Importer, Op, OpSpec, QueuePairOptions, Registration, Role, Usage,
};
use peerpath_paths::{Cause, Tree};

use crate::environment::Host;
use crate::interrupt::Interrupt;
use crate::plan::{Plan, Target};
use crate::result::{Cell, Outcome, RunResult, Tool};
use crate::route::Routes;
use crate::run::{Progress, Runner};
use crate::store::{Destination, Existing};

/// A fake importer whose device only registers.
struct Fake {
    /// Number of the registration during which the kernel requests the release of the function.
    removed_at: u64,
    /// Number of the registration during which the run is stopped.
    interrupted_at: u64,
    registered: AtomicU64,
    /// Number of open devices.
    opened: AtomicUsize,
    interrupt: Interrupt,
}

static OPS: [OpSpec; 1] = [OpSpec { op: Op::Register, role: Role::Register, summary: "" }];

impl Importer for Fake {
    fn kind(&self) -> &'static str {
        "fake"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { ops: &OPS, ..Capabilities::default() }
    }
    fn usage(&self) -> Usage {
        Usage { form: "fake:DEV", summary: "" }
    }
    fn discover(&self) -> Vec<Discovered> {
        Vec::new()
    }
    fn probe(&self, _address: &str) -> Result<Availability, Error> {
        Ok(Availability::Ready)
    }
    fn open(&self, address: &str, _connection: &QueuePairOptions) -> Result<Arc<dyn Device>, Error> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        // The trait gives `self` a shorter lifetime than the opened device needs.
        let this = fakes().find(|fake| std::ptr::eq(*fake, self)).expect("a leaked device");
        let info = DeviceInfo { name: address.to_owned(), ..DeviceInfo::default() };
        Ok(Arc::new(Opened { info, fake: this, removal: Removal::of(address) }))
    }
}

/// All fake importers of these tests. They are leaked, because a target refers to a static importer.
static FAKES: std::sync::Mutex<Vec<&'static Fake>> = std::sync::Mutex::new(Vec::new());

fn fakes() -> impl Iterator<Item = &'static Fake> {
    FAKES.lock().unwrap().clone().into_iter()
}

fn fake(removed_at: u64, interrupted_at: u64, interrupt: &Interrupt) -> &'static Fake {
    let (registered, opened) = (AtomicU64::new(0), AtomicUsize::new(0));
    let fake = Fake { removed_at, interrupted_at, registered, opened, interrupt: interrupt.clone() };
    let fake: &'static Fake = Box::leak(Box::new(fake));
    FAKES.lock().unwrap().push(fake);
    fake
}

struct Opened {
    info: DeviceInfo,
    fake: &'static Fake,
    removal: Removal,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.fake.opened.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Device for Opened {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn register(self: Arc<Self>, _buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, Error> {
        let number = self.fake.registered.fetch_add(1, Ordering::Relaxed);
        if number == self.fake.removed_at {
            self.removal.request();
        }
        if number == self.fake.interrupted_at {
            self.fake.interrupt.stop();
        }
        Ok(Box::new(Registered { _device: self }))
    }
    fn removal(&self) -> Option<&Removal> {
        Some(&self.removal)
    }
}

struct Registered {
    _device: Arc<Opened>,
}

impl Registration for Registered {
    fn mechanism(&self) -> &'static str {
        "fake"
    }
    fn data_plane(&self, _settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, Error> {
        unreachable!("the device only registers")
    }
    fn unregister(self: Box<Self>) -> Result<DeferredRelease, Error> {
        Ok(DeferredRelease::new(self))
    }
}

/// Records the number of open devices after each cell is saved.
struct Observed(&'static Fake, Vec<usize>);

impl Progress for Observed {
    fn begin(&mut self, _what: &str, _repeat: u32) {}
    fn end(&mut self, _cell: &Cell, _left: u32) {
        self.1.push(self.0.opened.load(Ordering::Relaxed));
    }
    fn failed(&mut self, failure: &crate::failure::Failure) {
        panic!("{failure}");
    }
}

/// Runs three cells on each target, and observes the first target's device.
fn run(interrupt: &Interrupt, targets: &[&'static Fake]) -> (RunResult, Vec<usize>) {
    run_repeats(1, interrupt, targets)
}

/// Like [`run`], with `repeats` repeats of each cell.
fn run_repeats(repeats: u32, interrupt: &Interrupt, targets: &[&'static Fake]) -> (RunResult, Vec<usize>) {
    let targets_of_plan = targets.iter().map(|&importer| Target { importer, address: "fake0".into() }).collect();
    let plan = Plan {
        ops: vec![Op::Register],
        sizes_bytes: vec![4096, 8192, 16384],
        iterations: Some(200),
        repeats,
        ..Plan::new(vec!["host:64K".parse().unwrap()], targets_of_plan)
    };
    let folder = tempfile::tempdir().unwrap();
    let mut runner = Runner {
        plan: &plan,
        tool: Tool { name: "peerpath".to_owned(), version: "0".to_owned(), git_revision: None },
        arguments: Vec::new(),
        open: &OpenOptions::default(),
        changes: &peerpath_host::Options::default(),
        destination: Destination::Folder(folder.path(), Existing::Refuse),
        interrupt,
        host: Host::new(Tree::live()),
        routes: Routes::live(),
        peer: None,
    };
    let mut observed = Observed(targets[0], Vec::new());
    let result = runner.run(&mut observed).unwrap();
    (result, observed.1)
}

const NEVER: u64 = u64::MAX;

fn outcomes(result: &RunResult) -> Vec<(Outcome, Option<Cause>)> {
    result.cells.iter().map(|cell| (cell.outcome, cell.cause)).collect()
}

#[test]
fn a_removal_fails_the_running_and_later_cells_and_the_run_continues() {
    let interrupt = Interrupt::default();
    // Registration 300 is in the second cell, because the first cell registers 201 times.
    let (removed, other) = (fake(300, NEVER, &interrupt), fake(NEVER, NEVER, &interrupt));
    let (result, open) = run(&interrupt, &[removed, other]);
    let (passed, failed) = ((Outcome::Passed, None), (Outcome::Failed, Some(Cause::Removed)));
    assert_eq!(outcomes(&result), [passed, failed, failed, passed, passed, passed]);
    assert!(!result.run.interrupted);
    // The kernel waits until the device is closed, so it is closed before the cell is saved, and never opened again.
    assert_eq!(open, [1, 0, 0, 0, 0, 0]);
    // The measurement ends at the next check, long before its last registration.
    assert!(removed.registered.load(Ordering::Relaxed) < 201 + 201);
    let remedy = result.cells[1].remedy.as_ref().unwrap();
    assert!(remedy.contains("bind it again") && remedy.contains("rescan"), "{remedy}");
    // The records name source and target as before, although both are closed.
    let (before, after) = (&result.cells[0], &result.cells[2]);
    assert_eq!((&before.target, before.source.kind), (&after.target, after.source.kind));
}

#[test]
fn a_cell_that_ends_before_the_removal_is_noticed_passes() {
    let interrupt = Interrupt::default();
    // The last registration of the first cell.
    let fake = fake(200, NEVER, &interrupt);
    let (result, open) = run(&interrupt, &[fake]);
    let failed = (Outcome::Failed, Some(Cause::Removed));
    assert!(matches!(outcomes(&result)[..], [_, second, third] if second == failed && third == failed));
    assert_eq!(open, [0, 0, 0]);
}

#[test]
fn a_signal_at_the_same_time_interrupts_the_run() {
    let interrupt = Interrupt::default();
    let (result, open) = run(&interrupt, &[fake(300, 300, &interrupt)]);
    assert_eq!(outcomes(&result), [(Outcome::Passed, None)]);
    assert!(result.run.interrupted);
    assert_eq!(open, [1]);
}

fn counts(result: &RunResult) -> Vec<Vec<Option<u64>>> {
    result.cells.iter().map(|cell| cell.repeats.iter().map(|repeat| repeat.iterations).collect()).collect()
}

#[test]
fn repeats_share_the_operations_and_the_result_keeps_each_of_them() {
    let interrupt = Interrupt::default();
    let (result, saved) = run_repeats(3, &interrupt, &[fake(NEVER, NEVER, &interrupt)]);
    assert_eq!(counts(&result), vec![[Some(67), Some(67), Some(66)]; 3]);
    assert_eq!(result.cells.iter().map(|cell| cell.size_bytes).collect::<Vec<_>>(), [4096, 8192, 16384]);
    assert!(result.cells.iter().all(|cell| cell.repeats.contains(&cell.measured)));
    assert_eq!(saved.len(), 9, "the result is saved after each repeat");
    assert_eq!(result.run.plan["repeats"], 3);
}

#[test]
fn an_interrupted_run_keeps_the_repeats_that_ended() {
    let interrupt = Interrupt::default();
    // Each repeat registers 68 times, so the fifth one is running.
    let (result, _) = run_repeats(3, &interrupt, &[fake(NEVER, 300, &interrupt)]);
    assert!(result.run.interrupted && outcomes(&result).iter().all(|outcome| *outcome == (Outcome::Passed, None)));
    let counts = counts(&result).concat();
    assert_eq!((result.cells.len(), counts.len()), (3, 4));
}

#[test]
fn a_cell_that_fails_in_a_later_repeat_has_no_figures_but_keeps_its_repeats() {
    let interrupt = Interrupt::default();
    let (result, saved) = run_repeats(3, &interrupt, &[fake(300, NEVER, &interrupt)]);
    assert_eq!(outcomes(&result), [(Outcome::Failed, Some(Cause::Removed)); 3]);
    assert!(result.cells.iter().all(|cell| cell.measured == Default::default()));
    assert_eq!(counts(&result).concat().len(), 4);
    // The fifth repeat fails, and so do the next one of each other cell. None is repeated.
    assert_eq!(saved.len(), 4 + 3);
}
