//! What a ceiling assumes.

use std::fmt;

use serde::{Serialize, Serializer};

/// An assumption of a ceiling. If one is wrong, the actual limit is lower than the ceiling, except for
/// [`Assumption::CurrentSpeed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assumption {
    /// Every TLP carries the maximum payload.
    FullPayloads,
    /// TLPs have no ECRC, no prefix, no encryption, and in Flit Mode no optional header content.
    PlainHeaders,
    /// Root complex and switches forward at the rate of their links.
    UnlimitedForwarding,
    /// A link keeps its current speed, which is below the speed that both ends support.
    CurrentSpeed,
    /// The link between a GPU and the switch on its card does not limit the rate.
    InternalLinks,
    /// The direction of the data carries no DLLPs.
    NoDllps,
    /// The receiver sends DLLPs at the longest intervals of the specification.
    RareDllps,
    /// Enough read requests are outstanding.
    EnoughReads,
    /// Requests need no 64-bit addresses, because the I/O virtual address is unknown.
    NarrowAddresses,
    /// The link is not in Flit Mode, because its status is not readable.
    NoFlits,
    /// Packets are RoCE v2 over IPv4 without VLAN tag, with the header of a middle packet.
    RoceV2,
    /// Packets stay in their InfiniBand subnet, with the header of a middle packet.
    LocalInfiniBand,
    /// The path MTU is the largest that fits the network interface, or 4096 bytes if the interface is unknown.
    LargestPathMtu,
}

impl Assumption {
    /// Every assumption, in the order of output.
    pub const ALL: &[Self] = &[
        Self::FullPayloads,
        Self::PlainHeaders,
        Self::UnlimitedForwarding,
        Self::CurrentSpeed,
        Self::InternalLinks,
        Self::NoDllps,
        Self::RareDllps,
        Self::EnoughReads,
        Self::NarrowAddresses,
        Self::NoFlits,
        Self::RoceV2,
        Self::LocalInfiniBand,
        Self::LargestPathMtu,
    ];

    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FullPayloads => "full-payloads",
            Self::PlainHeaders => "plain-headers",
            Self::UnlimitedForwarding => "unlimited-forwarding",
            Self::CurrentSpeed => "current-speed",
            Self::InternalLinks => "internal-links",
            Self::NoDllps => "no-dllps",
            Self::RareDllps => "rare-dllps",
            Self::EnoughReads => "enough-reads",
            Self::NarrowAddresses => "narrow-addresses",
            Self::NoFlits => "no-flits",
            Self::RoceV2 => "roce-v2",
            Self::LocalInfiniBand => "local-infiniband",
            Self::LargestPathMtu => "largest-path-mtu",
        }
    }

    /// The assumption as a sentence, with its reason.
    pub fn about(self) -> &'static str {
        match self {
            Self::FullPayloads => {
                "Every write and completion carries the maximum payload (MPS) and is aligned to it. Some root complexes split \
                 completions at the RCB of 64 bytes."
            }
            Self::PlainHeaders => {
                "TLPs have no ECRC, no prefix and no IDE encryption. In Flit Mode they have the base header (3 or 4 DW) without \
                 optional content (OHC)."
            }
            Self::UnlimitedForwarding => {
                "Root complex and switches forward at the rate of their links. Connections inside and between processors are not \
                 modelled."
            }
            Self::CurrentSpeed => {
                "A link runs below the speed that both ends support, and stays there. GPUs and some switches lower the \
                 speed when idle: read it under load, or the ceiling is too low."
            }
            Self::InternalLinks => {
                "The link between a GPU of AMD or Intel and the switch on its card is not counted: it is inside the \
                 chip, and its registers do not describe it."
            }
            Self::NoDllps => {
                "The direction of the data carries no DLLPs, because ACKs and credits for the data travel in the other direction."
            }
            Self::RareDllps => {
                "Each receiver sends one ACK and one credit update per Ack Latency Limit of the specification: the \
                 longest interval that it permits for ACKs and recommends for credits."
            }
            Self::EnoughReads => {
                "Enough read requests are outstanding to cover their round trip. Without a round-trip time the limit \
                 by the number of tags is not known."
            }
            Self::NarrowAddresses => {
                "Requests have a 3-DW header, because the address that the IOMMU or the driver assigns is not known. A 64-bit \
                 address needs 4 DW."
            }
            Self::NoFlits => "The link is not in Flit Mode, because Link Status 2 is not readable.",
            Self::RoceV2 => {
                "82 bytes per packet: preamble and gap (20), Ethernet (14) and FCS (4), IPv4 (20), UDP (8), BTH (12), ICRC (4). \
                 No VLAN tag, and no RETH, which only the first packet of a message has."
            }
            Self::LocalInfiniBand => {
                "26 bytes per packet: LRH (8), BTH (12), ICRC (4), VCRC (2). No GRH, and no RETH, which only the first packet of \
                 a message has."
            }
            Self::LargestPathMtu => {
                "The path MTU is the largest that fits the MTU of the network interface, or 4096 bytes if that is not known."
            }
        }
    }
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Assumption {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
