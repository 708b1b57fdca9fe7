//! Why something cannot be observed on this host.

use std::io;

use peerpath_paths::{Cause, Class, Explained, Explanation};

/// Observation is not possible here; the run can go on without it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Unobservable {
    what: String,
    #[source]
    source: Option<io::Error>,
    explanation: Explanation,
}

impl Unobservable {
    /// With no error of the system behind it.
    pub(crate) fn new(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), source: None, explanation: Explanation::uncaused(why, remedy) }
    }

    /// The system refused an access below tracefs.
    pub(crate) fn access(what: impl Into<String>, source: io::Error) -> Self {
        let explanation = match source.kind() {
            io::ErrorKind::PermissionDenied => Explanation::new(
                Cause::NoPermission,
                "The kernel's tracing is open to root only, and not even to root where the kernel is locked down.",
                "Run as root; if that is the case already, look for lockdown in /sys/kernel/security/lockdown.",
            ),
            io::ErrorKind::NotFound => Explanation::uncaused(
                "The kernel was built without this part of tracing.",
                "Use a kernel with CONFIG_FTRACE, CONFIG_KPROBES and CONFIG_KPROBE_EVENTS.",
            ),
            _ => Explanation::uncaused(
                "The kernel's tracing refused it.",
                "Look at the kernel log, and at what else uses /sys/kernel/tracing now.",
            ),
        };
        Self { what: what.into(), source: Some(source), explanation }
    }
}

impl Unobservable {
    /// The same for the kernel's log, which has a permission of its own.
    pub(crate) fn in_log(mut self) -> Self {
        if self.explanation.cause == Some(Cause::NoPermission) {
            self.explanation.why = "The kernel's log is restricted to root (kernel.dmesg_restrict).".into();
            self.explanation.remedy = "Run as root, or with CAP_SYSLOG.".into();
        } else {
            self.explanation.why = "There is no log of the kernel here; containers often have none.".into();
            self.explanation.remedy = "Run on the host, and look at dmesg yourself.".into();
        }
        self
    }
}

impl Explained for Unobservable {
    fn explanation(&self) -> Explanation {
        self.explanation.clone()
    }

    fn class(&self) -> Class {
        Class::CannotHere
    }
}
