//! SIGINT, SIGTERM and SIGHUP end a run between two operations, so that everything taken is given back and saved.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Tells whether a signal came, or something else that ends the run.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Catches SIGINT, SIGTERM and SIGHUP (a terminal that went away); a second one ends the program at once.
    ///
    /// # Errors
    /// The handlers could not be installed.
    pub fn install() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first signal finds `seen` unset and only sets it, the second one exits.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&interrupt.seen))?;
            signal_hook::flag::register_usize(signal, Arc::clone(&interrupt.signal), signal as usize)?;
            signal_hook::flag::register(signal, Arc::clone(&interrupt.seen))?;
            signal_hook::flag::register(signal, Arc::clone(&interrupt.stop))?;
        }
        Ok(interrupt)
    }

    /// Whether to end what is going on.
    pub fn is_set(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether a signal came.
    pub fn is_signalled(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// Ends what is going on as a signal would, though none came: the peer of the run is gone.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The flag itself, for loops in other crates.
    pub fn flag(&self) -> &AtomicBool {
        &self.stop
    }

    /// The exit code that a shell expects of a program ended by that signal: 130, 143 or 129.
    pub fn exit_code(&self) -> Option<u8> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => u8::try_from(128 + signal).ok(),
        }
    }
}
