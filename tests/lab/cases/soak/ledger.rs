//! Counts outcomes by worker.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

#[derive(Default)]
pub(super) struct Ledger(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    counts: BTreeMap<&'static str, BTreeMap<String, u64>>,
    longest: BTreeMap<&'static str, Duration>,
    unexpected: Vec<String>,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an expected outcome.
    pub(super) fn count(&self, who: &'static str, outcome: impl Into<String>) {
        *self.entries().counts.entry(who).or_default().entry(outcome.into()).or_default() += 1;
    }

    /// Records the time until a process noticed that its peer was killed. The time has no limit, because the machine is emulated.
    pub(super) fn lasted(&self, who: &'static str, time: Duration) {
        let mut entries = self.entries();
        let longest = entries.longest.entry(who).or_default();
        *longest = time.max(*longest);
    }

    pub(super) fn longest_s(&self) -> Value {
        json!(self.entries().longest.iter().map(|(who, time)| (*who, time.as_secs_f64())).collect::<BTreeMap<_, _>>())
    }

    /// Records an unexpected outcome.
    pub(super) fn unexpected(&self, who: &'static str, what: String) {
        self.count(who, "unexpected");
        self.entries().unexpected.push(format!("{who}: {what}"));
    }

    pub(super) fn has_unexpected(&self) -> bool {
        !self.entries().unexpected.is_empty()
    }

    pub(super) fn all_unexpected(&self) -> Vec<String> {
        self.entries().unexpected.clone()
    }

    pub(super) fn counts(&self) -> Value {
        json!(self.entries().counts)
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries();
        let one = |(who, outcomes): (&&str, &BTreeMap<String, u64>)| {
            let outcomes: Vec<_> = outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
            format!("{who} {}", outcomes.join(", "))
        };
        f.write_str(&entries.counts.iter().map(one).collect::<Vec<_>>().join("; "))
    }
}
