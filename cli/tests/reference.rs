//! Predictions from the snapshots of the reference matrix match the paths observed in its guests.

use std::path::Path;

use peerpath_exporter::Source;
use peerpath_paths::{Inventory, Request, Tree};
use serde_json::Value;

#[test]
fn predictions_from_snapshots_match_observed_paths() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/matrix");
    let rows: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("matrix.json")).unwrap()).unwrap();
    let mut compared = 0;
    // The host may have been changed for a requested path after the snapshot was taken.
    for row in rows.as_array().unwrap().iter().filter(|row| row["asked"].is_null()) {
        let text = |key: &str| row[key].as_str().unwrap();
        let Ok(Source::Vfio { bdf, bar, ranges }) = text("from").parse() else { continue };
        let snapshot = folder.join(text("scenario")).join("snapshot.tar.gz");
        let inventory = Inventory::read(&Tree::open(&snapshot).unwrap());
        let importer = inventory.function_under(text("to")).unwrap();
        let request = Request { bar: Some(bar), ranges: ranges.len().max(1), ..Request::default() };
        let report = inventory.predictor(request).explain(bdf, importer).unwrap();
        let cause = row["cause"].as_str();
        if text("observed") == "unknown" {
            assert!(report.blockers.iter().any(|blocker| Some(blocker.as_str()) == cause), "{row:#}");
        } else {
            assert_eq!(report.predicted.as_str(), text("observed"), "{row:#}");
            assert_eq!(report.cause.map(|cause| cause.as_str()), cause, "{row:#}");
        }
        compared += 1;
    }
    assert!(compared >= 16, "{compared} pairs");
}
