//! Holding the instance and the probes, and switching them on around one step.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::calls;
use crate::trace_instance::Instance;
use crate::owner::{self, Owner};
use crate::parse::{self, Event};
use crate::probes::{Probes, Purpose};
use crate::trace::Trace;
use crate::tracefs::{Mounted, Tracefs};
use crate::{Unobservable, owner::Swept};

/// How an [`Observer`] is set up.
#[derive(Debug, Clone)]
pub struct ObserverOptions {
    /// Where `sys` and `proc` are: `/`.
    pub root: PathBuf,
    /// Room for events, for each CPU. One registration takes about 1 KiB, and each range of it after the first 300 bytes.
    pub buffer_kib_per_cpu: u32,
}

impl Default for ObserverOptions {
    fn default() -> Self {
        Self { root: "/".into(), buffer_kib_per_cpu: 256 }
    }
}

/// What is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The path. The probes that tell it sit inside of `map` and make it slower, so its times are not for results.
    Path,
    /// Nothing but the times of `attach`, `map` and `unmap`.
    Times,
}

/// Tracepoints that tell the path.
const TRACEPOINTS: [(&str, &str); 3] =
    [("dma", "dma_map_phys"), ("iommu", "map"), ("dma_buf", "dma_buf_dynamic_attach")];

/// Observers of this process so far: each has names of its own.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Able to observe: the probes are in the kernel, switched off. Dropping it takes them out.
pub struct Observer {
    // Dropped in this order: a probe can go only once the instance, in which it might be switched on, is gone.
    instance: Instance,
    probes: Probes,
    root: PathBuf,
    group: String,
    missing_tracepoints: Vec<String>,
    missing: Vec<String>,
    swept: Swept,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("group", &self.group).field("missing", &self.missing).finish_non_exhaustive()
    }
}

/// Whether an [`Observer`] could be started, as far as that can be told without touching anything.
///
/// # Errors
/// Tracing is not mounted, not permitted, or has no probes.
pub fn available(root: &Path) -> Result<(), Unobservable> {
    // Opened for appending, and nothing appended: any other way of opening it removes everybody's probes.
    Mounted::find(root)?
        .append("kprobe_events", "")
        .map_err(|error| Unobservable::access("probes cannot be set", error))
}

impl Observer {
    /// Makes the instance and puts the probes in, after removing what dead processes left. This takes some milliseconds.
    ///
    /// # Errors
    /// Tracing is not mounted, not permitted, or does not tell our threads from others'.
    pub fn start(options: &ObserverOptions) -> Result<Self, Unobservable> {
        Self::start_in(Arc::new(Mounted::find(&options.root)?), options)
    }

    pub(crate) fn start_in(tracefs: Arc<dyn Tracefs>, options: &ObserverOptions) -> Result<Self, Unobservable> {
        let root = options.root.clone();
        let swept = owner::sweep_in(&*tracefs, &|owner| owner.is_alive(&root))?;
        let me = Owner::of(&root, std::process::id()).ok_or_else(|| {
            Unobservable::new(
                "the path cannot be observed",
                "/proc does not show this process, so probes could not be told from those of dead processes.",
                "Mount /proc.",
            )
        })?;
        let group = me.name(SERIAL.fetch_add(1, Ordering::Relaxed));
        let instance = Instance::create(&tracefs, &group, options.buffer_kib_per_cpu)
            .map_err(|error| Unobservable::access("no trace instance can be made", error))?;
        let probes = Probes::install(&tracefs, &group);
        let mut observer =
            Self { instance, probes, root, group, missing_tracepoints: Vec::new(), missing: Vec::new(), swept };
        observer.check_threads()?;
        observer.note_missing(&*tracefs);
        Ok(observer)
    }

    /// In a PID namespace of its own a process does not know the numbers by which the kernel calls its threads.
    fn check_threads(&self) -> Result<(), Unobservable> {
        let access = |error| Unobservable::access("the trace instance cannot be used", error);
        self.instance.mark("start").map_err(access)?;
        let (text, _) = self.instance.read().map_err(access)?;
        let log = parse::parse(&text, "");
        let marks = |record: &&parse::Record| matches!(&record.event, Event::Marker(text) if text == "start");
        let Some(seen) = log.records.iter().find(marks) else {
            return Err(Unobservable::new(
                "the trace cannot be read",
                "A mark that was put into the trace did not come out of it in a form that is understood.",
                "Report the first lines of /sys/kernel/tracing/trace together with the kernel's version.",
            ));
        };
        if self.threads().contains(&seen.thread) {
            return Ok(());
        }
        Err(Unobservable::new(
            "events of this process cannot be told from others'",
            "It runs in a PID namespace (a container), where its threads have other numbers than the kernel's tracing uses.",
            "Run it in the host's PID namespace (podman and docker: --pid=host).",
        ))
    }

    fn note_missing(&mut self, tracefs: &dyn Tracefs) {
        for (group, event) in TRACEPOINTS {
            if !tracefs.exists(&format!("events/{group}/{event}")) {
                self.missing_tracepoints.push(format!("this kernel has no event {group}:{event}"));
            }
        }
        self.missing.extend_from_slice(&self.missing_tracepoints);
        self.missing.extend_from_slice(self.probes.missing());
    }

    /// Our threads, as `/proc` numbers them.
    fn threads(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.root.join("proc/self/task")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// What this kernel does not let us see, one sentence each; empty on a kernel with everything.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// What dead processes had left and was removed at the start.
    pub fn swept(&self) -> &Swept {
        &self.swept
    }

    /// Switches the probes on for the threads of this process. The step to be watched comes next; what it costs to switch
    /// probes on and off (milliseconds) is a reason to watch few steps, not to keep them on.
    ///
    /// # Errors
    /// The kernel refused; nothing stays switched on.
    pub fn begin(&mut self, watch: Watch) -> Result<Watching<'_>, Unobservable> {
        let watching = Watching { observer: self };
        let observer = &*watching.observer;
        let access = |error| Unobservable::access("the trace instance cannot be used", error);
        observer.instance.only_threads(&observer.threads()).map_err(access)?;
        observer.instance.clear().map_err(access)?;
        if watch == Watch::Path {
            for (group, event) in TRACEPOINTS {
                // One that is not there stands in `missing`.
                let _ = observer.instance.switch_on(group, event);
            }
        }
        let serves = |purpose| match (watch, purpose) {
            // Each probe takes milliseconds to switch on and off, so only what is of use.
            (Watch::Path, Purpose::Path) => true,
            (Watch::Path, Purpose::Time(kind)) => kind.is_of_import(),
            (Watch::Times, purpose) => matches!(purpose, Purpose::Time(_)),
        };
        for event in observer.probes.events(serves) {
            observer
                .instance
                .switch_on(&observer.group, event)
                .map_err(|error| Unobservable::access(format!("the probe {event} cannot be switched on"), error))?;
        }
        observer.instance.mark("begin").map_err(access)?;
        Ok(watching)
    }
}

/// Probes are switched on while this lives.
#[derive(Debug)]
pub struct Watching<'a> {
    observer: &'a mut Observer,
}

impl Watching<'_> {
    /// Switches the probes off and reads what they saw.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn end(self) -> Result<Trace, Unobservable> {
        let access = |error| Unobservable::access("the trace cannot be read", error);
        let instance = &self.observer.instance;
        instance.switch_all_off().map_err(access)?;
        let (text, raw) = instance.read().map_err(access)?;
        let log = parse::parse(&text, &raw);
        let calls = calls::pair(&log.records);
        let observer = &*self.observer;
        Ok(Trace {
            log,
            calls,
            sees_calls: observer.probes.has("in_dma_buf_dynamic_attach")
                && observer.probes.has("out_dma_buf_dynamic_attach"),
            sees_map_type: observer.probes.has("out_pci_p2pdma_map_type"),
            missing_tracepoints: observer.missing_tracepoints.clone(),
            missing: observer.missing.clone(),
        })
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        // A second time after `end` does no harm.
        let _ = self.observer.instance.switch_all_off();
    }
}
