//! The conversation of two that know each other.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::{LONG, hear, pair, say};
use crate::interrupt::Interrupt;
use crate::peer::connection::{Connection, Lost, TIMES, Times};
use crate::peer::frame::FrameError;
use crate::peer::message::{Answer, Request};

const PATIENT: Times = Times { beat: LONG, silence: LONG };

fn begin(times: Times, busy: &Interrupt) -> (Connection<Request, Answer>, TcpStream) {
    let (ours, theirs) = pair();
    (Connection::begin(ours, Some(busy.clone()), times).unwrap(), theirs)
}

#[test]
fn signs_of_life_are_given_and_are_no_answers() {
    let busy = Interrupt::default();
    let (connection, theirs) = begin(Times { beat: Duration::from_millis(5), ..PATIENT }, &busy);
    for _ in 0..3 {
        assert_eq!(hear(&theirs).unwrap(), json!("alive"));
        say(&theirs, &json!("alive"));
    }
    say(&theirs, &json!("filled"));
    assert_eq!(connection.hear(&busy).unwrap(), Answer::Filled);
    assert!(!busy.is_set());
}

#[test]
fn silence_ends_it_and_what_this_side_is_busy_with() {
    let busy = Interrupt::default();
    let (connection, _theirs) = begin(Times { silence: Duration::from_millis(50), ..PATIENT }, &busy);
    let end = connection.hear(&busy);
    assert!(matches!(end, Err(Lost::Frame(FrameError::TooSlow))), "{end:?}");
    wait_until_stopped(&busy);
    assert!(!busy.is_signalled());
    assert!(matches!(connection.hear(&busy), Err(Lost::Over)));
}

#[test]
fn a_peer_that_goes_ends_what_this_side_is_busy_with() {
    let busy = Interrupt::default();
    let (connection, theirs) = begin(TIMES, &busy);
    drop(theirs);
    wait_until_stopped(&busy);
    let end = connection.hear(&busy);
    assert!(matches!(end, Err(Lost::Frame(FrameError::Closed))), "{end:?}");
}

#[test]
fn what_is_no_answer_ends_it() {
    for bytes in [&b"\0\0\0\x06\"none\""[..], b"\xff\xff\xff\xff", b"\0\0\0\x02{}"] {
        let busy = Interrupt::default();
        let (connection, mut theirs) = begin(PATIENT, &busy);
        theirs.write_all(bytes).unwrap();
        let end = connection.hear(&busy);
        assert!(matches!(end, Err(Lost::Frame(FrameError::Garbled(_) | FrameError::TooLong(_)))), "{end:?}");
    }
}

#[test]
fn answers_that_nobody_asked_for_are_not_kept_in_store() {
    let busy = Interrupt::default();
    let (connection, theirs) = begin(PATIENT, &busy);
    for _ in 0..3 {
        say(&theirs, &json!("filled"));
    }
    wait_until_stopped(&busy);
    assert_eq!(connection.hear(&busy).unwrap(), Answer::Filled);
    assert_eq!(connection.hear(&busy).unwrap(), Answer::Filled);
    connection.hear(&busy).unwrap_err();
}

#[test]
fn leaving_is_no_reason_to_stop_what_comes_next() {
    let busy = Interrupt::default();
    let (connection, theirs) = begin(PATIENT, &busy);
    drop(connection);
    assert!(matches!(hear(&theirs), Err(FrameError::Closed)));
    assert!(!busy.is_set());
}

fn wait_until_stopped(busy: &Interrupt) {
    while !busy.is_set() {
        std::thread::yield_now();
    }
}
