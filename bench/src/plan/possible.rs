//! Rejects plans that devices of these kinds cannot run: an operation that no target offers or that the transport lacks, or
//! values that exclude each other. Otherwise a run would end with nothing but waived cells.

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
            "Use mode completion, or mode pingpong with write, write_imm or send.",
        ));
    }
    if both && spec.op.is_atomic() {
        return Some(Explanation::uncaused(
            "Atomic operations are measured on the exported memory only.",
            "Use one direction.",
        ));
    }
    if staged && (both || spec.threads > 1 || spec.qps > 1) {
        return Some(Explanation::uncaused(
            "A staged copy uses one thread, one queue and one direction.",
            "Use one thread, one queue pair, one direction and a mode other than pingpong, or omit path staged.",
        ));
    }
    if spec.mechanism == Mechanism::MrPerRange && (spec.bidirectional || spec.threads > 1) {
        return Some(Explanation::uncaused(
            "Ranges that are registered one by one cannot be divided among threads or directions.",
            "Use one thread and one direction, or omit mechanism mr-per-range.",
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
            format!("cannot run {op} with {}", targets.join(", ")),
            &of_all_targets(),
            "Choose one of these operations, or another target.",
        );
    }
    if let Some(target) = plan.targets.iter().find(|target| plan.ops.iter().all(|op| spec_of(target, *op).is_none())) {
        let ops: Vec<_> = plan.ops.iter().map(|op| op.as_str()).collect();
        return reject(
            format!("cannot run {} with {target}", ops.join(", ")),
            &ops_of(target),
            "Choose an operation that the target has, or omit the target.",
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
            Transport::Ud => {
                ("An unreliable datagram (ud) carries only sends.", "Use operation send, or connection rc.")
            }
            _ => (
                "An unreliable connection (uc) has no reads and no atomic operations.",
                "Use operation write, write_imm or send, or connection rc.",
            ),
        };
        return reject(format!("cannot run {op} over connection {transport}"), why, remedy);
    }
    let packet_bytes = mtu_bytes.unwrap_or(LARGEST_MTU_BYTES);
    match plan.sizes_bytes.iter().find(|size| **size > u64::from(packet_bytes)) {
        Some(size) if transport == Transport::Ud && !posted.is_empty() => reject(
            format!("cannot send {size} bytes over connection ud"),
            &format!("A datagram is one packet, of at most {packet_bytes} bytes here."),
            "Use a size of at most the MTU of the port, or connection rc.",
        ),
        _ => Ok(()),
    }
}

/// The largest MTU of an RDMA port.
const LARGEST_MTU_BYTES: u32 = QueuePairOptions::MTUS_BYTES[QueuePairOptions::MTUS_BYTES.len() - 1];

fn check_atomic_sizes(plan: &Plan) -> Result<(), PlanError> {
    match plan.sizes_bytes.iter().find(|size| **size != ATOMIC_BYTES) {
        Some(size) if plan.ops.iter().all(|op| op.is_atomic()) => reject(
            format!("cannot run {} with {size} bytes", plan.ops.first().map_or("atomics", |op| op.as_str())),
            "Atomic operations access 8 bytes.",
            "Use size 8, or omit the size.",
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
            reject(format!("cannot run {} in mode {}", cell.op, cell.mode.as_str()), &why, &remedy)
        }
        None => Ok(()),
    }
}
