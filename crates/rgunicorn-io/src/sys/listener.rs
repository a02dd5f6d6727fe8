//! Listening sockets: made or adopted by the master, shared with every worker through the fork.
//!
//! All of them are close-on-exec (programs that the application starts must not hold the port) and non-blocking
//! (several workers wake for one connection; the one that comes late must get EAGAIN).

use super::{check, process};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, sockopt,
};
use nix::unistd::{Gid, Uid, chown};
use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A place to listen at, as the configuration says it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A host name or literal (IPv6 without brackets) and a port; 0 lets the kernel choose one.
    Tcp {
        /// Host name, IPv4 or IPv6 literal.
        host: String,
        /// Port.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
    /// The name of an abstract unix socket, without the leading NUL byte.
    Abstract(Vec<u8>),
    /// A descriptor that this process has inherited (`fd://N`).
    Fd(RawFd),
}

impl fmt::Display for ListenAddress {
    /// Writes the address as Gunicorn names it in errors: Python's form of a TCP address pair, the bare path of a unix
    /// socket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "('{host}', {port})"),
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
            Self::Fd(fd) => write!(f, "fd://{fd}"),
        }
    }
}

/// The address that a socket is really bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// TCP over IPv4 or IPv6, the port as the kernel chose it.
    Tcp(SocketAddr),
    /// A unix socket with a path.
    Unix(PathBuf),
    /// An abstract (or nameless) unix socket.
    Abstract(Vec<u8>),
}

impl fmt::Display for Local {
    /// Writes the address as `Listening at:` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{}", name.escape_ascii()),
        }
    }
}

/// The ways to open listeners.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of the accept queue; the kernel caps it at net.core.somaxconn.
    pub backlog: i32,
    /// The umask under which a unix socket file is made.
    pub umask: u32,
    /// User and group that get a unix socket file.
    pub owner: Option<(u32, u32)>,
    /// Several TCP sockets may be bound to one address, each with a queue of its own (SO_REUSEPORT).
    pub reuse_port: bool,
}

/// A listening socket. Dropping it closes this process's descriptor and leaves a socket file alone: a child must not
/// remove what its parent still serves. See [`Listener::unlink`].
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: ListenAddress,
    local: Local,
    /// Device and inode of the socket file that this process, or the one that has handed the socket over, made.
    file: Option<(u64, u64)>,
    backlog: i32,
    /// No other process accepts from it.
    exclusive: bool,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Listener {
    /// Opens, binds and listens; or adopts the descriptor of an [`ListenAddress::Fd`].
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` and whatever else the system calls answer; `InvalidInput` (without an errno) if
    /// the path of a unix socket is taken by something that is not a socket; a resolver's error for an unknown host.
    pub fn open(address: &ListenAddress, options: &Options) -> io::Result<Self> {
        let listener = Self::bind(address, options)?;
        listener.listen()?;
        Ok(listener)
    }

    /// Opens and binds as [`Listener::open`] does, but does not listen yet: no client can connect.
    ///
    /// # Errors
    /// As [`Listener::open`].
    pub fn bind(address: &ListenAddress, options: &Options) -> io::Result<Self> {
        let (fd, file) = match address {
            ListenAddress::Tcp { host, port } => (open_tcp(resolve(host, *port)?, options.reuse_port)?, None),
            ListenAddress::Unix(path) => open_unix_path(path, options)?,
            ListenAddress::Abstract(name) => (open_unix(&UnixAddr::new_abstract(name)?)?, None),
            ListenAddress::Fd(number) => (adopt(*number)?, None),
        };
        let local = local(&fd)?;
        Ok(Self { fd, address: address.clone(), local, file, backlog: options.backlog, exclusive: false })
    }

    /// Listens, unless it does already: a second listen(2) may be forbidden.
    ///
    /// # Errors
    /// What listen(2) answers.
    pub fn listen(&self) -> io::Result<()> {
        if !socket::getsockopt(&self.fd, sockopt::AcceptConn)? {
            // SAFETY: listen(2) touches no memory; the descriptor is open as `fd` owns it.
            check(unsafe { libc::listen(self.fd.as_raw_fd(), self.backlog) })?;
        }
        Ok(())
    }

    /// Takes over descriptor `number`, a socket that a predecessor has opened, with its socket file: the process that
    /// has got the socket removes the file. The address is what the socket is bound to, until it is given another
    /// ([`Listener::with_address`]).
    ///
    /// # Errors
    /// EBADF, ENOTSOCK: it is no socket. What the system calls answer.
    pub fn inherit(number: RawFd, options: &Options) -> io::Result<Self> {
        let fd = adopt(number)?;
        let local = local(&fd)?;
        let (address, file) = match &local {
            Local::Tcp(bound) => {
                (ListenAddress::Tcp { host: bound.ip().to_string(), port: bound.port() }, None)
            }
            Local::Unix(path) => (ListenAddress::Unix(path.clone()), socket_file(path)),
            Local::Abstract(name) => (ListenAddress::Abstract(name.clone()), None),
        };
        let inherited = Self { fd, address, local, file, backlog: options.backlog, exclusive: false };
        inherited.listen()?;
        Ok(inherited)
    }

    /// Tells whether opening `address` would give a socket bound to what this one is bound to.
    pub fn is_at(&self, address: &ListenAddress) -> bool {
        match (address, &self.local) {
            (ListenAddress::Tcp { host, port }, Local::Tcp(bound)) => {
                let same = |wanted: SocketAddr| wanted.ip() == bound.ip() && [0, bound.port()].contains(port);
                resolve(host, *port).is_ok_and(same)
            }
            (ListenAddress::Unix(path), Local::Unix(bound)) => path == bound,
            (ListenAddress::Abstract(name), Local::Abstract(bound)) => name == bound,
            _ => false,
        }
    }

    /// Returns the socket under the address that the configuration has for it.
    #[must_use]
    pub fn with_address(self, address: ListenAddress) -> Self {
        Self { address, ..self }
    }

    /// Returns the socket, marked as of this process alone (`reuse_port`).
    #[must_use]
    pub fn into_exclusive(self) -> Self {
        Self { exclusive: true, ..self }
    }

    /// Tells whether no other process accepts from it.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Returns the configured address.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Returns the address that the socket is bound to; its text is what `Listening at:` shows.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Removes the socket file if this process made it and it is still the same file, so that a server that has taken
    /// over the path keeps its own. The master's, at its end.
    pub fn unlink(&self) {
        if let (Local::Unix(path), Some(ours)) = (&self.local, self.file)
            && fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == ours)
        {
            // A removal by another process in between is as good.
            let _ = fs::remove_file(path);
        }
    }
}

/// Returns the first IPv4 address of a host name, else the first: Gunicorn opens AF_INET for everything but an IPv6
/// literal.
fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    found
        .iter()
        .find(|address| address.is_ipv4())
        .or(found.first())
        .copied()
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, format!("'{host}' has no address")))
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket::socket(family, SockType::Stream, flags, None)?)
}

fn open_tcp(address: SocketAddr, reuse_port: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = stream_socket(family)?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if reuse_port {
        socket::setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    // Accepted sockets inherit it on Linux: no call per connection.
    socket::setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(fd)
}

fn open_unix(address: &UnixAddr) -> io::Result<OwnedFd> {
    let fd = stream_socket(AddressFamily::Unix)?;
    socket::bind(fd.as_raw_fd(), address)?;
    Ok(fd)
}

fn open_unix_path(path: &Path, options: &Options) -> io::Result<(OwnedFd, Option<(u64, u64)>)> {
    match fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => {
            let text = format!("'{}' is not a socket", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Err(_) => {} // Nothing there; anything worse is bind's to report.
    }
    let address = UnixAddr::new(path)?;
    let before = process::set_umask(options.umask);
    let opened = open_unix(&address);
    process::set_umask(before);
    let fd = opened?;
    if let Some((user, group)) = options.owner {
        chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    Ok((fd, socket_file(path)))
}

/// Returns device and inode of the socket file at `path`.
fn socket_file(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok().filter(|found| found.file_type().is_socket())?;
    Some((found.dev(), found.ino()))
}

/// Takes over descriptor `number`: a close-on-exec duplicate, the original is closed.
fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC touches no memory and answers EBADF for a number that is no descriptor.
    let duplicate = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the kernel has just made this descriptor; nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(duplicate) };
    local(&fd)?;
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    if number > libc::STDERR_FILENO {
        // SAFETY: the configuration's `fd://N` hands that descriptor over, and nothing in this process owns it.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(fd)
}

/// Returns the address that a socket is bound to, by getsockname(2).
fn local(fd: &OwnedFd) -> io::Result<Local> {
    let name: SockaddrStorage = socket::getsockname(fd.as_raw_fd())?;
    if let Some(inet) = name.as_sockaddr_in() {
        return Ok(Local::Tcp(SocketAddr::V4((*inet).into())));
    }
    if let Some(inet6) = name.as_sockaddr_in6() {
        return Ok(Local::Tcp(SocketAddr::V6((*inet6).into())));
    }
    match name.as_unix_addr() {
        Some(unix) => Ok(match unix.path() {
            Some(path) => Local::Unix(path.to_owned()),
            None => Local::Abstract(unix.as_abstract().unwrap_or_default().to_vec()),
        }),
        None => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("not an internet or unix socket (family {:?})", name.family()),
        )),
    }
}

#[cfg(test)]
#[path = "tests/listener.rs"]
mod tests;
