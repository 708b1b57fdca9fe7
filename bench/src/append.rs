//! Adds the cells of a run to an earlier result. A result records one program and one environment for all its cells, so both
//! runs must have the same.
//!
//! Cells that the earlier result contains are not measured again, so that the same command completes an interrupted run. Those
//! that did not pass, or lack repeats, are measured again. The old record of a cell is kept until the new one replaces it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use peerpath_paths::input_file::{self, InputError};
use peerpath_paths::{Explained, Explanation, Severity, limit_of_open_files, sentence};
use serde_json::{Map, Value};

use crate::plan::MOST_CELLS;
use crate::result::{AppendedRun, Cell, DeviceRecord, Environment, Outcome, RunResult};

/// Maximum length of a result, in bytes. `peerpath-report` has the same limit.
const MAX_FILE_BYTES: u64 = 512 << 20;
/// Facts of the environment that are known only after a run has opened its devices. The comparison of environments omits them.
const OF_DEVICES: [&str; 3] = ["devices", "emulated", "soft_rdma"];
/// Settings of a plan that apply to every cell. Cells do not record them, so both runs must have the same.
const OF_EVERY_CELL: [&str; 4] = ["connection", "completion_moderation", "post_list", "cpus"];
/// Facts about a PCI function that no run changes.
const OF_A_FUNCTION: [&str; 2] = ["name", "numa_node"];
/// Maximum number of differences in an error.
const MOST_DIFFERENCES: usize = 5;
/// Maximum length of a value in an error, in characters.
const LONGEST_VALUE: usize = 100;

/// Reason why the cells of a run cannot be added to a result.
#[derive(Debug, thiserror::Error)]
#[error("cannot add cells to {}", file.display())]
pub(crate) struct AppendError {
    file: PathBuf,
    #[source]
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("{0}")]
    Unreadable(#[from] InputError),
    #[error("it is not a result of this version of the program: {0}")]
    Invalid(#[from] serde_json::Error),
    #[error("this run differs from the one that wrote the file: {}", .0.join("; "))]
    Different(Vec<String>),
    #[error("it has {earlier} cells, this plan has {new}, and a result has at most {MOST_CELLS}")]
    TooMany { earlier: usize, new: usize },
}

impl Explained for AppendError {
    fn explanation(&self) -> Explanation {
        let remedy = "Save to another directory. A report can show several results.";
        Explanation::uncaused(sentence(&self.reason.to_string()), remedy)
    }
    fn severity(&self) -> Severity {
        if limit_of_open_files(self).is_some() { Severity::Unavailable } else { Severity::BadInput }
    }
}

/// Identifiers of the cells of a plan that an earlier result contains.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    /// Cells that passed with all repeats: the run skips them.
    pub(crate) complete: HashSet<String>,
    /// Cells that did not pass or lack repeats: the run measures them again and replaces their records.
    pub(crate) incomplete: HashSet<String>,
}

/// Cells of a plan.
pub(crate) struct Planned<'a> {
    /// Their identifiers.
    pub(crate) ids: &'a [String],
    /// Number of repeats of each.
    pub(crate) repeats: u32,
}

/// Reads the result in `file` and adds a run to it. `now` is the result of that run, still without cells. `device` returns the
/// current facts about a function.
///
/// # Errors
/// The file is not a result that this version of the program wrote on this host in its current state, or has too many cells.
pub(crate) fn continued(
    file: &Path,
    now: RunResult,
    planned: &Planned<'_>,
    device: impl Fn(&DeviceRecord) -> DeviceRecord,
) -> Result<(RunResult, Earlier), AppendError> {
    let refused = |reason| AppendError { file: file.to_owned(), reason };
    let read = || Ok::<RunResult, Reason>(serde_json::from_slice(&input_file::read(file, MAX_FILE_BYTES)?)?);
    let mut result = read().map_err(refused)?;
    let differences = differences(&result, &now, device);
    if !differences.is_empty() {
        return Err(refused(Reason::Different(differences)));
    }
    let ids: HashSet<&String> = planned.ids.iter().collect();
    let is_complete = |cell: &Cell| cell.outcome == Outcome::Passed && cell.repeats.len() >= planned.repeats as usize;
    let mut earlier = Earlier::default();
    for cell in result.cells.iter().filter(|cell| ids.contains(&cell.id)) {
        let list = if is_complete(cell) { &mut earlier.complete } else { &mut earlier.incomplete };
        list.insert(cell.id.clone());
    }
    let new = ids.len() - earlier.complete.len() - earlier.incomplete.len();
    if result.cells.len().saturating_add(new) > MOST_CELLS {
        return Err(refused(Reason::TooMany { earlier: result.cells.len(), new }));
    }
    result.appended.push(AppendedRun { first_cell: result.cells.len(), run: now.run });
    result.environment.emulated |= now.environment.emulated;
    Ok((result, earlier))
}

/// Differences between an earlier result and the current run, as clauses for an error.
fn differences(earlier: &RunResult, now: &RunResult, device: impl Fn(&DeviceRecord) -> DeviceRecord) -> Vec<String> {
    let mut found = Differences::default();
    found.compare("schema_version", &earlier.schema_version.into(), &now.schema_version.into());
    found.objects("tool ", &object(&earlier.tool), &object(&now.tool));
    for name in OF_EVERY_CELL {
        found.compare(&format!("the plan's {name}"), &earlier.run.plan[name], &now.run.plan[name]);
    }
    found.environments("", &earlier.environment, &now.environment);
    for record in &earlier.environment.devices {
        let (then, now) = (&record.facts, device(record).facts);
        // Compare only facts that both runs could read.
        let both = |name: &&&str| then.contains_key(**name) && now.contains_key(**name);
        for name in OF_A_FUNCTION.iter().filter(both) {
            found.compare(&format!("{name} of {}", record.bdf), &then[*name], &now[*name]);
        }
    }
    found.0
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn environments(&mut self, place: &str, earlier: &Environment, now: &Environment) {
        let facts = |environment: &Environment| {
            let mut facts = object(environment);
            facts.retain(|name, _| name != "peer" && !OF_DEVICES.contains(&name.as_str()));
            facts
        };
        self.objects(place, &facts(earlier), &facts(now));
        match (&earlier.peer, &now.peer) {
            (Some(earlier), Some(now)) => self.environments("peer's ", earlier, now),
            (None, None) => {}
            (earlier, _) => {
                let number = |is_two| if is_two { "two hosts" } else { "one host" };
                let is_two = earlier.is_some();
                self.add(format!("it measured {}, and this run measures {}", number(is_two), number(!is_two)));
            }
        }
    }

    fn objects(&mut self, place: &str, earlier: &Map<String, Value>, now: &Map<String, Value>) {
        let names: BTreeMap<&String, ()> = earlier.keys().chain(now.keys()).map(|name| (name, ())).collect();
        for name in names.keys() {
            let of = |object: &Map<String, Value>| object.get(*name).cloned().unwrap_or_default();
            self.compare(&format!("{place}{name}"), &of(earlier), &of(now));
        }
    }

    fn compare(&mut self, name: &str, earlier: &Value, now: &Value) {
        if earlier != now {
            self.add(format!("{name} was {}, and is {}", shortened(earlier), shortened(now)));
        }
    }

    fn add(&mut self, text: String) {
        if self.0.len() < MOST_DIFFERENCES {
            self.0.push(text);
        }
    }
}

fn object(value: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn shortened(value: &Value) -> String {
    let text = if value.is_null() { "absent".to_owned() } else { value.to_string() };
    let cut: String = text.chars().take(LONGEST_VALUE).collect();
    if cut.len() < text.len() { cut + "..." } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Run, SCHEMA_VERSION, Tool};

    fn result(id: &str) -> RunResult {
        RunResult {
            schema_version: SCHEMA_VERSION,
            tool: Tool { name: "peerpath".into(), version: "1".into(), git_revision: None },
            run: Run {
                id: id.into(),
                started_at: "2026-01-01T00:00:00Z".into(),
                arguments: Vec::new(),
                plan: Value::Object(Map::new()),
                interrupted: false,
                warnings: Vec::new(),
            },
            appended: Vec::new(),
            environment: Environment {
                kernel: Some("7.2".into()),
                devices: vec![device("a NIC")],
                ..Environment::default()
            },
            cells: Vec::new(),
        }
    }

    fn device(name: &str) -> DeviceRecord {
        let facts = [("name".to_owned(), Value::from(name)), ("driver".to_owned(), Value::from(name))].into();
        DeviceRecord { bdf: "0000:03:00.0".parse().unwrap(), facts }
    }

    fn append(earlier: &str, now: RunResult, name: &str) -> Result<RunResult, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("result.json");
        std::fs::write(&file, earlier).unwrap();
        let planned = Planned { ids: &["a cell".to_owned()], repeats: 1 };
        let continued = continued(&file, now, &planned, |_| device(name));
        continued.map(|(result, _)| result).map_err(|error| error.explanation().why)
    }

    #[test]
    fn another_run_in_the_same_environment_continues_the_result() {
        let earlier = serde_json::to_string(&result("first")).unwrap();
        let now = RunResult {
            environment: Environment { devices: Vec::new(), ..result("").environment },
            ..result("second")
        };
        let continued = append(&earlier, now, "a NIC").unwrap();
        assert_eq!((continued.run.id.as_str(), continued.last_run().id.as_str()), ("first", "second"));
        assert_eq!((continued.appended[0].first_cell, continued.last_cells().len()), (0, 0));
        let text = serde_json::to_value(&continued).unwrap();
        assert_eq!((&text["appended"][0]["id"], &text["appended"][0]["first_cell"]), (&"second".into(), &0.into()));
    }

    #[test]
    fn refuses_another_environment_and_names_the_differences() {
        let earlier = serde_json::to_string(&result("first")).unwrap();
        let mut kernel = result("second");
        kernel.environment.kernel = Some("7.3".into());
        kernel.environment.iommu = Some("x".repeat(1000));
        let why = append(&earlier, kernel, "a NIC").unwrap_err();
        assert!(why.contains("kernel was \"7.2\", and is \"7.3\"") && why.contains("iommu was absent"), "{why}");
        assert!(why.len() < 400, "{why}");
        let mut tool = result("second");
        tool.tool.version = "2".into();
        assert!(append(&earlier, tool, "a NIC").unwrap_err().contains("tool version was \"1\", and is \"2\""));
        let why = append(&earlier, result("second"), "a GPU").unwrap_err();
        assert!(why.contains("name of 0000:03:00.0 was \"a NIC\"") && !why.contains("driver"), "{why}");
        let mut moderated = result("second");
        moderated.run.plan["post_list"] = 4.into();
        let why = append(&earlier, moderated, "a NIC").unwrap_err();
        assert!(why.contains("the plan's post_list was absent, and is 4"), "{why}");
        let mut peer = result("second");
        peer.environment.peer = Some(Box::default());
        let why = append(&earlier, peer, "a NIC").unwrap_err();
        assert!(why.contains("it measured one host, and this run measures two hosts"), "{why}");
    }

    #[test]
    fn refuses_a_file_that_is_not_a_result_of_this_version() {
        for text in ["", "{}", "[]", r#"{"schema_version": 2}"#] {
            assert!(append(text, result("second"), "a NIC").unwrap_err().contains("not a result"), "{text}");
        }
        let earlier = serde_json::to_string(&RunResult { schema_version: 1, ..result("first") }).unwrap();
        assert!(append(&earlier, result("second"), "a NIC").unwrap_err().contains("schema_version was 1, and is 2"));
    }
}
