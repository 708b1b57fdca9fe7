//! Changes the host before a leg so that the data uses the leg's path, and locks the changed settings while the leg runs.

use peerpath_exporter::Source;
use peerpath_host::Arrangement;
use peerpath_paths::{PathName, Request, Severity};

use super::super::cell_error::per_cell;
use super::super::context::Context;
use super::super::export_spec::{mapped_at_once, unopened};
use crate::failure::Failure;
use crate::plan::Leg;
use crate::route::Routes;

/// Changes the host for the leg's path before source and target are opened, and locks the changed settings until the leg ends.
/// `None` if no setting of the host affects the path.
///
/// # Errors
/// The plan is invalid. `Ok(Err)` if the host cannot be changed; each cell of the leg reports the reason.
pub(super) fn make(
    context: Context<'_>,
    leg: Leg<'_>,
    routes: &mut Routes,
) -> Result<Result<Option<Arrangement>, Failure>, Failure> {
    let Source::Vfio { bdf, bar, .. } = leg.source else { return Ok(Ok(None)) };
    // No host setting affects the path of a device without a PCI function.
    let Some((importer, acs_functions)) = routes.acs_functions(*bdf, &leg.target.to_string()) else {
        return Ok(Ok(None));
    };
    // The kernel may reject many ranges even if it maps one, so check the cell with the fewest ranges.
    let origin = unopened(leg.source);
    let ranges = context.plan.cells(leg).iter().map(|spec| mapped_at_once(&origin, spec)).min().unwrap_or(1);
    let own_address_space = leg.target.importer.capabilities().own_address_space;
    let request = Request { bar: Some(bar.get()), ranges, own_address_space };
    let changes = match leg.asked {
        Some(asked @ (PathName::BusAddress | PathName::HostBridgeBypass | PathName::HostBridgeTranslated)) => {
            match routes.changes(*bdf, importer, asked, request) {
                Some(Ok(changes)) => changes,
                Some(Err(explanation)) => {
                    let what = format!("cannot configure the host for path {asked}");
                    return Ok(Err(Failure::new(what, explanation, Severity::Unavailable)));
                }
                None => return Ok(Ok(None)),
            }
        }
        _ => Vec::new(),
    };
    if own_address_space {
        // The target's own IOMMU domain translates all its accesses, so neither ACS nor the domain type needs a change. Opening
        // the target locks its function.
        return Ok(Ok(None));
    }
    for change in &changes {
        log::info!("arrange the path of {bdf}: {change}");
    }
    let arrangement = Arrangement::make(*bdf, importer, &changes, &acs_functions, context.changes);
    per_cell(arrangement.map(Some).map_err(|error| Failure::of(&error)))
}

/// Reverts the host changes of a leg.
pub(super) fn revert(arrangement: Arrangement) -> Result<(), Failure> {
    arrangement.revert().map_err(|error| {
        let mut failure = Failure::of(&error);
        failure.what = format!("cannot revert every host change that was made for a path: {}", failure.what);
        failure.explanation.remedy += " The journal lists the remaining changes.";
        failure
    })
}
