//! A private trace instance: a ring buffer for the events of selected threads.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::tracefs::Tracefs;

/// Options that fix the text format of the trace. A new instance inherits its options from the top-level instance.
const OPTIONS: [&str; 9] = [
    "context-info",
    "irq-info",
    "noraw",
    "nohex",
    "nobin",
    "nofields",
    "nolatency-format",
    "norecord-tgid",
    // Also record threads that start during the recording.
    "event-fork",
];

/// An existing trace instance. Dropping it removes it.
pub(crate) struct Instance {
    tracefs: Arc<dyn Tracefs>,
    name: String,
}

impl Instance {
    /// Creates an instance with all events disabled.
    pub(crate) fn create(tracefs: &Arc<dyn Tracefs>, name: &str, buffer_kib_per_cpu: u32) -> io::Result<Self> {
        tracefs.make_dir(&format!("instances/{name}"))?;
        let instance = Self { tracefs: Arc::clone(tracefs), name: name.into() };
        // The default of 1.4 MiB per CPU is far more than one registration needs.
        instance.write("buffer_size_kb", &buffer_kib_per_cpu.to_string())?;
        for option in OPTIONS {
            // An option that this kernel lacks cannot change the format.
            let _ = instance.write("trace_options", option);
        }
        // One clock for all CPUs, in nanoseconds. The default clock differs slightly between CPUs.
        let _ = instance.write("trace_clock", "mono");
        instance.write("tracing_on", "1")?;
        Ok(instance)
    }

    fn path(&self, name: &str) -> String {
        format!("instances/{}/{name}", self.name)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        self.tracefs.write(&self.path(name), text)
    }

    /// Limits recording to these threads and to threads that they start.
    pub(crate) fn only_threads(&self, threads: &[u32]) -> io::Result<()> {
        let ids: Vec<String> = threads.iter().map(u32::to_string).collect();
        self.write("set_event_pid", &ids.join(" "))
    }

    /// Enables one event.
    pub(crate) fn enable(&self, group: &str, event: &str) -> io::Result<()> {
        self.write(&format!("events/{group}/{event}/enable"), "1")
    }

    /// Disables every event of this instance.
    pub(crate) fn disable_all(&self) -> io::Result<()> {
        disable_all(&*self.tracefs, &self.name)
    }

    /// Clears the buffer.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.write("trace", "")
    }

    /// Writes a line of text into the trace.
    pub(crate) fn mark(&self, text: &str) -> io::Result<()> {
        self.write("trace_marker", text)
    }

    /// Returns the trace as text, and in raw format, which has nanosecond timestamps. The raw text is empty if the kernel does
    /// not support this format.
    pub(crate) fn read(&self) -> io::Result<(String, String)> {
        let text = self.tracefs.read(&self.path("trace"))?;
        let raw = match self.write("trace_options", "raw") {
            Ok(()) => self.tracefs.read(&self.path("trace")).unwrap_or_default(),
            Err(_) => String::new(),
        };
        self.write("trace_options", "noraw")?;
        Ok((text, raw))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // If this fails, the next observer removes the instance as stale.
        let _ = remove(&*self.tracefs, &self.name);
    }
}

fn disable_all(tracefs: &dyn Tracefs, name: &str) -> io::Result<()> {
    tracefs.write(&format!("instances/{name}/events/enable"), "0")
}

/// Removes an instance. Retries for one second, because another program may have a file of the instance open.
pub(crate) fn remove(tracefs: &dyn Tracefs, name: &str) -> io::Result<()> {
    let _ = disable_all(tracefs, name);
    let mut retries = 20;
    loop {
        match tracefs.remove_dir(&format!("instances/{name}")) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && retries > 0 => retries -= 1,
            other => return other,
        }
        thread::sleep(Duration::from_millis(50));
    }
}
