//! A model of tracefs for tests: what the kernel does when its files are written, and what it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Mutex;

use crate::tracefs::Tracefs;

/// A kernel with tracing.
#[derive(Default)]
pub(crate) struct Fake {
    state: Mutex<State>,
    /// Symbols that it has no probe for, and arguments that it does not take.
    pub(crate) refuses: Vec<&'static str>,
    /// It has no kprobe events at all.
    pub(crate) without_kprobes: bool,
    /// Tracepoints it lacks, as `dma/dma_map_phys`.
    pub(crate) lacks: Vec<&'static str>,
    /// The number that the kernel has for the thread that puts marks in.
    pub(crate) thread: u32,
    /// What happens once probes are on, as lines of the trace without the part that all have in common.
    pub(crate) happens: Vec<&'static str>,
}

#[derive(Default)]
struct State {
    instances: BTreeMap<String, Instance>,
    probes: BTreeSet<String>,
    definitions: Vec<String>,
}

#[derive(Default)]
struct Instance {
    on: BTreeSet<String>,
    raw: bool,
    marks: Vec<String>,
    pids: String,
}

fn refused(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}

impl Fake {
    pub(crate) fn instances(&self) -> Vec<String> {
        self.state.lock().unwrap().instances.keys().cloned().collect()
    }

    pub(crate) fn probes(&self) -> Vec<String> {
        self.state.lock().unwrap().probes.iter().cloned().collect()
    }

    pub(crate) fn definitions(&self) -> Vec<String> {
        self.state.lock().unwrap().definitions.clone()
    }

    /// All that is switched on anywhere.
    pub(crate) fn switched_on(&self) -> Vec<String> {
        self.state.lock().unwrap().instances.values().flat_map(|instance| instance.on.iter().cloned()).collect()
    }

    /// The threads that some instance is limited to.
    pub(crate) fn threads(&self) -> Vec<String> {
        self.state.lock().unwrap().instances.values().map(|instance| instance.pids.clone()).collect()
    }

    fn trace(&self, instance: &Instance) -> String {
        let marks = instance.marks.iter().map(|mark| format!("tracing_mark_write: {mark}"));
        let began = instance.marks.iter().any(|mark| mark == "begin");
        let happened = self.happens.iter().filter(|_| began).map(|event| (*event).to_owned());
        let line = |(index, event): (usize, String)| {
            let thread = self.thread;
            match instance.raw {
                false => format!("           <...>-{thread}    [000] d..1.    10.{index:06}: {event}\n"),
                true => format!("{thread} 0 {} type: 7\n", 10_000_000_000 + index * 1000 + 1),
            }
        };
        marks.chain(happened).enumerate().map(line).collect()
    }
}

impl Tracefs for Fake {
    fn read(&self, name: &str) -> io::Result<String> {
        let state = self.state.lock().unwrap();
        if name == "kprobe_events" {
            return Ok(state.probes.iter().map(|probe| format!("p:{probe} symbol\n")).collect());
        }
        let (instance, file) = in_instance(name)?;
        let instance = state.instances.get(instance).ok_or_else(|| refused(io::ErrorKind::NotFound))?;
        if file == "trace" { Ok(self.trace(instance)) } else { Err(refused(io::ErrorKind::NotFound)) }
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        assert_ne!(name, "kprobe_events", "opening the list of probes for writing removes everybody's");
        let mut state = self.state.lock().unwrap();
        let (name, file) = in_instance(name)?;
        let instance = state.instances.get_mut(name).ok_or_else(|| refused(io::ErrorKind::NotFound))?;
        match file {
            "trace" => instance.marks.clear(),
            "trace_marker" => instance.marks.push(text.to_owned()),
            "trace_options" => match text {
                "raw" => instance.raw = true,
                "noraw" => instance.raw = false,
                _ => {}
            },
            "set_event_pid" => instance.pids = text.to_owned(),
            "events/enable" if text == "0" => instance.on.clear(),
            _ => {
                if let Some(event) = file.strip_prefix("events/").and_then(|event| event.strip_suffix("/enable")) {
                    if self.lacks.contains(&event) {
                        return Err(refused(io::ErrorKind::NotFound));
                    }
                    instance.on.insert(event.to_owned());
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
            if state.instances.values().any(|instance| instance.on.contains(probe)) {
                return Err(refused(io::ErrorKind::ResourceBusy));
            }
            return if state.probes.remove(probe) { Ok(()) } else { Err(refused(io::ErrorKind::NotFound)) };
        }
        if self.refuses.iter().any(|word| line.contains(word)) {
            return Err(refused(io::ErrorKind::InvalidInput));
        }
        let probe = line.split_whitespace().next().and_then(|word| word.split_once(':')).unwrap().1;
        state.definitions.push(line.to_owned());
        assert!(state.probes.insert(probe.to_owned()), "{probe} is there already");
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
        removed.map(drop).ok_or_else(|| refused(io::ErrorKind::NotFound))
    }

    fn exists(&self, name: &str) -> bool {
        match name.strip_prefix("events/") {
            Some(event) => !self.lacks.contains(&event),
            None => name != "kprobe_events" || !self.without_kprobes,
        }
    }
}

fn in_instance(name: &str) -> io::Result<(&str, &str)> {
    name.strip_prefix("instances/")
        .and_then(|rest| rest.split_once('/'))
        .ok_or_else(|| refused(io::ErrorKind::NotFound))
}
