//! Messages of PCIe error reporting (drivers/pci/pcie/aer.c, dpc.c, err.c). The names of errors are those of the kernel, in the
//! short form since Linux 4.20 and in the long form before.

use super::message::{Family, Message};
use crate::Cause::{AcsViolation, AtomicsRefused, DeviceLost, PcieError};

const AER: Family = Family::Aer;

/// An uncorrectable error of a function or port.
const fn error(texts: &'static [&'static str], why: &'static str, remedy: &'static str) -> Message {
    Message::failure(AER, texts, PcieError, why, remedy)
}

const CHECK_THE_LINK: &str = "Reseat the card and its cable or riser, and compare the speed and width of the link with what the \
     card supports (`lspci -vv`). If it occurs often, replace the riser, or limit the speed of the slot in the firmware.";

const CHECK_THE_RECEIVER: &str = "Check that the receiver is in state D0, that its memory decoding is on, and that the address \
     lies within one of its BARs.";

pub(super) const MESSAGES: &[Message] = &[
    // The bits of the uncorrectable error status.
    Message::failure(
        AER,
        &["[21] ACSViol", "[21] ACS Violation"],
        AcsViolation,
        "Access control (ACS) at {port} blocked a request. It carries a requester ID that does not belong below the port \
         (source validation), or its address is already translated (ATS) and the port blocks such requests.",
        "Check that the function below the port keeps the bus number that the kernel gave it: reset the slot or rescan the bus. \
         If the function uses ATS, boot with pci=noats, or clear translation blocking at the port.",
    ),
    error(
        &["[20] UnsupReq", "[20] Unsupported Request"],
        "{0} received a request that it does not support: usually an access to an address that no BAR covers, or an access \
         while memory decoding is off.",
        CHECK_THE_RECEIVER,
    ),
    error(
        &["[14] CmpltTO", "[14] Completion Timeout"],
        "{0} received no completion for a read. The function that should respond hangs, was removed, or its link is down.",
        "Find that function by the address in the TLP header, and reset it. If the read crosses the host bridge to another \
         function, the host may not route it: place both functions below one PCIe switch.",
    ),
    error(
        &["[15] CmpltAbrt", "[15] Completer Abort"],
        "{0} rejected a request that its device does not permit, for example an access of the wrong size.",
        "Access the memory of {0} in the sizes that the documentation of the device permits.",
    ),
    error(
        &["[16] UnxCmplt", "[16] Unexpected Completion"],
        "{0} received a completion without a matching request: the completion came late, or was sent to the wrong function.",
        "Check the log for completion timeouts before this line.",
    ),
    error(
        &["[12] TLP ", "[12] TLP$", "[12] Poisoned TLP", "[26] PoisonTLPBlocked"],
        "{0} received data that its sender had marked as damaged (poisoned), for example after a memory error.",
        "Check the log for memory errors of the host and of the sending function (machine check, EDAC, Xid).",
    ),
    Message::failure(
        AER,
        &["[24] AtomicOpBlocked", "[24] AtomicOp Egress Blocked"],
        AtomicsRefused,
        "{port} blocked an atomic operation.",
        "Use the importer without atomic operations, or enable the routing of atomic operations at every port of the path.",
    ),
    Message::failure(
        AER,
        &["[31] TLPXlatBlocked"],
        AcsViolation,
        "{port} blocked a request whose address was already translated (ATS).",
        "Boot with pci=noats, or clear translation blocking in the ACS control register of the port.",
    ),
    error(
        &["[23] BlockedTLP", "[23] MC Blocked TLP", "[25] TLPBlockedErr", "[27] DMWrReqBlocked"],
        "{port} blocked a packet that its configuration does not permit.",
        "Check the configuration of the port (`lspci -vvv`).",
    ),
    Message::failure(
        AER,
        &["[ 5] SDES", "[ 5] Surprise Down"],
        DeviceLost,
        "The link below {0} went down unexpectedly: the device lost power, was removed or was reset.",
        "Check the power and the seat of the card, and the log for a reset before this line.",
    ),
    error(
        &["[18] MalfTLP", "[18] Malformed TLP"],
        "{0} received a packet that breaks the rules of PCIe, for example a payload larger than its maximum.",
        "Set the same maximum payload size along the path: boot with pci=pcie_bus_safe.",
    ),
    error(
        &[
            "[ 4] DLP",
            "[ 4] Data Link Protocol",
            "[13] FCP",
            "[13] Flow Control Protocol",
            "[17] RxOF",
            "[17] Receiver Overflow",
            "[19] ECRC",
        ],
        "The link of {0} corrupted or lost packets.",
        CHECK_THE_LINK,
    ),
    error(
        &["[22] UncorrIntErr", "[28] IDECheck", "[29] MisIDETLP", "[30] PCRC_CHECK"],
        "{0} reports an error within itself or of its link encryption.",
        "Reset {0}, and update its firmware.",
    ),
    // The bits of the correctable error status.
    Message::fact(
        AER,
        &[
            "[ 0] RxErr",
            "[ 0] Receiver Error",
            "[ 6] BadTLP",
            "[ 6] Bad TLP",
            "[ 7] BadDLLP",
            "[ 7] Bad DLLP",
            "[ 8] Rollover",
            "[ 8] RELAY_NUM Rollover",
            "[12] Timeout",
            "[12] Replay Timer Timeout",
        ],
        "The link of {0} corrupted a packet and retransmitted it. The data is correct; frequent errors reduce the throughput.",
        CHECK_THE_LINK,
    ),
    Message::fact(
        AER,
        &["[13] NonFatalErr", "[13] Advisory Non-Fatal", "[14] CorrIntErr", "[15] HeaderOF"],
        "{0} reports an error that it could correct or that the sender handles.",
        "If transfers fail at the same time, check the uncorrectable error status of the function (`lspci -vvv`).",
    ),
    // aer.c: the summary, in the wording of several versions
    error(
        &[
            " Bus Error: severity=Uncorrectable (Fatal)",
            " Bus Error: severity=Uncorrected (Fatal)",
            "AER: *Uncorrectable (Fatal) * received",
            "AER: *Uncorrected (Fatal) error received",
        ],
        "{last} reports a PCIe error that stops its link. The kernel resets the link.",
        "See the line with the number of the error, such as [20], for the reason.",
    ),
    error(
        &[
            " Bus Error: severity=Uncorrectable (Non-Fatal)",
            " Bus Error: severity=Uncorrected (Non-Fatal)",
            "AER: *Uncorrectable (Non-Fatal) * received",
            "AER: *Uncorrected (Non-Fatal) error received",
        ],
        "{last} reports a PCIe error: a request was lost or rejected. The link still works.",
        "See the line with the number of the error, such as [20], for the reason.",
    ),
    Message::fact(
        AER,
        &[" Bus Error: severity=Correct", "AER: *Correctable * received", "AER: *Corrected error received"],
        "{last} reports a PCIe error that the hardware corrected.",
        "If it occurs often, see the line with the number of the error, such as [ 0], for the reason.",
    ),
    error(
        &["can't recover (no error_detected callback)"],
        "The driver of {0} does not support recovery from PCIe errors, so the kernel does not reset the link for it.",
        "Unbind and bind the function, or reset it through sysfs (`echo 1 > /sys/bus/pci/devices/{0}/reset`).",
    ),
    Message::failure(
        AER,
        &[
            "AER: device recovery failed",
            "DPC: device recovery failed",
            "subordinate device reset failed",
            "pcieport *: device recovery failed",
        ],
        DeviceLost,
        "The kernel could not recover the functions below {port} from a PCIe error.",
        "Remove and rescan {port} (`echo 1 > /sys/bus/pci/devices/{0}/remove`, then /sys/bus/pci/rescan), or restart the \
         host.",
    ),
    Message::failure(
        AER,
        &["can't recover (state transition"],
        DeviceLost,
        "{0} failed again while the kernel recovered it from a PCIe error.",
        "Power-cycle the host.",
    ),
    Message::fact(
        AER,
        &["device recovery successful"],
        "The kernel recovered the functions below {port} from a PCIe error. Their drivers restarted them: earlier \
         registrations and transfers are lost.",
        "Register buffers again.",
    ),
    // dpc.c
    error(
        &["DPC: containment event*unmasked uncorrectable error detected", "DPC: unmasked uncorrectable error detected"],
        "{port} found a PCIe error and disabled its link (downstream port containment). Functions below it are unreachable \
         until the kernel has recovered them.",
        "See the line with the number of the error, such as [20], for the reason.",
    ),
    error(
        &["DPC: containment event*ERR_*received from", "DPC: ERR_FATAL detected", "DPC: ERR_NONFATAL detected"],
        "{port} disabled its link (downstream port containment), because {last} below it reported an error.",
        "Check the error status of {last} (`lspci -vvv`) and the log for its errors.",
    ),
    error(
        &["DPC: containment event", "DPC: RP PIO error", "EDR: EDR event received"],
        "{port} disabled its link (downstream port containment). Functions below it are unreachable until the kernel has \
         recovered them.",
        "See the next lines for the reason.",
    ),
    error(
        &[
            "Memory Request Completion Timeout",
            "Memory Request received UR Completion",
            "Memory Request received CA Completion",
            "Configuration Request Completion Timeout",
            "Configuration Request received UR Completion",
            "Configuration Request received CA Completion",
            "I/O Request Completion Timeout",
            "I/O Request received UR Completion",
            "I/O Request received CA Completion",
        ],
        "A request of the processor to a function below {port} received no completion, or was rejected.",
        CHECK_THE_RECEIVER,
    ),
    // ACPI APEI: the firmware reports the error (drivers/firmware/efi/cper.c)
    Message::fact(
        AER,
        &["section_type: PCIe error", "Hardware error from APEI Generic Hardware Error Source"],
        "The firmware, not the kernel, handles hardware errors of this host and reports one.",
        "See the lines after this one: they name the function and the error status.",
    ),
    Message::normal(
        AER,
        &[
            " error status/mask=",
            "TLP Header: ",
            "TLP Header (",
            "TLP Prefix Header: ",
            "aer_uncor_status: ",
            "aer_cor_status: ",
            "aer_uncor_severity: ",
            "aer_status: ",
            "aer_layer=",
            "AER: enabled with IRQ",
            "DPC: enabled with IRQ",
            "DPC: error containment capabilities",
            "Port link has been reset (",
            "broadcast error_detected message",
            "broadcast mmio_enabled message",
            "broadcast slot_reset message",
            "broadcast resume message",
            "rp_pio_status: ",
            "RP PIO severity=",
            "RP PIO ImpSpec Log",
        ],
        "The line is part of an error report, or states that error reporting is on.",
    ),
];
