//! Owns the trace instance and the probes, and enables them for one recording.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use peerpath_paths::kernel_rules::KERNEL_RULES;

use crate::calls;
use crate::error::ObserveError;
use crate::operation::DmaBufOp;
use crate::owner::{self, Owner, Removed};
use crate::parse::{self, Event};
use crate::probes::{Probes, Purpose};
use crate::trace::{self, Trace};
use crate::trace_instance::Instance;
use crate::tracefs::{Mounted, Tracefs};

/// Options of an [`Observer`].
#[derive(Debug, Clone)]
pub struct ObserverOptions {
    /// The directory that contains `sys` and `proc`: `/`, except in tests.
    pub root: PathBuf,
    /// Size of the trace buffer per CPU, in KiB. One registration needs about 1 KiB, plus 300 bytes per range after the first.
    pub buffer_kib_per_cpu: u32,
}

impl Default for ObserverOptions {
    fn default() -> Self {
        Self { root: "/".into(), buffer_kib_per_cpu: 256 }
    }
}

/// Set of probes that a recording enables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeSet {
    /// The probes that show the path. They run during `map` and slow it down, so durations from such a recording are not
    /// meaningful.
    Path,
    /// Only the probes that show the durations of attach, pin, map, unmap and detach.
    Calls,
    /// Only the probes of one operation or part. No other probe lengthens its calls.
    Call(DmaBufOp),
}

/// Tracepoints that show a mapping. Without them the absence of a mapping event proves nothing.
const MAPPINGS: [(&str, &str); 2] = [("dma", "dma_map_phys"), ("iommu", "map")];

/// The tracepoint that names exporter and device of an attachment. Old kernels lack it; the path does not depend on it.
const ATTACHMENT: (&str, &str) = ("dma_buf", "dma_buf_dynamic_attach");

/// Number of observers that this process has created. It makes the name of each instance and probe group unique.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A trace instance and probes, disabled between recordings. Dropping the observer removes the instance and the probes.
pub struct Observer {
    // The instance is dropped before the probes: the kernel does not remove a probe that is enabled in an instance.
    instance: Instance,
    probes: Probes,
    root: PathBuf,
    group: String,
    missing_tracepoints: Vec<String>,
    missing: Vec<String>,
    removed: Removed,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("group", &self.group).field("missing", &self.missing).finish_non_exhaustive()
    }
}

/// Checks, without changing anything, whether an [`Observer`] can start and create probes.
///
/// # Errors
/// tracefs is not mounted, access is not permitted, or the kernel has no kprobe events.
pub fn available(root: &Path) -> Result<(), ObserveError> {
    // Append an empty string: opening the list in a mode other than append removes all probes of the host.
    Mounted::find(root)?
        .append("kprobe_events", "")
        .map_err(|error| ObserveError::access("cannot create probes", error))
}

impl Observer {
    /// Removes the instances and probes of dead processes, then creates the trace instance and the probes. This takes some
    /// milliseconds.
    ///
    /// # Errors
    /// tracefs or `/proc` is not mounted, access is not permitted, the trace format is unknown, or this process runs in a PID
    /// namespace, so that its threads cannot be identified in the trace.
    pub fn start(options: &ObserverOptions) -> Result<Self, ObserveError> {
        Self::start_in(Arc::new(Mounted::find(&options.root)?), options)
    }

    pub(crate) fn start_in(tracefs: Arc<dyn Tracefs>, options: &ObserverOptions) -> Result<Self, ObserveError> {
        let root = options.root.clone();
        let removed = owner::remove_of(&*tracefs, &|owner| !owner.is_alive(&root))?;
        let me = Owner::of(&root, std::process::id()).ok_or_else(|| {
            ObserveError::new(
                "cannot name the probes",
                "/proc does not list this process, so later runs could not identify its probes.",
                "Mount /proc.",
            )
        })?;
        let group = me.name(SERIAL.fetch_add(1, Ordering::Relaxed));
        let instance = Instance::create(&tracefs, &group, options.buffer_kib_per_cpu)
            .map_err(|error| ObserveError::access("cannot create a trace instance", error))?;
        let probes = Probes::install(&tracefs, &group);
        let mut observer =
            Self { instance, probes, root, group, missing_tracepoints: Vec::new(), missing: Vec::new(), removed };
        observer.check_threads()?;
        observer.note_missing(&*tracefs);
        Ok(observer)
    }

    /// Checks that `/proc` and the trace use the same thread IDs. In a PID namespace they differ.
    fn check_threads(&self) -> Result<(), ObserveError> {
        let access = |error| ObserveError::access("cannot use the trace instance", error);
        self.instance.mark("start").map_err(access)?;
        let (text, _) = self.instance.read().map_err(access)?;
        let log = parse::parse(&text, "");
        let marks = |record: &&parse::Record| matches!(&record.event, Event::Marker(text) if text == "start");
        let Some(marker) = log.records.iter().find(marks) else {
            return Err(ObserveError::new(
                "cannot parse the trace",
                "The trace does not contain the marker that peerpath wrote to it, or its format is unknown.",
                "Report the first lines of /sys/kernel/tracing/trace and the kernel version.",
            ));
        };
        if self.threads().contains(&marker.thread) {
            return Ok(());
        }
        Err(ObserveError::new(
            "cannot identify the threads of this process in the trace",
            "The process runs in a PID namespace (a container), and the kernel's tracing uses the PIDs of the host.",
            "Run in the host's PID namespace (podman and docker: --pid=host).",
        ))
    }

    fn note_missing(&mut self, tracefs: &dyn Tracefs) {
        let lacks = |group: &str, event: &str| !tracefs.exists(&format!("events/{group}/{event}"));
        for (group, event) in MAPPINGS {
            if lacks(group, event) {
                self.missing_tracepoints.push(format!("this kernel has no event {group}:{event}"));
            }
        }
        self.missing.extend_from_slice(&self.missing_tracepoints);
        let (group, event) = ATTACHMENT;
        if lacks(group, event) {
            let since = KERNEL_RULES.iter().find(|rules| rules.attach_event).map(|rules| rules.since);
            let since = since.map_or_else(String::new, |since| format!(", which exists since Linux {since}"));
            self.missing.push(format!(
                "this kernel has no event {group}:{event}{since}: the trace does not name the attached device"
            ));
        }
        self.missing.extend_from_slice(self.probes.missing());
    }

    /// IDs of the threads of this process, from `/proc`.
    fn threads(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.root.join("proc/self/task")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Limits of observation on this kernel, one sentence each; empty if the kernel has all tracepoints and probes.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Instances and probes of dead processes that [`Observer::start`] removed.
    pub fn removed(&self) -> &Removed {
        &self.removed
    }

    /// Enables probes for the threads of this process and for threads that they start. Enabling and disabling takes
    /// milliseconds, so record few registrations rather than every one.
    ///
    /// # Errors
    /// The kernel refuses to enable a probe. No probe stays enabled.
    pub fn begin(&mut self, probes: ProbeSet) -> Result<Recording<'_>, ObserveError> {
        let recording = Recording { observer: self };
        let observer = &*recording.observer;
        let access = |error| ObserveError::access("cannot use the trace instance", error);
        observer.instance.only_threads(&observer.threads()).map_err(access)?;
        observer.instance.clear().map_err(access)?;
        if probes == ProbeSet::Path {
            for (group, event) in MAPPINGS.into_iter().chain([ATTACHMENT]) {
                // A missing tracepoint is listed in `missing`.
                let _ = observer.instance.enable(group, event);
            }
        }
        let serves = |purpose| match (probes, purpose) {
            // Enabling and disabling a probe takes milliseconds, so enable only useful ones.
            (ProbeSet::Path, Purpose::Path) => true,
            (ProbeSet::Path, Purpose::Call(kind)) => kind.is_of_import(),
            (ProbeSet::Calls, Purpose::Call(kind)) => !kind.is_part_of_map(),
            (ProbeSet::Call(wanted), Purpose::Call(kind)) => kind == wanted,
            (ProbeSet::Calls | ProbeSet::Call(_), Purpose::Path) => false,
        };
        for event in observer.probes.events(serves) {
            observer
                .instance
                .enable(&observer.group, event)
                .map_err(|error| ObserveError::access(format!("cannot enable the probe {event}"), error))?;
        }
        observer.instance.mark("begin").map_err(access)?;
        Ok(recording)
    }
}

/// A recording in progress. Dropping it disables the probes and discards the events.
#[derive(Debug)]
pub struct Recording<'a> {
    observer: &'a mut Observer,
}

impl Recording<'_> {
    /// Begins a step, e.g. one registration. [`Trace::durations_per_step_ns`] adds up the calls of each step.
    ///
    /// # Errors
    /// The marker cannot be written to the trace.
    pub fn begin_step(&self) -> Result<(), ObserveError> {
        let access = |error| ObserveError::access("cannot write to the trace", error);
        self.observer.instance.mark(trace::STEP).map_err(access)
    }

    /// Disables the probes and reads the trace.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn end(self) -> Result<Trace, ObserveError> {
        let access = |error| ObserveError::access("cannot read the trace", error);
        let instance = &self.observer.instance;
        instance.disable_all().map_err(access)?;
        let (text, raw) = instance.read().map_err(access)?;
        let log = parse::parse(&text, &raw);
        let calls = calls::pair(&log.records);
        let observer = &*self.observer;
        Ok(Trace {
            log,
            calls,
            records_calls: observer.probes.has("in_dma_buf_dynamic_attach")
                && observer.probes.has("out_dma_buf_dynamic_attach"),
            records_map_type: observer.probes.has("out_pci_p2pdma_map_type"),
            missing_tracepoints: observer.missing_tracepoints.clone(),
            untimed: observer.probes.untimed().to_vec(),
            missing: observer.missing.clone(),
        })
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        // Disabling twice, after `end`, is harmless.
        let _ = self.observer.instance.disable_all();
    }
}
