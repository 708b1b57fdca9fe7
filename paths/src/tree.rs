//! The files of a host: the running host, a copy in a directory, a snapshot, or the output of lspci.
//!
//! [`Tree`] reads all of them through the same methods. A missing file is not an error.

mod archive;
mod directory;
mod error;
mod given;
mod input;
mod kind;
mod live;
mod lspci;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

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
    fn node(&self, path: &str) -> io::Result<Node>;
    /// The content of a regular file.
    fn load(&self, path: &str) -> Option<Vec<u8>>;
    /// The names in a directory, unordered.
    fn names(&self, path: &str) -> io::Result<Vec<String>>;
    /// Resolves the links in `path` within the tree.
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

    /// Opens `/`, a directory that contains `sys` and `proc`, a snapshot (`.tar.gz` or `.tar`), or the output of lspci.
    ///
    /// # Errors
    /// The path does not exist or is not readable, or the file is neither a valid snapshot nor the output of lspci.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        if path == Path::new("/") {
            return Ok(Self::live());
        }
        if path.is_dir() {
            return Ok(Self { source: Box::new(directory::Directory::new(path)), live: false });
        }
        match input::read(path)? {
            input::Input::Archive(archive) => Ok(Self { source: Box::new(archive), live: false }),
            input::Input::Text(text) => Self::from_texts(&[(Some(path), text)]),
        }
    }

    /// Opens one path as [`Tree::open`] does, or joins several outputs of lspci on the same host, such as those of `lspci -vvv`
    /// and `lspci -tv`.
    ///
    /// # Errors
    /// As for [`Tree::open`], or one of several paths is not the output of lspci.
    pub fn open_all(paths: &[PathBuf]) -> Result<Self, TreeError> {
        if let [path] = paths {
            return Self::open(path);
        }
        let mut texts = Vec::new();
        let mut left_bytes = input::TEXT_LIMIT_BYTES;
        for path in paths {
            let is_directory = path.is_dir();
            match (!is_directory).then(|| input::read(path)).transpose()? {
                Some(input::Input::Text(text)) => {
                    left_bytes = left_bytes.checked_sub(text.len() as u64).ok_or_else(|| {
                        let limit = input::TEXT_LIMIT_BYTES >> 20;
                        TreeError::rejected(format!("the texts have more than {limit} MiB together")).in_file(path)
                    })?;
                    texts.push((Some(path.as_path()), text));
                }
                _ => {
                    let what = if is_directory { "a directory" } else { "a snapshot" };
                    return Err(TreeError::other_kind(
                        Some(path),
                        what,
                        "Give one directory or snapshot, or several outputs of lspci.",
                    ));
                }
            }
        }
        Self::from_texts(&texts)
    }

    /// Reads the output of lspci.
    ///
    /// # Errors
    /// The text is not the output of lspci, or does not show how functions are connected.
    pub fn from_lspci(text: &[u8]) -> Result<Self, TreeError> {
        Self::from_texts(&[(None, lspci::decode(text).into_owned())])
    }

    fn from_texts(texts: &[(Option<&Path>, String)]) -> Result<Self, TreeError> {
        let refused = |path: &Option<&Path>, reason| {
            let error = match reason {
                lspci::NotOneHost::TooManyFunctions => {
                    let limit = lspci::NotOneHost::FUNCTION_LIMIT;
                    TreeError::rejected(format!("it lists more than {limit} functions"))
                }
                lspci::NotOneHost::Conflict(bdf) => TreeError::Conflict { path: None, bdf },
            };
            match path {
                Some(path) => error.in_file(path),
                None => error,
            }
        };
        let mut whole = lspci::Listing::default();
        for (path, text) in texts {
            let listing = lspci::Listing::read(text).map_err(|reason| refused(path, reason))?;
            if !listing.has_functions() {
                let kind = kind::of_text(text);
                return Err(TreeError::other_kind(*path, kind.what, kind.instead));
            }
            whole.merge(listing).map_err(|reason| refused(path, reason))?;
        }
        match texts.first() {
            Some((path, _)) if !whole.has_relations() => {
                Err(TreeError::other_kind(*path, kind::NAMES_ONLY.what, kind::NAMES_ONLY.instead))
            }
            _ => Ok(Self { source: Box::new(lspci::write(&whole)), live: false }),
        }
    }

    /// Replaces the kernel command line.
    pub fn with_command_line(self, text: &str) -> Self {
        self.with_file("proc/cmdline", text.trim())
    }

    /// Replaces the processor. `text` is the text of `/proc/cpuinfo` or `lscpu`, vendor and family (`AuthenticAMD:25`), or the
    /// name of the model. `None` if the text does not show the vendor.
    pub fn with_processor(self, text: &str) -> Option<Self> {
        Some(self.with_file("proc/cpuinfo", &given::cpuinfo(text)?))
    }

    fn with_file(self, path: &str, text: &str) -> Self {
        let files = BTreeMap::from([(path.to_owned(), format!("{text}\n").into_bytes())]);
        Self { source: Box::new(given::Overlay { files, below: self.source }), live: self.live }
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

    /// The content of a file; links are followed within the tree. `None` if the file is not readable.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.source.load(&self.source.resolve(path)?)
    }

    /// The text of a file without trailing white space and zeros; `None` if the file is not readable. `tar` pads files of sysfs
    /// with zeros, because they are shorter than their reported size.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = self.read(path)?;
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Some(String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned())
    }

    /// The sorted names in a directory; empty if the directory does not exist or is not readable.
    pub fn names(&self, path: &str) -> Vec<String> {
        self.read_names(path).unwrap_or_default()
    }

    /// The sorted names in a directory.
    ///
    /// # Errors
    /// The directory does not exist or cannot be read.
    pub(crate) fn read_names(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = self.source.names(&self.locate(path)?)?;
        names.sort_unstable();
        Ok(names)
    }

    /// Resolves the links of a path in a copied tree. On the running host, leaves the path unchanged: the kernel follows the
    /// links and returns the errors.
    fn locate(&self, path: &str) -> io::Result<String> {
        if self.live { Ok(path.to_owned()) } else { self.source.resolve(path).ok_or(io::ErrorKind::NotFound.into()) }
    }

    /// The last component of a link's target: a driver's name or a group's number.
    pub fn link_name(&self, path: &str) -> Option<String> {
        last_component(&self.link(path)?)
    }

    /// The target of a link; `None` if the path is not a readable link. The target need not exist in the tree.
    pub fn link(&self, path: &str) -> Option<String> {
        self.read_link(path).ok()?
    }

    /// The target of a link; `None` if the path is not a link.
    ///
    /// # Errors
    /// The path does not exist or cannot be read.
    pub(crate) fn read_link(&self, path: &str) -> io::Result<Option<String>> {
        let Some((directory, name)) = path.rsplit_once('/') else { return Ok(None) };
        match self.source.node(&format!("{}/{name}", self.locate(directory)?))? {
            Node::Link(target) => Ok(Some(target)),
            _ => Ok(None),
        }
    }

    /// Whether the path exists. A dangling link exists.
    pub fn has(&self, path: &str) -> bool {
        match path.rsplit_once('/') {
            Some((directory, name)) => self
                .source
                .resolve(directory)
                .is_some_and(|directory| self.source.node(&format!("{directory}/{name}")).is_ok()),
            None => self.source.node(path).is_ok(),
        }
    }

    /// Whether the path is a directory, following links.
    pub fn is_directory(&self, path: &str) -> bool {
        self.source.resolve(path).is_some_and(|path| matches!(self.source.node(&path), Ok(Node::Directory)))
    }

    /// The path with links resolved, relative to the root.
    pub fn resolve(&self, path: &str) -> Option<String> {
        self.source.resolve(path)
    }
}

/// The last component of a link's target.
pub(crate) fn last_component(target: &str) -> Option<String> {
    target.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

fn follow<S: Source + ?Sized>(source: &S, path: &str) -> Option<String> {
    let mut ahead: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut at: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        match part.as_str() {
            "" | "." => continue,
            // As in the kernel, the parent of the root is the root.
            ".." => {
                at.pop();
                continue;
            }
            _ => at.push(part),
        }
        if at.len() > DEPTH_LIMIT {
            return None;
        }
        match source.node(&at.join("/")).ok()? {
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
