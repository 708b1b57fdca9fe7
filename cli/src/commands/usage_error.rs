//! Errors of the command line and of a plan file's values, as clap finds them.

use std::error::Error as _;
use std::process::ExitCode;

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use peerpath_bench::failure::Failure;
use peerpath_paths::printable;

use super::plan_file::{PlanFile, cannot_use};
use crate::terminal;

/// Prints an error, and returns its exit code: 0 for help and version, which clap reports as errors.
pub(super) fn report(mut error: Error, plan: Option<&PlanFile>) -> ExitCode {
    clean(&mut error);
    if let Some(failure) = plan.and_then(|plan| in_plan(&error, plan).or_else(|| missing_keys(&error, plan))) {
        return terminal::report(&failure);
    }
    if let Some(failure) = misplaced_plan(&error) {
        return terminal::report(&failure);
    }
    // Ignore the error: standard output or standard error may be closed.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Replaces control characters in text that the user typed or that a file contains.
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
    let value = text(error, ContextKind::InvalidValue).filter(|value| !value.is_empty());
    let similar = text(error, ContextKind::SuggestedArg).or_else(|| text(error, ContextKind::SuggestedValue));
    let similar = similar.map(|meant| format!("did you mean {}?", meant.trim_start_matches("--")));
    let (why, remedy) = match (error.kind(), value) {
        (ErrorKind::UnknownArgument, _) => (
            format!("{key:?} is not an option of `run`"),
            "use a long option of `peerpath run --help` without its dashes".to_owned(),
        ),
        (ErrorKind::TooManyValues, _) => {
            (format!("{key:?} takes only true"), format!("write {key} = true, or omit it"))
        }
        (ErrorKind::InvalidValue, None) => {
            (format!("{key:?} is set to true, but takes a value"), format!("write {key} = VALUE"))
        }
        (ErrorKind::InvalidValue, Some(value)) => {
            let words = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(words)) => words.join(", "),
                _ => String::new(),
            };
            (format!("{value:?} is not a value of {key:?}"), format!("use one of {words}"))
        }
        (ErrorKind::ValueValidation, Some(value)) => {
            let reason = error.source().map_or_else(|| sentence(error), ToString::to_string);
            (format!("{value:?} is not a value of {key:?}"), reason)
        }
        _ => (sentence(error), "see `peerpath run --help`: a key of a plan is an option without its dashes".to_owned()),
    };
    Some(Failure::bad_input(cannot_use(&plan.file, line), why, similar.unwrap_or(remedy)))
}

/// The failure for keys that the plan file needs and neither it nor the command line has.
fn missing_keys(error: &Error, plan: &PlanFile) -> Option<Failure> {
    let (ErrorKind::MissingRequiredArgument, ContextValue::Strings(missing)) =
        (error.kind(), error.get(ContextKind::InvalidArg)?)
    else {
        return None;
    };
    let examples = [("--from", "from = \"0000:03:00.0:2\""), ("--to", "to = \"verbs:mlx5_0\"")];
    let is_missing = |option: &str| missing.iter().any(|name| name.split(' ').next() == Some(option));
    let (options, examples): (Vec<_>, Vec<_>) =
        examples.iter().copied().filter(|(option, _)| is_missing(option)).unzip();
    if options.is_empty() {
        return None;
    }
    let keys: Vec<_> = options.iter().map(|option| option.trim_start_matches("--")).collect();
    Some(Failure::bad_input(
        format!("cannot use the plan {}", plan.file.display()),
        match &keys[..] {
            [key] => format!("the key \"{key}\" is missing"),
            keys => format!("the keys \"{}\" are missing", keys.join("\" and \"")),
        },
        match &examples[..] {
            [example] => format!("add a line such as {example}, or add {} after the plan", options.join(" and ")),
            examples => {
                format!("add lines such as {}, or add {} after the plan", examples.join(" and "), options.join(" and "))
            }
        },
    ))
}

/// What clap reports, without its label and its tips, on one line.
fn sentence(error: &Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    first.trim_start_matches("error: ").lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The failure for a plan after an option with several values: clap takes the plan for one of the values.
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
