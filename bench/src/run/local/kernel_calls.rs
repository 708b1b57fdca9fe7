//! Times the kernel's calls during a registration and its release, with kernel probes.
//!
//! Each operation has a trace of its own, with no probes but those on its functions: a probe inside a call lengthens the call.

use peerpath_exporter::Handle;
use peerpath_importers::{Op, Role};
use peerpath_observe::{DmaBufOp, Trace};
use peerpath_paths::{Explanation, PathName};

use super::super::cell_error::CellError;
use super::super::context::Context;
use super::super::transfer::Figures;
use super::cell::LocalCell;
use crate::measure::{MeasureError, Recorder};
use crate::result::CellPath;
use crate::route::Routes;

/// Maximum number of registrations per trace.
const REGISTRATIONS_PER_TRACE: u64 = 100;

/// Number of calls per trace. Entry and return of a call occupy less than 100 bytes of the kernel's trace buffer, which holds
/// 256 KiB (the default of `ObserverOptions`).
const CALLS_PER_TRACE: u64 = 2000;

/// Times the kernel's calls for `role`. A figure is the sum of the calls of one registration.
pub(super) fn measure(
    cell: LocalCell<'_>,
    role: Role,
    routes: &mut Routes,
    path: &mut CellPath,
) -> Result<Figures, CellError> {
    let op = cell.spec.op;
    let Some(kind) = traced_call(role) else {
        return Err(CellError::waived(
            format!("cannot time {op}"),
            Explanation::uncaused("No kernel probe times this step.", "Choose another operation."),
        ));
    };
    let buffer = cell.export()?;
    let registration = cell.register_observed(&buffer, routes, path)?;
    let figures = Figures {
        mechanism: Some(registration.mechanism()),
        exported: Some(buffer.origin().clone()),
        ..Figures::default()
    };
    registration.unregister()?;
    let why_not = match buffer.handle() {
        Handle::DmaBuf(_) => None,
        Handle::DmaBufs(_) => Some("Each range is exported as a separate dma-buf."),
        Handle::Memory(_) | Handle::GpuNotExported(_) => Some("Only dma-bufs are attached and mapped."),
    };
    if let Some(why) = why_not {
        return Err(CellError::waived(
            format!("cannot time {op} for this buffer"),
            Explanation::uncaused(why, time_the_whole(role)),
        ));
    }
    let calls = if kind == DmaBufOp::Link { buffer.origin().ranges.len().max(1) as u64 } else { 1 };
    let mut per_trace = registrations_per_trace(calls);
    let Context { interrupt, clock, limit, .. } = cell.context;
    let mut recorder = Recorder::new(clock.clone());
    let start = clock.raw();
    while recorder.count() < limit.iterations
        && (recorder.count() == 0 || clock.delta(start, clock.raw()) < limit.duration)
    {
        let count = per_trace.min(limit.iterations - recorder.count());
        let trace = routes.traced(kind, count, || {
            if interrupt.is_set() {
                return Err(MeasureError::Interrupted);
            }
            cell.register(cell.export()?)?.unregister()?;
            Ok(())
        })??;
        match judge(&trace, kind, count) {
            Judgement::Times(times_ns) => times_ns.into_iter().for_each(|time_ns| recorder.record_ns(time_ns)),
            Judgement::TooManyEvents if count > 1 => per_trace = count / 2,
            Judgement::TooManyEvents => return Err(too_many_events(op)),
            Judgement::Absent => return Err(absent(op, role, kind, &trace, path.observed)),
            Judgement::Partial(found) => return Err(partial(op, role, found, count)),
        }
    }
    Ok(Figures { iterations: recorder.count(), latency: recorder.latency(), ..figures })
}

/// The kernel call that a role times. `None` if the role is not timed by tracing.
fn traced_call(role: Role) -> Option<DmaBufOp> {
    Some(match role {
        Role::Attach => DmaBufOp::Attach,
        Role::Map => DmaBufOp::Map,
        Role::Allocate => DmaBufOp::Allocate,
        Role::Link => DmaBufOp::Link,
        Role::Sync => DmaBufOp::Sync,
        Role::Unmap => DmaBufOp::Unmap,
        Role::Detach => DmaBufOp::Detach,
        Role::Export | Role::Register | Role::Unregister | Role::Transfer(_) | Role::Revoke(_) => return None,
    })
}

/// Number of registrations per trace, with this number of calls each.
fn registrations_per_trace(calls: u64) -> u64 {
    (CALLS_PER_TRACE / calls.max(1)).clamp(1, REGISTRATIONS_PER_TRACE)
}

/// What a trace of several registrations shows.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    /// The time of each registration, in nanoseconds.
    Times(Vec<u64>),
    /// The events did not fit into the trace buffer.
    TooManyEvents,
    /// No registration has a successful call.
    Absent,
    /// Only this number of registrations have a successful call.
    Partial(u64),
}

fn judge(trace: &Trace, kind: DmaBufOp, count: u64) -> Judgement {
    if trace.lost_events() > 0 {
        return Judgement::TooManyEvents;
    }
    let times_ns = trace.durations_per_step_ns(kind);
    match times_ns.len() as u64 {
        0 => Judgement::Absent,
        found if found == count => Judgement::Times(times_ns),
        found => Judgement::Partial(found),
    }
}

/// The remedy for a step that cannot be traced: the operation that contains it.
fn time_the_whole(role: Role) -> &'static str {
    match role {
        Role::Unmap | Role::Detach => {
            "Time the whole release, which needs no tracing: `unregister` (iommufd: `unmap`)."
        }
        _ => "Time the whole registration, which needs no tracing: `register` (iommufd: `map`).",
    }
}

fn too_many_events(op: Op) -> CellError {
    CellError::waived(
        format!("cannot time {op}"),
        Explanation::uncaused(
            "The events of one registration exceed the kernel's trace buffer.",
            "Use fewer ranges, or time `map`, which has two events per registration.",
        ),
    )
}

fn partial(op: Op, role: Role, found: u64, count: u64) -> CellError {
    CellError::waived(
        format!("cannot time {op} for every registration"),
        Explanation::uncaused(
            format!("The trace contains the call for only {found} of {count} registrations."),
            time_the_whole(role),
        ),
    )
}

/// The error for a trace without a successful call. The reason follows from the rejected probes and from the path.
fn absent(op: Op, role: Role, kind: DmaBufOp, trace: &Trace, observed: PathName) -> CellError {
    let why = why_absent(kind, trace.why_untimed(kind), observed);
    let remedy = match kind.is_part_of_map() && trace.why_untimed(kind).is_none() {
        true => "Time `map`, which contains every step of this path.",
        false => time_the_whole(role),
    };
    CellError::waived(format!("cannot find {op} in the trace"), Explanation::uncaused(why, remedy))
}

/// The reason why no registration has a successful call. The source of the facts is `dma_buf_phys_vec_to_sgt` in
/// `drivers/dma-buf/dma-buf-mapping.c`.
fn why_absent(kind: DmaBufOp, untimed: Option<&str>, observed: PathName) -> String {
    if let Some(why) = untimed {
        let mut characters = why.chars();
        let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
        return format!("{first}{}.", characters.as_str());
    }
    let functions: Vec<_> = kind.functions().collect();
    let functions = functions.join(" or ");
    match observed {
        PathName::BusAddress if kind.is_part_of_map() => {
            "The kernel returned bus addresses, so this mapping has no IOVA.".into()
        }
        PathName::HostBridgeBypass if kind.is_part_of_map() => {
            "The kernel mapped physical addresses without translation, so this mapping has no IOVA.".into()
        }
        PathName::HostMemory if kind.is_part_of_map() => {
            format!("The exporter of ordinary memory maps it with dma_map_sgtable, which does not call {functions}.")
        }
        _ if kind.is_part_of_map() => {
            format!("The kernel's mapping of this dma-buf did not call {functions} through dma_buf_phys_vec_to_sgt.")
        }
        _ => format!("The registrations did not call {functions}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_holds_fewer_registrations_of_many_ranges() {
        let counts = [1, 20, 21, 512, 5000].map(registrations_per_trace);
        assert_eq!(counts, [100, 100, 95, 3, 1]);
    }

    #[test]
    fn states_the_true_reason_for_a_missing_step() {
        let why = |kind, untimed, observed| why_absent(kind, untimed, observed);
        let rejected = "the kernel rejected the probe on dma_iova_sync (ENOENT)";
        for (kind, untimed, observed, part) in [
            (DmaBufOp::Sync, Some(rejected), PathName::BusAddress, "The kernel rejected the probe on dma_iova_sync"),
            (DmaBufOp::Link, None, PathName::BusAddress, "bus addresses"),
            (DmaBufOp::Allocate, None, PathName::HostBridgeBypass, "without translation"),
            (DmaBufOp::Link, None, PathName::HostMemory, "dma_map_sgtable"),
            (DmaBufOp::Link, None, PathName::HostBridgeTranslated, "did not call dma_iova_link"),
            (DmaBufOp::Link, None, PathName::Unknown, "did not call dma_iova_link"),
            (DmaBufOp::Detach, None, PathName::BusAddress, "did not call dma_buf_detach"),
        ] {
            assert!(why(kind, untimed, observed).contains(part), "{kind}: {}", why(kind, untimed, observed));
        }
    }

    #[test]
    fn an_empty_trace_shows_no_call() {
        assert_eq!(judge(&Trace::default(), DmaBufOp::Unmap, 3), Judgement::Absent);
    }

    #[test]
    fn every_traced_role_has_a_kernel_call() {
        for spec in peerpath_importers::IMPORTERS.iter().flat_map(|importer| importer.capabilities().ops) {
            assert_eq!(traced_call(spec.role).is_some(), spec.role.is_traced(), "{}", spec.op);
        }
    }
}
