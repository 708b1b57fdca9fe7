//! A run between two hosts: two network namespaces, each with a NIC of its own on one network.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;

use crate::Case;
use crate::command::{Running, all_passed, cells, peerpath, result, run_command, start_command, until};
use crate::functions::{driver, named};

const LENDER: &str = "lender";
const POSTER: &str = "poster";
const ADDRESS: &str = "192.168.200.1";
const TOKEN: &str = "known to both hosts of this test";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "two_hosts_move_data_both_ways", scenarios: &["two-hosts"], run: both_ways },
        Case { name: "a_peer_that_dies_ends_the_other_side", scenarios: &["two-hosts"], run: deaths },
    ]
}

/// Once: moves the NICs into namespaces, with an address and a soft-RoCE device in each.
fn hosts() -> Result<(), Failed> {
    if Path::new("/run/netns").join(POSTER).exists() {
        return Ok(());
    }
    for (host, nic, rdma, number) in [(LENDER, named("nic")?, "rxe0", 1), (POSTER, named("peer_nic")?, "rxe1", 2)] {
        let script = format!(
            "set -e
             netdev=$(ls /sys/bus/pci/devices/{nic}/net)
             rdma link delete {rdma}
             ip netns add {host}
             ip link set $netdev netns {host}
             ip -n {host} link set lo up
             ip -n {host} address add 192.168.200.{number}/24 dev $netdev
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
    let lending = start_command(&mut on(LENDER, &peerpath(), &arguments))?;
    let reach = format!("import socket; socket.create_connection(('{ADDRESS}', 18551))");
    until("the lender listens", || {
        let reached = Command::new("ip").args(["netns", "exec", POSTER, "python3", "-c", &reach]).output();
        reached.is_ok_and(|output| output.status.success())
    })?;
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

fn deaths() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let long = "--op read --size 4K --mode bandwidth --duration 600s";
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
