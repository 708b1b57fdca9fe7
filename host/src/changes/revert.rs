//! How each kind of change is reverted. Each of these can be repeated.

use std::fmt;

use super::{Change, Entry, acs, domain, driver};
use crate::Error;
use crate::host_tree::HostTree;

/// A change that was reverted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reverted {
    /// A function has its driver of before, or none if it had none.
    Driver(Option<String>),
    /// A function was bound to its VFIO driver anew.
    Rebound(String),
    /// A group has a domain of the type of before, and its functions have their drivers and networks of before.
    Domain(String),
    /// A port has its ACS control word of before.
    Acs,
}

impl fmt::Display for Reverted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(Some(driver)) => write!(f, "bound to {driver} again"),
            Self::Driver(None) => f.write_str("no driver, as before"),
            Self::Rebound(driver) => write!(f, "bound to {driver} anew, so that the kernel discards the path it chose"),
            Self::Domain(kind) => write!(f, "domain type {kind}, drivers and networks as before"),
            Self::Acs => f.write_str("ACS redirect as before"),
        }
    }
}

pub(super) fn revert(host: &HostTree, entry: &Entry) -> Result<Reverted, Error> {
    let bdf = entry.bdf;
    match &entry.change {
        Change::Driver { driver, driver_override } => {
            driver::revert(host, bdf, driver.as_deref(), driver_override.as_deref())?;
            Ok(Reverted::Driver(driver.clone()))
        }
        Change::Rebound { driver } => {
            driver::rebind(host, bdf, driver)?;
            Ok(Reverted::Rebound(driver.clone()))
        }
        Change::Domain(before) => {
            domain::revert(host, before)?;
            Ok(Reverted::Domain(before.kind.clone()))
        }
        Change::Acs(before) => {
            acs::write_bits(host, bdf, *before)?;
            Ok(Reverted::Acs)
        }
    }
}
