//! Which path a pair took, why, how fast that was, and whether it can be trusted: in sentences.

use peerpath_paths::PathName;

use super::describe;
use super::pair::{Baselines, Pair};
use crate::saved::{Outcome, SavedCell};
use crate::units;

/// Slower than this share of host memory is worth a remark; less is what runs scatter.
const SLOWER: f64 = 0.95;

/// What is to be said about a pair.
pub(crate) struct Verdict {
    /// Its number among the pairs of the page.
    pub(crate) number: usize,
    pub(crate) path: PathName,
    /// `BAR 2 of 0000:01:00.0 to rxe0 on 0000:02:00.0`.
    pub(crate) subject: String,
    /// Which way, in a few words.
    pub(crate) way: &'static str,
    /// `observed, as predicted`.
    pub(crate) standing: String,
    /// What it can do, a figure each.
    pub(crate) figures: Vec<String>,
    /// What was verified.
    pub(crate) data: Option<String>,
    /// Why it is this path, in plain words and in the kernel's.
    pub(crate) why: Vec<String>,
    /// Its refusal is what was asked for: no trouble, for once.
    pub(crate) refused_as_asked: bool,
    /// What stopped its cells, and what to do.
    pub(crate) trouble: Option<String>,
    pub(crate) remedy: Option<String>,
    /// What makes the figures doubtful.
    pub(crate) flags: Vec<String>,
    /// `12 passed, 1 waived`.
    pub(crate) counts: String,
    pub(crate) evidence: Vec<String>,
}

impl Verdict {
    pub(crate) fn of<'a>(pair: &Pair<'a>, baselines: &Baselines<'a>) -> Self {
        let example = pair.example();
        let stopped = pair.cells.iter().find(|cell| cell.reason.is_some() && cell.outcome != Outcome::Passed);
        let stopped = stopped.or_else(|| pair.cells.iter().find(|cell| cell.reason.is_some()));
        Self {
            number: pair.number,
            path: pair.path,
            subject: subject(pair),
            way: if pair.never_began() { "nothing was moved" } else { describe::path(pair.path).short },
            standing: standing(pair),
            figures: figures(pair, baselines),
            data: data(pair),
            why: why(pair),
            refused_as_asked: pair.refused_as_asked(),
            trouble: stopped.map(|cell| trouble(cell)),
            remedy: stopped.and_then(|cell| cell.remedy.clone()),
            flags: flags(pair, baselines),
            counts: counts(pair),
            evidence: example.path.evidence.clone(),
        }
    }

    /// All of it in one sentence.
    pub(crate) fn sentence(&self) -> String {
        let mut text = format!("{}: {} ({})", self.subject, self.way, self.standing);
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
    let peer = peer.map_or_else(String::new, |peer| format!(", to and from {peer} of another host"));
    format!("{source}{ranges} to {}{peer}", describe::target(pair.target()))
}

fn standing(pair: &Pair<'_>) -> String {
    let path = &pair.example().path;
    let baseline = matches!(pair.path, PathName::HostMemory | PathName::Staged);
    let mut text = match (path.seen(), path.predicted) {
        _ if pair.never_began() => "what was asked for is not done here".to_owned(),
        _ if baseline => "baseline".to_owned(),
        (Some(seen), Some(predicted)) if seen == predicted => "observed, as predicted".to_owned(),
        (Some(_), Some(PathName::Unknown) | None) => "observed; it could not be predicted".to_owned(),
        (Some(_), Some(predicted)) => format!("observed, although {predicted} was predicted"),
        (None, Some(PathName::Unknown) | None) => "neither observed nor predicted".to_owned(),
        (None, Some(_)) if pair.count(Outcome::Passed) == 0 => "predicted only: nothing could be measured".to_owned(),
        (None, Some(_)) => "predicted, but not observed".to_owned(),
    };
    if let Some(asked) = pair.asked {
        text += if asked == pair.path { "; asked for" } else { "; another one was asked for" };
    }
    text
}

/// For each operation the figure that says most: throughput at the largest size, or else latency.
fn figures<'a>(pair: &Pair<'a>, baselines: &Baselines<'a>) -> Vec<String> {
    let mut ops: Vec<(&str, Option<&str>)> = Vec::new();
    for cell in &pair.cells {
        let op = (cell.op.as_str(), cell.direction.as_deref());
        if cell.outcome == Outcome::Passed && !ops.contains(&op) {
            ops.push(op);
        }
    }
    // What moves data first.
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

/// Throughput says more than latency, a larger size more than a smaller one, and one range is what is compared with.
fn weight(cell: &SavedCell) -> (bool, std::cmp::Reverse<u64>, u64, f64) {
    let ranges = std::cmp::Reverse(describe::range_count(cell));
    (cell.throughput.is_some(), ranges, cell.size_bytes.unwrap_or(0), cell.throughput.unwrap_or(0.0))
}

fn figure<'a>(pair: &Pair<'a>, cell: &'a SavedCell, baselines: &Baselines<'a>) -> Option<String> {
    let run = pair.run;
    let what = describe::operation_with_settings(cell);
    if let Some(rate) = cell.throughput.filter(|rate| *rate > 0.0) {
        let theirs = baselines.of_cell(run, cell).and_then(|theirs| theirs.throughput);
        // Shares rank, and what an emulator makes of two devices ranks nothing.
        let share = baselines.share(run, cell).filter(|_| !pair.emulated);
        let share = share.map_or_else(String::new, |share| format!(": {:.0} % of it", share * 100.0));
        let held = theirs.map_or_else(String::new, |theirs| {
            format!(" (host memory alike {}{share})", units::bytes_per_second(theirs))
        });
        return Some(format!("{what}: {}{held}", units::bytes_per_second(rate)));
    }
    let p50 = units::nanoseconds(cell.p50()?);
    let held = baselines.of_cell(run, cell).and_then(SavedCell::p50);
    let held = held.map_or_else(String::new, |theirs| format!(", host memory {}", units::nanoseconds(theirs)));
    let count = cell.iterations.map_or_else(String::new, |count| format!(" of {count}"));
    Some(format!("{what}: {p50} (median{count}{held})"))
}

fn data(pair: &Pair<'_>) -> Option<String> {
    let moved: Vec<_> = pair.cells.iter().filter(|cell| cell.transfers() && cell.outcome == Outcome::Passed).collect();
    if moved.is_empty() || pair.path == PathName::Refused {
        return None;
    }
    let unverified = moved.iter().filter(|cell| !cell.verified()).count();
    let bytes: u64 = moved.iter().filter_map(|cell| cell.verified_bytes).fold(0, u64::saturating_add);
    Some(match unverified {
        0 => format!("data verified in all {} that moved any ({} compared)", moved.len(), roughly(bytes)),
        _ if unverified == moved.len() => "data not verified".to_owned(),
        _ => format!("data of {unverified} of {} cells not verified", moved.len()),
    })
}

/// Whole units: a sum is no power of two.
fn roughly(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// In plain words what the kernel's fact comes to, then the fact.
fn why(pair: &Pair<'_>) -> Vec<String> {
    let example = pair.example();
    let Some(fact) = example.path.why() else { return Vec::new() };
    if example.path.predicted != Some(pair.path) {
        return vec![format!("What was predicted rests on: {fact}.")];
    }
    let own = example.target.kind == "iommufd";
    let way = if fact.starts_with("ACS redirect") {
        "They have a PCI bridge in common, but a port on the way sends requests up to the root complex (ACS redirect)"
    } else {
        "They have no PCI bridge in common that could connect them, so the way leads over the root complex"
    };
    let plain = match pair.path {
        PathName::BusAddress => {
            "They have a PCI bridge in common, and no port on the way sends requests further up (ACS redirect)."
                .to_owned()
        }
        PathName::HostBridgeTranslated if own => {
            "The importer has an I/O address space of its own (iommufd), and the IOMMU translates it.".to_owned()
        }
        PathName::HostBridgeTranslated => format!("{way}, and the IOMMU translates for the importer."),
        PathName::HostBridgeBypass => format!("{way}, and no IOMMU translates for the importer."),
        PathName::Refused => return vec![format!("The kernel cannot map it for this importer: {fact}.")],
        _ => return vec![format!("The facts: {fact}.")],
    };
    vec![plain, format!("The facts: {fact}.")]
}

fn trouble(cell: &SavedCell) -> String {
    let cause = cell.cause.as_ref().map_or(String::new(), |cause| format!(" [{cause}]"));
    format!("{}{cause}", cell.reason.as_deref().unwrap_or_default())
}

fn flags<'a>(pair: &Pair<'a>, baselines: &Baselines<'a>) -> Vec<String> {
    let mut flags = Vec::new();
    if let (Some(seen), Some(predicted)) = (pair.example().path.seen(), pair.example().path.predicted)
        && seen != predicted
        && predicted != PathName::Unknown
    {
        flags.push(format!("The kernel did not do what was predicted ({predicted}): please report this."));
    }
    flags.extend(slower(pair, baselines));
    let failed = pair.count(Outcome::Failed);
    if failed > 0 {
        flags.push(format!(
            "{} failed: do not rely on this path before that is explained.",
            describe::plural(failed, "cell")
        ));
    }
    flags
}

/// Even below one root port, peer-to-peer traffic may be carried round through the interconnect of the system.
fn slower<'a>(pair: &Pair<'a>, baselines: &Baselines<'a>) -> Option<String> {
    // What an emulator makes of two devices says nothing of any interconnect.
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
        format!("{what}; a CPU copied, so that is no sign of the system interconnect.")
    } else {
        format!("{what}: possibly looping through the system interconnect.")
    })
}

fn counts(pair: &Pair<'_>) -> String {
    if pair.refused_as_asked() {
        return format!("{} refused, as asked for", describe::plural(pair.cells.len(), "cell"));
    }
    let outcomes = [Outcome::Passed, Outcome::Waived, Outcome::Failed, Outcome::Unsaid];
    let counted =
        outcomes.iter().map(|outcome| (pair.count(*outcome), outcome.as_str())).filter(|(count, _)| *count > 0);
    counted.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}
