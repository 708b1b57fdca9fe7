//! A run between two hosts: two network namespaces, each with a NIC of its own on one network.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Case;
use crate::command::{
    Running, all_passed, cells, independent_peer, peerpath, result, run_command, start_command, until,
};
use crate::functions::{driver, named};

const LENDER: &str = "lender";
const POSTER: &str = "poster";
const ADDRESS: &str = "192.168.200.1";

/// A host of the two.
#[derive(Clone, Copy)]
struct Host {
    name: &'static str,
    nic: &'static str,
    rdma: &'static str,
    address: &'static str,
}

const HOSTS: [Host; 2] = [
    Host { name: LENDER, nic: "nic", rdma: "rxe0", address: ADDRESS },
    Host { name: POSTER, nic: "peer_nic", rdma: "rxe1", address: "192.168.200.2" },
];
const TOKEN: &str = "known to both hosts of this test";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "two_hosts_move_data_both_ways", scenarios: &["two-hosts"], run: both_ways },
        Case { name: "two_hosts_do_every_op_in_every_mode", scenarios: &["two-hosts"], run: every_way },
        Case { name: "two_hosts_share_the_work_among_threads", scenarios: &["two-hosts"], run: several_threads },
        Case { name: "two_hosts_post_to_each_other_at_once", scenarios: &["two-hosts"], run: both_at_once },
        Case { name: "a_peer_that_dies_ends_the_other_side", scenarios: &["two-hosts"], run: deaths },
        Case {
            name: "a_peer_written_from_the_document_finds_the_right_bytes",
            scenarios: &["two-hosts"],
            run: independent,
        },
    ]
}

/// Once: moves the NICs into namespaces, with an address and a soft-RoCE device in each.
fn hosts() -> Result<(), Failed> {
    if Path::new("/run/netns").join(POSTER).exists() {
        return Ok(());
    }
    for Host { name: host, nic, rdma, address } in HOSTS {
        let nic = named(nic)?;
        let script = format!(
            "set -e
             netdev=$(ls /sys/bus/pci/devices/{nic}/net)
             rdma link delete {rdma}
             ip netns add {host}
             ip link set $netdev netns {host}
             ip -n {host} link set lo up
             ip -n {host} address add {address}/24 dev $netdev
             ip -n {host} link set $netdev up
             ip netns exec {host} rdma link add {rdma} type rxe netdev $netdev"
        );
        run_command(Command::new("sh").args(["-c", &script]))?.expect(0)?;
    }
    for rdma in ["rxe0", "rxe1"] {
        let state = format!("/sys/class/infiniband/{rdma}/ports/1/state");
        until(rdma, || std::fs::read_to_string(&state).is_ok_and(|state| state.contains("ACTIVE")))?;
    }
    Ok(())
}

/// `program` with arguments separated by spaces, on one of the two hosts. A namespace has a sysfs of its own, without what
/// is mounted in the other one.
fn on(host: &str, program: &Path, arguments: &str) -> Command {
    let mut command = Command::new("ip");
    let mounted =
        "mount -t tracefs tracefs /sys/kernel/tracing; mount -t debugfs debugfs /sys/kernel/debug; exec \"$0\" \"$@\"";
    command.args(["netns", "exec", host, "sh", "-c", mounted]).arg(program).args(arguments.split_whitespace());
    command.env("PEERPATH_TOKEN", TOKEN);
    command
}

fn lend() -> Result<Running, Failed> {
    hosts()?;
    let exporter = named("exporter")?;
    let arguments = format!("serve --from {exporter}:2@0x0+0x400000 --from host:4M --to verbs:rxe0 --listen {ADDRESS}");
    listening(&HOSTS[0], start_command(&mut on(LENDER, &peerpath(), &arguments))?)
}

/// Without connecting to it: not everyone serves two.
fn listening(host: &Host, mut lending: Running) -> Result<Running, Failed> {
    let listens = || {
        let sockets = Command::new("ip").args(["netns", "exec", host.name, "ss", "-Hltn", "sport = :18551"]).output();
        sockets.is_ok_and(|output| !output.stdout.is_empty())
    };
    until("the lender listens, or has ended", || listens() || lending.has_ended())?;
    if lending.has_ended() {
        lending.wait()?.expect(0)?;
        return Err("the lender ended before anyone came".into());
    }
    Ok(lending)
}

fn post(arguments: &str, out: &Path) -> Command {
    let arguments = format!("run --peer {ADDRESS} --to verbs:rxe1 {arguments} --out {}", out.display());
    on(POSTER, &peerpath(), &arguments)
}

fn both_ways() -> Result<(), Failed> {
    let mut lending = lend()?;
    let out = tempfile::tempdir()?;
    let arguments = "--op write --op write_imm --op read --op send --size 4K --size 64K --iterations 20";
    let ended = run_command(&mut post(arguments, out.path()))?;
    lending.signal("TERM")?;
    let lent = lending.wait()?;
    let told = format!("--- lender\n{}{}", lent.stdout, lent.stderr);
    ended.expect(0).map_err(|failed| format!("{}\n{told}", failed.message().unwrap_or_default()))?;
    lent.expect(143)?;
    let result = result(out.path())?;
    all_passed(&result, 2 * 4 * 2 * 2)?;
    if result["environment"]["peer"]["kernel"].is_null() || result.to_string().contains(TOKEN) {
        return Err(format!("the result should name both hosts, and no token: {result:#}").into());
    }
    for cell in cells(&result) {
        let expected = if cell["source"]["kind"] == "vfio" { "host-bridge-translated" } else { "host-memory" };
        let paths = (&cell["path"]["observed"], &cell["far"]["path"]["observed"]);
        let ends = (&cell["target"]["bdf"], &cell["far"]["target"]["bdf"]);
        if paths.0 != expected || paths.1 != "host-memory" || ends.0 != &named("nic")? || ends.1 != &named("peer_nic")?
        {
            return Err(format!("other paths or ends than there are: {cell:#}").into());
        }
    }
    // What was lent is given back.
    if driver(&named("exporter")?).is_some() {
        return Err("the lender left its function behind".into());
    }
    Ok(())
}

/// What a run says, with a passive side that lends `sources`; the two are `lender` and `poster`, or the other way round.
fn lent_to(lender: Host, sources: &str, runs: &[&str]) -> Result<Vec<Value>, Failed> {
    hosts()?;
    let poster = if lender.name == LENDER { &HOSTS[1] } else { &HOSTS[0] };
    let serve = format!("serve {sources} --to verbs:{} --listen {}", lender.rdma, lender.address);
    let mut lending = listening(&lender, start_command(&mut on(lender.name, &peerpath(), &serve))?)?;
    let mut results = Vec::new();
    for arguments in runs {
        let out = tempfile::tempdir()?;
        let run = format!(
            "run --peer {} --to verbs:{} {arguments} --out {}",
            lender.address,
            poster.rdma,
            out.path().display()
        );
        run_command(&mut on(poster.name, &peerpath(), &run))?.expect(0)?;
        results.push(result(out.path())?);
    }
    lending.signal("TERM")?;
    lending.wait()?.expect(143)?;
    Ok(results)
}

/// Every op, one at a time, there and back, and many at once; a BAR on the side that lends, and on the side that posts. Reliable
/// connections alone: an emulated NIC that is short of time drops packets.
fn every_way() -> Result<(), Failed> {
    let exporter = named("exporter")?;
    let bar = format!("--from {exporter}:2@0x0+0x400000");
    let modes = "--mode completion --mode pingpong --mode bandwidth --size 4K --iterations 20";
    let ops = "--op write --op write_imm --op read --op send --op fetch_add --op cmp_swap";
    let runs = [
        format!("{ops} {modes}"),
        format!("{ops} {modes} --qps 3 --inline 64 --service-level 1 --traffic-class 8 --events"),
    ];
    let of_lender = [&runs[0][..], &runs[1]];
    let lent = lent_to(HOSTS[0], &format!("{bar} --from host:4M"), &of_lender)?;
    // The same BAR on the side that posts, with memory of the other host at the far end.
    let posted_from: Vec<String> = runs.iter().map(|run| format!("{bar} {run}")).collect();
    let posted_from: Vec<&str> = posted_from.iter().map(String::as_str).collect();
    let posted = lent_to(HOSTS[1], "--from host:4M", &posted_from)?;
    for cell in lent.iter().chain(&posted).flat_map(|result| cells(result).iter()) {
        judge(cell)?;
    }
    for cell in posted.iter().flat_map(cells).filter(|cell| cell["outcome"] == "passed") {
        if cell["far"]["path"]["observed"] != "host-bridge-translated" {
            return Err(format!("the active side's BAR should be seen: {cell:#}").into());
        }
    }
    Ok(())
}

/// A lane for each thread, whatever it does: each has windows of its own on both sides.
fn several_threads() -> Result<(), Failed> {
    let exporter = named("exporter")?;
    let run = "--op write --op write_imm --op read --op send --op cmp_swap --mode completion --mode pingpong --mode bandwidth \
               --size 4K --iterations 20 --threads 2 --qps 2 --depth 4";
    for result in lent_to(HOSTS[0], &format!("--from {exporter}:2@0x0+0x400000 --from host:4M"), &[run])? {
        for cell in cells(&result) {
            judge(cell)?;
            if cell["outcome"] == "passed" && cell["iterations"] != 2 * 20 {
                return Err(format!("20 operations of each thread were asked for: {cell:#}").into());
            }
        }
    }
    Ok(())
}

/// Each side posts and times one direction, and verifies its own memory, a BAR on either of them.
fn both_at_once() -> Result<(), Failed> {
    let exporter = named("exporter")?;
    let bar = format!("--from {exporter}:2@0x0+0x400000");
    let ops = "--op write --op write_imm --op read --op send --mode bandwidth --bidirectional";
    let run =
        format!("{ops} --size 4K --iterations 40 --threads 1 --threads 2 --qps 2 --depth 4 --completion-moderation 2");
    let lent = lent_to(HOSTS[0], &format!("{bar} --from host:4M"), &[&run])?;
    let posted = lent_to(HOSTS[1], "--from host:4M", &[&format!("{bar} {run}")])?;
    for cell in lent.iter().chain(&posted).flat_map(|result| cells(result).iter()) {
        judge(cell)?;
        let each_way = cell["throughput_each_way_bytes_per_s"].as_array();
        let both = each_way.is_some_and(|ways| ways.len() == 2 && ways.iter().all(|way| way.as_f64() > Some(0.0)));
        let expected = cell["threads"].as_u64().map(|threads| 2 * 40 * threads);
        if !both || cell["iterations"].as_u64() != expected {
            return Err(format!("{expected:?} operations, told for each way, were expected: {cell:#}").into());
        }
    }
    Ok(())
}

/// Whether a cell ended as it should.
fn judge(cell: &Value) -> Result<(), Failed> {
    let word = |key: &str| cell[key].as_str().unwrap_or_default().to_owned();
    let (op, mode) = (word("op"), word("mode"));
    let atomic = matches!(&op[..], "fetch_add" | "cmp_swap");
    let unanswered = mode == "pingpong" && (atomic || op == "read");
    let refused = atomic && cell["source"]["kind"] == "vfio";
    let expected = if unanswered || refused { "waived" } else { "passed" };
    if cell["outcome"] != expected || expected == "passed" && cell["verified_bytes"].as_u64().unwrap_or(0) == 0 {
        return Err(format!("this should have {expected}: {cell:#}").into());
    }
    Ok(())
}

/// What our wire protocol is, in the opinion of a program that shares nothing with this one.
fn independent() -> Result<(), Failed> {
    hosts()?;
    let lending =
        listening(&HOSTS[0], start_command(&mut on(LENDER, &independent_peer(), &format!("rxe0 {ADDRESS}:18551")))?)?;
    let out = tempfile::tempdir()?;
    let run = "--op write --op read --size 1000 --size 64K --depth 4 --threads 1 --threads 2 --iterations 20";
    let ended = run_command(&mut post(run, out.path()));
    let lent = lending.wait()?.expect(0);
    ended?.expect(0)?;
    let result = result(out.path())?;
    // It knows of no lanes, and ignores that it is asked for them.
    let expected = |cell: &Value| if cell["threads"] == 1 { "passed" } else { "waived" };
    if cells(&result).len() != 2 * 2 * 2 * 2 || cells(&result).iter().any(|cell| cell["outcome"] != expected(cell)) {
        return Err(format!("one thread passes, two are waived: {result:#}").into());
    }
    for cell in cells(&result).iter().filter(|cell| cell["threads"] == 1) {
        if cell["mechanism"] != "ibverbs-crate" {
            return Err(format!("another peer than the independent one: {cell:#}").into());
        }
    }
    // All that counts as verified, it has compared as well.
    let verified: u64 = cells(&result).iter().filter_map(|cell| cell["verified_bytes"].as_u64()).sum();
    lent?.says(&format!("compared {verified} bytes"))?;
    Ok(())
}

fn deaths() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let long = "--op read --size 4K --mode bandwidth --bidirectional --threads 2 --duration 600s";
    let mut lending = lend()?;
    let begin = |out: &Path| -> Result<Running, Failed> {
        let posting = start_command(&mut post(long, out))?;
        until("a cell runs", || driver_of_exporter() == Some("vfio-pci".into()))?;
        // Somewhere in the middle of it.
        std::thread::sleep(std::time::Duration::from_secs(5));
        Ok(posting)
    };
    // The active side is killed: the passive one gives everything back, and serves the next.
    let mut posting = begin(out.path())?;
    posting.signal("KILL")?;
    posting.wait()?;
    until("the function is given back", || driver_of_exporter().is_none())?;
    run_command(&mut post("--op write --size 4K --iterations 20", out.path()))?.expect(0)?;
    // The passive side is killed: the active one says so, and ends.
    let posting = begin(out.path())?;
    lending.signal("KILL")?;
    lending.wait()?;
    posting.wait()?.expect(1)?;
    let saved = result(out.path())?;
    let last = cells(&saved).last().cloned().unwrap_or_default();
    if last["outcome"] != "failed" || last["cause"] != "peer-lost" {
        return Err(format!("the last cell should say that the peer is gone: {last:#}").into());
    }
    Ok(())
}

fn driver_of_exporter() -> Option<String> {
    driver(&named("exporter").ok()?)
}
