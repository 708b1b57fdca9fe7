//! Messages of drivers/pci/p2pdma.c, and of drivers/nvme/target about its decisions. The function at the start of a line is the
//! client (importer); the provider (exporter) follows in parentheses.

use super::message::{Family, Message};
use crate::Cause::{BarNotExportable, ImporterNotP2p, Topology};

const P2PDMA: Family = Family::P2pdma;

const PLACE_BELOW_ONE_SWITCH: &str = "Place both functions below one PCIe switch whose ports have no ACS redirect, or use a host \
     whose host bridge P2PDMA trusts (AMD Zen, recent Intel Xeon). Otherwise copy through host memory.";

pub(super) const MESSAGES: &[Message] = &[
    Message::refusal(
        P2PDMA,
        &[
            "cannot be used for peer-to-peer DMA as the client and provider*do not share an upstream bridge or whitelisted host bridge",
            "cannot be used for peer-to-peer DMA as the client and provider*do not share an upstream bridge",
        ],
        Topology,
        "P2PDMA permits no transfer between {0} and the memory of {1}: the packets would cross a host bridge that P2PDMA does \
         not trust.",
        PLACE_BELOW_ONE_SWITCH,
    ),
    Message::refusal(
        P2PDMA,
        &["cannot be used for peer-to-peer DMA as it is not a PCI device"],
        Topology,
        "The importer does not belong to a PCI function, so P2PDMA finds no path to it.",
        "Use a device of a PCI function as the importer, for example an RDMA device on a physical network card.",
    ),
    Message::refusal(
        P2PDMA,
        &["cannot be used for peer-to-peer DMA because the driver makes use of dma_virt_ops"],
        ImporterNotP2p,
        "The importer is a software device whose driver copies with the CPU (Linux 5.11 and older).",
        "Use an RDMA device in hardware as the importer, or copy through host memory.",
    ),
    Message::fact(
        P2PDMA,
        &["ACS redirect is set between the client and provider"],
        "An ACS redirect between {0} and {1} sends their packets through the host bridge, not through the PCIe switch alone. \
         P2PDMA permits this path only if it trusts the host bridge.",
        "To keep the packets inside the switch, clear the redirect bits of the ports that the next line of the kernel log names.",
    ),
    Message::fact(
        P2PDMA,
        &["to disable ACS redirect for this path, add the kernel parameter: pci=disable_acs_redir="],
        "The kernel lists the ports whose ACS redirect bits send packets from {0} through the host bridge.",
        "Boot with this parameter. In a GRUB configuration, quote it because of its semicolons. The parameter removes the \
         isolation between functions below these ports: do not assign them to different virtual machines.",
    ),
    Message::refusal(
        P2PDMA,
        &["Host bridge not in P2PDMA whitelist:"],
        Topology,
        "P2PDMA does not trust the host bridge of {0}: neither the processor nor the bridge is in the kernel's list.",
        PLACE_BELOW_ONE_SWITCH,
    ),
    Message::failure(
        P2PDMA,
        &[": fail, attempted private mapping", ": fail, attempted mapping with non-zero offset"],
        BarNotExportable,
        "A program mapped the peer-to-peer memory of {0} with a private mapping or an offset. The kernel accepts neither.",
        "Map the memory with MAP_SHARED at offset 0.",
    ),
    Message::refusal(
        P2PDMA,
        &["PCI device has no peer-to-peer memory:"],
        BarNotExportable,
        "The driver of {0} offers no peer-to-peer memory to P2PDMA.",
        "Choose a function whose driver offers it, for example an NVMe drive with a controller memory buffer.",
    ),
    Message::refusal(
        P2PDMA,
        &["no peer-to-peer memory is available", "peer-to-peer memory on * is not supported"],
        Topology,
        "The NVMe target finds no peer-to-peer memory that both its clients can reach.",
        "Place the provider, the drive and the network card below one PCIe switch, or disable peer-to-peer memory for the \
         namespace (p2pmem).",
    ),
    Message::normal(P2PDMA, &["added peer-to-peer DMA memory"], "The driver of {0} offers peer-to-peer memory."),
    Message::normal(P2PDMA, &["using p2pmem on "], "The NVMe target uses peer-to-peer memory."),
];
