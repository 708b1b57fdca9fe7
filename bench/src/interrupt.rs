//! Ends a run between two operations on SIGINT, SIGTERM and SIGHUP, so that everything is released and the result is saved.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Flag that ends a run. A signal sets it, or the program.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Creates a flag that SIGINT, SIGTERM and SIGHUP set. A second signal ends the process at once.
    ///
    /// # Errors
    /// Installing the signal handlers fails.
    pub fn install() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // The order matters: at the first signal, `seen` is not set yet, so the process continues. At the second signal, it
            // exits.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&interrupt.seen))?;
            signal_hook::flag::register_usize(signal, Arc::clone(&interrupt.signal), signal as usize)?;
            signal_hook::flag::register(signal, Arc::clone(&interrupt.seen))?;
            signal_hook::flag::register(signal, Arc::clone(&interrupt.stop))?;
        }
        Ok(interrupt)
    }

    /// Whether the run must end, because of a signal or [`stop`](Self::stop).
    pub fn is_set(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether a signal set the flag.
    pub fn is_signalled(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// Sets the flag without a signal, for example because the connection to the peer is lost.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The underlying atomic flag, for loops in other crates.
    pub fn flag(&self) -> &AtomicBool {
        &self.stop
    }

    /// The conventional exit code for the signal that arrived: 128 plus its number (SIGINT 130, SIGTERM 143, SIGHUP 129).
    /// `None` if no signal arrived.
    pub fn exit_code(&self) -> Option<u8> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => u8::try_from(128 + signal).ok(),
        }
    }
}
