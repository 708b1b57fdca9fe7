//! Why each failure happens and what to do about it. `peerpath_paths::explain` holds the meaning of the kernel's errnos.

use std::io;
use std::path::Path;

use peerpath_paths::{Cause, Explained, Explanation, Facts, Severity, Step, explain};

use crate::Error;

impl Error {
    /// The cause word that results use; none where no word fits.
    pub fn cause(&self) -> Option<Cause> {
        self.explanation().cause
    }
}

impl Explained for Error {
    fn severity(&self) -> Severity {
        match self {
            Self::Group(error) => error.severity(),
            Self::ReadHost { source, .. } | Self::State { source, .. } if !is_permission(source) => Severity::Internal,
            Self::BadJournal { .. } => Severity::Internal,
            Self::Acs { .. } | Self::Program { .. } | Self::NotRestored { .. } | Self::LeftChanged { .. } => {
                Severity::Failed
            }
            // The errno decides.
            Self::SetDomain { .. } => self.explanation().severity.unwrap_or(Severity::Failed),
            _ => Severity::Unavailable,
        }
    }

    fn explanation(&self) -> Explanation {
        match self {
            Self::Group(error) => error.explanation(),
            Self::ReadHost { path, source } | Self::State { path, source, .. } => file(path, source),
            Self::NotVfioDriver { driver, .. } => Explanation::new(
                Cause::DriverNotVfio,
                format!("The driver {driver} is bound to the function."),
                "Bind the function to vfio-pci first.",
            ),
            Self::Locked { pid, .. } => Explanation::new(
                Cause::InUse,
                pid.map_or_else(
                    || "Another process of peerpath uses it.".to_owned(),
                    |pid| format!("The peerpath process {pid} uses it."),
                ),
                "Wait until that process ends, or end it.",
            ),
            Self::OpenElsewhere { pids, .. } => open_elsewhere(pids),
            Self::InUse { uses, forced, .. } => in_use(uses.iter().all(|one| one.forceable), *forced),
            Self::VfioPciMissing => Explanation::new(
                Cause::DriverNotVfio,
                "The kernel module vfio-pci is not loaded, or this kernel was built without it.",
                "Load it: `modprobe vfio-pci`.",
            ),
            Self::Bind { source, .. } => by_errno(Step::BindDriver, source),
            Self::NotBound { bdf, driver } => Explanation::new(
                Cause::DriverNotVfio,
                format!("The kernel returned no error; its log says why {driver} did not accept the function."),
                format!("Look at `dmesg | grep {bdf}`."),
            ),
            Self::NotRestorable { .. } => Explanation::new(
                Cause::InUse,
                "Only what can be restored afterwards is removed.",
                "Remove it yourself first, or choose another importer.",
            ),
            Self::SetDomain { source, .. } => by_errno(Step::SetDomainType, source),
            Self::Acs { bdf, source, .. } => Explanation::uncaused(
                sentence(&source.to_string()),
                format!("Look at `setpci -s {bdf} ECAP_ACS+6.w`, and at what the firmware allows."),
            ),
            Self::NoProgram { program } => Explanation::new(
                Cause::LibraryMissing,
                format!("The program {program} reads and restores the configuration of network interfaces."),
                "Install iproute2.",
            ),
            Self::Program { .. } => Explanation::uncaused(
                "The configuration of a network interface could not be read or restored.",
                "Restore the host again: the journal lists what is left.",
            ),
            Self::NotRestored { bdf, .. } => Explanation::new(
                Cause::TimedOut,
                "The driver is bound to the function again and did not create it.",
                format!("Look at `dmesg | grep {bdf}`, then restore the host again: the journal lists what is left."),
            ),
            Self::LeftChanged { left, .. } => {
                let Explanation { cause, severity, why, remedy } = left.explanation();
                let remedy = format!("{remedy} Then restore the host: the journal lists what is left.");
                Explanation { cause, severity, why, remedy }
            }
            Self::BadJournal { path, .. } => Explanation::uncaused(
                "Another program, or another version of this one, wrote it.",
                format!("Look at {}, restore by hand what it lists, and remove it.", path.display()),
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

fn is_permission(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn file(path: &Path, source: &io::Error) -> Explanation {
    if is_permission(source) {
        return Explanation::new(
            Cause::NoPermission,
            format!("The user has no permission for {}.", path.display()),
            "Run as root, or set PEERPATH_STATE_DIR to a directory of your own.",
        );
    }
    Explanation::uncaused(sentence(&source.to_string()), format!("Look at {}.", path.display()))
}

fn open_elsewhere(pids: &[u32]) -> Explanation {
    let remedy = match pids {
        [] => "End the program: `fuser -v /dev/vfio/* /dev/vfio/devices/*` names it.".to_owned(),
        [pid] => format!("End the process {pid}, which has it open."),
        pids => format!("End the processes {pids:?}, which have it open."),
    };
    Explanation::new(Cause::InUse, "Unbinding a function waits until every program has closed it.", remedy)
}

fn in_use(forceable: bool, forced: bool) -> Explanation {
    let remedy = match (forceable, forced) {
        (true, _) => "Stop what uses it, or force the binding of a function that is in use.",
        (false, true) => {
            "Stop what uses it. Force covers neither a mounted disk, the default route and the login session, nor software \
             RDMA that a program has open."
        }
        (false, false) => "Stop what uses it.",
    };
    Explanation::new(Cause::InUse, "Unbinding the function from its driver would break what uses it.", remedy)
}

/// The text of an error as a sentence: a capital in front, a full stop behind.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InUse, Subject, UseKind};
    use peerpath_paths::{Bdf, GroupError, IommuGroupId};

    fn bdf() -> Bdf {
        "0000:03:00.0".parse().unwrap()
    }

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn exit_codes_follow_the_kind_of_failure() {
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
