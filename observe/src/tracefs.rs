//! Access to tracefs.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::ObserveError;

/// The operations on tracefs that this crate needs. File names are relative to the root of tracefs. Tests use a fake.
pub(crate) trait Tracefs: Send + Sync {
    /// Reads a file as text.
    fn read(&self, name: &str) -> io::Result<String>;
    /// Truncates and writes a file. Opening a tracefs file this way already clears buffers and lists.
    fn write(&self, name: &str, text: &str) -> io::Result<()>;
    /// Appends to a file. Opening a list of probes in any other mode removes all probes of the host.
    fn append(&self, name: &str, text: &str) -> io::Result<()>;
    /// Lists the names in a directory.
    fn list(&self, name: &str) -> io::Result<Vec<String>>;
    /// Creates a trace instance.
    fn make_dir(&self, name: &str) -> io::Result<()>;
    /// Removes a trace instance.
    fn remove_dir(&self, name: &str) -> io::Result<()>;
    /// Whether a file or directory exists.
    fn exists(&self, name: &str) -> bool;
}

/// The tracefs mounted on this host.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
    at: PathBuf,
}

/// Maximum size of one file in bytes, which limits memory use. The trace of one recording is far smaller.
const READ_LIMIT_BYTES: u64 = 256 << 20;

impl Mounted {
    /// Finds a mounted tracefs below `root`. Does not mount tracefs, because that is a decision for the administrator.
    pub(crate) fn find(root: &Path) -> Result<Self, ObserveError> {
        let usual = ["sys/kernel/tracing", "sys/kernel/debug/tracing"].map(|name| root.join(name));
        let mounts = fs::read_to_string(root.join("proc/self/mounts")).unwrap_or_default();
        let mounted = mounts.lines().filter_map(mount_point).map(|path| root.join(path));
        let mut denied = None;
        for at in usual.into_iter().chain(mounted) {
            match fs::metadata(at.join("instances")) {
                Ok(_) => return Ok(Self { at }),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied = Some(error),
                Err(_) => {}
            }
        }
        Err(match denied {
            Some(error) => ObserveError::access("cannot access tracefs", error),
            None => ObserveError::new(
                "cannot find tracefs",
                "tracefs is not mounted, or the kernel is built without CONFIG_FTRACE.",
                "Mount it with `mount -t tracefs tracefs /sys/kernel/tracing`.",
            ),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }
}

/// The mount point in a line of `/proc/self/mounts`, if the line is about tracefs.
fn mount_point(line: &str) -> Option<&str> {
    let mut fields = line.split(' ');
    let (_, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
    (kind == "tracefs").then(|| at.trim_start_matches('/'))
}

impl Tracefs for Mounted {
    fn read(&self, name: &str) -> io::Result<String> {
        let mut bytes = Vec::new();
        fs::File::open(self.path(name))?.take(READ_LIMIT_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        OpenOptions::new().write(true).truncate(true).open(self.path(name))?.write_all(text.as_bytes())
    }

    fn append(&self, name: &str, text: &str) -> io::Result<()> {
        OpenOptions::new().append(true).open(self.path(name))?.write_all(text.as_bytes())
    }

    fn list(&self, name: &str) -> io::Result<Vec<String>> {
        fs::read_dir(self.path(name))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn make_dir(&self, name: &str) -> io::Result<()> {
        fs::create_dir(self.path(name))
    }

    fn remove_dir(&self, name: &str) -> io::Result<()> {
        fs::remove_dir(self.path(name))
    }

    fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }
}

#[cfg(test)]
mod tests {
    use peerpath_paths::Explained;

    use super::*;

    #[test]
    fn finds_the_mount_point() {
        let root = tempfile::tempdir().unwrap();
        let missing = Mounted::find(root.path()).unwrap_err();
        assert!(missing.explanation().remedy.contains("mount -t tracefs"));

        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/mounts"), "none /elsewhere/tracing tracefs rw 0 0\nx\n").unwrap();
        fs::create_dir_all(root.path().join("elsewhere/tracing/instances")).unwrap();
        assert_eq!(Mounted::find(root.path()).unwrap().at, root.path().join("elsewhere/tracing"));

        fs::create_dir_all(root.path().join("sys/kernel/debug/tracing/instances")).unwrap();
        assert_eq!(Mounted::find(root.path()).unwrap().at, root.path().join("sys/kernel/debug/tracing"));
    }

    #[test]
    fn append_keeps_existing_probes() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("kprobe_events"), "p:theirs/a b\n").unwrap();
        let tracefs = Mounted { at: root.path().into() };
        tracefs.append("kprobe_events", "p:ours/c d\n").unwrap();
        assert_eq!(tracefs.read("kprobe_events").unwrap(), "p:theirs/a b\np:ours/c d\n");
        tracefs.write("kprobe_events", "").unwrap();
        assert_eq!(tracefs.read("kprobe_events").unwrap(), "");
    }
}
