//! The message of `peerpath export`: one SOCK_SEQPACKET message with a JSON line and one file descriptor.
//!
//! The receiver under test is `run --from socket:PATH`, which gets a memfd in place of the dma-buf. `export` needs a BAR, so
//! the sender under test is the library's `DmaBufSender`, which sends memory of the test.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind,
    connect, listen, recv, recvmsg, send, sendmsg, socket,
};
use peerpath_exporter::socket::DmaBufSender;
use peerpath_exporter::{BarRange, Buffer, Error, Exporter, Handle, Origin, Removal, SourceKind, View};
use peerpath_paths::BarIndex;
use serde_json::{Value, json};

use crate::golden;
use crate::program::{Gpu, code, text};
use crate::result_file::cells;
use crate::shape::{Shape, nonsense, pointers};

const SIZE: usize = 8192;

fn memfd(bytes: usize) -> OwnedFd {
    let memfd = nix::sys::memfd::memfd_create(c"contract", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&memfd, i64::try_from(bytes).unwrap()).unwrap();
    memfd
}

fn seqpacket() -> OwnedFd {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap()
}

/// The four documented fields, as a program other than peerpath sends them.
fn foreign() -> Value {
    json!({"bdf": "0000:03:00.0", "bar": 2, "ranges": [{"offset_bytes": 0, "length_bytes": 8192}], "size_bytes": 8192})
}

/// Sends `line` with `fds` memfds of `bytes` each. Returns the receiver's exit code and the reason of its cell.
fn received(line: &[u8], fds: usize, bytes: usize) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let address = UnixAddr::new(&path).unwrap();
    let listener = seqpacket();
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(4).unwrap()).unwrap();
    let ended = AtomicBool::new(false);
    let out = folder.path().join("out");
    let output = std::thread::scope(|scope| {
        // A run opens its source more than once, so keep accepting connections.
        let serve = || loop {
            let connection = accept(listener.as_raw_fd()).unwrap();
            if ended.load(Ordering::Relaxed) {
                return;
            }
            let memory: Vec<_> = (0..fds).map(|_| memfd(bytes)).collect();
            let raw: Vec<_> = memory.iter().map(AsRawFd::as_raw_fd).collect();
            let control = [ControlMessage::ScmRights(&raw)];
            let control = if raw.is_empty() { &[][..] } else { &control[..] };
            let _ = sendmsg::<()>(connection, &[IoSlice::new(line)], control, MsgFlags::MSG_NOSIGNAL, None);
            nix::unistd::close(connection).unwrap();
        };
        scope.spawn(serve);
        let source = format!("socket:{}", path.display());
        let cell = ["run", "--from", &source, "--to", "cuda:0", "--op", "export", "--size", "4K", "--out"];
        let gpu = Gpu::new();
        let output = gpu.peerpath("").args(cell).arg(&out).output().unwrap();
        ended.store(true, Ordering::Relaxed);
        connect(seqpacket().as_raw_fd(), &address).unwrap();
        output
    });
    let cells = cells(&out.join("result.json"));
    assert_eq!(cells.len(), 1, "{}", text(&output));
    let why = format!("{} {}", cells[0]["cause"], cells[0]["reason"]);
    (code(&output), why.replace(folder.path().to_str().unwrap(), ""))
}

/// The receiver checks last whether the fd is a dma-buf. So if a memfd is rejected for that reason, the message is valid.
#[test]
fn a_receiver_accepts_the_four_fields_and_rejects_malformed_messages() {
    let line = |message: &Value| message.to_string().into_bytes();
    let good = foreign();
    let understood = received(&line(&good), 1, SIZE);
    let mut lines = format!("{}  no dma-buf\n", understood.0);

    let mut whole = good.clone();
    whole["kind"] = json!("vfio");
    whole["view"] = json!(1);
    whole["added_later"] = json!(1);
    let with_newline = [line(&good), b"\n".to_vec()].concat();
    for also in [line(&whole), with_newline] {
        assert_eq!(received(&also, 1, SIZE), understood, "{}", String::from_utf8_lossy(&also));
    }

    let mut without = |name: &str, message: &[u8], fds: usize, bytes: usize| {
        let (code, words) = received(message, fds, bytes);
        assert_ne!(words, understood.1, "{name} is accepted as a valid message");
        lines += &format!("{code}  {name}\n");
    };
    without("no fd", &line(&good), 0, SIZE);
    without("two fds", &line(&good), 2, SIZE);
    without("another size", &line(&good), 1, SIZE * 2);
    without("no JSON", b"nonsense", 1, SIZE);
    without("an error", br#"{"error":"no"}"#, 0, SIZE);
    whole.as_object_mut().unwrap().remove("added_later");
    for pointer in pointers(&whole) {
        let mut altered = whole.clone();
        *altered.pointer_mut(&pointer).unwrap() = nonsense();
        without(&format!("nonsense as {pointer}"), &line(&altered), 1, SIZE);
    }
    for field in ["ranges", "size_bytes"] {
        let mut altered = good.clone();
        altered.as_object_mut().unwrap().remove(field);
        without(&format!("no {field}"), &line(&altered), 1, SIZE);
    }
    let mut host = good.clone();
    host["kind"] = json!("host");
    without("host memory", &line(&host), 1, SIZE);
    golden::check("handover.exit_codes.txt", &lines);
}

/// Memory that claims to be ranges of a BAR.
struct Memory {
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
        let at = usize::try_from(offset).unwrap();
        into.copy_from_slice(&self.0.lock().unwrap()[at..at + into.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
}

impl Exporter for Memory {
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

fn next(socket: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let length = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).unwrap_or(0);
    bytes.truncate(length);
    bytes
}

/// Splits a message into its JSON line and the bytes after the line.
fn parts(message: &[u8]) -> (Value, &[u8]) {
    let end = message.iter().position(|&byte| byte == b'\n').expect("a line");
    (serde_json::from_slice(&message[..end]).unwrap(), &message[end + 1..])
}

/// The sender's first message, and its replies to `read`, `write` and an unknown request.
fn replies(path: &Path) -> String {
    let socket = seqpacket();
    connect(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    let mut bytes = vec![0; 4096];
    let mut space = nix::cmsg_space!([i32; 4]);
    let (length, fds) = {
        let mut into = [IoSliceMut::new(&mut bytes)];
        let message =
            recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
        let fds = message.cmsgs().unwrap().map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.len(),
            _ => 0,
        });
        (message.bytes, fds.sum::<usize>())
    };
    let (hello, rest) = parts(&bytes[..length]);
    assert_eq!((fds, rest), (1, &b""[..]), "one fd and one line");
    let mut text = format!("first message with {fds} fd\n{}", lines_of(&hello));
    for (request, payload) in [
        (json!({"write": {"offset": 3}}), &b"abc"[..]),
        (json!({"read": {"offset": 3, "length": 3}}), b""),
        (json!({"no-such-request": {}}), b""),
    ] {
        let message = [request.to_string().as_bytes(), b"\n", payload].concat();
        send(socket.as_raw_fd(), &message, MsgFlags::MSG_NOSIGNAL).unwrap();
        let answer = next(&socket);
        let (answer, bytes) = parts(&answer);
        text += &format!("\nanswer to {request} and {} bytes\n{}", payload.len(), lines_of(&answer));
        text += &format!("and {} bytes\n", bytes.len());
    }
    text
}

/// The message to a receiver without an open request when the function is removed.
fn last_message(path: &Path, removal: &Removal) -> String {
    let socket = seqpacket();
    connect(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    assert!(!next(&socket).is_empty(), "a first message");
    removal.request();
    let message = next(&socket);
    let (error, rest) = parts(&message);
    let (cause, rest) = parts(rest);
    assert_eq!((&cause["cause"], rest), (&json!("removed"), &b""[..]));
    assert!(next(&socket).is_empty(), "the connection is still open");
    format!(
        "\nmessage without a request, when the function is removed\n{}and a second line\n{}",
        lines_of(&error),
        lines_of(&cause)
    )
}

fn lines_of(value: &Value) -> String {
    let mut shape = Shape::default();
    shape.add(value, &["kind"]);
    shape.text()
}

#[test]
fn a_sender_sends_the_golden_messages() {
    let ranges = vec![BarRange { offset_bytes: 0, length_bytes: SIZE as u64 }];
    let origin = Origin {
        kind: SourceKind::Vfio,
        bdf: Some("0000:03:00.0".parse().unwrap()),
        bar: BarIndex::new(2).ok(),
        ranges,
    };
    let (bytes, removal) = (Arc::new(Bytes(Mutex::new(vec![0; SIZE]))), Removal::of("0000:03:00.0"));
    let memory = Memory { origin, bytes, removal };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let server = DmaBufSender::new(&path, &memory).unwrap();
    let stop = AtomicBool::new(false);
    let text = std::thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(&stop));
        let told = || replies(&path) + &last_message(&path, &memory.removal);
        let text = std::panic::catch_unwind(std::panic::AssertUnwindSafe(told));
        stop.store(true, Ordering::Relaxed);
        let served = serving.join().unwrap();
        assert!(matches!(served, Err(Error::Removed { .. })), "{served:?}");
        text.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    golden::check("handover.txt", &text);
}
