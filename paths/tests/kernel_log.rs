//! The explanations of kernel log lines, on lines that kernels wrote.

use std::path::PathBuf;

use peerpath_paths::kernel_log::{self, Family};
use proptest::prelude::*;

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel-log").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `lab.txt`: one line of each form that the guests of the lab wrote about P2PDMA, an IOMMU, swiotlb, AER, VFIO or RDMA.
#[test]
fn recognizes_every_line_of_the_lab() {
    let text = fixture("lab.txt");
    let unknown: Vec<_> = text.lines().filter(|line| kernel_log::explain(line).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// `unrelated.txt`: other lines of the same logs.
#[test]
fn recognizes_no_line_about_other_subjects() {
    let text = fixture("unrelated.txt");
    let known: Vec<_> = text.lines().filter(|line| kernel_log::explain(line).is_some()).collect();
    assert!(known.is_empty(), "{known:#?}");
}

/// `published.txt`: family, cause and line. The lines are those of public bug reports and of the kernel's format strings, with
/// other numbers.
#[test]
fn finds_family_and_cause_of_published_lines() {
    for row in fixture("published.txt").lines() {
        let mut fields = row.splitn(3, '|');
        let [family, cause, line] = std::array::from_fn(|_| fields.next().unwrap_or_else(|| panic!("{row}")));
        let meaning = kernel_log::explain(line).unwrap_or_else(|| panic!("not recognized: {line}"));
        let found = meaning.explanation.cause.map_or("-", |cause| cause.as_str());
        assert_eq!((meaning.family.as_str(), found), (family, cause), "{line}");
        assert!(!meaning.routine && !meaning.explanation.remedy.is_empty(), "{line}");
    }
}

#[test]
fn names_the_functions_of_a_line() {
    let meaning = kernel_log::explain(
        "nvme 0000:04:00.0: cannot be used for peer-to-peer DMA as the client and provider (0000:03:00.0) do not share an \
         upstream bridge or whitelisted host bridge",
    )
    .unwrap();
    assert_eq!(meaning.functions.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0000:04:00.0", "0000:03:00.0"]);
    let why = meaning.explanation.why;
    assert!(why.contains("between 0000:04:00.0 and the memory of 0000:03:00.0"), "{why}");
}

#[test]
fn the_remedy_does_not_blame_arguments_or_mappings_for_other_reasons() {
    let remedy = |line: &str| kernel_log::explain(line).unwrap().explanation.remedy;
    let command = |status: &str| {
        remedy(&format!(
            "mlx5_core 0000:41:00.0: mlx5_cmd_out_err:816:(pid 1): CREATE_MKEY(0x200) op_mod(0x0) failed, status {status}"
        ))
    };
    assert!(command("bad parameter(0x3), syndrome (0x1), err(-22)").contains("access flags"));
    for status in ["no resources(0xf)", "limits exceeded(0x8)", "internal error(0x1)", "bad system state(0x4)"] {
        let text = command(&format!("{status}, syndrome (0x1), err(-12)"));
        assert!(!text.contains("access flags"), "{status}: {text}");
    }
    for reason in
        ["04] Access beyond MGAW", "0c] non-zero reserved fields in PTE", "07] Next page table ptr is invalid"]
    {
        for before in ["[DMA Read NO_PASID] Request device [0000:c1:00.0] fault addr 0x1000 ", ""] {
            let text = remedy(&format!("DMAR: {before}[fault reason 0x{reason}"));
            assert!(!text.contains("the buffer was mapped"), "{reason}: {text}");
        }
    }
}

#[test]
fn every_message_is_complete_and_found_by_its_own_wording() {
    for (index, message) in kernel_log::messages().enumerate() {
        let explanation = message.general_explanation();
        let texts = message.texts;
        assert!(explanation.why.ends_with('.'), "{texts:?}");
        assert_eq!(explanation.remedy.is_empty(), message.routine, "{texts:?}");
        assert!(message.routine || explanation.remedy.ends_with('.'), "{texts:?}");
        assert!(!(explanation.why + &explanation.remedy).contains(['{', '}']), "{texts:?}");
        for text in texts {
            // An asterisk matches any text, including a number.
            let line = text.trim_end_matches('$').replace('*', "0");
            let first = kernel_log::messages().position(|other| other.matches(&line));
            assert!(first.is_some_and(|first| first <= index), "{text}");
        }
        // A general message before a specific one would hide it.
        let reached = texts.iter().any(|text| {
            let line = text.trim_end_matches('$').replace('*', "0");
            kernel_log::messages().position(|other| other.matches(&line)) == Some(index)
        });
        assert!(reached, "hidden by an earlier message: {texts:?}");
    }
    let has = |family: &Family| kernel_log::messages().any(|message| message.family == *family);
    let missing: Vec<_> = Family::ALL.iter().filter(|family| !has(family)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A message of the tables with its asterisks replaced, after other text.
fn filled() -> impl Strategy<Value = String> {
    let texts: Vec<&str> = kernel_log::messages().flat_map(|message| message.texts.iter().copied()).collect();
    (prop::sample::select(texts), ".{0,40}", ".{0,40}")
        .prop_map(|(text, before, inside)| format!("{before}{}", text.trim_end_matches('$').replace('*', &inside)))
}

proptest! {
    #[test]
    fn accepts_any_line(line in ".{0,300}") {
        let _ = kernel_log::explain(&line);
    }

    #[test]
    fn recognizes_every_message_with_any_text_in_it(line in filled()) {
        prop_assert!(kernel_log::explain(&line).is_some());
    }
}
