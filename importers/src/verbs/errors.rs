//! Errors of the importer of RDMA devices, one variant per failed operation.

use std::io;

use peerpath_paths::{Cause, Explained, Explanation, Facts, Severity, Step, explain};

use super::address::{AddressError, FORM};
use crate::{Op, TransferError, Transport};

/// Error of the importer of RDMA devices. Each variant names the operation that failed; [`Error::cause`] and the explanation
/// give the reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The GPU that owns the memory exports no dma-buf.
    #[error("cannot register GPU memory without a dma-buf: {source}")]
    GpuNotExported {
        /// Error of the CUDA driver's export.
        source: peerpath_cuda::Error,
    },
    /// The address of a device is malformed.
    #[error("cannot use {target:?} as a target")]
    Address {
        /// Target with this address, truncated for display.
        target: String,
        /// Reason why the text is not an address.
        source: AddressError,
    },
    /// libibverbs is not installed.
    #[error("cannot use RDMA devices: libibverbs is not installed")]
    NoLibrary,
    /// libibverbs cannot list the devices.
    #[error("cannot list the RDMA devices of this host")]
    List {
        /// Errno of `ibv_get_device_list`.
        source: io::Error,
    },
    /// The device does not exist.
    #[error("cannot find the RDMA device {device}")]
    NoDevice {
        /// Requested device name.
        device: String,
        /// Names of the RDMA devices of this host.
        present: Vec<String>,
    },
    /// The kernel has the device, but libibverbs does not list it.
    #[error("cannot use the RDMA device {device}: libibverbs does not list it")]
    NotListed {
        /// Name of the device.
        device: String,
    },
    /// The device uses iWARP, which is not supported.
    #[error("cannot connect queue pairs of {device}: it uses iWARP")]
    Iwarp {
        /// Name of the device.
        device: String,
    },
    /// The device cannot be opened.
    #[error("cannot open the RDMA device {device}")]
    Open {
        /// Name of the device.
        device: String,
        /// Errno of `ibv_open_device`.
        source: io::Error,
    },
    /// The limits of the device cannot be queried.
    #[error("cannot query the RDMA device {device}")]
    Query {
        /// Name of the device.
        device: String,
        /// Errno of `ibv_query_device`.
        source: io::Error,
    },
    /// The state of the port cannot be queried.
    #[error("cannot query port {port} of {device}")]
    QueryPort {
        /// Name of the device.
        device: String,
        /// Port number.
        port: u8,
        /// Errno of `ibv_query_port`.
        source: io::Error,
    },
    /// The port is not active.
    #[error("cannot use port {port} of {device}: its state is {state}")]
    PortDown {
        /// Name of the device.
        device: String,
        /// Port number.
        port: u8,
        /// State of the port, e.g. `DOWN` for `IBV_PORT_DOWN`.
        state: &'static str,
        /// Network device of the port, if any.
        net_device: Option<String>,
    },
    /// The port of an Ethernet link has no GID.
    #[error("cannot use port {port} of {device}: it has no GID")]
    NoGid {
        /// Name of the device.
        device: String,
        /// Port number.
        port: u8,
        /// Network device of the port, if any.
        net_device: Option<String>,
    },
    /// The device cannot allocate a protection domain.
    #[error("cannot allocate a protection domain of {device}")]
    ProtectionDomain {
        /// Name of the device.
        device: String,
        /// Errno of `ibv_alloc_pd`.
        source: io::Error,
    },
    /// The device cannot register dma-bufs.
    #[error("{device} cannot register dma-bufs")]
    NoDmaBuf {
        /// Name of the device.
        device: String,
        /// Facts about the device that distinguish the causes of one errno.
        facts: Facts,
        /// Errno of a trial registration with fd -1.
        source: io::Error,
    },
    /// The device has no PCI function. The kernel attaches a dma-buf to the PCI function of the importer.
    #[error("{device} cannot register dma-bufs: it has no PCI function")]
    NoFunction {
        /// Name of the device.
        device: String,
        /// Network device of the RDMA device, if any.
        net_device: Option<String>,
    },
    /// The library or the kernel refused to register a dma-buf.
    #[error("{device} cannot register a dma-buf of {length_bytes} bytes ({mechanism})")]
    RegisterDmaBuf {
        /// Name of the device.
        device: String,
        /// Call that failed, as results name it.
        mechanism: &'static str,
        /// Length of the dma-buf, in bytes.
        length_bytes: u64,
        /// Facts about importer and exporter that distinguish the causes of one errno.
        facts: Facts,
        /// Errno of the call.
        source: io::Error,
    },
    /// The kernel refused to register host memory.
    #[error("{device} cannot register {length_bytes} bytes of memory")]
    RegisterMemory {
        /// Name of the device.
        device: String,
        /// Length of the memory, in bytes.
        length_bytes: u64,
        /// Errno of `ibv_reg_mr`.
        source: io::Error,
    },
    /// The buffer is longer than the address space of this process.
    #[error("cannot register a buffer of {length_bytes} bytes: it exceeds the address space of this process")]
    TooLong {
        /// Length of the buffer, in bytes.
        length_bytes: u64,
    },
    /// The kernel refused to deregister a buffer.
    #[error("{device} cannot deregister a buffer ({mechanism})")]
    Deregister {
        /// Name of the device.
        device: String,
        /// Mechanism of the registration, as results name it.
        mechanism: &'static str,
        /// Errno of the call.
        source: io::Error,
    },
    /// Initiator memory (host memory that the buffer exchanges data with) cannot be allocated.
    #[error("cannot allocate {bytes} bytes of initiator memory")]
    FarMemory {
        /// Length of the memory, in bytes.
        bytes: u64,
        /// Error of the allocation.
        source: peerpath_exporter::Error,
    },
    /// The depth exceeds the queues of the device.
    #[error("{device} cannot have {depth} transfers in flight on each of {queues} queue pair(s)")]
    Depth {
        /// Name of the device.
        device: String,
        /// Requested number of transfers in flight per queue pair.
        depth: u32,
        /// Number of queue pairs.
        queues: u32,
        /// Maximum depth; 0 if the completion queue has no room for all queue pairs.
        limit: u32,
    },
    /// The port does not support this MTU.
    #[error("{device} cannot send packets of {bytes} bytes")]
    Mtu {
        /// Name of the device.
        device: String,
        /// Requested MTU, in bytes.
        bytes: u32,
        /// MTU of the port, in bytes.
        max_bytes: u32,
    },
    /// The port has no GID at this index.
    #[error("port {port} of {device} has no GID {index}")]
    NoSuchGid {
        /// Name of the device.
        device: String,
        /// Port number.
        port: u8,
        /// Requested index in the GID table.
        index: u8,
    },
    /// The transport does not support the operation.
    #[error("cannot perform `{op}` over {transport}")]
    Transport {
        /// Operation of the transfer.
        op: Op,
        /// Transport of the queue pair.
        transport: Transport,
    },
    /// The device does not support atomic operations.
    #[error("{device} does not support atomic operations")]
    NoAtomics {
        /// Name of the device.
        device: String,
    },
    /// The device cannot create a completion queue of this size.
    #[error("cannot create a completion queue of {device} for {entries} completions")]
    CompletionQueue {
        /// Name of the device.
        device: String,
        /// Requested number of completion queue entries.
        entries: u32,
        /// Errno of `ibv_create_cq`.
        source: io::Error,
    },
    /// The device cannot create a queue pair of this size.
    #[error("cannot create a queue pair of {device} for {depth} transfers{}", with_inline(*inline_bytes))]
    QueuePair {
        /// Name of the device.
        device: String,
        /// Requested number of work requests per queue.
        depth: u32,
        /// Requested bytes of inline data per work request.
        inline_bytes: u32,
        /// Errno of `ibv_create_qp`.
        source: io::Error,
    },
    /// A queue pair cannot enter the requested state.
    #[error("cannot change a queue pair of {device} to {state} (ibv_modify_qp)")]
    Connect {
        /// Name of the device.
        device: String,
        /// Requested state, e.g. RTR.
        state: &'static str,
        /// Errno of `ibv_modify_qp`.
        source: io::Error,
    },
    /// The transfer exceeds the maximum message size of the port.
    #[error("{device} cannot transfer {length_bytes} bytes in one message")]
    Message {
        /// Name of the device.
        device: String,
        /// Length of the transfer, in bytes.
        length_bytes: u32,
        /// Maximum message size, in bytes.
        limit_bytes: u32,
    },
    /// The transfer exceeds the buffer or initiator memory, or names a queue that does not exist.
    #[error("cannot post a transfer: {why}")]
    Transfer {
        /// Bound that the transfer exceeds, or another reason.
        why: String,
    },
    /// The device refused the batch of work requests.
    #[error("cannot post a batch of transfers")]
    Post {
        /// Errno of `ibv_post_send` or `ibv_post_recv`.
        source: io::Error,
    },
    /// An earlier transfer failed, so the queue pairs are in the error state.
    #[error("cannot post a transfer: the queue pair is in the error state after a failed transfer")]
    Ended,
    /// The endpoint of the peer is incompatible with this end.
    #[error("cannot connect to the peer: {why}")]
    Peer {
        /// Property that differs between the two endpoints.
        why: String,
    },
    /// A receive work request completed with an error.
    #[error("a posted receive completed with an error")]
    Received {
        /// Completion status of the receive.
        source: TransferError,
    },
    /// The completion queue failed.
    #[error("cannot poll the completion queue")]
    Poll {
        /// Error of `ibv_poll_cq`, or of the completion channel.
        source: io::Error,
    },
}

fn with_inline(bytes: u32) -> String {
    if bytes > 0 { format!(", each with up to {bytes} bytes of inline data") } else { String::new() }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Explains an errno whose meaning does not depend on facts about the device and the buffer.
fn explained(step: Step, source: &io::Error) -> Explanation {
    explain(step, errno(source), &Facts::default())
}

fn bring_up(net_device: Option<&String>) -> String {
    match net_device {
        Some(name) => format!("Bring the network device up: ip link set {name} up."),
        None => "Connect the port and, on InfiniBand, start a subnet manager.".to_owned(),
    }
}

impl Explained for Error {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Address { source, .. } => Explanation::uncaused(
                format!("The form is {FORM}: {source}."),
                "Name a device that `rdma link` lists, e.g. verbs:mlx5_0, or verbs:mlx5_0/2 for its port 2.",
            ),
            Self::NoLibrary => Explanation::new(
                Cause::LibraryMissing,
                "The loader cannot find libibverbs.so.1.",
                "Install the libraries of rdma-core (Debian: libibverbs1 and ibverbs-providers).",
            ),
            Self::List { source } | Self::Open { source, .. } | Self::Query { source, .. } => {
                explained(Step::OpenRdma, source)
            }
            Self::NoDevice { present, .. } => {
                let why = if present.is_empty() {
                    "This host has no RDMA device.".to_owned()
                } else {
                    format!("The devices of this host are: {}.", present.join(", "))
                };
                Explanation::new(
                    Cause::NoDevice,
                    why,
                    "Name a device that `rdma link` lists. `rdma link add rxe0 type rxe netdev eth0` creates the software device \
                     rxe0 on the network interface eth0.",
                )
            }
            Self::NotListed { .. } => Explanation::new(
                Cause::LibraryMissing,
                "The kernel module ib_uverbs is not loaded, or libibverbs has no provider for this device.",
                "Run `modprobe ib_uverbs`, and install the providers of rdma-core (Debian: ibverbs-providers).",
            ),
            Self::Iwarp { .. } => Explanation::uncaused(
                "iWARP connects queue pairs through a connection manager, which is not supported.",
                "Use a RoCE or InfiniBand device, or rxe instead of siw.",
            ),
            Self::QueryPort { source, .. } if errno(source) == libc::EINVAL => Explanation::new(
                Cause::NoDevice,
                "The device does not have a port with this number.",
                "Omit the port number to use the first port.",
            ),
            Self::QueryPort { source, .. } => explained(Step::OpenRdma, source),
            Self::PortDown { net_device, .. } => Explanation::new(
                Cause::PortDown,
                "Only an active port can transfer data.",
                bring_up(net_device.as_ref()),
            ),
            Self::NoGid { net_device, .. } => Explanation::new(
                Cause::PortDown,
                "RoCE derives GIDs from the IP addresses of the network device, and no address is assigned to it.",
                format!("{} Or assign an IP address to it.", bring_up(net_device.as_ref())),
            ),
            Self::GpuNotExported { source } => source.explanation(),
            Self::NoDmaBuf { source, facts, .. } | Self::RegisterDmaBuf { source, facts, .. } => {
                explain(Step::RegisterDmaBuf, errno(source), facts)
            }
            Self::NoFunction { net_device, .. } => Explanation::new(
                Cause::ImporterNoDmabuf,
                match net_device {
                    Some(name) => {
                        format!("{name} has no PCI function, so the kernel cannot attach it to a dma-buf.")
                    }
                    None => "The device has no PCI function, so the kernel cannot attach it to a dma-buf.".to_owned(),
                },
                "Create the software device on a network device with a PCI function (a virtio NIC also has one).",
            ),
            Self::RegisterMemory { source, .. } => explained(Step::RegisterMemory, source),
            Self::TooLong { .. } => Explanation::new(
                Cause::LimitReached,
                "The length exceeds the address space of a process.",
                "Use a smaller buffer.",
            ),
            Self::Deregister { source, .. } => explained(Step::Deregister, source),
            Self::FarMemory { source, .. } => source.explanation(),
            Self::Depth { queues, limit: 0, .. } => Explanation::new(
                Cause::LimitReached,
                format!("The queue pairs share one completion queue, which is too small for {queues} queue pairs."),
                "Use fewer queue pairs, or more threads: each thread has its own completion queue.",
            ),
            Self::Depth { limit, .. } => Explanation::new(
                Cause::LimitReached,
                format!("The device supports up to {limit} transfers in flight per queue pair."),
                format!("Use a depth from 1 to {limit}."),
            ),
            // Devices return the same errno if the inline data is too long and if the queue is too deep.
            Self::QueuePair { inline_bytes: 1.., source, .. }
                if matches!(errno(source), libc::EINVAL | libc::ENOMEM) =>
            {
                Explanation::new(
                    Cause::LimitReached,
                    "The device does not support this much inline data, or this many work requests with inline data.",
                    "Reduce or disable inline data, or use a smaller depth or fewer queue pairs.",
                )
            }
            Self::ProtectionDomain { source, .. }
            | Self::CompletionQueue { source, .. }
            | Self::QueuePair { source, .. } => explained(Step::CreateQueues, source),
            Self::Connect { source, .. } => explained(Step::ConnectQueues, source),
            Self::Mtu { max_bytes, .. } => Explanation::uncaused(
                format!("An MTU is 256, 512, 1024, 2048 or 4096 bytes; the MTU of the port is {max_bytes}."),
                "Use a smaller MTU, or raise the MTU of the link.",
            ),
            Self::NoSuchGid { device, port, .. } => Explanation::uncaused(
                "The GID table has no entry at this index, or the entry is empty.",
                format!(
                    "Choose an index from /sys/class/infiniband/{device}/ports/{port}/gids, or omit the index to use the best GID."
                ),
            ),
            Self::Transport { transport, .. } => Explanation::uncaused(
                match transport {
                    Transport::Ud => "Unreliable datagrams (UD) support only sends.",
                    _ => "An unreliable connection (UC) supports only writes and sends.",
                },
                "Use a reliable connection (rc).",
            ),
            Self::NoAtomics { .. } => Explanation::new(
                Cause::AtomicsRefused,
                "The device reports ATOMIC_NONE.",
                "Use another device; `ibv_devinfo -v` shows atomic_cap.",
            ),
            Self::Message { limit_bytes, .. } => Explanation::new(
                Cause::LimitReached,
                format!("The maximum message size of the port is {limit_bytes} bytes."),
                "Use a smaller size.",
            ),
            Self::Transfer { .. } => Explanation::uncaused(
                "The transfer exceeds the buffer, the initiator memory, or a limit of the device.",
                "Use sizes and offsets within the buffer and the initiator memory.",
            ),
            Self::Post { source } => explained(Step::PostTransfers, source),
            Self::Ended => Explanation::new(
                Cause::TransferFailed,
                "A queue pair enters the error state after the first error, and flushes later work requests.",
                "Create the queue pairs again.",
            ),
            Self::Peer { .. } => Explanation::uncaused(
                "Client and server need the same number of queue pairs and the same link layer.",
                "Use the same version on both hosts, and two devices with the same link layer (Ethernet or InfiniBand).",
            ),
            Self::Received { source } => (*source.explanation).clone(),
            Self::Poll { .. } => Explanation::new(
                Cause::TransferFailed,
                "The completion queue overflowed, or the device failed.",
                "Check the kernel log (dmesg).",
            ),
        }
    }

    fn severity(&self) -> Severity {
        match self {
            Self::Address { .. }
            | Self::NoDevice { .. }
            | Self::Depth { .. }
            | Self::Mtu { .. }
            | Self::NoSuchGid { .. } => Severity::BadInput,
            Self::GpuNotExported { source } => source.severity(),
            Self::Transport { .. } | Self::NoAtomics { .. } => Severity::Unavailable,
            Self::QueryPort { source, .. } if errno(source) == libc::EINVAL => Severity::BadInput,
            Self::NoLibrary
            | Self::NotListed { .. }
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
            // `explanation` handles inline data that is too long; the errno table does not.
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

impl Error {
    /// Returns the cause of the failure. `None` if it is unknown.
    pub fn cause(&self) -> Option<Cause> {
        self.explanation().cause
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        Self::new(error)
    }
}
