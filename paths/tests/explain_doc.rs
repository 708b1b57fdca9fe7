//! `docs/explain.md` lists every errno and message that the tables explain.

#[path = "support/document.rs"]
mod document;

use std::fmt::Write as _;

use peerpath_paths::kernel_log::{self, Family, Message};
use peerpath_paths::{Cause, Explanation, Severity, Step, documented_errnos, errno_name};

#[test]
fn the_document_agrees_with_the_tables() {
    document::agrees("explain.md", &text());
}

fn text() -> String {
    let mut text = INTRODUCTION.to_owned();
    text += "## Steps\n\n| step | meaning | other words |\n|---|---|---|\n";
    for step in Step::all() {
        let aliases: Vec<_> = step.aliases().iter().map(|alias| format!("`{alias}`")).collect();
        let _ = writeln!(text, "| `{}` | {} | {} |", step.name(), step.as_str(), aliases.join(" "));
    }
    text += ERRNOS;
    for errno in documented_errnos() {
        let name = errno_name(errno.errno).unwrap_or_else(|| errno.errno.to_string());
        let step = errno.step.map_or("any other".to_owned(), |step| format!("`{}`", step.name()));
        let only = if errno.conditional { "\\*" } else { "" };
        let severity = errno.explanation.severity.map_or("-", Severity::as_str);
        let Explanation { cause, why, remedy, .. } = &errno.explanation;
        let _ = writeln!(
            text,
            "| {name}{only} | {step} | {} | {severity} | {} | {} |",
            word(*cause),
            cell(why),
            cell(remedy)
        );
    }
    text += KERNEL_LOG;
    for family in Family::ALL {
        let _ = write!(text, "\n### {}\n\n| line | cause | meaning | remedy |\n|---|---|---|---|\n", title(*family));
        for message in kernel_log::messages().filter(|message| message.family == *family && !message.routine) {
            let Explanation { cause, why, remedy, .. } = message.general_explanation();
            let _ = writeln!(text, "| {} | {} | {} | {} |", wordings(message), word(cause), cell(&why), cell(&remedy));
        }
        let routine: Vec<_> =
            kernel_log::messages().filter(|message| message.family == *family && message.routine).collect();
        if !routine.is_empty() {
            text += "\nNormal operation:\n";
        }
        for message in routine {
            let _ = writeln!(text, "- {} {}", cell(&message.general_explanation().why), wordings(message));
        }
    }
    text
}

fn word(cause: Option<Cause>) -> String {
    cause.map_or_else(|| "-".to_owned(), |cause| format!("`{cause}`"))
}

fn wordings(message: &Message) -> String {
    let text = |text: &&str| format!("`{}`", text.trim_end_matches('$').trim().replace('*', "…").replace('\t', " "));
    let mut texts: Vec<_> = message.texts.iter().map(text).collect();
    // Wordings that differ only in `$` or a trailing space are the same in the document.
    texts.dedup();
    cell(&texts.join(", "))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn title(family: Family) -> &'static str {
    match family {
        Family::P2pdma => "P2PDMA",
        Family::Iommu => "IOMMU",
        Family::Swiotlb => "Bounce buffers and DMA masks",
        Family::Aer => "PCIe errors (AER, DPC)",
        Family::Pci => "PCI core",
        Family::Vfio => "VFIO",
        Family::Rdma => "RDMA",
        Family::Gpu => "GPU drivers",
        Family::Nvme => "NVMe",
    }
}

const INTRODUCTION: &str = "\
# What `peerpath explain` knows

`peerpath explain ERRNO --step STEP` explains an errno of the kernel, and `dmesg | peerpath explain` explains lines of the kernel
log. This document lists every errno and every line with an explanation. A test generates it from the tables in
`paths/src/explain/` and `paths/src/kernel_log/`. Do not edit it by hand: `PEERPATH_BLESS=1 cargo test -p peerpath-paths --test
explain_doc` rewrites it.

";

const ERRNOS: &str = "
## Errnos

The severity `unavailable` means that this host or configuration does not support the operation. `failed` means that the operation
is supported, but failed. An asterisk marks a meaning that depends on more facts: the driver of the importer (`--driver`), the kind
of memory (`--source`), or facts that only a run knows, such as the type of the IOMMU domain. For one errno and step, the first row
that applies counts.

| errno | step | cause | severity | meaning | remedy |
|---|---|---|---|---|---|
";

const KERNEL_LOG: &str = "
## Lines of the kernel log

`…` matches any text. A line can begin with a time stamp or the prefix of a journal. The first message that a line contains
counts. A cause of `-` means that no cause word applies.
";
