//! The functions that a change concerns. The kernel may reassign PCI addresses and numbers of IOMMU groups when functions are
//! removed and rescanned, so a journal entry records its functions with their PCI IDs.

use peerpath_paths::{Bdf, IommuGroupId};
use serde::{Deserialize, Serialize};

use super::Subject;
use crate::Error;
use crate::host_tree::{HostTree, names};

/// A function at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) bdf: Bdf,
    /// Vendor and device ID, then those of the subsystem, e.g. `8086:10d3 8086:a01f`. `None` if unknown.
    ids: Option<String>,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ids.as_ref().and_then(|ids| ids.split(' ').next()) {
            Some(ids) => write!(f, "{} ({ids})", self.bdf),
            None => self.bdf.fmt(f),
        }
    }
}

impl Identity {
    /// A function in a journal of an older version, which records only the address.
    pub(super) fn unknown(bdf: Bdf) -> Self {
        Self { bdf, ids: None }
    }

    /// Reads the function at an address; `None` if there is none.
    fn read(host: &HostTree, bdf: Bdf) -> Result<Option<Self>, Error> {
        if !host.function(bdf).exists() {
            return Ok(None);
        }
        let mut pairs = Vec::new();
        for [vendor, device] in [["vendor", "device"], ["subsystem_vendor", "subsystem_device"]] {
            let ids = (host.function_number(bdf, vendor)?, host.function_number(bdf, device)?);
            if let (Some(vendor), Some(device)) = ids {
                pairs.push(format!("{vendor:04x}:{device:04x}"));
            }
        }
        Ok(Some(Self { bdf, ids: (!pairs.is_empty()).then(|| pairs.join(" ")) }))
    }

    /// Reads the functions of a subject. Members of a group that are not PCI functions are omitted.
    pub(super) fn all(host: &HostTree, subject: Subject) -> Result<Vec<Self>, Error> {
        let functions = match subject {
            Subject::Function(bdf) => vec![bdf],
            Subject::Group(group) => members(host, group)?,
        };
        functions.into_iter().filter_map(|bdf| Self::read(host, bdf).transpose()).collect()
    }

    /// Whether this may be the same function. Unknown IDs match any.
    pub(super) fn matches(&self, other: &Self) -> bool {
        self.bdf == other.bdf && (self.ids == other.ids || self.ids.is_none() || other.ids.is_none())
    }
}

fn members(host: &HostTree, group: IommuGroupId) -> Result<Vec<Bdf>, Error> {
    let names = names(&host.path(format!("sys/kernel/iommu_groups/{group}/devices")))?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The functions of a change, compared with the functions that its subject has now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The subject has the same functions.
    Same,
    /// None of the functions exists.
    Gone,
    /// The subject has none of the functions, so the change no longer exists. The text describes what the subject has now.
    Replaced(String),
    /// The subject has only some of the functions, or has others in addition. The text describes the difference.
    Partly(String),
}

/// Compares the functions of a change with the functions that its subject has now. If `is_complete` is
/// false, the subject may have had more functions than `before` lists.
pub(super) fn compare(
    host: &HostTree,
    subject: Subject,
    before: &[Identity],
    is_complete: bool,
) -> Result<Comparison, Error> {
    if !before.iter().any(|function| host.function(function.bdf).exists()) {
        return Ok(Comparison::Gone);
    }
    let now = Identity::all(host, subject)?;
    let lacks = |some: &[Identity], one: &Identity| !some.iter().any(|other| other.matches(one));
    let missing: Vec<_> = before.iter().filter(|one| lacks(&now, one)).collect();
    let added: Vec<_> = now.iter().filter(|one| is_complete && lacks(before, one)).collect();
    if missing.is_empty() && added.is_empty() {
        return Ok(Comparison::Same);
    }
    let found = match (&missing[..], &now[..]) {
        ([], _) => format!("{} was added to it", list(&added)),
        (_, []) => format!("it no longer has {}", list(&missing)),
        _ => format!(
            "it was {} and is {} now",
            list(&before.iter().collect::<Vec<_>>()),
            list(&now.iter().collect::<Vec<_>>())
        ),
    };
    Ok(if missing.len() == before.len() { Comparison::Replaced(found) } else { Comparison::Partly(found) })
}

fn list(functions: &[&Identity]) -> String {
    functions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        for (bdf, device) in [("0000:02:00.0", "0x10d3\n"), ("0000:03:00.0", "0x10c9\n")] {
            fixture.function(bdf).group(9).file("vendor", "0x8086\n").file("device", device);
        }
        fixture
    }

    fn group() -> Subject {
        Subject::Group(IommuGroupId(9))
    }

    #[test]
    fn recognizes_the_same_functions() {
        let fixture = fixture();
        let before = Identity::all(&fixture.host(), group()).unwrap();
        let texts: Vec<_> = before.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["0000:02:00.0 (8086:10d3)", "0000:03:00.0 (8086:10c9)"]);
        assert_eq!(compare(&fixture.host(), group(), &before, true).unwrap(), Comparison::Same);
        // Journals of older versions name some of the functions, without IDs.
        let some = [Identity::unknown(before[0].bdf)];
        assert_eq!(compare(&fixture.host(), group(), &some, false).unwrap(), Comparison::Same);
    }

    #[test]
    fn recognizes_added_missing_and_replaced_functions() {
        let fixture = fixture();
        let host = fixture.host();
        let before = Identity::all(&host, group()).unwrap();
        fixture.function("0000:04:00.0").group(9);
        assert!(matches!(compare(&host, group(), &before, true).unwrap(), Comparison::Partly(_)));
        fixture.leave_group("0000:04:00.0", 9);
        fixture.leave_group("0000:03:00.0", 9);
        assert!(matches!(compare(&host, group(), &before, true).unwrap(), Comparison::Partly(_)));
        fixture.function("0000:02:00.0").file("device", "0x1110\n");
        let found = compare(&host, group(), &before, true).unwrap();
        assert!(
            matches!(&found, Comparison::Replaced(now) if now.ends_with("is 0000:02:00.0 (8086:1110) now")),
            "{found:?}"
        );
        fixture.leave_group("0000:02:00.0", 9);
        assert!(matches!(compare(&host, group(), &before, true).unwrap(), Comparison::Replaced(_)));
        for bdf in ["0000:02:00.0", "0000:03:00.0"] {
            std::fs::remove_file(fixture.path(&format!("sys/bus/pci/devices/{bdf}"))).unwrap();
        }
        assert_eq!(compare(&host, group(), &before, true).unwrap(), Comparison::Gone);
    }
}
