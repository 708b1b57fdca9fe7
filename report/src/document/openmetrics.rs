//! OpenMetrics text, which Prometheus reads too: the figures of each cell as gauges, e.g. for the textfile collector of
//! `node_exporter`.
//!
//! The names end with the base unit, as OpenMetrics 1.0 requires ("Units and Base Units"): seconds and bytes per second. The label
//! `emulated` keeps figures of emulated devices apart from those of hardware.

use std::fmt::Write as _;

use super::Document;
use crate::saved::{Outcome, SavedCell};

/// Name, unit, help, and the samples of a cell: extra labels and value.
type Metric = (&'static str, &'static str, &'static str, fn(&SavedCell) -> Vec<(String, f64)>);

const METRICS: [Metric; 4] = [
    ("peerpath_cell_passed", "", "Whether the cell passed (1), or failed or was waived (0).", |cell| {
        vec![(String::new(), f64::from(u8::from(cell.outcome == Outcome::Passed)))]
    }),
    ("peerpath_throughput_bytes_per_second", "bytes_per_second", "Bytes divided by the measured time.", |cell| {
        cell.throughput.map(|rate| (String::new(), rate)).into_iter().collect()
    }),
    (
        "peerpath_latency_seconds",
        "seconds",
        "Latency of single operations: the quantile that the label names.",
        |cell| {
            let quantiles = [("0.5", cell.p50()), ("0.99", cell.p99())];
            let of = |(quantile, value): (&str, Option<f64>)| Some((format!(",quantile=\"{quantile}\""), value? / 1e9));
            quantiles.into_iter().filter_map(of).collect()
        },
    ),
    ("peerpath_verified_bytes", "bytes", "Bytes that were compared with the sent data.", |cell| {
        cell.verified_bytes.map(|bytes| (String::new(), bytes as f64)).into_iter().collect()
    }),
];

pub(crate) fn render(document: &Document) -> String {
    let mut text = String::new();
    for (name, unit, help, samples) in METRICS {
        let _ = writeln!(text, "# TYPE {name} gauge");
        if !unit.is_empty() {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(text, "# HELP {name} {help}");
        for (saved, label) in document.saved.iter().zip(&document.labels) {
            let emulated = saved.environment.emulated == Some(true);
            let host = saved.environment.hostname.as_deref().unwrap_or_default();
            for cell in &saved.cells {
                let common = format!(
                    "host=\"{}\",result=\"{}\",emulated=\"{emulated}\",{}",
                    escaped(host),
                    escaped(label),
                    labels(cell)
                );
                for (extra, value) in samples(cell) {
                    let _ = writeln!(text, "{name}{{{common}{extra}}} {value}");
                }
            }
        }
    }
    text + "# EOF\n"
}

/// The labels that identify a cell within its result.
fn labels(cell: &SavedCell) -> String {
    let number = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
    let labels = [
        ("cell", cell.id.clone()),
        ("source", cell.source.bdf.clone().unwrap_or_else(|| cell.source.kind.clone())),
        ("target", cell.target.device.clone()),
        ("op", cell.op.clone()),
        ("mode", cell.mode.clone()),
        ("size_bytes", number(cell.size_bytes)),
        ("depth", number(cell.depth)),
        ("path", cell.path.best_known().to_string()),
    ];
    labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(&value))).join(",")
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_label_values() {
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }
}
