//! Rejects plans that cannot run.

use peerpath_exporter::{Source, format_bytes};
use peerpath_importers::QueuePairOptions;
use peerpath_paths::{Explained, Explanation, PathName, Severity};

use super::bounds::{
    DEEPEST, HIGHEST_RATE_PER_S, LARGEST_OPERATION_BYTES, MOST_CELLS, MOST_QUEUES, MOST_RANGES, MOST_REPEATS,
    MOST_THREADS, MOST_VALUES, send_queue_drains, why_not_draining,
};
use super::cells::SHORTEST_RANGE_BYTES;
use super::{Mode, Plan, possible};

/// Reason why a plan cannot run on any host. The texts name parameters by their options of `peerpath run`.
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
            "cannot use --path unknown".into(),
            "The result reports `unknown` for a path that was not observed.",
            "Use --path bypass, translated, bus-address, host-memory, staged or refused.",
        );
    }
    check_sizes(plan)?;
    check_threads_and_queues(plan)?;
    check_rates(plan)?;
    check_connection(plan)?;
    check_ranges(plan)?;
    possible::check(plan)?;
    check_range_lengths(plan)?;
    if !(1..=MOST_REPEATS).contains(&plan.repeats) {
        return reject(
            format!("cannot use --repeat {}", plan.repeats),
            &format!("A cell has 1 to {MOST_REPEATS} repeats."),
            "Choose another number of repeats.",
        );
    }
    if plan.iterations == Some(0) {
        return reject(
            "cannot use --iterations 0".into(),
            "The run would measure no operation.",
            "Use --iterations 1 or more.",
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
            format!("cannot use --size {}", format_bytes(*size)),
            "An operation has 1 byte to 1 GiB.",
            "Use --size from 1 to 1G.",
        );
    }
    if let Some(depth) = plan.depths.iter().find(|depth| **depth == 0 || **depth > DEEPEST) {
        return reject(
            format!("cannot use --depth {depth}"),
            &format!("A queue pair has 1 to {DEEPEST} outstanding operations."),
            &format!("Use --depth from 1 to {DEEPEST}."),
        );
    }
    if let Some(ranges) = plan.ranges.iter().find(|ranges| **ranges == 0 || **ranges > MOST_RANGES) {
        return reject(
            format!("cannot use --ranges {ranges}"),
            &format!("A BAR can be split into 1 to {MOST_RANGES} ranges."),
            &format!("Use --ranges from 1 to {MOST_RANGES}."),
        );
    }
    Ok(())
}

fn check_rates(plan: &Plan) -> Result<(), PlanError> {
    let has_load = plan.modes.contains(&Mode::Load);
    if has_load && plan.rates_per_s.is_empty() {
        return reject(
            "cannot run mode load".into(),
            "It offers operations at a given rate, and --rate is missing.",
            "Add --rate with at least one number of operations per second.",
        );
    }
    if let Some(rate) = plan.rates_per_s.first().filter(|_| !has_load) {
        return reject(
            format!("cannot use --rate {rate}"),
            "Only mode load has an offered rate.",
            "Add --mode load, or omit --rate.",
        );
    }
    match plan.rates_per_s.iter().find(|rate| !(1..=HIGHEST_RATE_PER_S).contains(*rate)) {
        Some(rate) => reject(
            format!("cannot use --rate {rate}"),
            &format!("Rates are 1 to {HIGHEST_RATE_PER_S} operations per second."),
            "Choose another rate.",
        ),
        None => Ok(()),
    }
}

fn check_ranges(plan: &Plan) -> Result<(), PlanError> {
    let has_ranges = |source: &&Source| matches!(source, Source::Vfio { ranges, .. } if !ranges.is_empty());
    match plan.sources.iter().find(has_ranges).zip(plan.ranges.iter().find(|count| **count > 1)) {
        Some((source, count)) => reject(
            format!("cannot use --ranges {count} with {source}"),
            "The source names its ranges itself.",
            "Omit --ranges, or the ranges of the source (after the @).",
        ),
        None => Ok(()),
    }
}

/// Rejects a plan whose ranges are all too short: it has no cell.
fn check_range_lengths(plan: &Plan) -> Result<(), PlanError> {
    let (Some(largest), Some(fewest)) = (plan.sizes_bytes.iter().max(), plan.ranges.iter().min()) else {
        return Ok(());
    };
    if plan.cell_count() > 0 {
        return Ok(());
    }
    let needed = format_bytes(u64::from(*fewest) * SHORTEST_RANGE_BYTES);
    let remedy = if plan.ops.iter().all(|op| op.is_atomic()) {
        "Omit --ranges.".to_owned()
    } else {
        format!("Use --size {needed} or larger, or fewer --ranges.")
    };
    reject(
        format!("cannot use --size {} with --ranges {fewest}", format_bytes(*largest)),
        "Each range has at least 4 KiB.",
        &remedy,
    )
}

fn check_threads_and_queues(plan: &Plan) -> Result<(), PlanError> {
    for (counts, most, option, name) in [
        (&plan.qps, MOST_QUEUES, "--qps", "queue pairs per thread"),
        (&plan.threads, MOST_THREADS, "--threads", "threads"),
    ] {
        if let Some(count) = counts.iter().find(|count| **count == 0 || **count > most) {
            return reject(
                format!("cannot use {option} {count}"),
                &format!("A cell uses 1 to {most} {name}."),
                &format!("Use {option} from 1 to {most}."),
            );
        }
    }
    let shallowest = plan.depths.iter().copied().min().unwrap_or(1);
    for (count, option) in
        [(plan.completion_moderation, "--completion-moderation"), (plan.post_list.unwrap_or(1), "--post-list")]
    {
        if count == 0 || count > shallowest {
            return reject(
                format!("cannot use {option} {count} at a depth of {shallowest}"),
                "The value ranges from 1 to the depth, the maximum number of outstanding operations.",
                &format!(
                    "Use {option} from 1 to {shallowest}{}.",
                    if count == 0 { "" } else { ", or a larger --depth" }
                ),
            );
        }
    }
    let (list, moderation) = (plan.post_list, plan.completion_moderation);
    if let Some(depth) = plan.depths.iter().find(|depth| !send_queue_drains(**depth, list, moderation)) {
        let list = list.unwrap_or(1);
        return reject(
            format!("cannot use --post-list {list} with --completion-moderation {moderation} at --depth {depth}"),
            why_not_draining(*depth, list),
            "Use a --depth that is a multiple of --post-list and larger than --post-list plus --completion-moderation.",
        );
    }
    Ok(())
}

fn check_connection(plan: &Plan) -> Result<(), PlanError> {
    let QueuePairOptions { mtu_bytes, service_level, .. } = plan.connection;
    if let Some(bytes) = mtu_bytes.filter(|bytes| !QueuePairOptions::MTUS_BYTES.contains(bytes)) {
        return reject(
            format!("cannot use --mtu {bytes}"),
            "RDMA defines MTUs of 256, 512, 1024, 2048 and 4096 bytes.",
            "Use one of these with --mtu, or omit --mtu.",
        );
    }
    if service_level > 15 {
        return reject(
            format!("cannot use --service-level {service_level}"),
            "Service levels are 0 to 15.",
            "Use --service-level from 0 to 15.",
        );
    }
    let has_none = |target: &&super::Target| !target.importer.capabilities().queue_pairs;
    let given = options_of_queue_pairs(&plan.connection);
    match plan.targets.iter().find(has_none).filter(|_| !given.is_empty()) {
        Some(target) => {
            let given = given.join(" and ");
            reject(
                format!("cannot use {given} with {target}"),
                "The target has no queue pairs: only RDMA devices (verbs:DEV) have them.",
                &format!("Omit {given}, or measure RDMA devices in a run of their own."),
            )
        }
        None => Ok(()),
    }
}

/// The options that set up queue pairs and do not have their default here. `--hugepages` also applies to sources.
fn options_of_queue_pairs(given: &QueuePairOptions) -> Vec<&'static str> {
    let default = QueuePairOptions::default();
    [
        ("--connection", given.transport != default.transport),
        ("--mtu", given.mtu_bytes != default.mtu_bytes),
        ("--gid-index", given.gid_index != default.gid_index),
        ("--inline", given.inline_bytes != default.inline_bytes),
        ("--service-level", given.service_level != default.service_level),
        ("--traffic-class", given.traffic_class != default.traffic_class),
        ("--relaxed-ordering", given.relaxed_ordering != default.relaxed_ordering),
        ("--events", given.events != default.events),
    ]
    .into_iter()
    .filter_map(|(option, is_given)| is_given.then_some(option))
    .collect()
}
