//! The objects that the double has created, and the log of incorrect use.

use std::alloc::Layout;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::told::TOLD;

/// Memory that the GPU can access.
pub(crate) enum Memory {
    /// GPU memory: a file, so that it can be exported, and its mapping.
    Device { file: OwnedFd },
    /// Registered memory of the process.
    Registered,
    /// Mapping of an import.
    External { import: usize },
}

pub(crate) struct Span {
    pub(crate) length: usize,
    pub(crate) memory: Memory,
}

/// Imported external memory. The double owns the file.
pub(crate) struct Import {
    pub(crate) file: OwnedFd,
    pub(crate) mapped: bool,
}

#[derive(Default)]
pub(crate) struct Account {
    pub(crate) initialised: bool,
    /// Reference counts of the primary contexts, by GPU.
    pub(crate) contexts: BTreeMap<i32, u32>,
    pub(crate) memory: BTreeMap<u64, Span>,
    pub(crate) imports: BTreeMap<usize, Import>,
    pub(crate) streams: BTreeSet<usize>,
    /// Events, with the last recorded time in nanoseconds of the GPU's clock.
    pub(crate) events: BTreeMap<usize, Option<u64>>,
    pub(crate) modules: BTreeSet<usize>,
    next: usize,
    /// Number of work items so far.
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
    /// A new, unique handle with the form of an aligned pointer.
    pub(crate) fn handle(&mut self) -> usize {
        self.next += 1;
        0x1000 * self.next
    }

    /// Time of the GPU's clock, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        TOLD.takes.map_or_else(|| BEGUN.elapsed().as_nanos() as u64, |microseconds| self.work * microseconds * 1000)
    }

    /// Address in this process of memory that the GPU can access. Otherwise `None`, and a complaint in the log.
    pub(crate) fn reach(&self, address: u64, length: usize) -> Option<*mut u8> {
        let found = self.memory.range(..=address).next_back();
        match found {
            Some((start, span)) if address - start + length as u64 <= span.length as u64 => Some(address as *mut u8),
            _ => {
                complain(&format!("{length} bytes at {address:#x} are reached by no GPU"));
                None
            }
        }
    }
}

/// Logs incorrect use by the program.
pub(crate) fn complain(what: &str) {
    log(&format!("COMPLAINT {what}"));
}

pub(crate) fn log(line: &str) {
    let Some(path) = std::env::var_os("PEERPATH_CUDA_DOUBLE_LOG") else { return };
    let file = std::fs::File::options().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        // The test that reads the log notices a missing line.
        let _ = writeln!(file, "{line}");
    }
}

extern "C" fn at_exit() {
    let account = account();
    let left: [(&str, usize); 6] = [
        ("contexts", account.contexts.len()),
        ("pieces of memory", account.memory.len()),
        ("imports", account.imports.len()),
        ("streams", account.streams.len()),
        ("events", account.events.len()),
        ("modules", account.modules.len()),
    ];
    for (what, count) in left {
        // A lost GPU releases everything itself, and release calls return an error.
        if count > 0 && !account.lost {
            complain(&format!("{count} {what} were left"));
        }
    }
    log("END");
}

/// A page, the unit of allocation.
pub(crate) const PAGE: Layout = match Layout::from_size_align(4096, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("4096 is a power of two"),
};
