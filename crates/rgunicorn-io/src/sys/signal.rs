//! Signals as a queue. A handler does two things that are async-signal-safe and nothing else: it puts the number
//! into a fixed ring and writes to an eventfd that the process's loop polls. Everything that a signal means is
//! decided later, in order, on an ordinary stack.
//!
//! Signals are queued, not merged (two TTIN that both arrived are two), as Gunicorn's are; only what the kernel itself
//! merges while a signal is pending stays merged.
//!
//! Dispositions are process-wide, so is the queue: it is a static, and [`SignalQueue`] is the token of its one owner.

use super::check;
use super::signal_ring::SignalRing;
use super::waker;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

/// A signal number with its name. The associated constants are the signals that the program speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(pub i32);

/// Every signal that has a name here: number, and the name without `SIG`.
const NAMES: [(i32, &str); 29] = [
    (libc::SIGHUP, "HUP"),
    (libc::SIGINT, "INT"),
    (libc::SIGQUIT, "QUIT"),
    (libc::SIGILL, "ILL"),
    (libc::SIGTRAP, "TRAP"),
    (libc::SIGABRT, "ABRT"),
    (libc::SIGBUS, "BUS"),
    (libc::SIGFPE, "FPE"),
    (libc::SIGKILL, "KILL"),
    (libc::SIGUSR1, "USR1"),
    (libc::SIGSEGV, "SEGV"),
    (libc::SIGUSR2, "USR2"),
    (libc::SIGPIPE, "PIPE"),
    (libc::SIGALRM, "ALRM"),
    (libc::SIGTERM, "TERM"),
    (libc::SIGSTKFLT, "STKFLT"),
    (libc::SIGCHLD, "CHLD"),
    (libc::SIGCONT, "CONT"),
    (libc::SIGSTOP, "STOP"),
    (libc::SIGTSTP, "TSTP"),
    (libc::SIGTTIN, "TTIN"),
    (libc::SIGTTOU, "TTOU"),
    (libc::SIGURG, "URG"),
    (libc::SIGXCPU, "XCPU"),
    (libc::SIGXFSZ, "XFSZ"),
    (libc::SIGVTALRM, "VTALRM"),
    (libc::SIGPROF, "PROF"),
    (libc::SIGWINCH, "WINCH"),
    (libc::SIGSYS, "SYS"),
];

impl Signal {
    /// Hang up: reload.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Interrupt: quick stop.
    pub const INT: Self = Self(libc::SIGINT);
    /// Quit: quick stop.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// Abort: for a worker that no longer beats.
    pub const ABRT: Self = Self(libc::SIGABRT);
    /// Kill: cannot be caught.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// User signal 1: reopen the logs.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// User signal 2: upgrade of the binary.
    pub const USR2: Self = Self(libc::SIGUSR2);
    /// Terminate: graceful stop.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// A child changed its state.
    pub const CHLD: Self = Self(libc::SIGCHLD);
    /// One worker more.
    pub const TTIN: Self = Self(libc::SIGTTIN);
    /// One worker less.
    pub const TTOU: Self = Self(libc::SIGTTOU);
    /// Window change: stop the workers of a daemon.
    pub const WINCH: Self = Self(libc::SIGWINCH);

    /// Returns the name without `SIG`, upper case; `None` for a number without one (real-time signals).
    pub fn short_name(self) -> Option<&'static str> {
        NAMES.iter().find(|(number, _)| *number == self.0).map(|(_, name)| *name)
    }
}

impl fmt::Display for Signal {
    /// Writes `SIGTERM`, or `signal 40` where there is no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.short_name() {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How many signals may wait unhandled. A master handles them within milliseconds; 256 is far above anything but an
/// attack by kill(2), and then the youngest are dropped, as the kernel itself would merge them.
const QUEUE_SIGNALS_MAX: usize = 256;

static RING: SignalRing<QUEUE_SIGNALS_MAX> = SignalRing {
    places: [const { AtomicI32::new(0) }; QUEUE_SIGNALS_MAX],
    head: AtomicU32::new(0),
    tail: AtomicU32::new(0),
};
/// The eventfd that a handler writes to; -1 while there is none.
static WAKE_FD: AtomicI32 = AtomicI32::new(-1);
static OWNED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(signal: libc::c_int) {
    RING.push(signal);
    let fd = WAKE_FD.load(Ordering::Acquire);
    let one = 1u64.to_ne_bytes();
    // SAFETY: write(2) and the thread's errno are async-signal-safe; `one` is 8 readable bytes, what an eventfd takes.
    // A descriptor that is -1 or full gives an error that needs no answer: the loop is awake or gone. errno is put back
    // because this may run between a system call and its reader.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(fd, one.as_ptr().cast(), one.len());
        *errno = before;
    }
}

/// The process's one queue of signals. Made by the master; a child lets it go with [`SignalQueue::leave_in_child`].
#[derive(Debug)]
pub struct SignalQueue {
    wake: EventFd,
    signals: Vec<Signal>,
}

impl SignalQueue {
    /// Installs the enqueueing handler for `signals` and unblocks them.
    ///
    /// # Errors
    /// `AlreadyExists` if the process has a queue, and what eventfd(2) or sigaction(2) answer.
    pub fn install(signals: &[Signal]) -> io::Result<Self> {
        if OWNED.swap(true, Ordering::AcqRel) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the process already has a signal queue",
            ));
        }
        RING.clear();
        let queue = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map(|wake| Self { wake, signals: signals.to_vec() })
            .map_err(io::Error::from);
        let queue = queue.inspect_err(|_| OWNED.store(false, Ordering::Release))?;
        WAKE_FD.store(queue.wake.as_raw_fd(), Ordering::Release);
        for signal in signals {
            set_handler(*signal, on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t)?;
        }
        change_mask(libc::SIG_UNBLOCK, signals)?;
        Ok(queue)
    }

    /// Takes the oldest waiting signal.
    pub fn take(&mut self) -> Option<Signal> {
        RING.pop().map(Signal)
    }

    /// Sleeps until a signal is queued or `timeout` has passed. May return early.
    ///
    /// # Errors
    /// As [`SignalQueue::wait_also_for`].
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        self.wait_also_for(self.wake.as_fd(), timeout)
    }

    /// Waits as [`SignalQueue::wait`] does, and a readable `other` ends it, too.
    ///
    /// # Errors
    /// What is wrong with the wait for a signal: it did not wait, or the next one will not. Signals are queued still.
    pub fn wait_also_for(&self, other: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        let mut fds =
            [self.wake.as_fd(), other].map(|fd| nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN));
        // Rounded up: rounding 0.4 ms down to 0 would spin.
        let milliseconds = u16::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        // EINTR is a wake-up too: the handler that interrupted has queued its signal.
        let waited = match nix::poll::poll(&mut fds, milliseconds) {
            Err(error) if error != nix::errno::Errno::EINTR => Err(error.into()),
            _ => Ok(()),
        };
        // Emptied before the queue is read, so that a signal that comes in between wakes the next wait.
        waited.and(waker::take(&self.wake))
    }

    /// Leaves the handlers and the queue in place for the end of the process: signals go on being queued and are not
    /// read, so that one that comes while the interpreter finalizes does not replace the exit status. The process
    /// cannot have another queue.
    pub fn detach(self) {
        std::mem::forget(self);
    }

    /// Ends the queue in a forked child, with the signals still blocked (see [`block`]): default dispositions, an
    /// empty queue, and no descriptor shared with the parent, so that nothing the parent has received is handled
    /// twice.
    pub fn leave_in_child(self) {
        drop(self);
    }
}

impl Drop for SignalQueue {
    fn drop(&mut self) {
        for signal in &self.signals {
            // The signals were valid at installation; a failure here would leave a handler that only enqueues.
            let _ = set_handler(*signal, libc::SIG_DFL);
        }
        WAKE_FD.store(-1, Ordering::Release);
        RING.clear();
        OWNED.store(false, Ordering::Release);
    }
}

/// Lets the queue go in a child that was forked beside its owner, by a hook: where its handler is still in place,
/// signals have their default actions again, and nothing leads to the parent's eventfd.
pub fn leave_queue_in_child() {
    for (number, _) in NAMES {
        // SAFETY: all-zero is a valid sigaction, and sigaction(2) writes the present one there.
        let present = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            check(libc::sigaction(number, std::ptr::null(), &raw mut action)).map(|_| action.sa_sigaction)
        };
        if present
            .is_ok_and(|handler| handler == on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t)
        {
            let _ = set_handler(Signal(number), libc::SIG_DFL);
        }
    }
    WAKE_FD.store(-1, Ordering::Release);
    RING.clear();
    OWNED.store(false, Ordering::Release);
}

/// A set of blocked signals; dropping it puts the calling thread's former mask back, and what is pending is delivered
/// then. It remembers a whole mask, so guards of one thread are dropped in the reverse order of their making.
#[derive(Debug)]
#[must_use = "the signals are unblocked when this is dropped"]
pub struct Blocked {
    before: libc::sigset_t,
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `before` was written by pthread_sigmask; the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// Blocks `signals` for the calling thread until the guard is dropped. Around a fork: the child starts with them
/// blocked and drops its copy of the guard when its own handlers stand.
///
/// # Errors
/// EINVAL for an invalid signal number.
pub fn block(signals: &[Signal]) -> io::Result<Blocked> {
    change_mask(libc::SIG_BLOCK, signals).map(|before| Blocked { before })
}

/// Blocks every signal for the calling thread until the guard is dropped. Around the start of a thread that shall
/// never be the one that a signal interrupts.
///
/// # Errors
/// None in practice.
pub fn block_all() -> io::Result<Blocked> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initializes the set whose place it gets.
    let all = unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    };
    set_mask(libc::SIG_BLOCK, &all).map(|before| Blocked { before })
}

/// Gives `signals` their default actions.
///
/// # Errors
/// EINVAL for a signal that cannot have one (KILL, STOP) or does not exist.
pub fn reset_to_default(signals: &[Signal]) -> io::Result<()> {
    signals.iter().try_for_each(|signal| set_handler(*signal, libc::SIG_DFL))
}

fn set_of(signals: &[Signal]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set whose place it gets; sigaddset changes an initialized set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            check(libc::sigaddset(set.as_mut_ptr(), signal.0))?;
        }
        Ok(set.assume_init())
    }
}

fn change_mask(how: libc::c_int, signals: &[Signal]) -> io::Result<libc::sigset_t> {
    set_mask(how, &set_of(signals)?)
}

fn set_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    let mut before = MaybeUninit::uninit();
    // SAFETY: `set` is an initialized set, `before` is a place for one, written when the call succeeds.
    unsafe {
        match libc::pthread_sigmask(how, set, before.as_mut_ptr()) {
            0 => Ok(before.assume_init()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn set_handler(signal: Signal, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all-zero is a valid sigaction; the mask is filled by sigfillset, so that handlers do not nest. The
    // handler is SIG_DFL or `on_signal`, which is async-signal-safe. SA_RESTART: the loop is woken by its eventfd, not
    // by EINTR.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        libc::sigfillset(&raw mut action.sa_mask);
        check(libc::sigaction(signal.0, &raw const action, std::ptr::null_mut())).map(drop)
    }
}

#[cfg(test)]
#[path = "tests/signal.rs"]
mod tests;
