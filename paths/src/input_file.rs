//! Opens files that a user names. The name can refer to a device without an end, or to a FIFO that blocks its reader.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::statfs::{FsType, fstatfs};

/// File system of anonymous pipes (`include/uapi/linux/magic.h`).
const PIPEFS_MAGIC: FsType = FsType(0x5049_5045);

/// Reason why a file that a user names cannot be read. The text is a clause that follows "cannot read FILE:".
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The operating system reports an error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is not a regular file.
    #[error("it is {0}, not a regular file")]
    Kind(&'static str),
    /// The file is longer than the limit.
    #[error("it is longer than {} KiB", limit_bytes >> 10)]
    TooLong {
        /// Maximum length in bytes.
        limit_bytes: u64,
    },
}

impl InputError {
    /// The remedy if the user may not read the file, and `otherwise` for every other reason.
    pub fn remedy(&self, path: &Path, otherwise: &str) -> String {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => permit(path),
            _ => otherwise.to_owned(),
        }
    }
}

fn permit(path: &Path) -> String {
    let path = path.display();
    format!("Let this user read the file, e.g. with `chmod +r {path}` or `chown`, or run the command as its owner.")
}

/// Opens a regular file, or a pipe that another process writes to, such as `/dev/fd/63` of the shell's `<(COMMAND)`.
///
/// Rejects a FIFO, because reading a FIFO without a writer blocks forever. Rejects devices without opening them, because opening
/// some of them has an effect.
///
/// # Errors
/// The file cannot be opened, or is a directory, a device, a FIFO or a socket.
pub fn open(path: &Path) -> Result<File, InputError> {
    check_kind(&fs::metadata(path)?)?;
    // Another process may have replaced the file since the check. O_NONBLOCK prevents waiting for the writer of a FIFO.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    check_kind(&metadata)?;
    if metadata.file_type().is_fifo() {
        if fstatfs(&file).map_err(io::Error::from)?.filesystem_type() != PIPEFS_MAGIC {
            return Err(InputError::Kind("a FIFO"));
        }
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL).map_err(io::Error::from)?);
        fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
    }
    Ok(file)
}

/// Reads a file that [`open`] accepts. Allocates at most twice the limit.
///
/// # Errors
/// As for [`open`]; or reading fails, or the file is longer than `limit_bytes`.
pub fn read(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    open(path)?.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(InputError::TooLong { limit_bytes });
    }
    Ok(bytes)
}

fn check_kind(metadata: &fs::Metadata) -> Result<(), InputError> {
    let kind = metadata.file_type();
    let name = if kind.is_file() || kind.is_fifo() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(InputError::Kind(name))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn reads_a_regular_file_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, vec![b'x'; 2 << 20]).unwrap();
        assert_eq!(read(&path, 2 << 20).unwrap().len(), 2 << 20);
        assert_eq!(read(&path, (2 << 20) - 1).unwrap_err().to_string(), "it is longer than 2047 KiB");
    }

    #[test]
    fn refuses_everything_else_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&place("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", place("link")).unwrap();
        for (path, kind) in [
            (place("fifo"), "a FIFO"),
            (place("socket"), "a socket"),
            (place("link"), "a device"),
            (PathBuf::from("/dev/null"), "a device"),
            (folder.path().to_owned(), "a directory"),
        ] {
            let error = read(&path, 1 << 20).unwrap_err();
            assert_eq!(error.to_string(), format!("it is {kind}, not a regular file"), "{}", path.display());
        }
        assert!(matches!(read(&place("missing"), 1), Err(InputError::Io(_))));
    }

    #[test]
    fn reads_a_pipe_to_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        let writing = std::thread::spawn(move || {
            // More than the pipe holds, so the reader can find it empty before the end. It must then block, not fail with EAGAIN.
            io::Write::write_all(&mut writer, &vec![b'x'; 1 << 20]).unwrap();
        });
        assert_eq!(read(&path, 1 << 20).unwrap().len(), 1 << 20);
        writing.join().unwrap();
    }
}
