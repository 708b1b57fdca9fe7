//! Tests of handshakes with valid and with hostile peers.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{LONG, pair, receive, send, token};
use crate::peer::VERSION;
use crate::peer::frame::{self, FrameError};
use crate::peer::handshake::{HandshakeError, as_client, as_server};
use crate::peer::token::{Nonce, Side, Token};

/// Runs the server's handshake against the peer `other`, and returns its result.
fn serve(other: impl FnOnce(TcpStream) + Send) -> Result<(), HandshakeError> {
    let (ours, theirs) = pair();
    thread::scope(move |scope| {
        scope.spawn(|| other(theirs));
        // The closure owns `ours`, so this socket is closed before the scope joins the thread of `other`.
        let ours = ours;
        as_server(&ours, &token(), LONG)
    })
}

/// Runs the client's handshake against the peer `other`, and returns its result.
fn connect(other: impl FnOnce(TcpStream) + Send) -> Result<(), HandshakeError> {
    let (ours, theirs) = pair();
    thread::scope(move |scope| {
        scope.spawn(|| other(theirs));
        let ours = ours;
        as_client(&ours, &token(), LONG)
    })
}

/// Builds the proof message of a client that knows a token, in reply to the server's hello.
fn prove(with: &Token, hello: &Value, version: u32) -> Value {
    let theirs: Nonce = serde_json::from_value(hello["hello"]["nonce"].clone()).unwrap();
    let own = Nonce::random().unwrap();
    let proof = with.prove(Side::Client, &theirs, &own);
    json!({"prove": {"version": version, "nonce": own, "proof": proof}})
}

#[test]
fn accepts_a_peer_with_the_token() {
    serve(|stream| as_client(&stream, &token(), LONG).unwrap()).unwrap();
}

#[test]
fn reports_a_wrong_token() {
    let wrong = Token::find(None, Some("some other token".into())).unwrap().unwrap();
    let end = serve(|stream| {
        let end = as_client(&stream, &wrong, LONG);
        assert!(matches!(&end, Err(HandshakeError::Refused { why }) if why.contains("token")), "{end:?}");
    });
    assert!(matches!(end, Err(HandshakeError::Token)), "{end:?}");
}

#[test]
fn rejects_a_server_without_the_token() {
    let hello = |stream: &TcpStream| {
        send(stream, &json!({"hello": {"version": VERSION, "nonce": Nonce::random().unwrap()}}));
        receive(stream).unwrap()
    };
    let end = connect(|stream| {
        // Returns the client's own proof to it, because this server does not know the token.
        let proof = hello(&stream)["prove"]["proof"].clone();
        send(&stream, &json!({"welcome": {"proof": proof}}));
    });
    assert!(matches!(end, Err(HandshakeError::Token)), "{end:?}");
}

#[test]
fn rejects_a_proof_of_another_connection() {
    let mut recorded = Value::Null;
    serve(|stream| {
        recorded = prove(&token(), &receive(&stream).unwrap(), VERSION);
        send(&stream, &recorded);
        assert!(receive(&stream).unwrap().get("welcome").is_some());
    })
    .unwrap();
    let end = serve(|stream| {
        receive(&stream).unwrap();
        send(&stream, &recorded);
        assert!(receive(&stream).unwrap().get("refused").is_some());
    });
    assert!(matches!(end, Err(HandshakeError::Token)), "{end:?}");
}

#[test]
fn rejects_another_version() {
    let end = serve(|stream| {
        let hello = receive(&stream).unwrap();
        assert_eq!(hello["hello"]["version"], VERSION);
        send(&stream, &prove(&token(), &hello, VERSION + 1));
        let why = receive(&stream).unwrap()["refused"]["why"].clone();
        assert!(why.as_str().unwrap().contains("version"), "{why}");
    });
    assert!(matches!(end, Err(HandshakeError::Version { theirs }) if theirs == VERSION + 1), "{end:?}");
    let end = connect(|stream| {
        send(&stream, &json!({"hello": {"version": 7, "nonce": Nonce::random().unwrap()}}));
        assert!(receive(&stream).unwrap().get("refused").is_some());
    });
    assert!(matches!(end, Err(HandshakeError::Version { theirs: 7 })), "{end:?}");
}

#[test]
fn rejects_garbage() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\x02{}", b"\0\0\0\x07\"hello\"", b"\0\0\0\x01\xff"] {
        for end in [
            serve(|mut stream| stream.write_all(bytes).unwrap()),
            connect(|mut stream| stream.write_all(bytes).unwrap()),
        ] {
            assert!(matches!(end, Err(HandshakeError::Frame(_))), "{bytes:?}: {end:?}");
        }
    }
}

#[test]
fn rejects_a_too_long_message_at_once() {
    let end = serve(|mut stream| {
        stream.write_all(&(frame::LONGEST_BYTES + 1).to_be_bytes()).unwrap();
        // The connection stays open, but the server does not wait for the message.
        while receive(&stream).is_ok() {}
    });
    assert!(matches!(end, Err(HandshakeError::Frame(FrameError::TooLong(_)))), "{end:?}");
    // Before the proof, the server accepts only short messages.
    let end = serve(|mut stream| {
        stream.write_all(&1025_u32.to_be_bytes()).unwrap();
        while receive(&stream).is_ok() {}
    });
    assert!(matches!(end, Err(HandshakeError::Frame(FrameError::TooLong(1025)))), "{end:?}");
}

#[test]
fn rejects_unexpected_messages() {
    let message = json!({"hello": {"version": VERSION, "nonce": Nonce::random().unwrap()}});
    let end = serve(|stream| send(&stream, &message));
    assert!(matches!(end, Err(HandshakeError::Unexpected)), "{end:?}");
    let message = json!({"refused": {"why": "x".repeat(10_000)}});
    let end = connect(|stream| send(&stream, &message));
    assert!(matches!(end, Err(HandshakeError::Refused { why }) if why.ends_with("x… (9800 more characters)")));
}

#[test]
fn times_out_on_a_silent_or_slow_peer() {
    for is_slow in [false, true] {
        let (ours, mut theirs) = pair();
        thread::scope(|scope| {
            let end = scope.spawn(move || as_server(&ours, &token(), Duration::from_millis(300)));
            // Send bytes continuously, but never a complete message.
            theirs.write_all(b"\0\0\x04\0").unwrap();
            while is_slow && theirs.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
            let end = end.join().unwrap();
            assert!(matches!(end, Err(HandshakeError::Frame(FrameError::TooSlow))), "{end:?}");
        });
    }
}

#[test]
fn detects_a_peer_that_leaves_at_any_step() {
    // The client disconnects before the first byte, in the middle of a message, or after the hello.
    let cuts: [fn(TcpStream); 3] = [
        |stream| drop(stream),
        |mut stream| {
            receive(&stream).unwrap();
            stream.write_all(b"\0\0").unwrap();
        },
        |stream| {
            receive(&stream).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        },
    ];
    for cut in cuts {
        let end = serve(cut);
        assert!(matches!(end, Err(HandshakeError::Frame(FrameError::Closed | FrameError::Broken(_)))), "{end:?}");
    }
    let cuts: [fn(TcpStream); 2] = [
        |stream| drop(stream),
        |stream| {
            send(&stream, &json!({"hello": {"version": VERSION, "nonce": Nonce::random().unwrap()}}));
            receive(&stream).unwrap();
        },
    ];
    for cut in cuts {
        let end = connect(cut);
        assert!(matches!(end, Err(HandshakeError::Frame(FrameError::Closed | FrameError::Broken(_)))), "{end:?}");
    }
}
