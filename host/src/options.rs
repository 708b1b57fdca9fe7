//! Options for changing a host.

use std::path::PathBuf;

use crate::HostTree;

/// Options for changing a host, and the directory of the journal.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the journal and the locks. Users other than its owner must not be able to write to it.
    pub state_dir: PathBuf,
    /// Whether to change functions that are in use, as far as [`crate::InUse::forceable`] permits.
    pub force_in_use: bool,
    /// Host to change.
    pub host: HostTree,
}

impl Options {
    /// State directory if `PEERPATH_STATE_DIR` is not set.
    pub const DEFAULT_STATE_DIR: &str = "/run/peerpath";
}

impl Default for Options {
    /// The running host, without force. The state directory is `PEERPATH_STATE_DIR`, or [`Options::DEFAULT_STATE_DIR`] if the
    /// variable is unset or empty.
    fn default() -> Self {
        let state_dir = std::env::var_os("PEERPATH_STATE_DIR").filter(|path| !path.is_empty());
        Self {
            state_dir: state_dir.map_or_else(|| PathBuf::from(Self::DEFAULT_STATE_DIR), PathBuf::from),
            force_in_use: false,
            host: HostTree::live(),
        }
    }
}
