//! The error type of this crate.

use std::io;

use peerpath_paths::{Cause, Explained, Explanation, Severity};

/// This host does not permit or support observation of paths or of IOMMU faults. A caller may continue without it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ObserveError {
    what: String,
    #[source]
    source: Option<io::Error>,
    explanation: Explanation,
}

impl ObserveError {
    /// Creates an error that has no I/O error as its source.
    pub(crate) fn new(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), source: None, explanation: Explanation::uncaused(why, remedy) }
    }

    /// Creates the error for a refused access to tracefs.
    pub(crate) fn access(what: impl Into<String>, source: io::Error) -> Self {
        let explanation = match source.kind() {
            io::ErrorKind::PermissionDenied => Explanation::new(
                Cause::NoPermission,
                "Tracing requires root, and kernel lockdown in confidentiality mode disables tracing even for root.",
                "Run as root. As root, check /sys/kernel/security/lockdown.",
            ),
            io::ErrorKind::NotFound => Explanation::uncaused(
                "The kernel is built without this part of tracing.",
                "Boot a kernel built with CONFIG_FTRACE, CONFIG_KPROBES and CONFIG_KPROBE_EVENTS.",
            ),
            _ => Explanation::uncaused(
                "The kernel's tracing rejected the request.",
                "Check the kernel log (dmesg), and which other program uses /sys/kernel/tracing.",
            ),
        };
        Self { what: what.into(), source: Some(source), explanation }
    }

    /// Replaces reason and remedy with those for `/dev/kmsg`, which needs other permissions than tracefs.
    pub(crate) fn in_log(mut self) -> Self {
        if self.explanation.cause == Some(Cause::NoPermission) {
            self.explanation.why = "The kernel restricts its log to root (kernel.dmesg_restrict).".into();
            self.explanation.remedy = "Run as root or with CAP_SYSLOG.".into();
        } else {
            self.explanation.why = "The kernel log /dev/kmsg does not exist here, as in many containers.".into();
            self.explanation.remedy = "Run on the host, or read the log with dmesg.".into();
        }
        self
    }
}

impl Explained for ObserveError {
    fn explanation(&self) -> Explanation {
        self.explanation.clone()
    }

    fn severity(&self) -> Severity {
        Severity::Unavailable
    }
}
