//! Tests of the cells that plans produce.

use super::*;

fn plan(ops: &[Op], sizes_bytes: &[u64], ranges: &[u32], mechanism: Mechanism) -> Plan {
    Plan {
        ops: ops.to_vec(),
        modes: vec![Mode::Completion, Mode::Bandwidth],
        sizes_bytes: sizes_bytes.to_vec(),
        ranges: ranges.to_vec(),
        mechanism,
        depths: vec![8, 16],
        iterations: Some(1),
        ..Plan::new(vec!["0000:03:00.0:2".parse().unwrap()], vec!["verbs:rxe0".parse().unwrap()])
    }
}

fn cells(plan: &Plan) -> Vec<(u64, u32, Mode, u32)> {
    let leg = plan.legs().next().unwrap();
    let cells = plan.cells(leg);
    cells.iter().map(|cell| (cell.size_bytes, cell.ranges.unwrap_or(0), cell.mode, cell.depth)).collect()
}

#[test]
fn omits_ranges_shorter_than_4_kib() {
    let control = plan(&[Op::Register], &[4096, 65_536], &[1, 2, 8, 64], Mechanism::Auto);
    let expected =
        [(4096, 1), (65_536, 1), (65_536, 2), (65_536, 8)].map(|(size, ranges)| (size, ranges, Mode::Completion, 1));
    assert_eq!(cells(&control), expected);
    assert_eq!(control.cell_count(), 4);
    for ranges in [&[][..], &[1]] {
        let whole = plan(&[Op::Register], &[100], ranges, Mechanism::Auto);
        assert_eq!(cells(&whole).len(), 1, "the whole source is never omitted");
    }
    plan(&[Op::Register], &[4096], &[8], Mechanism::Auto).check().unwrap_err();
}

#[test]
fn with_mr_per_range_each_range_has_the_length_of_the_operation() {
    let transfers = plan(&[Op::Write], &[4096], &[8], Mechanism::MrPerRange);
    assert_eq!(
        cells(&transfers),
        [(4096, 8, Mode::Completion, 1), (4096, 8, Mode::Bandwidth, 8), (4096, 8, Mode::Bandwidth, 16)]
    );
    assert_eq!(cells(&plan(&[Op::Register], &[4096], &[8], Mechanism::MrPerRange)), []);
    assert_eq!(cells(&plan(&[Op::Write], &[4096], &[8], Mechanism::Auto)), []);
}

#[test]
fn a_source_uses_the_paths_of_its_kind() {
    let paths = |names: &[PathName]| {
        let plan = Plan {
            sources: ["0000:03:00.0:2", "host:16M"].map(|source| source.parse().unwrap()).to_vec(),
            paths: names.iter().copied().map(Some).collect(),
            ..plan(&[Op::Write], &[4096], &[], Mechanism::Auto)
        };
        plan.legs().map(|leg| (leg.source.to_string(), leg.asked.unwrap())).collect::<Vec<_>>()
    };
    let (bar, host) = ("0000:03:00.0:2".to_owned(), "host:16M".to_owned());
    let (bypass, memory) = (PathName::HostBridgeBypass, PathName::HostMemory);
    assert_eq!(paths(&[bypass, memory]), [(bar.clone(), bypass), (host.clone(), memory)]);
    assert_eq!(paths(&[bypass]), [(bar, bypass), (host, bypass)], "a path that was asked for is not omitted");
}

#[test]
fn rejects_a_number_of_ranges_for_a_source_with_ranges() {
    let named: Source = "0000:03:00.0:2@0x0+0x1000,0x4000+0x1000".parse().unwrap();
    let plan = |ranges: &[u32]| Plan {
        sources: vec![named.clone()],
        ..plan(&[Op::Register], &[8192], ranges, Mechanism::Auto)
    };
    plan(&[1]).check().unwrap();
    for ranges in [&[1, 2][..], &[0], &[65_537]] {
        plan(ranges).check().unwrap_err();
    }
}

#[test]
fn counts_the_combinations_without_listing_them() {
    let mut plan =
        plan(&[Op::Register, Op::Write, Op::FetchAdd, Op::Map], &[1 << 20, 2 << 20], &[1, 2], Mechanism::Auto);
    plan.sources.push("host:16M".parse().unwrap());
    plan.targets.push("cuda:0".parse().unwrap());
    plan.paths = [PathName::HostBridgeBypass, PathName::HostBridgeTranslated, PathName::HostMemory].map(Some).to_vec();
    (plan.qps, plan.threads) = (vec![1, 2, 3], vec![1, 2]);
    for modes in [&[Mode::Completion][..], &[Mode::Bandwidth], &Mode::ALL] {
        plan.modes = modes.to_vec();
        // An atomic operation has 8 bytes, too few for 2 ranges. So half of the combinations of `fetch_add` have no cell.
        let omitted = plan.legs().flat_map(|leg| plan.cells(leg)).filter(|cell| cell.op == Op::FetchAdd).count();
        assert_eq!(plan.combination_count(), (plan.cell_count() + omitted) as u64, "{modes:?}");
    }
}

#[test]
fn rejects_a_plan_with_more_cells_than_a_result_holds() {
    let many = |plan: &mut Plan, values: u32| {
        plan.sizes_bytes = (0..values).map(|at| 4096 + u64::from(at)).collect();
        plan.depths = (0..values).map(|at| at % 16 + 1).collect();
        plan.threads.clone_from(&plan.depths);
        plan.qps.clone_from(&plan.depths);
    };
    let mut plan = plan(&[Op::Write], &[4096], &[], Mechanism::Auto);
    many(&mut plan, 4096);
    // 4096 sizes times 4096 numbers of threads; for each, 1 cell in completion mode and 4096 * 4096 in bandwidth mode.
    let expected = format!("cannot run a plan with {} cells", (1_u64 << 24) * ((1 << 24) + 1));
    assert_eq!(plan.check().unwrap_err().to_string(), expected);
    many(&mut plan, 4097);
    assert_eq!(plan.check().unwrap_err().to_string(), "cannot run a plan with 4097 sizes");
    plan.sources = vec![plan.sources[0].clone(); 4096];
    plan.targets = vec![plan.targets[0].clone(); 4096];
    many(&mut plan, 4096);
    assert_eq!(plan.check().unwrap_err().to_string(), format!("cannot run a plan with {} cells", u64::MAX));
    many(&mut plan, 2);
    (plan.sources, plan.targets) = (vec![plan.sources[0].clone()], vec![plan.targets[0].clone()]);
    plan.check().unwrap();
}

fn with(ops: &[Op], targets: &[&str]) -> Plan {
    Plan {
        ops: ops.to_vec(),
        ..Plan::new(vec!["host:1M".parse().unwrap()], targets.iter().map(|target| target.parse().unwrap()).collect())
    }
}

#[track_caller]
fn rejected(plan: &Plan, words: &[&str]) {
    let error = plan.check().unwrap_err();
    let text = format!("{error}: {:?}", peerpath_paths::Explained::explanation(&error));
    for word in words {
        assert!(text.contains(word), "{text} lacks {word:?}");
    }
}

#[test]
fn rejects_an_operation_that_no_target_offers_and_a_target_without_any_operation() {
    rejected(&with(&[Op::CopyIn], &["verbs:rxe0"]), &["copy_in", "verbs:rxe0", "write_imm"]);
    rejected(&with(&[Op::Write], &["verbs:rxe0", "cuda:0"]), &["cuda:0", "copy_out"]);
    with(&[Op::Write, Op::CopyIn], &["verbs:rxe0", "cuda:0"]).check().unwrap();
}

#[test]
fn rejects_an_operation_that_the_transport_lacks() {
    let over = |transport, ops: &[Op]| Plan {
        connection: QueuePairOptions { transport, ..QueuePairOptions::default() },
        sizes_bytes: vec![1024],
        ..with(ops, &["verbs:rxe0"])
    };
    use peerpath_importers::Transport::{Rc, Uc, Ud};
    rejected(&over(Ud, &[Op::Write]), &["--op write with --connection ud", "only sends", "send"]);
    rejected(&over(Uc, &[Op::Write, Op::Read]), &["--op read with --connection uc"]);
    over(Ud, &[Op::Register, Op::Send]).check().unwrap();
    over(Uc, &[Op::Write]).check().unwrap();
    over(Rc, &[Op::Read]).check().unwrap();
    rejected(&Plan { sizes_bytes: vec![8192], ..over(Ud, &[Op::Send]) }, &["--size 8K", "--size 4K or smaller"]);
}

#[test]
fn reports_atomics_that_do_not_have_the_size_of_the_plan() {
    let atomics = |ops: &[Op], sizes: &[u64]| Plan { sizes_bytes: sizes.to_vec(), ..with(ops, &["verbs:rxe0"]) };
    rejected(&atomics(&[Op::FetchAdd], &[4096]), &["fetch_add", "--size 4K", "8 bytes"]);
    atomics(&[Op::FetchAdd], &[8]).check().unwrap();
    let mixed = atomics(&[Op::FetchAdd, Op::Write], &[4096]);
    mixed.check().unwrap();
    assert_eq!(mixed.notes(), ["measured with 8 bytes instead of the sizes of the plan: fetch_add"]);
    assert!(atomics(&[Op::Write], &[4096]).notes().is_empty());
}

#[test]
fn rejects_a_mode_in_which_no_operation_can_run() {
    let modes = |ops: &[Op], modes: &[Mode]| Plan { modes: modes.to_vec(), ..with(ops, &["verbs:rxe0"]) };
    rejected(&modes(&[Op::Read], &[Mode::PingPong]), &["--op read with --mode pingpong"]);
    rejected(&modes(&[Op::Read], &[Mode::Completion, Mode::PingPong]), &["pingpong"]);
    modes(&[Op::Read, Op::Write], &[Mode::Completion, Mode::PingPong]).check().unwrap();
    modes(&[Op::Register], &[Mode::PingPong]).check().unwrap();
    // If both sides change the 8-byte values, the values do not show which side made a change.
    let atomics = Plan { sizes_bytes: vec![8], ..modes(&[Op::CmpSwap], &[Mode::Bandwidth]) };
    atomics.check().unwrap();
    rejected(&Plan { bidirectional: true, ..atomics }, &["cmp_swap", "--bidirectional"]);
}

#[test]
fn names_combinations_whose_ranges_are_too_short() {
    let plan = plan(&[Op::Register, Op::Write], &[4096, 65_536], &[1, 8, 64], Mechanism::Auto);
    let note = "not measured, because a range has at least 4 KiB: 4K in 8 ranges, 4K in 64 ranges, 64K in 64 ranges";
    assert_eq!(plan.notes(), [note]);
}

#[test]
fn repeats_divide_the_limits_of_a_cell() {
    let mut plan = plan(&[Op::Write], &[4096], &[], Mechanism::Auto);
    (plan.repeats, plan.iterations, plan.duration) = (3, Some(10), Some(Duration::from_secs(6)));
    let limits: Vec<_> = (0..3).map(|repeat| plan.limit(repeat)).collect();
    assert_eq!(limits.iter().map(|limit| limit.iterations).collect::<Vec<_>>(), [4, 3, 3]);
    assert!(limits.iter().all(|limit| limit.duration == Duration::from_secs(2)));
    (plan.iterations, plan.duration) = (Some(2), None);
    assert_eq!(plan.repeats(), 2, "each repeat has at least one operation");
    assert_eq!(plan.limit(0), Limit { iterations: 1, duration: Duration::MAX });
    plan.iterations = None;
    assert_eq!((plan.repeats(), plan.limit(2).iterations), (3, u64::MAX));
    for repeats in [0, 1001] {
        plan.repeats = repeats;
        assert!(plan.check().is_err());
    }
}
