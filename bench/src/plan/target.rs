//! Parses target names.

use std::fmt;
use std::str::FromStr;

use peerpath_importers::{IMPORTERS, Importer, parse_target_among};
use serde::{Serialize, Serializer};

/// A target device. Its text form is `KIND:ADDRESS`, e.g. `verbs:mlx5_0`.
#[derive(Clone)]
pub struct Target {
    /// The importer for this kind of target.
    pub importer: &'static dyn Importer,
    /// Device name, in the format that the importer documents.
    pub address: String,
}

impl Target {
    /// Parses a target name. `importers` are the importers to choose from, which may be defined in another crate.
    ///
    /// # Errors
    /// The text contains no colon, or no importer has this kind.
    pub fn among(importers: &[&'static dyn Importer], text: &str) -> Result<Self, peerpath_importers::Error> {
        let (importer, address) = parse_target_among(importers, text)?;
        Ok(Self { importer, address: address.to_owned() })
    }
}

/// Parses a target name for one of the built-in importers.
impl FromStr for Target {
    type Err = peerpath_importers::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::among(IMPORTERS, text)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.importer.kind(), self.address))
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
