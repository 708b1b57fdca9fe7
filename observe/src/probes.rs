//! The probes: which functions, with which arguments, and how they come and go.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::operation::{CallKind, TIMED};
use crate::tracefs::Tracefs;

/// The list of all kprobes of this kernel. Ours are added to it and taken out of it one by one.
const LIST: &str = "kprobe_events";

/// A probe of somebody's, by name.
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

/// What a probe is for; it decides when it is switched on and what is lost without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To tell the path.
    Path,
    /// To time calls, and to see which of them failed.
    Time(CallKind),
}

/// One probe that we would like to have.
#[derive(Debug)]
struct Wanted {
    event: String,
    purpose: Purpose,
    /// `p` at entry, `r` at return.
    at: char,
    symbol: &'static str,
    /// Arguments, the best first. The kernel takes names only where it has BTF, and numbers only where the architecture
    /// has a rule for them; on x86 the seventh is read from the stack.
    arguments: &'static [&'static str],
    /// What cannot be told without it.
    without: &'static str,
}

/// Arguments by name are the kernel's own word; by number they are what Linux 7.2 and 7.3 have in that place.
fn of_the_path() -> [Wanted; 4] {
    let path = |event: &str, at, symbol, arguments, without| Wanted {
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
            "a bus-address path cannot be told from none",
        ),
        path(
            "in_dma_iova_link",
            'p',
            "dma_iova_link",
            &["phys=phys:x64 attrs=attrs:x64", "phys=$arg3:x64 attrs=$arg7:x64"],
            "the mapping attribute of a translated path is not seen",
        ),
        path("out_dma_iova_link", 'r', "dma_iova_link", &["result=$retval:s32"], "which range failed is not seen"),
        path(
            "in_dma_buf_phys_vec_to_sgt",
            'p',
            "dma_buf_phys_vec_to_sgt",
            &[
                "device=attach->dev->kobj.name:string bus_offset=provider->bus_offset:x64 \
                 phys=phys_vec->paddr:x64 length=phys_vec->len:u64 count=nr_ranges:u64",
                "phys=+0($arg3):x64 length=+8($arg3):u64 count=$arg4:u64",
            ],
            "the physical addresses of a bus-address path are not seen",
        ),
    ]
}

fn of_calls() -> impl Iterator<Item = Wanted> {
    TIMED.iter().flat_map(|function| {
        let symbol = function.symbol;
        let results: &[&str] = match function.result {
            Some("s64") => &["result=$retval:s64"],
            Some(_) => &["result=$retval:s32"],
            None => &[""],
        };
        let wanted = |name: &str, at, arguments| Wanted {
            event: format!("{name}_{symbol}"),
            purpose: Purpose::Time(function.kind),
            at,
            symbol,
            arguments,
            without: "its calls are neither timed nor seen to fail",
        };
        [wanted("in", 'p', &[""]), wanted("out", 'r', results)]
    })
}

/// Probes that are in the kernel; dropping this takes them out.
pub(crate) struct Probes {
    tracefs: Arc<dyn Tracefs>,
    group: String,
    installed: Vec<(String, Purpose)>,
    missing: Vec<String>,
}

impl Probes {
    /// Puts in what this kernel takes, and notes what it does not. Nothing is switched on.
    pub(crate) fn install(tracefs: &Arc<dyn Tracefs>, group: &str) -> Self {
        let mut probes =
            Self { tracefs: Arc::clone(tracefs), group: group.into(), installed: Vec::new(), missing: Vec::new() };
        if !tracefs.exists(LIST) {
            probes.missing.push(
                "this kernel has no kprobe events (CONFIG_KPROBE_EVENTS): a bus-address path cannot be told from none, and \
                 attach and map cannot be timed"
                    .into(),
            );
            return probes;
        }
        for wanted in of_the_path().into_iter().chain(of_calls()) {
            probes.add(wanted);
        }
        probes
    }

    fn add(&mut self, wanted: Wanted) {
        let Wanted { event, purpose, at, symbol, arguments, without } = wanted;
        let mut refused = None;
        for arguments in arguments {
            let definition = format!("{at}:{}/{event} {symbol} {arguments}", self.group);
            match self.tracefs.append(LIST, &format!("{}\n", definition.trim_end())) {
                Ok(()) => return self.installed.push((event, purpose)),
                Err(error) => refused = Some(error),
            }
        }
        let why = refused.map_or_else(String::new, |error| format!(" ({error})"));
        self.missing.push(format!("the kernel takes no probe on {symbol}{why}: {without}"));
    }

    /// The names of those that serve a purpose.
    pub(crate) fn events(&self, serves: impl Fn(Purpose) -> bool) -> impl Iterator<Item = &str> {
        self.installed.iter().filter(move |(_, purpose)| serves(*purpose)).map(|(event, _)| event.as_str())
    }

    /// Whether one is there.
    pub(crate) fn has(&self, event: &str) -> bool {
        self.installed.iter().any(|(installed, _)| installed == event)
    }

    /// What cannot be seen without those that are missing.
    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for (event, _) in self.installed.drain(..) {
            // It fails only while the probe is switched on, which the instance that is gone by now has ended; the next
            // observer would find it.
            let _ = remove(&*self.tracefs, &ProbeName { group: self.group.clone(), event });
        }
    }
}

/// All probes of this kernel.
pub(crate) fn list(tracefs: &dyn Tracefs) -> Vec<ProbeName> {
    let text = tracefs.read(LIST).unwrap_or_default();
    text.lines().filter_map(name).collect()
}

/// `p:GROUP/EVENT SYMBOL ...`, `r8:GROUP/EVENT ...`.
fn name(line: &str) -> Option<ProbeName> {
    let (group, event) = line.split_whitespace().next()?.split_once(':')?.1.split_once('/')?;
    Some(ProbeName { group: group.into(), event: event.into() })
}

/// Takes one out.
pub(crate) fn remove(tracefs: &dyn Tracefs, probe: &ProbeName) -> io::Result<()> {
    tracefs.append(LIST, &format!("-:{probe}\n"))
}
