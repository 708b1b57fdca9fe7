//! How a command ended, in words.

use peerpath_paths::{Cause, Explanation};

use crate::TransferError;

/// Status code and its type, without the bits for retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u16);

const TYPE_MEDIA: u16 = 2;

/// By type and code.
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

    /// Of the status field, which has the phase cut off.
    pub(super) fn new(field: u16) -> Self {
        Self(field & 0x7ff)
    }

    fn kind(self) -> u16 {
        self.0 >> 8
    }

    pub(crate) fn name(self) -> &'static str {
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

    /// The error of a transfer that ended so; `dma_buf` says whether the buffer is one.
    pub(crate) fn transfer_error(self, dma_buf: bool) -> TransferError {
        TransferError { status: self.name(), explanation: Box::new(self.explanation(dma_buf)) }
    }

    pub(crate) fn explanation(self, dma_buf: bool) -> Explanation {
        match self.name() {
            // The drive got no answer, or an error, from where the data should go or come from.
            "DATA_TRANSFER_ERROR" if dma_buf => Explanation::new(
                Cause::Revoked,
                "The drive could not reach the buffer: its exporter took the memory back (reset, memory decoding off, low power, \
                 or closed), and the kernel unmapped it at once.",
                "Let the exporter finish what it does to the device, then map the buffer again.",
            ),
            "DATA_TRANSFER_ERROR" => Explanation::new(
                Cause::TransferFailed,
                "The drive could not reach the buffer, or something below it answered with an error.",
                "Look at the kernel log (dmesg) for faults of the IOMMU.",
            ),
            "ABORTED" | "ABORTED_QUEUE_DELETED" => Explanation::new(
                Cause::TransferFailed,
                "The drive gave the command up because its queue was taken away.",
                "Run it again.",
            ),
            _ if self.kind() == TYPE_MEDIA => Explanation::new(
                Cause::TransferFailed,
                "The drive could not read or write its medium there.",
                "Look at the drive's health (`nvme smart-log`) under its kernel driver.",
            ),
            _ => Explanation::new(
                Cause::TransferFailed,
                "The drive refused the command.",
                "Look the status up in the NVMe specification; a reset of the drive may help.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn type_and_code_together_have_a_name() {
        assert_eq!(Status::new(0), Status::SUCCESS);
        assert_eq!(Status::new(4).name(), "DATA_TRANSFER_ERROR");
        assert_eq!(Status::new(0x0281).name(), "UNRECOVERED_READ_ERROR");
        // More and do-not-retry are no part of it.
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
        fn every_status_says_why_and_what_to_do(field: u16, dma_buf: bool) {
            let explanation = Status::new(field).transfer_error(dma_buf).explanation;
            prop_assert!(explanation.why.ends_with('.') && explanation.remedy.ends_with('.'));
        }
    }
}
