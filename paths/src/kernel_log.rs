//! Explains lines of the kernel log: what a message of P2PDMA, an IOMMU, AER, VFIO or a driver means for peer-to-peer DMA.
//!
//! The tables of the child modules list the messages, one module per [`Family`]. Their wording comes from the kernel's source
//! (Linux 7.2 and 7.3; the modules name the files) and from older kernels in public logs.

mod addresses;
mod aer;
mod gpu;
mod iommu;
mod message;
mod nvme;
mod p2pdma;
mod pci;
mod rdma;
mod swiotlb;
mod vfio;

use crate::{Bdf, Explanation};

pub use message::{Family, Message};

/// What a line of the kernel log means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogExplanation {
    /// Part of the kernel that wrote the line.
    pub family: Family,
    /// PCI functions that the line names, each once, in the order of the line.
    pub functions: Vec<Bdf>,
    /// Whether the line reports normal operation.
    pub routine: bool,
    /// Cause, reason and remedy. The severity is `None` if the line reports neither a refusal nor a failure.
    pub explanation: Explanation,
}

/// Tables in the order in which they are searched. A specific message precedes a general one.
const TABLES: &[&[Message]] = &[
    p2pdma::MESSAGES,
    iommu::BLOCKED_ACCESSES,
    iommu::OTHER_MESSAGES,
    swiotlb::MESSAGES,
    vfio::MESSAGES,
    gpu::MESSAGES,
    rdma::MESSAGES,
    nvme::MESSAGES,
    aer::MESSAGES,
    pci::MESSAGES,
];

/// Explains a line of the kernel log; `None` if it contains no message of the tables. Text before the message, such as a time
/// stamp, is ignored.
///
/// ```
/// use peerpath_paths::{Cause, kernel_log};
///
/// let line = "[   12.3] DMAR: [DMA Write NO_PASID] Request device [0000:03:00.0] fault addr 0x1000 \
///             [fault reason 0x05] PTE Write access is not set";
/// let meaning = kernel_log::explain(line).unwrap();
/// assert_eq!(meaning.explanation.cause, Some(Cause::IommuFault));
/// assert_eq!(meaning.functions[0].to_string(), "0000:03:00.0");
/// assert_eq!(kernel_log::explain("random: crng init done"), None);
/// ```
pub fn explain(line: &str) -> Option<LogExplanation> {
    messages().find(|message| message.matches(line)).map(|message| meaning(message, line))
}

/// Explains a line that reports an access which the IOMMU blocked; `None` for every other line. The last function of the
/// explanation is the one that issued the access: an earlier one can be the IOMMU itself.
pub fn blocked_access(line: &str) -> Option<LogExplanation> {
    iommu::BLOCKED_ACCESSES.iter().find(|message| message.matches(line)).map(|message| meaning(message, line))
}

/// The address of an access that the IOMMU blocked; `None` if the line reports no such access, or names no address.
pub fn blocked_address(line: &str) -> Option<u64> {
    let is_blocked = iommu::BLOCKED_ACCESSES.iter().any(|message| message.matches(line));
    is_blocked.then(|| addresses::blocked(line))?
}

/// Every message that [`explain`] knows, in the order of the search.
pub fn messages() -> impl Iterator<Item = &'static Message> {
    TABLES.iter().copied().flatten()
}

fn meaning(message: &Message, line: &str) -> LogExplanation {
    let functions = addresses::functions(line);
    LogExplanation {
        family: message.family,
        routine: message.routine,
        explanation: message.explanation(&functions),
        functions,
    }
}

#[cfg(test)]
mod tests;
