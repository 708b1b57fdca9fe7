//! A copy of a host's files in a directory. Its links come from another host, so they are resolved within the directory.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{FILE_LIMIT_BYTES, Node, Source};

/// A directory that contains `sys` and `proc`.
pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Descends one level if the directory contains only an unpacked snapshot.
    pub(super) fn new(path: &Path) -> Self {
        let root = match names(path).as_slice() {
            [only] if only != "sys" && path.join(only).join("sys").is_dir() => path.join(only),
            _ => path.to_owned(),
        };
        Self { root }
    }
}

impl Source for Directory {
    fn node(&self, path: &str) -> Option<Node> {
        node(&self.root.join(path))
    }

    fn load(&self, path: &str) -> Option<Vec<u8>> {
        // O_NONBLOCK: a FIFO that replaces the file after the check must not block.
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

    fn names(&self, path: &str) -> Vec<String> {
        names(&self.root.join(path))
    }
}

pub(super) fn node(path: &Path) -> Option<Node> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    Some(if kind.is_symlink() {
        Node::Link(fs::read_link(path).ok()?.to_str()?.to_owned())
    } else if kind.is_dir() {
        Node::Directory
    } else if kind.is_file() {
        Node::File
    } else {
        Node::Other
    })
}

pub(super) fn names(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}
