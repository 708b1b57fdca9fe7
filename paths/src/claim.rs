//! How the crates that open functions and the one that changes hosts meet without knowing each other.

use std::any::Any;

use crate::{Bdf, Explained};

/// Decides whether this process may open a function through VFIO, and reserves it for as long as it is open.
///
/// Libraries that open functions ask it; `peerpath-host` implements it with a lock and, for a function without a driver, a
/// temporary binding to vfio-pci.
pub trait FunctionGuard: Send + Sync {
    /// Reserves the function. Dropping the claim releases it; that happens after the function was closed.
    ///
    /// # Errors
    /// Why the function must not be opened.
    fn acquire(&self, bdf: Bdf) -> Result<FunctionClaim, Box<dyn Explained>>;

    /// Whether [`FunctionGuard::acquire`] would succeed; changes and reserves nothing.
    ///
    /// # Errors
    /// Why it would fail.
    fn probe(&self, bdf: Bdf) -> Result<(), Box<dyn Explained>>;
}

/// A reserved function, until dropped.
pub type FunctionClaim = Box<dyn Any + Send + Sync>;
