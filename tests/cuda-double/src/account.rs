//! Live objects of the fake driver, and complaints about misuse.

use std::alloc::Layout;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::options::OPTIONS;

/// Kind of memory that the GPU can access.
pub(crate) enum Memory {
    /// Memory of the GPU: a mapped file, so that it can be exported.
    Device { file: OwnedFd },
    /// Host memory that the process registered.
    Registered,
    /// Mapping of imported external memory.
    External { import: usize },
}

pub(crate) struct Span {
    pub(crate) length: usize,
    pub(crate) memory: Memory,
}

/// Imported external memory, which owns its file descriptor.
pub(crate) struct Import {
    pub(crate) file: OwnedFd,
    pub(crate) mapped: bool,
}

#[derive(Default)]
pub(crate) struct Account {
    pub(crate) initialised: bool,
    /// Number of times each GPU's context is retained.
    pub(crate) contexts: BTreeMap<i32, u32>,
    pub(crate) memory: BTreeMap<u64, Span>,
    pub(crate) imports: BTreeMap<usize, Import>,
    pub(crate) streams: BTreeSet<usize>,
    /// Time of the last record of each event, in nanoseconds of the GPU's clock.
    pub(crate) events: BTreeMap<usize, Option<u64>>,
    pub(crate) modules: BTreeSet<usize>,
    next: usize,
    /// Number of work items (copies and kernel launches) so far.
    pub(crate) work: u64,
    pub(crate) lost: bool,
}

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

static ACCOUNT: LazyLock<Mutex<Account>> = LazyLock::new(|| {
    // SAFETY: the function is in this library, which the program under test never unloads.
    unsafe { libc::atexit(at_exit) };
    Mutex::default()
});

pub(crate) fn account() -> MutexGuard<'static, Account> {
    ACCOUNT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Account {
    /// Allocates a handle, which is also valid as a pointer value.
    pub(crate) fn handle(&mut self) -> usize {
        self.next += 1;
        0x1000 * self.next
    }

    /// Reads the GPU's clock, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        OPTIONS.takes.map_or_else(|| BEGUN.elapsed().as_nanos() as u64, |microseconds| self.work * microseconds * 1000)
    }

    /// Returns the address in this process of a range that the GPU can access. For other ranges, complains and returns
    /// `None`.
    pub(crate) fn reach(&self, address: u64, length: usize) -> Option<*mut u8> {
        let found = self.memory.range(..=address).next_back();
        match found {
            Some((start, span)) if address - start + length as u64 <= span.length as u64 => Some(address as *mut u8),
            _ => {
                complain(&format!("no GPU can access {length} bytes at {address:#x}"));
                None
            }
        }
    }
}

/// Logs misuse by the program.
pub(crate) fn complain(what: &str) {
    log(&format!("COMPLAINT {what}"));
}

pub(crate) fn log(line: &str) {
    let Some(path) = std::env::var_os("PEERPATH_CUDA_DOUBLE_LOG") else { return };
    let file = std::fs::File::options().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        // If writing fails, the test that expects the line fails.
        let _ = writeln!(file, "{line}");
    }
}

extern "C" fn at_exit() {
    let account = account();
    let left: [(&str, usize); 6] = [
        ("contexts", account.contexts.len()),
        ("memory ranges", account.memory.len()),
        ("imports", account.imports.len()),
        ("streams", account.streams.len()),
        ("events", account.events.len()),
        ("modules", account.modules.len()),
    ];
    for (what, count) in left {
        // Releasing objects of a lost GPU fails, so leftovers are expected.
        if count > 0 && !account.lost {
            complain(&format!("{count} {what} were not released"));
        }
    }
    log("END");
}

/// A page, the granularity of exports.
pub(crate) const PAGE: Layout = match Layout::from_size_align(4096, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("4096 is a power of two"),
};
