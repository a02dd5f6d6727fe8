//! The calls that no back end queues, because the kernel answers them at once: on io_uring and epoll they are the same
//! system calls, and the simulation answers them itself.

use std::io;
use std::net::Shutdown;
use std::os::fd::RawFd;

use super::types::Fd;
use crate::sys::clock::{self, Instant};
use crate::sys::handoff;
use crate::sys::net::{self, PeerAddr};

/// The default of each method asks the kernel. [`Driver`](super::Driver) has the contract of each under the same name.
pub(super) trait DirectCalls {
    fn accept(&mut self, listener: RawFd) -> io::Result<(Fd, PeerAddr)> {
        net::accept(listener).map(|(fd, peer)| (fd.into(), peer))
    }

    fn peer(&self, fd: RawFd) -> Option<PeerAddr> {
        net::peer(fd)
    }

    fn give(&mut self, queue: RawFd, connection: RawFd, message: &[u8]) -> io::Result<()> {
        handoff::give(queue, connection, message)
    }

    /// Tells whether a reception that is cancelled before the next wait takes nothing until then.
    fn may_give(&mut self, _connection: RawFd) -> bool {
        true
    }

    fn take(&mut self, queue: RawFd) -> io::Result<(Fd, Vec<u8>)> {
        handoff::take(queue).map(|(fd, message)| (fd.into(), message))
    }

    /// Closes it only: operations on it hold the file until their cancellations are submitted.
    fn let_go(&mut self, fd: Fd) {
        drop(fd);
    }

    fn try_recv(&mut self, fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
        net::recv_now(fd, into)
    }

    fn is_half_closed(&self, fd: RawFd) -> bool {
        net::is_half_closed(fd)
    }

    fn is_reset(&self, fd: RawFd) -> bool {
        net::is_reset(fd)
    }

    fn shutdown(&mut self, fd: RawFd, how: Shutdown) -> io::Result<()> {
        net::shutdown(fd, how)
    }

    fn try_sockets(&self) -> io::Result<()> {
        net::try_sockets(|_| Ok(()))
    }

    fn now(&self) -> Instant {
        clock::now()
    }
}
