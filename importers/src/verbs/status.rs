//! How a work request ended, in words.

use peerpath_paths::{Cause, Explanation};

use crate::TransferError;

/// `IBV_WC_SUCCESS`.
pub(super) const SUCCESS: u32 = 0;
/// `IBV_WC_WR_FLUSH_ERR`: it was never tried, because the connection had ended.
pub(super) const FLUSHED: u32 = 5;

/// `IBV_WC_REM_ACCESS_ERR` and `IBV_WC_REM_OP_ERR`: the other side's memory is not to be had.
pub(super) fn is_refusal(status: u32) -> bool {
    matches!(status, 10 | 11)
}

/// The names of `enum ibv_wc_status` in its order, without their prefix.
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

/// The error of a transfer that ended with this status; `dma_buf` says whether the buffer is one, or may be.
pub(super) fn transfer_error(status: u32, dma_buf: bool) -> TransferError {
    let name = usize::try_from(status).ok().and_then(|status| NAMES.get(status)).copied().unwrap_or("UNKNOWN_STATUS");
    TransferError { status: name, explanation: Box::new(explanation(name, dma_buf)) }
}

fn explanation(name: &str, dma_buf: bool) -> Explanation {
    match name {
        // Spans are checked before they are posted, so what is not allowed is the memory as a whole.
        "REM_ACCESS_ERR" | "REM_OP_ERR" | "LOC_PROT_ERR" | "LOC_QP_OP_ERR" if dma_buf => Explanation::new(
            Cause::Revoked,
            "The buffer may not be used any more: its exporter took the memory back (reset, memory decoding off, low power, \
             or closed), or its key is no longer valid.",
            "Let the exporter finish what it does to the device, then register the buffer again.",
        ),
        "REM_ACCESS_ERR" | "LOC_PROT_ERR" | "LOC_ACCESS_ERR" => Explanation::new(
            Cause::TransferFailed,
            "The device does not allow access to the memory under this key.",
            "Register the memory again; if that does not help, look at the kernel log (dmesg).",
        ),
        "RETRY_EXC_ERR" | "RESP_TIMEOUT_ERR" => Explanation::new(
            Cause::TimedOut,
            "The peer did not acknowledge in time, however often it was asked.",
            "See that the port stays up, that packets of its MTU pass, and that the peer is alive.",
        ),
        "RNR_RETRY_EXC_ERR" => Explanation::new(
            Cause::TimedOut,
            "The peer had no receive posted.",
            "See that the peer is alive and posts as many receives as there are sends.",
        ),
        "WR_FLUSH_ERR" => Explanation::new(
            Cause::TransferFailed,
            "The connection ended before this was tried: a transfer before it failed, or the port went down.",
            "Look at the first transfer that failed, and with `rdma link` at the port.",
        ),
        _ => Explanation::new(
            Cause::TransferFailed,
            "The device reports an error of the connection or of its own.",
            "Look at the kernel log (dmesg) of that moment.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_at_their_numbers() {
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
    fn the_other_side_refuses_under_its_names() {
        let refusals: Vec<_> =
            (0..24).filter(|status| is_refusal(*status)).map(|status| NAMES[status as usize]).collect();
        assert_eq!(refusals, ["REM_ACCESS_ERR", "REM_OP_ERR"]);
    }

    #[test]
    fn every_status_says_why_and_what_to_do() {
        for status in 1..=24 {
            let explanation = transfer_error(status, true).explanation;
            assert!(!explanation.why.is_empty() && explanation.remedy.ends_with('.'), "{status}");
        }
    }
}
