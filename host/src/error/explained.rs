//! Reason and remedy of each failure. `peerpath_paths::explain` provides the meaning of the kernel's errnos.

use std::io;

use peerpath_paths::{Cause, Explained, Explanation, Facts, Severity, Step, explain, sentence};

use super::denied::{denied_read, denied_state, is_denied, is_root, untrusted};
use crate::{Error, InUse};

impl Error {
    /// The cause for results; `None` if no cause applies.
    pub fn cause(&self) -> Option<Cause> {
        self.explanation().cause
    }
}

impl Explained for Error {
    fn severity(&self) -> Severity {
        match self {
            Self::Group(error) => error.severity(),
            Self::ReadHost { source, .. } | Self::State { source, .. } if !is_denied(source) => Severity::Internal,
            Self::BadJournal { .. } => Severity::Internal,
            Self::Acs { .. } | Self::Program { .. } | Self::NotRestored { .. } | Self::LeftChanged { .. } => {
                Severity::Failed
            }
            // The severity depends on the errno.
            Self::SetDomain { .. } => self.explanation().severity.unwrap_or(Severity::Failed),
            _ => Severity::Unavailable,
        }
    }

    fn explanation(&self) -> Explanation {
        match self {
            Self::Group(error) => error.explanation(),
            Self::ReadHost { path, source } | Self::State { path, source, .. } if !is_denied(source) => {
                Explanation::uncaused(sentence(&source.to_string()), format!("Check {}.", path.display()))
            }
            Self::ReadHost { path, .. } => denied_read(path, is_root()),
            Self::State { path, source, .. } => denied_state(path, source, is_root()),
            Self::UntrustedStateDir { path, owner, user, .. } => untrusted(path, *owner, *user),
            Self::NotVfioDriver { bdf, .. } => Explanation::new(
                Cause::DriverNotVfio,
                "Only a function that is bound to a VFIO driver can be used.",
                format!("Bind {bdf} to vfio-pci."),
            ),
            Self::Locked { pid, .. } => Explanation::new(
                Cause::InUse,
                pid.map_or_else(
                    || "Another peerpath process holds the lock.".to_owned(),
                    |pid| format!("The peerpath process {pid} holds the lock."),
                ),
                "Wait until that process exits, or end it.",
            ),
            Self::OpenElsewhere { pids, .. } => open_elsewhere(pids),
            Self::InUse { uses, .. } => in_use(uses),
            Self::VfioPciMissing => Explanation::new(
                Cause::DriverNotVfio,
                "The kernel module vfio-pci is not loaded, or this kernel was built without it.",
                "Load it: `modprobe vfio-pci`.",
            ),
            Self::Bind { source, .. } => by_errno(Step::BindDriver, source),
            Self::NotBound { bdf, driver } => Explanation::new(
                Cause::DriverNotVfio,
                format!(
                    "The kernel returned no error. Its log may contain the reason why {driver} did not accept the function."
                ),
                format!("Check `dmesg | grep {bdf}`."),
            ),
            Self::NotRestorable { .. } => Explanation::new(
                Cause::InUse,
                "A change that cannot be reverted is never made.",
                "Remove the obstacle that the message names, e.g. take the interface out of its bond, or choose another function.",
            ),
            Self::SetDomain { source, .. } => by_errno(Step::SetDomainType, source),
            Self::Acs { bdf, source, .. } => Explanation::uncaused(
                sentence(&source.to_string()),
                format!("Check `setpci -s {bdf} ECAP_ACS+6.w`, and the ACS settings of the firmware."),
            ),
            Self::NoProgram { program } => Explanation::new(
                Cause::LibraryMissing,
                format!("The program {program} reads and restores the configuration of network interfaces."),
                "Install iproute2.",
            ),
            Self::Program { .. } => Explanation::uncaused(
                "The program reads or restores the configuration of a network interface.",
                "Restore the host again: the journal lists the remaining changes.",
            ),
            Self::NotRestored { bdf, .. } => Explanation::new(
                Cause::TimedOut,
                "The driver is bound to the function again, but the missing part did not appear before the timeout.",
                format!(
                    "Check `dmesg | grep {bdf}`, then restore the host again: the journal lists the remaining changes."
                ),
            ),
            Self::Replaced { before, kept, .. } => replaced(before, *kept),
            Self::OtherDriver { driver, before, .. } => Explanation::uncaused(
                "Another program bound this driver after the change, so it stays bound. The change stays in the journal.",
                match before {
                    Some(before) => format!("Unbind {driver} and restore the host again, or bind {before}."),
                    None => format!("Unbind {driver} and restore the host again."),
                },
            ),
            Self::LeftChanged { left, .. } => {
                let Explanation { cause, severity, why, remedy } = left.explanation();
                let remedy = format!("{remedy} Then restore the host: the journal lists the remaining changes.");
                Explanation { cause, severity, why, remedy }
            }
            Self::BadJournal { path, .. } => Explanation::uncaused(
                "Another program or another version of peerpath wrote the file.",
                format!("Revert the changes that {} lists by hand, and remove the file.", path.display()),
            ),
        }
    }
}

fn by_errno(step: Step, source: &io::Error) -> Explanation {
    match source.raw_os_error() {
        Some(errno) => explain(step, errno, &Facts::default()),
        None => Explanation::uncaused(sentence(&source.to_string()), "Report this as a bug."),
    }
}

fn replaced(before: &str, kept: bool) -> Explanation {
    if kept {
        return Explanation::uncaused(
            "After peerpath made this change, functions were added or removed, for example by a PCI rescan. Nothing was reverted, and \
             the journal still lists the change.",
            format!(
                "Restore the host again when the original functions exist, or restore the earlier state by hand: {before}."
            ),
        );
    }
    Explanation::uncaused(
        "After peerpath made this change, its functions were removed or replaced, so the change no longer exists. Nothing was \
         reverted, and the journal no longer lists the change.",
        format!("Check the present functions. State before the change: {before}."),
    )
}

fn open_elsewhere(pids: &[u32]) -> Explanation {
    let remedy = match pids {
        [] => "Find the program with `fuser -v /dev/vfio/* /dev/vfio/devices/*`, and end it.".to_owned(),
        [pid] => format!("End the process {pid}, which has the function open."),
        pids => format!("End the processes {pids:?}, which have the function open."),
    };
    Explanation::new(
        Cause::InUse,
        "If a program has the function open through VFIO, unbinding it blocks until the program closes it.",
        remedy,
    )
}

/// Callers offer to force the change only after "Stop these uses.", so other remedies do not contain these words.
fn in_use(uses: &[InUse]) -> Explanation {
    let (forceable, fixed): (Vec<_>, Vec<_>) = uses.iter().partition(|one| one.forceable);
    let remedy = match (&forceable[..], &fixed[..]) {
        (_, []) => "Stop these uses.".to_owned(),
        ([], _) => "End these uses; no option overrides them.".to_owned(),
        (_, fixed) => {
            let fixed: Vec<_> = fixed.iter().map(ToString::to_string).collect();
            format!("End the uses that no option overrides: {}.", fixed.join("; "))
        }
    };
    Explanation::new(Cause::InUse, "The change would break these uses of the function.", remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Subject, UseKind};
    use peerpath_paths::{Bdf, GroupError, IommuGroupId};

    fn bdf() -> Bdf {
        "0000:03:00.0".parse().unwrap()
    }

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn severity_and_cause_depend_on_the_error() {
        let path = std::path::PathBuf::from("/run/peerpath");
        let state = |number| Error::State { path: path.clone(), operation: "write", source: errno(number) };
        for (error, class, cause) in [
            (Error::Group(GroupError::NoFunction { bdf: bdf() }), Severity::BadInput, Some(Cause::NoDevice)),
            (
                Error::NotVfioDriver { bdf: bdf(), driver: "nvme".to_owned() },
                Severity::Unavailable,
                Some(Cause::DriverNotVfio),
            ),
            (
                Error::Locked { subject: Subject::Function(bdf()), pid: Some(7) },
                Severity::Unavailable,
                Some(Cause::InUse),
            ),
            (
                Error::SetDomain { group: IommuGroupId(9), kind: "identity".to_owned(), source: errno(libc::EPERM) },
                Severity::Unavailable,
                Some(Cause::InUse),
            ),
            (Error::NoProgram { program: "ip" }, Severity::Unavailable, Some(Cause::LibraryMissing)),
            (state(libc::EACCES), Severity::Unavailable, Some(Cause::NoPermission)),
            (state(libc::ENOSPC), Severity::Internal, None),
        ] {
            assert_eq!((error.severity(), error.cause()), (class, cause), "{error}");
        }
    }

    #[test]
    fn offers_to_force_only_what_force_covers() {
        let one = |detail: &str, forceable| InUse { kind: UseKind::Disk, detail: detail.to_owned(), forceable };
        let (mounted, up) = (one("sda is mounted at /", false), one("eth0 is up", true));
        for (uses, forced, expected) in [
            (vec![up.clone()], false, "Stop these uses."),
            (vec![mounted.clone()], false, "End these uses; no option overrides them."),
            (vec![mounted.clone()], true, "End these uses; no option overrides them."),
            (vec![mounted, up], false, "End the uses that no option overrides: sda is mounted at /."),
        ] {
            assert_eq!(Error::InUse { bdf: bdf(), uses, forced }.explanation().remedy, expected);
        }
    }

    #[test]
    fn every_explanation_consists_of_sentences_and_names_no_option() {
        let disk = InUse { kind: UseKind::Disk, detail: "sda is mounted at /".to_owned(), forceable: false };
        let eth = InUse { kind: UseKind::Network, detail: "eth0 is up".to_owned(), forceable: true };
        for error in [
            Error::InUse { bdf: bdf(), uses: vec![disk], forced: true },
            Error::InUse { bdf: bdf(), uses: vec![eth], forced: false },
            Error::OpenElsewhere { bdf: bdf(), pids: vec![1, 2] },
            Error::NotBound { bdf: bdf(), driver: "nvme".to_owned() },
            Error::NotRestorable { subject: Subject::Group(IommuGroupId(9)), what: "bond0 uses eth0".to_owned() },
            Error::Acs { bdf: bdf(), operation: "write", source: io::Error::other("the port kept the bits") },
            Error::Program { command: "ip link".to_owned(), message: "no".to_owned() },
            Error::NotRestored { bdf: bdf(), what: "eth0".to_owned(), waited_s: 1 },
            Error::Replaced {
                subject: Subject::Function(bdf()),
                found: "no".to_owned(),
                before: "x".to_owned(),
                kept: true,
            },
            Error::Replaced {
                subject: Subject::Function(bdf()),
                found: "no".to_owned(),
                before: "x".to_owned(),
                kept: false,
            },
            Error::OtherDriver { bdf: bdf(), driver: "uio".to_owned(), before: None },
            Error::UntrustedStateDir { path: "/run/peerpath".into(), owner: 1, mode: 0o700, user: 0 },
            Error::LeftChanged {
                error: Box::new(Error::VfioPciMissing),
                left: Box::new(Error::NoProgram { program: "ip" }),
            },
        ] {
            let Explanation { why, remedy, .. } = error.explanation();
            for text in [&why, &remedy] {
                assert!(text.ends_with('.') && text.starts_with(|letter: char| !letter.is_lowercase()), "{text:?}");
                assert!(!text.contains("--") && !text.contains("`peerpath"), "{text:?}");
            }
            assert!(!error.to_string().ends_with('.'), "{error}");
        }
    }
}
