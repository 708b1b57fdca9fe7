//! Functions that are removed during a run. They are closed at once, and every later cell that uses one of them fails.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use peerpath_exporter::{Removal, Source};

use super::cell_error::CellError;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::plan::Target;

/// Sources and functions that were removed during the run, with the failure of each.
#[derive(Default)]
pub(super) struct Removed(Mutex<BTreeMap<String, Failure>>);

impl Removed {
    /// Returns the failure of every cell that uses a removed source or function of this host.
    pub(super) fn failure_of(&self, source: Option<&Source>, target: &Target) -> Option<Failure> {
        let removed = self.lock();
        let names = [source.and_then(name_of), function_of(target)];
        names.iter().flatten().find_map(|name| removed.get(name).cloned())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, name: Option<String>, failure: &Failure) {
        self.lock().extend(name.map(|name| (name, failure.clone())));
    }
}

/// Returns the name of a source whose function can be removed.
fn name_of(source: &Source) -> Option<String> {
    match source {
        Source::Vfio { bdf, .. } => Some(bdf.to_string()),
        Source::Socket { .. } => Some(source.to_string()),
        _ => None,
    }
}

/// Returns the function that a target holds through VFIO.
fn function_of(target: &Target) -> Option<String> {
    target.importer.vfio_function(&target.address).map(|bdf| bdf.to_string())
}

/// Removals of the open memory and target of this host.
pub(super) struct LegRemovals<'a> {
    pub(super) source: Option<&'a Removal>,
    pub(super) target: Option<&'a Removal>,
}

impl LegRemovals<'_> {
    /// Makes a removal end the measurement that `interrupt` belongs to.
    pub(super) fn stop(&self, interrupt: &Interrupt) {
        for removal in self.source.iter().chain(&self.target) {
            removal.stop_on_request(interrupt.removal());
        }
    }

    /// Returns the failure of the leg's cells if a removal is requested, and records it for later legs with the same source or
    /// target.
    pub(super) fn failure(&self, source: Option<&Source>, target: &Target, removed: &Removed) -> Option<Failure> {
        let failure = |removal: Option<&Removal>| {
            removal.filter(|removal| removal.is_requested()).map(|removal| Failure::of(&removal.error()))
        };
        let noted = |name: Option<String>, failure| {
            removed.note(name, &failure);
            failure
        };
        let of_source = failure(self.source).map(|failure| noted(source.and_then(name_of), failure));
        let of_target = failure(self.target).map(|failure| noted(function_of(target), failure));
        of_source.or(of_target)
    }
}

/// Replaces the error of a cell with the removal that caused it. A signal has precedence: it interrupts the cell.
pub(super) fn attribute<T>(
    outcome: Result<T, CellError>,
    interrupt: &Interrupt,
    removal: impl FnOnce() -> Option<Failure>,
) -> Result<T, CellError> {
    match outcome {
        Err(CellError::Interrupted) if interrupt.ends_run() => Err(CellError::Interrupted),
        Err(error) => Err(removal().map_or(error, CellError::from)),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use peerpath_paths::Cause;

    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn later_legs_with_the_function_fail_and_others_do_not() {
        let removed = Removed::default();
        let source: Source = "0000:03:00.0:2".parse().unwrap();
        let (nvme, other) = (target("iommufd:0000:04:00.0"), target("iommufd:0000:05:00.0"));
        let removals = [Removal::of("0000:03:00.0"), Removal::of("0000:04:00.0")];
        let leg = LegRemovals { source: Some(&removals[0]), target: Some(&removals[1]) };
        assert!(leg.failure(Some(&source), &nvme, &removed).is_none());
        removals[1].request();
        assert!(leg.failure(Some(&source), &nvme, &removed).unwrap().what.contains("0000:04:00.0"));
        // The function is also recorded as a source, with any BAR.
        let same: Source = "0000:04:00.0:0".parse().unwrap();
        assert!(removed.failure_of(Some(&same), &other).is_some());
        assert!(removed.failure_of(Some(&source), &nvme).is_some());
        assert!(removed.failure_of(Some(&source), &other).is_none());
        assert!(removed.failure_of(None, &other).is_none());
        removals[0].request();
        assert!(leg.failure(Some(&source), &nvme, &removed).unwrap().what.contains("0000:03:00.0"));
        assert!(removed.failure_of(Some(&source), &other).is_some());
    }

    #[test]
    fn a_removal_replaces_an_error_and_a_signal_replaces_the_removal() {
        let removal = || Some(Failure::of(&Removal::of("0000:03:00.0").error()));
        let run = Interrupt::default();
        let part = run.of_part();
        let ended = attribute::<()>(Err(CellError::Interrupted), &part, removal);
        assert!(matches!(ended, Err(CellError::Failure(failure)) if failure.explanation.cause == Some(Cause::Removed)));
        assert!(attribute(Ok(7), &part, removal).is_ok_and(|value| value == 7));
        assert!(matches!(attribute::<()>(Err(CellError::Interrupted), &part, || None), Err(CellError::Interrupted)));
        run.stop();
        assert!(matches!(attribute::<()>(Err(CellError::Interrupted), &part, removal), Err(CellError::Interrupted)));
    }
}
