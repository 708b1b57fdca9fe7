//! Options for the queue pairs of RDMA devices.

use clap::Args;
use peerpath_importers::{QueuePairOptions, Transport};

use super::values::{parse_size_u32, whole, words};

#[derive(Debug, Args)]
#[command(next_help_heading = "Queue pairs of RDMA devices")]
pub(super) struct QueuePairArguments {
    /// Transport: rc (reliable connection), uc (unreliable: writes and sends only) or ud (datagrams: sends of one packet only)
    #[arg(long, value_name = "KIND", default_value_t, value_parser = words::<Transport>(Transport::ALL.map(Transport::as_str)),
          hide_possible_values = true)]
    connection: Transport,
    /// Path MTU  [default: MTU of the port]
    #[arg(long, value_name = "BYTES", value_parser = parse_size_u32)]
    mtu: Option<u32>,
    /// Index of the local address in the port's GID table  [default: RoCE v2 over IPv4 if present]
    #[arg(long, value_name = "N", value_parser = whole::<u8>)]
    gid_index: Option<u8>,
    /// Send messages of up to this size inline in the work request
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = parse_size_u32)]
    inline: u32,
    /// Service level of the packets
    #[arg(long, value_name = "N", default_value = "0", value_parser = whole::<u8>)]
    service_level: u8,
    /// Traffic class of the packets
    #[arg(long, value_name = "N", default_value = "0", value_parser = whole::<u8>)]
    traffic_class: u8,
    /// Register memory with relaxed ordering of PCIe writes
    #[arg(long)]
    relaxed_ordering: bool,
    /// Sleep until a completion event arrives instead of polling the completion queue
    #[arg(long)]
    events: bool,
    /// Use huge pages of 2 MiB for host:SIZE sources and for the buffers of the initiator
    #[arg(long)]
    pub(super) hugepages: bool,
}

impl QueuePairArguments {
    pub(super) fn options(&self) -> QueuePairOptions {
        QueuePairOptions {
            transport: self.connection,
            mtu_bytes: self.mtu,
            gid_index: self.gid_index,
            service_level: self.service_level,
            traffic_class: self.traffic_class,
            inline_bytes: self.inline,
            relaxed_ordering: self.relaxed_ordering,
            events: self.events,
            huge_pages: self.hugepages,
        }
    }
}
