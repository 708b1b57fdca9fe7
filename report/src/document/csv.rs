//! CSV: one row per cell, for spreadsheets and programs.

use super::Document;
use crate::saved::{SavedCell, SavedLatency};

const HEADER: &str = "result,run,started_at,emulated,soft_rdma,source,source_bdf,source_bar,ranges,target,target_device,target_bdf,peer,path_asked,\
path_predicted,path_observed,op,mode,direction,bidirectional,engine,mechanism,size_bytes,depth,threads,qps,iterations,outcome,cause,reason,\
verified_bytes,latency_min_ns,latency_p50_ns,latency_p90_ns,latency_p99_ns,latency_p999_ns,latency_max_ns,latency_mean_ns,\
latency_stdev_ns,throughput_bytes_per_s,throughput_min_window_bytes_per_s,operations_per_s,hostname,kernel,connection,offered_operations_per_s,\
ceiling_bytes_per_s,percent_of_ceiling\n";

/// Renders the cells as CSV (RFC 4180), with a header line.
pub(crate) fn render(document: &Document) -> String {
    let mut text = HEADER.to_owned();
    for (saved, label) in document.saved.iter().zip(&document.labels) {
        for (at, cell) in saved.cells.iter().enumerate() {
            let run = saved.run_of(at);
            let run = [
                field(label),
                optional(run.id.as_ref()),
                optional(run.started_at.as_ref()),
                plain(saved.environment.emulated),
                plain(saved.environment.soft_rdma),
            ];
            // Transport, MTU and inline size, as the plan records them. New columns are the last ones.
            let connection = saved.run.plan.iter().find(|(name, _)| name == "connection").map(|(_, value)| value);
            let host =
                [saved.environment.hostname.as_ref(), saved.environment.kernel.as_ref(), connection].map(optional);
            let last = [
                plain(cell.offered_operations_per_s),
                plain(cell.ceiling.as_ref().map(|ceiling| ceiling.bytes_per_s)),
                plain(cell.percent_of_ceiling()),
            ];
            text += &run.into_iter().chain(fields(cell)).chain(host).chain(last).collect::<Vec<_>>().join(",");
            text.push('\n');
        }
    }
    text
}

fn fields(cell: &SavedCell) -> Vec<String> {
    let latency = |pick: fn(&SavedLatency) -> Option<f64>| plain(cell.latency.as_ref().and_then(pick));
    // A quantile needs enough samples: the 99.9th percentile of 100 samples is their maximum.
    let quantile = |pick: fn(&SavedLatency) -> Option<f64>, samples: u64| {
        let has_enough = cell.iterations.is_none_or(|count| count >= samples);
        if has_enough { latency(pick) } else { String::new() }
    };
    vec![
        field(&cell.source.kind),
        optional(cell.source.bdf.as_ref()),
        plain(cell.source.bar),
        cell.source.ranges.len().to_string(),
        field(&cell.target.kind),
        field(&cell.target.device),
        optional(cell.target.bdf.as_ref()),
        optional(cell.peer.as_ref()),
        plain(cell.path.asked),
        plain(cell.path.predicted),
        plain(cell.path.observed),
        field(&cell.op),
        field(&cell.mode),
        optional(cell.direction.as_ref()),
        cell.bidirectional.to_string(),
        optional(cell.engine.as_ref()),
        optional(cell.mechanism.as_ref()),
        plain(cell.size_bytes),
        plain(cell.depth),
        plain(cell.threads),
        plain(cell.qps),
        plain(cell.iterations),
        cell.outcome.as_str().to_owned(),
        optional(cell.cause.as_ref()),
        optional(cell.reason.as_ref()),
        plain(cell.verified_bytes),
        latency(|latency| latency.min),
        latency(|latency| latency.p50),
        quantile(|latency| latency.p90, 10),
        quantile(|latency| latency.p99, 100),
        quantile(|latency| latency.p999, 1000),
        latency(|latency| latency.max),
        latency(|latency| latency.mean),
        latency(|latency| latency.stdev),
        plain(cell.throughput),
        plain(cell.throughput_min_window),
        plain(cell.operations_per_s),
    ]
}

/// A missing value is an empty field, never zero.
fn plain(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn optional(text: Option<&String>) -> String {
    text.map(|text| field(text)).unwrap_or_default()
}

/// Some spreadsheets evaluate text that starts with one of these characters as a formula, even after white space.
const FORMULAS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

fn field(text: &str) -> String {
    let text = if text.trim_start().starts_with(FORMULAS) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_fields_and_disarms_formulas() {
        assert_eq!(field("rxe0"), "rxe0");
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
        for formula in ["=1", "+1", "-1", "@SUM(1)", " =1", "\t=1", "＝1"] {
            assert_eq!(field(formula), format!("'{formula}"));
        }
        assert_eq!(field("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
    }
}
