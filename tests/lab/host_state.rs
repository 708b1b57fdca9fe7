//! The settings of the guest that peerpath may change, to compare them before and after.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::command::until;
use crate::functions::{acs_control, driver, driver_override};

/// Settings of all PCI functions, network interfaces and RDMA devices.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostState(Value);

/// Keys of `ip -details -json` that change without any change of the configuration.
const VOLATILE: &[&str] = &["ifindex", "tentative", "expires", "valid_life_time", "preferred_life_time"];

impl HostState {
    /// Reads the current settings.
    pub(crate) fn read() -> Result<Self, Failed> {
        Ok(Self(json!({"functions": functions()?, "interfaces": interfaces()?, "rdma": rdma()?, "journal": journal()})))
    }

    /// Waits until the host has these settings again: links come up and addresses are checked some time after they are
    /// restored.
    pub(crate) fn expect(&self) -> Result<(), Failed> {
        let mut now = None;
        let waited = until("the host is as before", || {
            now = Self::read().ok();
            now.as_ref() == Some(self)
        });
        let differences = now.map_or_else(String::new, |now| differences("", &self.0, &now.0));
        waited.map_err(|error| format!("{}\n{differences}", error.message().unwrap_or_default()).into())
    }
}

fn functions() -> Result<Value, Failed> {
    let mut found = serde_json::Map::new();
    for entry in fs::read_dir("/sys/bus/pci/devices")? {
        let (folder, bdf) = {
            let entry = entry?;
            (entry.path(), entry.file_name().to_string_lossy().into_owned())
        };
        let config = fs::read(folder.join("config"))?;
        let settings = json!({
            "driver": driver(&bdf),
            "driver_override": driver_override(&bdf),
            "domain_type": text(&folder.join("iommu_group/type")),
            "acs_control": acs_control(&config).map(|(_, control)| control),
        });
        found.insert(bdf, settings);
    }
    Ok(found.into())
}

/// Interfaces of PCI functions: the configuration, the routes and the permanent neighbours.
fn interfaces() -> Result<Value, Failed> {
    let mut found = serde_json::Map::new();
    for entry in fs::read_dir("/sys/class/net")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !Path::new("/sys/class/net").join(&name).join("device/vendor").exists() {
            continue;
        }
        let settings = json!({
            "link": ip(&["-details", "-json", "address", "show", "dev", &name])?,
            "routes": ip(&["-json", "-4", "route", "show", "dev", &name])?,
            "routes of IPv6": ip(&["-json", "-6", "route", "show", "dev", &name])?,
            "neighbours": ip(&["-json", "neighbour", "show", "dev", &name, "nud", "permanent"])?,
        });
        found.insert(name, settings);
    }
    Ok(found.into())
}

fn ip(arguments: &[&str]) -> Result<Value, Failed> {
    let output = Command::new("ip").args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let mut value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    stabilize(&mut value);
    Ok(value)
}

/// Removes what changes without any change of the configuration, and sorts lists.
fn stabilize(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !VOLATILE.contains(&key.as_str()));
            map.values_mut().for_each(stabilize);
        }
        Value::Array(list) => {
            list.iter_mut().for_each(stabilize);
            list.sort_by_key(ToString::to_string);
        }
        _ => {}
    }
}

fn rdma() -> Result<Value, Failed> {
    let mut found = serde_json::Map::new();
    for entry in fs::read_dir("/sys/class/infiniband")? {
        let entry = entry?;
        let state = text(&entry.path().join("ports/1/state"));
        found.insert(
            entry.file_name().to_string_lossy().into_owned(),
            json!([text(&entry.path().join("parent")), state]),
        );
    }
    Ok(found.into())
}

fn journal() -> usize {
    let journal: Value = serde_json::from_str(&text(Path::new("/run/peerpath/journal.json"))).unwrap_or_default();
    journal["entries"].as_array().map_or(0, Vec::len)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Lists the values that differ, one per line.
fn differences(at: &str, before: &Value, now: &Value) -> String {
    match (before, now) {
        _ if before == now => String::new(),
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<_> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter().map(|key| differences(&format!("{at}/{key}"), &before[key], &now[key])).collect()
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => one
            .iter()
            .zip(other)
            .enumerate()
            .map(|(at_, (one, other))| differences(&format!("{at}/{at_}"), one, other))
            .collect(),
        _ => format!("{at}: {before} before, {now} now\n"),
    }
}
