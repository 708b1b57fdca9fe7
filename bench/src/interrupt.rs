//! Ends a run between two operations on SIGINT, SIGTERM and SIGHUP, so that everything is released and the result is saved.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Flag that ends a run. A signal sets it, or the program. The flag of a part of the run is also set when the kernel asks for a
/// function that this part uses.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    stop: Arc<AtomicBool>,
    /// Flag of this part of the run only.
    removal: Arc<AtomicBool>,
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

    /// Creates the flag of a part of the run, which the whole run's flag also sets. Its [`removal`](Self::removal) ends only this
    /// part.
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

    /// The underlying flag of a removal, to pass to [`Removal::stop_on_request`](peerpath_exporter::Removal::stop_on_request).
    pub fn removal(&self) -> &Arc<AtomicBool> {
        &self.removal
    }

    /// Whether a signal set the flag.
    pub fn is_signalled(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// Sets the flag without a signal, for example because the connection to the peer is lost.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The underlying flag of the whole run, for loops in other crates.
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
