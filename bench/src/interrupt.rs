//! Ends a run between two operations on SIGINT, SIGTERM and SIGHUP, so that everything is released and the result is saved.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Flag that ends a run. A signal or [`stop`](Self::stop) sets it. The flag of a part of the run is also set when the kernel
/// requests the release of a function that this part uses.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    stop: Arc<AtomicBool>,
    /// Flag of this part of the run only.
    removal: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Creates a flag that SIGINT, SIGTERM and SIGHUP set. A thread calls `arrived` with the number of each signal, and with the
    /// count of signals so far, after the flag is set. Signals that arrive while `arrived` runs wait for its return.
    ///
    /// # Errors
    /// Installing the signal handlers or starting the thread fails.
    pub fn install(mut arrived: impl FnMut(i32, usize) + Send + 'static) -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in SIGNALS {
            signal_hook::flag::register_usize(signal, Arc::clone(&interrupt.signal), signal as usize)?;
            signal_hook::flag::register(signal, Arc::clone(&interrupt.stop))?;
        }
        // Handlers run in the order of their registration, so the flag is already set when the thread wakes up.
        let mut signals = Signals::new(SIGNALS)?;
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for (before, signal) in signals.forever().enumerate() {
                arrived(signal, before + 1);
            }
        })?;
        Ok(interrupt)
    }

    /// Creates a flag for a part of the run. The flag of the whole run also ends this part. The [`removal`](Self::removal) flag
    /// of the part ends only this part.
    #[must_use]
    pub fn of_part(&self) -> Self {
        Self { removal: Arc::default(), ..self.clone() }
    }

    /// Whether this part of the run must end, because the whole run must end or because of a removal.
    pub fn is_set(&self) -> bool {
        self.ends_run() || self.removal.load(Ordering::Relaxed)
    }

    /// Whether the whole run must end, because of a signal or [`stop`](Self::stop).
    pub fn ends_run(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The flag that ends only this part of the run. Pass it to
    /// [`Removal::stop_on_request`](peerpath_exporter::Removal::stop_on_request), which sets it when the kernel requests the release of
    /// a function.
    pub fn removal(&self) -> &Arc<AtomicBool> {
        &self.removal
    }

    /// Whether a signal set the flag.
    pub fn is_signalled(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// Sets the flag without a signal, for example because the connection to the peer is lost.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The flag that ends the whole run, for loops in other crates.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_ends_only_its_part_of_the_run() {
        let run = Interrupt::default();
        let (part, other) = (run.of_part(), run.of_part());
        part.removal().store(true, Ordering::Relaxed);
        assert!(part.is_set() && !part.ends_run());
        assert!(!other.is_set() && !run.is_set());
        run.stop();
        assert!(part.ends_run() && other.is_set() && other.ends_run());
    }
}
