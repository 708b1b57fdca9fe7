//! Which run a result is of, and its conditions.

use serde_json::Value;

use super::object::Object;
use super::text;

/// Most arguments of a command line, and most functions of a host.
const MOST: usize = 1000;
/// Most facts of a function.
const MOST_FACTS: usize = 40;

/// A run, as far as its result tells.
#[derive(Debug, Clone, Default)]
pub struct SavedRun {
    /// Version of the format.
    pub schema_version: Option<u64>,
    /// Which program wrote it: name, version, revision.
    pub tool: Option<String>,
    /// Unique among runs.
    pub id: Option<String>,
    /// UTC, RFC 3339.
    pub started_at: Option<String>,
    /// The command line.
    pub arguments: Vec<String>,
    /// What was asked, every default filled in: name and value.
    pub plan: Vec<(String, String)>,
    /// Cells may be missing.
    pub interrupted: bool,
    /// What may have made figures worse than they have to be.
    pub warnings: Vec<String>,
}

/// The conditions of a run, as far as its result tells.
#[derive(Debug, Clone, Default)]
pub struct SavedEnvironment {
    /// Host name.
    pub hostname: Option<String>,
    /// Kind of IOMMU, or `none`.
    pub iommu: Option<String>,
    /// Kernel release.
    pub kernel: Option<String>,
    /// The devices are emulated.
    pub emulated: Option<bool>,
    /// By which emulator.
    pub emulator: Option<String>,
    /// A CPU did the RDMA.
    pub soft_rdma: Option<bool>,
    /// Everything that is said, of whatever version: name and value.
    pub facts: Vec<(String, String)>,
    /// The PCI functions that took part.
    pub devices: Vec<SavedDevice>,
}

/// A PCI function.
#[derive(Debug, Clone, Default)]
pub struct SavedDevice {
    /// Its address.
    pub bdf: String,
    /// Its name.
    pub name: Option<String>,
    /// What else is known of it: name and value.
    pub facts: Vec<(String, String)>,
}

pub(super) fn read_run(result: &Object<'_>) -> SavedRun {
    let (run, tool) = (result.object("run"), result.object("tool"));
    let words: Vec<String> = ["name", "version", "git_revision"].iter().filter_map(|key| tool.name(key)).collect();
    SavedRun {
        schema_version: result.count("schema_version"),
        tool: (!words.is_empty()).then(|| words.join(" ")),
        id: run.name("id"),
        started_at: run.name("started_at"),
        arguments: run.sentences("arguments", MOST),
        plan: facts(run.object("plan"), &[]),
        interrupted: run.flag("interrupted") == Some(true),
        warnings: run.sentences("warnings", MOST_FACTS),
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
        devices: environment.list("devices").unwrap_or_default().iter().take(MOST).map(device).collect(),
    }
}

/// Whatever an object says, in words.
fn facts(object: Object<'_>, except: &[&str]) -> Vec<(String, String)> {
    let told = object.entries().filter(|(key, value)| !except.contains(&key.as_str()) && !value.is_null());
    told.take(MOST_FACTS).map(|(key, value)| (text::name(key), in_words(value))).collect()
}

/// Lists without their brackets, text without its quotes.
fn in_words(value: &Value) -> String {
    let one = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => "not given".to_owned(),
        other => other.to_string(),
    };
    text::sentence(&match value {
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => list.iter().take(MOST).map(one).collect::<Vec<_>>().join(", "),
        Value::Object(facts) => {
            let facts: Vec<String> =
                facts.iter().take(MOST_FACTS).map(|(key, value)| format!("{} {}", key, one(value))).collect();
            facts.join(", ")
        }
        other => one(other),
    })
}
