//! Names of sources and targets on the command line: with or without their kind, and misspelt.
//!
//! A name without its kind is accepted if this host has exactly one device with it.

use peerpath_bench::failure::Failure;
use peerpath_bench::plan::Target;
use peerpath_exporter::{Error, Source, split_sources};
use peerpath_importers::{Discovered, IMPORTERS, targets_named};
use peerpath_paths::{Bdf, Explained as _, GroupError, Inventory, Severity, Tree};

use crate::similar::closest;

const KINDS_OF_SOURCES: [&str; 5] = ["host", "udmabuf", "heap", "cuda", "socket"];

/// The sources that the values of an option name. Commas separate several sources of one value.
pub(crate) fn sources(values: &[String]) -> Result<Vec<Source>, Failure> {
    values.iter().flat_map(|value| split_sources(value)).map(source).collect()
}

/// The source that a text names.
pub(crate) fn source(text: &str) -> Result<Source, Failure> {
    let error = match text.parse::<Source>() {
        Ok(source) => return Ok(source),
        Err(error) => error,
    };
    let what = || format!("cannot use {:?} as a source", shortened(text));
    if let Ok(bdf) = text.parse() {
        return only_bar(bdf, what());
    }
    let (kind, rest) = text.split_once(':').map_or((text, ""), |(kind, _)| (kind, &text[kind.len()..]));
    if let Some(known) = closest(kind, KINDS_OF_SOURCES).filter(|known| *known != kind) {
        let size = if rest.is_empty() { ":16M" } else { rest };
        return Err(Failure::bad_input(
            what(),
            format!("{kind:?} is not a kind of source"),
            format!("did you mean {known}{}?", shortened(size)),
        ));
    }
    let as_target = targets_named(&discovered(), text.split_once(':').map_or(text, |(_, address)| address));
    if let [target, ..] = &as_target[..] {
        return Err(Failure::bad_input(
            what(),
            "it is a target: --from names memory, --to names the device that imports it",
            format!("did you mean --to {target}?"),
        ));
    }
    match error {
        Error::BadSource { why, remedy, .. } => Err(Failure::bad_input(what(), why, remedy)),
        error => Err(error.into()),
    }
}

/// The only exportable BAR of a function.
fn only_bar(bdf: Bdf, what: String) -> Result<Source, Failure> {
    let entry = Inventory::read(&Tree::live()).list().into_iter().find(|entry| entry.bdf == bdf);
    let entry = entry.ok_or(GroupError::NoFunction { bdf })?;
    let bars: Vec<_> =
        entry.bars.iter().filter(|bar| bar.exportable).map(|bar| format!("{bdf}:{}", bar.index)).collect();
    let (why, remedy) = match &bars[..] {
        [only] => return Ok(only.parse::<Source>()?),
        [] => ("it has no BAR that can be exported", "choose a BAR from `peerpath list`".to_owned()),
        several => ("it has several BARs that can be exported", format!("name one of them: {}", several.join(", "))),
    };
    Err(Failure::bad_input(what, why, remedy))
}

/// The target that a text names.
pub(crate) fn target(text: &str) -> Result<Target, Failure> {
    let error = match text.parse::<Target>() {
        Ok(target) => return Ok(target),
        Err(error) => error,
    };
    let discovered = discovered();
    let what = || format!("cannot use {:?} as a target", shortened(text));
    match &targets_named(&discovered, text)[..] {
        [only] => return Ok(only.parse::<Target>()?),
        [] => {}
        several => return Err(ambiguous(what(), several)),
    }
    let unknown_kind = |kind: &str| format!("{:?} is not a kind of target", shortened(kind));
    if let Some((kind, known)) = misspelt_kind(text) {
        return Err(Failure::bad_input(what(), unknown_kind(kind), format!("did you mean \"{known}:\"?")));
    }
    if let Some(meant) = meant(text, &discovered) {
        let why = "no target of this host has exactly this name";
        return Err(Failure::bad_input(what(), why, format!("did you mean {meant}?")));
    }
    Err(match (text.parse::<Bdf>(), text.split_once(':')) {
        (Ok(bdf), _) => GroupError::NoFunction { bdf }.into(),
        (Err(_), Some((kind, _))) => Failure::bad_input(what(), unknown_kind(kind), error.explanation().remedy),
        (Err(_), None) => no_device(text, NAMES.to_owned()),
    })
}

const NAMES: &str = "choose a device from `peerpath list`";

fn no_device(text: &str, remedy: String) -> Failure {
    let what = format!("cannot find the device {:?}", shortened(text));
    Failure::bad_input(what, "the host has no device with this name", remedy)
}

/// The kind of a target that is none, and the one that it resembles: `verb` and `verbs`.
fn misspelt_kind(text: &str) -> Option<(&str, &'static str)> {
    let (kind, _) = text.split_once(':').filter(|_| text.parse::<Bdf>().is_err())?;
    Some((kind, closest(kind, IMPORTERS.iter().map(|importer| importer.kind()))?))
}

pub(crate) fn ambiguous(what: String, several: &[String]) -> Failure {
    Failure::bad_input(
        what,
        "several devices of this host have this name or function",
        format!("name one of them: {}", several.join(", ")),
    )
}

/// The target that a wrong name probably means.
fn meant(text: &str, discovered: &[Discovered]) -> Option<String> {
    let inventory = Inventory::read(&Tree::live());
    // A function that is not bound to VFIO, or a device of another kind on a function: nvme:nvme0, eth0.
    let function = text.parse().ok().filter(|bdf| inventory.topology.function(*bdf).is_some());
    let on_function = || {
        let has_name = |name: &String| name == text || name.split_once(':').is_some_and(|(_, name)| name == text);
        inventory
            .topology
            .functions()
            .iter()
            .find(|function| function.devices.iter().any(has_name))
            .map(|found| found.bdf)
    };
    if let Some(bdf) = function.or_else(on_function) {
        let target = discovered.iter().find(|device| device.bdf == Some(bdf)).map(|device| device.target.clone());
        return Some(target.unwrap_or_else(|| format!("iommufd:{bdf}")));
    }
    let named = |device: &&Discovered| device.target.split_once(':').map(|(_, name)| name.to_owned());
    let names: Vec<_> = discovered.iter().filter_map(|device| named(&device)).collect();
    let closest = closest(text, &names)?;
    discovered.iter().find(|device| named(device).as_ref() == Some(closest)).map(|device| device.target.clone())
}

/// The targets of this host.
fn discovered() -> Vec<Discovered> {
    IMPORTERS.iter().flat_map(|importer| importer.discover()).collect()
}

/// The device of an inspected host that a text names, with its kind: `verbs:rxe0` for `rxe0`. Functions, GPUs of CUDA and names
/// with a kind are returned unchanged.
pub(crate) fn device_of(inventory: &Inventory, text: &str) -> Result<String, Failure> {
    if text.contains(':') || text.parse::<Bdf>().is_ok() {
        return Ok(text.to_owned());
    }
    let (name, rest) = text.split_at(text.find(['/', '?']).unwrap_or(text.len()));
    let devices: Vec<_> = inventory.topology.functions().iter().flat_map(|function| &function.devices).collect();
    let named: Vec<_> =
        devices.iter().filter(|device| device.split_once(':').is_some_and(|(_, own)| own == name)).collect();
    match &named[..] {
        [only] => Ok(format!("{only}{rest}")),
        [] => Err(no_device(text, similar_device(inventory, name))),
        several => Err(ambiguous(
            format!("cannot use {:?}", shortened(text)),
            &several.iter().map(|device| (**device).clone()).collect::<Vec<_>>(),
        )),
    }
}

/// Creates the failure for a device name with a kind (`verbs:mlx5_9`) that belongs to no PCI function of the host. On the running
/// host, an error of the importer's probe about the name takes precedence.
pub(crate) fn absent(inventory: &Inventory, text: &str, is_live: bool) -> Failure {
    let is_kind = |kind: &str| IMPORTERS.iter().any(|importer| importer.kind() == kind);
    let has_kind_of_target =
        text.split_once(':').is_none_or(|(kind, _)| is_kind(kind)) || misspelt_kind(text).is_some();
    if is_live && has_kind_of_target {
        // On this host, the importer says why the address is wrong, or that the device does not exist.
        let probe = |Target { importer, address }: Target| Ok(importer.probe(&address).map(drop)?);
        match target(text).and_then(probe) {
            Err(failure) if failure.severity == Severity::BadInput => return failure,
            _ => {}
        }
    }
    Failure::bad_input(
        format!("cannot find the PCI function of {}", shortened(text)),
        "the host has no such device, or the device belongs to no PCI function",
        similar_device(inventory, text),
    )
}

/// Remedy for an unknown device name: suggests the closest one.
fn similar_device(inventory: &Inventory, text: &str) -> String {
    let own_name = |device: &str| device.split_once(':').map_or(device, |(_, name)| name).to_owned();
    let devices = || inventory.topology.functions().iter().flat_map(|function| &function.devices);
    let similar = closest(&own_name(text), devices().map(|device| own_name(device)));
    match similar.and_then(|name| devices().find(|device| own_name(device) == name)) {
        Some(device) => format!("did you mean {device}?"),
        None => NAMES.to_owned(),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
