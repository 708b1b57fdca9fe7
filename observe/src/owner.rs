//! Whose a trace instance or a probe is, and removal of what dead processes left.

use std::fs;
use std::path::Path;

use crate::tracefs::{Mounted, Tracefs};
use crate::{Unobservable, probes, trace_instance};

/// A process, told from a later one with the same number by the time at which it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Its number.
    pub(crate) pid: u32,
    /// When it started, in clock ticks since boot.
    pub(crate) started_ticks: u64,
}

impl Owner {
    /// A process that lives now.
    pub(crate) fn of(root: &Path, pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(root.join(format!("proc/{pid}/stat"))).ok()?;
        Some(Self { pid, started_ticks: started_ticks(&stat)? })
    }

    /// Whether it still lives.
    pub(crate) fn is_alive(self, root: &Path) -> bool {
        Self::of(root, self.pid) == Some(self)
    }

    /// The name of its probes' group and of its instance; one process may have several observers.
    pub(crate) fn name(self, serial: u32) -> String {
        let Self { pid, started_ticks } = self;
        format!("peerpath_{pid}_{started_ticks}_{serial}")
    }

    /// Reads such a name back.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut numbers = name.strip_prefix("peerpath_")?.split('_');
        let pid = numbers.next()?.parse().ok()?;
        let started_ticks = numbers.next()?.parse().ok()?;
        let _serial: u32 = numbers.next()?.parse().ok()?;
        numbers.next().is_none().then_some(Self { pid, started_ticks })
    }
}

/// Field 22 of `/proc/PID/stat`. The second field is the command in brackets and may hold anything, brackets included.
fn started_ticks(stat: &str) -> Option<u64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    after_command.split_whitespace().nth(22 - 3)?.parse().ok()
}

/// What [`sweep`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Trace instances of processes that live no more.
    pub instances: Vec<String>,
    /// Their probes.
    pub probes: Vec<String>,
    /// What is left of them and could not be removed, with the reason.
    pub left: Vec<String>,
}

/// Removes trace instances and probes that killed processes left behind. `root` is `/` but for tests.
///
/// # Errors
/// Tracing is not there or not permitted, so that nothing could be looked at.
pub fn sweep(root: &Path) -> Result<Swept, Unobservable> {
    sweep_in(&Mounted::find(root)?, &|owner| owner.is_alive(root))
}

pub(crate) fn sweep_in(tracefs: &dyn Tracefs, is_alive: &dyn Fn(Owner) -> bool) -> Result<Swept, Unobservable> {
    let is_stale = |name: &str| Owner::named(name).is_some_and(|owner| !is_alive(owner));
    let mut swept = Swept::default();
    let names =
        tracefs.list("instances").map_err(|error| Unobservable::access("trace instances cannot be listed", error))?;
    // Instances first: a probe that is switched on in one cannot be removed.
    for name in names.into_iter().filter(|name| is_stale(name)) {
        match trace_instance::remove(tracefs, &name) {
            Ok(()) => swept.instances.push(name),
            Err(error) => swept.left.push(format!("trace instance {name}: {error}")),
        }
    }
    for probe in probes::list(tracefs).into_iter().filter(|probe| is_stale(&probe.group)) {
        match probes::remove(tracefs, &probe) {
            Ok(()) => swept.probes.push(probe.to_string()),
            Err(error) => swept.left.push(format!("probe {probe}: {error}")),
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_tracefs::Fake;

    #[test]
    fn a_name_reads_back_and_no_other_name_is_ours() {
        let owner = Owner { pid: 12, started_ticks: 345 };
        assert_eq!(Owner::named(&owner.name(7)), Some(owner));
        for name in
            ["peerpath_12", "peerpath_12_345_7_8", "peerpath_x_1_2", "kprobes", "peerpath_1_2_", "perf_12_345_7"]
        {
            assert_eq!(Owner::named(name), None, "{name}");
        }
    }

    #[test]
    fn the_start_is_found_behind_any_command() {
        let stat = "12 (a) b) 1) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 1 2 3";
        assert_eq!(started_ticks(stat), Some(987));
        assert_eq!(started_ticks("12 (a) S 1"), None);
        assert!(Owner::of(Path::new("/"), std::process::id()).unwrap().is_alive(Path::new("/")));
    }

    #[test]
    fn only_what_dead_processes_left_is_swept() {
        let dead = Owner { pid: 10, started_ticks: 1 };
        let alive = Owner { pid: 20, started_ticks: 2 };
        let fake = Fake::default();
        for name in [dead.name(1), alive.name(1), "somebody".into()] {
            fake.make_dir(&format!("instances/{name}")).unwrap();
        }
        for group in [dead.name(1), alive.name(1), "kprobes".into()] {
            fake.append("kprobe_events", &format!("p:{group}/in_dma_buf_detach dma_buf_detach\n")).unwrap();
        }
        // Switched on when its process was killed.
        fake.write(&format!("instances/{0}/events/{0}/in_dma_buf_detach/enable", dead.name(1)), "1").unwrap();

        let swept = sweep_in(&fake, &|owner| owner == alive).unwrap();
        assert_eq!(swept.instances, [dead.name(1)]);
        assert_eq!(swept.probes, [format!("{}/in_dma_buf_detach", dead.name(1))]);
        assert_eq!(swept.left, [] as [String; 0]);
        assert_eq!(fake.instances(), [alive.name(1), "somebody".into()]);
        assert_eq!(
            fake.probes(),
            ["kprobes/in_dma_buf_detach".to_owned(), format!("{}/in_dma_buf_detach", alive.name(1))]
        );
        assert_eq!(sweep_in(&fake, &|owner| owner == alive).unwrap(), Swept::default());
    }
}
