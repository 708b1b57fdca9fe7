//! Secured links: a connection to the platform's TEE security manager (TSM), and link encryption (IDE).

use crate::{Bdf, Function, Topology};

/// The security of a function's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkSecurity<'a> {
    /// The function with the TSM connection, and the name of the TSM. A virtual function uses the TSM connection of its security
    /// manager.
    pub(crate) connection: Option<(Bdf, &'a str)>,
    /// The function whose IDE capability shows a stream in the state Secure.
    pub(crate) encrypts: Option<Bdf>,
}

impl<'a> LinkSecurity<'a> {
    /// Reads the security of a function's link; `None` if neither a TSM connection nor a secure stream is visible.
    pub(crate) fn of(topology: &'a Topology, function: &'a Function) -> Option<Self> {
        let of_device = [Some(function.bdf), function.security_manager, function.physical_function, first(function)];
        let functions = || of_device.iter().flatten().filter_map(|bdf| topology.function(*bdf));
        let encrypts = |function: &&Function| {
            function.ide.present().is_some_and(|ide| ide.secure_link_streams + ide.secure_selective_streams > 0)
        };
        let security = Self {
            connection: functions().find_map(|function| Some((function.bdf, function.tsm.as_deref()?))),
            encrypts: functions().find(encrypts).map(|function| function.bdf),
        };
        (security.connection.is_some() || security.encrypts.is_some()).then_some(security)
    }

    /// The statement about `function`, as a clause without capital and period.
    pub(crate) fn clause(&self, function: Bdf) -> String {
        const OUTSIDE: &str =
            "a selective IDE stream to the root port does not protect requests that a switch routes to a peer";
        let connected = |(holder, tsm): (Bdf, &str)| match holder == function {
            true => format!("the TEE security manager {tsm} is connected to {function}"),
            false => format!("the TEE security manager {tsm} is connected to {holder}, which manages {function}"),
        };
        match (self.connection.map(connected), self.encrypts) {
            (Some(connected), Some(holder)) => {
                format!("{connected}, and a secure IDE stream of {holder} encrypts its link; {OUTSIDE}")
            }
            (Some(connected), None) => format!("{connected} and may encrypt its link (IDE); {OUTSIDE}"),
            (None, Some(holder)) => format!("a secure IDE stream of {holder} encrypts its link; {OUTSIDE}"),
            (None, None) => String::new(),
        }
    }
}

/// Function 0 of a function's device. It has the IDE capability and the TSM connection for all functions of the device.
fn first(function: &Function) -> Option<Bdf> {
    let bdf = function.physical_function.unwrap_or(function.bdf);
    Bdf::new(bdf.segment(), bdf.bus(), bdf.device(), 0)
}
