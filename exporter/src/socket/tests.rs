//! Tests sender and receiver, also with peers that violate the protocol. A memfd replaces the dma-buf: the kernel passes both
//! file descriptors in the same way.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, accept, connect, recv, send, sendmsg};

use super::listen::{Listener, address, new_socket};
use super::receiver::SocketExporter;
use super::sender::DmaBufSender;
use crate::{
    BarRange, Buffer, Error, Exporter, Handle, HostExporter, OpenOptions, Origin, Removal, SourceKind, View, check_span,
};

const SIZE: usize = 256 * 1024;

/// A memfd described as two ranges of a BAR.
struct Memfd {
    origin: Origin,
    bytes: Arc<Bytes>,
    removal: Removal,
}

struct Bytes(Mutex<Vec<u8>>);

impl View for Bytes {
    fn length_bytes(&self) -> u64 {
        SIZE as u64
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        check_span(offset, into.len(), SIZE as u64)?;
        let at = usize::try_from(offset).unwrap();
        into.copy_from_slice(&self.0.lock().unwrap()[at..at + into.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        check_span(offset, from.len(), SIZE as u64)?;
        let at = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
}

fn memfd(bytes: usize) -> OwnedFd {
    let memfd = nix::sys::memfd::memfd_create(c"test", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&memfd, i64::try_from(bytes).unwrap()).unwrap();
    memfd
}

impl Memfd {
    fn new() -> Self {
        let half = SIZE as u64 / 2;
        let ranges = vec![
            BarRange { offset_bytes: half * 2, length_bytes: half },
            BarRange { offset_bytes: 0, length_bytes: half },
        ];
        let bdf = Some("0000:03:00.0".parse().unwrap());
        let origin = Origin { kind: SourceKind::Vfio, bdf, bar: peerpath_paths::BarIndex::new(2).ok(), ranges };
        Self { origin, bytes: Arc::new(Bytes(Mutex::new(vec![0; SIZE]))), removal: Removal::of("0000:03:00.0") }
    }
}

impl Exporter for Memfd {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn removal(&self) -> Option<&Removal> {
        Some(&self.removal)
    }

    fn export(&self, _: u64) -> Result<Arc<Buffer>, Error> {
        let view = Arc::clone(&self.bytes) as Arc<dyn View>;
        Ok(Arc::new(Buffer::new(Handle::DmaBuf(memfd(SIZE)), self.origin.clone(), view)))
    }
}

/// Runs `work` against a sender, and checks that the sender stops within two seconds after the stop flag is set.
fn with_sender(exporter: &Memfd, work: impl FnOnce(&Path)) {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("socket");
    let sender = DmaBufSender::new(&path, exporter).unwrap();
    let stop = AtomicBool::new(false);
    let stopped = std::thread::scope(|scope| {
        let serving = scope.spawn(|| sender.serve(&stop));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&path)));
        stop.store(true, Ordering::Relaxed);
        let stopped = Instant::now();
        serving.join().unwrap().unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        stopped
    });
    assert!(stopped.elapsed() < Duration::from_secs(2), "the sender took {:?} to stop", stopped.elapsed());
}

fn raw_connect(path: &Path) -> OwnedFd {
    let socket = new_socket(path).unwrap();
    connect(socket.as_raw_fd(), &address(path).unwrap()).unwrap();
    socket
}

/// Receives the next message as text. Empty at the end of the connection.
fn next(socket: &OwnedFd) -> String {
    let mut bytes = vec![0; 70_000];
    let length = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn sends_a_dma_buf_and_serves_its_view() {
    let exporter = Memfd::new();
    with_sender(&exporter, |path| {
        let received = SocketExporter::receive(path).unwrap();
        assert_eq!(received.origin(), exporter.origin());
        assert!(received.serves_view());
        let buffer = received.export(SIZE as u64).unwrap();
        assert!(buffer.dma_buf().is_some());
        let pattern: Vec<u8> = (0..SIZE - 3).map(|at| (at % 251) as u8).collect();
        buffer.view().write(3, &pattern).unwrap();
        assert_eq!(exporter.bytes.0.lock().unwrap()[3..], pattern);
        let mut back = vec![0; SIZE - 3];
        buffer.view().read(3, &mut back).unwrap();
        assert_eq!(back, pattern);
        assert_eq!(buffer.view().read(4, &mut back).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let front = received.export(SIZE as u64 / 2).unwrap();
        assert_eq!(front.origin().ranges, exporter.origin.ranges[..1]);
        assert!(front.view().read(SIZE as u64 / 2, &mut [0]).is_err(), "the view exceeds the export");
    });
}

#[test]
fn rejects_a_file_that_is_not_a_dma_buf() {
    with_sender(&Memfd::new(), |path| {
        let error = SocketExporter::connect(path).unwrap_err();
        assert!(matches!(&error, Error::BadSocketMessage { why, .. } if why.contains("not a dma-buf")), "{error}");
    });
}

#[test]
fn rejects_host_memory() {
    let host = HostExporter::open(4096, &OpenOptions::default()).unwrap();
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("socket");
    assert!(matches!(DmaBufSender::new(&path, &host), Err(Error::NotADmaBuf { .. })));
    assert!(!path.exists());
}

#[test]
fn replies_to_an_invalid_request_and_closes_the_connection() {
    with_sender(&Memfd::new(), |path| {
        for request in
            ["\n", "{}\n", "hello", "{\"read\":{\"offset\":0}}\n", "{\"read\":{\"offset\":-1,\"length\":1}}\n"]
        {
            let socket = raw_connect(path);
            assert!(next(&socket).contains("size_bytes"));
            send(socket.as_raw_fd(), request.as_bytes(), MsgFlags::empty()).unwrap();
            assert!(next(&socket).contains("error"), "{request:?}");
            assert_eq!(next(&socket), "", "{request:?}");
        }
    });
}

#[test]
fn replies_to_a_failed_request_and_serves_the_next() {
    with_sender(&Memfd::new(), |path| {
        let socket = raw_connect(path);
        next(&socket);
        for request in [
            r#"{"read":{"offset":262144,"length":1}}"#,
            r#"{"read":{"offset":0,"length":65537}}"#,
            r#"{"read":{"offset":18446744073709551615,"length":2}}"#,
        ] {
            send(socket.as_raw_fd(), format!("{request}\n").as_bytes(), MsgFlags::empty()).unwrap();
            assert!(next(&socket).starts_with("{\"error\":"), "{request}");
        }
        send(socket.as_raw_fd(), b"{\"read\":{\"offset\":0,\"length\":2}}\n", MsgFlags::empty()).unwrap();
        assert_eq!(next(&socket), "{\"ok\":{\"length\":2}}\n\0\0");
    });
}

#[test]
fn serves_others_while_a_receiver_reads_no_replies() {
    let exporter = Memfd::new();
    with_sender(&exporter, |path| {
        let greedy = raw_connect(path);
        let request = b"{\"read\":{\"offset\":0,\"length\":65536}}\n";
        while send(greedy.as_raw_fd(), request, MsgFlags::MSG_DONTWAIT).is_ok() {}
        let other = SocketExporter::receive(path).unwrap();
        other.export(SIZE as u64).unwrap().view().read(0, &mut [0; 16]).unwrap();
        // Close the connection while it has unread replies.
        drop(greedy);
    });
}

#[test]
fn limits_receivers_and_accepts_more_after_one_leaves() {
    with_sender(&Memfd::new(), |path| {
        let mut receivers: Vec<_> = (0..32).map(|_| SocketExporter::receive(path).unwrap()).collect();
        let error = SocketExporter::receive(path).unwrap_err();
        assert!(error.to_string().contains("connected already"), "{error}");
        receivers.pop();
        let deadline = Instant::now() + Duration::from_secs(5);
        while SocketExporter::receive(path).is_err() {
            assert!(Instant::now() < deadline, "the sender still rejects receivers");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Serves one receiver: sends the message `text` with `fds`, and keeps the connection open if `keep` is set.
fn send_once(text: &str, fds: &[RawFd], keep: bool) -> (Result<SocketExporter, Error>, Option<OwnedFd>) {
    let base = tempfile::tempdir().unwrap();
    let path: PathBuf = base.path().join("socket");
    let listener = Listener::bind(&path).unwrap();
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| SocketExporter::receive(&path));
        let socket = crate::sys::adopt(accept(listener.socket.as_raw_fd()).unwrap()).unwrap();
        let control: &[_] = if fds.is_empty() { &[] } else { &[ControlMessage::ScmRights(fds)] };
        let parts = [io::IoSlice::new(text.as_bytes())];
        sendmsg::<()>(socket.as_raw_fd(), &parts, control, MsgFlags::empty(), None).unwrap();
        let socket = keep.then_some(socket);
        (taking.join().unwrap(), socket)
    })
}

const DESCRIPTION: &str =
    r#"{"bdf":"0000:03:00.0","bar":2,"ranges":[{"offset_bytes":0,"length_bytes":8192}],"size_bytes":8192}"#;

#[test]
fn receives_from_a_sender_without_a_view() {
    let memfd = memfd(8192);
    for (text, keep) in [(DESCRIPTION.to_owned(), false), (format!("{DESCRIPTION}\n"), true)] {
        let (received, _socket) = send_once(&text, &[memfd.as_raw_fd()], keep);
        let received = received.unwrap();
        assert!(!received.serves_view());
        let buffer = received.export(8192).unwrap();
        assert_eq!(buffer.view().read(0, &mut [0]).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(buffer.view().write(0, &[0]).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}

#[test]
fn rejects_other_messages_and_closes_their_fds() {
    let right = memfd(8192);
    let right = right.as_raw_fd();
    let small = memfd(4096);
    let long = format!("{DESCRIPTION}{}", " ".repeat(140_000));
    let cases: &[(&str, Vec<RawFd>, &str)] = &[
        (DESCRIPTION, vec![], "no file descriptor"),
        (DESCRIPTION, vec![right], "2 file descriptors"),
        (DESCRIPTION, vec![right; 100], "101 file descriptors"),
        ("not json", vec![right], "cannot parse"),
        ("{}", vec![right], "cannot parse"),
        (&long, vec![right], "too long"),
        ("{\"error\":\"busy\"}\n", vec![], "busy"),
        (DESCRIPTION, vec![small.as_raw_fd()], "file descriptors"),
    ];
    for (text, fds, why) in cases {
        // Also send the write end of a pipe. Its read end reports EOF only after every copy of the write end is closed.
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let mut all = fds.clone();
        if !all.is_empty() {
            all.push(writer.as_raw_fd());
        }
        let (received, _socket) = send_once(text, &all, true);
        let error = received.unwrap_err();
        assert!(matches!(error, Error::BadSocketMessage { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        drop(writer);
        assert_eq!(std::fs::File::from(reader).read(&mut [0]).unwrap(), 0, "a file descriptor was not closed");
    }
}

#[test]
fn rejects_another_size() {
    let memfd = memfd(4096);
    let (received, _socket) = send_once(DESCRIPTION, &[memfd.as_raw_fd()], true);
    let error = received.unwrap_err();
    assert!(error.to_string().contains("has 4096"), "{error}");
}

#[test]
fn reports_a_missing_sender() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("socket");
    let explain = |path: &Path| {
        let error = SocketExporter::connect(path).unwrap_err();
        peerpath_paths::Explained::explanation(&error).why
    };
    assert!(explain(&path).contains("does not exist"));
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(SocketExporter::connect(&path).is_err());
}

#[test]
fn buffers_own_separate_fds() {
    let memfd = memfd(8192);
    let (received, _socket) = send_once(DESCRIPTION, &[memfd.as_raw_fd()], true);
    let received = received.unwrap();
    let (one, two) = (received.export(8192).unwrap(), received.export(8192).unwrap());
    drop(received);
    drop(one);
    let fd: BorrowedFd<'_> = two.dma_buf().unwrap();
    assert!(nix::sys::stat::fstat(fd).is_ok());
    assert!(nix::sys::stat::fstat(memfd.as_fd()).is_ok());
}

/// Runs `before` against a sender, simulates the removal of the function, and runs `after` once the sender has ended.
fn with_removal<T>(before: impl FnOnce(&Path) -> T, after: impl FnOnce(T)) {
    let exporter = Memfd::new();
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("socket");
    let sender = DmaBufSender::new(&path, &exporter).unwrap();
    let received = std::thread::scope(|scope| {
        let serving = scope.spawn(|| sender.serve(&AtomicBool::new(false)));
        let received = before(&path);
        exporter.removal.request();
        let error = serving.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Removed { .. }), "{error}");
        received
    });
    after(received);
}

#[test]
fn reports_a_removal_to_a_receiver() {
    with_removal(
        |path| {
            let received = SocketExporter::receive(path).unwrap();
            assert!(!received.removal().unwrap().is_requested());
            received
        },
        |received| {
            let stop = Arc::default();
            let removal = received.removal().unwrap();
            removal.stop_on_request(&stop);
            assert!(removal.is_requested() && stop.load(Ordering::Relaxed));
        },
    );
}

#[test]
fn an_access_after_a_removal_reports_it() {
    with_removal(
        |path| SocketExporter::receive(path).unwrap().export(SIZE as u64).unwrap(),
        |buffer| {
            for _ in 0..2 {
                let error = buffer.view().write(0, &[1]).unwrap_err();
                assert!(error.to_string().contains("any longer"), "{error}");
            }
        },
    );
}

#[test]
fn a_receiver_without_an_open_request_reads_the_error_and_then_the_end() {
    with_removal(
        |path| {
            let socket = raw_connect(path);
            assert!(next(&socket).contains("size_bytes"));
            socket
        },
        |socket| {
            let message = next(&socket);
            assert!(message.ends_with("\n{\"cause\":\"removed\"}\n"), "{message}");
            assert_eq!(next(&socket), "");
        },
    );
}

/// A thread that waits until the receiver reads would otherwise keep the function open.
#[test]
fn a_receiver_that_reads_no_replies_does_not_delay_a_removal() {
    let begun = Instant::now();
    with_removal(
        |path| {
            let greedy = raw_connect(path);
            let request = b"{\"read\":{\"offset\":0,\"length\":65536}}\n";
            while send(greedy.as_raw_fd(), request, MsgFlags::MSG_DONTWAIT).is_ok() {}
            greedy
        },
        drop,
    );
    assert!(begun.elapsed() < Duration::from_secs(4), "the sender waited for the receiver: {:?}", begun.elapsed());
}
