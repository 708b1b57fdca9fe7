//! Errors of the verification of data.

use std::io;

use peerpath_paths::Cause;

use crate::peer::error::PeerError;

/// Bytes that differ from the sent data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wrong_bytes} of {checked_bytes} bytes {place} are wrong, the first at offset {first_offset:#x}: expected {expected:#04x}, found {found:#04x} ({guess})"
)]
pub struct Mismatch {
    pub(crate) place: &'static str,
    pub(crate) wrong_bytes: u64,
    pub(crate) checked_bytes: u64,
    pub(crate) first_offset: u64,
    pub(crate) expected: u8,
    pub(crate) found: u8,
    pub(crate) guess: &'static str,
    /// Whether every wrong byte still has its value from before the transfers, which means that the data did not arrive.
    pub(crate) missing: bool,
}

impl Mismatch {
    /// The first difference between two byte strings of equal length, and the number of differences; `None` if they are equal.
    /// The caller fills in `place` and `guess`.
    pub(crate) fn between(expected: &[u8], found: &[u8]) -> Option<Self> {
        let wrong = || expected.iter().zip(found).enumerate().filter(|(_, (expected, found))| expected != found);
        let (at, (first_expected, first_found)) = wrong().next()?;
        Some(Self {
            place: "",
            wrong_bytes: wrong().count() as u64,
            checked_bytes: expected.len() as u64,
            first_offset: at as u64,
            expected: *first_expected,
            found: *first_found,
            guess: "",
            missing: false,
        })
    }
}

/// Reason why the verification failed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Some bytes differ from the expected data.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The peer found wrong data, or failed to verify.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Reading or writing the memory of one side failed.
    #[error("cannot access the {side}")]
    View {
        /// Name of the side: the exported memory or initiator memory.
        side: &'static str,
        /// Error of the access.
        #[source]
        source: io::Error,
    },
}

impl VerifyError {
    /// Whether the data was read and is wrong, on this host or on the peer.
    pub fn is_mismatch(&self) -> bool {
        match self {
            Self::Mismatch(_) => true,
            Self::Peer(PeerError::Failed(failed)) => {
                matches!(failed.explanation().cause, Some(Cause::DataMismatch | Cause::PacketsLost))
            }
            Self::Peer(_) | Self::View { .. } => false,
        }
    }
}
