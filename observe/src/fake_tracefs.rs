//! A fake tracefs for tests, which accepts and rejects writes as the kernel does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Mutex;

use crate::tracefs::Tracefs;

/// A fake kernel with tracing.
#[derive(Default)]
pub(crate) struct FakeTracefs {
    state: Mutex<State>,
    /// Symbols and arguments that the kernel rejects in probe definitions.
    pub(crate) rejects: Vec<&'static str>,
    /// Whether the kernel lacks kprobe events.
    pub(crate) without_kprobes: bool,
    /// Tracepoints that the kernel lacks, e.g. `dma/dma_map_phys`.
    pub(crate) lacks: Vec<&'static str>,
    /// The ID of the thread that writes markers, as the kernel prints it in a trace.
    pub(crate) thread: u32,
    /// Events that follow the marker `begin` in every recording, as trace lines without the common prefix.
    pub(crate) events: Vec<&'static str>,
}

#[derive(Default)]
struct State {
    instances: BTreeMap<String, Instance>,
    probes: BTreeSet<String>,
    definitions: Vec<String>,
}

#[derive(Default)]
struct Instance {
    enabled: BTreeSet<String>,
    raw: bool,
    marks: Vec<String>,
    pids: String,
}

fn error(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}

impl FakeTracefs {
    pub(crate) fn instances(&self) -> Vec<String> {
        self.state.lock().unwrap().instances.keys().cloned().collect()
    }

    pub(crate) fn probes(&self) -> Vec<String> {
        self.state.lock().unwrap().probes.iter().cloned().collect()
    }

    pub(crate) fn definitions(&self) -> Vec<String> {
        self.state.lock().unwrap().definitions.clone()
    }

    /// Returns the enabled events of all instances.
    pub(crate) fn enabled(&self) -> Vec<String> {
        self.state.lock().unwrap().instances.values().flat_map(|instance| instance.enabled.iter().cloned()).collect()
    }

    /// Returns the thread filter of each instance.
    pub(crate) fn threads(&self) -> Vec<String> {
        self.state.lock().unwrap().instances.values().map(|instance| instance.pids.clone()).collect()
    }

    fn trace(&self, instance: &Instance) -> String {
        let marks = instance.marks.iter().map(|mark| format!("tracing_mark_write: {mark}"));
        let began = instance.marks.iter().any(|mark| mark == "begin");
        let occurred = self.events.iter().filter(|_| began).map(|event| (*event).to_owned());
        let line = |(index, event): (usize, String)| {
            let thread = self.thread;
            match instance.raw {
                false => format!("           <...>-{thread}    [000] d..1.    10.{index:06}: {event}\n"),
                true => format!("{thread} 0 {} type: 7\n", 10_000_000_000 + index * 1000 + 1),
            }
        };
        marks.chain(occurred).enumerate().map(line).collect()
    }
}

impl Tracefs for FakeTracefs {
    fn read(&self, name: &str) -> io::Result<String> {
        let state = self.state.lock().unwrap();
        if name == "kprobe_events" {
            return Ok(state.probes.iter().map(|probe| format!("p:{probe} symbol\n")).collect());
        }
        let (instance, file) = in_instance(name)?;
        let instance = state.instances.get(instance).ok_or_else(|| error(io::ErrorKind::NotFound))?;
        if file == "trace" { Ok(self.trace(instance)) } else { Err(error(io::ErrorKind::NotFound)) }
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        assert_ne!(name, "kprobe_events", "opening the list of probes for writing removes all probes");
        let mut state = self.state.lock().unwrap();
        let (name, file) = in_instance(name)?;
        let instance = state.instances.get_mut(name).ok_or_else(|| error(io::ErrorKind::NotFound))?;
        match file {
            "trace" => instance.marks.clear(),
            "trace_marker" => instance.marks.push(text.to_owned()),
            "trace_options" => match text {
                "raw" => instance.raw = true,
                "noraw" => instance.raw = false,
                _ => {}
            },
            "set_event_pid" => instance.pids = text.to_owned(),
            "events/enable" if text == "0" => instance.enabled.clear(),
            _ => {
                if let Some(event) = file.strip_prefix("events/").and_then(|event| event.strip_suffix("/enable")) {
                    if self.lacks.contains(&event) {
                        return Err(error(io::ErrorKind::NotFound));
                    }
                    instance.enabled.insert(event.to_owned());
                }
            }
        }
        Ok(())
    }

    fn append(&self, name: &str, text: &str) -> io::Result<()> {
        assert_eq!(name, "kprobe_events");
        let mut state = self.state.lock().unwrap();
        let line = text.trim_end();
        if let Some(probe) = line.strip_prefix("-:") {
            if state.instances.values().any(|instance| instance.enabled.contains(probe)) {
                return Err(error(io::ErrorKind::ResourceBusy));
            }
            return if state.probes.remove(probe) { Ok(()) } else { Err(error(io::ErrorKind::NotFound)) };
        }
        if self.rejects.iter().any(|text| line.contains(text)) {
            return Err(error(io::ErrorKind::InvalidInput));
        }
        let probe = line.split_whitespace().next().and_then(|part| part.split_once(':')).unwrap().1;
        state.definitions.push(line.to_owned());
        assert!(state.probes.insert(probe.to_owned()), "{probe} already exists");
        Ok(())
    }

    fn list(&self, name: &str) -> io::Result<Vec<String>> {
        assert_eq!(name, "instances");
        Ok(self.instances())
    }

    fn make_dir(&self, name: &str) -> io::Result<()> {
        let name = name.strip_prefix("instances/").unwrap().to_owned();
        assert!(self.state.lock().unwrap().instances.insert(name, Instance::default()).is_none());
        Ok(())
    }

    fn remove_dir(&self, name: &str) -> io::Result<()> {
        let name = name.strip_prefix("instances/").unwrap();
        let removed = self.state.lock().unwrap().instances.remove(name);
        removed.map(drop).ok_or_else(|| error(io::ErrorKind::NotFound))
    }

    fn exists(&self, name: &str) -> bool {
        match name.strip_prefix("events/") {
            Some(event) => !self.lacks.contains(&event),
            None => name != "kprobe_events" || !self.without_kprobes,
        }
    }
}

fn in_instance(name: &str) -> io::Result<(&str, &str)> {
    name.strip_prefix("instances/").and_then(|rest| rest.split_once('/')).ok_or_else(|| error(io::ErrorKind::NotFound))
}
