//! A server that shares no code with peerpath. It is written from `docs/wire.md`, uses another RDMA library, and verifies
//! its memory independently.
//!
//! ```text
//! PEERPATH_TOKEN=... independent-peer DEVICE LISTEN:PORT
//! ```
//! It serves one client, with write and read cells on 16 MiB of host memory, and prints the number of compared bytes at
//! the end.

mod channel;
mod pattern;
mod proof;
mod rdma;

use std::error::Error;
use std::net::TcpListener;

use serde_json::{Value, json};

use channel::Channel;

const SOURCE: &str = "host:16M";
const SOURCE_BYTES: usize = 16 << 20;
const VERSION: u64 = 1;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, device, listen] = &arguments[..] else { return Err("independent-peer DEVICE LISTEN:PORT".into()) };
    let token = std::env::var("PEERPATH_TOKEN")?;
    let listener = TcpListener::bind(listen)?;
    println!("listening on {}", listener.local_addr()?);
    let (stream, _) = listener.accept()?;
    let mut channel = Channel::new(stream)?;
    authenticate(&mut channel, token.trim().as_bytes())?;
    let alive = channel.keep_alive()?;
    let context = rdma::open(device)?;
    channel.send(&json!({"offer": {
        "tool": {"name": "independent-peer", "version": env!("CARGO_PKG_VERSION")},
        "environment": {"emulated": true, "soft_rdma": true, "devices": []},
        "target": {"kind": "verbs", "device": device, "bdf": null},
        "sources": [SOURCE],
    }}))?;
    let mut compared = 0;
    while let Some(request) = channel.receive()? {
        compared += cell(&mut channel, &context, &request["open"])?;
    }
    drop(alive);
    println!("compared {compared} bytes");
    if compared == 0 { Err("the run compared no bytes".into()) } else { Ok(()) }
}

/// Authenticates the client with the token, and this server to the client.
fn authenticate(channel: &mut Channel, token: &[u8]) -> Result<()> {
    let own = proof::nonce()?;
    channel.send(&json!({"hello": {"version": VERSION, "nonce": proof::text(&own)}}))?;
    let answer = channel.receive()?.ok_or("the client closed the connection")?;
    let prove = &answer["prove"];
    let theirs = proof::bytes(&prove["nonce"]).ok_or_else(|| format!("the client sent no proof: {answer}"))?;
    let shown = proof::bytes(&prove["proof"]).ok_or("the client sent no proof")?;
    if prove["version"] != VERSION || !proof::holds(token, b"peerpath active", &own, &theirs, &shown) {
        channel.send(&json!({"refused": {"why": "the version or the token differs"}}))?;
        return Err("cannot authenticate the client: its version or token differs".into());
    }
    let proof = proof::make(token, b"peerpath passive", &own, &theirs);
    channel.send(&json!({"welcome": {"proof": proof::text(&proof)}}))
}

/// Serves a cell and returns the number of compared bytes in its slots.
fn cell(channel: &mut Channel, context: &ibverbs::Context, open: &Value) -> Result<u64> {
    let refuse = |why: &str| json!({"failed": {"outcome": "waived", "reason": "this server does not support the cell", "why": why, "remedy": "remove the cell from the plan"}});
    let (size, depth) = (open["size_bytes"].as_u64().unwrap_or(0), open["depth"].as_u64().unwrap_or(0));
    let wanted = open["source"] == SOURCE && (open["op"] == "write" || open["op"] == "read");
    let is_plain = open["queue_pairs"].as_u64().unwrap_or(1) == 1 && open["ranges"].is_null();
    if !wanted || !is_plain || !open["connection"].is_null() || size == 0 || depth == 0 {
        channel.send(&refuse(
            "this server supports only write and read of its one source, on one RC queue pair with default options",
        ))?;
        return Ok(0);
    }
    // Slots with guards between them.
    let stride = size.next_multiple_of(64) + 64;
    let slots: Vec<u64> = (0..depth).map(|slot| 64 + slot * stride).collect();
    let length = 64 + depth * stride;
    if length > SOURCE_BYTES as u64 {
        channel.send(&refuse("the source is too small"))?;
        return Ok(0);
    }
    let domain = context.alloc_pd()?;
    let completions = context.create_cq(16, 0)?;
    let mut memory = domain.allocate::<u8>(SOURCE_BYTES)?;
    let prepared = rdma::prepare(context, &domain, &completions)?;
    let own = prepared.endpoint();
    channel.send(&json!({"opened": {
        "source": {"kind": "host", "bdf": null, "bar": null,
                   "ranges": [{"offset_bytes": 0, "length_bytes": SOURCE_BYTES}]},
        "mechanism": "ibverbs-crate",
        "window": {"length_bytes": length, "slot_bytes": size, "slots": slots},
        "endpoint": {
            "queue_pairs": [{"number": own.num, "first_packet": 0}],
            "address": rdma::address(&own),
            "mtu_bytes": 1024,
            "reads_in_flight": rdma::READS_IN_FLIGHT,
            "message_bytes": 1_u64 << 30,
            "regions": [{"length_bytes": SOURCE_BYTES, "address": memory.as_ptr().addr(), "key": memory.rkey().key}],
        },
    }}))?;
    let mut prepared = Some(prepared);
    let mut connected = None;
    let mut compared = 0;
    loop {
        let request = channel.receive()?.ok_or("the client closed the connection in the middle of a cell")?;
        let window = &mut memory[..length as usize];
        let number = |name: &str, part: &str| request[name][part].as_u64().ok_or("a message lacks a number");
        let answer = if request == "close" {
            break;
        } else if let Some(endpoint) = request.get("connect") {
            connected = Some(rdma::connect(prepared.take().ok_or("the client sent connect twice")?, endpoint)?);
            json!("connected")
        } else if request.get("fill").is_some() {
            let seed = number("fill", "seed")?;
            window.iter_mut().enumerate().for_each(|(at, byte)| *byte = pattern::byte(seed, at as u64));
            json!("filled")
        } else if request.get("verify").is_some() {
            let used = number("verify", "used")?.min(depth);
            let seeds = (number("verify", "slots_seed")?, number("verify", "rest_seed")?);
            let in_slot = |at: u64| slots[..used as usize].iter().any(|start| (*start..start + size).contains(&at));
            let expected = |at: u64| pattern::byte(if in_slot(at) { seeds.0 } else { seeds.1 }, at);
            match (0..length).find(|at| window[*at as usize] != expected(*at)) {
                None => {
                    compared += used * size;
                    json!("verified")
                }
                Some(at) => json!({"failed": {"outcome": "failed", "cause": "data-mismatch",
                    "reason": format!("the byte at {at} of {length} differs"), "why": "the byte does not have the announced pattern",
                    "remedy": "check both hosts"}}),
            }
        } else {
            return Err(format!("unexpected message: {request}").into());
        };
        channel.send(&answer)?;
    }
    drop(connected);
    let path =
        json!({"asked": null, "observed": "host-memory", "blockers": [], "evidence": ["reported by another program"]});
    channel.send(&json!({"closed": {"path": path, "faults": []}}))?;
    Ok(compared)
}
