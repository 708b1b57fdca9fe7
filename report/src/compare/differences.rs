//! Differences between the runs of two results that do not prevent comparison: program, host, devices and plan.

use super::comparable::setting;
use crate::saved::{Saved, SavedDevice};

/// Names of two results in messages.
pub(super) struct Names {
    /// Before every note; empty for the results of different sides.
    subject: String,
    /// What the results are called, e.g. `base result`.
    results: [String; 2],
    /// What follows a value of each, e.g. ` before`.
    values: [String; 2],
}

impl Names {
    /// A result of each side. `several`: whether the sides have several results.
    pub(super) fn of_sides(several: bool) -> Self {
        let name = |side| if several { format!("first {side} result") } else { format!("{side} result") };
        Self {
            subject: String::new(),
            results: [name("base"), name("new")],
            values: [" before".to_owned(), " now".to_owned()],
        }
    }

    /// The first result of a side (`base` or `new`), and another one at an index.
    pub(super) fn within(side: &str, at: usize) -> Self {
        Self::pair(side, 0, at)
    }

    /// Two results of a side, by their indexes.
    pub(super) fn pair(side: &str, first: usize, other: usize) -> Self {
        let [first, other] = [first, other].map(|at| format!("{side} result {}", at + 1));
        Self {
            subject: format!("{side} results, "),
            values: [format!(" in {first}"), format!(" in {other}")],
            results: [first, other],
        }
    }

    pub(super) fn texts(&self) -> [String; 2] {
        self.results.clone()
    }

    fn changed(&self, what: &str, first: Option<&str>, second: Option<&str>) -> Option<String> {
        let text = |value: Option<&str>| value.unwrap_or("not recorded").to_owned();
        let [in_first, in_second] = &self.values;
        (first != second)
            .then(|| format!("{}{what}: {}{in_first}, {}{in_second}", self.subject, text(first), text(second)))
    }

    fn only_in(&self, what: &str, which: usize) -> String {
        format!("{}{what}: only in the {}", self.subject, self.results[which])
    }
}

/// A text for each difference between two results.
pub(super) fn notes(names: &Names, first: &Saved, second: &Saved) -> Vec<String> {
    let tool = names.changed("program", first.run.tool.as_deref(), second.run.tool.as_deref());
    let conditions = facts(names, "", &first.environment.facts, &second.environment.facts);
    // Each run has another seed, which decides only the order of the cells.
    let names_of_plan = all_names(&first.run.plan, &second.run.plan).into_iter().filter(|name| *name != "seed");
    let plan = names_of_plan.filter_map(|name| {
        names.changed(&format!("plan, {}", spaced(name)), setting(first, name), setting(second, name))
    });
    tool.into_iter().chain(conditions).chain(devices(names, first, second)).chain(plan).collect()
}

fn devices(names: &Names, first: &Saved, second: &Saved) -> Vec<String> {
    let (before, now) = (&first.environment.devices, &second.environment.devices);
    let find = |devices: &'_ [SavedDevice], bdf: &str| devices.iter().position(|device| device.bdf == bdf);
    let mut notes = Vec::new();
    for device in before {
        match find(now, &device.bdf) {
            Some(at) => {
                let other = &now[at];
                let name = format!("{}, name", device.bdf);
                notes.extend(names.changed(&name, device.name.as_deref(), other.name.as_deref()));
                notes.extend(facts(names, &format!("{}, ", device.bdf), &device.facts, &other.facts));
            }
            None => notes.push(names.only_in(&device.bdf, 0)),
        }
    }
    let added = now.iter().filter(|device| find(before, &device.bdf).is_none());
    notes.extend(added.map(|device| names.only_in(&device.bdf, 1)));
    notes
}

/// The facts that differ, each with `subject` before its name.
fn facts(names: &Names, subject: &str, first: &[(String, String)], second: &[(String, String)]) -> Vec<String> {
    let value = |facts: &'_ [(String, String)], name: &str| {
        facts.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    let difference = |name: &str| {
        let (before, now) = (value(first, name), value(second, name));
        // The facts about the server are one long text.
        if name == "peer" {
            return (before != now)
                .then(|| format!("{}{subject}peer: the facts about the server differ", names.subject));
        }
        names.changed(&format!("{subject}{}", spaced(name)), before.as_deref(), now.as_deref())
    };
    all_names(first, second).into_iter().filter_map(difference).collect()
}

/// The names in either list: those of `first` first.
fn all_names<'a>(first: &'a [(String, String)], second: &'a [(String, String)]) -> Vec<&'a str> {
    let mut names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    let added = second.iter().map(|(name, _)| name.as_str());
    names.extend(added.filter(|name| !first.iter().any(|(known, _)| known == name)));
    names
}

fn spaced(name: &str) -> String {
    name.replace('_', " ")
}
