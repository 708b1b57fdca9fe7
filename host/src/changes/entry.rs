//! An entry of the journal: a change of the host, the state before it, and the process that makes it.

use std::mem::discriminant;

use peerpath_paths::Bdf;
use serde::{Deserialize, Serialize};

use super::Subject;
use super::acs::Acs;
use super::domain::Domain;
use super::identity::{Comparison, Identity, compare};
use super::names::name;
use super::taken::Taken;
use crate::Error;
use crate::host_tree::{HostTree, read_trimmed};

/// The intended lifetime of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OwnerKind {
    /// The change lasts until `restore` reverts it.
    Bind,
    /// The change lasts until the process that made it exits.
    Run,
}

/// The process that made a change. Process IDs are reused, but pairs of ID and start time are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) kind: OwnerKind,
    pub(super) pid: u32,
    pub(super) start_time_ticks: Option<u64>,
}

/// A change, described by the state before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Change {
    /// The function was unbound from its driver and bound to vfio-pci.
    Driver(Taken),
    /// The function was unbound from its VFIO driver and bound again, so that the kernel discards the cached path. Reverting
    /// this entry rebinds the driver once more, after the later entries are reverted.
    Rebound {
        #[serde(deserialize_with = "name")]
        driver: String,
    },
    /// The domain type of the function's IOMMU group was changed.
    Domain(Domain),
    /// Bits of the function's ACS Control register were changed.
    Acs(Acs),
}

impl Change {
    /// Merges with the same change of a process that died. The result describes the state before both changes.
    pub(super) fn after(self, left: Self) -> Self {
        match (self, left) {
            (Self::Acs(now), Self::Acs(left)) => Self::Acs(now.after(left)),
            (Self::Domain(now), Self::Domain(left)) => Self::Domain(now.after(left)),
            (_, left) => left,
        }
    }
}

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) bdf: Bdf,
    pub(crate) change: Change,
    pub(super) owner: Owner,
    /// Boot in which the change was made: a reboot reverts the change, but may keep the state directory.
    pub(super) boot_id: Option<String>,
    /// Functions of the subject when the change was made. Journals of older versions lack them.
    #[serde(default)]
    pub(super) functions: Vec<Identity>,
}

impl Entry {
    pub(super) fn new(host: &HostTree, bdf: Bdf, change: Change, kind: OwnerKind) -> Result<Self, Error> {
        let owner = Owner::this_process(host, kind);
        let mut entry = Self { bdf, change, owner, boot_id: boot_id(host), functions: Vec::new() };
        entry.functions = Identity::all(host, entry.subject())?;
        Ok(entry)
    }

    pub(crate) fn subject(&self) -> Subject {
        match &self.change {
            Change::Domain(domain) => Subject::Group(domain.group),
            Change::Driver(_) | Change::Rebound { .. } | Change::Acs(_) => Subject::Function(self.bdf),
        }
    }

    /// The functions of the change, as far as the entry records them.
    fn functions(&self) -> Vec<Identity> {
        match (&self.functions[..], &self.change) {
            ([], Change::Domain(domain)) => {
                let mut functions: Vec<_> = domain.members().chain([self.bdf]).collect();
                functions.sort();
                functions.dedup();
                functions.into_iter().map(Identity::unknown).collect()
            }
            ([], _) => vec![Identity::unknown(self.bdf)],
            (recorded, _) => recorded.to_vec(),
        }
    }

    /// Whether the entries have a function in common.
    pub(super) fn shares_a_function(&self, other: &Self) -> bool {
        self.functions().iter().any(|one| other.functions().iter().any(|another| one.matches(another)))
    }

    /// Compares the functions of the change with those that its subject has now.
    pub(super) fn compare(&self, host: &HostTree) -> Result<Comparison, Error> {
        compare(host, self.subject(), &self.functions(), !self.functions.is_empty())
    }

    /// Describes the state before the change.
    pub(crate) fn before(&self) -> String {
        match &self.change {
            Change::Driver(Taken { driver: Some(driver), .. }) => format!("the driver {driver}"),
            Change::Driver(Taken { driver: None, .. }) => "no driver".to_owned(),
            Change::Rebound { driver } => format!("the driver {driver}"),
            Change::Domain(domain) => format!("the domain type {}", domain.kind),
            Change::Acs(acs) => format!("{acs}"),
        }
    }

    /// Whether both entries have the same subject and kind of change. The journal has at most one entry per combination.
    pub(super) fn is_same_change(&self, other: &Self) -> bool {
        self.subject() == other.subject() && discriminant(&self.change) == discriminant(&other.change)
    }
}

impl Owner {
    pub(super) fn this_process(host: &HostTree, kind: OwnerKind) -> Self {
        let pid = std::process::id();
        Self { kind, pid, start_time_ticks: start_time_ticks(host, pid) }
    }

    /// Whether this process made the change for the duration of a run.
    pub(super) fn is_run_of_this_process(&self, host: &HostTree) -> bool {
        *self == Self::this_process(host, OwnerKind::Run)
    }

    /// Whether the process still runs.
    pub(super) fn is_running(&self, host: &HostTree) -> bool {
        let now = start_time_ticks(host, self.pid);
        now.is_some() && now == self.start_time_ticks
    }
}

/// Start time of a process in clock ticks after boot, field 22 of `proc(5)` stat; `None` if the process has exited.
fn start_time_ticks(host: &HostTree, pid: u32) -> Option<u64> {
    let text = read_trimmed(&host.path(format!("proc/{pid}/stat"))).ok()??;
    // The command in parentheses can contain any character; field 22 is the 20th after it.
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Reads the ID that the kernel generates at each boot.
pub(super) fn boot_id(host: &HostTree) -> Option<String> {
    read_trimmed(&host.path("proc/sys/kernel/random/boot_id")).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_running_processes() {
        let host = HostTree::live();
        let me = Owner::this_process(&host, OwnerKind::Run);
        assert!(me.is_running(&host));
        assert!(
            !Owner { start_time_ticks: me.start_time_ticks.map(|ticks| ticks + 1), ..me.clone() }.is_running(&host)
        );
        assert!(!Owner { pid: u32::MAX, ..me }.is_running(&host));
        let unknown = Owner { kind: OwnerKind::Run, pid: u32::MAX, start_time_ticks: None };
        assert!(!unknown.is_running(&host));
    }
}
