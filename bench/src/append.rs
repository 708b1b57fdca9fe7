//! Adds the cells of a run to an earlier result. A result records one program and one environment for all its cells, so both
//! runs must have the same.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use peerpath_paths::input_file::{self, InputError};
use peerpath_paths::{Explained, Explanation, Severity, limit_of_open_files, sentence};
use serde_json::{Map, Value};

use crate::plan::MOST_CELLS;
use crate::result::{AppendedRun, DeviceRecord, Environment, RunResult};

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
    #[error("it contains {count} of the cells already, e.g. {first}")]
    Repeated { count: usize, first: String },
    #[error("it has {earlier} cells, this plan has {new}, and a result has at most {MOST_CELLS}")]
    TooMany { earlier: usize, new: usize },
}

impl Explained for AppendError {
    fn explanation(&self) -> Explanation {
        let remedy = match &self.reason {
            Reason::Repeated { .. } => "Choose values that the result does not contain, or save to another directory.",
            _ => "Save to another directory. A report can show several results.",
        };
        Explanation::uncaused(sentence(&self.reason.to_string()), remedy)
    }
    fn severity(&self) -> Severity {
        if limit_of_open_files(self).is_some() { Severity::Unavailable } else { Severity::BadInput }
    }
}

/// Reads the result in `file` and adds a run to it. `now` is the result of that run, still without cells. `ids` are the
/// identifiers of its cells, and `device` returns the current facts about a function.
///
/// # Errors
/// The file is not a result that this version of the program wrote on this host in its current state, or contains a cell of the
/// plan, or has too many cells.
pub(crate) fn continued(
    file: &Path,
    now: RunResult,
    ids: &[String],
    device: impl Fn(&DeviceRecord) -> DeviceRecord,
) -> Result<RunResult, AppendError> {
    let refused = |reason| AppendError { file: file.to_owned(), reason };
    let read = || Ok::<RunResult, Reason>(serde_json::from_slice(&input_file::read(file, MAX_FILE_BYTES)?)?);
    let mut result = read().map_err(refused)?;
    let differences = differences(&result, &now, device);
    if !differences.is_empty() {
        return Err(refused(Reason::Different(differences)));
    }
    let known: HashSet<&str> = result.cells.iter().map(|cell| cell.id.as_str()).collect();
    let repeated: Vec<&String> = ids.iter().filter(|id| known.contains(id.as_str())).collect();
    if let [first, ..] = repeated[..] {
        return Err(refused(Reason::Repeated { count: repeated.len(), first: first.clone() }));
    }
    if result.cells.len().saturating_add(ids.len()) > MOST_CELLS {
        return Err(refused(Reason::TooMany { earlier: result.cells.len(), new: ids.len() }));
    }
    result.appended.push(AppendedRun { first_cell: result.cells.len(), run: now.run });
    Ok(result)
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
        continued(&file, now, &["a cell".to_owned()], |_| device(name)).map_err(|error| {
            let Explanation { why, .. } = error.explanation();
            why
        })
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
