//! Rejects plans that devices of these kinds cannot run: an operation that no target offers or that the transport lacks, or
//! values that exclude each other. Otherwise a run would end with nothing but waived cells.

use peerpath_exporter::format_bytes;
use peerpath_importers::{Op, QueuePairOptions, Role, Transport};
use peerpath_paths::{Explanation, PathName};

use super::bounds::ATOMIC_BYTES;
use super::cells::spec_of;
use super::check::{PlanError, reject};
use super::{CellSpec, Mechanism, Mode, Plan, Target};

/// The reason why a combination of operation, mode and path is not supported; `None` if it is supported.
pub(crate) fn unsupported(spec: &CellSpec) -> Option<Explanation> {
    let staged = spec.asked == Some(PathName::Staged);
    let both = spec.bidirectional || spec.mode == Mode::PingPong;
    if spec.mode == Mode::PingPong && !matches!(spec.op, Op::Write | Op::WriteImm | Op::Send) {
        return Some(Explanation::uncaused(
            format!("The responder has to reply, but it cannot detect a {}.", spec.op),
            "Use --mode completion, or --mode pingpong with --op write, write_imm or send.",
        ));
    }
    if both && spec.op.is_atomic() {
        return Some(Explanation::uncaused(
            "Atomic operations are measured on the exported memory only.",
            "Omit --bidirectional, and use a --mode other than pingpong.",
        ));
    }
    if staged && (both || spec.threads > 1 || spec.qps > 1) {
        return Some(Explanation::uncaused(
            "A staged copy uses one thread, one queue and one direction.",
            "Omit --threads, --qps and --bidirectional and use a --mode other than pingpong, or omit --path staged.",
        ));
    }
    if spec.mechanism == Mechanism::MrPerRange && (spec.bidirectional || spec.threads > 1) {
        return Some(Explanation::uncaused(
            "Ranges that are registered one by one cannot be divided among threads or directions.",
            "Omit --threads and --bidirectional, or --mechanism mr-per-range.",
        ));
    }
    None
}

/// Checks that each operation, target and mode of the plan has a cell that can run.
pub(super) fn check(plan: &Plan) -> Result<(), PlanError> {
    check_targets(plan)?;
    check_transport(plan)?;
    check_atomic_sizes(plan)?;
    check_combinations(plan)
}

fn check_targets(plan: &Plan) -> Result<(), PlanError> {
    let ops_of = |target: &Target| {
        let names = target.importer.capabilities().ops.iter().map(|spec| spec.op.as_str());
        format!("Operations of {} targets are {}.", target.importer.kind(), names.collect::<Vec<_>>().join(", "))
    };
    let of_all_targets = || {
        let mut texts: Vec<_> = plan.targets.iter().map(ops_of).collect();
        texts.dedup();
        texts.join(" ")
    };
    let named = |target: &Target| format!("{target}");
    if let Some(op) = plan.ops.iter().find(|op| plan.targets.iter().all(|target| spec_of(target, **op).is_none())) {
        let targets: Vec<_> = plan.targets.iter().map(named).collect();
        return reject(
            format!("cannot run --op {op} with {}", targets.join(", ")),
            &of_all_targets(),
            "Use one of these with --op, or another target.",
        );
    }
    if let Some(target) = plan.targets.iter().find(|target| plan.ops.iter().all(|op| spec_of(target, *op).is_none())) {
        let ops: Vec<_> = plan.ops.iter().map(|op| op.as_str()).collect();
        return reject(
            format!("cannot run --op {} with {target}", ops.join(", ")),
            &ops_of(target),
            "Use one of these with --op, or omit the target.",
        );
    }
    Ok(())
}

/// Whether `op` is a transfer on a target of the plan that has queue pairs.
fn uses_queue_pairs(plan: &Plan, op: Op) -> bool {
    let transfers = |target: &Target| spec_of(target, op).is_some_and(|spec| matches!(spec.role, Role::Transfer(_)));
    plan.targets.iter().any(|target| target.importer.capabilities().queue_pairs && transfers(target))
}

fn check_transport(plan: &Plan) -> Result<(), PlanError> {
    let QueuePairOptions { transport, mtu_bytes, .. } = plan.connection;
    let posted: Vec<Op> = plan.ops.iter().copied().filter(|op| uses_queue_pairs(plan, *op)).collect();
    if let Some(op) = posted.iter().find(|op| !transport.has(**op)) {
        let (why, remedy) = match transport {
            Transport::Ud => ("An unreliable datagram (ud) carries only sends.", "Use --op send, or --connection rc."),
            _ => (
                "An unreliable connection (uc) has no reads and no atomic operations.",
                "Use --op write, write_imm or send, or --connection rc.",
            ),
        };
        return reject(format!("cannot run --op {op} with --connection {transport}"), why, remedy);
    }
    let packet_bytes = mtu_bytes.unwrap_or(LARGEST_MTU_BYTES);
    match plan.sizes_bytes.iter().find(|size| **size > u64::from(packet_bytes)) {
        Some(size) if transport == Transport::Ud && !posted.is_empty() => reject(
            format!("cannot send --size {} with --connection ud", format_bytes(*size)),
            &format!(
                "A datagram is one packet, and the {} MTU is {packet_bytes} bytes.",
                if mtu_bytes.is_some() { "given" } else { "largest" }
            ),
            &format!("Use --size {} or smaller, or --connection rc.", format_bytes(packet_bytes.into())),
        ),
        _ => Ok(()),
    }
}

/// The largest MTU of an RDMA port.
const LARGEST_MTU_BYTES: u32 = QueuePairOptions::MTUS_BYTES[QueuePairOptions::MTUS_BYTES.len() - 1];

fn check_atomic_sizes(plan: &Plan) -> Result<(), PlanError> {
    match plan.sizes_bytes.iter().find(|size| **size != ATOMIC_BYTES) {
        Some(size) if plan.ops.iter().all(|op| op.is_atomic()) => reject(
            format!(
                "cannot run --op {} with --size {}",
                plan.ops.first().map_or("atomics", |op| op.as_str()),
                format_bytes(*size)
            ),
            "Atomic operations access 8 bytes.",
            "Use --size 8, or omit --size.",
        ),
        _ => Ok(()),
    }
}

/// Checks that each operation and each mode has a cell whose other values permit it.
fn check_combinations(plan: &Plan) -> Result<(), PlanError> {
    let first_reason = |is_meant: &dyn Fn(&CellSpec) -> bool| {
        let cells = plan.legs().flat_map(|leg| plan.cells(leg)).filter(|cell| cell.transfers() && is_meant(cell));
        let mut reason = None;
        for cell in cells.filter(|cell| cell.spec.is_some()) {
            match unsupported(&cell) {
                None => return None,
                Some(explanation) => reason = reason.or(Some((cell, explanation))),
            }
        }
        reason
    };
    let of_op = plan.ops.iter().find_map(|op| first_reason(&|cell| cell.op == *op));
    let reason = of_op.or_else(|| plan.modes.iter().find_map(|mode| first_reason(&|cell| cell.mode == *mode)));
    match reason {
        Some((cell, Explanation { why, remedy, .. })) => {
            reject(format!("cannot run --op {} with --mode {}", cell.op, cell.mode.as_str()), &why, &remedy)
        }
        None => Ok(()),
    }
}
