//! The guard of this process, which is asked before a function is opened.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use peerpath_paths::{Bdf, Explained, FunctionClaim, FunctionGuard};

use crate::Error;

static GUARD: RwLock<Option<Arc<dyn FunctionGuard>>> = RwLock::new(None);

/// Sets the guard that this process asks before it opens a function through VFIO. There is one per process because a process
/// opens a function once: all users share the [`crate::Device`], and the claim is released after that was closed.
///
/// Without a guard, only functions that a VFIO driver is bound to can be opened, and nothing keeps two processes apart but
/// the kernel. `peerpath_host::Options` is a guard that locks functions, and binds those without a driver for the time.
pub fn set_guard(guard: Arc<dyn FunctionGuard>) {
    *GUARD.write().unwrap_or_else(PoisonError::into_inner) = Some(guard);
}

/// The guard of this process, if it has one.
pub(crate) fn guard() -> Option<Arc<dyn FunctionGuard>> {
    GUARD.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Reserves a function, if this process has a guard.
pub(crate) fn acquire(bdf: Bdf) -> Result<Option<FunctionClaim>, Error> {
    guard().map(|guard| guard.acquire(bdf)).transpose().map_err(|refusal| Refusal(refusal).into())
}

/// Why the guard of this process does not let a function be opened. Message, source and explanation are the guard's.
#[derive(Debug)]
pub struct Refusal(pub Box<dyn Explained>);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerpath_paths::{Cause, GroupError};

    #[test]
    fn a_refusal_keeps_what_the_guard_says() {
        let refused = GroupError::NoGroup { bdf: "0000:03:00.0".parse().unwrap() };
        let error = Error::from(Refusal(Box::new(refused.clone())));
        assert_eq!(error.to_string(), refused.to_string());
        assert_eq!(error.explanation(), refused.explanation());
        assert_eq!((error.cause(), error.severity()), (Some(Cause::NoIommu), refused.class()));
    }
}
