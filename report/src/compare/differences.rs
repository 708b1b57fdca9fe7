//! Differences between the runs of two results that do not prevent comparison: program, host, devices and plan.

use super::comparable::setting;
use crate::saved::{Saved, SavedDevice};

/// A text for each difference, then the remarks on both files.
pub(super) fn notes(base: &Saved, new: &Saved) -> Vec<String> {
    let tool = changed("program", base.run.tool.as_deref(), new.run.tool.as_deref());
    let conditions = facts("", &base.environment.facts, &new.environment.facts);
    let plan = names(&base.run.plan, &new.run.plan)
        .into_iter()
        .filter_map(|name| changed(&format!("plan, {}", spaced(name)), setting(base, name), setting(new, name)));
    let remarks = [("base result", base), ("new result", new)];
    let remarks =
        remarks.iter().flat_map(|(which, saved)| saved.remarks.iter().map(move |line| format!("{which}: {line}")));
    tool.into_iter().chain(conditions).chain(devices(base, new)).chain(plan).chain(remarks).collect()
}

fn devices(base: &Saved, new: &Saved) -> Vec<String> {
    let (before, now) = (&base.environment.devices, &new.environment.devices);
    let find = |devices: &'_ [SavedDevice], bdf: &str| devices.iter().position(|device| device.bdf == bdf);
    let mut notes = Vec::new();
    for device in before {
        match find(now, &device.bdf) {
            Some(at) => {
                let other = &now[at];
                notes.extend(changed(&format!("{}, name", device.bdf), device.name.as_deref(), other.name.as_deref()));
                notes.extend(facts(&format!("{}, ", device.bdf), &device.facts, &other.facts));
            }
            None => notes.push(format!("{}: only in the base result", device.bdf)),
        }
    }
    let added = now.iter().filter(|device| find(before, &device.bdf).is_none());
    notes.extend(added.map(|device| format!("{}: only in the new result", device.bdf)));
    notes
}

/// The facts that differ, each with `subject` before its name.
fn facts(subject: &str, base: &[(String, String)], new: &[(String, String)]) -> Vec<String> {
    let value = |facts: &'_ [(String, String)], name: &str| {
        facts.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    let difference = |name: &str| {
        let (before, now) = (value(base, name), value(new, name));
        // The facts about the server are one long text.
        if name == "peer" {
            return (before != now).then(|| format!("{subject}peer: the facts about the server differ"));
        }
        changed(&format!("{subject}{}", spaced(name)), before.as_deref(), now.as_deref())
    };
    names(base, new).into_iter().filter_map(difference).collect()
}

/// The names in either list: those of `base` first.
fn names<'a>(base: &'a [(String, String)], new: &'a [(String, String)]) -> Vec<&'a str> {
    let mut names: Vec<&str> = base.iter().map(|(name, _)| name.as_str()).collect();
    let added = new.iter().map(|(name, _)| name.as_str()).filter(|name| !base.iter().any(|(known, _)| known == name));
    names.extend(added);
    names
}

fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

fn changed(what: &str, before: Option<&str>, now: Option<&str>) -> Option<String> {
    let text = |value: Option<&str>| value.unwrap_or("not recorded").to_owned();
    (before != now).then(|| format!("{what}: {} before, {} now", text(before), text(now)))
}
