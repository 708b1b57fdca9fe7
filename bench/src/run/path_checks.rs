//! Waives cells for which another path than the requested one is predicted. Fails cells for which another path is observed, and
//! cells during which the IOMMU blocked an access.

use peerpath_importers::Role;
use peerpath_paths::{Bdf, Cause, Explanation, PathName};

use super::cell_error::CellError;
use super::transfer::Figures;
use crate::failure::Failure;
use crate::plan::CellSpec;
use crate::result::CellPath;
use crate::route::Routes;

/// Waives a cell before it is measured if another path than the requested one is predicted.
pub(super) fn as_predicted(path: &CellPath) -> Result<(), CellError> {
    let (Some(asked), Some(predicted)) = (path.asked, path.predicted) else { return Ok(()) };
    if predicted == asked || predicted == PathName::Unknown {
        return Ok(());
    }
    Err(CellError::waived(
        format!("cannot use path {asked}: the kernel would choose {predicted}"),
        Explanation::new(
            Cause::PathMismatch,
            "The PCI topology and the configuration of the host determine the path.",
            format!(
                "Request the path {predicted}, or change the setting that decides: `peerpath paths --from SOURCE --to TARGET` \
                 shows it."
            ),
        ),
    ))
}

/// Fails a cell whose observed path is not the requested one, because its figures describe another path.
pub(super) fn as_asked(path: &CellPath, spec: &CellSpec, figures: Figures) -> Result<Figures, CellError> {
    let maps = spec.spec.is_some_and(|spec| spec.role != Role::Export);
    match path.asked {
        Some(asked) if maps && path.observed != asked => Err(CellError::failed(
            format!("the data did not take path {asked}: the observed path is {}", path.observed),
            Explanation::new(
                Cause::PathMismatch,
                "The figures would describe another path.",
                "Request the observed path. If the prediction is wrong, report it with the evidence of the cell in the result.",
            ),
        )),
        _ => Ok(figures),
    }
}

/// Forgets an observed refusal if the memory was revoked or its function removed: the kernel refuses such memory on any path. A
/// predicted refusal stays.
pub(super) fn without_refusal_of_revoked(path: &mut CellPath, failure: &Failure) {
    let is_gone = matches!(failure.explanation.cause, Some(Cause::Revoked | Cause::Removed));
    let is_expected = path.predicted.is_none_or(|predicted| predicted == PathName::Refused);
    if is_gone && path.observed == PathName::Refused && !is_expected {
        path.observed = PathName::Unknown;
        path.evidence
            .push("the kernel refused the mapping because the memory was revoked, not because of the path".to_owned());
    }
}

/// Reads the IOMMU faults since the last call. A fault fails the cell, regardless of what the device reported.
pub(super) fn without_faults(
    routes: &mut Routes,
    path: &mut CellPath,
    functions: impl Iterator<Item = Bdf>,
    figures: Result<Figures, CellError>,
) -> Result<Figures, CellError> {
    let faults = routes.faults(path, &functions.collect::<Vec<_>>());
    figures.and_then(|figures| fail_on_faults(figures, &faults))
}

/// Fails a cell if the IOMMU reported faults during it.
pub(super) fn fail_on_faults(figures: Figures, faults: &[String]) -> Result<Figures, CellError> {
    let Some(first) = faults.first() else { return Ok(figures) };
    Err(CellError::failed(
        format!("the IOMMU reported {} fault(s) during the cell, the first: {first}", faults.len()),
        Explanation::new(
            Cause::IommuFault,
            "The IOMMU blocked an access, so data may be missing.",
            "Find the address of the fault in the kernel log (dmesg). If it lies in the BAR, the request was not translated: check \
             ACS redirect and the domain type. Otherwise it is an IOVA without a mapping: the buffer was revoked or \
             unmapped too early.",
        ),
    ))
}

#[cfg(test)]
mod tests {
    use peerpath_paths::Severity;

    use super::*;

    #[test]
    fn a_refusal_of_revoked_memory_is_not_the_path() {
        let observed = |cause, predicted| {
            let mut path = CellPath { predicted, observed: PathName::Refused, ..CellPath::unknown() };
            let failure = Failure::new("cannot map", Explanation::new(cause, "why", "do"), Severity::Failed);
            without_refusal_of_revoked(&mut path, &failure);
            path.observed
        };
        let translated = Some(PathName::HostBridgeTranslated);
        assert_eq!(observed(Cause::Revoked, translated), PathName::Unknown);
        assert_eq!(observed(Cause::Removed, translated), PathName::Unknown);
        assert_eq!(observed(Cause::Topology, translated), PathName::Refused);
        assert_eq!(observed(Cause::Revoked, Some(PathName::Refused)), PathName::Refused);
        assert_eq!(observed(Cause::Revoked, None), PathName::Refused);
    }
}
