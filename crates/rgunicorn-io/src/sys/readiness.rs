//! Waiting for descriptors that another thread works with: which of them have something to read.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Descriptors that one look reports at most.
const READY_MAX: usize = 64;

/// A set of descriptors, each with a number of the caller's. A file that is closed everywhere leaves the set.
#[derive(Debug)]
pub struct ReadinessSet {
    epoll: Epoll,
}

impl ReadinessSet {
    /// Makes an empty set.
    ///
    /// # Errors
    /// Those of epoll_create1(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// Adds a descriptor, which is reported once.
    ///
    /// # Errors
    /// Those of epoll_ctl(2). The descriptor may have been closed, or closed and opened again, by its owner: what is
    /// reported is a hint.
    pub fn add(&self, fd: RawFd, number: u64) -> io::Result<()> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLONESHOT;
        // SAFETY: the number is only passed on to epoll_ctl(2), which looks at it and keeps no reference.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        Ok(self.epoll.add(fd, EpollEvent::new(wanted, number))?)
    }

    /// Waits until some are ready, or the time is over, and adds their numbers to `ready`.
    pub fn wait(&self, timeout: Duration, ready: &mut Vec<u64>) {
        let mut events = [EpollEvent::empty(); READY_MAX];
        let timeout = EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::ZERO);
        let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
        ready.extend(events[..count].iter().map(EpollEvent::data));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_can_be_read_is_reported_once() {
        let set = ReadinessSet::new().unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let (ended, end) = UnixStream::pair().unwrap();
        set.add(near.as_raw_fd(), 7).unwrap();
        set.add(ended.as_raw_fd(), 8).unwrap();
        assert!(set.add(-1, 9).is_err());
        let mut ready = Vec::new();
        set.wait(Duration::ZERO, &mut ready);
        assert!(ready.is_empty());
        far.write_all(b"x").unwrap();
        drop(end);
        set.wait(Duration::from_secs(10), &mut ready);
        ready.sort_unstable();
        assert_eq!(ready, [7, 8]);
        set.wait(Duration::ZERO, &mut ready);
        assert_eq!(ready, [7, 8]);
    }
}
