//! Errnos from public bug reports, with the cause that the reporters found. `fixtures/hosts/errnos.tsv` lists them.

use peerpath_paths::{Cause, Facts, MemoryKind, Step, explain, parse_errno};

/// One line of the table.
struct Report<'a> {
    thread: &'a str,
    step: Step,
    errno: i32,
    facts: Facts,
}

fn report(line: &str) -> Report<'_> {
    let fields: Vec<_> = line.split('\t').collect();
    let [thread, step, errno, source, driver, _, _] = fields[..] else { panic!("7 fields: {line}") };
    let step = match step {
        "RegisterDmaBuf" => Step::RegisterDmaBuf,
        "RegisterMemory" => Step::RegisterMemory,
        "MapMemory" => Step::MapMemory,
        "devx umem" => Step::RegisterUmem,
        other => panic!("unknown step {other}"),
    };
    let source = match source {
        "memory of a GPU" => MemoryKind::Gpu,
        "mapped BAR" | "BAR mapped by VFIO" => MemoryKind::VfioBar,
        other => panic!("unknown source {other}"),
    };
    // A number may precede the name. Both must be recognized and mean the same errno.
    let errnos: Vec<_> = errno.split(' ').map(|text| parse_errno(text).unwrap_or_else(|| panic!("{text}"))).collect();
    assert!(errnos.iter().all(|errno| *errno == errnos[0]), "{errno}");
    let facts = Facts { source: Some(source), driver: Some(driver.to_owned()), ..Facts::default() };
    Report { thread, step, errno: errnos[0], facts }
}

/// The cause that the discussion of the report found, the words that the explanation must contain, and those that it must not.
fn expected(thread: &str) -> (Option<Cause>, &'static [&'static str], &'static [&'static str]) {
    let number = thread.split(' ').next().unwrap_or(thread);
    match number {
        "NVIDIA/nccl#778" => {
            (Some(Cause::ImporterNoDmabuf), &["RDMA driver is too old", "nvidia-peermem"], &["VFIO", "ODP"])
        }
        "openucx/ucx#11584" => {
            (Some(Cause::MechanismRefused), &["524 is ENOTSUPP", "PCIe mapping", "GPU driver"], &["VFIO"])
        }
        "uccl-project/mKernel#26" => {
            (None, &["cause is unknown", "topology is not the cause", "nvidia-peermem"], &["ACS", "switch"])
        }
        "NVIDIA/nvshmem#67" => (None, &["cause is unknown", "EFAULT", "nvidia-peermem"], &["not document"]),
        "NVIDIA/gdrcopy#266" => (Some(Cause::ImporterNoDmabuf), &["through its dma-buf"], &["GPU"]),
        "kata-containers#13270" => (Some(Cause::ForeignDmaBuf), &["through its dma-buf"], &["GPU"]),
        other => panic!("no expectation for {other}"),
    }
}

#[test]
fn reported_errnos_have_the_cause_that_the_reporters_found() {
    let table = include_str!("fixtures/hosts/errnos.tsv");
    let lines: Vec<_> = table.lines().skip(1).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 6);
    for line in lines {
        let report = report(line);
        let explanation = explain(report.step, report.errno, &report.facts);
        let (cause, contained, absent) = expected(report.thread);
        assert_eq!(explanation.cause, cause, "{}: {explanation:#?}", report.thread);
        let text = format!("{} {}", explanation.why, explanation.remedy);
        for word in contained {
            assert!(text.contains(word), "{} lacks {word:?}: {text}", report.thread);
        }
        for word in absent {
            assert!(!text.contains(word), "{} contains {word:?}: {text}", report.thread);
        }
    }
}

#[test]
fn enotsupp_has_a_name_at_every_step() {
    for step in [Step::RegisterDmaBuf, Step::Export, Step::MapFile, Step::OpenVfio] {
        for source in [None, Some(MemoryKind::Gpu), Some(MemoryKind::VfioBar), Some(MemoryKind::Host)] {
            let explanation = explain(step, 524, &Facts { source, ..Facts::default() });
            assert!(explanation.why.starts_with("524 is ENOTSUPP"), "{step:?} {source:?}: {explanation:?}");
        }
    }
}
