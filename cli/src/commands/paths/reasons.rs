//! Groups the reasons of predictions, because many pairs have reasons that differ in addresses only.

use std::collections::HashMap;

use peerpath_paths::{Bdf, Cause, PathName, PathReport, printable};

use crate::text_layout::hanging;

/// Maximum number of groups. Further reasons are counted, not listed.
const LIMIT: usize = 12;

/// Printed if missing information may change a prediction.
pub(super) const UNKNOWN_FACTS: &str = "Some facts are unknown. The details of a pair list them.";

/// The reasons of several pairs.
#[derive(Default)]
pub(super) struct Reasons {
    groups: Vec<Reason>,
    index: HashMap<(PathName, Option<Cause>, String), usize>,
    /// Number of pairs whose reason is not in `groups`.
    others: u64,
    /// Whether missing information may change a prediction.
    unknown: bool,
    /// How to supply unknown facts, as sentences after a space.
    remedy: &'static str,
}

/// Pairs with the same reason, and one of them as an example.
struct Reason {
    path: PathName,
    cause: Option<Cause>,
    pairs: u64,
    from: Bdf,
    to: Bdf,
    fact: String,
}

impl Reasons {
    pub(super) fn new(remedy: &'static str) -> Self {
        Self { remedy, ..Self::default() }
    }

    /// Adds `pairs` pairs with the same reason. `report` explains one of them as the example.
    pub(super) fn add(&mut self, report: &PathReport, pairs: u64) {
        self.unknown |= !report.unknown.is_empty();
        let key = (report.predicted, report.cause, pattern(&report.deciding.fact));
        match self.index.get(&key) {
            Some(&at) => self.groups[at].pairs += pairs,
            None if self.groups.len() == LIMIT => self.others += pairs,
            None => {
                self.index.insert(key, self.groups.len());
                self.groups.push(Reason {
                    path: report.predicted,
                    cause: report.cause,
                    pairs,
                    from: report.from,
                    to: report.to,
                    fact: report.deciding.fact.clone(),
                });
            }
        }
    }

    /// One paragraph per reason. `name` gives the names of functions, `head` the start of the paragraph.
    pub(super) fn render(
        mut self,
        name: impl Fn(Bdf) -> String,
        head: impl Fn(PathName) -> String,
        width: usize,
    ) -> String {
        self.groups.sort_by_key(|reason| (reason.path, std::cmp::Reverse(reason.pairs)));
        let mut text = String::new();
        for Reason { path, cause, pairs, from, to, fact } in &self.groups {
            let cause = cause.map_or_else(String::new, |cause| format!(" [{cause}]"));
            let example = match pairs {
                1 => format!("1 pair, {} -> {}", name(*from), name(*to)),
                _ => format!("{pairs} pairs, e.g. {} -> {}", name(*from), name(*to)),
            };
            text += &hanging("", 2, &printable(&format!("{}{cause}: {example}: {fact}", head(*path))), width);
        }
        if self.others > 0 {
            text += &format!("  {} pairs have other reasons.\n", self.others);
        }
        if self.unknown {
            text += &hanging("", 2, &format!("{UNKNOWN_FACTS}{}", self.remedy), width);
        }
        text
    }
}

/// The fact without its addresses and numbers.
fn pattern(fact: &str) -> String {
    let word = |word| if str::contains(word, |letter: char| letter.is_ascii_digit()) { "#" } else { word };
    fact.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_with_other_addresses_have_the_same_pattern() {
        let of = |port: &str, bits: &str| pattern(&format!("ACS redirect is set on {port} ({bits}); no list"));
        assert_eq!(of("0000:02:00.0", "RR CR"), of("0000:12:01.0", "RR CR"));
        assert_ne!(of("0000:02:00.0", "RR CR"), of("0000:02:00.0", "RR"));
    }
}
