//! How sources are opened.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Error, HostTree};

/// The way into VFIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Door {
    /// The device's own character device where the kernel offers it, otherwise the group.
    #[default]
    Auto,
    /// `/dev/vfio/GROUP` and a type 1 container.
    Group,
    /// `/dev/vfio/devices/vfioN` and an iommufd.
    Cdev,
}

impl Door {
    /// Every door, in the order in which help texts list them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Group, Self::Cdev];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Group => "group",
            Self::Cdev => "cdev",
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Door {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|door| door.as_str() == text)
            .ok_or_else(|| Error::BadDoor { text: text.chars().take(64).collect() })
    }
}

/// What opening a source may do and where it keeps its notes.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The way into VFIO.
    pub door: Door,
    /// Where the journal and the locks lie.
    pub state_dir: PathBuf,
    /// Take a function although something uses it (never one whose loss would break this host).
    pub force_in_use: bool,
    /// `host:` memory lies in huge pages.
    pub huge_pages: bool,
    /// Where the host is read.
    pub host: HostTree,
}

impl OpenOptions {
    /// Where the journal lies unless the user says otherwise.
    pub const DEFAULT_STATE_DIR: &str = "/run/peerpath";
}

impl Default for OpenOptions {
    /// This host through whichever door there is, nothing forced, and the state directory of `PEERPATH_STATE_DIR`, or
    /// [`OpenOptions::DEFAULT_STATE_DIR`] where that is unset or empty.
    fn default() -> Self {
        let state_dir = std::env::var_os("PEERPATH_STATE_DIR").filter(|path| !path.is_empty());
        Self {
            door: Door::Auto,
            state_dir: state_dir.map_or_else(|| PathBuf::from(Self::DEFAULT_STATE_DIR), PathBuf::from),
            force_in_use: false,
            huge_pages: false,
            host: HostTree::live(),
        }
    }
}
