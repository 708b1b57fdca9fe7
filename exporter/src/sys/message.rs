//! Receives socket messages with file descriptors.

use std::io::{self, IoSliceMut};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::adopt;

/// Maximum number of file descriptors per message (`SCM_MAX_FD` in the kernel).
const FDS_MAX: usize = 253;

/// A received message.
#[derive(Debug)]
pub(crate) struct Received {
    /// Length of the message in bytes. Zero at the end of the connection.
    pub(crate) length: usize,
    /// Whether the message was longer than the buffer.
    pub(crate) truncated: bool,
    /// Whether the kernel discarded file descriptors, e.g. because this process has too many open.
    pub(crate) fds_lost: bool,
    /// All received file descriptors, owned so that dropping a rejected message closes them.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Receives a message with its file descriptors.
///
/// Does not use `recvmsg` of nix: if a control message is truncated, nix returns an error and leaks the file descriptors.
pub(crate) fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Received> {
    // Use `u64` elements to align the control message headers.
    let mut control = [0_u64; (FDS_MAX * size_of::<RawFd>() + 64) / 8];
    let mut part = IoSliceMut::new(into);
    // SAFETY: a structure of integers and pointers, for which zero is a valid value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = (&raw mut part).cast();
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let length = loop {
        // SAFETY: `header` points to `part` (the standard library guarantees the layout of an iovec) and to `control`, and
        // contains their lengths. Nothing else borrows them until the call returns.
        let returned = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
        if let Ok(length) = usize::try_from(returned) {
            break length;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    Ok(Received {
        length,
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
        fds_lost: header.msg_flags & libc::MSG_CTRUNC != 0,
        fds: fds_of(&header)?,
    })
}

/// Returns the file descriptors of a received message.
fn fds_of(header: &libc::msghdr) -> io::Result<Vec<OwnedFd>> {
    let mut fds = Vec::new();
    // SAFETY: `header` is as recvmsg left it, so the macros walk the control bytes that the kernel wrote.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a pointer to a whole header within the control bytes.
    while let Some(one) = unsafe { at.as_ref() } {
        if one.cmsg_level == libc::SOL_SOCKET && one.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: `at` is a header found above.
            let data = unsafe { libc::CMSG_DATA(at) };
            // SAFETY: pure arithmetic on the length.
            let header_bytes = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = one.cmsg_len.saturating_sub(header_bytes) / size_of::<RawFd>();
            for index in 0..count {
                // SAFETY: `cmsg_len` covers `count` fds after the header; the read may be unaligned.
                fds.push(adopt(unsafe { data.cast::<RawFd>().add(index).read_unaligned() })?);
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    Ok(fds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
    use std::io::IoSlice;
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    fn send(socket: &OwnedFd, bytes: &[u8], fds: &[RawFd]) {
        let control: &[_] = if fds.is_empty() { &[] } else { &[ControlMessage::ScmRights(fds)] };
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::empty(), None).unwrap();
    }

    #[test]
    fn receives_every_fd_with_close_on_exec() {
        let (left, right) = pair();
        let file = tempfile::tempfile().unwrap();
        for count in [0, 1, 3, FDS_MAX] {
            send(&left, b"hello", &vec![file.as_raw_fd(); count]);
            let mut bytes = [0; 16];
            let received = receive(right.as_fd(), &mut bytes).unwrap();
            assert_eq!((received.length, received.truncated, received.fds_lost), (5, false, false));
            assert_eq!(received.fds.len(), count);
            for fd in &received.fds {
                let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
                assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
            }
        }
    }

    #[test]
    fn reports_a_truncated_message_and_the_end_of_the_connection() {
        let (left, right) = pair();
        send(&left, b"hello", &[]);
        let received = receive(right.as_fd(), &mut [0; 4]).unwrap();
        assert!(received.truncated);
        drop(left);
        assert_eq!(receive(right.as_fd(), &mut [0; 4]).unwrap().length, 0);
    }
}
