//! Stream sockets: accept, receive, send, shut down. Every call here returns at once: sockets of the worker are in
//! blocking mode (io_uring answers `EAGAIN` at once for a non-blocking one instead of waiting), so "do not wait" is
//! said per call with `MSG_DONTWAIT`.

use std::io;
use std::mem;
use std::net::{Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{SockaddrStorage, getpeername};

use super::check;

/// The other end of an accepted connection. Small on purpose (20 bytes): one is kept per connection.
/// The scope of a link-local IPv6 address is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// IPv4.
    V4 {
        /// In network order.
        addr: [u8; 4],
        /// In host order.
        port: u16,
    },
    /// IPv6.
    V6 {
        /// In network order.
        addr: [u8; 16],
        /// In host order.
        port: u16,
    },
    /// A unix socket (clients rarely bind a name, so none is kept), or any other family.
    Unix,
}

/// Takes one connection from `listener`: close-on-exec and blocking. `listener` itself must be non-blocking, because
/// it is shared and a sibling may have taken the connection that woke the caller.
///
/// # Errors
/// `WouldBlock` if nothing is queued; whatever accept4(2) says otherwise (`EMFILE`, `ECONNABORTED`, ...).
pub fn accept(listener: RawFd) -> io::Result<(OwnedFd, PeerAddr)> {
    // SAFETY: all-zero bytes are a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `storage` is writable for `len` bytes, and both outlive the call.
    let fd = check(unsafe {
        libc::accept4(listener, (&raw mut storage).cast(), &raw mut len, libc::SOCK_CLOEXEC)
    })?;
    // SAFETY: accept4 made this descriptor and nothing else knows it.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, peer_addr(&storage)))
}

fn peer_addr(storage: &libc::sockaddr_storage) -> PeerAddr {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in; sockaddr_storage is large and aligned
            // enough.
            let v4 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            PeerAddr::V4 { addr: v4.sin_addr.s_addr.to_ne_bytes(), port: u16::from_be(v4.sin_port) }
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in6; sockaddr_storage is large and aligned
            // enough.
            let v6 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            PeerAddr::V6 { addr: v6.sin6_addr.s6_addr, port: u16::from_be(v6.sin6_port) }
        }
        _ => PeerAddr::Unix,
    }
}

/// Asks the kernel who is at the other end of a connection; `None` if nobody is any more.
pub fn peer(fd: RawFd) -> Option<PeerAddr> {
    let address = getpeername::<SockaddrStorage>(fd).ok()?;
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    let v6 = || address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into());
    Some(v4.or_else(v6).map_or(PeerAddr::Unix, |ip: SocketAddr| ip.into()))
}

/// Receives what is there, at most `into.len()` bytes; 0 is the end of the stream.
///
/// # Errors
/// `WouldBlock` if there is nothing yet; the socket's error otherwise.
pub fn recv_now(fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: `into` is writable for its length during the call.
        let got = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
        if let Some(result) = unless_interrupted(got) {
            return result;
        }
    }
}

/// Sends what fits of `head` followed by `body`; returns the number of bytes taken. Never raises SIGPIPE.
///
/// # Errors
/// `WouldBlock` if nothing fits; the socket's error otherwise.
pub fn send_now(fd: RawFd, head: &[u8], body: &[u8]) -> io::Result<usize> {
    const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        let sent = if body.is_empty() || head.is_empty() {
            let only = if head.is_empty() { body } else { head };
            // SAFETY: `only` is readable for its length during the call.
            unsafe { libc::send(fd, only.as_ptr().cast(), only.len(), FLAGS) }
        } else {
            let mut parts = [iovec(head), iovec(body)];
            // SAFETY: all-zero bytes are a valid msghdr (no address, no control data).
            let mut message: libc::msghdr = unsafe { mem::zeroed() };
            message.msg_iov = parts.as_mut_ptr();
            message.msg_iovlen = parts.len();
            // SAFETY: `message` names two readable slices, which outlive the call.
            unsafe { libc::sendmsg(fd, &raw const message, FLAGS) }
        };
        if let Some(result) = unless_interrupted(sent) {
            return result;
        }
    }
}

/// Describes a slice to the kernel, which will only read it.
pub fn iovec(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// Ends one or both directions of a connection; the descriptor stays open.
///
/// # Errors
/// `ENOTCONN` if the peer has already reset it; `EBADF`.
pub fn shutdown(fd: RawFd, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: no memory is passed.
    check(unsafe { libc::shutdown(fd, how) }).map(drop)
}

/// Tells whether the peer has shut the connection, for writing at least, or reset it. Nothing is received. A
/// descriptor that cannot be asked counts as closed.
pub fn is_half_closed(fd: RawFd) -> bool {
    let left = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
    let mut asked = libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one pollfd, which outlives the call; a time-out of 0 does not wait.
    let ready = unsafe { libc::poll(&raw mut asked, 1, 0) };
    ready > 0 && asked.revents & left != 0
}

/// Tells whether nothing can reach the peer of a connection any more: it was reset, or (unix sockets) closed. A
/// descriptor that cannot be asked counts as reset.
pub fn is_reset(fd: RawFd) -> bool {
    let mut asked = libc::pollfd { fd, events: 0, revents: 0 };
    // SAFETY: one pollfd, which outlives the call; a time-out of 0 does not wait.
    let ready = unsafe { libc::poll(&raw mut asked, 1, 0) };
    ready > 0 && asked.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
}

/// Tells whether an error says that a descriptor does not lead to what it was opened for: it was closed, or its number
/// belongs to another file. Unlike a lack of resources that does not pass.
pub fn is_lost(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK | libc::EINVAL | libc::EOPNOTSUPP))
}

/// Tells whether a call has failed because something has run out, which may be there again in a moment.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::ENOSPC | libc::EAGAIN)
    )
}

/// Sends and receives a few bytes on sockets of its own, in the ways of [`send_now`] and [`recv_now`]: whether an
/// error of a connection says something about that connection, or about this process. `watch` tries what else has to
/// be possible with a socket.
///
/// # Errors
/// Sockets are of no use to this process. Where none can be made there is nothing to say.
pub fn try_sockets(watch: impl FnOnce(RawFd) -> io::Result<()>) -> io::Result<()> {
    let Ok((ours, theirs)) = UnixStream::pair() else { return Ok(()) };
    for (head, body) in [(&b"a"[..], &b""[..]), (b"b", b"c")] {
        send_now(ours.as_raw_fd(), head, body)?;
        recv_now(theirs.as_raw_fd(), &mut [0; 8])?;
    }
    watch(ours.as_raw_fd())
}

/// Returns what a call has moved, or its error; `None` if it was interrupted before anything moved: ask again.
fn unless_interrupted(result: libc::ssize_t) -> Option<io::Result<usize>> {
    if let Ok(n) = usize::try_from(result) {
        return Some(Ok(n));
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { None } else { Some(Err(error)) }
}
