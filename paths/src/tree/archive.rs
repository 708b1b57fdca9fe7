//! A snapshot, read as a stream into memory. It is untrusted: every size is bounded, and nothing is written to the file
//! system.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read};

use flate2::read::MultiGzDecoder;
use tar::EntryType;

use super::{FILE_LIMIT_BYTES, Node, Source, TreeError};

/// Size of the header of an entry.
pub(super) const HEADER_BYTES: usize = 512;

/// Limits of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of files, directories and links.
    pub entries: usize,
    /// Maximum size after decompression in bytes, including headers.
    pub total_bytes: u64,
    /// Maximum size of one file in bytes.
    pub file_bytes: u64,
    /// Maximum length of one path or link target in bytes.
    pub path_bytes: usize,
    /// Maximum number of components of one path.
    pub depth: usize,
}

impl Default for Limits {
    /// Limits that suffice for a host with several thousand functions.
    fn default() -> Self {
        Self { entries: 200_000, total_bytes: 256 << 20, file_bytes: FILE_LIMIT_BYTES, path_bytes: 512, depth: 64 }
    }
}

enum Entry {
    Directory,
    File(Vec<u8>),
    Link(String),
}

/// The files of a snapshot by path.
pub(super) struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Creates an archive without files.
    pub(super) fn empty() -> Self {
        Self { entries: BTreeMap::new() }
    }

    /// Adds a file, with the directories above it.
    pub(super) fn file(&mut self, path: String, content: Vec<u8>) {
        self.add(path, Entry::File(content));
    }

    /// Adds a symbolic link, with the directories above it.
    pub(super) fn link(&mut self, path: String, target: String) {
        self.add(path, Entry::Link(target));
    }

    /// Adds a directory, with the directories above it.
    pub(super) fn directory(&mut self, path: &str) {
        self.add(path.to_owned(), Entry::Directory);
    }

    /// Adds an entry, unless the path already has one.
    fn add(&mut self, path: String, entry: Entry) {
        for (at, _) in path.match_indices('/').filter(|(at, _)| *at > 0) {
            if !self.entries.contains_key(&path[..at]) {
                self.entries.insert(path[..at].to_owned(), Entry::Directory);
            }
        }
        self.entries.entry(path).or_insert(entry);
    }
}

impl Source for Archive {
    fn node(&self, path: &str) -> io::Result<Node> {
        if path.is_empty() {
            return Ok(Node::Directory);
        }
        Ok(match self.entries.get(path).ok_or(io::ErrorKind::NotFound)? {
            Entry::Directory => Node::Directory,
            Entry::File(_) => Node::File,
            Entry::Link(target) => Node::Link(target.clone()),
        })
    }

    fn load(&self, path: &str) -> Option<Vec<u8>> {
        match self.entries.get(path)? {
            Entry::File(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut names = Vec::new();
        let mut from = prefix.clone();
        while let Some((found, _)) = self.entries.range(from..).next() {
            let Some(rest) = found.strip_prefix(&prefix) else { break };
            let name = rest.split('/').next().unwrap_or_default().to_owned();
            // '0' follows '/' in ASCII, so this is the lowest key after all entries below the directory `name`.
            from = format!("{prefix}{name}0");
            // A sibling such as "name-2" sorts between "name" and "name/...", so continue directly after the name.
            if found.len() == prefix.len() + name.len() {
                from = format!("{found}\0");
            }
            names.push(name);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn resolve(&self, path: &str) -> Option<String> {
        // No entry is below a link or a file, so an existing path contains no links.
        match self.entries.get(path) {
            Some(Entry::Directory | Entry::File(_)) => Some(path.to_owned()),
            _ => super::follow(self, path),
        }
    }
}

/// Whether the first bytes of a file are the header of a tar archive (POSIX.1-2017, pax, "ustar Interchange Format"): its
/// checksum is the sum of its bytes, with spaces in place of the checksum. An archive without entries begins with zeros.
pub(super) fn is_header(head: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    if head.len() < HEADER_BYTES {
        return false;
    }
    let head = &head[..HEADER_BYTES];
    let digits =
        head[CHECKSUM].iter().skip_while(|byte| **byte == b' ').take_while(|byte| (b'0'..=b'7').contains(*byte));
    let stored = digits.fold(0, |sum, digit| sum * 8 + u32::from(digit - b'0'));
    let byte = |(at, byte): (usize, &u8)| u32::from(if CHECKSUM.contains(&at) { b' ' } else { *byte });
    stored == head.iter().enumerate().map(byte).sum::<u32>() || head.iter().all(|byte| *byte == 0)
}

pub(super) fn load(stream: impl Read, limits: &Limits) -> Result<Archive, TreeError> {
    let mut stream = BufReader::new(stream);
    let compressed = stream.fill_buf().map_err(TreeError::malformed)?.starts_with(&[0x1f, 0x8b]);
    if compressed {
        collect(Bounded::new(MultiGzDecoder::new(stream), limits.total_bytes), limits)
    } else {
        collect(Bounded::new(stream, limits.total_bytes), limits)
    }
}

fn collect(stream: Bounded<impl Read>, limits: &Limits) -> Result<Archive, TreeError> {
    let mut archive = tar::Archive::new(stream);
    let mut entries = BTreeMap::new();
    for (index, entry) in archive.entries().map_err(refused)?.enumerate() {
        if index >= limits.entries {
            return Err(TreeError::rejected(format!("it contains more than {} entries", limits.entries)));
        }
        add(entry.map_err(refused)?, &mut entries, limits)?;
    }
    if entries.is_empty() {
        return Err(TreeError::malformed(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is empty")));
    }
    let entries = rebase(entries);
    match entries.keys().find(|path| has_no_directory_above(path, &entries)) {
        Some(path) => Err(TreeError::rejected(format!("{path:?} is below something other than a directory"))),
        None => Ok(Archive { entries }),
    }
}

fn add<R: Read>(
    mut entry: tar::Entry<'_, R>,
    entries: &mut BTreeMap<String, Entry>,
    limits: &Limits,
) -> Result<(), TreeError> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    let path = clean(&entry.path_bytes(), limits)?;
    let value = match kind {
        EntryType::Directory => Entry::Directory,
        EntryType::Regular | EntryType::Continuous => Entry::File(content(&mut entry, &path, limits)?),
        EntryType::Symlink => Entry::Link(target(&entry, &path, limits)?),
        // `tar` stores the second name of one file as a hard link to the first, by its path in the archive.
        EntryType::Link => Entry::Link(format!("/{}", clean(target(&entry, &path, limits)?.as_bytes(), limits)?)),
        _ => return Err(TreeError::rejected(format!("{path:?} is not a file, directory or link"))),
    };
    if path.is_empty() {
        return match value {
            Entry::Directory => Ok(()),
            _ => Err(TreeError::rejected("an entry has no name")),
        };
    }
    // Add the missing directories above, from the nearest up. If one exists, so do all above it.
    let mut below = path.as_str();
    while let Some((directory, _)) = below.rsplit_once('/') {
        if entries.contains_key(directory) {
            break;
        }
        entries.insert(directory.to_owned(), Entry::Directory);
        below = directory;
    }
    if entries.len() >= limits.entries {
        return Err(TreeError::rejected(format!("it contains more than {} entries", limits.entries)));
    }
    match (entries.get(&path), &value) {
        (None, _) | (Some(Entry::Directory), Entry::Directory) => {
            entries.insert(path, value);
            Ok(())
        }
        _ => Err(TreeError::rejected(format!("{path:?} occurs twice"))),
    }
}

fn content<R: Read>(entry: &mut tar::Entry<'_, R>, path: &str, limits: &Limits) -> Result<Vec<u8>, TreeError> {
    let size_bytes = entry.size();
    if size_bytes > limits.file_bytes {
        return Err(TreeError::rejected(format!(
            "{path:?} is {size_bytes} bytes, and the limit is {}",
            limits.file_bytes
        )));
    }
    let mut bytes = Vec::new();
    entry.take(limits.file_bytes).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 != size_bytes {
        return Err(TreeError::malformed(io::Error::new(io::ErrorKind::UnexpectedEof, "a file is truncated")));
    }
    Ok(bytes)
}

fn target<R: Read>(entry: &tar::Entry<'_, R>, path: &str, limits: &Limits) -> Result<String, TreeError> {
    let bytes = entry.link_name_bytes().unwrap_or_default();
    if bytes.is_empty() || bytes.len() > limits.path_bytes {
        return Err(TreeError::rejected(format!("the target of the link {path:?} is {} bytes long", bytes.len())));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err(TreeError::rejected(format!("the link {path:?} has a target that is not text"))),
    }
}

/// Checks and normalizes a path: `./sys/` becomes `sys`.
fn clean(bytes: &[u8], limits: &Limits) -> Result<String, TreeError> {
    if bytes.len() > limits.path_bytes {
        return Err(TreeError::rejected(format!("a path is {} bytes long, over the limit", bytes.len())));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text,
        _ => return Err(TreeError::rejected("a path is not text")),
    };
    if text.starts_with('/') {
        return Err(TreeError::rejected(format!("{text:?} is an absolute path")));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(TreeError::rejected(format!("{text:?} leads out of the archive")));
    }
    if parts.len() > limits.depth {
        return Err(TreeError::rejected(format!("a path is {} directories deep", parts.len())));
    }
    Ok(parts.join("/"))
}

/// Removes the top directory if it is the only one and contains `sys`.
fn rebase(entries: BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
    let mut tops = entries.keys().filter(|path| !path.contains('/'));
    let (Some(top), None) = (tops.next().cloned(), tops.next()) else { return entries };
    let prefix = format!("{top}/");
    if top == "sys" || !entries.contains_key(&format!("{prefix}sys")) {
        return entries;
    }
    let inner = |(path, entry): (String, Entry)| Some((path.strip_prefix(&prefix)?.to_owned(), entry));
    entries.into_iter().filter_map(inner).collect()
}

fn has_no_directory_above(path: &str, entries: &BTreeMap<String, Entry>) -> bool {
    path.rsplit_once('/').is_some_and(|(parent, _)| !matches!(entries.get(parent), Some(Entry::Directory)))
}

fn refused(error: io::Error) -> TreeError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TooLarge>()) {
        Some(TooLarge { limit_bytes }) => TreeError::rejected(format!("it unpacks to more than {limit_bytes} bytes")),
        None => TreeError::malformed(error),
    }
}

/// A reader that limits the decompressed size.
struct Bounded<R> {
    inner: R,
    left_bytes: u64,
    limit_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("more than {limit_bytes} bytes")]
struct TooLarge {
    limit_bytes: u64,
}

impl<R> Bounded<R> {
    fn new(inner: R, limit_bytes: u64) -> Self {
        Self { inner, left_bytes: limit_bytes, limit_bytes }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let room = usize::try_from(self.left_bytes).unwrap_or(usize::MAX).min(into.len());
        if room == 0 {
            // A stream of exactly the maximum size is valid, so check whether it continues.
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::other(TooLarge { limit_bytes: self.limit_bytes })),
            };
        }
        let read = self.inner.read(&mut into[..room])?;
        self.left_bytes -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tree;
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    struct Builder(tar::Builder<Vec<u8>>);

    impl Builder {
        fn new() -> Self {
            Self(tar::Builder::new(Vec::new()))
        }

        /// Writes any path into the header, without the checks of the tar crate.
        fn raw(mut self, name: &str, kind: EntryType, link: &str, bytes: &[u8]) -> Self {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(bytes.len() as u64);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            self.0.append(&header, bytes).unwrap();
            self
        }

        fn file(self, name: &str, text: &str) -> Self {
            self.raw(name, EntryType::Regular, "", text.as_bytes())
        }

        fn bytes(self) -> Vec<u8> {
            self.0.into_inner().unwrap()
        }

        fn open(self) -> Result<Tree, TreeError> {
            Tree::from_archive(&self.bytes()[..], &Limits::default())
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn reads_an_archive_like_a_directory() {
        let bytes = Builder::new()
            .raw("./", EntryType::Directory, "", b"")
            .file("./sys/devices/pci0000:00/a/class", "0x020000\n\0\0\0")
            .file("./sys/devices/pci0000:00/a-2/class", "")
            .raw("./sys/bus/pci/devices/a", EntryType::Symlink, "../../../devices/pci0000:00/a", b"")
            .raw("./again", EntryType::Link, "./sys/devices/pci0000:00/a/class", b"")
            .bytes();
        let tree = Tree::from_archive(&gzip(&bytes)[..], &Limits::default()).unwrap();
        assert_eq!(tree.text("sys/bus/pci/devices/a/class").as_deref(), Some("0x020000"));
        assert_eq!(tree.text("again").as_deref(), Some("0x020000"));
        assert_eq!(tree.names("sys/devices/pci0000:00"), ["a", "a-2"]);
        assert_eq!(tree.link_name("sys/bus/pci/devices/a").as_deref(), Some("a"));
        assert_eq!(tree.read("sys"), None);
    }

    #[test]
    fn removes_a_single_top_directory() {
        let tree = Builder::new().file("host-7/sys/x", "1").file("host-7/proc/y", "2").open().unwrap();
        assert_eq!(tree.text("sys/x").as_deref(), Some("1"));
        assert_eq!(tree.text("proc/y").as_deref(), Some("2"));
    }

    #[test]
    fn rejects_invalid_entries() {
        let raw = |name: &str, kind| Builder::new().raw(name, kind, "", b"").open();
        for (archive, text) in [
            (raw("/etc/passwd", EntryType::Regular), "absolute"),
            (raw("sys/../../etc/passwd", EntryType::Regular), "leads out"),
            (raw("sys/null", EntryType::Char), "is not a file"),
            (raw("sys/pipe", EntryType::Fifo), "is not a file"),
            (raw(&"d/".repeat(49), EntryType::Directory), ""),
            (raw("a\x1b[2J", EntryType::Regular), "not text"),
            (Builder::new().file("sys/a", "1").file("sys/a", "2").open(), "twice"),
            (Builder::new().file("sys/a", "1").file("sys/a/b", "2").open(), "other than a directory"),
            (
                Builder::new().raw("sys/a", EntryType::Symlink, "/etc", b"").file("sys/a/b", "2").open(),
                "other than a directory",
            ),
        ] {
            match (archive, text) {
                (Ok(_), "") => {}
                (Err(error @ TreeError::Rejected { .. }), text) => {
                    assert!(error.to_string().contains(text), "{error} should contain {text:?}");
                }
                (other, text) => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn bounds_sizes() {
        let small = Limits { entries: 3, total_bytes: 8192, file_bytes: 100, path_bytes: 50, depth: 4 };
        let open = |bytes: Vec<u8>| Tree::from_archive(&bytes[..], &small).map(|_| ()).unwrap_err().to_string();
        assert!(open(Builder::new().file("a", &"x".repeat(101)).bytes()).contains("101 bytes"));
        assert!(open(Builder::new().file("a/b/c/d/e", "").bytes()).contains("deep"));
        assert!(open(Builder::new().file("a/b/c/d", "").bytes()).contains("entries"));
        assert!(open(Builder::new().file(&"a".repeat(60), "").bytes()).contains("60 bytes"));
        let many = (0..5).fold(Builder::new(), |builder, index| builder.file(&index.to_string(), ""));
        assert!(open(many.bytes()).contains("entries"));
        assert!(
            open(gzip(&vec![0; 20_000])).contains("not a snapshot"),
            "the archive is empty: it begins with the end-of-archive marker"
        );
        let bomb = (0..3).fold(Builder::new(), |builder, index| builder.file(&index.to_string(), &"x".repeat(90)));
        let mut limits = small.clone();
        limits.total_bytes = 1500;
        let error = Tree::from_archive(&gzip(&bomb.bytes())[..], &limits).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("unpacks to more than 1500"), "{error}");
    }

    #[test]
    fn a_wrong_size_field_allocates_nothing() {
        let mut bytes = Builder::new().file("sys/a", "text").bytes();
        // The largest value that the octal size field can contain, with a matching checksum.
        bytes[124..136].copy_from_slice(b"77777777777\0");
        bytes[148..156].copy_from_slice(b"        ");
        let sum: u32 = bytes[..512].iter().map(|&byte| u32::from(byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert!(Tree::from_archive(&bytes[..], &Limits::default()).is_err());
    }

    proptest! {
        #[test]
        fn accepts_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let _ = Tree::from_archive(&bytes[..], &Limits::default());
            let _ = Tree::from_archive(&gzip(&bytes)[..], &Limits::default());
        }

        #[test]
        fn accepts_damaged_archives(at in 0usize..4096, value: u8) {
            let mut bytes = Builder::new()
                .file("./sys/devices/pci0000:00/a/class", "0x020000\n")
                .raw("./sys/bus/pci/devices/a", EntryType::Symlink, "../../../devices/pci0000:00/a", b"")
                .bytes();
            let length = bytes.len();
            bytes[at % length] = value;
            if let Ok(tree) = Tree::from_archive(&bytes[..], &Limits::default()) {
                let _ = tree.text("sys/bus/pci/devices/a/class");
                let _ = tree.names("sys/bus/pci/devices");
            }
        }
    }
}
