//! Creates the record of a cell in the result.

use peerpath_exporter::{Origin, format_bytes};
use peerpath_importers::{DeviceInfo, Direction, Role};
use peerpath_paths::{Explanation, PathName};

use super::transfer::Figures;
use crate::failure::Failure;
use crate::plan::{CellSpec, Leg, Mechanism};
use crate::result::{Cell, CellPath, CellTarget, Measurement, Outcome};

/// Creates the record of a cell after one repeat.
pub(super) fn cell(
    leg: Leg<'_>,
    spec: &CellSpec,
    origin: Origin,
    info: Option<&DeviceInfo>,
    path: CellPath,
    figures: Result<Figures, Failure>,
) -> Cell {
    let direction = spec.spec.and_then(|spec| match spec.role {
        Role::Transfer(Direction::IntoSource) => Some("into_source"),
        Role::Transfer(Direction::OutOfSource) => Some("out_of_source"),
        _ => None,
    });
    let (figures, outcome, cause, reason, remedy) = match figures {
        Ok(figures) => (figures, Outcome::Passed, None, None, None),
        Err(Failure { what, explanation, severity, .. }) => {
            let Explanation { cause, why, remedy, .. } = explanation;
            // If the plan asks for the path `refused`, a refusal by the kernel is the expected outcome.
            let is_expected = (path.asked, path.observed) == (Some(PathName::Refused), PathName::Refused);
            let outcome = if is_expected { Outcome::Passed } else { Outcome::of(severity) };
            (Figures::default(), outcome, cause, Some(format!("{what}: {why}")), Some(remedy))
        }
    };
    let source = figures.exported.unwrap_or(origin);
    // On the staged path, the CPU copies between host memory and the BAR.
    let staged = path.asked == Some(PathName::Staged);
    let is_measured = figures.iterations > 0;
    let measured = Measurement {
        iterations: is_measured.then_some(figures.iterations),
        warmup: figures.warm_up.filter(|_| is_measured).map(|warm_up| warm_up.operations),
        steady: figures.warm_up.filter(|_| is_measured).and_then(|warm_up| warm_up.steady),
        verified_bytes: figures.verified_bytes,
        latency_ns: figures.latency,
        throughput_bytes_per_s: figures.throughput,
        throughput_each_way_bytes_per_s: figures.throughput_per_direction,
        throughput_min_window_bytes_per_s: figures.throughput_min_window,
        operations_per_s: figures.operations_per_s,
        revocation: figures.revocation,
        ..Measurement::default()
    };
    Cell {
        id: id(leg, spec),
        path,
        source,
        target: target_of(leg, info),
        far: None,
        op: spec.op.as_str().into(),
        mode: spec.mode.as_str().into(),
        direction: direction.map(Into::into),
        engine: direction.and(info).map(|info| if info.soft_rdma || staged { "cpu" } else { "device" }.into()),
        mechanism: figures.mechanism.map(Into::into),
        timed_by: figures.by_device.then(|| "device".into()),
        size_bytes: spec.size_bytes,
        depth: spec.depth,
        threads: spec.threads,
        qps: spec.qps,
        offered_operations_per_s: spec.rate_per_s,
        bidirectional: spec.bidirectional,
        ceiling: None,
        outcome,
        cause,
        reason,
        remedy,
        repeats: if is_measured { vec![measured.clone()] } else { Vec::new() },
        measured,
    }
}

/// The device of a leg's target. The record has the device's own name if the target was opened, and the name in the plan
/// otherwise.
pub(super) fn target_of(leg: Leg<'_>, info: Option<&DeviceInfo>) -> CellTarget {
    CellTarget {
        kind: leg.target.importer.kind().into(),
        device: info.map_or_else(|| leg.target.address.clone(), |info| info.name.clone()),
        bdf: info.and_then(|info| info.bdf),
    }
}

/// Describes a cell in one line, for progress reports.
pub(super) fn describe(leg: Leg<'_>, spec: &CellSpec) -> String {
    let Leg { source, target, asked, far } = leg;
    let CellSpec { op, mode, size_bytes, depth, .. } = spec;
    let (size, asked) = (format_bytes(*size_bytes), suffix("  ", asked));
    let far = far.map_or_else(String::new, |far| format!(" <- {far}"));
    let (mode, variant) = (mode.as_str(), variant(" ", spec));
    format!("{source} -> {target}{far}{asked}  {op} {mode} {size} depth {depth}{variant}")
}

/// Builds the identifier of a cell from the values in the plan. So the same cell in another run has the same identifier,
/// whatever its outcome.
pub(super) fn id(leg: Leg<'_>, spec: &CellSpec) -> String {
    let Leg { source, target, asked, .. } = leg;
    let CellSpec { op, mode, size_bytes, depth, .. } = spec;
    let (mode, asked, variant) = (mode.as_str(), suffix("/", asked), variant("/", spec));
    format!("{source}/{target}/{op}/{mode}/{size_bytes}/{depth}{asked}{variant}")
}

/// The identifier of a cell between two hosts.
pub(super) fn id_with_peer(leg: Leg<'_>, spec: &CellSpec) -> String {
    format!("{}/peer{}", id(leg, spec), leg.far.map_or_else(String::new, |far| format!("/{far}")))
}

/// Text for ranges, registration, queue pairs, threads and directions. Contains only the values that differ from the defaults.
fn variant(separator: &str, spec: &CellSpec) -> String {
    let ranges = spec.ranges.map_or_else(String::new, |count| format!("{separator}{count}-ranges"));
    let many = |count: u32, what: &str| if count > 1 { format!("{separator}{count}-{what}") } else { String::new() };
    let per_range = spec.mechanism == Mechanism::MrPerRange;
    let rate = spec.rate_per_s.map_or_else(String::new, |rate| format!("{separator}{rate}-per-s"));
    let per_range = if per_range { format!("{separator}mr-per-range") } else { String::new() };
    let both = if spec.bidirectional { format!("{separator}bidirectional") } else { String::new() };
    format!("{ranges}{per_range}{}{}{both}{rate}", many(spec.qps, "qps"), many(spec.threads, "threads"))
}

fn suffix(separator: &str, asked: Option<PathName>) -> String {
    asked.map_or_else(String::new, |asked| format!("{separator}{asked}"))
}
