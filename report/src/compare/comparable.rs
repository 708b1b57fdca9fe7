//! Checks that two results are comparable.

use crate::saved::Saved;

/// Why two results cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Different kinds of devices moved the data: emulated devices and hardware, or soft RDMA and hardware.
    #[error("the base result was measured with {base}, the new result with {new}")]
    Devices {
        /// Devices of the base result.
        base: String,
        /// Devices of the new result.
        new: String,
    },
    /// A setting that applies to every cell differs.
    #[error("{setting} is {base} in the base result and {new} in the new result")]
    Setting {
        /// Name of the setting.
        setting: String,
        /// Value in the base result.
        base: String,
        /// Value in the new result.
        new: String,
    },
}

/// Checks the properties that apply to every cell of both results.
pub(super) fn check(base: &Saved, new: &Saved) -> Result<(), CompareError> {
    devices(base, new)?;
    settings(base, new)
}

fn devices(base: &Saved, new: &Saved) -> Result<(), CompareError> {
    let flags = |saved: &Saved| (saved.environment.emulated, saved.environment.soft_rdma);
    let ((base_emulated, base_soft), (new_emulated, new_soft)) = (flags(base), flags(new));
    if base_emulated != new_emulated {
        let text = |flag| named(flag, "emulated devices", "hardware");
        return Err(CompareError::Devices { base: text(base_emulated), new: text(new_emulated) });
    }
    if base_soft != new_soft {
        let text = |flag, saved| named(flag, "soft RDMA (a CPU moves the data)", &hardware(saved));
        return Err(CompareError::Devices { base: text(base_soft, base), new: text(new_soft, new) });
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
fn settings(base: &Saved, new: &Saved) -> Result<(), CompareError> {
    let differing = RUN_SETTINGS.into_iter().find_map(|name| {
        let (before, now) = setting(base, name).zip(setting(new, name))?;
        (before != now).then(|| (name, before.to_owned(), now.to_owned()))
    });
    match differing {
        Some((name, base, new)) => Err(CompareError::Setting { setting: name.replace('_', " "), base, new }),
        None => Ok(()),
    }
}

pub(super) fn setting<'a>(saved: &'a Saved, name: &str) -> Option<&'a str> {
    let recorded = |name: &str| saved.run.plan.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    // The reader drops null settings. A result that records the connection records all settings, so a missing one was null.
    recorded(name).or_else(|| recorded(RUN_SETTINGS[0]).map(|_| "unset"))
}
