//! What the double has given out, and what was done out of order.

use std::alloc::Layout;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::told::TOLD;

/// Memory that the GPU reaches, by its first address.
pub(crate) enum Memory {
    /// Of the GPU: a file, so that it can be given away, and its mapping.
    Device { file: OwnedFd },
    /// Of the process, registered.
    Registered,
    /// The mapping of something imported.
    External { import: usize },
}

pub(crate) struct Span {
    pub(crate) length: usize,
    pub(crate) memory: Memory,
}

/// Something imported: the file that is the double's own from then on.
pub(crate) struct Import {
    pub(crate) file: OwnedFd,
    pub(crate) mapped: bool,
}

#[derive(Default)]
pub(crate) struct Account {
    pub(crate) initialised: bool,
    /// Retained, by GPU.
    pub(crate) contexts: BTreeMap<i32, u32>,
    pub(crate) memory: BTreeMap<u64, Span>,
    pub(crate) imports: BTreeMap<usize, Import>,
    pub(crate) streams: BTreeSet<usize>,
    /// With the time that was recorded last, in nanoseconds of the GPU's clock.
    pub(crate) events: BTreeMap<usize, Option<u64>>,
    pub(crate) modules: BTreeSet<usize>,
    next: usize,
    /// Pieces of work so far.
    pub(crate) work: u64,
    pub(crate) lost: bool,
}

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

static ACCOUNT: LazyLock<Mutex<Account>> = LazyLock::new(|| {
    // SAFETY: the function is of this library, which is never unloaded by the program under test.
    unsafe { libc::atexit(at_exit) };
    Mutex::default()
});

pub(crate) fn account() -> MutexGuard<'static, Account> {
    ACCOUNT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Account {
    /// A handle that was never given out before; also a place in memory, so that it may be taken for a pointer.
    pub(crate) fn handle(&mut self) -> usize {
        self.next += 1;
        0x1000 * self.next
    }

    /// The GPU's clock.
    pub(crate) fn now(&self) -> u64 {
        TOLD.takes.map_or_else(|| BEGUN.elapsed().as_nanos() as u64, |microseconds| self.work * microseconds * 1000)
    }

    /// Where a span of memory that the GPU reaches lies in this process; none, and a complaint, where it reaches it not.
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

/// Says that the program did what it must not.
pub(crate) fn complain(what: &str) {
    log(&format!("COMPLAINT {what}"));
}

pub(crate) fn log(line: &str) {
    let Some(path) = std::env::var_os("PEERPATH_CUDA_DOUBLE_LOG") else { return };
    let file = std::fs::File::options().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        // Told by whoever misses the line.
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
        // A GPU that is lost takes everything with it: what it answers to giving things back is an error.
        if count > 0 && !account.lost {
            complain(&format!("{count} {what} were left"));
        }
    }
    log("END");
}

/// A page: what memory is made in.
pub(crate) const PAGE: Layout = match Layout::from_size_align(4096, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("4096 is a power of two"),
};
