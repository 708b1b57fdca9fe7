//! One message of the kernel: how to recognize it, and what it means.

use crate::Severity::{self, Failed, Unavailable};
use crate::{Bdf, Cause, Explanation, capitalized};

/// Part of the kernel that writes a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// P2PDMA: whether two functions may transfer data peer-to-peer.
    P2pdma,
    /// The drivers of IOMMUs.
    Iommu,
    /// The DMA API: bounce buffers and DMA masks.
    Swiotlb,
    /// PCIe error reporting (AER) and downstream port containment (DPC).
    Aer,
    /// The PCI core: resets, power states, links, resources.
    Pci,
    /// VFIO, and programs that use it.
    Vfio,
    /// RDMA drivers.
    Rdma,
    /// GPU drivers.
    Gpu,
    /// The NVMe driver.
    Nvme,
}

impl Family {
    /// Every family, in the order of the documentation.
    pub const ALL: &[Self] = &[
        Self::P2pdma,
        Self::Iommu,
        Self::Swiotlb,
        Self::Aer,
        Self::Pci,
        Self::Vfio,
        Self::Rdma,
        Self::Gpu,
        Self::Nvme,
    ];

    /// Name of the family in JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P2pdma => "p2pdma",
            Self::Iommu => "iommu",
            Self::Swiotlb => "swiotlb",
            Self::Aer => "aer",
            Self::Pci => "pci",
            Self::Vfio => "vfio",
            Self::Rdma => "rdma",
            Self::Gpu => "gpu",
            Self::Nvme => "nvme",
        }
    }
}

/// A message of the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Part of the kernel that writes the message.
    pub family: Family,
    /// Wordings. `*` matches any text, and `$` at the end matches the end of the line. A wording can start anywhere in the line.
    pub texts: &'static [&'static str],
    /// Whether the message reports normal operation.
    pub routine: bool,
    cause: Option<Cause>,
    severity: Option<Severity>,
    why: &'static str,
    remedy: &'static str,
}

/// A placeholder for a function in a reason or a remedy.
struct Placeholder {
    text: &'static str,
    /// Selects the function from those that the log line names.
    function: fn(&[Bdf]) -> Option<&Bdf>,
    /// Noun before the address.
    noun: &'static str,
    /// Text in the reason for a log line that does not name the function.
    unnamed: &'static str,
    /// Text in a remedy, and in an explanation that is independent of a log line.
    any: &'static str,
}

const UNNAMED: &str = "a function that the line does not name";

const PLACEHOLDERS: &[Placeholder] = &[
    Placeholder { text: "{0}", function: |all| all.first(), noun: "", unnamed: UNNAMED, any: "the function" },
    Placeholder { text: "{1}", function: |all| all.get(1), noun: "", unnamed: UNNAMED, any: "the other function" },
    Placeholder { text: "{last}", function: |all| all.last(), noun: "", unnamed: UNNAMED, any: "the function" },
    Placeholder { text: "{port}", function: |all| all.first(), noun: "port ", unnamed: "the port", any: "the port" },
    Placeholder { text: "{gpu}", function: |all| all.first(), noun: "GPU ", unnamed: "the GPU", any: "the GPU" },
];

/// How a text refers to a function whose address is unknown.
#[derive(Clone, Copy)]
enum Unnamed {
    /// The text is the reason for one log line: state that the line does not name the function.
    Line,
    /// The text is a remedy, or an explanation that is independent of a log line: refer to "the function".
    Any,
}

impl Message {
    /// A message about a refusal: the kernel does not do what was requested.
    pub(super) const fn refusal(
        family: Family,
        texts: &'static [&'static str],
        cause: Cause,
        why: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self { family, texts, routine: false, cause: Some(cause), severity: Some(Unavailable), why, remedy }
    }

    /// A message about a failure of an operation that the host supports.
    pub(super) const fn failure(
        family: Family,
        texts: &'static [&'static str],
        cause: Cause,
        why: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self { family, texts, routine: false, cause: Some(cause), severity: Some(Failed), why, remedy }
    }

    /// A message about a fact that is neither a refusal nor a failure, and worth an explanation.
    pub(super) const fn fact(
        family: Family,
        texts: &'static [&'static str],
        why: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self { family, texts, routine: false, cause: None, severity: None, why, remedy }
    }

    /// A message of normal operation.
    pub(super) const fn normal(family: Family, texts: &'static [&'static str], why: &'static str) -> Self {
        Self { family, texts, routine: true, cause: None, severity: None, why, remedy: "" }
    }

    /// A refusal without a [`Cause`].
    pub(super) const fn uncaused_refusal(
        family: Family,
        texts: &'static [&'static str],
        why: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self { family, texts, routine: false, cause: None, severity: Some(Unavailable), why, remedy }
    }

    /// A failure without a [`Cause`].
    pub(super) const fn uncaused_failure(
        family: Family,
        texts: &'static [&'static str],
        why: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self { family, texts, routine: false, cause: None, severity: Some(Failed), why, remedy }
    }

    /// Whether the line contains this message.
    pub fn matches(&self, line: &str) -> bool {
        self.texts.iter().any(|text| is_in(text, line))
    }

    /// The explanation for a line that names `functions`.
    pub(super) fn explanation(&self, functions: &[Bdf]) -> Explanation {
        Explanation {
            cause: self.cause,
            severity: self.severity,
            why: completed(self.why, functions, Unnamed::Line),
            remedy: completed(self.remedy, functions, Unnamed::Any),
        }
    }

    /// The explanation of the message, independent of a log line. It names no function.
    pub fn general_explanation(&self) -> Explanation {
        Explanation { why: completed(self.why, &[], Unnamed::Any), ..self.explanation(&[]) }
    }
}

/// Replaces the placeholders of a reason or a remedy.
fn completed(text: &str, functions: &[Bdf], unnamed: Unnamed) -> String {
    let mut done = text.to_owned();
    for placeholder in PLACEHOLDERS {
        if !done.contains(placeholder.text) {
            continue;
        }
        let function = (placeholder.function)(functions);
        // In a path of sysfs, insert only the address.
        let in_path = function.map_or_else(|| "BDF".to_owned(), Bdf::to_string);
        done = done.replace(&format!("/{}/", placeholder.text), &format!("/{in_path}/"));
        let name = match (function, unnamed) {
            (Some(function), _) => format!("{}{function}", placeholder.noun),
            (None, Unnamed::Line) => placeholder.unnamed.to_owned(),
            (None, Unnamed::Any) => placeholder.any.to_owned(),
        };
        done = done.replace(placeholder.text, &name);
    }
    if !text.starts_with('{') {
        return done;
    }
    capitalized(&done)
}

/// Whether the parts of `text` between its asterisks are in `line`, in this order.
fn is_in(text: &str, line: &str) -> bool {
    let (text, at_end) = text.strip_suffix('$').map_or((text, false), |text| (text, true));
    let mut rest = if at_end { line.trim_end() } else { line };
    let mut parts = text.split('*').peekable();
    while let Some(part) = parts.next() {
        if at_end && parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_parts_in_their_order() {
        assert!(is_in("DMAR:*fault addr", "x DMAR: [DMA] fault addr 0"));
        assert!(!is_in("DMAR:*fault addr", "fault addr DMAR:"));
        assert!(!is_in("aba*aba", "ababa"), "two parts do not overlap");
        assert!(is_in("status = 1$", "rxe0: status = 1\r\n") && !is_in("status = 1$", "rxe0: status = 10"));
    }

    #[test]
    fn names_the_functions_or_says_that_they_are_missing() {
        let message = Message::fact(Family::P2pdma, &["x"], "{0} cannot reach {1}.", "Check {last}.");
        let functions = ["0000:04:00.0".parse().unwrap(), "0000:03:00.0".parse().unwrap()];
        let named = message.explanation(&functions);
        assert_eq!(named.why, "0000:04:00.0 cannot reach 0000:03:00.0.");
        assert_eq!(named.remedy, "Check 0000:03:00.0.");
        let unnamed = message.explanation(&[]);
        assert!(unnamed.why.starts_with("A function that the line does not name cannot"), "{}", unnamed.why);
        assert_eq!(unnamed.remedy, "Check the function.");
    }
}
