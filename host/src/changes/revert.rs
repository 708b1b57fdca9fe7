//! How each kind of change is undone. Every one of these can be repeated.

use std::fmt;

use super::{Change, Entry, acs, domain, driver};
use crate::Error;
use crate::host_tree::HostTree;

/// What was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutBack {
    /// A function has the driver that it had, if any.
    Driver(Option<String>),
    /// A function was given to its VFIO driver again.
    Rebound(String),
    /// A group has a domain of the type that it had, and its functions their drivers and networks.
    Domain(String),
    /// A port has the ACS control that it had.
    Acs,
}

impl fmt::Display for PutBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(Some(driver)) => write!(f, "back to {driver}"),
            Self::Driver(None) => f.write_str("no driver, as before"),
            Self::Rebound(driver) => write!(f, "given to {driver} anew, so that the kernel forgets the path it chose"),
            Self::Domain(kind) => write!(f, "domain type {kind}, drivers and networks as before"),
            Self::Acs => f.write_str("ACS redirect as before"),
        }
    }
}

pub(super) fn undo(host: &HostTree, entry: &Entry) -> Result<PutBack, Error> {
    let bdf = entry.bdf;
    match &entry.change {
        Change::Driver { driver, driver_override } => {
            driver::give_back(host, bdf, driver.as_deref(), driver_override.as_deref())?;
            Ok(PutBack::Driver(driver.clone()))
        }
        Change::Rebound { driver } => {
            driver::rebind(host, bdf, driver)?;
            Ok(PutBack::Rebound(driver.clone()))
        }
        Change::Domain(before) => {
            domain::put_back(host, before)?;
            Ok(PutBack::Domain(before.kind.clone()))
        }
        Change::Acs(before) => {
            acs::put(host, bdf, *before)?;
            Ok(PutBack::Acs)
        }
    }
}
