//! Traces taken in the lab's guest (Linux 7.2.12), and the life of an observer on a model of tracefs.

use std::io;
use std::sync::Arc;

use proptest::prelude::*;

use crate::calls;
use crate::fake_tracefs::Fake;
use crate::observer::{Observer, ObserverOptions, Watch};
use crate::operation::CallKind;
use crate::parse::{Event, parse};
use crate::trace::Trace;
use crate::{Expected, MapType, Memory, Observation};
use peerpath_paths::{Cause, Explained, PathName};

/// BAR 2 of the guest's exporter, and of the one behind the switch.
const BAR: std::ops::Range<u64> = 0xf000_0000..0xf800_0000;
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
    Trace { log, calls, sees_calls: true, sees_map_type: true, missing_tracepoints: Vec::new(), missing: Vec::new() }
}

/// A trace of these events, a line each.
fn of_events(events: &[&str]) -> Trace {
    let line = |event: &&str| format!("  <...>-7     [000] .....     1.000001: {event}\n");
    trace((&events.iter().map(line).collect::<String>(), ""))
}

fn in_bar() -> Expected {
    Expected::new(Memory::Mmio(vec![BAR]))
}

fn reason(seen: &Observation) -> &str {
    assert_eq!(seen.path, PathName::Unknown, "{seen:#?}");
    &seen.evidence[0]
}

#[test]
fn the_guests_traces_are_read_to_the_last_line_and_to_the_nanosecond() {
    for captured in CAPTURED {
        let log = parse(captured.0, captured.1);
        assert_eq!((log.lost_events, log.unreadable_lines, log.resolution_ns), (0, 0, 1), "{}", captured.0);
        let lines = captured.0.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(log.records.len(), lines);
        assert!(log.records.is_sorted_by_key(|record| record.at_ns));
    }
}

#[test]
fn translated() {
    let seen = trace(CAPTURED[0]).judge(&Expected { translated: Some(true), ..in_bar() });
    assert_eq!(seen.path, PathName::HostBridgeTranslated);
    assert_eq!(seen.attribute.as_deref(), Some("MMIO"));
    assert_eq!(seen.dma_address_equals_physical, Some(false));
    assert_eq!(seen.map_type, Some(MapType::ThroughHostBridge));
    assert_eq!(seen.mappings[0].dma_address, Some(0xffd0_0000));
    assert_eq!(
        seen.evidence,
        [
            "0000:02:00.0 attached to the dma-buf of vfio_pci_core",
            "pci_p2pdma_map_type returned THRU_HOST_BRIDGE (4)",
            "the IOMMU mapped IOVA 0xffd00000 to 0xf0000000+0x100000",
            "mapped with the attribute MMIO",
        ]
    );
}

#[test]
fn bypass() {
    for (captured, mappings) in [(CAPTURED[1], 1), (CAPTURED[2], 2)] {
        let seen = trace(captured).judge(&Expected { translated: Some(false), ..in_bar() });
        assert_eq!(seen.path, PathName::HostBridgeBypass);
        assert_eq!(seen.attribute.as_deref(), Some("MMIO"));
        assert_eq!(seen.dma_address_equals_physical, Some(true));
        assert_eq!(seen.mappings.len(), mappings);
    }
}

#[test]
fn bus_address() {
    let expected = Expected { bus_offset: Some(0x1000), ..Expected::new(Memory::Mmio(vec![SWITCH_BAR])) };
    let seen = trace(CAPTURED[3]).judge(&expected);
    assert_eq!(seen.path, PathName::BusAddress);
    assert_eq!((seen.attribute, seen.dma_address_equals_physical), (None, Some(false)));
    assert_eq!(seen.map_type, Some(MapType::BusAddress));
    assert_eq!(seen.mappings[0].dma_address, Some(0xe000_1000));
}

#[test]
fn refused_with_the_kernels_errno() {
    for (captured, errno, map_type, mappings) in [
        (CAPTURED[4], libc::EINVAL, MapType::NotSupported, 0),
        (CAPTURED[5], libc::ENOMEM, MapType::ThroughHostBridge, 1),
        (CAPTURED[6], libc::EADDRINUSE, MapType::ThroughHostBridge, 1),
    ] {
        let seen = trace(captured).judge(&in_bar().failed(&io::Error::from_raw_os_error(errno)));
        assert_eq!(seen.path, PathName::Refused);
        assert_eq!(seen.failed_calls[0].errno, Some(errno));
        assert_eq!((seen.map_type, seen.mappings.len()), (Some(map_type), mappings));
        assert_eq!(seen.dma_address_equals_physical, None);
    }
}

#[test]
fn calls_are_timed() {
    let trace = trace(CAPTURED[7]);
    assert_eq!(trace.durations_ns(CallKind::Attach), [27_250, 9_664]);
    assert_eq!(trace.durations_ns(CallKind::Map), [383_381, 59_118]);
    assert_eq!(trace.durations_ns(CallKind::Unmap), [69_663, 88_852]);
    assert_eq!(trace.durations_ns(CallKind::Detach), [13_089, 3_044]);
}

#[test]
fn without_exact_times_microseconds_do() {
    let log = parse(CAPTURED[7].0, "");
    assert_eq!(log.resolution_ns, 1000);
    assert_eq!(log.records[1].at_ns, 66_011_924_000);
    // Of another moment, so about other events.
    assert_eq!(parse(CAPTURED[7].0, CAPTURED[0].1).resolution_ns, 1000);
}

#[test]
fn any_name_of_a_task_and_any_column_is_read_over() {
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
fn lost_events_are_counted_and_nothing_rests_on_their_absence() {
    let (text, raw) = CAPTURED[3];
    let lossy = text.replace("10/10", "10/15");
    let seen = trace((&lossy, raw)).judge(&Expected::new(Memory::Mmio(vec![SWITCH_BAR])));
    assert!(reason(&seen).contains("events were lost"));
    assert_eq!(parse("CPU:1 [LOST 3 EVENTS]\n", "").lost_events, 3);
}

const BUS: &str = "out_pci_p2pdma_map_type: (a <- b) result=3";
const BRIDGE: &str = "out_pci_p2pdma_map_type: (a <- b) result=4";
const MAPPED: &str = "out_dma_buf_map_attachment: (a <- b) result=-131391596624704";
const MAP: &str = "in_dma_buf_map_attachment: (a)";
const IOMMU: &str = "map: IOMMU: iova=0x1000 - 0x3000 paddr=0xf0000000 size=8192";

#[test]
fn what_contradicts_itself_is_unknown() {
    let direct =
        "dma_map_phys: 0000:02:00.0 dir=BIDIRECTIONAL dma_addr=f0000000 size=8192 phys_addr=f0000000 attrs=MMIO";
    let both = of_events(&[MAP, BUS, direct, MAPPED]).judge(&in_bar());
    assert!(reason(&both).contains("BUS_ADDR"));
    let answers = of_events(&[MAP, BUS, BRIDGE, MAPPED]).judge(&in_bar());
    assert!(reason(&answers).contains("different answers"));
    let translated = of_events(&[MAP, BRIDGE, direct, MAPPED]).judge(&Expected { translated: Some(true), ..in_bar() });
    assert!(reason(&translated).contains("translates"));
    let identity = of_events(&[MAP, BRIDGE, IOMMU, MAPPED]).judge(&Expected { translated: Some(false), ..in_bar() });
    assert!(reason(&identity).contains("does not translate"));
    let number = of_events(&[MAP, "out_pci_p2pdma_map_type: (a <- b) result=9", MAPPED]).judge(&in_bar());
    assert!(reason(&number).contains('9'));
}

#[test]
fn a_bus_address_of_other_memory_is_not_taken_for_ours() {
    let ranges = |phys: &str, offset: &str| {
        format!("in_dma_buf_phys_vec_to_sgt: (a) device=\"0000:07:00.0\"{offset} phys={phys} length=8192 count=1")
    };
    let seen = |ranges: &str| of_events(&[MAP, ranges, BUS, MAPPED]).judge(&in_bar());
    let ours = seen(&ranges("0xf0001000", " bus_offset=0x0"));
    assert_eq!((ours.path, ours.dma_address_equals_physical), (PathName::BusAddress, Some(true)));
    assert_eq!(ours.mappings[0].device.as_deref(), Some("0000:07:00.0"));
    assert!(reason(&seen(&ranges("0x12345000", " bus_offset=0x0"))).contains("0x12345000"));
    // Without names for the arguments, what was read may be anything.
    assert_eq!(seen(&ranges("0x12345000", "")).path, PathName::BusAddress);
    assert_eq!(seen("in_dma_buf_phys_vec_to_sgt: (a) device=(fault)").path, PathName::BusAddress);
}

#[test]
fn the_dma_api_may_map_through_the_iommu() {
    let direct = "dma_map_phys: 0000:02:00.0 dir=BIDIRECTIONAL dma_addr=2000 size=4096 phys_addr=f0001000 attrs=MMIO";
    let seen = of_events(&[BRIDGE, IOMMU, direct]).judge(&in_bar());
    assert_eq!((seen.path, seen.dma_address_equals_physical), (PathName::HostBridgeTranslated, Some(false)));
    let alone = of_events(&[BRIDGE, direct]).judge(&in_bar());
    assert!(reason(&alone).contains("0x2000"));
}

#[test]
fn a_host_bridge_that_shifts_addresses_is_accounted_for() {
    let direct =
        "dma_map_phys: 0000:02:00.0 dir=BIDIRECTIONAL dma_addr=70000000 size=4096 phys_addr=f0000000 attrs=MMIO";
    let trace = of_events(&[BRIDGE, direct]);
    assert!(reason(&trace.judge(&in_bar())).contains("0x70000000"));
    let seen = trace.judge(&Expected { bus_offset: Some(0x8000_0000_u64.wrapping_neg()), ..in_bar() });
    assert_eq!((seen.path, seen.dma_address_equals_physical), (PathName::HostBridgeBypass, Some(false)));
}

#[test]
fn mappings_of_other_memory_do_not_count() {
    let packet = "dma_map_phys: 0000:02:00.0 dir=FROM_DEVICE dma_addr=ffffe000 size=2048 phys_addr=105be000 attrs=";
    let seen = of_events(&[MAP, BUS, packet, MAPPED]).judge(&in_bar());
    assert_eq!(seen.path, PathName::BusAddress);
    assert!(seen.evidence.contains(&"mappings of other memory, left out here: 1".to_owned()));
}

#[test]
fn an_attribute_taken_from_the_wrong_argument_is_not_believed() {
    let link = |phys: &str| format!("in_dma_iova_link: (a) phys={phys} attrs=0xc400");
    let seen = |phys| of_events(&[BRIDGE, &link(phys), IOMMU]).judge(&in_bar()).attribute;
    assert_eq!(seen("0xf0000000").as_deref(), Some("MMIO|0xc000"));
    assert_eq!(seen("0x12345"), None);
}

#[test]
fn what_did_not_happen_is_said() {
    let reasons = [
        (of_events(&[]), "attached to a dma-buf"),
        (
            of_events(&["in_dma_buf_dynamic_attach: (a)", "out_dma_buf_dynamic_attach: (a) result=-131391596624704"]),
            "did not map it",
        ),
        (of_events(&[MAP, MAPPED]), "without asking p2pdma"),
        (of_events(&[MAP, BRIDGE, MAPPED]), "no event shows"),
    ];
    for (trace, words) in reasons {
        assert!(reason(&trace.judge(&in_bar())).contains(words), "{words}");
    }
    let blind = Trace { sees_map_type: false, ..of_events(&[MAP, MAPPED]) };
    assert!(reason(&blind.judge(&in_bar())).contains("could not be watched"));
    let blind = Trace {
        missing_tracepoints: vec!["this kernel has no event iommu:map".into()],
        ..of_events(&[MAP, BUS, MAPPED])
    };
    assert!(reason(&blind.judge(&in_bar())).contains("iommu:map"));
}

#[test]
fn failures_around_the_mapping_are_no_refusals_of_it() {
    let failed = |trace: Trace, errno| trace.judge(&in_bar().failed(&io::Error::from_raw_os_error(errno)));
    // Mapped, and then the importer could not go on.
    assert_eq!(failed(of_events(&[MAP, BRIDGE, IOMMU, MAPPED]), libc::ENOMEM).path, PathName::HostBridgeTranslated);
    // No dma-buf operation in the driver.
    assert_eq!(failed(of_events(&[]), libc::EOPNOTSUPP).path, PathName::Refused);
    assert!(reason(&failed(of_events(&[]), libc::EFAULT)).contains("EFAULT"));
    // Refused, tried again, mapped.
    let refused = "out_dma_buf_map_attachment: (a <- b) result=-16";
    assert_eq!(failed(of_events(&[MAP, refused, MAP, BRIDGE, IOMMU, MAPPED]), 0).path, PathName::HostBridgeTranslated);
}

/// A kernel that has everything, but for what `set` changes.
fn kernel(set: impl FnOnce(&mut Fake)) -> Arc<Fake> {
    let mut fake = Fake::default();
    fake.thread = std::process::id();
    set(&mut fake);
    Arc::new(fake)
}

fn start(fake: &Arc<Fake>) -> Observer {
    Observer::start_in(Arc::clone(fake) as _, &ObserverOptions::default()).unwrap()
}

#[test]
fn nothing_is_on_outside_of_a_watch_and_nothing_stays_behind() {
    let fake = kernel(|fake| fake.happens = vec![MAP, BRIDGE, IOMMU, MAPPED]);
    let mut observer = start(&fake);
    assert_eq!(observer.missing(), [] as [String; 0]);
    assert_eq!(fake.switched_on(), [] as [String; 0]);

    let watching = observer.begin(Watch::Path).unwrap();
    let on = fake.switched_on();
    assert!(on.contains(&"dma/dma_map_phys".into()) && on.iter().any(|on| on.ends_with("/out_pci_p2pdma_map_type")));
    assert!(!on.iter().any(|on| on.contains("unmap")), "not of use for a path: {on:?}");
    assert!(fake.threads()[0].split(' ').any(|thread| thread == std::process::id().to_string()));
    let trace = watching.end().unwrap();
    assert_eq!(trace.judge(&in_bar()).path, PathName::HostBridgeTranslated);
    assert_eq!(trace.durations_ns(CallKind::Map), [3000]);
    assert_eq!(fake.switched_on(), [] as [String; 0]);

    drop(observer.begin(Watch::Times).unwrap());
    assert_eq!(fake.switched_on(), [] as [String; 0]);

    let another = start(&fake);
    assert_eq!(fake.instances().len(), 2);
    drop((observer, another));
    assert_eq!((fake.instances(), fake.probes()), (vec![], vec![]));
}

#[test]
fn times_are_taken_without_probes_inside_of_the_calls() {
    let fake = kernel(|_| {});
    let mut observer = start(&fake);
    let _watching = observer.begin(Watch::Times).unwrap();
    let on = fake.switched_on();
    assert!(on.iter().any(|on| on.ends_with("/in_dma_buf_unmap_attachment")));
    assert!(!on.iter().any(|on| on.contains("p2pdma") || on.contains("iova") || on.contains("phys")), "{on:?}");
}

#[test]
fn a_kernel_without_btf_is_asked_for_arguments_by_number() {
    let fake = kernel(|fake| fake.refuses = vec!["attrs=attrs", "phys_vec->"]);
    let observer = start(&fake);
    assert_eq!(observer.missing(), [] as [String; 0]);
    let definitions = fake.definitions().join("\n");
    assert!(definitions.contains("dma_iova_link phys=$arg3:x64 attrs=$arg7:x64"));
    assert!(definitions.contains("dma_buf_phys_vec_to_sgt phys=+0($arg3):x64"));
}

#[test]
fn what_a_kernel_lacks_is_said_and_the_rest_still_works() {
    let fake = kernel(|fake| {
        fake.without_kprobes = true;
        fake.lacks = vec!["dma_buf/dma_buf_dynamic_attach"];
        fake.happens = vec![IOMMU];
    });
    let mut observer = start(&fake);
    assert_eq!(observer.missing().len(), 2);
    let seen = observer.begin(Watch::Path).unwrap().end().unwrap().judge(&in_bar());
    assert_eq!(seen.path, PathName::HostBridgeTranslated);
    assert!(seen.evidence.iter().any(|line| line.contains("CONFIG_KPROBE_EVENTS")));

    let fake = kernel(|fake| fake.refuses = vec!["pci_p2pdma_map_type"]);
    assert!(start(&fake).missing()[0].contains("bus-address path cannot be told"));
}

#[test]
fn threads_with_other_numbers_are_not_observed() {
    let fake = kernel(|fake| fake.thread = u32::MAX);
    let error = Observer::start_in(Arc::clone(&fake) as _, &ObserverOptions::default()).unwrap_err();
    assert!(error.explanation().why.contains("PID namespace"));
    assert_eq!((fake.instances(), fake.probes()), (vec![], vec![]));
}

#[test]
fn without_permission_it_says_so() {
    let denied = crate::Unobservable::access("x", io::Error::from(io::ErrorKind::PermissionDenied));
    assert_eq!(denied.explanation().cause, Some(Cause::NoPermission));
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "(.|\n){0,400}", raw in "([0-9 ]|\n){0,100}") {
        let _ = trace((&text, &raw)).judge(&in_bar());
    }

    /// Real traces with a piece cut out or replaced.
    #[test]
    fn damaged_traces_are_answered(
        which in 0..CAPTURED.len(),
        at in any::<prop::sample::Index>(),
        length in 0..200_usize,
        piece in "[ -~\n]{0,20}",
    ) {
        let (text, raw) = CAPTURED[which];
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        let damaged = format!("{}{piece}{}", &text[..start], &text[end..]);
        let _ = trace((&damaged, raw)).judge(&in_bar());
    }
}
