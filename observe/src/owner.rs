//! The owning process of a trace instance or probe, and removal of those whose process has died.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::error::ObserveError;
use crate::tracefs::{Mounted, Tracefs};
use crate::{probes, trace_instance};

/// A process. The start time distinguishes it from a later process with the same PID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Process ID.
    pub(crate) pid: u32,
    /// Start time in clock ticks since boot.
    pub(crate) started_ticks: u64,
}

impl Owner {
    /// The running process with this PID.
    pub(crate) fn of(root: &Path, pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(root.join(format!("proc/{pid}/stat"))).ok()?;
        Some(Self { pid, started_ticks: started_ticks(&stat)? })
    }

    /// Whether the process still runs.
    pub(crate) fn is_alive(self, root: &Path) -> bool {
        Self::of(root, self.pid) == Some(self)
    }

    /// The name of the process's trace instance and probe group. `serial` distinguishes several observers of one process.
    pub(crate) fn name(self, serial: u32) -> String {
        let Self { pid, started_ticks } = self;
        format!("peerpath_{pid}_{started_ticks}_{serial}")
    }

    /// Parses the name of a trace instance or probe group of this crate; `None` for other names.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut numbers = name.strip_prefix("peerpath_")?.split('_');
        let pid = numbers.next()?.parse().ok()?;
        let started_ticks = numbers.next()?.parse().ok()?;
        let _serial: u32 = numbers.next()?.parse().ok()?;
        numbers.next().is_none().then_some(Self { pid, started_ticks })
    }
}

/// Parses field 22 (`starttime`) of `/proc/PID/stat`. The second field is the command in parentheses. The command itself may
/// contain parentheses.
fn started_ticks(stat: &str) -> Option<u64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    after_command.split_whitespace().nth(22 - 3)?.parse().ok()
}

/// Instances and probes that [`remove_stale`] or [`remove_own`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names of trace instances.
    pub instances: Vec<String>,
    /// Probes, as `GROUP/EVENT`.
    pub probes: Vec<String>,
    /// Instances and probes that could not be removed, each with the reason.
    pub failed: Vec<String>,
}

impl Removed {
    /// IDs of the processes whose trace instances or probes were removed.
    pub fn processes(&self) -> BTreeSet<u32> {
        let groups = self.probes.iter().filter_map(|probe| Some(probe.split_once('/')?.0));
        let names = self.instances.iter().map(String::as_str).chain(groups);
        names.filter_map(|name| Some(Owner::named(name)?.pid)).collect()
    }
}

/// Removes the trace instances and probes of processes that have died. `root` is `/`, except in tests.
///
/// # Errors
/// tracefs is not mounted, or access is not permitted.
pub fn remove_stale(root: &Path) -> Result<Removed, ObserveError> {
    remove_of(&Mounted::find(root)?, &|owner| !owner.is_alive(root))
}

/// Removes the trace instances and probes of this process, before it exits without dropping its observers. `root` is `/`,
/// except in tests.
///
/// # Errors
/// tracefs is not mounted, or access is not permitted.
pub fn remove_own(root: &Path) -> Result<Removed, ObserveError> {
    let own = Owner::of(root, std::process::id());
    remove_of(&Mounted::find(root)?, &|owner| Some(owner) == own)
}

/// Removes the trace instances and probes of the processes that `is_selected` selects.
pub(crate) fn remove_of(tracefs: &dyn Tracefs, is_selected: &dyn Fn(Owner) -> bool) -> Result<Removed, ObserveError> {
    let is_theirs = |name: &str| Owner::named(name).is_some_and(is_selected);
    let mut removed = Removed::default();
    let names =
        tracefs.list("instances").map_err(|error| ObserveError::access("cannot list trace instances", error))?;
    // Instances first: the kernel does not remove a probe that is enabled in one.
    for name in names.into_iter().filter(|name| is_theirs(name)) {
        match trace_instance::remove(tracefs, &name) {
            Ok(()) => removed.instances.push(name),
            Err(error) => removed.failed.push(format!("trace instance {name}: {error}")),
        }
    }
    for probe in probes::list(tracefs).into_iter().filter(|probe| is_theirs(&probe.group)) {
        match probes::remove(tracefs, &probe) {
            Ok(()) => removed.probes.push(probe.to_string()),
            Err(error) => removed.failed.push(format!("probe {probe}: {error}")),
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_tracefs::FakeTracefs;

    #[test]
    fn parses_own_names_and_rejects_others() {
        let owner = Owner { pid: 12, started_ticks: 345 };
        assert_eq!(Owner::named(&owner.name(7)), Some(owner));
        for name in
            ["peerpath_12", "peerpath_12_345_7_8", "peerpath_x_1_2", "kprobes", "peerpath_1_2_", "perf_12_345_7"]
        {
            assert_eq!(Owner::named(name), None, "{name}");
        }
    }

    #[test]
    fn finds_the_start_time_after_any_command_name() {
        let stat = "12 (a) b) 1) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 1 2 3";
        assert_eq!(started_ticks(stat), Some(987));
        assert_eq!(started_ticks("12 (a) S 1"), None);
        assert!(Owner::of(Path::new("/"), std::process::id()).unwrap().is_alive(Path::new("/")));
    }

    #[test]
    fn removes_only_instances_and_probes_of_dead_processes() {
        let dead = Owner { pid: 10, started_ticks: 1 };
        let alive = Owner { pid: 20, started_ticks: 2 };
        let fake = FakeTracefs::default();
        for name in [dead.name(1), alive.name(1), "unrelated".into()] {
            fake.make_dir(&format!("instances/{name}")).unwrap();
        }
        for group in [dead.name(1), alive.name(1), "kprobes".into()] {
            fake.append("kprobe_events", &format!("p:{group}/in_dma_buf_detach dma_buf_detach\n")).unwrap();
        }
        // The probe was enabled when its process was killed.
        fake.write(&format!("instances/{0}/events/{0}/in_dma_buf_detach/enable", dead.name(1)), "1").unwrap();

        let removed = remove_of(&fake, &|owner| owner != alive).unwrap();
        assert_eq!(removed.instances, [dead.name(1)]);
        assert_eq!(removed.probes, [format!("{}/in_dma_buf_detach", dead.name(1))]);
        assert_eq!(removed.failed, [] as [String; 0]);
        assert_eq!(removed.processes(), [dead.pid].into());
        assert_eq!(fake.instances(), [alive.name(1), "unrelated".into()]);
        assert_eq!(
            fake.probes(),
            ["kprobes/in_dma_buf_detach".to_owned(), format!("{}/in_dma_buf_detach", alive.name(1))]
        );
        assert_eq!(remove_of(&fake, &|owner| owner != alive).unwrap(), Removed::default());
    }
}
