//! Tests with traces captured in a virtual machine (Linux 7.2.12), and of an observer with a fake tracefs.

use std::io;
use std::sync::Arc;

use peerpath_paths::{Cause, Explained, PathName};
use proptest::prelude::*;

use crate::calls;
use crate::fake_tracefs::FakeTracefs;
use crate::observer::{Observer, ObserverOptions, ProbeSet};
use crate::operation::DmaBufOp;
use crate::parse::{Event, parse};
use crate::trace::Trace;
use crate::{Expected, MapType, Memory, Observation, ObserveError};

/// BAR 2 of the guest's exporter.
const BAR: std::ops::Range<u64> = 0xf000_0000..0xf800_0000;
/// BAR 2 of the exporter below the switch.
const SWITCH_BAR: std::ops::Range<u64> = 0xe000_0000..0xe800_0000;

macro_rules! captured {
    ($name:literal) => {
        (include_str!(concat!("testdata/", $name, ".trace")), include_str!(concat!("testdata/", $name, ".raw")))
    };
}

static CAPTURED: &[(&str, &str)] = &[
    captured!("translated"),
    captured!("bypass"),
    captured!("bypass-ranges"),
    captured!("bus-address"),
    captured!("topology"),
    captured!("swiotlb-forced"),
    captured!("multi-range-defect"),
    captured!("times"),
];

fn trace((text, raw): (&str, &str)) -> Trace {
    let log = parse(text, raw);
    let calls = calls::pair(&log.records);
    Trace {
        log,
        calls,
        records_calls: true,
        records_map_type: true,
        missing_tracepoints: Vec::new(),
        untimed: Vec::new(),
        missing: Vec::new(),
    }
}

/// A trace of these events, one per line.
fn trace_of(events: &[&str]) -> Trace {
    let line = |event: &&str| format!("  <...>-7     [000] .....     1.000001: {event}\n");
    trace((&events.iter().map(line).collect::<String>(), ""))
}

fn in_bar() -> Expected {
    Expected::new(Memory::Mmio(vec![BAR]))
}

fn reason(observation: &Observation) -> &str {
    assert_eq!(observation.path, PathName::Unknown, "{observation:#?}");
    &observation.evidence[0]
}

#[test]
fn parses_every_line_of_captured_traces_with_nanosecond_timestamps() {
    for captured in CAPTURED {
        let log = parse(captured.0, captured.1);
        assert_eq!((log.lost_events, log.unreadable_lines, log.resolution_ns), (0, 0, 1), "{}", captured.0);
        let lines = captured.0.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(log.records.len(), lines);
        assert!(log.records.is_sorted_by_key(|record| record.at_ns));
    }
}

#[test]
fn classifies_a_translated_path() {
    let observation = trace(CAPTURED[0]).classify(&Expected { translated: Some(true), ..in_bar() });
    assert_eq!(observation.path, PathName::HostBridgeTranslated);
    assert_eq!(observation.attribute.as_deref(), Some("MMIO"));
    assert_eq!(observation.dma_address_equals_physical, Some(false));
    assert_eq!(observation.map_type, Some(MapType::ThroughHostBridge));
    assert_eq!(observation.mappings[0].dma_address, Some(0xffd0_0000));
    assert_eq!(
        observation.evidence,
        [
            "0000:02:00.0 attached to the dma-buf of vfio_pci_core",
            "pci_p2pdma_map_type returned THRU_HOST_BRIDGE (4)",
            "the IOMMU mapped IOVA 0xffd00000 to 0xf0000000+0x100000",
            "mapped with the attribute MMIO",
        ]
    );
}

#[test]
fn classifies_a_bypass_path() {
    for (captured, mappings) in [(CAPTURED[1], 1), (CAPTURED[2], 2)] {
        let observation = trace(captured).classify(&Expected { translated: Some(false), ..in_bar() });
        assert_eq!(observation.path, PathName::HostBridgeBypass);
        assert_eq!(observation.attribute.as_deref(), Some("MMIO"));
        assert_eq!(observation.dma_address_equals_physical, Some(true));
        assert_eq!(observation.mappings.len(), mappings);
    }
}

#[test]
fn classifies_a_bus_address_path() {
    let expected = Expected { bus_offset: Some(0x1000), ..Expected::new(Memory::Mmio(vec![SWITCH_BAR])) };
    let observation = trace(CAPTURED[3]).classify(&expected);
    assert_eq!(observation.path, PathName::BusAddress);
    assert_eq!((observation.attribute, observation.dma_address_equals_physical), (None, Some(false)));
    assert_eq!(observation.map_type, Some(MapType::BusAddress));
    assert_eq!(observation.mappings[0].dma_address, Some(0xe000_1000));
}

#[test]
fn classifies_refusals_and_reports_the_errno() {
    for (captured, errno, map_type, mappings) in [
        (CAPTURED[4], libc::EINVAL, MapType::NotSupported, 0),
        (CAPTURED[5], libc::ENOMEM, MapType::ThroughHostBridge, 1),
        (CAPTURED[6], libc::EADDRINUSE, MapType::ThroughHostBridge, 1),
    ] {
        let observation = trace(captured).classify(&in_bar().failed(&io::Error::from_raw_os_error(errno)));
        assert_eq!(observation.path, PathName::Refused);
        assert_eq!(observation.failed_calls[0].errno, Some(errno));
        assert_eq!((observation.map_type, observation.mappings.len()), (Some(map_type), mappings));
        assert_eq!(observation.dma_address_equals_physical, None);
    }
}

#[test]
fn measures_the_duration_of_calls() {
    let trace = trace(CAPTURED[7]);
    assert_eq!(trace.durations_ns(DmaBufOp::Attach), [27_250, 9_664]);
    assert_eq!(trace.durations_ns(DmaBufOp::Map), [383_381, 59_118]);
    assert_eq!(trace.durations_ns(DmaBufOp::Unmap), [69_663, 88_852]);
    assert_eq!(trace.durations_ns(DmaBufOp::Detach), [13_089, 3_044]);
}

const STEP: &str = "tracing_mark_write: step";
const LINK: &str = "timed_in_dma_iova_link: (a)";
const LINKED: &str = "timed_out_dma_iova_link: (dma_buf_phys_vec_to_sgt+0x1c2/0x4b0 <- dma_iova_link) result=0";

/// A trace of these events, one per line and microsecond.
fn trace_in_time(events: &[&str]) -> Trace {
    let line = |(index, event): (usize, &&str)| format!("  <...>-7     [000] .....     1.{index:06}: {event}\n");
    trace((&events.iter().enumerate().map(line).collect::<String>(), ""))
}

#[test]
fn adds_up_the_calls_of_each_registration() {
    let trace = trace_in_time(&[
        LINK, LINKED, // Before the first registration.
        STEP, LINK, LINKED, LINK, LINKED, LINK, LINKED, //
        STEP, MAP, MAPPED, // Without a call.
        STEP, LINK, LINKED,
    ]);
    assert_eq!(trace.durations_per_step_ns(DmaBufOp::Link), [3000, 1000]);
    assert_eq!(trace.durations_per_step_ns(DmaBufOp::Map), [1000]);
    assert_eq!(trace.durations_per_step_ns(DmaBufOp::Sync), [0; 0]);
    assert_eq!(trace.durations_ns(DmaBufOp::Link).len(), 5);
}

#[test]
fn a_call_that_spans_two_registrations_counts_for_neither() {
    assert_eq!(trace_in_time(&[STEP, LINK, STEP, LINKED]).durations_per_step_ns(DmaBufOp::Link), [0; 0]);
}

#[test]
fn ignores_iova_calls_of_other_drivers() {
    let of = |caller: &str| format!("timed_out_dma_iova_link: ({caller} <- dma_iova_link) result=0");
    for (caller, counts) in [
        ("blk_rq_dma_map_iter_start+0x10/0x20", false),
        ("0xffffffff81234567", false),
        ("dma_buf_phys_vec_to_sgt_of_another_kind+0x10/0x20", false),
        ("dma_buf_phys_vec_to_sgt.part.0+0x10/0x20", true),
        ("dma_buf_phys_vec_to_sgt+0x10/0x20 [dma_buf]", true),
    ] {
        let times = trace_in_time(&[STEP, LINK, &of(caller)]).durations_per_step_ns(DmaBufOp::Link);
        assert_eq!(times.len(), usize::from(counts), "{caller}");
    }
}

#[test]
fn an_allocation_without_an_iova_has_no_duration() {
    let allocated = |result| {
        format!(
            "timed_out_dma_iova_try_alloc: (dma_buf_phys_vec_to_sgt+0x9a/0x4b0 <- dma_iova_try_alloc) result={result}"
        )
    };
    let times = |result| {
        let events = [STEP, "timed_in_dma_iova_try_alloc: (a)", &allocated(result)];
        trace_in_time(&events).durations_per_step_ns(DmaBufOp::Allocate)
    };
    assert_eq!((times(1), times(0)), (vec![1000], vec![]));
}

#[test]
fn falls_back_to_microseconds_without_a_matching_raw_trace() {
    let log = parse(CAPTURED[7].0, "");
    assert_eq!(log.resolution_ns, 1000);
    assert_eq!(log.records[1].at_ns, 66_011_924_000);
    // The raw trace of another recording.
    assert_eq!(parse(CAPTURED[7].0, CAPTURED[0].1).resolution_ns, 1000);
}

#[test]
fn parses_any_task_name_and_column_layout() {
    for line in [
        "a-1 [9] b: c-7     [001] d..2.     1.000001: out_pci_p2pdma_map_type: (a <- b) result=3",
        "           <...>-7     (-------) [001] .....     1.000001: out_pci_p2pdma_map_type: (a <- b) result=3",
        "           <...>-7     [001]     1.000001: out_pci_p2pdma_map_type: (a <- b) result=3",
    ] {
        let log = parse(line, "");
        assert!(matches!(log.records[..], [ref record] if record.thread == 7), "{line}");
        assert!(matches!(log.records[0].event, Event::MapType(3)));
    }
}

#[test]
fn a_bus_address_path_is_unknown_if_events_were_lost() {
    let (text, raw) = CAPTURED[3];
    let lossy = text.replace("10/10", "10/15");
    let observation = trace((&lossy, raw)).classify(&Expected::new(Memory::Mmio(vec![SWITCH_BAR])));
    assert!(reason(&observation).contains("events were lost"));
    assert_eq!(parse("CPU:1 [LOST 3 EVENTS]\n", "").lost_events, 3);
}

const BUS: &str = "out_pci_p2pdma_map_type: (a <- b) result=3";
const BRIDGE: &str = "out_pci_p2pdma_map_type: (a <- b) result=4";
const MAPPED: &str = "out_dma_buf_map_attachment: (a <- b) result=-131391596624704";
const MAP: &str = "in_dma_buf_map_attachment: (a)";
const IOMMU: &str = "map: IOMMU: iova=0x1000 - 0x3000 paddr=0xf0000000 size=8192";

#[test]
fn contradicting_events_give_an_unknown_path() {
    let direct =
        "dma_map_phys: 0000:02:00.0 dir=BIDIRECTIONAL dma_addr=f0000000 size=8192 phys_addr=f0000000 attrs=MMIO";
    let both = trace_of(&[MAP, BUS, direct, MAPPED]).classify(&in_bar());
    assert!(reason(&both).contains("BUS_ADDR"));
    let answers = trace_of(&[MAP, BUS, BRIDGE, MAPPED]).classify(&in_bar());
    assert!(reason(&answers).contains("different map types"));
    let translated =
        trace_of(&[MAP, BRIDGE, direct, MAPPED]).classify(&Expected { translated: Some(true), ..in_bar() });
    assert!(reason(&translated).contains("translates"));
    let identity = trace_of(&[MAP, BRIDGE, IOMMU, MAPPED]).classify(&Expected { translated: Some(false), ..in_bar() });
    assert!(reason(&identity).contains("does not translate"));
    let number = trace_of(&[MAP, "out_pci_p2pdma_map_type: (a <- b) result=9", MAPPED]).classify(&in_bar());
    assert!(reason(&number).contains('9'));
}

#[test]
fn a_bus_address_of_other_memory_gives_an_unknown_path() {
    let ranges = |phys: &str, offset: &str| {
        format!("in_dma_buf_phys_vec_to_sgt: (a) device=\"0000:07:00.0\"{offset} phys={phys} length=8192 count=1")
    };
    let observation = |ranges: &str| trace_of(&[MAP, ranges, BUS, MAPPED]).classify(&in_bar());
    let inside = observation(&ranges("0xf0001000", " bus_offset=0x0"));
    assert_eq!((inside.path, inside.dma_address_equals_physical), (PathName::BusAddress, Some(true)));
    assert_eq!(inside.mappings[0].device.as_deref(), Some("0000:07:00.0"));
    assert!(reason(&observation(&ranges("0x12345000", " bus_offset=0x0"))).contains("0x12345000"));
    // Arguments read by number may be wrong, so the address is not checked.
    assert_eq!(observation(&ranges("0x12345000", "")).path, PathName::BusAddress);
    assert_eq!(observation("in_dma_buf_phys_vec_to_sgt: (a) device=(fault)").path, PathName::BusAddress);
}

#[test]
fn recognizes_a_direct_mapping_that_the_iommu_translates() {
    let direct = "dma_map_phys: 0000:02:00.0 dir=BIDIRECTIONAL dma_addr=2000 size=4096 phys_addr=f0001000 attrs=MMIO";
    let observation = trace_of(&[BRIDGE, IOMMU, direct]).classify(&in_bar());
    assert_eq!(
        (observation.path, observation.dma_address_equals_physical),
        (PathName::HostBridgeTranslated, Some(false))
    );
    let alone = trace_of(&[BRIDGE, direct]).classify(&in_bar());
    assert!(reason(&alone).contains("0x2000"));
}

#[test]
fn accepts_the_address_offset_of_the_host_bridge() {
    let direct =
        "dma_map_phys: 0000:02:00.0 dir=BIDIRECTIONAL dma_addr=70000000 size=4096 phys_addr=f0000000 attrs=MMIO";
    let trace = trace_of(&[BRIDGE, direct]);
    assert!(reason(&trace.classify(&in_bar())).contains("0x70000000"));
    let observation = trace.classify(&Expected { bus_offset: Some(0x8000_0000_u64.wrapping_neg()), ..in_bar() });
    assert_eq!((observation.path, observation.dma_address_equals_physical), (PathName::HostBridgeBypass, Some(false)));
}

#[test]
fn ignores_mappings_of_other_memory() {
    let packet = "dma_map_phys: 0000:02:00.0 dir=FROM_DEVICE dma_addr=ffffe000 size=2048 phys_addr=105be000 attrs=";
    let observation = trace_of(&[MAP, BUS, packet, MAPPED]).classify(&in_bar());
    assert_eq!(observation.path, PathName::BusAddress);
    assert!(observation.evidence.contains(&"ignored mappings of other memory: 1".to_owned()));
}

#[test]
fn ignores_attributes_whose_address_lies_in_no_mapping() {
    let link = |phys: &str| format!("in_dma_iova_link: (a) phys={phys} attrs=0xc400");
    let observation = |phys| trace_of(&[BRIDGE, &link(phys), IOMMU]).classify(&in_bar()).attribute;
    assert_eq!(observation("0xf0000000").as_deref(), Some("MMIO|0xc000"));
    assert_eq!(observation("0x12345"), None);
}

#[test]
fn gives_the_reason_for_an_unknown_path() {
    let reasons = [
        (trace_of(&[]), "attached to a dma-buf"),
        (
            trace_of(&["in_dma_buf_dynamic_attach: (a)", "out_dma_buf_dynamic_attach: (a) result=-131391596624704"]),
            "did not map it",
        ),
        (trace_of(&[MAP, MAPPED]), "no event shows a call of P2PDMA"),
        (trace_of(&[MAP, BRIDGE, MAPPED]), "no event shows"),
    ];
    for (trace, text) in reasons {
        assert!(reason(&trace.classify(&in_bar())).contains(text), "{text}");
    }
    let blind = Trace { records_map_type: false, ..trace_of(&[MAP, MAPPED]) };
    assert!(reason(&blind.classify(&in_bar())).contains("does not report the map type"));
    let blind = Trace {
        missing_tracepoints: vec!["this kernel has no event iommu:map".into()],
        ..trace_of(&[MAP, BUS, MAPPED])
    };
    assert!(reason(&blind.classify(&in_bar())).contains("iommu:map"));
}

#[test]
fn a_failure_outside_of_the_mapping_is_not_a_refusal() {
    let failed = |trace: Trace, errno| trace.classify(&in_bar().failed(&io::Error::from_raw_os_error(errno)));
    // The kernel mapped the memory, then the importer failed.
    assert_eq!(failed(trace_of(&[MAP, BRIDGE, IOMMU, MAPPED]), libc::ENOMEM).path, PathName::HostBridgeTranslated);
    // The importer's driver does not support dma-bufs.
    assert_eq!(failed(trace_of(&[]), libc::EOPNOTSUPP).path, PathName::Refused);
    assert!(reason(&failed(trace_of(&[]), libc::EFAULT)).contains("EFAULT"));
    // The first mapping was refused, and the retry succeeded.
    let refused = "out_dma_buf_map_attachment: (a <- b) result=-16";
    assert_eq!(failed(trace_of(&[MAP, refused, MAP, BRIDGE, IOMMU, MAPPED]), 0).path, PathName::HostBridgeTranslated);
}

/// A kernel with all tracepoints and probes, modified by `set`.
fn kernel(set: impl FnOnce(&mut FakeTracefs)) -> Arc<FakeTracefs> {
    let mut fake = FakeTracefs::default();
    fake.thread = std::process::id();
    set(&mut fake);
    Arc::new(fake)
}

fn start(fake: &Arc<FakeTracefs>) -> Observer {
    Observer::start_in(Arc::clone(fake) as _, &ObserverOptions::default()).unwrap()
}

#[test]
fn enables_probes_only_while_recording_and_removes_everything() {
    let fake = kernel(|fake| fake.events = vec![MAP, BRIDGE, IOMMU, MAPPED]);
    let mut observer = start(&fake);
    assert_eq!(observer.missing(), [] as [String; 0]);
    assert_eq!(fake.enabled(), [] as [String; 0]);

    let recording = observer.begin(ProbeSet::Path).unwrap();
    let on = fake.enabled();
    assert!(on.contains(&"dma/dma_map_phys".into()) && on.iter().any(|on| on.ends_with("/out_pci_p2pdma_map_type")));
    assert!(!on.iter().any(|on| on.contains("unmap")), "useless for a path: {on:?}");
    assert!(fake.threads()[0].split(' ').any(|thread| thread == std::process::id().to_string()));
    let trace = recording.end().unwrap();
    assert_eq!(trace.classify(&in_bar()).path, PathName::HostBridgeTranslated);
    assert_eq!(trace.durations_ns(DmaBufOp::Map), [3000]);
    assert_eq!(fake.enabled(), [] as [String; 0]);

    drop(observer.begin(ProbeSet::Calls).unwrap());
    assert_eq!(fake.enabled(), [] as [String; 0]);

    let another = start(&fake);
    assert_eq!(fake.instances().len(), 2);
    drop((observer, another));
    assert_eq!((fake.instances(), fake.probes()), (vec![], vec![]));
}

#[test]
fn recording_calls_enables_no_path_probes() {
    let fake = kernel(|_| {});
    let mut observer = start(&fake);
    let _recording = observer.begin(ProbeSet::Calls).unwrap();
    let on = fake.enabled();
    assert!(on.iter().any(|on| on.ends_with("/in_dma_buf_unmap_attachment")));
    assert!(!on.iter().any(|on| on.contains("p2pdma") || on.contains("iova") || on.contains("phys")), "{on:?}");
}

#[test]
fn times_one_operation_with_its_own_probes_only() {
    let fake = kernel(|fake| fake.events = vec![LINK, LINKED]);
    let mut observer = start(&fake);
    let enabled = || {
        let names = fake.enabled();
        names.iter().map(|name| name.rsplit_once('/').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let recording = observer.begin(ProbeSet::Call(DmaBufOp::Link)).unwrap();
    assert_eq!(enabled(), ["timed_in_dma_iova_link", "timed_out_dma_iova_link"]);
    recording.begin_step().unwrap();
    let trace = recording.end().unwrap();
    assert_eq!(trace.durations_per_step_ns(DmaBufOp::Link), [1000]);
    assert_eq!(trace.why_untimed(DmaBufOp::Link), None);
    let recording = observer.begin(ProbeSet::Call(DmaBufOp::Detach)).unwrap();
    assert_eq!(enabled(), ["in_dma_buf_detach", "out_dma_buf_detach"]);
    drop(recording);
    // The probes of the path are on the same functions and have other names.
    let _recording = observer.begin(ProbeSet::Path).unwrap();
    assert!(enabled().iter().all(|name| !name.starts_with("timed_")), "{:?}", enabled());
}

#[test]
fn states_why_a_part_of_map_is_not_timed() {
    let fake = kernel(|fake| fake.rejects = vec!["dma_iova_sync"]);
    let mut observer = start(&fake);
    assert_eq!(observer.missing(), [] as [String; 0], "the path does not depend on it");
    let trace = observer.begin(ProbeSet::Call(DmaBufOp::Sync)).unwrap().end().unwrap();
    assert!(trace.why_untimed(DmaBufOp::Sync).is_some_and(|why| why.contains("rejected the probe on dma_iova_sync")));
    assert_eq!(trace.why_untimed(DmaBufOp::Link), None);

    let fake = kernel(|fake| fake.without_kprobes = true);
    let trace = start(&fake).begin(ProbeSet::Call(DmaBufOp::Unmap)).unwrap().end().unwrap();
    assert!(trace.why_untimed(DmaBufOp::Unmap).is_some_and(|why| why.contains("CONFIG_KPROBE_EVENTS")));
}

#[test]
fn reads_arguments_by_number_on_a_kernel_without_btf() {
    let fake = kernel(|fake| fake.rejects = vec!["attrs=attrs", "phys_vec->"]);
    let observer = start(&fake);
    assert_eq!(observer.missing(), [] as [String; 0]);
    let definitions = fake.definitions().join("\n");
    assert!(definitions.contains("dma_iova_link phys=$arg3:x64 attrs=$arg7:x64"));
    assert!(definitions.contains("dma_buf_phys_vec_to_sgt phys=+0($arg3):x64"));
}

#[test]
fn reports_missing_events_and_works_with_the_others() {
    let fake = kernel(|fake| {
        fake.without_kprobes = true;
        fake.lacks = vec!["dma_buf/dma_buf_dynamic_attach"];
        fake.events = vec![IOMMU];
    });
    let mut observer = start(&fake);
    assert_eq!(observer.missing().len(), 2);
    let observation = observer.begin(ProbeSet::Path).unwrap().end().unwrap().classify(&in_bar());
    assert_eq!(observation.path, PathName::HostBridgeTranslated);
    assert!(observation.evidence.iter().any(|line| line.contains("CONFIG_KPROBE_EVENTS")));

    let fake = kernel(|fake| fake.rejects = vec!["pci_p2pdma_map_type"]);
    assert!(start(&fake).missing()[0].contains("does not show bus-address paths"));
}

#[test]
fn a_kernel_without_the_attach_event_shows_bus_address_paths() {
    let fake = kernel(|fake| {
        fake.lacks = vec!["dma_buf/dma_buf_dynamic_attach"];
        fake.events = vec![MAP, BUS, MAPPED];
    });
    let mut observer = start(&fake);
    assert!(observer.missing()[0].contains("does not name the attached device"), "{:?}", observer.missing());
    let observation = observer.begin(ProbeSet::Path).unwrap().end().unwrap().classify(&in_bar());
    assert_eq!(observation.path, PathName::BusAddress, "{:?}", observation.evidence);

    let fake = kernel(|fake| {
        fake.lacks = vec!["iommu/map"];
        fake.events = vec![MAP, BUS, MAPPED];
    });
    let observation = start(&fake).begin(ProbeSet::Path).unwrap().end().unwrap().classify(&in_bar());
    assert_eq!(observation.path, PathName::Unknown);
}

#[test]
fn rejects_a_pid_namespace() {
    let fake = kernel(|fake| fake.thread = u32::MAX);
    let error = Observer::start_in(Arc::clone(&fake) as _, &ObserverOptions::default()).unwrap_err();
    assert!(error.explanation().why.contains("PID namespace"));
    assert_eq!((fake.instances(), fake.probes()), (vec![], vec![]));
}

#[test]
fn reports_a_missing_permission() {
    let denied = ObserveError::access("x", io::Error::from(io::ErrorKind::PermissionDenied));
    assert_eq!(denied.explanation().cause, Some(Cause::NoPermission));
}

proptest! {
    #[test]
    fn accepts_any_text(text in "(.|\n){0,400}", raw in "([0-9 ]|\n){0,100}") {
        let _ = trace((&text, &raw)).classify(&in_bar());
    }

    /// Captured traces with a piece removed or replaced.
    #[test]
    fn accepts_damaged_traces(
        which in 0..CAPTURED.len(),
        at in any::<prop::sample::Index>(),
        length in 0..200_usize,
        piece in "[ -~\n]{0,20}",
    ) {
        let (text, raw) = CAPTURED[which];
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        let damaged = format!("{}{piece}{}", &text[..start], &text[end..]);
        let _ = trace((&damaged, raw)).classify(&in_bar());
    }
}
