//! Summary of a pair in sentences: path and reason, speed, and warnings.

use peerpath_paths::PathName;

use super::describe;
use super::pair::{Baselines, Pair};
use crate::saved::{Outcome, SavedCell};
use crate::units;

/// Speed relative to host memory below which a pair is flagged. Smaller differences occur from run to run.
const SLOWER: f64 = 0.95;

/// The texts that summarize a pair.
pub(crate) struct PairSummary {
    /// Index among the pairs of the document.
    pub(crate) number: usize,
    pub(crate) path: PathName,
    /// Source and target, e.g. `BAR 2 of 0000:01:00.0 to rxe0 on 0000:02:00.0`.
    pub(crate) subject: String,
    /// The path as a phrase.
    pub(crate) path_text: &'static str,
    /// How certain the path is, e.g. `observed, as predicted`.
    pub(crate) certainty: String,
    /// The best value of each operation.
    pub(crate) figures: Vec<String>,
    /// Result of the verification.
    pub(crate) data: Option<String>,
    /// Reason for the path: an explanation, then the deciding fact.
    pub(crate) why: Vec<String>,
    /// Whether the run requested the path `refused`: a refused mapping is then not a failure.
    pub(crate) refused_as_asked: bool,
    /// Reason why cells did not pass.
    pub(crate) stopped_by: Option<String>,
    pub(crate) remedy: Option<String>,
    /// Warnings about the values.
    pub(crate) flags: Vec<String>,
    /// Number of cells by outcome, e.g. `12 passed, 1 waived`.
    pub(crate) counts: String,
    pub(crate) evidence: Vec<String>,
}

impl PairSummary {
    pub(crate) fn of<'a>(pair: &Pair<'a>, baselines: &Baselines<'a>) -> Self {
        let example = pair.example();
        let stopped = pair.cells.iter().find(|cell| cell.reason.is_some() && cell.outcome != Outcome::Passed);
        let stopped = stopped.or_else(|| pair.cells.iter().find(|cell| cell.reason.is_some()));
        Self {
            number: pair.number,
            path: pair.path,
            subject: subject(pair),
            path_text: if pair.never_began() { "no data transferred" } else { describe::path(pair.path).short },
            certainty: certainty(pair),
            figures: figures(pair, baselines),
            data: data(pair),
            why: why(pair),
            refused_as_asked: pair.refused_as_asked(),
            stopped_by: stopped.map(|cell| cause_and_reason(cell)),
            remedy: stopped.and_then(|cell| cell.remedy.clone()),
            flags: flags(pair, baselines),
            counts: counts(pair),
            evidence: example.path.evidence.clone(),
        }
    }

    /// Path, certainty and values in one sentence.
    pub(crate) fn sentence(&self) -> String {
        let mut text = format!("{}: {} ({})", self.subject, self.path_text, self.certainty);
        for figure in &self.figures {
            text += &format!("; {figure}");
        }
        text + "."
    }
}

fn subject(pair: &Pair<'_>) -> String {
    let mut source = describe::source(pair.source());
    if let Some(first) = source.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let counts: Vec<u64> = pair.cells.iter().map(|cell| describe::range_count(cell)).collect();
    let ranges = match counts.first() {
        Some(count) if *count > 1 && counts.iter().all(|other| other == count) => format!(" in {count} ranges"),
        _ => String::new(),
    };
    let peer = pair.cells.iter().find_map(|cell| cell.peer.as_ref());
    let peer = peer.map_or_else(String::new, |peer| format!(" on the server, with {peer} on the client"));
    format!("{source}{ranges} to {}{peer}", describe::target(pair.target()))
}

fn certainty(pair: &Pair<'_>) -> String {
    let path = &pair.example().path;
    let baseline = matches!(pair.path, PathName::HostMemory | PathName::Staged);
    let mut text = match (path.observed_path(), path.predicted) {
        _ if pair.never_began() => "no cell ran".to_owned(),
        _ if baseline => "baseline".to_owned(),
        (Some(observed), Some(predicted)) if observed == predicted => "observed, as predicted".to_owned(),
        (Some(_), Some(PathName::Unknown) | None) => "observed; no prediction".to_owned(),
        (Some(_), Some(predicted)) => format!("observed, but {predicted} was predicted"),
        (None, Some(PathName::Unknown) | None) => "neither observed nor predicted".to_owned(),
        (None, Some(_)) if pair.count(Outcome::Passed) == 0 => "predicted; nothing was measured".to_owned(),
        (None, Some(_)) => "predicted, not observed".to_owned(),
    };
    if let Some(asked) = pair.asked {
        text += if asked == pair.path { "; requested" } else { "; another path was requested" };
    }
    text
}

/// One value per operation: throughput at the largest size, otherwise latency.
fn figures<'a>(pair: &Pair<'a>, baselines: &Baselines<'a>) -> Vec<String> {
    let mut ops: Vec<(&str, Option<&str>)> = Vec::new();
    for cell in &pair.cells {
        let op = (cell.op.as_str(), cell.direction.as_deref());
        if cell.outcome == Outcome::Passed && !ops.contains(&op) {
            ops.push(op);
        }
    }
    // List operations that move data first.
    ops.sort_by_key(|op| op.1.is_none());
    let of = |(op, direction): (&str, Option<&str>)| {
        let mine = pair
            .cells
            .iter()
            .filter(|cell| cell.outcome == Outcome::Passed && cell.op == op && cell.direction.as_deref() == direction);
        let best =
            mine.max_by(|one, other| weight(one).partial_cmp(&weight(other)).unwrap_or(std::cmp::Ordering::Equal))?;
        figure(pair, best, baselines)
    };
    let control = ["register", "map"];
    ops.into_iter().filter(|(op, direction)| direction.is_some() || control.contains(op)).filter_map(of).collect()
}

/// Prefers throughput over latency, one range over several (as the baseline has one), and larger sizes. The throughput at an
/// offered load is not a maximum, so it comes last.
fn weight(cell: &SavedCell) -> (bool, bool, std::cmp::Reverse<u64>, u64, f64) {
    let ranges = std::cmp::Reverse(describe::range_count(cell));
    let is_load = cell.offered_operations_per_s.is_some();
    (!is_load, cell.throughput.is_some(), ranges, cell.size_bytes.unwrap_or(0), cell.throughput.unwrap_or(0.0))
}

fn figure<'a>(pair: &Pair<'a>, cell: &'a SavedCell, baselines: &Baselines<'a>) -> Option<String> {
    let run = pair.run;
    let what = describe::operation_with_settings(cell);
    if let Some(rate) = cell.throughput.filter(|rate| *rate > 0.0) {
        let baseline = baselines.of_cell(run, cell).and_then(|baseline| baseline.throughput);
        // Readers would rank paths by a ratio, but the timing of emulated devices does not reflect hardware.
        let share = baselines.share(run, cell).filter(|_| !pair.emulated);
        let share = share.map_or_else(String::new, |share| format!("{:.0} % of ", share * 100.0));
        let baseline = baseline.map_or_else(String::new, |baseline| {
            format!(" ({share}{} with host memory)", units::bytes_per_second(baseline))
        });
        return Some(format!("{what}: {}{baseline}", units::bytes_per_second(rate)));
    }
    let p50 = units::nanoseconds(cell.p50()?);
    let baseline = baselines.of_cell(run, cell).and_then(SavedCell::p50);
    let baseline =
        baseline.map_or_else(String::new, |baseline| format!("; {} with host memory", units::nanoseconds(baseline)));
    let count = cell.iterations.map_or_else(String::new, |count| format!(" of {count}"));
    Some(format!("{what}: {p50} (median{count}{baseline})"))
}

fn data(pair: &Pair<'_>) -> Option<String> {
    let moved: Vec<_> = pair.cells.iter().filter(|cell| cell.transfers() && cell.outcome == Outcome::Passed).collect();
    if moved.is_empty() || pair.path == PathName::Refused {
        return None;
    }
    let unverified = moved.iter().filter(|cell| !cell.verified()).count();
    let bytes: u64 = moved.iter().filter_map(|cell| cell.verified_bytes).fold(0, u64::saturating_add);
    Some(match unverified {
        0 => format!(
            "data verified in all {} that transferred data ({} compared)",
            describe::plural(moved.len(), "cell"),
            roughly(bytes)
        ),
        _ if unverified == moved.len() => "data not verified".to_owned(),
        _ => format!("data not verified in {unverified} of {} cells", moved.len()),
    })
}

/// Formats a number of bytes, rounded down to whole units.
fn roughly(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// An explanation of the deciding fact, then the fact.
fn why(pair: &Pair<'_>) -> Vec<String> {
    let example = pair.example();
    let Some(fact) = example.path.why() else { return Vec::new() };
    if example.path.predicted != Some(pair.path) {
        return vec![format!("The prediction is based on: {fact}.")];
    }
    let own_address_space = example.target.kind == "iommufd";
    let root_complex = if fact.starts_with("ACS redirect") {
        "Source and target share a PCI bridge, but ACS redirect on a port between them sends requests to the root complex"
    } else {
        "Source and target have no PCI bridge in common, so the data passes through the root complex"
    };
    let plain = match pair.path {
        PathName::BusAddress => {
            "Source and target share a PCI bridge, and no port between them redirects requests (ACS redirect)."
                .to_owned()
        }
        PathName::HostBridgeTranslated if own_address_space => {
            "The target uses a separate I/O address space (iommufd), which the IOMMU translates.".to_owned()
        }
        PathName::HostBridgeTranslated => format!("{root_complex}. The IOMMU translates the addresses of the target."),
        PathName::HostBridgeBypass => format!("{root_complex}. No IOMMU translates the addresses of the target."),
        PathName::Refused => return vec![format!("The kernel cannot map the source for this target: {fact}.")],
        _ => return vec![format!("Deciding fact: {fact}.")],
    };
    vec![plain, format!("Deciding fact: {fact}.")]
}

fn cause_and_reason(cell: &SavedCell) -> String {
    let cause = cell.cause.as_ref().map_or(String::new(), |cause| format!(" [{cause}]"));
    format!("{}{cause}", cell.reason.as_deref().unwrap_or_default())
}

fn flags<'a>(pair: &Pair<'a>, baselines: &Baselines<'a>) -> Vec<String> {
    let mut flags = Vec::new();
    if let (Some(observed), Some(predicted)) = (pair.example().path.observed_path(), pair.example().path.predicted)
        && observed != predicted
        && predicted != PathName::Unknown
    {
        flags.push(format!("The observed path differs from the predicted path ({predicted}). Please report this."));
    }
    flags.extend(slower(pair, baselines));
    let failed = pair.count(Outcome::Failed);
    if failed > 0 {
        flags.push(format!(
            "{} failed. Do not rely on this path until the reason is known.",
            describe::plural(failed, "cell")
        ));
    }
    flags
}

/// Flags a pair that is slower than host memory: the root complex may route peer-to-peer data over an interconnect within or
/// between CPUs.
fn slower<'a>(pair: &Pair<'a>, baselines: &Baselines<'a>) -> Option<String> {
    // The timing of emulated devices does not describe an interconnect.
    if !describe::is_peer_to_peer(pair.path) || pair.emulated {
        return None;
    }
    let moved = pair.cells.iter().filter(|cell| cell.outcome == Outcome::Passed && cell.transfers());
    let shares = moved.filter_map(|cell| Some((baselines.share(pair.run, cell)?, *cell)));
    let (share, cell) = shares.filter(|(share, _)| *share < SLOWER).min_by(|one, other| one.0.total_cmp(&other.0))?;
    let what = format!(
        "Slower than host memory ({:.0} % of its speed at {})",
        share * 100.0,
        describe::operation_with_settings(cell)
    );
    Some(if pair.by_cpu() {
        format!(
            "{what}. A CPU copied the data, so the throughput does not show whether the data crossed the root complex."
        )
    } else {
        format!("{what}: the data may cross the root complex or an interconnect between CPU sockets.")
    })
}

fn counts(pair: &Pair<'_>) -> String {
    if pair.refused_as_asked() {
        return format!("{} refused, as requested", describe::plural(pair.cells.len(), "cell"));
    }
    let outcomes = [Outcome::Passed, Outcome::Waived, Outcome::Failed, Outcome::Unknown];
    let counted =
        outcomes.iter().map(|outcome| (pair.count(*outcome), outcome.as_str())).filter(|(count, _)| *count > 0);
    counted.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}
