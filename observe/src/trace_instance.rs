//! A trace instance of our own: a ring buffer that only our threads' events go to.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::tracefs::Tracefs;

/// What the text of a trace must look like to be read; a new instance inherits these from whoever set them on the host.
const OPTIONS: [&str; 9] = [
    "context-info",
    "irq-info",
    "noraw",
    "nohex",
    "nobin",
    "nofields",
    "nolatency-format",
    "norecord-tgid",
    // Threads that start while we watch are ours as well.
    "event-fork",
];

/// An instance that exists; dropping it removes it.
pub(crate) struct Instance {
    tracefs: Arc<dyn Tracefs>,
    name: String,
}

impl Instance {
    /// Makes one, with everything switched off.
    pub(crate) fn create(tracefs: &Arc<dyn Tracefs>, name: &str, buffer_kib_per_cpu: u32) -> io::Result<Self> {
        tracefs.make_dir(&format!("instances/{name}"))?;
        let instance = Self { tracefs: Arc::clone(tracefs), name: name.into() };
        // The default of 1.4 MiB for each CPU is far more than one registration needs.
        instance.write("buffer_size_kb", &buffer_kib_per_cpu.to_string())?;
        for option in OPTIONS {
            // An option that this kernel does not have cannot be in the way.
            let _ = instance.write("trace_options", option);
        }
        // One clock for all CPUs, in nanoseconds; the default one is a little different on each.
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

    /// From now on only events of these threads, and of threads that they start.
    pub(crate) fn only_threads(&self, threads: &[u32]) -> io::Result<()> {
        let words: Vec<String> = threads.iter().map(u32::to_string).collect();
        self.write("set_event_pid", &words.join(" "))
    }

    /// Switches one event on.
    pub(crate) fn switch_on(&self, group: &str, event: &str) -> io::Result<()> {
        self.write(&format!("events/{group}/{event}/enable"), "1")
    }

    /// Switches every event of this instance off.
    pub(crate) fn switch_all_off(&self) -> io::Result<()> {
        switch_all_off(&*self.tracefs, &self.name)
    }

    /// Forgets what was recorded.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.write("trace", "")
    }

    /// Puts a line of text into the trace.
    pub(crate) fn mark(&self, text: &str) -> io::Result<()> {
        self.write("trace_marker", text)
    }

    /// What was recorded, as text and then with exact times; the latter is empty where the kernel does not print them.
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
        // If it stays, the next observer's sweep finds it.
        let _ = remove(&*self.tracefs, &self.name);
    }
}

fn switch_all_off(tracefs: &dyn Tracefs, name: &str) -> io::Result<()> {
    tracefs.write(&format!("instances/{name}/events/enable"), "0")
}

/// Removes an instance. Somebody may be looking into it right now, so it is tried for a second.
pub(crate) fn remove(tracefs: &dyn Tracefs, name: &str) -> io::Result<()> {
    let _ = switch_all_off(tracefs, name);
    let mut tries = 20;
    loop {
        match tracefs.remove_dir(&format!("instances/{name}")) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries > 0 => tries -= 1,
            other => return other,
        }
        thread::sleep(Duration::from_millis(50));
    }
}
