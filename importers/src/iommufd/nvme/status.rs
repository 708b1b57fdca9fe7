//! Completion statuses (NVM Express Base Specification 1.4, 4.6.1).

use std::fmt;

use peerpath_paths::{Cause, Explanation};

use crate::TransferError;

/// Status code type and status code of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(u16);

const TYPE_MEDIA: u16 = 2;

/// Status code type, status code and name of the known statuses.
const NAMES: &[(u16, u16, &str)] = &[
    (0, 0x00, "SUCCESS"),
    (0, 0x01, "INVALID_OPCODE"),
    (0, 0x02, "INVALID_FIELD"),
    (0, 0x03, "COMMAND_ID_CONFLICT"),
    (0, 0x04, "DATA_TRANSFER_ERROR"),
    (0, 0x05, "POWER_LOSS"),
    (0, 0x06, "INTERNAL_ERROR"),
    (0, 0x07, "ABORTED"),
    (0, 0x08, "ABORTED_QUEUE_DELETED"),
    (0, 0x0b, "INVALID_NAMESPACE"),
    (0, 0x13, "INVALID_PRP_OFFSET"),
    (0, 0x20, "NAMESPACE_WRITE_PROTECTED"),
    (0, 0x80, "LBA_OUT_OF_RANGE"),
    (0, 0x81, "CAPACITY_EXCEEDED"),
    (0, 0x82, "NAMESPACE_NOT_READY"),
    (0, 0x84, "FORMAT_IN_PROGRESS"),
    (1, 0x00, "INVALID_COMPLETION_QUEUE"),
    (1, 0x01, "INVALID_QUEUE_NUMBER"),
    (1, 0x02, "INVALID_QUEUE_SIZE"),
    (1, 0x82, "WRITE_TO_READ_ONLY_RANGE"),
    (2, 0x80, "WRITE_FAULT"),
    (2, 0x81, "UNRECOVERED_READ_ERROR"),
    (2, 0x85, "COMPARE_FAILURE"),
    (2, 0x86, "ACCESS_DENIED"),
];

impl Status {
    pub(crate) const SUCCESS: Self = Self(0);

    /// Parses the status field without its phase tag. Ignores the bits More, Do Not Retry and Command Retry Delay.
    pub(super) fn new(field: u16) -> Self {
        Self(field & 0x7ff)
    }

    fn kind(self) -> u16 {
        self.0 >> 8
    }

    /// Returns the name of the status.
    pub fn name(self) -> &'static str {
        let code = self.0 & 0xff;
        NAMES.iter().find(|(kind, known, _)| (*kind, *known) == (self.kind(), code)).map_or(
            match self.kind() {
                0 => "UNKNOWN_GENERIC_STATUS",
                1 => "UNKNOWN_COMMAND_STATUS",
                TYPE_MEDIA => "UNKNOWN_MEDIA_STATUS",
                _ => "UNKNOWN_STATUS",
            },
            |(.., name)| name,
        )
    }

    /// Returns the error of a transfer that completed with this status. `dma_buf` is true if the buffer is a dma-buf.
    pub(crate) fn transfer_error(self, dma_buf: bool) -> TransferError {
        TransferError { status: self.name(), explanation: Box::new(self.explanation(dma_buf)) }
    }

    pub(crate) fn explanation(self, dma_buf: bool) -> Explanation {
        match self.name() {
            // The drive's access to the buffer timed out or returned an error.
            "DATA_TRANSFER_ERROR" if dma_buf => Explanation::new(
                Cause::Revoked,
                "The drive cannot reach the buffer: its exporter revoked it (reset, memory decoding off, low power, or end of \
                 the exporting process), and the kernel unmapped it at once.",
                "If another process exported the buffer, check that it is still running. Otherwise, wait until the exporter's \
                 reset or power transition has completed. Then map the buffer again.",
            ),
            "DATA_TRANSFER_ERROR" => Explanation::new(
                Cause::TransferFailed,
                "The drive cannot reach the buffer, or an access to it failed.",
                "Check the kernel log (dmesg) for IOMMU faults.",
            ),
            "ABORTED" | "ABORTED_QUEUE_DELETED" => Explanation::new(
                Cause::TransferFailed,
                "The drive aborted the command because its queue was deleted.",
                "Retry the transfer.",
            ),
            _ if self.kind() == TYPE_MEDIA => Explanation::new(
                Cause::TransferFailed,
                "The drive reports a media error for these blocks.",
                "Check the health of the drive (`nvme smart-log`) after binding it to its kernel driver.",
            ),
            _ => Explanation::new(
                Cause::TransferFailed,
                "The drive rejected the command.",
                "Look up the status in the NVMe specification; try a reset of the drive.",
            ),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_match_the_specification() {
        assert_eq!(Status::new(0), Status::SUCCESS);
        assert_eq!(Status::new(4).name(), "DATA_TRANSFER_ERROR");
        assert_eq!(Status::new(0x0281).name(), "UNRECOVERED_READ_ERROR");
        // More (bit 13) and Do Not Retry (bit 14) do not change the name.
        assert_eq!(Status::new(0x6281).name(), "UNRECOVERED_READ_ERROR");
        assert_eq!(Status::new(0x0381).name(), "UNKNOWN_STATUS");
    }

    #[test]
    fn only_a_dma_buf_can_be_revoked() {
        assert_eq!(Status::new(4).transfer_error(true).explanation.cause, Some(Cause::Revoked));
        assert_eq!(Status::new(4).transfer_error(false).explanation.cause, Some(Cause::TransferFailed));
    }

    proptest! {
        #[test]
        fn explains_every_status(field: u16, dma_buf: bool) {
            let explanation = Status::new(field).transfer_error(dma_buf).explanation;
            prop_assert!(explanation.why.ends_with('.') && explanation.remedy.ends_with('.'));
        }
    }
}
