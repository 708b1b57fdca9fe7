//! Options for opening sources.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// VFIO interface through which a function is opened (Linux, `Documentation/driver-api/vfio.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VfioInterface {
    /// [`VfioInterface::Cdev`] if the kernel offers it, otherwise [`VfioInterface::Group`].
    #[default]
    Auto,
    /// `/dev/vfio/GROUP` and a type 1 container.
    Group,
    /// `/dev/vfio/devices/vfioN` and an iommufd.
    Cdev,
}

impl VfioInterface {
    /// All values, in the order of help texts.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Group, Self::Cdev];

    /// Returns the name that [`VfioInterface::from_str`] accepts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Group => "group",
            Self::Cdev => "cdev",
        }
    }
}

impl fmt::Display for VfioInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for VfioInterface {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|interface| interface.as_str() == text)
            .ok_or_else(|| Error::BadVfioInterface { text: text.chars().take(64).collect() })
    }
}

/// Options for opening sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Interface through which functions are opened.
    pub vfio: VfioInterface,
    /// Whether [`HostExporter`](crate::HostExporter) allocates huge pages of 2 MiB.
    pub huge_pages: bool,
}
