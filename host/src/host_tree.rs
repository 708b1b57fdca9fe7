//! Access to a host: its `/sys`, `/proc` and `/dev`, and the writer that changes it. Tests replace the files and the writer.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use peerpath_paths::{Bdf, GroupError, Tree, UnreadFile};

use crate::Error;

/// The operations that change a host. Tests replace them with a fake kernel.
pub(crate) trait HostWriter: Send + Sync {
    /// Writes an attribute of sysfs.
    fn write(&self, path: &Path, text: &str) -> io::Result<()>;
    /// Writes a 16-bit register to a file of config space.
    fn write_word(&self, path: &Path, offset: u16, word: u16) -> io::Result<()>;
    /// Runs a program and waits for it. Returns its standard output, or its standard error if it failed.
    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<Result<String, String>>;
}

/// Host to change: the running host, or the fake host of a test.
///
/// Facts about VFIO and IOMMU groups come from [`Tree`], which treats an unreadable file as missing. Facts that decide whether a
/// change is safe come from the methods of this type, which return an error for an unreadable file.
#[derive(Clone)]
pub struct HostTree {
    root: PathBuf,
    tree: Arc<Tree>,
    writer: Arc<dyn HostWriter>,
}

impl fmt::Debug for HostTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostTree").field(&self.root).finish()
    }
}

impl Default for HostTree {
    fn default() -> Self {
        Self::live()
    }
}

impl HostTree {
    /// Returns the running host.
    pub fn live() -> Self {
        Self { root: PathBuf::from("/"), tree: Arc::new(Tree::live()), writer: Arc::new(Live) }
    }

    /// A fake host with its files below a directory.
    #[cfg(test)]
    pub(crate) fn at(root: &Path, writer: Arc<dyn HostWriter>) -> Self {
        Self { root: root.to_owned(), tree: Arc::new(Tree::open(root).unwrap()), writer }
    }

    /// Returns the reader of sysfs and procfs.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The processes, other than this one, that have a function open through VFIO.
    pub(crate) fn vfio_users(&self, bdf: Bdf) -> Result<Vec<u32>, Error> {
        self.tree.vfio_users(bdf).map_err(|error| self.unread(error))
    }

    /// The processes, other than this one, that have any of these files open, each with the first such file.
    pub(crate) fn file_holders(&self, files: &[String]) -> Result<Vec<(u32, String)>, Error> {
        self.tree.file_holders(files).map_err(|error| self.unread(error))
    }

    fn unread(&self, UnreadFile { path, source }: UnreadFile) -> Error {
        Error::ReadHost { path: self.path(path), source }
    }

    /// Writes an attribute of sysfs.
    pub(crate) fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        log::info!("write {:?} to {}", text.trim_end(), path.display());
        self.writer.write(path, text)
    }

    /// Writes a 16-bit register in a function's config space.
    pub(crate) fn write_config(&self, bdf: Bdf, offset: u16, word: u16) -> io::Result<()> {
        log::info!("write {word:#06x} to register {offset:#x} of the config space of {bdf}");
        self.writer.write_word(&self.function(bdf).join("config"), offset, word)
    }

    /// Reads a 16-bit register in a function's config space.
    pub(crate) fn read_config(&self, bdf: Bdf, offset: u16) -> io::Result<u16> {
        let mut bytes = [0; 2];
        fs::File::open(self.function(bdf).join("config"))?.read_exact_at(&mut bytes, offset.into())?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Runs a program that reads the host, and returns its standard output.
    pub(crate) fn query(&self, program: &'static str, arguments: &[&str]) -> Result<String, Error> {
        log::debug!("run {program} {}", arguments.join(" "));
        self.run(program, arguments)
    }

    /// Runs a program that changes the host.
    pub(crate) fn change(&self, program: &'static str, arguments: &[&str]) -> Result<(), Error> {
        log::info!("run {program} {}", arguments.join(" "));
        self.run(program, arguments).map(drop)
    }

    fn run(&self, program: &'static str, arguments: &[&str]) -> Result<String, Error> {
        let failed = |message| Error::Program { command: format!("{program} {}", arguments.join(" ")), message };
        match self.writer.run(program, arguments) {
            Ok(output) => output.map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoProgram { program }),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Whether this is the running host, so that system calls describe the same host as the files.
    pub(crate) fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// A path below the root; `relative` has no leading slash.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// The sysfs directory of a function (a link into `/sys/devices`).
    pub(crate) fn function(&self, bdf: Bdf) -> PathBuf {
        self.path(format!("sys/bus/pci/devices/{bdf}"))
    }

    /// The directory of the function in `/sys/devices`, which contains the devices of its driver.
    pub(crate) fn function_real(&self, bdf: Bdf) -> Result<PathBuf, Error> {
        let link = self.function(bdf);
        match fs::canonicalize(&link) {
            Ok(path) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(GroupError::NoFunction { bdf }.into()),
            Err(source) => Err(Error::ReadHost { path: link, source }),
        }
    }

    /// Name of the driver bound to a function; `None` if no driver is bound.
    pub(crate) fn driver(&self, bdf: Bdf) -> Result<Option<String>, Error> {
        link_name(&self.function(bdf).join("driver"))
    }

    /// An attribute of a function as a number, decimal or hexadecimal with `0x`.
    pub(crate) fn function_number(&self, bdf: Bdf, file: &str) -> Result<Option<u64>, Error> {
        Ok(read_trimmed(&self.function(bdf).join(file))?.and_then(|text| {
            text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
        }))
    }
}

/// Writer for the running host.
struct Live;

impl HostWriter for Live {
    /// Writes in a single write call, as sysfs requires; never creates a file.
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        fs::File::options().write(true).open(path)?.write_all(text.as_bytes())
    }

    fn write_word(&self, path: &Path, offset: u16, word: u16) -> io::Result<()> {
        fs::File::options().write(true).open(path)?.write_all_at(&word.to_le_bytes(), offset.into())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<Result<String, String>> {
        // A process group of its own keeps Ctrl-C from killing the program in the middle of a restore.
        let output =
            Command::new(program).args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).process_group(0).output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        Ok(if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) })
    }
}

/// Reads a small file without leading and trailing white space; `None` if the file does not exist.
pub(crate) fn read_trimmed(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim_matches(is_blank).to_owned())),
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(Error::ReadHost { path: path.to_owned(), source }),
    }
}

/// Whether to trim a character. Some attributes of sysfs end with a NUL byte.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == '\0'
}

/// The last component of a link's target; `None` if the link does not exist.
pub(crate) fn link_name(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_link(path) {
        Ok(target) => Ok(target.file_name().map(|name| name.to_string_lossy().into_owned())),
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(Error::ReadHost { path: path.to_owned(), source }),
    }
}

/// The sorted names in a directory; empty if the directory does not exist.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(source) => return Err(Error::ReadHost { path: path.to_owned(), source }),
    };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Whether a file does not exist. ENODEV is the errno for an attribute of a device that was removed during the read.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(libc::ENODEV)
}
