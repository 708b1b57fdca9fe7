//! Changes the host before a leg so that its path is used, and keeps the host as it is while the leg runs.

use peerpath_exporter::Source;
use peerpath_host::Arrangement;
use peerpath_paths::{PathName, Request, Severity};

use super::super::cell_error::per_cell;
use super::super::context::Context;
use super::super::export_spec::{mapped_at_once, unopened};
use crate::failure::Failure;
use crate::plan::Leg;
use crate::route::Routes;

/// Makes the changes for the leg's path before its source and target are opened, and locks the path against other runs. `None` if
/// nothing on the host decides the path.
///
/// # Errors
/// Bad input. `Ok(Err)`: the path cannot be arranged, which each cell of the leg reports.
pub(super) fn make(
    context: Context<'_>,
    leg: Leg<'_>,
    routes: &mut Routes,
) -> Result<Result<Option<Arrangement>, Failure>, Failure> {
    let Source::Vfio { bdf, bar, .. } = leg.source else { return Ok(Ok(None)) };
    // A device without a PCI function has no path to choose; registering reports that.
    let Some((importer, acs_functions)) = routes.acs_functions(*bdf, &leg.target.to_string()) else {
        return Ok(Ok(None));
    };
    // Many ranges may not map where one does, so the cell with the fewest ranges decides.
    let origin = unopened(leg.source);
    let ranges = context.plan.cells(leg).iter().map(|spec| mapped_at_once(&origin, spec)).min().unwrap_or(1);
    let own_address_space = leg.target.importer.capabilities().own_address_space;
    let request = Request { bar: Some(bar.get()), ranges, own_address_space };
    let changes = match leg.asked {
        Some(asked @ (PathName::BusAddress | PathName::HostBridgeBypass | PathName::HostBridgeTranslated)) => {
            match routes.changes(*bdf, importer, asked, request) {
                Some(Ok(changes)) => changes,
                Some(Err(explanation)) => {
                    let what = format!("cannot arrange path {asked}");
                    return Ok(Err(Failure::new(what, explanation, Severity::Unavailable)));
                }
                None => return Ok(Ok(None)),
            }
        }
        _ => Vec::new(),
    };
    if own_address_space {
        // No setting of the host redirects its accesses, and the program that opens it locks it.
        return Ok(Ok(None));
    }
    let arrangement = Arrangement::make(*bdf, importer, &changes, &acs_functions, context.changes);
    per_cell(arrangement.map(Some).map_err(|error| Failure::of(&error)))
}

/// Reverts the changes of the host.
pub(super) fn revert(arrangement: Arrangement) -> Result<(), Failure> {
    arrangement.revert().map_err(|error| {
        let mut failure = Failure::of(&error);
        failure.what = format!("cannot revert every host change that was made for a path: {}", failure.what);
        failure.explanation.remedy += " The journal lists what is left to revert.";
        failure
    })
}
