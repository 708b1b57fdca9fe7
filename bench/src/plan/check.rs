//! Rejects plans that cannot run.

use peerpath_exporter::Source;
use peerpath_importers::QueuePairOptions;
use peerpath_paths::{Explained, Explanation, PathName, Severity, capitalized};

use super::bounds::{
    DEEPEST, HIGHEST_RATE_PER_S, LARGEST_OPERATION_BYTES, MOST_CELLS, MOST_QUEUES, MOST_RANGES, MOST_REPEATS,
    MOST_THREADS, MOST_VALUES, send_queue_drains,
};
use super::{Mode, Plan, possible};

/// Reason why a plan cannot run on any host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct PlanError {
    what: String,
    why: String,
    remedy: String,
}

impl Explained for PlanError {
    fn explanation(&self) -> Explanation {
        Explanation::uncaused(&self.why, &self.remedy)
    }
    fn severity(&self) -> Severity {
        Severity::BadInput
    }
}

pub(super) fn reject(what: String, why: &str, remedy: &str) -> Result<(), PlanError> {
    Err(PlanError { what, why: why.to_owned(), remedy: remedy.to_owned() })
}

/// Checks the values of a plan and their combinations.
pub(super) fn check(plan: &Plan) -> Result<(), PlanError> {
    if plan.sources.is_empty() || plan.targets.is_empty() {
        return reject(
            "there is nothing to run".into(),
            "A run needs at least one source and one target.",
            "Name at least one of each.",
        );
    }
    check_count(plan)?;
    if plan.paths.contains(&Some(PathName::Unknown)) {
        return reject(
            "cannot use path unknown".into(),
            "The result reports `unknown` for a path that was not observed.",
            "Use bypass, translated, bus-address, host-memory, staged or refused.",
        );
    }
    check_sizes(plan)?;
    check_threads_and_queues(plan)?;
    check_rates(plan)?;
    check_connection(plan)?;
    check_ranges(plan)?;
    possible::check(plan)?;
    if plan.cell_count() == 0 {
        return reject(
            "no cell remains to run".into(),
            &plan.notes().first().map_or_else(String::new, |note| format!("{}.", capitalized(note))),
            "Choose a larger size or fewer ranges.",
        );
    }
    if !(1..=MOST_REPEATS).contains(&plan.repeats) {
        return reject(
            format!("cannot repeat each cell {} times", plan.repeats),
            &format!("A cell has 1 to {MOST_REPEATS} repeats."),
            "Choose another number of repeats.",
        );
    }
    if plan.iterations == Some(0) {
        return reject(
            "no operation would be measured".into(),
            "The number of iterations is 0.",
            "Use at least one iteration.",
        );
    }
    Ok(())
}

/// Checks the number of cells before any code lists them.
fn check_count(plan: &Plan) -> Result<(), PlanError> {
    let lists = [
        ("sources", plan.sources.len().max(plan.far.len())),
        ("targets", plan.targets.len()),
        ("paths", plan.paths.len()),
        ("operations", plan.ops.len()),
        ("modes", plan.modes.len()),
        ("sizes", plan.sizes_bytes.len()),
        ("numbers of ranges", plan.ranges.len()),
        ("depths", plan.depths.len()),
        ("rates", plan.rates_per_s.len()),
        ("numbers of queue pairs", plan.qps.len()),
        ("numbers of threads", plan.threads.len()),
    ];
    if let Some((name, count)) = lists.into_iter().find(|(_, count)| *count > MOST_VALUES) {
        return reject(
            format!("cannot run a plan with {count} {name}"),
            &format!("A plan has at most {MOST_VALUES}."),
            "Name fewer, or divide the plan into several runs.",
        );
    }
    let count = plan.combination_count();
    if count > MOST_CELLS as u64 {
        return reject(
            format!("cannot run a plan with {count} cells"),
            &format!("There is a cell for each combination of values, and a plan has at most {MOST_CELLS}."),
            "Name fewer values, or divide the plan into several runs.",
        );
    }
    Ok(())
}

fn check_sizes(plan: &Plan) -> Result<(), PlanError> {
    if let Some(size) = plan.sizes_bytes.iter().find(|size| **size == 0 || **size > LARGEST_OPERATION_BYTES) {
        return reject(
            format!("cannot run an operation of {size} bytes"),
            "Sizes are 1 byte to 1 GiB.",
            "Choose another size.",
        );
    }
    if let Some(depth) = plan.depths.iter().find(|depth| **depth == 0 || **depth > DEEPEST) {
        return reject(format!("cannot use a depth of {depth}"), "Depths are 1 to 65536.", "Choose another depth.");
    }
    if let Some(ranges) = plan.ranges.iter().find(|ranges| **ranges == 0 || **ranges > MOST_RANGES) {
        return reject(
            format!("cannot split a BAR into {ranges} ranges"),
            "A BAR can be split into 1 to 65536 ranges.",
            "Choose another number of ranges.",
        );
    }
    Ok(())
}

fn check_rates(plan: &Plan) -> Result<(), PlanError> {
    let has_load = plan.modes.contains(&Mode::Load);
    if has_load && plan.rates_per_s.is_empty() {
        return reject(
            "cannot run mode load".into(),
            "It offers operations at a given rate, and the plan names no rate.",
            "Name at least one rate in operations per second.",
        );
    }
    if let Some(rate) = plan.rates_per_s.first().filter(|_| !has_load) {
        return reject(
            format!("cannot offer {rate} operations per second"),
            "Only mode load has an offered rate.",
            "Add mode load, or omit the rate.",
        );
    }
    match plan.rates_per_s.iter().find(|rate| !(1..=HIGHEST_RATE_PER_S).contains(*rate)) {
        Some(rate) => reject(
            format!("cannot offer {rate} operations per second"),
            &format!("Rates are 1 to {HIGHEST_RATE_PER_S} operations per second."),
            "Choose another rate.",
        ),
        None => Ok(()),
    }
}

fn check_ranges(plan: &Plan) -> Result<(), PlanError> {
    let has_ranges = |source: &&Source| matches!(source, Source::Vfio { ranges, .. } if !ranges.is_empty());
    match plan.sources.iter().find(has_ranges).filter(|_| plan.ranges.iter().any(|count| *count > 1)) {
        Some(source) => reject(
            format!("cannot split {source} into ranges"),
            "The source names its ranges itself.",
            "Omit either the number of ranges or the ranges of the source (after the @).",
        ),
        None => Ok(()),
    }
}

fn check_threads_and_queues(plan: &Plan) -> Result<(), PlanError> {
    for (counts, most, name) in [(&plan.qps, MOST_QUEUES, "queue pairs"), (&plan.threads, MOST_THREADS, "threads")] {
        if let Some(count) = counts.iter().find(|count| **count == 0 || **count > most) {
            return reject(
                format!("cannot use {count} {name}"),
                &format!("A cell can use 1 to {most} {name}."),
                "Choose another number.",
            );
        }
    }
    let shallowest = plan.depths.iter().copied().min().unwrap_or(1);
    for (count, name) in
        [(plan.completion_moderation, "completion moderation"), (plan.post_list.unwrap_or(1), "post list")]
    {
        if count == 0 || count > shallowest {
            return reject(
                format!("cannot use a {name} of {count} with a depth of {shallowest}"),
                "At most as many operations as the depth are in flight, so a larger number would never be reached.",
                "Choose a number from 1 to the depth.",
            );
        }
    }
    if plan.depths.iter().any(|depth| !send_queue_drains(*depth, plan.post_list, plan.completion_moderation)) {
        return reject(
            format!(
                "cannot use a post list of {} with a completion moderation of {} at every depth",
                plan.post_list.unwrap_or(1),
                plan.completion_moderation
            ),
            "All work requests would be unsignaled, so the send queue would never drain.",
            "Use a depth that is a multiple of the post list and larger than the post list plus the completion moderation.",
        );
    }
    Ok(())
}

fn check_connection(plan: &Plan) -> Result<(), PlanError> {
    let QueuePairOptions { mtu_bytes, service_level, .. } = plan.connection;
    if let Some(bytes) = mtu_bytes.filter(|bytes| !QueuePairOptions::MTUS_BYTES.contains(bytes)) {
        return reject(
            format!("cannot use an MTU of {bytes} bytes"),
            "RDMA defines 256, 512, 1024, 2048 and 4096.",
            "Choose one of these.",
        );
    }
    if service_level > 15 {
        return reject(
            format!("cannot use a service level of {service_level}"),
            "Service levels are 0 to 15.",
            "Choose another service level.",
        );
    }
    let has_none = |target: &&super::Target| !target.importer.capabilities().queue_pairs;
    let defaults = QueuePairOptions { huge_pages: plan.connection.huge_pages, ..QueuePairOptions::default() };
    match plan.targets.iter().find(has_none).filter(|_| plan.connection != defaults) {
        Some(target) => reject(
            format!("cannot use options of queue pairs with {target}"),
            "It has no queue pairs: transport, MTU, GID, service level, traffic class, inline, ordering and events apply only to RDMA devices.",
            "Omit these options, or run the two kinds of targets separately.",
        ),
        None => Ok(()),
    }
}
