//! How a host is changed.

use std::path::PathBuf;

use crate::HostTree;

/// How a host is changed, and where the changes are recorded.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the journal and the locks. Only its owner may be able to write to it.
    pub state_dir: PathBuf,
    /// Change functions that are in use, as far as [`crate::InUse::forceable`] allows.
    pub force_in_use: bool,
    /// The host.
    pub host: HostTree,
}

impl Options {
    /// Where the journal is unless the environment names another directory.
    pub const DEFAULT_STATE_DIR: &str = "/run/peerpath";
}

impl Default for Options {
    /// This host, nothing forced, and the state directory that `PEERPATH_STATE_DIR` names, or
    /// [`Options::DEFAULT_STATE_DIR`] if that is unset or empty.
    fn default() -> Self {
        let state_dir = std::env::var_os("PEERPATH_STATE_DIR").filter(|path| !path.is_empty());
        Self {
            state_dir: state_dir.map_or_else(|| PathBuf::from(Self::DEFAULT_STATE_DIR), PathBuf::from),
            force_in_use: false,
            host: HostTree::live(),
        }
    }
}
