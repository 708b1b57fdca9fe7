//! Reverts each kind of change. Reverting is idempotent.

use std::fmt;

use super::{Change, Entry, acs, domain, driver};
use crate::Error;
use crate::host_tree::HostTree;

/// The reverted change, with the restored state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reverted {
    /// The function is bound to its previous driver; `None` if it had no driver.
    Driver(Option<String>),
    /// The function was unbound from this VFIO driver and bound again.
    Rebound(String),
    /// The function keeps this driver, which another program bound meanwhile.
    Kept(String),
    /// The group has this domain type again, and its functions have their previous drivers and network configuration.
    Domain(String),
    /// The affected bits of the port's ACS Control register have their previous values.
    Acs,
}

impl fmt::Display for Reverted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(Some(driver)) => write!(f, "bound to {driver} again"),
            Self::Driver(None) => f.write_str("no driver, as before"),
            Self::Rebound(driver) => write!(f, "bound to {driver} again, so that the kernel discards the cached path"),
            Self::Kept(driver) => write!(f, "keeps the driver {driver}, which another program bound meanwhile"),
            Self::Domain(kind) => write!(f, "domain type {kind}, drivers and network configuration as before"),
            Self::Acs => f.write_str("ACS redirect as before"),
        }
    }
}

pub(super) fn revert(host: &HostTree, entry: &Entry) -> Result<Reverted, Error> {
    let bdf = entry.bdf;
    match &entry.change {
        Change::Driver(before) => {
            before.revert(host, bdf)?;
            Ok(Reverted::Driver(before.driver.clone()))
        }
        Change::Rebound { driver } => {
            driver::rebind(host, bdf, driver)?;
            // When the VFIO driver was unbound, by this or another program, the kernel discarded the cached path.
            let other = host.driver(bdf)?.filter(|now| now != driver);
            Ok(other.map_or_else(|| Reverted::Rebound(driver.clone()), Reverted::Kept))
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
