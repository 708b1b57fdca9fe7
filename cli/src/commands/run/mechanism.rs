//! `--mechanism`: one registration for all ranges or one per range, or a mechanism of the target's importer.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use peerpath_bench::failure::Failure;
use peerpath_bench::plan::{Mechanism, Target};
use peerpath_importers::{IMPORTERS, Importer};

/// The value of `--mechanism`.
#[derive(Debug, Clone, Copy)]
pub(super) enum MechanismChoice {
    /// Registers a buffer with several ranges as a whole or per range. The importer chooses the mechanism.
    Ranges(Mechanism),
    /// Name of a mechanism that an importer offers.
    Importer(&'static str),
}

const RANGES: [(&str, Mechanism); 2] = [("auto", Mechanism::Auto), ("mr-per-range", Mechanism::MrPerRange)];

/// Accepts the names that are independent of the importer, and those of every importer.
pub(super) fn parser() -> impl TypedValueParser<Value = MechanismChoice> {
    let of_importers =
        || IMPORTERS.iter().flat_map(|importer| importer.capabilities().mechanisms).map(|spec| spec.name);
    let names = RANGES.iter().map(|(name, _)| *name).chain(of_importers());
    PossibleValuesParser::new(names).map(move |text| match RANGES.iter().find(|(name, _)| *name == text) {
        Some((_, mechanism)) => MechanismChoice::Ranges(*mechanism),
        None => MechanismChoice::Importer(of_importers().find(|name| *name == text).expect("clap checked the name")),
    })
}

/// Selects this mechanism of the importer for each target.
pub(super) fn assign(targets: Vec<Target>, name: &str) -> Result<Vec<Target>, Failure> {
    let one = |target: Target| {
        let has = |importer: &dyn Importer| importer.capabilities().mechanisms.iter().any(|spec| spec.name == name);
        if !has(target.importer) {
            let kinds: Vec<_> = IMPORTERS.iter().filter(|one| has(**one)).map(|one| one.kind()).collect();
            return Err(Failure::bad_input(
                format!("cannot use --mechanism {name} with {target}"),
                format!("only {} targets have this mechanism", kinds.join(" and ")),
                "omit --mechanism, or choose such a target",
            ));
        }
        Ok(format!("{target}?mechanism={name}").parse()?)
    };
    targets.into_iter().map(one).collect()
}
