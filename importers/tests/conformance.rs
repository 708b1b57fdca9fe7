//! Checks every built-in importer. Runs on any machine, also without the libraries, kernel support, devices or root.

use std::collections::HashSet;

use peerpath_importers::{Availability, Error, IMPORTERS, Importer, Op, QueuePairOptions, Role, parse_target};
use peerpath_paths::{Explained, Explanation};

fn each() -> impl Iterator<Item = &'static dyn Importer> {
    IMPORTERS.iter().copied()
}

fn assert_explained(explanation: &Explanation) {
    assert!(explanation.why.ends_with('.'), "not a sentence: {explanation:?}");
    assert!(explanation.remedy.ends_with('.'), "not a sentence: {explanation:?}");
}

fn assert_readable(error: &Error) {
    let message = error.to_string();
    assert!(!message.is_empty() && !message.ends_with('.') && !message.contains('\n'), "{message:?}");
    assert_explained(&error.explanation());
}

/// Addresses that name no device: malformed, or of a device that does not exist.
const NONSENSE: [&str; 12] = [
    "",
    "/",
    "//1",
    "no-such-device",
    "no-such-device/1",
    "no-such-device/0",
    "no-such-device/256",
    "../../etc/passwd",
    "..",
    "a b",
    "\0",
    "ZZZZ:99:99.9",
];

#[test]
fn kinds_are_distinct_words_that_parse() {
    let mut kinds = HashSet::new();
    for importer in each() {
        let kind = importer.kind();
        assert!(!kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase()), "{kind:?}");
        assert!(kinds.insert(kind), "two importers have the kind {kind}");
        let text = format!("{kind}:x");
        let (found, address) = parse_target(&text).unwrap();
        assert_eq!((found.kind(), address), (kind, "x"));
    }
}

#[test]
fn help_texts_are_single_lines() {
    for importer in each() {
        assert!(importer.usage().form.starts_with(&format!("{}:", importer.kind())), "{}", importer.usage().form);
        for text in [importer.usage().form, importer.usage().summary]
            .into_iter()
            .chain(importer.capabilities().ops.iter().map(|op| op.summary))
        {
            assert!(!text.trim().is_empty() && !text.contains('\n') && text.len() <= 100, "{text:?}");
        }
    }
}

#[test]
fn ops_are_unique_and_match_their_roles() {
    for importer in each() {
        let names: Vec<_> = importer.capabilities().ops.iter().map(|spec| spec.op).collect();
        assert_eq!(names.len(), names.iter().collect::<HashSet<_>>().len(), "{}", importer.kind());
        let place = |op| names.iter().position(|name| *name == op);
        for spec in importer.capabilities().ops {
            match spec.op {
                Op::Export => assert_eq!(spec.role, Role::Export),
                Op::Attach => assert_eq!(spec.role, Role::Attach),
                // An importer whose registration is only a mapping has the op `map` instead of `register`.
                Op::Map if place(Op::Register).is_some() => assert_eq!(spec.role, Role::Map),
                Op::Map => assert_eq!(spec.role, Role::Register),
                Op::Allocate => assert_eq!(spec.role, Role::Allocate),
                Op::Link => assert_eq!(spec.role, Role::Link),
                Op::Sync => assert_eq!(spec.role, Role::Sync),
                Op::Register => assert_eq!(spec.role, Role::Register),
                Op::Unmap if place(Op::Unregister).is_some() => assert_eq!(spec.role, Role::Unmap),
                Op::Unregister | Op::Unmap => assert_eq!(spec.role, Role::Unregister),
                Op::Detach => assert_eq!(spec.role, Role::Detach),
                Op::RevokeReset | Op::RevokeMemoryOff | Op::RevokeD3 | Op::RevokeHotReset | Op::RevokeClose => {
                    assert!(matches!(spec.role, Role::Revoke(kind) if kind.op() == spec.op), "{}", spec.op);
                }
                _ => assert!(matches!(spec.role, Role::Transfer(_)), "{}: {}", importer.kind(), spec.op),
            }
        }
        let of_role = |role| importer.capabilities().ops.iter().position(|spec| spec.role == role);
        let (first, last) = (of_role(Role::Register), of_role(Role::Unregister));
        let transfers = importer.capabilities().ops.iter().filter(|spec| matches!(spec.role, Role::Transfer(_)));
        for spec in transfers {
            assert!(first < place(spec.op) && place(spec.op) < last, "{}", spec.op);
        }
    }
}

#[test]
fn rejects_addresses_without_a_device() {
    for importer in each() {
        for address in NONSENSE {
            match importer.probe(address) {
                Ok(Availability::Waived(explanation)) => assert_explained(&explanation),
                Ok(other) => panic!("{}:{address:?} is {other:?}", importer.kind()),
                Err(error) => assert_readable(&error),
            }
            match importer.open(address, &QueuePairOptions::default()) {
                Ok(device) => panic!("{}:{address:?} was opened: {:?}", importer.kind(), device.info()),
                Err(error) => assert_readable(&error),
            }
        }
    }
}

#[test]
fn discovered_devices_can_be_probed() {
    for importer in each() {
        for found in importer.discover() {
            let (same, address) = parse_target(&found.target).unwrap();
            assert_eq!(same.kind(), importer.kind());
            match importer.probe(address) {
                Ok(Availability::Ready) => {
                    let device = importer.open(address, &QueuePairOptions::default()).unwrap();
                    assert_eq!(device.info().bdf, found.bdf);
                    assert!(found.target.contains(&device.info().name));
                }
                Ok(Availability::HostMemoryOnly(explanation) | Availability::Waived(explanation)) => {
                    assert_explained(&explanation);
                }
                Err(error) => panic!("{} was discovered but: {error}", found.target),
            }
        }
    }
}

#[test]
fn discovery_is_safe_from_several_threads() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for importer in each() {
                    let _ = importer.discover();
                    let _ = importer.probe("no-such-device");
                }
            });
        }
    });
}
