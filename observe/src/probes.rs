//! The kprobes: the probed functions and their arguments, and the creation and removal of the probes.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::operation::{DmaBufOp, TIMED, TimedFunction};
use crate::tracefs::Tracefs;

/// The tracefs file that lists all kprobe events of this kernel. This crate adds and removes its probes one at a time.
const LIST: &str = "kprobe_events";

/// The name of a probe of this or another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeName {
    pub(crate) group: String,
    pub(crate) event: String,
}

impl fmt::Display for ProbeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.event)
    }
}

/// Purpose of a probe. It decides which recordings enable the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The probe shows the path.
    Path,
    /// The probe shows duration and errno of a dma-buf operation.
    Call(DmaBufOp),
}

/// The definition of a probe.
#[derive(Debug)]
struct Definition {
    event: String,
    purpose: Purpose,
    /// Position of the probe: `p` for entry, `r` for return.
    at: char,
    symbol: &'static str,
    /// Alternative argument lists, in order of preference: the first one that the kernel accepts is used. Argument names need a
    /// kernel with BTF; argument numbers (`$arg3`) need CONFIG_HAVE_FUNCTION_ARG_ACCESS_API.
    arguments: &'static [&'static str],
    /// Consequence if the kernel rejects the probe, as a clause.
    without: &'static str,
}

/// The probes that show the path. Their argument numbers hold for Linux 7.2 and 7.3.
fn of_the_path() -> [Definition; 4] {
    let path = |event: &str, at, symbol, arguments, without| Definition {
        event: event.into(),
        purpose: Purpose::Path,
        at,
        symbol,
        arguments,
        without,
    };
    [
        path(
            "out_pci_p2pdma_map_type",
            'r',
            "pci_p2pdma_map_type",
            &["result=$retval:s32"],
            "the trace does not show bus-address paths",
        ),
        path(
            "in_dma_iova_link",
            'p',
            "dma_iova_link",
            &["phys=phys:x64 attrs=attrs:x64", "phys=$arg3:x64 attrs=$arg7:x64"],
            "the trace events of this kernel do not record the DMA attributes of a translated path",
        ),
        path(
            "out_dma_iova_link",
            'r',
            "dma_iova_link",
            &["result=$retval:s32"],
            "the trace does not show which range of the dma-buf failed to map",
        ),
        path(
            "in_dma_buf_phys_vec_to_sgt",
            'p',
            "dma_buf_phys_vec_to_sgt",
            &[
                "device=attach->dev->kobj.name:string bus_offset=provider->bus_offset:x64 \
                 phys=phys_vec->paddr:x64 length=phys_vec->len:u64 count=nr_ranges:u64",
                "phys=+0($arg3):x64 length=+8($arg3):u64 count=$arg4:u64",
            ],
            "the trace does not record the physical addresses of a bus-address path",
        ),
    ]
}

fn of_calls() -> impl Iterator<Item = Definition> {
    TIMED.iter().flat_map(|function| {
        let TimedFunction { symbol, operation, .. } = *function;
        let purpose = Purpose::Call(operation);
        let without = "the trace does not record the duration and errors of this call";
        let definition = |event, at, arguments: &'static [&'static str]| Definition {
            event,
            purpose,
            at,
            symbol,
            arguments,
            without,
        };
        let [entry, exit] = function.events();
        [definition(entry, 'p', &[""]), definition(exit, 'r', function.returns.arguments())]
    })
}

/// Probes that exist in the kernel. Dropping this removes them.
pub(crate) struct Probes {
    tracefs: Arc<dyn Tracefs>,
    group: String,
    installed: Vec<(String, Purpose)>,
    missing: Vec<String>,
    /// Operations with a function that has no probe, each with the reason as a clause.
    untimed: Vec<(DmaBufOp, String)>,
}

impl Probes {
    /// Creates the probes that this kernel accepts, disabled, and records the others as missing.
    pub(crate) fn install(tracefs: &Arc<dyn Tracefs>, group: &str) -> Self {
        let mut probes = Self {
            tracefs: Arc::clone(tracefs),
            group: group.into(),
            installed: Vec::new(),
            missing: Vec::new(),
            untimed: Vec::new(),
        };
        if !tracefs.exists(LIST) {
            let reason = "this kernel has no kprobe events (CONFIG_KPROBE_EVENTS)";
            let consequence = "the trace shows neither bus-address paths nor durations of attach and map";
            probes.missing.push(format!("{reason}: {consequence}"));
            probes.untimed.extend(TIMED.iter().map(|function| (function.operation, reason.to_owned())));
            return probes;
        }
        for definition in of_the_path().into_iter().chain(of_calls()) {
            probes.add(definition);
        }
        probes
    }

    fn add(&mut self, definition: Definition) {
        let Definition { event, purpose, at, symbol, arguments, without } = definition;
        let mut rejected = None;
        for arguments in arguments {
            let line = format!("{at}:{}/{event} {symbol} {arguments}", self.group);
            match self.tracefs.append(LIST, &format!("{}\n", line.trim_end())) {
                Ok(()) => return self.installed.push((event, purpose)),
                Err(error) => rejected = Some(error),
            }
        }
        let why = rejected.map_or_else(String::new, |error| format!(" ({error})"));
        let rejected = format!("the kernel rejected the probe on {symbol}{why}");
        match purpose {
            // A missing part of `map` concerns neither the path nor its errors.
            Purpose::Call(operation) if operation.is_part_of_map() => {}
            _ => self.missing.push(format!("{rejected}: {without}")),
        }
        if let Purpose::Call(operation) = purpose {
            self.untimed.push((operation, rejected));
        }
    }

    /// The names of the installed probes whose purpose satisfies `serves`.
    pub(crate) fn events(&self, serves: impl Fn(Purpose) -> bool) -> impl Iterator<Item = &str> {
        self.installed.iter().filter(move |(_, purpose)| serves(*purpose)).map(|(event, _)| event.as_str())
    }

    /// Whether the kernel accepted the probe with this name.
    pub(crate) fn has(&self, event: &str) -> bool {
        self.installed.iter().any(|(installed, _)| installed == event)
    }

    /// Operations with a function that has no probe, each with the reason as a clause.
    pub(crate) fn untimed(&self) -> &[(DmaBufOp, String)] {
        &self.untimed
    }

    /// Consequences of missing probes, one sentence each.
    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for (event, _) in self.installed.drain(..) {
            // Removal fails only while the probe is enabled, but its instance is already removed. On failure, the next observer
            // removes the probe as stale.
            let _ = remove(&*self.tracefs, &ProbeName { group: self.group.clone(), event });
        }
    }
}

/// All kprobe events of this kernel.
pub(crate) fn list(tracefs: &dyn Tracefs) -> Vec<ProbeName> {
    let text = tracefs.read(LIST).unwrap_or_default();
    text.lines().filter_map(name).collect()
}

/// Parses a line of `kprobe_events`: `p:GROUP/EVENT SYMBOL ...` or `r8:GROUP/EVENT ...`.
fn name(line: &str) -> Option<ProbeName> {
    let (group, event) = line.split_whitespace().next()?.split_once(':')?.1.split_once('/')?;
    Some(ProbeName { group: group.into(), event: event.into() })
}

/// Removes one probe.
pub(crate) fn remove(tracefs: &dyn Tracefs, probe: &ProbeName) -> io::Result<()> {
    tracefs.append(LIST, &format!("-:{probe}\n"))
}
