//! Explains why this process may not use a file: it lacks permission, the file system is read-only, or other users can write to
//! the directory.

use std::io;
use std::path::Path;

use peerpath_paths::{Cause, Explanation};

pub(super) fn is_denied(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

pub(super) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

const NEEDS_ROOT: &str = "Changing and restoring a host needs root.";

pub(super) fn denied_read(path: &Path, is_root: bool) -> Explanation {
    let (why, remedy) = if is_root {
        let why = format!("The kernel denies access to {} even to root, for example in a container.", path.display());
        (why, "Run outside of the container, or give it access.")
    } else {
        (format!("This user has no permission for {}. {NEEDS_ROOT}", path.display()), "Run as root.")
    };
    Explanation::new(Cause::NoPermission, why, remedy)
}

pub(super) fn denied_state(path: &Path, source: &io::Error, is_root: bool) -> Explanation {
    let (why, remedy) = if source.kind() == io::ErrorKind::ReadOnlyFilesystem {
        let why = format!("The file system of {} is read-only.", path.display());
        (why, "Set PEERPATH_STATE_DIR to a directory on a writable file system, or remount this one.")
    } else if is_root {
        let why = format!("The kernel denies access to {} even to root, for example in a container.", path.display());
        (why, "Set PEERPATH_STATE_DIR to a directory that this process can write to.")
    } else {
        let why = format!("This user has no permission for {}. {NEEDS_ROOT}", path.display());
        (why, "Run as root.")
    };
    Explanation::new(Cause::NoPermission, why, remedy)
}

pub(super) fn untrusted(path: &Path, owner: u32, user: u32) -> Explanation {
    if owner == 0 && user != 0 {
        return Explanation::new(Cause::NoPermission, format!("Root owns the directory. {NEEDS_ROOT}"), "Run as root.");
    }
    let path = path.display();
    let remedy = if owner == user { format!("`chmod go-w {path}`") } else { format!("`chown {user} {path}`") };
    Explanation::new(
        Cause::NoPermission,
        "The files in this directory determine how the host is restored, so only the user of this process may write to it.",
        format!("Run {remedy} if you trust its files, or set PEERPATH_STATE_DIR to a directory of your own."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn names_the_real_reason_why_the_state_directory_cannot_be_used() {
        let path = Path::new("/run/peerpath");
        let remedy = |explanation: Explanation| format!("{} {}", explanation.why, explanation.remedy);
        for is_root in [true, false] {
            let read_only = remedy(denied_state(path, &io::Error::from_raw_os_error(libc::EROFS), is_root));
            assert!(read_only.starts_with("The file system of /run/peerpath is read-only. Set PEERPATH_STATE_DIR"));
        }
        assert!(!remedy(denied_state(path, &io::Error::from_raw_os_error(libc::EACCES), true)).contains("Run as root"));
        assert!(
            remedy(denied_state(path, &io::Error::from_raw_os_error(libc::EACCES), false))
                .ends_with("needs root. Run as root.")
        );
        assert!(!remedy(denied_read(path, true)).contains("Run as root"));
        assert!(remedy(untrusted(path, 0, 1000)).ends_with("needs root. Run as root."));
        assert!(remedy(untrusted(path, 1000, 0)).contains("`chown 0 /run/peerpath`"));
        assert!(remedy(untrusted(path, 0, 0)).contains("`chmod go-w /run/peerpath`"));
        let error = |owner, mode| Error::UntrustedStateDir { path: path.to_owned(), owner, mode, user: 0 }.to_string();
        let start = "cannot use the state directory /run/peerpath";
        assert_eq!(error(1000, 0o755), format!("{start}: user 1000 owns it, not user 0"));
        assert_eq!(error(0, 0o777), format!("{start}: other users can write to it (mode 0777)"));
    }
}
