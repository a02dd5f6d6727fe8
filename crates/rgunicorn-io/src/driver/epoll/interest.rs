//! The interests of the operations in each descriptor, against what epoll knows of them. Changes are collected and
//! told once, just before a wait: an interest that goes and comes back in one turn costs no system call.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::sys::check;

/// No registration has this mask: it would only report errors.
const UNREGISTERED: u32 = 0;
/// `EPOLLEXCLUSIVE` (4.5): of all the epolls that watch a shared listener, wake one.
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;

#[derive(Copy, Clone, Default)]
struct Interest {
    /// The mask that epoll was told.
    registered: u32,
    /// Counts the registrations under this number; comes back with every event.
    generation: u32,
    /// Stands in `dirty`.
    dirty: bool,
    /// The registration may be of a file that has gone: tell epoll again even if nothing seems to change.
    verify: bool,
}

pub(super) struct Interests {
    epoll: OwnedFd,
    by_fd: Vec<Interest>,
    dirty: Vec<RawFd>,
    /// epoll_pwait2 (5.11) takes nanoseconds; without it, milliseconds.
    has_pwait2: bool,
}

impl Interests {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: create()?, by_fd: Vec::new(), dirty: Vec::new(), has_pwait2: true })
    }

    /// Notes that the interest in `fd` may have changed.
    pub(super) fn mark_dirty(&mut self, fd: RawFd, verify: bool) {
        let at = fd as usize;
        if self.by_fd.len() <= at {
            self.grow(at);
        }
        let interest = &mut self.by_fd[at];
        interest.verify |= verify && interest.registered != UNREGISTERED;
        if !interest.dirty {
            interest.dirty = true;
            self.dirty.push(fd);
        }
    }

    #[cold]
    fn grow(&mut self, at: usize) {
        self.by_fd.resize((at + 1).next_power_of_two(), Interest::default());
    }

    /// Takes the next descriptor whose interest may have changed.
    pub(super) fn next_dirty(&mut self) -> Option<RawFd> {
        let fd = self.dirty.pop()?;
        self.by_fd[fd as usize].dirty = false;
        Some(fd)
    }

    /// Makes epoll watch `fd` for `wanted` (0 = not at all). The error is that of the descriptor: `EPERM` means that it
    /// is always ready (a regular file).
    pub(super) fn sync(&mut self, fd: RawFd, wanted: u32) -> io::Result<()> {
        let interest = &mut self.by_fd[fd as usize];
        let registered = interest.registered;
        let verify = std::mem::take(&mut interest.verify);
        if registered == wanted && !verify {
            return Ok(());
        }
        interest.registered = wanted;
        let result = if wanted == UNREGISTERED {
            // The file may have been closed already, and that is as good.
            let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0);
            Ok(())
        } else if registered == UNREGISTERED {
            self.add(fd, wanted)
        } else if (registered | wanted) & EXCLUSIVE != 0 {
            // An exclusive registration cannot be modified.
            let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0);
            self.add(fd, wanted)
        } else {
            match self.control(libc::EPOLL_CTL_MOD, fd, wanted) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.add(fd, wanted),
                other => other,
            }
        };
        if result.is_err() {
            self.by_fd[fd as usize].registered = UNREGISTERED;
        }
        result
    }

    fn add(&mut self, fd: RawFd, wanted: u32) -> io::Result<()> {
        let interest = &mut self.by_fd[fd as usize];
        interest.generation = interest.generation.wrapping_add(1);
        match self.control(libc::EPOLL_CTL_ADD, fd, wanted) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0);
                self.control(libc::EPOLL_CTL_ADD, fd, wanted)
            }
            other => other,
        }
    }

    /// Ends the registration of `fd`: before a close, or when an idle one has reported something. `false` if the file
    /// cannot be named any more: its number was closed, or is another one's.
    pub(super) fn deregister(&mut self, fd: RawFd) -> bool {
        let Some(interest) = self.by_fd.get_mut(fd as usize) else {
            return false;
        };
        interest.verify = false;
        let was = std::mem::replace(&mut interest.registered, UNREGISTERED);
        was != UNREGISTERED && self.control(libc::EPOLL_CTL_DEL, fd, 0).is_ok()
    }

    /// Keeps the registration of `fd` although no operation waits for it at present: often one will before anything
    /// happens, and an event that none wants ends it. Not that of a shared listener: it would take a connection from a
    /// sibling.
    pub(super) fn keep_idle(&mut self, fd: RawFd) -> io::Result<()> {
        if self.by_fd[fd as usize].registered & EXCLUSIVE != 0 {
            return self.sync(fd, UNREGISTERED);
        }
        Ok(())
    }

    /// Moves an exclusive waiter that was woken to the end of the kernel's queue: without this the first worker that
    /// ever waited would get nearly all connections.
    pub(super) fn rotate(&mut self, fd: RawFd) {
        if self.by_fd[fd as usize].registered & EXCLUSIVE != 0 {
            self.mark_dirty(fd, true);
        }
    }

    /// Returns the descriptor that an event is about; `None` if it is a file that once had the number of another one.
    pub(super) fn fd_of(&self, event: &libc::epoll_event) -> Option<RawFd> {
        let data = event.u64;
        let fd = data as u32;
        let interest = self.by_fd.get(fd as usize)?;
        (interest.generation == (data >> 32) as u32).then_some(fd as RawFd)
    }

    /// Puts a new epoll in the place of the old one. It is the answer to an event of a file that this process has not
    /// open any more: its number was closed behind the driver's back while another process (a child that the
    /// application forked) holds the file. It cannot be named.
    pub(super) fn start_over(&mut self) -> io::Result<()> {
        self.epoll = create()?;
        for at in 0..self.by_fd.len() {
            if std::mem::replace(&mut self.by_fd[at].registered, UNREGISTERED) != UNREGISTERED {
                self.mark_dirty(at as RawFd, false);
            }
        }
        Ok(())
    }

    pub(super) fn fileno(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Watches `fd`, which is about to be closed, and no more: whether epoll allows that still.
    pub(super) fn try_out(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, 0)?;
        self.control(libc::EPOLL_CTL_DEL, fd, 0)
    }

    /// Closes the descriptor; nothing else may be called after it.
    pub(super) fn close_in_child(&self) {
        // SAFETY: the caller leaks this value, so its owner never closes the number again.
        unsafe { libc::close(self.epoll.as_raw_fd()) };
    }

    fn control(&self, what: libc::c_int, fd: RawFd, mask: u32) -> io::Result<()> {
        let generation = self.by_fd.get(fd as usize).map_or(0, |interest| interest.generation);
        let data = u64::from(generation) << 32 | fd as u64;
        let mut event = libc::epoll_event { events: mask, u64: data };
        // SAFETY: `event` is a valid epoll_event during the call.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), what, fd, &raw mut event) }).map(drop)
    }

    /// Waits for events; returns how many of `events` were filled.
    pub(super) fn wait(
        &mut self,
        events: &mut [libc::epoll_event],
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        if self.has_pwait2 && timeout.is_some_and(|t| !t.is_zero()) {
            match self.wait_precise(events, timeout.unwrap_or_default()) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.has_pwait2 = false;
                }
                other => return other,
            }
        }
        // Rounded up: waking before the deadline would make the caller wait again at once.
        let ms = timeout.map_or(-1, |t| {
            libc::c_int::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        });
        let len = events.len() as libc::c_int;
        // SAFETY: `events` is writable for `len` entries during the call.
        let got = check(unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), len, ms) })?;
        Ok(got as usize)
    }

    fn wait_precise(&self, events: &mut [libc::epoll_event], timeout: Duration) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let len = events.len() as libc::c_int;
        // SAFETY: `events` is writable for `len` entries and `timeout` readable during the call; no signal mask is
        // passed.
        let got = check(unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                len,
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            ) as libc::c_int
        })?;
        Ok(got as usize)
    }
}

fn create() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: epoll_create1 made this descriptor and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
