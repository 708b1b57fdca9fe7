//! Runs every op in every mode, over every transport, and with several threads and queue pairs. All measured data is
//! verified.

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Case;
use crate::command::{all_passed, cells, result, run};
use crate::functions::EXPORTER;

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, run| Case { name, scenarios: &["default"], run };
    vec![
        case("measures_every_op_in_every_mode", every_op),
        case("uc_and_ud_pass_their_ops_and_reject_others", transports),
        case("measures_threads_queue_pairs_and_both_directions", several),
        case("several_threads_register_at_once", registering),
        case("command_line_overrides_a_plan_file", plan_file),
        case("accepts_names_without_their_kind_and_prints_each_step", names),
    ]
}

/// Runs with `arguments` and returns the result.
fn measured(arguments: &str) -> Result<Value, Failed> {
    let out = tempfile::tempdir()?;
    run(&format!("run --to verbs:rxe0 {arguments} --warmup 3 --iterations 60 --out {}", out.path().display()))?
        .expect(0)?;
    result(out.path())
}

fn every_op() -> Result<(), Failed> {
    let result = measured(&format!(
        "--from {EXPORTER}:2 --from host:4M --size 4K --mode completion --mode pingpong --mode bandwidth \
         --op write --op write_imm --op read --op send --op fetch_add --op cmp_swap"
    ))?;
    for cell in cells(&result) {
        let (op, mode) = (cell["op"].as_str().unwrap_or_default(), cell["mode"].as_str().unwrap_or_default());
        let atomic = matches!(op, "fetch_add" | "cmp_swap");
        let in_bar = cell["source"]["kind"] == "vfio";
        // Reads and atomics have no ping-pong, and soft RDMA has no atomics on MMIO.
        let waived = mode == "pingpong" && (atomic || op == "read") || atomic && in_bar;
        let as_expected = if waived {
            cell["outcome"] == "waived" && (mode == "pingpong" || cell["cause"] == "atomics-refused")
        } else {
            cell["outcome"] == "passed" && cell["verified_bytes"].as_u64() > Some(0)
        };
        let size_bytes = if atomic { 8 } else { 4096 };
        if !as_expected || cell["size_bytes"] != size_bytes {
            return Err(format!("unexpected outcome, cause or size: {cell:#}").into());
        }
    }
    if cells(&result).len() != 36 { Err("expected 36 cells".into()) } else { Ok(()) }
}

/// Names that omit the BAR of a function and the kind of a device. With `--verbose`, the changes of
/// the host are printed.
fn names() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    run(&format!(
        "-v run --from {EXPORTER},host:4M --to rxe0 --op write,read --size 4K 8KiB --iterations 1e1 --out {folder}"
    ))?
    .expect(0)?
    .prints(&format!("record the state of {EXPORTER} in the journal"))?
    .prints("/sys/bus/pci/")?
    .prints("register ")?;
    let result = result(out.path())?;
    all_passed(&result, 16)?;
    let names = |cell: &Value| (cell["source"]["bdf"].clone(), cell["target"]["device"].clone());
    if !cells(&result).iter().any(|cell| names(cell) == (EXPORTER.into(), "rxe0".into())) {
        return Err(format!("no cell of the BAR: {result:#}").into());
    }
    run("paths --to rxe0")?.expect(0)?;
    run("run --from host:4M --to rxe_0 --op write")?.expect(2)?.prints("did you mean verbs:rxe0?")?;
    run("run --from rxe0 --to verbs:rxe0")?.expect(2)?.prints("did you mean --to verbs:rxe0?")?;
    Ok(())
}

fn transports() -> Result<(), Failed> {
    for (transport, ops, lacking) in [("uc", "write,send", "read"), ("ud", "send", "write")] {
        let result = measured(&format!(
            "--from {EXPORTER}:2 --connection {transport} --op {ops} --size 512 --mtu 1024 \
             --traffic-class 8 --service-level 1 --inline 64 --relaxed-ordering --gid-index 1 --events"
        ))?;
        if let Some(cell) = cells(&result).iter().find(|cell| cell["outcome"] != "passed") {
            return Err(format!("not passed over {transport}: {cell:#}").into());
        }
        run(&format!("run --from host:4M --to verbs:rxe0 --connection {transport} --op {lacking} --size 64"))?
            .expect(2)?
            .prints(&format!("cannot run --op {lacking} with --connection {transport}"))?;
    }
    run("run --from host:4M --to verbs:rxe0 --op send --size 64 --gid-index 200")?.expect(2)?.prints("no GID 200")?;
    Ok(())
}

fn several() -> Result<(), Failed> {
    let result = measured(&format!(
        "--from {EXPORTER}:2 --op write --op send --op read --mode bandwidth --size 1000 --depth 8 \
         --completion-moderation 4 --post-list 2 --qps 1 --qps 3 --threads 1 --threads 2 --bidirectional --cpu 0-1"
    ))?;
    all_passed(&result, 12)?;
    for cell in cells(&result) {
        let count = |name: &str| cell[name].as_u64().unwrap_or(0);
        // Each thread measures both directions.
        let expected = 60 * 2 * count("threads");
        let each_way = cell["throughput_each_way_bytes_per_s"].as_array();
        let both = each_way.is_some_and(|ways| ways.iter().all(|way| way.as_f64() > Some(0.0)));
        if count("iterations") != expected || !both {
            return Err(format!("expected {expected} operations and a throughput per direction: {cell:#}").into());
        }
    }
    Ok(())
}

fn registering() -> Result<(), Failed> {
    let result =
        measured(&format!("--from {EXPORTER}:2 --op register --op unregister --size 64K --threads 1 --threads 4"))?;
    all_passed(&result, 4)?;
    for cell in cells(&result) {
        if cell["iterations"].as_u64() != cell["threads"].as_u64().map(|threads| threads * 60) {
            return Err(format!("expected 60 registrations per thread: {cell:#}").into());
        }
    }
    Ok(())
}

fn plan_file() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let plan = folder.path().join("plan.toml");
    let out = folder.path().join("out");
    std::fs::write(
        &plan,
        format!(
            "from = ['{EXPORTER}:2', 'host:1M']\nto = 'verbs:rxe0'\nop = ['write', 'read']\nsize = ['4K', 512]\n\
             mode = 'bandwidth'\niterations = 40\ndepth = 4\n"
        ),
    )?;
    run(&format!("run {} --depth 8 --out {}", plan.display(), out.display()))?.expect(0)?;
    let result = result(&out)?;
    all_passed(&result, 8)?;
    if cells(&result).iter().any(|cell| cell["depth"] != 8 || cell["iterations"] != 40) {
        return Err("expected --depth of the command line and iterations of the file".into());
    }
    Ok(())
}
