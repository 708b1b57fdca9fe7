//! Checks that results are comparable.

use super::differences::Names;
use crate::saved::Saved;

/// Why results cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Different kinds of devices moved the data: emulated devices and hardware, or soft RDMA and hardware.
    #[error("the {} was measured with {devices}, the {} with {other_devices}", .names[0], .names[1])]
    Devices {
        /// The two results, e.g. `base result` and `new result`.
        names: [String; 2],
        /// Devices of the first result.
        devices: String,
        /// Devices of the second result.
        other_devices: String,
    },
    /// A setting that applies to every cell differs.
    #[error("{setting} is {value} in the {} and {other_value} in the {}", .names[0], .names[1])]
    Setting {
        /// The two results.
        names: [String; 2],
        /// Name of the setting.
        setting: String,
        /// Value in the first result.
        value: String,
        /// Value in the second result.
        other_value: String,
    },
    /// Two results of a side are of the same run, so they have no variation.
    #[error("the {} and the {} are of the same run", .names[0], .names[1])]
    SameRun {
        /// The two results.
        names: [String; 2],
    },
    /// A side has no results.
    #[error("one of the sides has no results")]
    NoResults,
}

/// Checks the properties that apply to every cell of both results.
pub(super) fn check(names: &Names, first: &Saved, second: &Saved) -> Result<(), CompareError> {
    devices(names, first, second)?;
    settings(names, first, second)
}

/// Checks that two results of one side are of different runs.
pub(super) fn different_runs(names: &Names, first: &Saved, second: &Saved) -> Result<(), CompareError> {
    let id = |saved: &Saved| saved.run.id.clone().zip(saved.run.started_at.clone());
    let is_same = id(first).is_some_and(|run| id(second) == Some(run));
    if is_same { Err(CompareError::SameRun { names: names.texts() }) } else { Ok(()) }
}

fn devices(names: &Names, first: &Saved, second: &Saved) -> Result<(), CompareError> {
    // A run that ended before its first cell may not have opened its devices.
    if first.cells.is_empty() || second.cells.is_empty() {
        return Ok(());
    }
    let flags = |saved: &Saved| (saved.environment.emulated, saved.environment.soft_rdma);
    let ((emulated, soft), (other_emulated, other_soft)) = (flags(first), flags(second));
    let error = |devices, other_devices| Err(CompareError::Devices { names: names.texts(), devices, other_devices });
    if emulated != other_emulated {
        let text = |flag| named(flag, "emulated devices", "hardware");
        return error(text(emulated), text(other_emulated));
    }
    if soft != other_soft {
        let text = |flag, saved| named(flag, "soft RDMA (a CPU moves the data)", &hardware(saved));
        return error(text(soft, first), text(other_soft, second));
    }
    Ok(())
}

fn named(flag: Option<bool>, yes: &str, no: &str) -> String {
    match flag {
        Some(true) => yes.to_owned(),
        Some(false) => no.to_owned(),
        None => format!("either {yes} or {no} (not recorded)"),
    }
}

/// The kinds of devices that moved the data of a result: `an RDMA NIC and a GPU`.
fn hardware(saved: &Saved) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for cell in &saved.cells {
        let kind = match cell.target.kind.as_str() {
            "verbs" => "an RDMA NIC",
            "iommufd" => "a drive or another PCI function",
            "cuda" => "a GPU",
            _ => "another device",
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() { "hardware".to_owned() } else { kinds.join(" and ") }
}

/// Settings that apply to every cell of a run, so cells do not record them.
const RUN_SETTINGS: [&str; 3] = ["connection", "completion_moderation", "post_list"];

/// Compares the settings that both results record. Older results do not record every setting.
fn settings(names: &Names, first: &Saved, second: &Saved) -> Result<(), CompareError> {
    let differing = RUN_SETTINGS.into_iter().find_map(|name| {
        let (before, now) = setting(first, name).zip(setting(second, name))?;
        (before != now).then(|| (name, before.to_owned(), now.to_owned()))
    });
    match differing {
        Some((name, value, other_value)) => {
            Err(CompareError::Setting { names: names.texts(), setting: name.replace('_', " "), value, other_value })
        }
        None => Ok(()),
    }
}

pub(super) fn setting<'a>(saved: &'a Saved, name: &str) -> Option<&'a str> {
    let recorded = |name: &str| saved.run.plan.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    // The reader drops null settings. A result that records the connection records all settings, so a missing one was null.
    recorded(name).or_else(|| recorded(RUN_SETTINGS[0]).map(|_| "unset"))
}
