//! Sockets that never wait, from as many addresses of this machine as so many connections need.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use crate::args::Target;

/// Connections from one address. Linux has 28,232 ports for those to one server by default, and some are other
/// people's.
const PER_SOURCE: u32 = 10_000;

/// An open socket in non-blocking mode.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Begins to connect: the socket is writable when that is over. `index`: the number of the connection, which
    /// decides about its source, from the one with the number `first` on.
    ///
    /// # Errors
    /// What the system calls say. A unix socket whose queue is full makes this wait.
    pub(crate) fn open(target: &Target, first: u32, index: u32) -> io::Result<Self> {
        match target {
            Target::Tcp(address, _) => open_tcp(*address, source(*address, first, index)).map(Self::Tcp),
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Ok(Self::Unix(stream))
            }
        }
    }

    /// Reads what is there.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    /// Writes what there is room for.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    /// Returns why connecting has failed, if it has.
    pub(crate) fn error(&self) -> Option<io::Error> {
        let taken = match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Unix(stream) => stream.take_error(),
        };
        taken.unwrap_or_else(Some)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Returns the address that connection `index` comes from; `None` leaves it to the kernel, which takes 127.0.0.1.
fn source(target: SocketAddr, first: u32, index: u32) -> Option<Ipv4Addr> {
    let block = first + index / PER_SOURCE;
    // All of 127.0.0.0/8 is this machine's; ::1 is alone.
    (block > 0 && target.is_ipv4()).then(|| Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + block))
}

fn open_tcp(target: SocketAddr, from: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd: OwnedFd =
        socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    if let Some(from) = from {
        // The port is chosen by connect(2): bind(2) would refuse one that is in use towards another server.
        setsockopt(&fd, sockopt::IpBindAddressNoPort, &true)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::V4(SocketAddrV4::new(from, 0))))?;
    }
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(fd)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_crowd_comes_from_several_addresses() {
        let target: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert_eq!(source(target, 0, 9_999), None);
        assert_eq!(source(target, 0, 10_000), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(source(target, 0, 29_999), Some(Ipv4Addr::new(127, 0, 0, 3)));
        assert_eq!(source(target, 254, 0), Some(Ipv4Addr::new(127, 0, 0, 255)));
        assert_eq!(source(target, 254, 10_000), Some(Ipv4Addr::new(127, 0, 1, 0)));
        assert_eq!(source("[::1]:80".parse().unwrap(), 1, 29_999), None);
    }
}
