//! Reasons of waived and failed cells: each reason once, with the affected pairs.

use std::collections::HashMap;

use super::describe;
use crate::saved::{Outcome, Saved, SavedCell};

/// Maximum number of reasons in a document.
const MAX_REASONS: usize = 100;
/// Maximum number of pairs listed with a reason.
const MAX_PAIRS: usize = 6;

/// A reason, with the outcome and cause of its cells.
pub(crate) struct Reason {
    pub(crate) outcome: Outcome,
    pub(crate) cause: Option<String>,
    pub(crate) reason: String,
    pub(crate) remedy: Option<String>,
    /// Affected pairs, each with its number of cells.
    pub(crate) cells: String,
}

/// The reasons, failures first, and the number of reasons beyond the limit.
pub(crate) fn reasons(saved: &[Saved], labels: &[String]) -> (Vec<Reason>, usize) {
    let mut known: HashMap<_, usize> = HashMap::new();
    let mut all: Vec<(&SavedCell, Vec<(usize, &SavedCell)>)> = Vec::new();
    for (run, saved) in saved.iter().enumerate() {
        for cell in saved.cells.iter().filter(|cell| cell.outcome != Outcome::Passed) {
            let (reason, remedy) = (without_numbers(&cell.reason), without_numbers(&cell.remedy));
            let at = *known.entry((cell.outcome, &cell.cause, reason, remedy)).or_insert_with(|| {
                all.push((cell, Vec::new()));
                all.len() - 1
            });
            all[at].1.push((run, cell));
        }
    }
    all.sort_by_key(|(first, _)| first.outcome);
    let left_out = all.len().saturating_sub(MAX_REASONS);
    let listed = all.into_iter().take(MAX_REASONS).map(|(first, stopped)| Reason {
        outcome: first.outcome,
        cause: first.cause.clone(),
        reason: first.reason.clone().unwrap_or_else(|| "The result does not record a reason.".to_owned()),
        remedy: first.remedy.clone(),
        cells: list_pairs(&stopped, labels),
    });
    (listed.collect(), left_out)
}

/// Removes all hexadecimal digits, so that reasons that differ only in sizes or addresses are equal.
pub(super) fn without_numbers(text: &Option<String>) -> Option<String> {
    text.as_ref().map(|text| {
        text.split(|character: char| character.is_ascii_hexdigit()).filter(|part| !part.is_empty()).collect()
    })
}

fn list_pairs(stopped: &[(usize, &SavedCell)], labels: &[String]) -> String {
    let mut pairs: Vec<(String, usize)> = Vec::new();
    for (run, cell) in stopped {
        let pair = format!("{} to {}", describe::short_source(&cell.source), describe::short_target(&cell.target));
        let pair = if labels.len() > 1 { format!("{}: {pair}", labels[*run]) } else { pair };
        match pairs.iter_mut().find(|(name, _)| *name == pair) {
            Some((_, count)) => *count += 1,
            None => pairs.push((pair, 1)),
        }
    }
    let named =
        pairs.iter().take(MAX_PAIRS).map(|(pair, count)| format!("{pair} ({})", describe::plural(*count, "cell")));
    let named = named.collect::<Vec<_>>().join("; ");
    match pairs.len().saturating_sub(MAX_PAIRS) {
        0 => named,
        more => format!("{named}; and {}", describe::plural(more, "more pair")),
    }
}
