//! What can go wrong with an RDMA device, one variant for each thing that is done.

use std::io;

use peerpath_paths::{Cause, Explained, Explanation, Facts, Severity, Step, explain};

use super::address::AddressProblem;
use crate::{Op, TransferError, Transport};

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("there is no dma-buf to register: {source}")]
    Withheld { source: peerpath_cuda::Error },
    #[error("{text:?} is no RDMA device and port")]
    Address { text: String, source: AddressProblem },
    #[error("RDMA devices cannot be reached: libibverbs is not installed")]
    NoLibrary,
    #[error("the RDMA devices of this host could not be listed")]
    List { source: io::Error },
    #[error("there is no RDMA device {device}")]
    NoDevice { device: String, present: Vec<String> },
    #[error("{device} speaks iWARP")]
    Iwarp { device: String },
    #[error("the RDMA device {device} could not be opened")]
    Open { device: String, source: io::Error },
    #[error("the RDMA device {device} could not be asked what it can do")]
    Query { device: String, source: io::Error },
    #[error("{device} could not be asked for its port {port}")]
    QueryPort { device: String, port: u8, source: io::Error },
    #[error("port {port} of {device} is {state}")]
    PortDown { device: String, port: u8, state: &'static str, net_device: Option<String> },
    #[error("port {port} of {device} has no address")]
    NoGid { device: String, port: u8, net_device: Option<String> },
    #[error("{device} gave no protection domain")]
    ProtectionDomain { device: String, source: io::Error },
    #[error("{device} takes no dma-buf")]
    NoDmaBuf { device: String, facts: Facts, source: io::Error },
    #[error("{device} takes no dma-buf: no PCI function is under it")]
    NoFunction { device: String, net_device: Option<String> },
    #[error("{device} did not register a dma-buf of {length_bytes} bytes ({mechanism})")]
    RegisterDmaBuf { device: String, mechanism: &'static str, length_bytes: u64, facts: Facts, source: io::Error },
    #[error("{device} did not register {length_bytes} bytes of memory")]
    RegisterMemory { device: String, length_bytes: u64, source: io::Error },
    #[error("a buffer of {length_bytes} bytes is longer than this program can address")]
    TooLong { length_bytes: u64 },
    #[error("{device} did not take back a registration ({mechanism})")]
    Deregister { device: String, mechanism: &'static str, source: io::Error },
    #[error("{bytes} bytes of far-side memory could not be had")]
    FarMemory { bytes: u64, source: peerpath_exporter::Error },
    #[error("{device} cannot hold {depth} transfers at once on each of {queues} queue pair(s)")]
    Depth { device: String, depth: u32, queues: u32, limit: u32 },
    #[error("packets of {device} cannot carry {bytes} bytes")]
    Mtu { device: String, bytes: u32, most_bytes: u32 },
    #[error("port {port} of {device} has no GID {index}")]
    NoSuchGid { device: String, port: u8, index: u8 },
    #[error("`{op}` is not possible over {transport}")]
    Transport { op: Op, transport: Transport },
    #[error("{device} has no atomic operations")]
    NoAtomics { device: String },
    #[error("{device} gave no completion queue for {entries} completions")]
    CompletionQueue { device: String, entries: u32, source: io::Error },
    #[error("{device} gave no queue pair for {depth} transfers{}", with_inline(*inline_bytes))]
    QueuePair { device: String, depth: u32, inline_bytes: u32, source: io::Error },
    #[error("a queue pair of {device} could not be brought to {state}")]
    Connect { device: String, state: &'static str, source: io::Error },
    #[error("{device} cannot move {length_bytes} bytes at once")]
    Message { device: String, length_bytes: u32, limit_bytes: u32 },
    #[error("a transfer cannot be done: {why}")]
    Transfer { why: String },
    #[error("the device refused a batch of transfers")]
    Post { source: io::Error },
    #[error("the connection has ended after a failed transfer")]
    Ended,
    #[error("what the peer says of itself makes no sense here: {why}")]
    Peer { why: String },
    #[error("a receive failed")]
    Received { source: TransferError },
    #[error("the completion queue failed")]
    Poll { source: io::Error },
}

fn with_inline(bytes: u32) -> String {
    if bytes > 0 { format!(", each with up to {bytes} bytes in its work request") } else { String::new() }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// The one table of errnos; what is known about the device and the buffer matters to registrations alone.
fn explained(step: Step, source: &io::Error) -> Explanation {
    explain(step, errno(source), &Facts::default())
}

fn bring_up(net_device: Option<&String>) -> String {
    match net_device {
        Some(name) => format!("Bring the network device up: ip link set {name} up."),
        None => "Connect the port, and see that its subnet manager runs.".to_owned(),
    }
}

impl Explained for Error {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Address { source, .. } => {
                let why = source.to_string();
                Explanation::uncaused(
                    format!("An address is DEV[/PORT], and {why}."),
                    "Name a device of `rdma link`, for example verbs:rxe0 or verbs:mlx5_0/1.",
                )
            }
            Self::NoLibrary => Explanation::new(
                Cause::LibraryMissing,
                "libibverbs.so.1 is not installed, and it is what reaches RDMA devices.",
                "Install rdma-core's libraries (Debian: libibverbs1 and ibverbs-providers).",
            ),
            Self::List { source } | Self::Open { source, .. } | Self::Query { source, .. } => {
                explained(Step::OpenRdma, source)
            }
            Self::NoDevice { present, .. } => {
                let why = if present.is_empty() {
                    "This host has no RDMA device that libibverbs can drive.".to_owned()
                } else {
                    format!("The devices of this host are: {}.", present.join(", "))
                };
                Explanation::new(
                    Cause::NoDevice,
                    why,
                    "Name one of `rdma link`; `rdma link add rxe0 type rxe netdev NAME` makes a software one.",
                )
            }
            Self::Iwarp { .. } => Explanation::uncaused(
                "Queue pairs of iWARP are connected by a connection manager only, which is not used here.",
                "Use a RoCE or InfiniBand device, or rxe in place of siw.",
            ),
            Self::QueryPort { source, .. } if errno(source) == libc::EINVAL => Explanation::new(
                Cause::NoDevice,
                "The device has no such port.",
                "Leave the port away for the first one.",
            ),
            Self::QueryPort { source, .. } => explained(Step::OpenRdma, source),
            Self::PortDown { net_device, .. } => {
                Explanation::new(Cause::PortDown, "No data can flow through it.", bring_up(net_device.as_ref()))
            }
            Self::NoGid { net_device, .. } => Explanation::new(
                Cause::PortDown,
                "RoCE addresses a port by the addresses of its network device, which has none.",
                format!("{} Or give it an address.", bring_up(net_device.as_ref())),
            ),
            Self::Withheld { source } => source.explanation(),
            Self::NoDmaBuf { source, facts, .. } | Self::RegisterDmaBuf { source, facts, .. } => {
                explain(Step::RegisterDmaBuf, errno(source), facts)
            }
            Self::NoFunction { net_device, .. } => Explanation::new(
                Cause::ImporterNoDmabuf,
                match net_device {
                    Some(name) => {
                        format!("A dma-buf is attached on behalf of a PCI function, and {name} sits on none.")
                    }
                    None => "A dma-buf is attached on behalf of a PCI function.".to_owned(),
                },
                "Make the software device over a network device that is a PCI function (or virtio on one).",
            ),
            Self::RegisterMemory { source, .. } => explained(Step::RegisterMemory, source),
            Self::TooLong { .. } => {
                Explanation::new(Cause::LimitReached, "Addresses of this program are shorter.", "Use a smaller buffer.")
            }
            Self::Deregister { source, .. } => explained(Step::Deregister, source),
            Self::FarMemory { source, .. } => source.explanation(),
            Self::Depth { queues, limit: 0, .. } => Explanation::new(
                Cause::LimitReached,
                format!("The completion queue that they share has no room for {queues} queue pairs."),
                "Use fewer queue pairs; threads have completion queues of their own.",
            ),
            Self::Depth { limit, .. } => Explanation::new(
                Cause::LimitReached,
                format!("Its limit is {limit}."),
                format!("Use a depth from 1 to {limit}."),
            ),
            // Of these two, devices refuse what is too much with one answer.
            Self::QueuePair { inline_bytes: 1.., source, .. }
                if matches!(errno(source), libc::EINVAL | libc::ENOMEM) =>
            {
                Explanation::new(
                    Cause::LimitReached,
                    "Its work requests have no room for so many bytes, or its queues not for so many requests of that size.",
                    "Ask for fewer bytes with --inline, or leave it out; or use a smaller depth or fewer queue pairs.",
                )
            }
            Self::ProtectionDomain { source, .. }
            | Self::CompletionQueue { source, .. }
            | Self::QueuePair { source, .. } => explained(Step::CreateQueues, source),
            Self::Connect { source, .. } => explained(Step::ConnectQueues, source),
            Self::Mtu { most_bytes, .. } => Explanation::uncaused(
                format!("An MTU is 256, 512, 1024, 2048 or 4096 bytes, and its port carries {most_bytes} at most."),
                "Ask for another --mtu, or raise that of the link.",
            ),
            Self::NoSuchGid { device, port, .. } => Explanation::uncaused(
                "The entry is empty or there is none.",
                format!("See /sys/class/infiniband/{device}/ports/{port}/gids, or leave out --gid-index."),
            ),
            Self::Transport { transport, .. } => Explanation::uncaused(
                match transport {
                    Transport::Ud => "Datagrams carry sends alone.",
                    _ => "Without acknowledgements there are writes and sends alone.",
                },
                "Use --connection rc.",
            ),
            Self::NoAtomics { .. } => Explanation::new(
                Cause::AtomicsRefused,
                "It says so of itself.",
                "Use another device; `ibv_devinfo -v` shows atomic_cap.",
            ),
            Self::Message { limit_bytes, .. } => Explanation::new(
                Cause::LimitReached,
                format!("One message of its port has {limit_bytes} bytes at most."),
                "Use a smaller size.",
            ),
            Self::Transfer { .. } => Explanation::uncaused(
                "It does not fit the buffer, the far side or the device.",
                "Use sizes and offsets within both.",
            ),
            Self::Post { source } => explained(Step::PostTransfers, source),
            Self::Ended => Explanation::new(
                Cause::TransferFailed,
                "After an error a reliable connection carries nothing more.",
                "Set up another data plane.",
            ),
            Self::Peer { .. } => Explanation::uncaused(
                "The two ends of a connection have to fit together.",
                "Use the same peerpath on both hosts, and devices of one network.",
            ),
            Self::Received { source } => (*source.explanation).clone(),
            Self::Poll { .. } => Explanation::new(
                Cause::TransferFailed,
                "The device reports that its completion queue overflowed or broke.",
                "Look at the kernel log (dmesg) of that moment.",
            ),
        }
    }

    fn severity(&self) -> Severity {
        match self {
            // A name that is wrong among devices that are there is a slip; where there is none at all, no name would do.
            Self::NoDevice { present, .. } if present.is_empty() => Severity::Unavailable,
            Self::Address { .. }
            | Self::NoDevice { .. }
            | Self::Depth { .. }
            | Self::Mtu { .. }
            | Self::NoSuchGid { .. } => Severity::BadInput,
            Self::Withheld { source } => source.severity(),
            Self::Transport { .. } | Self::NoAtomics { .. } => Severity::Unavailable,
            Self::QueryPort { source, .. } if errno(source) == libc::EINVAL => Severity::BadInput,
            Self::NoLibrary
            | Self::List { .. }
            | Self::Iwarp { .. }
            | Self::Open { .. }
            | Self::Query { .. }
            | Self::QueryPort { .. }
            | Self::PortDown { .. }
            | Self::NoGid { .. }
            | Self::NoDmaBuf { .. }
            | Self::NoFunction { .. }
            | Self::Message { .. } => Severity::Unavailable,
            // The explanation of too many inline bytes does not come from the errno table.
            Self::QueuePair { inline_bytes: 1.., .. } if self.explanation().cause == Some(Cause::LimitReached) => {
                Severity::Unavailable
            }
            Self::ProtectionDomain { .. }
            | Self::CompletionQueue { .. }
            | Self::QueuePair { .. }
            | Self::RegisterDmaBuf { .. }
            | Self::RegisterMemory { .. }
            | Self::Deregister { .. }
            | Self::Connect { .. }
            | Self::Post { .. } => self.explanation().severity.unwrap_or(Severity::Failed),
            Self::Transfer { .. } | Self::TooLong { .. } => Severity::Internal,
            Self::FarMemory { source, .. } => source.severity(),
            Self::Ended | Self::Peer { .. } | Self::Received { .. } | Self::Poll { .. } => Severity::Failed,
        }
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        Self::new(error)
    }
}
