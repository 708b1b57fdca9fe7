//! Whoever is not the peer that was meant.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{LONG, hear, pair, say, token};
use crate::peer::VERSION;
use crate::peer::frame::{self, FrameError};
use crate::peer::handshake::{Stranger, as_client, as_server};
use crate::peer::token::{Nonce, Side, Token};

/// What becomes of the server's handshake with `other`.
fn met(other: impl FnOnce(TcpStream) + Send) -> Result<(), Stranger> {
    let (ours, theirs) = pair();
    thread::scope(move |scope| {
        scope.spawn(|| other(theirs));
        // Closed before the other side is waited for.
        let ours = ours;
        as_server(&ours, &token(), LONG)
    })
}

/// What becomes of the client's.
fn meeting(other: impl FnOnce(TcpStream) + Send) -> Result<(), Stranger> {
    let (ours, theirs) = pair();
    thread::scope(move |scope| {
        scope.spawn(|| other(theirs));
        let ours = ours;
        as_client(&ours, &token(), LONG)
    })
}

/// The words of somebody who knows a token, after whatever the server said.
fn prove(with: &Token, hello: &Value, version: u32) -> Value {
    let theirs: Nonce = serde_json::from_value(hello["hello"]["nonce"].clone()).unwrap();
    let own = Nonce::random().unwrap();
    let proof = with.prove(Side::Client, &theirs, &own);
    json!({"prove": {"version": version, "nonce": own, "proof": proof}})
}

#[test]
fn two_that_know_the_token_get_along() {
    met(|stream| as_client(&stream, &token(), LONG).unwrap()).unwrap();
}

#[test]
fn a_wrong_token_is_told_from_no_peer() {
    let wrong = Token::find(None, Some("some other token".into())).unwrap().unwrap();
    let end = met(|stream| {
        let end = as_client(&stream, &wrong, LONG);
        assert!(matches!(&end, Err(Stranger::Refused { why }) if why.contains("token")), "{end:?}");
    });
    assert!(matches!(end, Err(Stranger::Token)), "{end:?}");
}

#[test]
fn a_passive_side_without_the_token_is_not_believed() {
    let hello = |stream: &TcpStream| {
        say(stream, &json!({"hello": {"version": VERSION, "nonce": Nonce::random().unwrap()}}));
        hear(stream).unwrap()
    };
    let end = meeting(|stream| {
        // It sends the client's own proof back, the only one that it has seen.
        let proof = hello(&stream)["prove"]["proof"].clone();
        say(&stream, &json!({"welcome": {"proof": proof}}));
    });
    assert!(matches!(end, Err(Stranger::Token)), "{end:?}");
}

#[test]
fn a_proof_is_good_for_one_connection() {
    let mut recorded = Value::Null;
    met(|stream| {
        recorded = prove(&token(), &hear(&stream).unwrap(), VERSION);
        say(&stream, &recorded);
        assert!(hear(&stream).unwrap().get("welcome").is_some());
    })
    .unwrap();
    let end = met(|stream| {
        hear(&stream).unwrap();
        say(&stream, &recorded);
        assert!(hear(&stream).unwrap().get("refused").is_some());
    });
    assert!(matches!(end, Err(Stranger::Token)), "{end:?}");
}

#[test]
fn versions_have_to_be_the_same() {
    let end = met(|stream| {
        let hello = hear(&stream).unwrap();
        assert_eq!(hello["hello"]["version"], VERSION);
        say(&stream, &prove(&token(), &hello, VERSION + 1));
        let why = hear(&stream).unwrap()["refused"]["why"].clone();
        assert!(why.as_str().unwrap().contains("version"), "{why}");
    });
    assert!(matches!(end, Err(Stranger::Version { theirs }) if theirs == VERSION + 1), "{end:?}");
    let end = meeting(|stream| {
        say(&stream, &json!({"hello": {"version": 7, "nonce": Nonce::random().unwrap()}}));
        assert!(hear(&stream).unwrap().get("refused").is_some());
    });
    assert!(matches!(end, Err(Stranger::Version { theirs: 7 })), "{end:?}");
}

#[test]
fn garbage_ends_it() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\x02{}", b"\0\0\0\x07\"hello\"", b"\0\0\0\x01\xff"] {
        for end in
            [met(|mut stream| stream.write_all(bytes).unwrap()), meeting(|mut stream| stream.write_all(bytes).unwrap())]
        {
            assert!(matches!(end, Err(Stranger::Frame(_))), "{bytes:?}: {end:?}");
        }
    }
}

#[test]
fn an_oversize_length_is_not_waited_for() {
    let end = met(|mut stream| {
        stream.write_all(&(frame::LONGEST_BYTES + 1).to_be_bytes()).unwrap();
        // It stays, and would send: the other side does not wait.
        while hear(&stream).is_ok() {}
    });
    assert!(matches!(end, Err(Stranger::Frame(FrameError::TooLong(_)))), "{end:?}");
}

#[test]
fn words_out_of_turn_end_it() {
    let word = json!({"hello": {"version": VERSION, "nonce": Nonce::random().unwrap()}});
    let end = met(|stream| say(&stream, &word));
    assert!(matches!(end, Err(Stranger::OutOfTurn)), "{end:?}");
    let word = json!({"refused": {"why": "x".repeat(10_000)}});
    let end = meeting(|stream| say(&stream, &word));
    assert!(matches!(end, Err(Stranger::Refused { why }) if why.len() == 200));
}

#[test]
fn one_who_says_nothing_or_drips_is_given_up() {
    for drips in [false, true] {
        let (ours, mut theirs) = pair();
        thread::scope(|scope| {
            let end = scope.spawn(move || as_server(&ours, &token(), Duration::from_millis(300)));
            // Never a whole message, but never silent for as long as that either.
            theirs.write_all(b"\0\0\x10\0").unwrap();
            while drips && theirs.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
            let end = end.join().unwrap();
            assert!(matches!(end, Err(Stranger::Frame(FrameError::TooSlow))), "{end:?}");
        });
    }
}

#[test]
fn leaving_at_any_step_is_noticed() {
    // The server loses somebody who has said nothing, half of it, or just enough.
    let cuts: [fn(TcpStream); 3] = [
        |stream| drop(stream),
        |mut stream| {
            hear(&stream).unwrap();
            stream.write_all(b"\0\0").unwrap();
        },
        |stream| {
            hear(&stream).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        },
    ];
    for cut in cuts {
        let end = met(cut);
        assert!(matches!(end, Err(Stranger::Frame(FrameError::Closed | FrameError::Broken(_)))), "{end:?}");
    }
    let cuts: [fn(TcpStream); 2] = [
        |stream| drop(stream),
        |stream| {
            say(&stream, &json!({"hello": {"version": VERSION, "nonce": Nonce::random().unwrap()}}));
            hear(&stream).unwrap();
        },
    ];
    for cut in cuts {
        let end = meeting(cut);
        assert!(matches!(end, Err(Stranger::Frame(FrameError::Closed | FrameError::Broken(_)))), "{end:?}");
    }
}
