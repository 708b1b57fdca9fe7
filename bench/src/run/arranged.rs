//! The host is changed for a leg whose path was asked for, where that leads there; and kept as it is while a leg runs.

use peerpath_exporter::Source;
use peerpath_host::Arrangement;
use peerpath_paths::{PathName, Request};

use super::Runner;
use super::cell_error::Unmeasured;
use super::shape::{mapped_at_once, named};
use crate::failure::Failure;
use crate::plan::Leg;
use crate::result::Outcome;

impl Runner<'_> {
    /// Changes what has to be changed for the leg's path, before its ends are opened, and keeps other runs from changing
    /// it; none where the leg has no path.
    ///
    /// # Errors
    /// Something named does not exist. `Ok(Err)`: the path cannot be arranged, which each of the leg's cells says.
    pub(super) fn arrange(&mut self, leg: Leg<'_>) -> Result<Result<Option<Arrangement>, Unmeasured>, Failure> {
        let Source::Vfio { bdf, bar, .. } = leg.source else { return Ok(Ok(None)) };
        // A device without a function of its own has no path to choose; registering says so.
        let Some((importer, way)) = self.routes.way(*bdf, &leg.target.to_string()) else { return Ok(Ok(None)) };
        // Many ranges may not map where one does: it is worth arranging for the cell that asks for least.
        let origin = named(leg.source);
        let ranges = self.plan.cells(leg).iter().map(|spec| mapped_at_once(&origin, spec)).min().unwrap_or(1);
        let own_address_space = leg.target.importer.capabilities().own_address_space;
        let request = Request { bar: Some(bar.get()), ranges, own_address_space };
        let changes = match leg.asked {
            Some(asked @ (PathName::BusAddress | PathName::HostBridgeBypass | PathName::HostBridgeTranslated)) => {
                match self.routes.changes(*bdf, importer, asked, request) {
                    Some(Ok(changes)) => changes,
                    Some(Err(explanation)) => {
                        let reason = format!("{asked} was asked for and cannot be arranged");
                        return Ok(Err(Unmeasured { outcome: Outcome::Waived, reason, explanation }));
                    }
                    None => return Ok(Ok(None)),
                }
            }
            _ => Vec::new(),
        };
        if own_address_space {
            // Nothing of the host leads its accesses another way, and who opens it locks it alone.
            return Ok(Ok(None));
        }
        match Arrangement::make(*bdf, importer, &changes, &way, self.changes) {
            Ok(arrangement) => Ok(Ok(Some(arrangement))),
            Err(error) => Unmeasured::or_bad_input(Failure::of(&error)).map(Err),
        }
    }
}

/// Reverts the changes of the host.
pub(super) fn revert(arrangement: Arrangement) -> Result<(), Failure> {
    arrangement.revert().map_err(|error| {
        let mut failure = Failure::of(&error);
        failure.what = format!("cannot revert everything that was changed for a path: {}", failure.what);
        failure.explanation.remedy += " The journal lists what is left to revert.";
        failure
    })
}
