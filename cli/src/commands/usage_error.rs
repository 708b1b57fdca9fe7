//! Errors of the command line and of a plan file's values, as clap finds them.

use std::process::ExitCode;

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use peerpath_bench::failure::Failure;

use super::plan_file::PlanFile;
use crate::terminal::{self, printable};

/// Prints an error, and returns its exit code: 0 for help and version, which clap reports as errors.
pub(super) fn report(mut error: Error, plan: Option<&PlanFile>) -> ExitCode {
    clean(&mut error);
    if let Some(failure) = plan.and_then(|plan| in_plan(&error, plan)) {
        return terminal::report(&failure);
    }
    if let Some(failure) = misplaced_plan(&error) {
        return terminal::report(&failure);
    }
    // A closed standard output or standard error changes nothing.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Replaces control characters in what the user typed, or what a file contains.
fn clean(error: &mut Error) {
    let texts: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in texts {
        let cleaned = match value {
            ContextValue::String(text) => ContextValue::String(printable(&text)),
            ContextValue::Strings(texts) => ContextValue::Strings(texts.iter().map(|text| printable(text)).collect()),
            _ => continue,
        };
        error.insert(kind, cleaned);
    }
}

fn text(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

/// The failure for an option that the plan file contains, with its file and line.
fn in_plan(error: &Error, plan: &PlanFile) -> Option<Failure> {
    let argument = text(error, ContextKind::InvalidArg)?;
    let name: String =
        argument.strip_prefix("--")?.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '-').collect();
    let (key, line) = plan.key_of(&name)?;
    let what = format!("cannot use line {line} of {} as a plan", plan.file.display());
    let meant = |kind| text(error, kind).map(|meant| meant.trim_start_matches("--").to_owned());
    let suggested = meant(ContextKind::SuggestedArg).or_else(|| meant(ContextKind::SuggestedValue));
    let remedy = match suggested {
        Some(meant) => format!("did you mean {meant}?"),
        None => "see `peerpath run --help`: a key of a plan is an option without the dashes".to_owned(),
    };
    let why = match error.kind() {
        ErrorKind::UnknownArgument => format!("{key:?} is not an option of `run`"),
        _ => sentence(error),
    };
    Some(Failure::bad_input(what, why, remedy))
}

/// What clap reports, without its label and its tips, on one line.
fn sentence(error: &Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    first.trim_start_matches("error: ").lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// An option with several values takes a plan after it for one more value.
fn misplaced_plan(error: &Error) -> Option<Failure> {
    let value = text(error, ContextKind::InvalidValue)?;
    value.ends_with(".toml").then(|| {
        Failure::bad_input(
            format!("cannot use the plan {value}"),
            "options precede it on the command line",
            "name the plan directly after `run`",
        )
    })
}
