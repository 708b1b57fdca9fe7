//! Tests of a connection after its handshake.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::{LONG, pair, receive, send};
use crate::interrupt::Interrupt;
use crate::peer::connection::{Connection, ConnectionError, TIMES, Times};
use crate::peer::frame::FrameError;
use crate::peer::message::{Request, Response};

const PATIENT: Times = Times { beat: LONG, silence: LONG };

fn begin(times: Times, busy: &Interrupt) -> (Connection<Request, Response>, TcpStream) {
    let (ours, theirs) = pair();
    (Connection::begin(ours, Some(busy.clone()), times).unwrap(), theirs)
}

#[test]
fn sends_heartbeats_and_ignores_those_of_the_peer() {
    let busy = Interrupt::default();
    let (connection, theirs) = begin(Times { beat: Duration::from_millis(5), ..PATIENT }, &busy);
    for _ in 0..3 {
        assert_eq!(receive(&theirs).unwrap(), json!("alive"));
        send(&theirs, &json!("alive"));
    }
    send(&theirs, &json!("filled"));
    assert_eq!(connection.receive(&busy).unwrap(), Response::Filled);
    assert!(!busy.is_set());
}

#[test]
fn a_silent_peer_ends_the_connection_and_the_run() {
    let busy = Interrupt::default();
    let (connection, _theirs) = begin(Times { silence: Duration::from_millis(50), ..PATIENT }, &busy);
    let end = connection.receive(&busy);
    assert!(matches!(end, Err(ConnectionError::Frame(FrameError::TooSlow))), "{end:?}");
    wait_until_stopped(&busy);
    assert!(!busy.is_signalled());
    assert!(matches!(connection.receive(&busy), Err(ConnectionError::Closed)));
}

#[test]
fn a_closed_connection_ends_the_run() {
    let busy = Interrupt::default();
    let (connection, theirs) = begin(TIMES, &busy);
    drop(theirs);
    wait_until_stopped(&busy);
    let end = connection.receive(&busy);
    assert!(matches!(end, Err(ConnectionError::Frame(FrameError::Closed))), "{end:?}");
}

#[test]
fn an_invalid_response_ends_the_connection() {
    for bytes in [&b"\0\0\0\x06\"none\""[..], b"\xff\xff\xff\xff", b"\0\0\0\x02{}"] {
        let busy = Interrupt::default();
        let (connection, mut theirs) = begin(PATIENT, &busy);
        theirs.write_all(bytes).unwrap();
        let end = connection.receive(&busy);
        assert!(matches!(end, Err(ConnectionError::Frame(FrameError::Garbled(_) | FrameError::TooLong(_)))), "{end:?}");
    }
}

#[test]
fn unrequested_responses_end_the_connection() {
    let busy = Interrupt::default();
    let (connection, theirs) = begin(PATIENT, &busy);
    for _ in 0..3 {
        send(&theirs, &json!("filled"));
    }
    wait_until_stopped(&busy);
    assert_eq!(connection.receive(&busy).unwrap(), Response::Filled);
    assert_eq!(connection.receive(&busy).unwrap(), Response::Filled);
    connection.receive(&busy).unwrap_err();
}

#[test]
fn dropping_a_connection_does_not_stop_the_run() {
    let busy = Interrupt::default();
    let (connection, theirs) = begin(PATIENT, &busy);
    drop(connection);
    assert!(matches!(receive(&theirs), Err(FrameError::Closed)));
    assert!(!busy.is_set());
}

fn wait_until_stopped(busy: &Interrupt) {
    while !busy.is_set() {
        std::thread::yield_now();
    }
}

mod fuzz {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::peer::handshake::Handshake;
    use crate::peer::message::{Request, Response};

    /// Generates almost valid messages: JSON with field names of the protocol.
    fn messages() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just("alive"),
            Just("open"),
            Just("opened"),
            Just("failed"),
            Just("fill"),
            Just("verify"),
            Just("echo"),
            Just("connection"),
            Just("close"),
            Just("hello"),
            Just("version"),
            Just("seed"),
            Just("window"),
            Just("slots"),
            Just("starts"),
            Just("lanes"),
            Just("post"),
            Just("posted"),
            Just("operations"),
            Just("words"),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            word.clone().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let field = (word.clone(), inner.clone());
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                proptest::collection::vec(field, 0..4)
                    .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
            ]
        })
    }

    fn framed(message: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        crate::peer::frame::write(&mut bytes, message).unwrap();
        bytes
    }

    #[test]
    fn seeds_of_the_fuzzer_are_messages() {
        fn is<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> bool {
            crate::peer::frame::read::<T>(&mut &bytes[..]).is_ok()
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/wire");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(!seeds.is_empty());
        for seed in seeds {
            let bytes = std::fs::read(&seed).unwrap();
            assert!(is::<Handshake>(&bytes) || is::<Request>(&bytes) || is::<Response>(&bytes), "{}", seed.display());
            crate::peer::take_apart(&bytes);
        }
    }

    proptest! {
        #[test]
        fn reads_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            crate::peer::take_apart(&bytes);
        }

        #[test]
        fn reads_nearly_valid_messages(message in messages()) {
            crate::peer::take_apart(&framed(&message));
        }

        #[test]
        fn reads_any_post(
            at in proptest::collection::vec(any::<u64>(), 0..4), operations: Option<u64>, nanoseconds: Option<u64>,
            post_list in proptest::option::of(prop_oneof![any::<u32>(), 0..6_u32]),
            completion_moderation in prop_oneof![any::<u32>(), 0..6_u32],
        ) {
            crate::peer::take_apart(&framed(&json!({"post": {"at": at, "operations": operations,
                "nanoseconds": nanoseconds, "post_list": post_list, "completion_moderation": completion_moderation}})));
        }

        #[test]
        fn reads_any_window(
            slots in proptest::collection::vec(prop_oneof![any::<u64>(), 0..1000_u64], 0..5),
            slot_bytes in prop_oneof![any::<u64>(), 0..100_u64], length_bytes in prop_oneof![any::<u64>(), 0..2000_u64],
            starts in proptest::collection::vec(prop_oneof![any::<u64>(), 0..5000_u64], 0..4),
        ) {
            let endpoint = json!({"queue_pairs": [], "address": {"lid": 1}, "mtu_bytes": 0, "reads_in_flight": 0,
                "message_bytes": 0, "regions": []});
            let source = json!({"kind": "host", "bdf": null, "bar": null, "ranges": []});
            crate::peer::take_apart(&framed(&json!({"opened": {"source": source, "mechanism": "", "endpoint": endpoint,
                "window": {"length_bytes": length_bytes, "slot_bytes": slot_bytes, "slots": slots, "starts": starts}}})));
        }
    }
}
