//! Tests of client and server over TCP connections on this host. A fake RDMA device copies between their memories.

mod channel;
mod device;
mod handshake;
mod runs;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::frame::{self, FrameError};
use super::token::Token;

/// A timeout that no test reaches.
const LONG: Duration = Duration::from_secs(60);

fn token() -> Token {
    Token::find(None, Some("the token of these tests".into())).unwrap().unwrap()
}

/// Both sockets of a TCP connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// Receives the next message of the peer, as JSON.
fn receive(mut stream: &TcpStream) -> Result<Value, FrameError> {
    stream.set_read_timeout(Some(LONG)).unwrap();
    frame::read(&mut stream)
}

fn send(mut stream: &TcpStream, message: &Value) {
    frame::write(&mut stream, message).unwrap();
}
