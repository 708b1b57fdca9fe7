//! The run of a result, and the host it ran on.

use peerpath_paths::public_command_line;
use serde_json::Value;

use super::object::Object;
use super::sanitize::{clean_name, clean_sentence};

/// Maximum number of arguments of a command line, and of PCI functions of a host.
const MAX_ENTRIES: usize = 1000;
/// Maximum length of a list of facts, e.g. about a PCI function.
const MAX_FACTS: usize = 40;

/// The run that wrote a result.
#[derive(Debug, Clone, Default)]
pub struct SavedRun {
    /// Version of the file format.
    pub schema_version: Option<u64>,
    /// Name, version and revision of the program that wrote the result.
    pub tool: Option<String>,
    /// Identifier of the run.
    pub id: Option<String>,
    /// Start of the run: UTC, RFC 3339.
    pub started_at: Option<String>,
    /// Command line.
    pub arguments: Vec<String>,
    /// Settings of the run including defaults, as name and value. Settings that are null are not listed.
    pub plan: Vec<(String, String)>,
    /// Whether the run was interrupted: cells may be missing.
    pub interrupted: bool,
    /// Conditions that may have affected the figures, e.g. threads on another NUMA node than the device.
    pub warnings: Vec<String>,
}

/// A run that added cells to a result.
#[derive(Debug, Clone, Default)]
pub struct AppendedRun {
    /// Index of its first cell.
    pub first_cell: u64,
    /// Identity, time and parameters of the run.
    pub run: SavedRun,
}

/// The host of a run, and the conditions on it.
#[derive(Debug, Clone, Default)]
pub struct SavedEnvironment {
    /// Host name.
    pub hostname: Option<String>,
    /// Kind of IOMMU, or `none`.
    pub iommu: Option<String>,
    /// Kernel release.
    pub kernel: Option<String>,
    /// Whether the devices are emulated: timings then do not describe hardware.
    pub emulated: Option<bool>,
    /// Name of the emulator.
    pub emulator: Option<String>,
    /// Whether a CPU executes RDMA operations (soft RDMA).
    pub soft_rdma: Option<bool>,
    /// Every condition that the result records, as name and value.
    pub facts: Vec<(String, String)>,
    /// PCI functions of the run.
    pub devices: Vec<SavedDevice>,
}

/// A PCI function of a run.
#[derive(Debug, Clone, Default)]
pub struct SavedDevice {
    /// Address, e.g. `0000:03:00.0`.
    pub bdf: String,
    /// Vendor and device name.
    pub name: Option<String>,
    /// Other recorded facts about the function, as name and value.
    pub facts: Vec<(String, String)>,
}

pub(super) fn read_run(result: &Object<'_>) -> SavedRun {
    run_of(result, result.object("run"))
}

pub(super) fn read_appended(result: &Object<'_>) -> Vec<AppendedRun> {
    let appended = |value: &Value| {
        let run = Object::of(value);
        Some(AppendedRun { first_cell: run.count("first_cell")?, run: run_of(result, run) })
    };
    result.list("appended").unwrap_or_default().iter().take(MAX_ENTRIES).filter_map(appended).collect()
}

fn run_of(result: &Object<'_>, run: Object<'_>) -> SavedRun {
    let tool = result.object("tool");
    let parts: Vec<String> = ["name", "version", "git_revision"].iter().filter_map(|key| tool.name(key)).collect();
    SavedRun {
        schema_version: result.count("schema_version"),
        tool: (!parts.is_empty()).then(|| parts.join(" ")),
        id: run.name("id"),
        started_at: run.name("started_at"),
        arguments: run.sentences("arguments", MAX_ENTRIES),
        plan: facts(run.object("plan"), &[]),
        interrupted: run.flag("interrupted") == Some(true),
        warnings: run.sentences("warnings", MAX_FACTS),
    }
}

pub(super) fn read_environment(environment: Object<'_>) -> SavedEnvironment {
    let device = |value: &Value| {
        let device = Object::of(value);
        SavedDevice {
            bdf: device.name("bdf").unwrap_or_else(|| "unnamed".to_owned()),
            name: device.name("name"),
            facts: facts(device, &["bdf", "name"]),
        }
    };
    SavedEnvironment {
        hostname: environment.name("hostname"),
        iommu: environment.name("iommu"),
        kernel: environment.name("kernel"),
        emulated: environment.flag("emulated"),
        emulator: environment.name("emulator"),
        soft_rdma: environment.flag("soft_rdma"),
        facts: facts(environment, &["devices"]),
        devices: environment.list("devices").unwrap_or_default().iter().take(MAX_ENTRIES).map(device).collect(),
    }
}

/// Fields of an object as name and value.
fn facts(object: Object<'_>, except: &[&str]) -> Vec<(String, String)> {
    let present = object.entries().filter(|(key, value)| !except.contains(&key.as_str()) && !value.is_null());
    present.take(MAX_FACTS).map(|(key, value)| (clean_name(key), value_text(key, value))).collect()
}

/// The JSON value of a key as text: lists without brackets, strings without quotes.
fn value_text(key: &str, value: &Value) -> String {
    let one = |key: &str, value: &Value| match value {
        // The program that wrote the result may have saved the whole kernel command line.
        Value::String(text) if key == "command_line" => public_command_line(text),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => "unset".to_owned(),
        other => other.to_string(),
    };
    clean_sentence(&match value {
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => list.iter().take(MAX_ENTRIES).map(|value| one(key, value)).collect::<Vec<_>>().join(", "),
        Value::Object(facts) => {
            let facts: Vec<String> =
                facts.iter().take(MAX_FACTS).map(|(key, value)| format!("{} {}", key, one(key, value))).collect();
            facts.join(", ")
        }
        other => one(key, other),
    })
}
