//! The files of a host: the running host, a copy in a directory, or a snapshot.
//!
//! A [`Tree`] hides which of the three it is. A missing file is not an error.

mod archive;
mod directory;
mod error;
mod live;

use std::path::Path;

pub use archive::Limits;
pub use error::TreeError;

/// Size limit of a file in bytes; `/proc/cpuinfo` of a machine with 1024 CPUs is about 2 MiB.
pub(crate) const FILE_LIMIT_BYTES: u64 = 8 << 20;
/// Maximum number of symbolic links in a path, as in the kernel.
const LINK_LIMIT: usize = 40;
/// Maximum number of components of a resolved path.
const DEPTH_LIMIT: usize = 128;

/// The type of a path, without following links.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File,
    /// A symbolic link and its target.
    Link(String),
    /// A device node, FIFO or socket, which is never read.
    Other,
}

/// A source of files. Paths are relative to its root, without a leading slash, `.` and `..`.
trait Source: Send + Sync {
    fn node(&self, path: &str) -> Option<Node>;
    /// The content of a regular file.
    fn load(&self, path: &str) -> Option<Vec<u8>>;
    /// The names in a directory, unordered.
    fn names(&self, path: &str) -> Vec<String>;
    /// Resolves the links in `path`. They never lead out of the tree.
    fn resolve(&self, path: &str) -> Option<String> {
        follow(self, path)
    }
}

/// The files of a host.
pub struct Tree {
    source: Box<dyn Source>,
    live: bool,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("live", &self.live).finish_non_exhaustive()
    }
}

impl Tree {
    /// The running host.
    pub fn live() -> Self {
        Self { source: Box::new(live::Live), live: true }
    }

    /// Opens `/`, a directory that contains `sys` and `proc`, or a snapshot (`.tar.gz` or `.tar`).
    ///
    /// # Errors
    /// The path does not exist, is not readable, or is an invalid snapshot.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let unreadable = |source| TreeError::Unreadable { path: path.to_owned(), source };
        if path == Path::new("/") {
            return Ok(Self::live());
        }
        if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
            return Ok(Self { source: Box::new(directory::Directory::new(path)), live: false });
        }
        let file = std::fs::File::open(path).map_err(unreadable)?;
        Self::from_archive(file, &Limits::default()).map_err(|error| error.in_file(path))
    }

    /// Reads a snapshot from a stream, compressed or not.
    ///
    /// # Errors
    /// The stream is not readable, or the archive exceeds the limits or contains entries that no snapshot has.
    pub fn from_archive(stream: impl std::io::Read, limits: &Limits) -> Result<Self, TreeError> {
        Ok(Self { source: Box::new(archive::load(stream, limits)?), live: false })
    }

    /// Whether this is the running host.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The content of a file, links followed within the tree.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.source.load(&self.source.resolve(path)?)
    }

    /// The text of a file without trailing white space and zeros. `tar` pads files of sysfs with zeros, because they are shorter
    /// than their claimed size.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = self.read(path)?;
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Some(String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned())
    }

    /// The sorted names in a directory; empty if it does not exist.
    pub fn names(&self, path: &str) -> Vec<String> {
        let mut names = self.source.resolve(path).map(|path| self.source.names(&path)).unwrap_or_default();
        names.sort_unstable();
        names
    }

    /// The last component of a link's target: a driver's name or a group's number.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = self.link(path)?;
        target.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// The target of a link, which need not exist in the tree.
    pub fn link(&self, path: &str) -> Option<String> {
        let (directory, name) = path.rsplit_once('/')?;
        match self.source.node(&format!("{}/{name}", self.source.resolve(directory)?))? {
            Node::Link(target) => Some(target),
            _ => None,
        }
    }

    /// Whether the path exists. A dangling link counts.
    pub fn has(&self, path: &str) -> bool {
        match path.rsplit_once('/') {
            Some((directory, name)) => self
                .source
                .resolve(directory)
                .is_some_and(|directory| self.source.node(&format!("{directory}/{name}")).is_some()),
            None => self.source.node(path).is_some(),
        }
    }

    /// Whether the path is a directory, following links.
    pub fn is_directory(&self, path: &str) -> bool {
        self.source.resolve(path).is_some_and(|path| self.source.node(&path) == Some(Node::Directory))
    }

    /// The path with links resolved, relative to the root.
    pub fn resolve(&self, path: &str) -> Option<String> {
        self.source.resolve(path)
    }
}

fn follow<S: Source + ?Sized>(source: &S, path: &str) -> Option<String> {
    let mut ahead: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut at: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        match part.as_str() {
            "" | "." => continue,
            // The parent of the root is the root.
            ".." => {
                at.pop();
                continue;
            }
            _ => at.push(part),
        }
        if at.len() > DEPTH_LIMIT {
            return None;
        }
        match source.node(&at.join("/"))? {
            Node::Link(target) => {
                links += 1;
                if links > LINK_LIMIT || ahead.len() > DEPTH_LIMIT {
                    return None;
                }
                at.pop();
                if target.starts_with('/') {
                    at.clear();
                }
                ahead.extend(target.split('/').rev().map(str::to_owned));
            }
            Node::Directory => {}
            Node::File | Node::Other if ahead.is_empty() => {}
            Node::File | Node::Other => return None,
        }
    }
    Some(at.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_within_the_directory() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("sys/a")).unwrap();
        std::fs::write(root.path().join("sys/a/f"), "inside\n\0\0").unwrap();
        for (name, target) in
            [("in", "sys/a"), ("absolute", "/sys/a/f"), ("out", "../../../../etc/hostname"), ("loop", "loop")]
        {
            std::os::unix::fs::symlink(target, root.path().join(name)).unwrap();
        }
        let tree = Tree::open(root.path()).unwrap();
        assert_eq!(tree.text("in/f").as_deref(), Some("inside"));
        assert_eq!(tree.text("absolute").as_deref(), Some("inside"));
        assert_eq!(tree.text("out"), None);
        assert_eq!(tree.text("loop"), None);
        assert_eq!(tree.text("sys/a"), None);
        assert_eq!(tree.names("in"), ["f"]);
        assert_eq!(tree.resolve("in/f").as_deref(), Some("sys/a/f"));
        assert!(tree.has("loop") && !tree.has("nothing"));
    }
}
