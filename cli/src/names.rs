//! Names of sources and targets on the command line: with or without their kind, and misspelt.
//!
//! A name without its kind is accepted if this host has exactly one device with it.

use peerpath_bench::failure::Failure;
use peerpath_bench::plan::Target;
use peerpath_exporter::{Error, Source, split_sources};
use peerpath_importers::{Discovered, IMPORTERS, targets_named};
use peerpath_paths::{Bdf, Explained as _, Inventory, Tree};

use crate::similar::closest;

const FORMS: &str = "name a BAR as 0000:03:00.0:2, ranges of it as 0000:03:00.0:2@0x0+0x2000,0x4000+0x2000, host memory as \
                     host:16M, or GPU memory as cuda:0:64M; see Sources in `peerpath run --help`";

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
        return only_bar(bdf).map_err(|(why, remedy)| Failure::bad_input(what(), why, remedy));
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
    let why = match error {
        Error::BadSource { why, .. } => why,
        error => error.to_string(),
    };
    let (why, remedy) = why
        .split_once(": write ")
        .map_or((&why[..], FORMS.to_owned()), |(why, example)| (why, format!("write {example}")));
    Err(Failure::bad_input(what(), why, remedy))
}

/// The only exportable BAR of a function; otherwise the reason and the remedy.
fn only_bar(bdf: Bdf) -> Result<Source, (String, String)> {
    let entry = Inventory::read(&Tree::live()).list().into_iter().find(|entry| entry.bdf == bdf);
    let Some(entry) = entry else {
        return Err(("this host has no such function".into(), "choose a function from `peerpath list --all`".into()));
    };
    let bars: Vec<_> =
        entry.bars.iter().filter(|bar| bar.exportable).map(|bar| format!("{bdf}:{}", bar.index)).collect();
    match &bars[..] {
        [only] => only.parse().map_err(|error: Error| (error.to_string(), String::new())),
        [] => Err(("it has no BAR that can be exported".into(), "choose a BAR from `peerpath list`".into())),
        several => Err((
            "it has several BARs that can be exported".into(),
            format!("name one of them: {}", several.join(", ")),
        )),
    }
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
    let Some(meant) = meant(text, &discovered) else {
        let (why, remedy) = match text.parse::<Bdf>() {
            Ok(_) => ("this host has no such function".into(), "choose a device from `peerpath list`".into()),
            Err(_) if text.contains(':') => (error.explanation().why, error.explanation().remedy),
            Err(_) => ("this host does not have a device with this name".into(), error.explanation().remedy),
        };
        return Err(Failure::bad_input(what(), why, remedy));
    };
    Err(Failure::bad_input(
        what(),
        if text.contains(':') && text.parse::<Bdf>().is_err() {
            "it is not the name of a target"
        } else {
            "no target of this host has exactly this name"
        },
        format!("did you mean {meant}?"),
    ))
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
    let (kind, address) = text.split_once(':').unwrap_or(("", text));
    let kinds = || IMPORTERS.iter().map(|importer| importer.kind());
    // A misspelt kind, e.g. verb:mlx5_0.
    if let Some(kind) = closest(kind, kinds()).filter(|_| text.parse::<Bdf>().is_err()) {
        return Some(format!("{kind}:{address}"));
    }
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
    let what = || format!("cannot find the device {:?}", shortened(text));
    match &named[..] {
        [only] => Ok(format!("{only}{rest}")),
        [] => {
            let remedy = similar_device(inventory, name);
            Err(Failure::bad_input(what(), "no function of this host has a device with this name", remedy))
        }
        several => Err(ambiguous(what(), &several.iter().map(|device| (**device).clone()).collect::<Vec<_>>())),
    }
}

/// The remedy if no function of an inspected host has this device.
pub(crate) fn similar_device(inventory: &Inventory, text: &str) -> String {
    let own_name = |device: &str| device.split_once(':').map_or(device, |(_, name)| name).to_owned();
    let devices = || inventory.topology.functions().iter().flat_map(|function| &function.devices);
    let similar = closest(&own_name(text), devices().map(|device| own_name(device)));
    match similar.and_then(|name| devices().find(|device| own_name(device) == name)) {
        Some(device) => format!("did you mean {device}?"),
        None => "use a BDF such as 0000:04:00.0, or a device from `peerpath list`".to_owned(),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
