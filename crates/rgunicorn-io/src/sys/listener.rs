//! Listening sockets: made or adopted by the master, shared with every worker through the fork.
//!
//! All of them are close-on-exec (programs that the application starts must not hold the port) and non-blocking
//! (several workers wake for one connection; the one that comes late must get EAGAIN).

use super::place::{Owner, Place};
use super::{account, check, process};
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, sockopt,
};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid, fchownat};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
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

impl Local {
    /// Returns a number for the address that is the same in all processes of one program.
    pub fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.to_string().hash(&mut hasher);
        hasher.finish()
    }
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
    pub owner: Option<Owner>,
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
    file: Option<FileNumber>,
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
            Local::Unix(path) => (ListenAddress::Unix(path.clone()), file_of(path)),
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
            && let Ok(place) = Place::find(path, None)
            && socket_file(&place).is_some_and(|(file, _)| file == ours)
        {
            // A removal by another process in between is as good.
            let _ = place.remove();
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

/// Identifies a file: device and inode.
type FileNumber = (u64, u64);

fn open_unix_path(path: &Path, options: &Options) -> io::Result<(OwnedFd, Option<FileNumber>)> {
    let place = Place::find(path, options.owner)?;
    remove_stale(path, &place)?;
    let address = UnixAddr::new(path)?;
    let open = || {
        let before = process::set_umask(options.umask);
        let opened = open_unix(&address);
        process::set_umask(before);
        opened
    };
    let Some(owner) = options.owner else { return Ok((open()?, socket_file(&place).map(|(file, _)| file))) };
    // The file is the owner's from its first moment on, so that nothing else can be given away in its place. Where that
    // account may write, its own rights do; where it may not, it cannot have put anything in the way.
    let fd = match account::with_files_of(owner, false, open) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            account::with_files_of(owner, true, open)?
        }
        opened => opened?,
    };
    let Some((file, found)) = socket_file(&place) else {
        let text = format!("'{}' went as soon as it was made", path.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    };
    if found != owner {
        give_socket(&place, file, owner)?;
    }
    Ok((fd, Some(file)))
}

/// Gives the socket file to its owner, where the file system has made it another's: a directory whose group is
/// inherited, a process without the right to make files of that account.
fn give_socket(place: &Place, file: FileNumber, owner: Owner) -> io::Result<()> {
    let pinned = place.pin()?;
    let found = fstat(&pinned)?;
    if (found.st_dev, found.st_ino) != file {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (user, group) = (Uid::from_raw(owner.user), Gid::from_raw(owner.group));
    Ok(fchownat(&pinned, "", Some(user), Some(group), AtFlags::AT_EMPTY_PATH)?)
}

/// Removes the socket file that a server has left behind. Not that of one that lives: it would go on at a socket that
/// no client finds any more.
fn remove_stale(path: &Path, place: &Place) -> io::Result<()> {
    // Nothing there; anything worse is bind's to report.
    let Ok(found) = place.pin() else { return Ok(()) };
    if SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        let text = format!("'{}' is not a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let probe = stream_socket(AddressFamily::Unix)?;
    match socket::connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        // EAGAIN: its queue is full. EPROTOTYPE: a socket of another type, served by another kind of program.
        Ok(()) | Err(nix::Error::EAGAIN | nix::Error::EPROTOTYPE) => Err(nix::Error::EADDRINUSE.into()),
        Err(_) => place.remove(),
    }
}

fn file_of(path: &Path) -> Option<FileNumber> {
    socket_file(&Place::find(path, None).ok()?).map(|(file, _)| file)
}

/// Returns what identifies the socket file at a place, and whose it is.
fn socket_file(place: &Place) -> Option<(FileNumber, Owner)> {
    let found = fstat(place.pin().ok()?).ok()?;
    let is_socket = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK;
    let owner = Owner { user: found.st_uid, group: found.st_gid };
    is_socket.then_some(((found.st_dev, found.st_ino), owner))
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
