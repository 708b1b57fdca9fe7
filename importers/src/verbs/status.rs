//! Work completion statuses (`enum ibv_wc_status`).

use peerpath_paths::{Cause, Explanation};

use crate::TransferError;

/// `IBV_WC_SUCCESS`.
pub(super) const SUCCESS: u32 = 0;
/// `IBV_WC_WR_FLUSH_ERR`: the queue pair entered the error state before the work request was executed.
pub(super) const FLUSHED: u32 = 5;

/// Whether the responder refused access to its memory: `IBV_WC_REM_ACCESS_ERR` or `IBV_WC_REM_OP_ERR`.
pub(super) fn is_refusal(status: u32) -> bool {
    matches!(status, 10 | 11)
}

/// Names of `enum ibv_wc_status` in its order, without their prefix.
const NAMES: [&str; 24] = [
    "SUCCESS",
    "LOC_LEN_ERR",
    "LOC_QP_OP_ERR",
    "LOC_EEC_OP_ERR",
    "LOC_PROT_ERR",
    "WR_FLUSH_ERR",
    "MW_BIND_ERR",
    "BAD_RESP_ERR",
    "LOC_ACCESS_ERR",
    "REM_INV_REQ_ERR",
    "REM_ACCESS_ERR",
    "REM_OP_ERR",
    "RETRY_EXC_ERR",
    "RNR_RETRY_EXC_ERR",
    "LOC_RDD_VIOL_ERR",
    "REM_INV_RD_REQ_ERR",
    "REM_ABORT_ERR",
    "INV_EECN_ERR",
    "INV_EEC_STATE_ERR",
    "FATAL_ERR",
    "RESP_TIMEOUT_ERR",
    "GENERAL_ERR",
    "TM_ERR",
    "TM_RNDV_INCOMPLETE",
];

/// Returns the error of a transfer that completed with this status. `dma_buf` is true if the buffer is or may be a dma-buf.
pub(super) fn transfer_error(status: u32, dma_buf: bool) -> TransferError {
    let name = usize::try_from(status).ok().and_then(|status| NAMES.get(status)).copied().unwrap_or("UNKNOWN_STATUS");
    TransferError { status: name, explanation: Box::new(explanation(name, dma_buf)) }
}

fn explanation(name: &str, dma_buf: bool) -> Explanation {
    match name {
        // Bounds are checked before posting, so the device refused access to the whole region.
        "REM_ACCESS_ERR" | "REM_OP_ERR" | "LOC_PROT_ERR" | "LOC_QP_OP_ERR" if dma_buf => Explanation::new(
            Cause::Revoked,
            "The exporter revoked the buffer (reset, memory decoding off, low power, or end of the exporting process), or its \
             key is invalid.",
            "If another process exported the buffer, check that it is still running. Otherwise, wait until the exporter's reset \
             or power transition has completed. Then register the buffer again.",
        ),
        "REM_ACCESS_ERR" | "LOC_PROT_ERR" | "LOC_ACCESS_ERR" => Explanation::new(
            Cause::TransferFailed,
            "The device denies access to the memory under this key.",
            "Register the memory again. If the error persists, check the kernel log (dmesg).",
        ),
        "RETRY_EXC_ERR" | "RESP_TIMEOUT_ERR" => Explanation::new(
            Cause::TimedOut,
            "The peer did not acknowledge within the retry limit.",
            "Check that the port stays up, that the network forwards packets of the port's MTU, and that the peer is running.",
        ),
        "RNR_RETRY_EXC_ERR" => Explanation::new(
            Cause::TimedOut,
            "The peer had not posted a receive work request (RNR NAK).",
            "Check that the peer is running and posts one receive work request per send.",
        ),
        "WR_FLUSH_ERR" => Explanation::new(
            Cause::TransferFailed,
            "The queue pair entered the error state before this transfer was executed: an earlier transfer failed, or the port went down.",
            "Check the first failed transfer, and the state of the port (`rdma link`).",
        ),
        _ => Explanation::new(
            Cause::TransferFailed,
            "The connection or the device failed.",
            "Check the kernel log (dmesg).",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_the_header() {
        for (status, name) in [(0, "SUCCESS"), (5, "WR_FLUSH_ERR"), (10, "REM_ACCESS_ERR"), (12, "RETRY_EXC_ERR")] {
            assert_eq!(transfer_error(status, false).status, name);
        }
        assert_eq!(transfer_error(23, false).status, "TM_RNDV_INCOMPLETE");
        assert_eq!(transfer_error(24, false).status, "UNKNOWN_STATUS");
        assert_eq!(transfer_error(u32::MAX, true).status, "UNKNOWN_STATUS");
        assert_eq!((NAMES[SUCCESS as usize], NAMES[FLUSHED as usize]), ("SUCCESS", "WR_FLUSH_ERR"));
    }

    #[test]
    fn only_a_dma_buf_can_be_revoked() {
        assert_eq!(transfer_error(10, true).explanation.cause, Some(Cause::Revoked));
        assert_eq!(transfer_error(10, false).explanation.cause, Some(Cause::TransferFailed));
        assert_eq!(transfer_error(12, true).explanation.cause, Some(Cause::TimedOut));
    }

    #[test]
    fn remote_errors_are_refusals() {
        let refusals: Vec<_> =
            (0..24).filter(|status| is_refusal(*status)).map(|status| NAMES[status as usize]).collect();
        assert_eq!(refusals, ["REM_ACCESS_ERR", "REM_OP_ERR"]);
    }

    #[test]
    fn explains_every_status() {
        for status in 1..=24 {
            let explanation = transfer_error(status, true).explanation;
            assert!(!explanation.why.is_empty() && explanation.remedy.ends_with('.'), "{status}");
        }
    }
}
