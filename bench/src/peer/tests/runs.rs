//! Whole runs between two sides, and what becomes of them when one side dies at any step.

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
use crate::peer::handshake::{self, as_server};
use crate::peer::listener::Listener;
use crate::plan::{Mechanism, Mode, Plan, Target};
use crate::result::{Outcome, RunResult, Tool};
use crate::route::Routes;
use crate::run::{Progress, Runner, Server};

struct Nobody;

fn tool() -> Tool {
    Tool { name: "peerpath".to_owned(), version: "0".to_owned(), git_revision: None }
}

impl Progress for Nobody {
    fn begin(&mut self, _what: &str) {}
    fn end(&mut self) {}
    fn failed(&mut self, _failure: &Failure) {}
}

/// Serves at an address for as long as `meanwhile` takes; returns what the operator was told.
fn served<T>(to: &Target, from: &[&str], meanwhile: impl FnOnce(SocketAddr) -> T) -> (T, Vec<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let sources: Vec<Source> = from.iter().map(|text| text.parse().unwrap()).collect();
    let (open, interrupt, told, token) = (OpenOptions::default(), Interrupt::default(), Mutex::default(), token());
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
    let log = |line: &str| Mutex::<Vec<String>>::lock(&told).unwrap().push(line.to_owned());
    let session = |peer: &_| server.session(peer);
    let listener = Listener { socket: &listener, token: &token, interrupt: &interrupt, log: &log, session: &session };
    let done = thread::scope(|scope| {
        scope.spawn(|| listener.serve().unwrap());
        // However this ends, the listener has to be stopped, or the scope waits for ever.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| meanwhile(at)));
        interrupt.stop();
        done
    });
    match done {
        Ok(done) => (done, told.into_inner().unwrap()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn plan(peer: &Client, ops: &[Op]) -> Plan {
    Plan {
        sources: peer.offer().sources.iter().map(|text| text.parse().unwrap()).collect(),
        far: Vec::new(),
        targets: vec![target()],
        paths: vec![None],
        ops: ops.to_vec(),
        modes: vec![Mode::Completion, Mode::PingPong, Mode::Bandwidth],
        sizes_bytes: vec![64, 5000],
        ranges: Vec::new(),
        mechanism: Mechanism::Auto,
        depths: vec![3],
        qps: vec![1],
        threads: vec![1],
        bidirectional: false,
        post_list: None,
        completion_moderation: 1,
        connection: QueuePairOptions::default(),
        cpus: Vec::new(),
        warmup: 2,
        iterations: Some(10),
        duration: Some(LONG),
    }
}

/// A run with whoever listens there.
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
        folder: folder.path(),
        interrupt: &interrupt,
        host: Host::new(Tree::live()),
        routes: Routes::live(),
        peer: Some(&peer),
    };
    runner.run(&mut Nobody)
}

fn outcomes(result: &RunResult) -> Vec<(Outcome, Option<Cause>)> {
    result.cells.iter().map(|cell| (cell.outcome, cell.cause)).collect()
}

#[test]
fn both_directions_arrive_and_both_hosts_stand_in_the_result() {
    let (result, _) = served(&target(), &["host:100K", "host:1M"], |at| {
        run(at, &[Op::Write, Op::Read, Op::Send], |plan| plan.qps = vec![1, 2]).unwrap()
    });
    assert_eq!(result.cells.len(), 2 * 3 * 2 * (2 + 2));
    for cell in &result.cells {
        if cell.op == "read" && cell.mode == "pingpong" {
            // Nobody learns of a read.
            assert_eq!(cell.outcome, Outcome::Waived);
            continue;
        }
        assert_eq!(cell.outcome, Outcome::Passed, "{cell:?}");
        assert!(cell.verified_bytes.unwrap() > 0);
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
fn each_thread_has_a_lane_of_its_own() {
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
        assert!(unanswered || cell.iterations == Some(10 * u64::from(cell.threads)), "{cell:?}");
    }
}

#[test]
fn both_sides_post_at_once_and_both_are_told() {
    let (result, _) = served(&target(), &["host:1M"], |at| {
        run(at, &[Op::Write, Op::Read, Op::Send, Op::FetchAdd], |plan| {
            (plan.threads, plan.qps, plan.bidirectional) = (vec![1, 3], vec![1, 2], true);
            (plan.modes, plan.depths) = (vec![Mode::Bandwidth], vec![1, 4]);
        })
        .unwrap()
    });
    assert_eq!(result.cells.len(), (3 * 2 + 1) * 2 * 2 * 2);
    for cell in &result.cells {
        assert!(cell.bidirectional, "{cell:?}");
        // Which of two hosts did what to a word could not be told.
        let expected = if cell.op == "fetch_add" { Outcome::Waived } else { Outcome::Passed };
        assert_eq!(cell.outcome, expected, "{cell:?}");
        if expected == Outcome::Passed {
            assert_eq!(cell.iterations, Some(2 * 10 * u64::from(cell.threads)), "{cell:?}");
            let (whole, ways) = (cell.throughput_bytes_per_s, cell.throughput_each_way_bytes_per_s);
            let [there, back] = ways.unwrap();
            assert!(there > 0.0 && back > 0.0 && (there + back - whole.unwrap()).abs() < 1.0, "{cell:?}");
            assert_eq!(cell.throughput_min_window_bytes_per_s, None);
        }
    }
}

#[test]
fn what_goes_elsewhere_on_its_way_back_is_found_as_well() {
    let (result, _) = served(&target(), &["host:100K"], |at| {
        run(at, &[Op::Send], |plan| {
            (plan.modes, plan.bidirectional, plan.targets) = (vec![Mode::Bandwidth], true, vec![wrong_target()]);
        })
        .unwrap()
    });
    for cell in &result.cells {
        assert_eq!((cell.outcome, cell.cause), (Outcome::Failed, Some(Cause::DataMismatch)), "{cell:?}");
        assert!(cell.reason.as_ref().unwrap().contains("of the far side"), "{cell:?}");
    }
}

#[test]
fn words_are_counted_on_both_hosts() {
    let (result, _) = served(&target(), &["host:100K"], |at| run(at, &[Op::FetchAdd, Op::CmpSwap], |_| ()).unwrap());
    assert_eq!(result.cells.len(), 2 * 3);
    for cell in &result.cells {
        // Nobody learns of them.
        let expected = if cell.mode == "pingpong" { Outcome::Waived } else { Outcome::Passed };
        assert_eq!((cell.outcome, cell.size_bytes), (expected, 8), "{cell:?}");
    }
}

#[test]
fn what_nobody_would_know_to_be_lost_is_waived() {
    let (result, _) = served(&target(), &["host:100K"], |at| {
        run(at, &[Op::Send, Op::Write], |plan| plan.connection.transport = Transport::Uc).unwrap()
    });
    for cell in &result.cells {
        let unsure = cell.op == "send" && cell.mode != "pingpong";
        assert_eq!(cell.outcome, if unsure { Outcome::Waived } else { Outcome::Passed }, "{cell:?}");
    }
}

/// Cells of one write at a time, of a device of this side's.
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
fn what_is_on_its_way_is_waited_for_where_nothing_tells_of_its_arrival() {
    assert_eq!(writes_of(late_target(), Transport::Uc), [(Outcome::Passed, None); 2]);
}

#[test]
fn what_is_lost_is_told_as_such_where_it_is_not_sure_to_arrive() {
    assert_eq!(writes_of(losing_target(), Transport::Uc), [(Outcome::Failed, Some(Cause::PacketsLost)); 2]);
    assert_eq!(writes_of(losing_target(), Transport::Rc), [(Outcome::Failed, Some(Cause::DataMismatch)); 2]);
}

#[test]
fn this_side_may_name_its_memory() {
    let (result, _) = served(&target(), &["host:100K"], |at| {
        run(at, &[Op::Write], |plan| plan.far = vec!["host:64K".parse().unwrap(), "host:4K".parse().unwrap()]).unwrap()
    });
    let far: Vec<_> = result.cells.iter().map(|cell| cell.outcome).collect();
    // Of 4 KiB there is room for small operations only.
    assert_eq!(far, [vec![Outcome::Passed; 6], vec![Outcome::Waived; 6]].concat());
}

#[test]
fn what_goes_elsewhere_is_found_by_the_side_that_lends() {
    let (result, _) = served(&wrong_target(), &["host:100K"], |at| run(at, &[Op::Write, Op::Send], |_| ()).unwrap());
    for cell in &result.cells {
        // With one slot there is no wrong one.
        let wrong = cell.op == "send" && cell.depth > 1;
        assert_eq!(cell.outcome, if wrong { Outcome::Failed } else { Outcome::Passed }, "{cell:?}");
        // Also of a cell that failed.
        assert_eq!(cell.path.observed, PathName::HostMemory, "{cell:?}");
        if wrong {
            assert_eq!(cell.cause, Some(Cause::DataMismatch), "{cell:?}");
            assert!(cell.reason.as_ref().unwrap().contains("exported memory"), "{cell:?}");
        }
    }
}

#[test]
fn what_cannot_be_lent_is_waived_with_the_peers_reason() {
    let (result, told) = served(&target(), &["host:4K"], |at| {
        run(at, &[Op::Register, Op::Write], |plan| plan.sizes_bytes = vec![8192, 64]).unwrap()
    });
    let expected = [&[Outcome::Waived; 5][..], &[Outcome::Passed; 3]].concat();
    assert_eq!(outcomes(&result).into_iter().map(|(outcome, _)| outcome).collect::<Vec<_>>(), expected);
    assert!(told.last().unwrap().contains("done"), "{told:?}");
}

#[test]
fn one_peer_is_served_at_a_time() {
    let (_, told) = served(&target(), &["host:4K"], |at| {
        let first = Client::connect(&at.to_string(), &token(), &Interrupt::default()).unwrap();
        let second = Client::connect(&at.to_string(), &token(), &Interrupt::default()).err().unwrap();
        assert!(second.what.contains("another peer"), "{second:?}");
        assert_eq!(second.severity, Severity::Unavailable);
        assert!(second.explanation.remedy.contains("one peer is served at a time"), "{second:?}");
        drop(first);
        // The place is free once the server has noticed.
        while Client::connect(&at.to_string(), &token(), &Interrupt::default()).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(told.iter().any(|line| line.contains("another peer is being served")), "{told:?}");
}

#[test]
fn strangers_cost_nothing_but_their_own_connection() {
    served(&target(), &["host:4K"], |at| {
        let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(at).unwrap()).collect();
        assert_eq!(run(at, &[Op::Write], |_| ()).unwrap().cells.len(), 6);
        drop(silent);
    });
}

/// What the client says in a cell, step by step, and what it hears.
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

/// A client's end with so many queue pairs, that leads nowhere.
fn endpoint(queue_pairs: usize) -> Value {
    json!({"queue_pairs": vec![json!({"number": 1, "first_packet": 0}); queue_pairs], "address": {"lid": 1},
        "mtu_bytes": 1024, "reads_in_flight": 1, "message_bytes": 64, "regions": []})
}

/// The next message that is no sign of life.
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
fn an_active_side_that_leaves_at_any_step_leaves_nothing_behind() {
    let endpoint = endpoint(1);
    let (_, told) = served(&target(), &["host:8K"], |at| {
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
    assert_eq!(told.iter().filter(|line| line.contains("done")).count(), requests(&endpoint).len() + 2, "{told:?}");
}

/// As a client of this test's own; waits until the last one has been seen out.
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
    let (_, told) = served(&target(), &["host:8K"], |at| {
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
            // Some are told why; others have said nothing that could be answered.
            while receive(&stream).is_ok() {}
        }
    });
    assert_eq!(told.iter().filter(|line| line.contains("connection lost")).count(), 6, "{told:?}");
}

#[test]
fn cells_out_of_bounds_are_refused_and_the_next_is_served() {
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
fn windows_and_lanes_that_there_are_not_end_the_connection() {
    let (_, told) = served(&target(), &["host:8K"], |at| {
        for request in [
            json!({"fill": {"window": 1, "seed": 5}}),
            json!({"verify": {"window": u32::MAX, "used": 0, "slots_seed": 5, "rest_seed": 5}}),
            json!({"echo": {"back": [0, 0]}}),
            json!({"echo": {"back": []}}),
            // Only one side was to post.
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
        // Three queue pairs are not those of two lanes.
        let stream = connected(at);
        next(&stream);
        send(&stream, &json!({"open": {"source": "host:8K", "op": "write", "size_bytes": 64, "depth": 2, "lanes": 2}}));
        assert_eq!(kind(&next(&stream)), "opened");
        send(&stream, &json!({"connect": endpoint(3)}));
        assert_eq!(kind(&next(&stream)), "refused");
    });
    assert_eq!(told.iter().filter(|line| line.contains("connection lost")).count(), 7, "{told:?}");
}

/// A cell in which the server posts, up to where it may be asked to.
fn both_ways(stream: &TcpStream, endpoint: &Value) {
    next(stream);
    let open = json!({"source": "host:32K", "op": "write", "size_bytes": 64, "depth": 4, "both_ways": true});
    for (request, answer) in [(json!({"open": open}), "opened"), (json!({"connect": endpoint}), "connected")] {
        send(stream, &request);
        assert_eq!(kind(&next(stream)), answer);
    }
}

#[test]
fn what_cannot_be_posted_is_refused() {
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
fn a_passive_side_stops_posting_when_nobody_waits_for_it() {
    let (_, told) = served(&target(), &["host:32K"], |at| {
        let other = target().importer.open("copy0", &QueuePairOptions::default()).unwrap();
        let memory = HostExporter::open(1 << 20, &OpenOptions::default()).unwrap().export(1 << 20).unwrap();
        let registration = other.register(memory).unwrap();
        let end = registration.end(EndSettings { depth: 4, queues: 1, receives: false }).unwrap();
        let endpoint = serde_json::to_value(end.endpoint()).unwrap();
        for ending in [Some(json!("close")), Some(json!({"fill": {"seed": 1}})), None] {
            let stream = connected(at);
            both_ways(&stream, &endpoint);
            // Without an end of its own.
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
        // It serves the next one.
        drop(connected(at));
    });
    assert_eq!(told.iter().filter(|line| line.contains(": served")).count(), 4, "{told:?}");
}

/// A server that says all that and is gone then.
fn saying(listener: &TcpListener, answers: &[Value]) {
    let (stream, _) = listener.accept().unwrap();
    as_server(&stream, &token(), LONG).unwrap();
    for (index, answer) in answers.iter().enumerate() {
        if index > 0 {
            next(&stream);
        }
        send(&stream, answer);
    }
}

/// What a server says that knows one queue pair and one window, and nothing that came later.
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
fn a_peer_that_knows_of_no_lanes_is_not_asked_for_more() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let [offer, opened, _, closed] = plain_answers();
    let result = thread::scope(|scope| {
        scope.spawn(|| saying(&listener, &[offer, opened, closed]));
        let one = |plan: &mut Plan| {
            (plan.sizes_bytes, plan.modes, plan.threads) = (vec![64], vec![Mode::Completion], vec![2])
        };
        run(at, &[Op::Write], one).unwrap()
    });
    assert_eq!(outcomes(&result), [(Outcome::Waived, None)]);
    assert!(result.cells[0].reason.as_ref().unwrap().contains("1 window"), "{:?}", result.cells[0]);
}

#[test]
fn a_passive_side_that_dies_at_any_step_ends_the_run() {
    for messages in 0..4 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let result = thread::scope(|scope| {
            scope.spawn(|| saying(&listener, &plain_answers()[..messages]));
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
fn a_window_that_makes_no_sense_is_not_used() {
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
