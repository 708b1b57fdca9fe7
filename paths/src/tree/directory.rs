//! A copy of a host's files in a directory. Its links come from another host, so they are resolved within the directory.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{FILE_LIMIT_BYTES, Node, Source};

/// A directory that contains `sys` and `proc`.
pub(super) struct Directory {
    root: PathBuf,
    /// Cache of paths that are directories and not links. All files of a function are below the same directories.
    directories: Mutex<HashSet<String>>,
}

impl Directory {
    /// Descends one level if the directory contains only an unpacked snapshot.
    pub(super) fn new(path: &Path) -> Self {
        let root = match names(path).unwrap_or_default().as_slice() {
            [only] if only != "sys" && only != "proc" && path.join(only).join("sys").is_dir() => path.join(only),
            _ => path.to_owned(),
        };
        Self { root, directories: Mutex::default() }
    }
}

impl Source for Directory {
    fn node(&self, path: &str) -> io::Result<Node> {
        // A panic cannot leave the set invalid, so a poisoned lock is accepted.
        let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if directories.contains(path) {
            return Ok(Node::Directory);
        }
        let node = node(&self.root.join(path))?;
        if node == Node::Directory {
            directories.insert(path.to_owned());
        }
        Ok(node)
    }

    fn load(&self, path: &str) -> Option<Vec<u8>> {
        // O_NONBLOCK prevents blocking on a FIFO that replaced the file after it was listed.
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.root.join(path))
            .ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn names(&self, path: &str) -> io::Result<Vec<String>> {
        names(&self.root.join(path))
    }
}

pub(super) fn node(path: &Path) -> io::Result<Node> {
    let kind = fs::symlink_metadata(path)?.file_type();
    Ok(if kind.is_symlink() {
        Node::Link(text(fs::read_link(path)?.into_os_string())?)
    } else if kind.is_dir() {
        Node::Directory
    } else if kind.is_file() {
        Node::File
    } else {
        Node::Other
    })
}

/// Lists the names in a directory. Skips names that are not UTF-8: no file of sysfs or procfs that is read here has one.
pub(super) fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

fn text(name: OsString) -> io::Result<String> {
    name.into_string().map_err(|_| io::ErrorKind::InvalidData.into())
}
