//! `--mechanism`: one registration for all ranges or one per range, or a mechanism of the target's importer.

use peerpath_bench::failure::Failure;
use peerpath_bench::plan::{Mechanism, Target};
use peerpath_importers::IMPORTERS;

/// The value of `--mechanism`.
#[derive(Debug, Clone, Copy)]
pub(super) enum MechanismChoice {
    /// Registers a buffer with several ranges as a whole or per range. The importer chooses the mechanism.
    Ranges(Mechanism),
    /// Name of a mechanism that an importer offers.
    Importer(&'static str),
}

const RANGES: [(&str, Mechanism); 2] = [("auto", Mechanism::Auto), ("mr-per-range", Mechanism::MrPerRange)];

pub(super) fn parse(text: &str) -> Result<MechanismChoice, String> {
    let of_importers =
        || IMPORTERS.iter().flat_map(|importer| importer.capabilities().mechanisms).map(|spec| spec.name);
    if let Some((_, mechanism)) = RANGES.iter().find(|(name, _)| *name == text) {
        return Ok(MechanismChoice::Ranges(*mechanism));
    }
    of_importers().find(|name| *name == text).map(MechanismChoice::Importer).ok_or_else(|| {
        let names: Vec<_> = RANGES.iter().map(|(name, _)| *name).chain(of_importers()).collect();
        format!("unknown mechanism {text:?}; choose one of {}", names.join(", "))
    })
}

/// Selects this mechanism of the importer for each target.
pub(super) fn assign(targets: Vec<Target>, name: &str) -> Result<Vec<Target>, Failure> {
    let one = |target: Target| {
        if !target.importer.capabilities().mechanisms.iter().any(|spec| spec.name == name) {
            return Err(Failure::bad_input(
                format!("cannot use --mechanism {name} with {target}"),
                format!("{} targets do not have this mechanism", target.importer.kind()),
                "omit --mechanism, or name a target that has the mechanism",
            ));
        }
        Ok(format!("{target}?mechanism={name}").parse()?)
    };
    targets.into_iter().map(one).collect()
}
