//! Tests which fields the messages contain.

use peerpath_importers::Transport;
use serde_json::{Value, json};

use super::*;
use crate::layout::Layout;

/// A peer of an older version, which knows no queue pair options or lanes, can serve a run that uses the defaults.
#[test]
fn omits_defaults() {
    let open = |connection| Open {
        source: "host:16M".into(),
        op: "write".into(),
        size_bytes: 4096,
        depth: 16,
        queue_pairs: 1,
        lanes: 1,
        both_ways: false,
        ranges: None,
        mr_per_range: false,
        connection,
    };
    let json_of = |pairs| serde_json::to_value(open(pairs)).unwrap();
    let defaults = json_of(QueuePairSettings::default());
    assert!(["connection", "lanes", "both_ways"].iter().all(|field| defaults.get(field).is_none()), "{defaults}");
    let uc = QueuePairSettings { transport: Transport::Uc, ..QueuePairSettings::default() };
    assert_eq!(json_of(uc)["connection"], json!({ "transport": "uc" }));
    let messages: [Value; 2] = [
        serde_json::to_value(Fill { window: 0, seed: 1, words: None }).unwrap(),
        serde_json::to_value(WindowLayout::of(&Layout::at(&[0], vec![0], 8, 8).unwrap()).unwrap()).unwrap(),
    ];
    assert!(messages.iter().all(|json| json.get("window").is_none() && json.get("starts").is_none()), "{messages:?}");
}

#[test]
fn windows_of_lanes_survive_the_message() {
    let layouts = Layout::side_by_side(64, 3, 1 << 20, 4, 1).unwrap();
    let window = WindowLayout::of(&layouts).unwrap();
    let read: WindowLayout = serde_json::from_value(serde_json::to_value(&window).unwrap()).unwrap();
    let received = read.layouts().unwrap();
    let starts = |layouts: &[Layout]| layouts.iter().map(Layout::near_offsets).collect::<Vec<_>>();
    assert_eq!(starts(&received), starts(&layouts));
    // In the client's memory, all windows share one buffer.
    let ends = received.iter().map(|layout| layout.far_start() + layout.length_bytes());
    assert!(ends.zip(&received[1..]).all(|(end, next)| end <= next.far_start()));
}
