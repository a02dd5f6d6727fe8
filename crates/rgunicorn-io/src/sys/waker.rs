//! The end of an event loop's wait from outside: from another thread, or from a signal handler.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::check;
// Not the one of the signals below, which are static: a model checker's cannot be.
use super::sync::atomic::AtomicBool as SleepFlag;

/// An eventfd that a loop polls, and whether the loop sleeps: a loop that does not needs no system call to be told.
#[derive(Debug)]
pub struct Waker {
    event: EventFd,
    sleeping: SleepFlag,
}

impl Waker {
    /// Makes a waker that no loop has used yet.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { event, sleeping: SleepFlag::new(false) })
    }

    /// Returns the descriptor that the loop polls for reading.
    pub fn fd(&self) -> RawFd {
        self.event.as_fd().as_raw_fd()
    }

    /// Says that the loop is about to sleep (`true`), or has slept. To be called while every caller of [`Waker::wake`]
    /// is kept out (by the interpreter lock), so that no call falls between the loop's last look and its sleep.
    pub fn set_sleeping(&self, sleeping: bool) {
        self.sleeping.store(sleeping, Ordering::Release);
    }

    /// Ends the loop's sleep, if it sleeps.
    pub fn wake(&self) {
        if self.sleeping.swap(false, Ordering::AcqRel) {
            self.notify();
        }
    }

    /// Makes the descriptor readable.
    pub fn notify(&self) {
        // Full counters are readable, too.
        let _ = self.event.write(1);
    }

    /// Makes the descriptor unreadable again.
    ///
    /// # Errors
    /// It cannot be read, and stays readable.
    pub fn drain(&self) -> io::Result<()> {
        take(&self.event)
    }
}

/// Sets the counter of a non-blocking eventfd back to zero.
///
/// # Errors
/// It cannot be read. That it is zero already is none.
pub(super) fn take(event: &EventFd) -> io::Result<()> {
    match event.read().map_err(io::Error::from) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// No handler may write to a number that belongs to another file by then.
impl Drop for Waker {
    fn drop(&mut self) {
        release_signals(self);
    }
}

/// Signal numbers are below this (`_NSIG` of Linux).
pub const SIGNAL_NUMBERS: usize = 65;

/// One signal that a loop watches.
struct Watched {
    /// The eventfd of the loop that watches it; -1: none.
    fd: AtomicI32,
    arrived: AtomicBool,
}

static WATCHED: [Watched; SIGNAL_NUMBERS] =
    [const { Watched { fd: AtomicI32::new(-1), arrived: AtomicBool::new(false) } }; SIGNAL_NUMBERS];

extern "C" fn record(number: libc::c_int) {
    let Some(watched) = usize::try_from(number).ok().and_then(|at| WATCHED.get(at)) else { return };
    watched.arrived.store(true, Ordering::Release);
    let fd = watched.fd.load(Ordering::Acquire);
    if fd >= 0 {
        let one = 1_u64;
        // SAFETY: errno is this thread's own; write(2) is async-signal-safe, and `one` is readable for 8 bytes. What is
        // interrupted must find its errno again.
        unsafe {
            let errno = libc::__errno_location();
            let before = *errno;
            libc::write(fd, (&raw const one).cast(), size_of::<u64>());
            *errno = before;
        }
    }
}

/// Makes the signal end the wait of the loop with this waker, whichever thread receives it; the former disposition is
/// displaced, Python's handler too (as libev does).
///
/// # Errors
/// `EINVAL` for a number that is no signal or cannot be caught; `EBUSY` when another loop watches it.
pub fn watch_signal(number: i32, waker: &Waker) -> io::Result<()> {
    let watched = slot(number).ok_or(io::ErrorKind::InvalidInput)?;
    let fd = waker.fd();
    let before = watched.fd.swap(fd, Ordering::AcqRel);
    if before >= 0 && before != fd {
        watched.fd.store(before, Ordering::Release);
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    set_handler(number, record as extern "C" fn(libc::c_int) as libc::sighandler_t)
        .inspect_err(|_| watched.fd.store(before, Ordering::Release))
}

/// Ends [`watch_signal`]: the signal has its default effect again. One that has come is not forgotten: the loop may
/// watch it again before it looks.
pub fn unwatch_signal(number: i32) {
    if let Some(watched) = slot(number) {
        // The order matters: no handler may write to a descriptor that its owner is about to close.
        let _ = set_handler(number, libc::SIG_DFL);
        watched.fd.store(-1, Ordering::Release);
    }
}

/// Stops reporting a signal whose disposition another owner has set meanwhile; the disposition stays.
pub fn forget_signal(number: i32) {
    if let Some(watched) = slot(number) {
        watched.fd.store(-1, Ordering::Release);
        watched.arrived.store(false, Ordering::Release);
    }
}

/// Gives all signals that a loop watched by its former waker to another one: after a fork it has a new one.
pub fn rebind_signals(before: &Waker, waker: &Waker) {
    for watched in &WATCHED {
        // Others, and none, stay as they are.
        let _ = watched.fd.compare_exchange(before.fd(), waker.fd(), Ordering::AcqRel, Ordering::Acquire);
    }
}

/// Tells whether a loop watches the signal.
pub fn is_watched(number: i32) -> bool {
    slot(number).is_some_and(|watched| watched.fd.load(Ordering::Acquire) >= 0)
}

/// Takes the signals that have come for the loop with this waker, lowest number first. Those that no loop watches any
/// more are forgotten: they must not be told to a later watcher.
pub fn take_arrivals(waker: &Waker) -> Vec<i32> {
    let mut arrived = Vec::new();
    for (number, watched) in WATCHED.iter().enumerate() {
        let fd = watched.fd.load(Ordering::Acquire);
        let mine = fd == waker.fd();
        if (mine || fd < 0) && watched.arrived.load(Ordering::Acquire) {
            watched.arrived.store(false, Ordering::Release);
            arrived.extend(mine.then_some(number as i32));
        }
    }
    arrived
}

/// Ends the watching of all signals of a loop that ends: nothing leads to its waker any more.
pub fn release_signals(waker: &Waker) {
    for (number, watched) in WATCHED.iter().enumerate() {
        if watched.fd.load(Ordering::Acquire) == waker.fd() {
            unwatch_signal(number as i32);
            watched.arrived.store(false, Ordering::Release);
        }
    }
}

/// A child has ended.
pub const SIGNAL_CHILD: i32 = libc::SIGCHLD;

fn slot(number: i32) -> Option<&'static Watched> {
    usize::try_from(number).ok().filter(|at| *at > 0).and_then(|at| WATCHED.get(at))
}

fn set_handler(number: i32, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: a sigaction is plain memory, for which zero means no flags and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler is async-signal-safe (or SIG_DFL) and stays loaded; the kernel refuses bad numbers.
    check(unsafe { libc::sigaction(number, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// Asks waitpid(2), without waiting, for the end of a child: its status, or nothing yet. Any child for 0.
///
/// # Errors
/// `ECHILD` when there is no such child.
pub fn wait_child(pid: i32) -> io::Result<Option<(i32, i32)>> {
    let mut status = 0;
    let which = if pid == 0 { -1 } else { pid };
    // SAFETY: `status` is writable.
    let found = check(unsafe { libc::waitpid(which, &raw mut status, libc::WNOHANG) })?;
    Ok((found > 0).then_some((found, status)))
}

/// Checks that the descriptor is open.
///
/// # Errors
/// `EBADF`.
pub fn check_open(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_GETFD takes no memory.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(waker: &Waker) -> bool {
        let mut poll = libc::pollfd { fd: waker.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, writable during the call.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    #[test]
    fn only_a_sleeper_is_woken() {
        let waker = Waker::new().unwrap();
        waker.wake();
        assert!(!readable(&waker));
        waker.set_sleeping(true);
        waker.wake();
        assert!(readable(&waker));
        waker.drain().unwrap();
        waker.wake();
        assert!(!readable(&waker));
    }

    #[test]
    fn a_signal_wakes_the_loop_that_watches_it_and_no_other_may() {
        let (waker, other) = (Waker::new().unwrap(), Waker::new().unwrap());
        let number = libc::SIGRTMIN() + 3;
        watch_signal(number, &waker).unwrap();
        assert_eq!(watch_signal(number, &other).unwrap_err().raw_os_error(), Some(libc::EBUSY));
        // SAFETY: the handler is installed.
        unsafe { libc::raise(number) };
        assert!(readable(&waker) && take_arrivals(&other).is_empty());
        assert_eq!(take_arrivals(&waker), [number]);
        assert!(take_arrivals(&waker).is_empty());
        // Watched again before the loop looks: it has come. Watched by no loop when one looks: it is forgotten.
        // SAFETY: the handler is installed.
        unsafe { libc::raise(number) };
        unwatch_signal(number);
        watch_signal(number, &waker).unwrap();
        assert_eq!(take_arrivals(&waker), [number]);
        // SAFETY: the handler is installed.
        unsafe { libc::raise(number) };
        unwatch_signal(number);
        assert!(take_arrivals(&waker).is_empty());
        watch_signal(number, &other).unwrap();
        // A waker that is dropped without a word lets go as well, of what is still its own.
        let third = Waker::new().unwrap();
        rebind_signals(&other, &third);
        drop(other);
        assert_eq!(watch_signal(number, &waker).unwrap_err().raw_os_error(), Some(libc::EBUSY));
        drop(third);
        watch_signal(number, &waker).unwrap();
        unwatch_signal(number);
        for refused in [libc::SIGKILL, libc::SIGSTOP] {
            assert_eq!(watch_signal(refused, &waker).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
        assert!(watch_signal(1000, &waker).is_err() && watch_signal(0, &waker).is_err());
    }
}
