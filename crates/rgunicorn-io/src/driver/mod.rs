//! The driver: what the worker asks of the kernel, in completion style, over back ends of one shape: io_uring, epoll
//! and, with the feature `sim`, a simulation for tests.
//!
//! It knows descriptors, bytes and time-outs. It may not know HTTP, Python or settings, and it never calls its caller:
//! all it has to say comes out of `Driver::wait` as [`Completion`]s, which the caller handles when no borrow of it is
//! alive.
//!
//! Every method of [`Driver`] is one `match` that calls the method of the same name on the back end; no table of
//! pointers stands between. Only `open` and `sim`, which choose one, have code of their own; `try_recv` lends the back
//! end a buffer, and `has_pending` is `in_flight` as a question.
//!
//! | methods | do |
//! |---|---|
//! | `recv` `send` `poll` `poll_again` `arm_accept` | start an operation, under an [`OpKey`] |
//! | `recv_stop` `recv_cancel` `send_cancel` `poll_cancel` `disarm_accept` | end one by its key, stale or not |
//! | `release_file` `close` | make the kernel let go of a file |
//! | `flush` `wait` | submit; `wait` alone sleeps, and alone delivers completions |
//! | `buffer` `set_held` `release` | handle received bytes |
//! | `accept` `give` `take` `try_recv` `shutdown` `is_half_closed` `is_reset` `now` | are answered at once |
//! | `peek_recv` `give_armed` `let_go` | give a connection away from another thread |
//! | `name` `fileno` `in_flight` `queued_sends` `stats` | tell about the driver |
//! | `forget_after_fork` | ends the copy in a forked child |
//!
//! To read: `types.rs` (the words), this file (the contract), `optable.rs` (the life of an operation), then one back
//! end. `timers.rs` and `heap.rs` stand alone: deadlines of the worker's connections, and those of gevent's timers.
#![expect(unsafe_code, reason = "this floor shares memory with the kernel")]

mod budget;
mod buffers;
mod config;
mod direct;
mod epoll;
mod heap;
mod optable;
mod probe;
mod report;
mod sendop;
#[cfg(feature = "sim")]
pub mod sim;
pub mod timers;
mod types;
mod uring;

use std::io;
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::time::Duration;

use self::direct::DirectCalls;
use self::epoll::Epoll;
#[cfg(feature = "sim")]
use self::sim::{Sim, SimConfig, SimNet};
use self::uring::Uring;
use crate::sys::clock::Instant;

pub use crate::sys::net::PeerAddr;
pub use config::{BATCHED_AGE_MAX, BATCHED_SENDS_MAX, Choice, Config};
pub use heap::TimerHeap;
pub use report::Report;
pub use types::{BufId, Completion, Fd, OpKey, Received, SendBuf, Sent, Stats, Token, Urgency};

/// Poll mask: bytes can be read, or the peer has closed.
pub const READABLE: u32 = libc::POLLIN as u32;
/// Poll mask: bytes can be written.
pub const WRITABLE: u32 = libc::POLLOUT as u32;

/// One thread's door to the kernel. Made after the fork (and after setuid) by the thread that uses it. While that one
/// is elsewhere and cannot use it, another one may call what enters no ring: `peek_recv`, `recv_cancel`, `give_armed`,
/// `let_go` and what is answered at once.
///
/// The kinds of its methods are in the [module's table](self).
///
/// Dropping it cancels what is in flight and waits, within bounds, until the kernel has let go; the memory of what it
/// does not let go of is leaked. Bodies of unfinished sends are dropped then and there: where that may run foreign
/// code, use `send_cancel` and wait before.
pub struct Driver {
    backend: Backend,
}

#[expect(clippy::large_enum_variant, reason = "there is one per thread")]
enum Backend {
    Uring(Uring),
    Epoll(Epoll),
    #[cfg(feature = "sim")]
    Sim(Sim),
}

/// Calls the same method of whichever back end it is.
macro_rules! each {
    ($backend:expr, $inner:ident => $call:expr) => {
        match $backend {
            Backend::Uring($inner) => $call,
            Backend::Epoll($inner) => $call,
            #[cfg(feature = "sim")]
            Backend::Sim($inner) => $call,
        }
    };
}

/// Most bytes that [`Driver::try_recv`] takes at once: the usual request. The rest is there for the next reception.
const WAITING_BYTES_MAX: usize = 4096;

impl Driver {
    /// Makes the driver that `config.choice` asks for, and says what it became.
    ///
    /// # Errors
    /// With [`Choice::Uring`] whatever stands against io_uring; otherwise only what stands against epoll as well.
    pub fn open(config: &Config) -> io::Result<(Self, Report)> {
        let mut fallback = None;
        if config.choice != Choice::Epoll {
            match open_uring(config) {
                Ok(uring) => {
                    let features = uring.describe();
                    let this = Self::of(Backend::Uring(uring));
                    let report = Report { driver: this.name(), features, fallback };
                    return Ok((this, report));
                }
                Err(error) if config.choice == Choice::Uring => return Err(error),
                Err(error) => fallback = Some(error),
            }
        }
        let this = Self::of(Backend::Epoll(Epoll::open(config)?));
        let report = Report { driver: this.name(), features: String::new(), fallback };
        Ok((this, report))
    }

    /// Makes a driver over a simulated network that `seed` determines completely; the second half is the network's
    /// other end.
    ///
    /// # Panics
    /// If the process has no address space left for the buffers.
    #[cfg(feature = "sim")]
    pub fn sim(seed: u64, config: &SimConfig) -> (Self, SimNet) {
        let net = SimNet::new(seed, config);
        (Self::sim_sibling(&net), net)
    }

    /// Makes another driver on a simulated network: a sibling worker's.
    ///
    /// # Panics
    /// As [`Driver::sim`].
    #[cfg(feature = "sim")]
    pub fn sim_sibling(net: &SimNet) -> Self {
        Self::of(Backend::Sim(Sim::new(net).expect("a simulation needs nothing but memory")))
    }

    fn of(backend: Backend) -> Self {
        Self { backend }
    }

    /// Returns `"uring"`, `"epoll"` or `"sim"`.
    pub fn name(&self) -> &'static str {
        each!(&self.backend, d => d.name())
    }

    /// Submits what is queued and waits until something completes, the time-out passes (`None`: never) or a signal
    /// comes; appends what completed to `out`, possibly nothing.
    ///
    /// # Errors
    /// Only what makes the driver useless; `EINTR` is not an error.
    pub fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion>) -> io::Result<()> {
        each!(&mut self.backend, d => d.wait(timeout, out))
    }

    /// Arms reception. It delivers data until `recv_stop`, `recv_cancel`, `close`, the end of the stream or an error.
    /// At most one reception per descriptor. Short of buffers it pauses, and resumes when some were released.
    ///
    /// # Errors
    /// `EBADF` for a negative descriptor; every other error arrives as a completion.
    pub fn recv(&mut self, fd: RawFd, token: Token) -> io::Result<OpKey> {
        each!(&mut self.backend, d => d.recv(fd, token))
    }

    /// Ends a reception at once: no completion of it is delivered after this. Returns the bytes that the kernel had
    /// handed over already, and whether end of stream or an error was met behind them. Other operations' completions
    /// that turn up meanwhile are kept for the next wait.
    pub fn recv_stop(&mut self, op: OpKey) -> (Vec<u8>, bool) {
        each!(&mut self.backend, d => d.recv_stop(op))
    }

    /// Ends a reception whose owner has gone: no completion of it is delivered, its bytes are discarded.
    pub fn recv_cancel(&mut self, op: OpKey) {
        each!(&mut self.backend, d => d.recv_cancel(op));
    }

    /// Returns the bytes of a received buffer.
    pub fn buffer(&self, id: &BufId) -> &[u8] {
        each!(&self.backend, d => d.buffer(id))
    }

    /// Says how many of the bytes that waits have brought are not handled yet: the next wait brings less by as many, if
    /// there is as much.
    pub fn set_held(&mut self, bytes: usize) {
        each!(&mut self.backend, d => d.set_held(bytes));
    }

    /// Gives a received buffer back.
    pub fn release(&mut self, id: BufId) {
        each!(&mut self.backend, d => d.release(id));
    }

    /// Sends all of `buf`. At most one send in flight per descriptor (the caller's duty: two would be in no order).
    pub fn send(&mut self, fd: RawFd, token: Token, buf: SendBuf, urgency: Urgency) -> Sent {
        each!(&mut self.backend, d => d.send(fd, token, buf, urgency))
    }

    /// Ends a send whose owner has gone. Its memory comes out as [`Completion::Orphan`] when the kernel has let go of
    /// it.
    pub fn send_cancel(&mut self, op: OpKey) {
        each!(&mut self.backend, d => d.send_cancel(op));
    }

    /// Submits what is queued, without waiting. To be called before application work that may take long.
    pub fn flush(&mut self) {
        each!(&mut self.backend, d => d.flush());
    }

    /// Waits for any descriptor to become ready as poll(2) has it; one-shot. A descriptor that is ready already
    /// completes with the next wait, so polling again after each completion is level-triggered.
    ///
    /// # Errors
    /// `EBADF` for a negative descriptor; every other error arrives as a completion.
    pub fn poll(&mut self, fd: RawFd, mask: u32, token: Token) -> io::Result<OpKey> {
        each!(&mut self.backend, d => d.poll(fd, mask, token))
    }

    /// Polls as [`Driver::poll`] does, for a caller who knows that the descriptor is the same file as at the last poll:
    /// what the driver knows about it is not checked.
    ///
    /// # Errors
    /// As for [`Driver::poll`].
    pub fn poll_again(&mut self, fd: RawFd, mask: u32, token: Token) -> io::Result<OpKey> {
        each!(&mut self.backend, d => d.poll_again(fd, mask, token))
    }

    /// Ends a poll: no completion of it is delivered after this. To be called before the descriptor is closed.
    pub fn poll_cancel(&mut self, op: OpKey) {
        each!(&mut self.backend, d => d.poll_cancel(op));
    }

    /// Asks to be woken, once, for a connection on a listener that siblings share. Of all that ask, one is woken.
    ///
    /// # Errors
    /// `EBADF` for a negative descriptor.
    pub fn arm_accept(&mut self, listener: RawFd, token: Token) -> io::Result<OpKey> {
        each!(&mut self.backend, d => d.arm_accept(listener, token))
    }

    /// Takes the wish back, effective at once: for the time that the application runs, siblings get the wake-ups. True
    /// if one had been used up for this driver already: then call `accept` before the application, or that connection
    /// waits for it.
    #[must_use = "true means that a connection may be waiting for us alone"]
    pub fn disarm_accept(&mut self, op: OpKey) -> bool {
        each!(&mut self.backend, d => d.disarm_accept(op))
    }

    /// Takes one connection; never waits. The socket is in blocking mode on purpose: io_uring answers `EAGAIN` for a
    /// non-blocking one where it would wait for a blocking one. Everything here that must not wait says so per call.
    ///
    /// # Errors
    /// `WouldBlock` if a sibling was faster; whatever accept4(2) says otherwise.
    pub fn accept(&mut self, listener: RawFd) -> io::Result<(Fd, PeerAddr)> {
        each!(&mut self.backend, d => d.accept(listener))
    }

    /// Returns the other end of a connection, as `accept` has; `None` if it is gone.
    pub fn peer(&self, fd: RawFd) -> Option<PeerAddr> {
        each!(&self.backend, d => d.peer(fd))
    }

    /// Returns what the kernel has delivered of a reception and no wait has brought: it stays where it is.
    pub fn peek_recv(&mut self, op: OpKey) -> Vec<u8> {
        each!(&mut self.backend, d => d.peek_recv(op))
    }

    /// Puts a connection into the handoff queue whose only operation is a reception, which is to be ended
    /// (`recv_cancel`) before the next wait: until then it takes nothing. What it has taken is in `peek_recv`.
    ///
    /// # Errors
    /// As for [`Driver::give`]; `WouldBlock`, and not `ResourceBusy`, if the reception could take something all the
    /// same: after the next wait it cannot.
    pub fn give_armed(&mut self, queue: RawFd, connection: RawFd, message: &[u8]) -> io::Result<()> {
        if !each!(&mut self.backend, d => d.may_give(connection)) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        each!(&mut self.backend, d => d.give(queue, connection, message))
    }

    /// Closes a descriptor whose file lives on elsewhere, without a call that waits for the kernel to let go of it:
    /// cancellations of its operations take effect with the next wait.
    pub fn let_go(&mut self, fd: Fd) {
        each!(&mut self.backend, d => d.let_go(fd));
    }

    /// Puts a connection into the handoff queue, with a message of at most
    /// [`HANDOFF_MESSAGE_BYTES_MAX`](crate::sys::handoff::HANDOFF_MESSAGE_BYTES_MAX) bytes about it. Whoever takes it
    /// owns it from then on: the caller does nothing with its descriptor but close it.
    ///
    /// # Errors
    /// `ResourceBusy` while an operation on the connection has not ended: it could take bytes that are the taker's.
    /// `WouldBlock` if the queue is full, `ETOOMANYREFS` if too much is under way; otherwise what sendmsg(2) says.
    pub fn give(&mut self, queue: RawFd, connection: RawFd, message: &[u8]) -> io::Result<()> {
        if each!(&self.backend, d => d.has_operation(connection)) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        each!(&mut self.backend, d => d.give(queue, connection, message))
    }

    /// Takes one connection out of the handoff queue, with the message about it; never waits. To be woken for one:
    /// `arm_accept`.
    ///
    /// # Errors
    /// `WouldBlock` if a sibling was faster, `InvalidData` if it is no such message; `EMFILE` or `ENFILE`, which leave
    /// the message in the queue; otherwise what recvmsg(2) says.
    pub fn take(&mut self, queue: RawFd) -> io::Result<(Fd, Vec<u8>)> {
        each!(&mut self.backend, d => d.take(queue))
    }

    /// Takes what waits in the socket at this moment, whether or not the kernel has reported it, and returns it with
    /// whether the stream has ended. Without an armed reception only. Before an idle connection is closed, this finds
    /// the request that has just arrived: closing over it would answer with a reset.
    pub fn try_recv(&mut self, fd: RawFd) -> (Vec<u8>, bool) {
        let mut chunk = [0; WAITING_BYTES_MAX];
        match each!(&mut self.backend, d => d.try_recv(fd, &mut chunk)) {
            Ok(count) => (chunk[..count].to_vec(), count == 0),
            Err(error) => (Vec::new(), error.kind() != io::ErrorKind::WouldBlock),
        }
    }

    /// Asks the kernel whether the peer of a stream socket has shut it, for writing at least. Takes nothing.
    pub fn is_half_closed(&self, fd: RawFd) -> bool {
        each!(&self.backend, d => d.is_half_closed(fd))
    }

    /// Asks the kernel whether nothing can reach the peer of a stream socket any more.
    pub fn is_reset(&self, fd: RawFd) -> bool {
        each!(&self.backend, d => d.is_reset(fd))
    }

    /// Ends one or both directions of a connection.
    ///
    /// # Errors
    /// What shutdown(2) says, `ENOTCONN` above all.
    pub fn shutdown(&mut self, fd: RawFd, how: Shutdown) -> io::Result<()> {
        each!(&mut self.backend, d => d.shutdown(fd, how))
    }

    /// Tries whether this process can still send and receive at all: after an error that is strange for a connection.
    ///
    /// # Errors
    /// It cannot.
    pub fn try_sockets(&self) -> io::Result<()> {
        each!(&self.backend, d => d.try_sockets())
    }

    /// Closes a descriptor. Operations on it are ended (as by `recv_cancel`, `send_cancel`, `poll_cancel`) first, and
    /// the kernel is made to let go of the file, so that the peer learns of it at once and the number can be reused.
    pub fn close(&mut self, fd: Fd) {
        each!(&mut self.backend, d => d.close(fd));
    }

    /// Makes the kernel let go of the file behind `fd` as far as operations hold it: cancellations that were asked for
    /// take effect now. For descriptors that their owner is about to close elsewhere. Operations that are armed are not
    /// ended.
    pub fn release_file(&mut self, fd: RawFd) {
        each!(&mut self.backend, d => d.release_file(fd));
    }

    /// Returns the time by which this driver waits: the monotonic clock, or a simulation's own.
    pub fn now(&self) -> Instant {
        each!(&self.backend, d => d.now())
    }

    /// Returns the number of operations in flight, orphans included.
    pub fn in_flight(&self) -> usize {
        each!(&self.backend, d => d.in_flight())
    }

    /// Tells whether any operation is in flight, orphans included.
    pub fn has_pending(&self) -> bool {
        self.in_flight() > 0
    }

    /// Returns the number of sends that wait for company ([`Urgency::Batch`]).
    pub fn queued_sends(&self) -> usize {
        each!(&self.backend, d => d.queued_sends())
    }

    /// Returns the driver's own descriptor, if it has one.
    pub fn fileno(&self) -> Option<RawFd> {
        each!(&self.backend, d => d.fileno())
    }

    /// Returns the counters since the driver was made.
    pub fn stats(&self) -> Stats {
        each!(&self.backend, d => d.stats())
    }

    /// Closes, in a forked child, the child's copies of descriptors and touches nothing else, because the kernel side
    /// is the parent's. Memory is leaked on purpose.
    pub fn forget_after_fork(self) {
        each!(self.backend, d => d.forget_after_fork());
    }
}

fn open_uring(config: &Config) -> io::Result<Uring> {
    let mut uring = Uring::open(config)?;
    probe::probe(&mut uring)?;
    Ok(uring)
}
