//! Runs between two hosts, emulated by two network namespaces with one NIC each, on one network.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Case;
use crate::command::{
    Running, all_passed, cells, independent_peer, once, peerpath, result, run_command, start_command, until,
};
use crate::functions::{driver, named};

const SERVER: &str = "server";
const CLIENT: &str = "client";
const ADDRESS: &str = "192.168.200.1";

/// One of the two emulated hosts.
#[derive(Clone, Copy)]
struct Host {
    name: &'static str,
    nic: &'static str,
    rdma: &'static str,
    address: &'static str,
}

const HOSTS: [Host; 2] = [
    Host { name: SERVER, nic: "nic", rdma: "rxe0", address: ADDRESS },
    Host { name: CLIENT, nic: "peer_nic", rdma: "rxe1", address: "192.168.200.2" },
];
const TOKEN: &str = "shared by both hosts of this test";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "two_hosts_transfer_a_bar_and_host_memory", scenarios: &["two-hosts"], run: bar_and_host_memory },
        Case { name: "two_hosts_measure_every_op_in_every_mode", scenarios: &["two-hosts"], run: every_op },
        Case { name: "two_hosts_use_several_threads", scenarios: &["two-hosts"], run: several_threads },
        Case { name: "two_hosts_post_in_both_directions_at_once", scenarios: &["two-hosts"], run: both_at_once },
        Case { name: "host_survives_the_death_of_its_peer", scenarios: &["two-hosts"], run: deaths },
        Case {
            name: "a_server_written_from_the_document_verifies_the_data",
            scenarios: &["two-hosts"],
            run: independent,
        },
    ]
}

/// Moves the NICs into namespaces, with an address and a soft-RoCE device in each. Does nothing on later calls.
fn hosts() -> Result<(), Failed> {
    if Path::new("/run/netns").join(CLIENT).exists() {
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

/// Command that runs `program` with space-separated arguments on one of the two hosts. `ip netns exec` mounts a new sysfs,
/// so mount tracefs and debugfs in it again.
fn on(host: &str, program: &Path, arguments: &str) -> Command {
    let arguments = once(arguments);
    let mut command = Command::new("ip");
    let mounted =
        "mount -t tracefs tracefs /sys/kernel/tracing; mount -t debugfs debugfs /sys/kernel/debug; exec \"$0\" \"$@\"";
    command.args(["netns", "exec", host, "sh", "-c", mounted]).arg(program).args(arguments.split_whitespace());
    command.env("PEERPATH_TOKEN", TOKEN);
    command
}

pub(crate) fn start_server() -> Result<Running, Failed> {
    hosts()?;
    let exporter = named("exporter")?;
    let arguments = format!("serve --from {exporter}:2@0x0+0x400000 --from host:4M --to verbs:rxe0 --listen {ADDRESS}");
    listening(&HOSTS[0], start_command(&mut on(SERVER, &peerpath(), &arguments))?)
}

/// Waits until `server` listens. Does not connect, because the independent server accepts only one connection.
fn listening(host: &Host, mut server: Running) -> Result<Running, Failed> {
    let listens = || {
        let sockets = Command::new("ip").args(["netns", "exec", host.name, "ss", "-Hltn", "sport = :18551"]).output();
        sockets.is_ok_and(|output| !output.stdout.is_empty())
    };
    until("the server listens or has exited", || listens() || server.has_ended())?;
    if server.has_ended() {
        server.wait()?.expect(0)?;
        return Err("the server exited before a client connected".into());
    }
    Ok(server)
}

pub(crate) fn client(arguments: &str, out: &Path) -> Command {
    let arguments = format!("run --peer {ADDRESS} --to verbs:rxe1 {arguments} --force --out {}", out.display());
    on(CLIENT, &peerpath(), &arguments)
}

fn bar_and_host_memory() -> Result<(), Failed> {
    let mut server = start_server()?;
    let out = tempfile::tempdir()?;
    let arguments = "--op write --op write_imm --op read --op send --size 4K --size 64K --iterations 20";
    let ended = run_command(&mut client(arguments, out.path()))?;
    server.signal("TERM")?;
    let served = server.wait()?;
    let output = format!("--- server\n{}{}", served.stdout, served.stderr);
    ended.expect(0).map_err(|failed| format!("{}\n{output}", failed.message().unwrap_or_default()))?;
    served.expect(143)?;
    let result = result(out.path())?;
    all_passed(&result, 2 * 4 * 2 * 2)?;
    if result["environment"]["peer"]["kernel"].is_null() || result.to_string().contains(TOKEN) {
        return Err(format!("expected both hosts in the result, and no token: {result:#}").into());
    }
    for cell in cells(&result) {
        let expected = if cell["source"]["kind"] == "vfio" { "host-bridge-translated" } else { "host-memory" };
        let paths = (&cell["path"]["observed"], &cell["far"]["path"]["observed"]);
        let bdfs = (&cell["target"]["bdf"], &cell["far"]["target"]["bdf"]);
        if paths.0 != expected || paths.1 != "host-memory" || bdfs.0 != &named("nic")? || bdfs.1 != &named("peer_nic")?
        {
            return Err(format!("unexpected paths or functions: {cell:#}").into());
        }
    }
    // The server must have restored its function.
    if driver(&named("exporter")?).is_some() {
        return Err("the server did not restore its function".into());
    }
    Ok(())
}

/// Runs each of `runs` from the other host against a server on `host` that serves `sources`, and returns the results.
fn results_against(host: Host, sources: &str, runs: &[&str]) -> Result<Vec<Value>, Failed> {
    hosts()?;
    let other = if host.name == SERVER { &HOSTS[1] } else { &HOSTS[0] };
    let serve = format!("serve {sources} --to verbs:{} --listen {}", host.rdma, host.address);
    let mut server = listening(&host, start_command(&mut on(host.name, &peerpath(), &serve))?)?;
    let mut results = Vec::new();
    for arguments in runs {
        let out = tempfile::tempdir()?;
        let run =
            format!("run --peer {} --to verbs:{} {arguments} --out {}", host.address, other.rdma, out.path().display());
        run_command(&mut on(other.name, &peerpath(), &run))?.expect(0)?;
        results.push(result(out.path())?);
    }
    server.signal("TERM")?;
    server.wait()?.expect(143)?;
    Ok(results)
}

/// Every op in every mode, with the BAR on the server and on the client. Uses only reliable connections, because an
/// emulated NIC on a busy host drops packets.
fn every_op() -> Result<(), Failed> {
    let exporter = named("exporter")?;
    let bar = format!("--from {exporter}:2@0x0+0x400000");
    let modes = "--mode completion --mode pingpong --mode bandwidth --size 4K --iterations 20";
    let ops = "--op write --op write_imm --op read --op send --op fetch_add --op cmp_swap";
    let runs = [
        format!("{ops} {modes}"),
        format!("{ops} {modes} --qps 3 --inline 64 --service-level 1 --traffic-class 8 --events"),
    ];
    let on_server = [&runs[0][..], &runs[1]];
    let served = results_against(HOSTS[0], &format!("{bar} --from host:4M"), &on_server)?;
    // The same BAR on the client, with memory of the server as the remote buffer.
    let on_client: Vec<String> = runs.iter().map(|run| format!("{bar} {run}")).collect();
    let on_client: Vec<&str> = on_client.iter().map(String::as_str).collect();
    let local = results_against(HOSTS[1], "--from host:4M", &on_client)?;
    for cell in served.iter().chain(&local).flat_map(|result| cells(result).iter()) {
        judge(cell)?;
    }
    for cell in local.iter().flat_map(cells).filter(|cell| cell["outcome"] == "passed") {
        if cell["far"]["path"]["observed"] != "host-bridge-translated" {
            return Err(format!("expected the path of the client's BAR: {cell:#}").into());
        }
    }
    Ok(())
}

/// Several threads, for every op. Each thread has its own queue pairs and its own part of both buffers.
fn several_threads() -> Result<(), Failed> {
    let exporter = named("exporter")?;
    let run = "--op write --op write_imm --op read --op send --op cmp_swap --mode completion --mode pingpong --mode bandwidth \
               --size 4K --iterations 20 --threads 2 --qps 2 --depth 4";
    for result in results_against(HOSTS[0], &format!("--from {exporter}:2@0x0+0x400000 --from host:4M"), &[run])? {
        for cell in cells(&result) {
            judge(cell)?;
            if cell["outcome"] == "passed" && cell["iterations"] != 2 * 20 {
                return Err(format!("expected 20 operations per thread: {cell:#}").into());
            }
        }
    }
    Ok(())
}

/// Bidirectional cells, with the BAR on the server or on the client. Each host posts and times one direction and verifies
/// its memory.
fn both_at_once() -> Result<(), Failed> {
    let exporter = named("exporter")?;
    let bar = format!("--from {exporter}:2@0x0+0x400000");
    let ops = "--op write --op write_imm --op read --op send --mode bandwidth --bidirectional";
    let run =
        format!("{ops} --size 4K --iterations 40 --threads 1 --threads 2 --qps 2 --depth 4 --completion-moderation 2");
    let served = results_against(HOSTS[0], &format!("{bar} --from host:4M"), &[&run])?;
    let local = results_against(HOSTS[1], "--from host:4M", &[&format!("{bar} {run}")])?;
    for cell in served.iter().chain(&local).flat_map(|result| cells(result).iter()) {
        judge(cell)?;
        let each_way = cell["throughput_each_way_bytes_per_s"].as_array();
        let both = each_way.is_some_and(|ways| ways.len() == 2 && ways.iter().all(|way| way.as_f64() > Some(0.0)));
        let expected = cell["threads"].as_u64().map(|threads| 2 * 40 * threads);
        if !both || cell["iterations"].as_u64() != expected {
            return Err(format!("expected {expected:?} operations and a throughput per direction: {cell:#}").into());
        }
    }
    Ok(())
}

/// Fails unless the cell has the expected outcome and verified bytes.
fn judge(cell: &Value) -> Result<(), Failed> {
    let word = |key: &str| cell[key].as_str().unwrap_or_default().to_owned();
    let (op, mode) = (word("op"), word("mode"));
    let atomic = matches!(&op[..], "fetch_add" | "cmp_swap");
    let unsupported = mode == "pingpong" && (atomic || op == "read");
    let refused = atomic && cell["source"]["kind"] == "vfio";
    let expected = if unsupported || refused { "waived" } else { "passed" };
    if cell["outcome"] != expected || expected == "passed" && cell["verified_bytes"].as_u64().unwrap_or(0) == 0 {
        return Err(format!("expected {expected}: {cell:#}").into());
    }
    Ok(())
}

/// The client works with a server that shares no code with it.
fn independent() -> Result<(), Failed> {
    hosts()?;
    let server =
        listening(&HOSTS[0], start_command(&mut on(SERVER, &independent_peer(), &format!("rxe0 {ADDRESS}:18551")))?)?;
    let out = tempfile::tempdir()?;
    let run = "--op write --op read --size 1000 --size 64K --depth 4 --threads 1 --threads 2 --iterations 20";
    let ended = run_command(&mut client(run, out.path()));
    let served = server.wait()?.expect(0);
    ended?.expect(0)?;
    let result = result(out.path())?;
    // The independent server does not support several threads and ignores the request for them, so these cells do not pass.
    let expected = |cell: &Value| if cell["threads"] == 1 { "passed" } else { "waived" };
    if cells(&result).len() != 2 * 2 * 2 * 2 || cells(&result).iter().any(|cell| cell["outcome"] != expected(cell)) {
        return Err(format!("expected passed cells with one thread and waived cells with two: {result:#}").into());
    }
    for cell in cells(&result).iter().filter(|cell| cell["threads"] == 1) {
        if cell["mechanism"] != "ibverbs-crate" {
            return Err(format!("expected the independent server as the peer: {cell:#}").into());
        }
    }
    // The server must have compared all bytes that the result counts as verified.
    let verified: u64 = cells(&result).iter().filter_map(|cell| cell["verified_bytes"].as_u64()).sum();
    served?.prints(&format!("compared {verified} bytes"))?;
    Ok(())
}

fn deaths() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let long = "--op read --size 4K --mode bandwidth --bidirectional --threads 2 --duration 600s";
    let mut server = start_server()?;
    let begin = |out: &Path| -> Result<Running, Failed> {
        let running = start_command(&mut client(long, out))?;
        until("a cell runs", || driver_of_exporter() == Some("vfio-pci".into()))?;
        // Wait until the cell is running.
        std::thread::sleep(std::time::Duration::from_secs(5));
        Ok(running)
    };
    // Kill the client: the server restores its function and serves the next client.
    let mut running = begin(out.path())?;
    running.signal("KILL")?;
    running.wait()?;
    until("the function is restored", || driver_of_exporter().is_none())?;
    run_command(&mut client("--op write --size 4K --iterations 20", out.path()))?.expect(0)?;
    // Kill the server: the client reports the loss and exits.
    let running = begin(out.path())?;
    server.signal("KILL")?;
    server.wait()?;
    running.wait()?.expect(1)?;
    let saved = result(out.path())?;
    let last = cells(&saved).last().cloned().unwrap_or_default();
    if last["outcome"] != "failed" || last["cause"] != "peer-lost" {
        return Err(format!("expected cause peer-lost in the last cell: {last:#}").into());
    }
    Ok(())
}

fn driver_of_exporter() -> Option<String> {
    driver(&named("exporter").ok()?)
}
