//! Tests of whole runs between client and server, and of runs in which one of them disconnects at any step.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use peerpath_exporter::{Exporter as _, HostExporter, OpenOptions, Source};
use peerpath_importers::{EndSettings, Op, QueuePairOptions, Transport};
use peerpath_paths::{Cause, PathName, Severity, Tree};
use serde_json::{Value, json};

use super::device::{late_target, losing_target, target, wrong_target};
use super::{LONG, receive, send, token};
use crate::environment::Host;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::peer::client::Client;
use crate::peer::handshake::{self, HandshakeError, as_server};
use crate::peer::listener::Listener;
use crate::peer::token::Token;
use crate::plan::{Mode, Plan, Target};
use crate::result::{Outcome, RunResult, Tool};
use crate::route::Routes;
use crate::run::{Runner, Server};
use crate::store::{Destination, Existing};

fn tool() -> Tool {
    Tool { name: "peerpath".to_owned(), version: "0".to_owned(), git_revision: None }
}

/// Runs a server while `meanwhile` runs. Returns the result of `meanwhile` and the log of the listener.
fn served<T>(to: &Target, from: &[&str], meanwhile: impl FnOnce(SocketAddr) -> T) -> (T, Vec<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let sources: Vec<Source> = from.iter().map(|text| text.parse().unwrap()).collect();
    let (open, interrupt, lines, token) = (OpenOptions::default(), Interrupt::default(), Mutex::default(), token());
    let connection = QueuePairOptions::default();
    let server = Server {
        sources: &sources,
        target: to,
        tool: &tool(),
        open: &open,
        changes: &peerpath_host::Options::default(),
        connection: &connection,
        interrupt: &interrupt,
    };
    let log = |line: &str| Mutex::<Vec<String>>::lock(&lines).unwrap().push(line.to_owned());
    let session = |peer: &_| server.session(peer);
    let listener = Listener { socket: &listener, token: &token, interrupt: &interrupt, log: &log, session: &session };
    let done = thread::scope(|scope| {
        scope.spawn(|| listener.serve().unwrap());
        // Catch a panic, because the listener must be stopped even then. Otherwise the scope never ends.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| meanwhile(at)));
        interrupt.stop();
        done
    });
    match done {
        Ok(done) => (done, lines.into_inner().unwrap()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn plan(peer: &Client, ops: &[Op]) -> Plan {
    let sources = peer.offer().sources.iter().map(|text| text.parse().unwrap()).collect();
    Plan {
        ops: ops.to_vec(),
        modes: vec![Mode::Completion, Mode::PingPong, Mode::Bandwidth],
        sizes_bytes: vec![64, 5000],
        depths: vec![3],
        warmup: 2,
        iterations: Some(10),
        duration: Some(LONG),
        ..Plan::new(sources, vec![target()])
    }
}

/// Runs a plan as the client of the server at this address.
fn run(at: SocketAddr, ops: &[Op], change: impl FnOnce(&mut Plan)) -> Result<RunResult, Failure> {
    let interrupt = Interrupt::default();
    let peer = Client::connect(&at.to_string(), &token(), &interrupt)?;
    let mut plan = plan(&peer, ops);
    change(&mut plan);
    let folder = tempfile::tempdir().unwrap();
    let (open, changes) = (OpenOptions::default(), peerpath_host::Options::default());
    let mut runner = Runner {
        plan: &plan,
        tool: tool(),
        arguments: Vec::new(),
        open: &open,
        changes: &changes,
        destination: Destination::Folder(folder.path(), Existing::Refuse),
        interrupt: &interrupt,
        host: Host::new(Tree::live()),
        routes: Routes::live(),
        peer: Some(&peer),
    };
    runner.run(&mut ())
}

fn outcomes(result: &RunResult) -> Vec<(Outcome, Option<Cause>)> {
    result.cells.iter().map(|cell| (cell.outcome, cell.cause)).collect()
}

#[test]
fn transfers_in_both_directions_and_records_both_hosts() {
    let (result, _) = served(&target(), &["host:100K", "host:1M"], |at| {
        run(at, &[Op::Write, Op::Read, Op::Send], |plan| plan.qps = vec![1, 2]).unwrap()
    });
    assert_eq!(result.cells.len(), 2 * 3 * 2 * (2 + 2));
    for cell in &result.cells {
        if cell.op == "read" && cell.mode == "pingpong" {
            // The responder cannot detect a read.
            assert_eq!(cell.outcome, Outcome::Waived);
            continue;
        }
        assert_eq!(cell.outcome, Outcome::Passed, "{cell:?}");
        assert!(cell.measured.verified_bytes.unwrap() > 0);
        assert!(cell.far.is_some());
        assert_eq!((cell.target.device.as_str(), cell.engine.as_deref()), ("copy0", Some("cpu")));
    }
    let mut ids: Vec<_> = result.cells.iter().map(|cell| &cell.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), result.cells.len());
    assert!(result.environment.peer.is_some());
    let text = serde_json::to_string(&result).unwrap();
    assert!(!text.contains("the token of these tests"));
}

#[test]
fn runs_a_lane_per_thread() {
    let (result, _) = served(&target(), &["host:1M"], |at| {
        run(at, &[Op::Write, Op::Read, Op::Send, Op::FetchAdd], |plan| {
            (plan.threads, plan.qps) = (vec![1, 3], vec![1, 2]);
        })
        .unwrap()
    });
    assert_eq!(result.cells.len(), (3 * 2 + 1) * (2 + 2 + 4));
    for cell in &result.cells {
        let unanswered = cell.mode == "pingpong" && (cell.op == "read" || cell.op == "fetch_add");
        assert_eq!(cell.outcome, if unanswered { Outcome::Waived } else { Outcome::Passed }, "{cell:?}");
        assert!(unanswered || cell.measured.iterations == Some(10 * u64::from(cell.threads)), "{cell:?}");
    }
}

#[test]
fn both_sides_post_at_once_and_are_counted() {
    let (result, _) = served(&target(), &["host:1M"], |at| {
        run(at, &[Op::Write, Op::Read, Op::Send], |plan| {
            (plan.threads, plan.qps, plan.bidirectional) = (vec![1, 3], vec![1, 2], true);
            (plan.modes, plan.depths) = (vec![Mode::Bandwidth], vec![1, 4]);
        })
        .unwrap()
    });
    assert_eq!(result.cells.len(), 3 * 2 * 2 * 2 * 2);
    for cell in &result.cells {
        assert!(cell.bidirectional, "{cell:?}");
        assert_eq!(cell.outcome, Outcome::Passed, "{cell:?}");
        assert_eq!(cell.measured.iterations, Some(2 * 10 * u64::from(cell.threads)), "{cell:?}");
        let (total, directions) = (cell.measured.throughput_bytes_per_s, cell.measured.throughput_each_way_bytes_per_s);
        let [forward, reverse] = directions.unwrap();
        assert!(forward > 0.0 && reverse > 0.0 && (forward + reverse - total.unwrap()).abs() < 1.0, "{cell:?}");
        assert_eq!(cell.measured.throughput_min_window_bytes_per_s, None);
    }
}

#[test]
fn finds_misplaced_data_in_the_reverse_direction() {
    let (result, _) = served(&target(), &["host:100K"], |at| {
        run(at, &[Op::Send], |plan| {
            (plan.modes, plan.bidirectional, plan.targets) = (vec![Mode::Bandwidth], true, vec![wrong_target()]);
        })
        .unwrap()
    });
    for cell in &result.cells {
        assert_eq!((cell.outcome, cell.cause), (Outcome::Failed, Some(Cause::DataMismatch)), "{cell:?}");
        assert!(cell.reason.as_ref().unwrap().contains("of initiator memory"), "{cell:?}");
    }
}

#[test]
fn verifies_words_on_both_hosts() {
    let (result, _) = served(&target(), &["host:100K"], |at| {
        run(at, &[Op::FetchAdd, Op::CmpSwap], |plan| {
            (plan.sizes_bytes, plan.modes) = (vec![8], vec![Mode::Completion, Mode::Bandwidth]);
        })
        .unwrap()
    });
    assert_eq!(result.cells.len(), 2 * 2);
    for cell in &result.cells {
        assert_eq!((cell.outcome, cell.size_bytes), (Outcome::Passed, 8), "{cell:?}");
    }
}

#[test]
fn waives_sends_that_could_be_lost_unnoticed() {
    let (result, _) = served(&target(), &["host:100K"], |at| {
        run(at, &[Op::Send, Op::Write], |plan| plan.connection.transport = Transport::Uc).unwrap()
    });
    for cell in &result.cells {
        let undetected = cell.op == "send" && cell.mode != "pingpong";
        assert_eq!(cell.outcome, if undetected { Outcome::Waived } else { Outcome::Passed }, "{cell:?}");
    }
}

/// Runs single writes through this device of the client, and returns the outcome and cause of each cell.
fn writes_of(device: Target, transport: Transport) -> Vec<(Outcome, Option<Cause>)> {
    let (result, _) = served(&target(), &["host:100K"], |at| {
        run(at, &[Op::Write], |plan| {
            (plan.targets, plan.modes, plan.warmup) = (vec![device], vec![Mode::Completion], 0);
            plan.connection.transport = transport;
        })
        .unwrap()
    });
    outcomes(&result)
}

#[test]
fn waits_for_late_data_on_an_unreliable_transport() {
    assert_eq!(writes_of(late_target(), Transport::Uc), [(Outcome::Passed, None); 2]);
}

#[test]
fn reports_packet_loss_on_an_unreliable_transport() {
    assert_eq!(writes_of(losing_target(), Transport::Uc), [(Outcome::Failed, Some(Cause::PacketsLost)); 2]);
    assert_eq!(writes_of(losing_target(), Transport::Rc), [(Outcome::Failed, Some(Cause::DataMismatch)); 2]);
}

#[test]
fn uses_the_named_memory_of_the_client() {
    let (result, _) = served(&target(), &["host:100K"], |at| {
        run(at, &[Op::Write], |plan| plan.far = vec!["host:64K".parse().unwrap(), "host:4K".parse().unwrap()]).unwrap()
    });
    let far: Vec<_> = result.cells.iter().map(|cell| cell.outcome).collect();
    // A window has two guards of 4 KiB, so it does not fit into 4 KiB.
    assert_eq!(far, [vec![Outcome::Passed; 6], vec![Outcome::Waived; 6]].concat());
}

#[test]
fn the_server_finds_misplaced_data() {
    let (result, _) = served(&wrong_target(), &["host:100K"], |at| run(at, &[Op::Write, Op::Send], |_| ()).unwrap());
    for cell in &result.cells {
        // With only one slot, data cannot arrive in a wrong slot.
        let wrong = cell.op == "send" && cell.depth > 1;
        assert_eq!(cell.outcome, if wrong { Outcome::Failed } else { Outcome::Passed }, "{cell:?}");
        // A failed cell has a path as well.
        assert_eq!(cell.path.observed, PathName::HostMemory, "{cell:?}");
        if wrong {
            assert_eq!(cell.cause, Some(Cause::DataMismatch), "{cell:?}");
            assert!(cell.reason.as_ref().unwrap().contains("exported memory"), "{cell:?}");
        }
    }
}

#[test]
fn waives_cells_that_the_server_does_not_support() {
    let (result, log) = served(&target(), &["host:4K"], |at| {
        run(at, &[Op::Register, Op::Write], |plan| plan.sizes_bytes = vec![8192, 64]).unwrap()
    });
    let expected = [&[Outcome::Waived; 5][..], &[Outcome::Passed; 3]].concat();
    assert_eq!(outcomes(&result).into_iter().map(|(outcome, _)| outcome).collect::<Vec<_>>(), expected);
    assert!(log.last().unwrap().contains("done"), "{log:?}");
}

#[test]
fn serves_one_peer_at_a_time() {
    let (_, log) = served(&target(), &["host:4K"], |at| {
        let first = Client::connect(&at.to_string(), &token(), &Interrupt::default()).unwrap();
        let second = Client::connect(&at.to_string(), &token(), &Interrupt::default()).err().unwrap();
        assert!(second.what.contains("another peer"), "{second:?}");
        assert_eq!(second.severity, Severity::Unavailable);
        assert!(second.explanation.remedy.contains("one peer at a time"), "{second:?}");
        drop(first);
        // The server takes some time to detect that the first connection ended.
        while Client::connect(&at.to_string(), &token(), &Interrupt::default()).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(log.iter().any(|line| line.contains("another peer is being served")), "{log:?}");
}

#[test]
fn silent_connections_do_not_disturb_a_run() {
    served(&target(), &["host:4K"], |at| {
        let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(at).unwrap()).collect();
        assert_eq!(run(at, &[Op::Write], |_| ()).unwrap().cells.len(), 6);
        drop(silent);
    });
}

/// Other clients open connections as fast as they can and send nothing. The client with the token has the same address, so only
/// the handshake distinguishes it.
#[test]
fn serves_a_client_with_the_token_despite_many_idle_connections() {
    let (_, log) = served(&target(), &["host:4K"], |at| {
        let mut idle = Vec::new();
        for _ in 0..25 {
            idle.extend((0..40).map(|_| TcpStream::connect(at).unwrap()));
            // The previous client may still be served.
            drop(connected(at));
        }
        drop(idle);
    });
    assert_eq!(log.iter().filter(|line| line.starts_with("serving ")).count(), 25, "{log:?}");
    let rejections = log.iter().filter(|line| line.contains("a newer connection") || line.contains("more connections"));
    assert!(rejections.count() < 50, "{log:?}");
}

#[test]
fn an_address_can_guess_only_a_few_times_in_a_row() {
    let wrong = Token::find(None, Some("some other token".into())).unwrap().unwrap();
    let (_, log) = served(&target(), &["host:4K"], |at| {
        let guess = |_: u32| {
            let stream = TcpStream::connect(at).unwrap();
            match handshake::as_client(&stream, &wrong, LONG) {
                Err(HandshakeError::Refused { why }) => why,
                other => panic!("{other:?}"),
            }
        };
        // On a slow machine the first wrong proof may expire before the fourth one.
        let mut answers = (0..500).map(guess);
        assert_eq!(answers.next().as_deref(), Some("the token is wrong"));
        assert!(answers.any(|why| why.contains("too many wrong tokens")));
    });
    assert!(log.iter().any(|line| line.contains("has not proved that it knows the token")), "{log:?}");
}

/// The requests of a client in a cell, each with the type of its response.
fn requests(endpoint: &Value) -> Vec<(Value, &'static str)> {
    vec![
        (json!({"open": {"source": "host:8K", "op": "send", "size_bytes": 64, "depth": 2}}), "opened"),
        (json!({"connect": endpoint}), "connected"),
        (json!({"fill": {"seed": 5}}), "filled"),
        (json!({"verify": {"used": 0, "slots_seed": 5, "rest_seed": 5}}), "verified"),
        (json!({"verify": {"used": 1, "slots_seed": 6, "rest_seed": 5}}), "failed"),
        (json!({"echo": {"back": [0]}}), "echoing"),
        (json!("rest"), "resting"),
        (json!({"echo": {"back": [0]}}), "echoing"),
        (json!("close"), "closed"),
    ]
}

/// An endpoint of a client with this many queue pairs. The queue pairs do not exist.
fn endpoint(queue_pairs: usize) -> Value {
    json!({"queue_pairs": vec![json!({"number": 1, "first_packet": 0}); queue_pairs], "address": {"lid": 1},
        "mtu_bytes": 1024, "reads_in_flight": 1, "message_bytes": 64, "regions": []})
}

/// Receives the next message that is not a heartbeat.
fn next(stream: &TcpStream) -> Value {
    loop {
        let received = receive(stream).unwrap();
        if received != json!("alive") {
            return received;
        }
    }
}

fn kind(message: &Value) -> &str {
    message.as_str().or_else(|| message.as_object()?.keys().next().map(String::as_str)).unwrap_or_default()
}

#[test]
fn a_client_that_disconnects_at_any_step_leaves_nothing_open() {
    let endpoint = endpoint(1);
    let (_, log) = served(&target(), &["host:8K"], |at| {
        for steps in 0..=requests(&endpoint).len() {
            let stream = connected(at);
            assert_eq!(kind(&next(&stream)), "offer");
            for (request, answer) in requests(&endpoint).drain(..steps) {
                send(&stream, &request);
                let received = next(&stream);
                assert_eq!(kind(&received), answer, "{received}");
            }
            drop(stream);
        }
        assert_eq!(run(at, &[Op::Write], |plan| plan.sizes_bytes = vec![64]).unwrap().cells.len(), 3);
    });
    assert_eq!(log.iter().filter(|line| line.contains("done")).count(), requests(&endpoint).len() + 2, "{log:?}");
}

/// Connects as a client. Retries while the server serves the previous client.
fn connected(at: SocketAddr) -> TcpStream {
    loop {
        let stream = TcpStream::connect(at).unwrap();
        handshake::as_client(&stream, &token(), LONG).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut first = [0; 64];
        stream.peek(&mut first).unwrap();
        if !String::from_utf8_lossy(&first).contains("refused") {
            return stream;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_unexpected_request_ends_the_connection() {
    let (_, log) = served(&target(), &["host:8K"], |at| {
        for request in [
            json!("close"),
            json!({"fill": {"seed": 1}}),
            json!({"nonsense": 1}),
            json!(7),
            json!("rest"),
            json!({"echo": {"back": [0]}}),
        ] {
            let stream = connected(at);
            next(&stream);
            send(&stream, &request);
            // The server sends a reason for a valid but unexpected request, and none for an invalid message. Then it closes the
            // connection.
            while receive(&stream).is_ok() {}
        }
    });
    assert_eq!(log.iter().filter(|line| line.contains("connection lost")).count(), 6, "{log:?}");
}

#[test]
fn rejects_cells_out_of_bounds_and_serves_the_next() {
    served(&target(), &["host:8K"], |at| {
        let stream = connected(at);
        next(&stream);
        let open = |changes: Value| {
            let mut open = json!({"source": "host:8K", "op": "write", "size_bytes": 64, "depth": 2});
            open.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            json!({"open": open})
        };
        for changes in [
            json!({"size_bytes": 0}),
            json!({"size_bytes": u64::MAX}),
            json!({"size_bytes": 8193}),
            json!({"depth": 0}),
            json!({"depth": u32::MAX}),
            json!({"ranges": u32::MAX}),
            json!({"ranges": 2}),
            json!({"source": "host:4K"}),
            json!({"source": "/etc/passwd"}),
            json!({"op": "register"}),
            json!({"op": "none"}),
            json!({"lanes": 0}),
            json!({"lanes": u32::MAX}),
            json!({"lanes": 4096, "queue_pairs": 17}),
            json!({"lanes": 2, "size_bytes": 8000}),
            json!({"lanes": 2, "mr_per_range": true}),
            json!({"connection": {"service_level": 16}}),
            json!({"connection": {"inline_bytes": u32::MAX}}),
        ] {
            send(&stream, &open(changes.clone()));
            assert_eq!(kind(&next(&stream)), "failed", "{changes}");
        }
        send(&stream, &open(json!({})));
        assert_eq!(kind(&next(&stream)), "opened");
    });
}

#[test]
fn missing_windows_and_lanes_end_the_connection() {
    let (_, log) = served(&target(), &["host:8K"], |at| {
        for request in [
            json!({"fill": {"window": 1, "seed": 5}}),
            json!({"verify": {"window": u32::MAX, "used": 0, "slots_seed": 5, "rest_seed": 5}}),
            json!({"echo": {"back": [0, 0]}}),
            json!({"echo": {"back": []}}),
            // The cell was opened without `both_ways`, so the server must not post.
            json!({"post": {"at": [0]}}),
            json!({"post": {"at": []}}),
        ] {
            let stream = connected(at);
            next(&stream);
            for (step, answer) in &requests(&endpoint(1))[..2] {
                send(&stream, step);
                assert_eq!(kind(&next(&stream)), *answer);
            }
            send(&stream, &request);
            assert_eq!(kind(&next(&stream)), "refused", "{request}");
        }
        // Three queue pairs cannot be divided equally between two lanes.
        let stream = connected(at);
        next(&stream);
        send(&stream, &json!({"open": {"source": "host:8K", "op": "write", "size_bytes": 64, "depth": 2, "lanes": 2}}));
        assert_eq!(kind(&next(&stream)), "opened");
        send(&stream, &json!({"connect": endpoint(3)}));
        assert_eq!(kind(&next(&stream)), "refused");
    });
    assert_eq!(log.iter().filter(|line| line.contains("connection lost")).count(), 7, "{log:?}");
}

/// Opens and connects a cell with `both_ways`, so that the server may post.
fn both_ways(stream: &TcpStream, endpoint: &Value) {
    next(stream);
    let open = json!({"source": "host:32K", "op": "write", "size_bytes": 64, "depth": 4, "both_ways": true});
    for (request, answer) in [(json!({"open": open}), "opened"), (json!({"connect": endpoint}), "connected")] {
        send(stream, &request);
        assert_eq!(kind(&next(stream)), answer);
    }
}

#[test]
fn rejects_invalid_posts() {
    served(&target(), &["host:32K"], |at| {
        for (post, answer) in [
            (json!({"at": [0, 0]}), "refused"),
            (json!({"at": []}), "refused"),
            (json!({"at": [u64::MAX]}), "refused"),
            (json!({"at": [0], "completion_moderation": 0}), "failed"),
            (json!({"at": [0], "completion_moderation": 5}), "failed"),
            (json!({"at": [0], "post_list": 0}), "failed"),
            (json!({"at": [0], "post_list": 3}), "failed"),
            (json!({"at": [0], "post_list": u32::MAX}), "failed"),
        ] {
            let stream = connected(at);
            both_ways(&stream, &endpoint(1));
            send(&stream, &json!({"post": post}));
            assert_eq!(kind(&next(&stream)), answer, "{post}");
        }
    });
}

#[test]
fn a_server_stops_posting_when_the_client_does_not_wait() {
    let (_, log) = served(&target(), &["host:32K"], |at| {
        let other = target().importer.open("copy0", &QueuePairOptions::default()).unwrap();
        let memory = HostExporter::open(1 << 20, &OpenOptions::default()).unwrap().export(1 << 20).unwrap();
        let registration = other.register(memory).unwrap();
        let end = registration.end(EndSettings { depth: 4, queues: 1, receives: false }).unwrap();
        let endpoint = serde_json::to_value(end.endpoint()).unwrap();
        for ending in [Some(json!("close")), Some(json!({"fill": {"seed": 1}})), None] {
            let stream = connected(at);
            both_ways(&stream, &endpoint);
            // Post without a limit.
            send(&stream, &json!({"post": {"at": [0]}}));
            assert_eq!(kind(&next(&stream)), "posting");
            let Some(ending) = ending else {
                send(&stream, &json!("rest"));
                drop(stream);
                continue;
            };
            send(&stream, &ending);
            let expected = if ending == json!("close") { "closed" } else { "refused" };
            assert_eq!(kind(&next(&stream)), expected);
        }
        // The server accepts the next client.
        drop(connected(at));
    });
    assert_eq!(log.iter().filter(|line| line.starts_with("serving ")).count(), 4, "{log:?}");
}

/// Runs a server that sends these messages and closes the connection.
fn send_responses(listener: &TcpListener, answers: &[Value]) {
    let (stream, _) = listener.accept().unwrap();
    as_server(&stream, &token(), LONG).unwrap();
    for (index, answer) in answers.iter().enumerate() {
        if index > 0 {
            next(&stream);
        }
        send(&stream, answer);
    }
}

/// The messages of a server of an older version: one queue pair and one window.
fn plain_answers() -> [Value; 4] {
    let path = json!({"asked": null, "observed": "host-memory", "blockers": [], "evidence": []});
    let source = json!({"kind": "host", "bdf": null, "bar": null, "ranges": [{"offset_bytes": 0, "length_bytes": 64}]});
    let endpoint = json!({"queue_pairs": [{"number": 0, "first_packet": 0}], "address": {"lid": 1}, "mtu_bytes": 1024,
        "reads_in_flight": 1, "message_bytes": 64, "regions": [{"length_bytes": 64, "address": 0, "key": 0}]});
    [
        json!({"offer": {"tool": {"name": "other", "version": "0"}, "environment": {"emulated": false,
            "soft_rdma": true, "devices": []}, "target": {"kind": "copies", "device": "copy0", "bdf": null},
            "sources": ["host:64"]}}),
        json!({"opened": {"source": source, "mechanism": "none", "endpoint": endpoint,
            "window": {"length_bytes": 64, "slot_bytes": 64, "slots": [0]}}}),
        json!("connected"),
        json!({"closed": {"path": path}}),
    ]
}

#[test]
fn waives_threads_with_a_server_without_lanes() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let [offer, opened, _, closed] = plain_answers();
    let result = thread::scope(|scope| {
        scope.spawn(|| send_responses(&listener, &[offer, opened, closed]));
        let one = |plan: &mut Plan| {
            (plan.sizes_bytes, plan.modes, plan.threads) = (vec![64], vec![Mode::Completion], vec![2])
        };
        run(at, &[Op::Write], one).unwrap()
    });
    assert_eq!(outcomes(&result), [(Outcome::Waived, None)]);
    assert!(result.cells[0].reason.as_ref().unwrap().contains("1 buffer"), "{:?}", result.cells[0]);
}

#[test]
fn a_server_that_leaves_at_any_step_ends_the_run() {
    for messages in 0..4 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let result = thread::scope(|scope| {
            scope.spawn(|| send_responses(&listener, &plain_answers()[..messages]));
            run(at, &[Op::Write], |plan| plan.sizes_bytes = vec![64])
        });
        match (messages, result) {
            (0, result) => assert!(result.is_err()),
            (_, result) => {
                let result = result.unwrap();
                assert_eq!(outcomes(&result), [(Outcome::Failed, Some(Cause::PeerLost))], "{messages}");
                assert!(result.run.interrupted);
            }
        }
    }
}

#[test]
fn rejects_invalid_windows() {
    use crate::layout::Layout;
    for (slots, size, length) in [
        (vec![], 64, 64),
        (vec![1], 64, 64),
        (vec![0, 32], 64, 128),
        (vec![64, 0], 64, 128),
        (vec![u64::MAX], 2, u64::MAX),
    ] {
        assert!(Layout::at(&[0], slots.clone(), size, length).is_none(), "{slots:?}");
    }
    for starts in [&[64, 0][..], &[0, 127], &[u64::MAX], &[0, u64::MAX - 127]] {
        assert!(Layout::at(starts, vec![0, 64], 64, 128).is_none(), "{starts:?}");
    }
    assert_eq!(Layout::at(&[0, 128, 1000], vec![0, 64], 64, 128).unwrap().len(), 3);
    assert!(Layout::at(&[0], vec![0], 0, 1).is_none());
}
