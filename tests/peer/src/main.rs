//! A passive side that shares nothing with peerpath: written from `docs/wire.md`, with another RDMA library, in a process of
//! its own. What it finds in its memory is its own opinion.
//!
//! ```text
//! PEERPATH_TOKEN=... independent-peer DEVICE LISTEN:PORT
//! ```
//! It serves one peer, cells of write and read on 16 MiB of host memory, and says at the end how many bytes it has compared.

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
    println!("waiting at {}", listener.local_addr()?);
    let (stream, _) = listener.accept()?;
    let mut channel = Channel::new(stream)?;
    introduce(&mut channel, token.trim().as_bytes())?;
    let alive = channel.keep_alive()?;
    let context = rdma::open(device)?;
    channel.say(&json!({"offer": {
        "tool": {"name": "independent-peer", "version": env!("CARGO_PKG_VERSION")},
        "environment": {"emulated": true, "soft_rdma": true, "devices": []},
        "target": {"kind": "verbs", "device": device, "bdf": null},
        "sources": [SOURCE],
    }}))?;
    let mut compared = 0;
    while let Some(request) = channel.hear()? {
        compared += cell(&mut channel, &context, &request["open"])?;
    }
    drop(alive);
    println!("compared {compared} bytes");
    if compared == 0 { Err("nothing was compared".into()) } else { Ok(()) }
}

/// Who is there, and does it know the token?
fn introduce(channel: &mut Channel, token: &[u8]) -> Result<()> {
    let own = proof::nonce()?;
    channel.say(&json!({"hello": {"version": VERSION, "nonce": proof::text(&own)}}))?;
    let answer = channel.hear()?.ok_or("the peer left")?;
    let prove = &answer["prove"];
    let theirs = proof::bytes(&prove["nonce"]).ok_or_else(|| format!("no proof: {answer}"))?;
    let shown = proof::bytes(&prove["proof"]).ok_or("no proof")?;
    if prove["version"] != VERSION || !proof::holds(token, b"peerpath active", &own, &theirs, &shown) {
        channel.say(&json!({"refused": {"why": "the version or the token is another one"}}))?;
        return Err("the peer is a stranger".into());
    }
    let proof = proof::make(token, b"peerpath passive", &own, &theirs);
    channel.say(&json!({"welcome": {"proof": proof::text(&proof)}}))
}

/// Serves a cell to its end; returns how many bytes of its slots were compared.
fn cell(channel: &mut Channel, context: &ibverbs::Context, open: &Value) -> Result<u64> {
    let refuse = |why: &str| json!({"failed": {"outcome": "waived", "reason": "this cell is not lent", "why": why, "remedy": "leave it out"}});
    let (size, depth) = (open["size_bytes"].as_u64().unwrap_or(0), open["depth"].as_u64().unwrap_or(0));
    let wanted = open["source"] == SOURCE && (open["op"] == "write" || open["op"] == "read");
    let is_plain = open["queue_pairs"].as_u64().unwrap_or(1) == 1 && open["ranges"].is_null();
    if !wanted || !is_plain || !open["connection"].is_null() || size == 0 || depth == 0 {
        channel
            .say(&refuse("only whole writes and reads of the one source are, on one queue pair of the usual kind"))?;
        return Ok(0);
    }
    // Slots with gaps between them, in which nothing may be written.
    let stride = size.next_multiple_of(64) + 64;
    let slots: Vec<u64> = (0..depth).map(|slot| 64 + slot * stride).collect();
    let length = 64 + depth * stride;
    if length > SOURCE_BYTES as u64 {
        channel.say(&refuse("so many bytes are not there"))?;
        return Ok(0);
    }
    let domain = context.alloc_pd()?;
    let completions = context.create_cq(16, 0)?;
    let mut memory = domain.allocate::<u8>(SOURCE_BYTES)?;
    let prepared = rdma::prepare(context, &domain, &completions)?;
    let own = prepared.endpoint();
    channel.say(&json!({"opened": {
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
        let request = channel.hear()?.ok_or("the peer left in the middle of a cell")?;
        let window = &mut memory[..length as usize];
        let number = |name: &str, part: &str| request[name][part].as_u64().ok_or("a number is missing");
        let answer = if request == "close" {
            break;
        } else if let Some(endpoint) = request.get("connect") {
            connected = Some(rdma::connect(prepared.take().ok_or("connected twice")?, endpoint)?);
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
                    "reason": format!("the byte at {at} of {length} is wrong"), "why": "it is not what was announced",
                    "remedy": "look at both sides"}}),
            }
        } else {
            return Err(format!("out of turn: {request}").into());
        };
        channel.say(&answer)?;
    }
    drop(connected);
    let path =
        json!({"asked": null, "observed": "host-memory", "blockers": [], "evidence": ["another program said so"]});
    channel.say(&json!({"closed": {"path": path, "faults": []}}))?;
    Ok(compared)
}
