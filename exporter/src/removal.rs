//! Removal of a function that this process has open through VFIO.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::Error;

/// Request of the kernel to release a function, because it is being removed from the host (hot-unplug) or unbound from its VFIO
/// driver. The kernel waits until everything that keeps the function open is dropped, mappings of its BARs included. Clones
/// share the state.
#[derive(Debug, Clone)]
pub struct Removal {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Function or memory, for messages.
    name: String,
    is_requested: AtomicBool,
    /// Flags to set when the kernel makes the request.
    stops: Mutex<Vec<Weak<AtomicBool>>>,
}

impl Removal {
    /// Creates the state for the function or memory of this name, without a request. Errors contain the name.
    pub fn of(name: impl Into<String>) -> Self {
        let (name, is_requested, stops) = (name.into(), AtomicBool::new(false), Mutex::default());
        Self { state: Arc::new(State { name, is_requested, stops }) }
    }

    /// Returns whether the kernel has requested the release of the function. Never changes back to false.
    pub fn is_requested(&self) -> bool {
        self.state.is_requested.load(Ordering::Acquire)
    }

    /// Sets `stop` when the kernel requests the release of the function, or at once if it already has. Loops that must
    /// not make system calls can check such a flag.
    pub fn stop_on_request(&self, stop: &Arc<AtomicBool>) {
        let mut stops = self.state.stops.lock().unwrap_or_else(PoisonError::into_inner);
        stops.retain(|stop| stop.strong_count() > 0);
        stops.push(Arc::downgrade(stop));
        // Checked under the lock: a request either is visible here, or sets the flag that was just added.
        if self.is_requested() {
            stop.store(true, Ordering::Release);
        }
    }

    /// Returns the error for an operation that the removal prevents.
    pub fn error(&self) -> Error {
        Error::Removed { name: self.state.name.clone() }
    }

    /// Fails if the kernel has requested the release of the function.
    pub(crate) fn refuse(&self) -> io::Result<()> {
        if self.is_requested() { Err(io::Error::other(self.error())) } else { Ok(()) }
    }

    /// Records that the kernel requested the release of the function, and sets the flags.
    pub fn request(&self) {
        let stops = self.state.stops.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.is_requested.store(true, Ordering::Release);
        for stop in stops.iter().filter_map(Weak::upgrade) {
            stop.store(true, Ordering::Release);
        }
    }
}

/// Thread that waits for the eventfd of a device's request interrupt. Dropping the value ends the thread.
#[derive(Debug)]
pub(crate) struct RequestWatch {
    event: Arc<EventFd>,
    has_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RequestWatch {
    /// Passes a new eventfd to `connect`, and starts the thread. Returns `None` if `connect` fails, as it does for a driver
    /// without a request interrupt.
    pub(crate) fn start(
        removal: &Removal,
        connect: impl FnOnce(&EventFd) -> io::Result<()>,
    ) -> io::Result<Option<Self>> {
        let event = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        if connect(&event).is_err() {
            return Ok(None);
        }
        let has_ended = Arc::new(AtomicBool::new(false));
        let (its_event, its_end, removal) = (Arc::clone(&event), Arc::clone(&has_ended), removal.clone());
        let thread = thread::Builder::new().name("removal".into()).spawn(move || {
            loop {
                match its_event.read() {
                    Err(Errno::EINTR) => {}
                    Ok(_) if !its_end.load(Ordering::Acquire) => return removal.request(),
                    _ => return,
                }
            }
        })?;
        Ok(Some(Self { event, has_ended, thread: Some(thread) }))
    }
}

impl Drop for RequestWatch {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Release);
        // The counter is far below its maximum, so the write cannot block. If it fails, the thread never ends, so do
        // not join it.
        if self.event.write(1).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a watch and returns its eventfd, which the test signals in place of the kernel.
    fn watch(removal: &Removal) -> (RequestWatch, Arc<EventFd>) {
        let watch = RequestWatch::start(removal, |_| Ok(())).unwrap().unwrap();
        let event = Arc::clone(&watch.event);
        (watch, event)
    }

    #[test]
    fn a_request_sets_every_flag_and_repeats_harmlessly() {
        let removal = Removal::of("0000:03:00.0");
        let stops = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false))];
        stops.iter().for_each(|stop| removal.stop_on_request(stop));
        let (mut watch, event) = watch(&removal);
        assert!(!removal.is_requested() && removal.refuse().is_ok());
        event.write(1).unwrap();
        watch.thread.take().unwrap().join().unwrap();
        event.write(1).unwrap();
        assert!(removal.is_requested());
        assert!(stops.iter().all(|stop| stop.load(Ordering::Relaxed)));
        assert!(removal.refuse().unwrap_err().to_string().contains("0000:03:00.0"));
    }

    #[test]
    fn a_flag_that_is_added_after_the_request_is_set_at_once() {
        let removal = Removal::of("0000:03:00.0");
        removal.request();
        let stop = Arc::default();
        removal.stop_on_request(&stop);
        assert!(stop.load(Ordering::Relaxed));
    }

    #[test]
    fn the_thread_ends_with_the_watch_and_requests_nothing() {
        let removal = Removal::of("0000:03:00.0");
        let (watch, event) = watch(&removal);
        drop(watch);
        // The thread held the only other reference.
        assert_eq!(Arc::strong_count(&event), 1);
        assert!(!removal.is_requested());
    }

    #[test]
    fn forgets_flags_that_nothing_uses() {
        let removal = Removal::of("0000:03:00.0");
        for _ in 0..100 {
            removal.stop_on_request(&Arc::default());
        }
        assert!(removal.state.stops.lock().unwrap().len() <= 1);
    }

    #[test]
    fn a_driver_without_the_interrupt_has_no_watch() {
        let removal = Removal::of("0000:03:00.0");
        let refused = RequestWatch::start(&removal, |_| Err(io::ErrorKind::InvalidInput.into())).unwrap();
        assert!(refused.is_none());
    }
}
