//! The simulated kernel: sockets, listeners, virtual time and the dice. Driver and network share one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::super::types::OpKey;
use crate::sys::clock::Instant;

/// Virtual descriptors start here, above what a test process really has open, so that a stray system call hits nothing.
const FIRST_FD: RawFd = 50_000;

/// Sizes and fault rates of a simulation. Rates are per thousand, rolled at each opportunity.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Receive buffers in the pool.
    pub recv_buffers: u16,
    /// Bytes per receive buffer.
    pub recv_buffer_bytes: u32,
    /// Bytes a socket holds for a peer that does not read.
    pub send_window_bytes: usize,
    /// A reception or send moves only a part of what it could.
    pub short_per_mille: u32,
    /// A completion that is due comes later.
    pub late_per_mille: u32,
    /// The kernel ends a healthy reception (ECANCELED, lost multishot); the driver arms it again, the caller sees
    /// nothing.
    pub ended_per_mille: u32,
    /// A connection is reset by its peer.
    pub reset_per_mille: u32,
    /// A poll fails with ECANCELED.
    pub canceled_per_mille: u32,
}

impl Default for SimConfig {
    /// Returns rates of much trouble, but of none that a correct caller could see as an error.
    fn default() -> Self {
        Self {
            recv_buffers: 8,
            recv_buffer_bytes: 4096,
            send_window_bytes: 16_384,
            short_per_mille: 300,
            late_per_mille: 300,
            ended_per_mille: 50,
            reset_per_mille: 0,
            canceled_per_mille: 0,
        }
    }
}

/// Messages that a handoff queue holds, about as many as the kernel's.
const HANDOFF_MESSAGES_MAX: usize = 10;

/// A call of the simulated kernel that a test can let fail for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimCall {
    /// accept4(2).
    Accept,
    /// The wait of a driver.
    Wait,
    /// A reception, armed or direct. An armed one fails whether or not something has come.
    Recv,
    /// A send, armed or direct.
    Send,
    /// A poll of what is no listener; ready or not.
    Poll,
    /// A poll of a listener; ready or not.
    PollListener,
    /// shutdown(2).
    Shutdown,
    /// A message of a connection into the handoff queue.
    Give,
    /// A message out of it.
    Take,
}

/// The failure of a call, for good.
pub(super) struct SimFault {
    pub(super) errno: i32,
    /// The number of calls that pass before.
    pub(super) passes: u64,
}

/// SplitMix64: small, and the same on every machine.
pub(super) struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns true in `per_mille` of 1000 rolls.
    pub(super) fn roll(&mut self, per_mille: u32) -> bool {
        self.next() % 1000 < u64::from(per_mille)
    }

    /// Returns a number from 0 to `below` - 1.
    pub(super) fn below(&mut self, below: usize) -> usize {
        (self.next() % below.max(1) as u64) as usize
    }
}

/// The driver's end of a connection, with what lies in the wire both ways.
#[derive(Default)]
pub(super) struct SimSocket {
    /// Sent by the peer, not received by the driver.
    pub(super) incoming: VecDeque<u8>,
    /// Sent by the driver, not read by the peer.
    pub(super) outgoing: VecDeque<u8>,
    /// The peer sends no more.
    pub(super) peer_finished: bool,
    /// The peer has closed: what is sent to it meets no reader.
    pub(super) peer_closed: bool,
    /// The connection was torn down.
    pub(super) reset: bool,
    /// The driver sends no more.
    pub(super) send_closed: bool,
    /// The driver receives no more.
    pub(super) recv_closed: bool,
    /// The driver's end is closed; the socket lives until its peer has seen all.
    pub(super) closed: bool,
    /// Descriptors of the driver's end beside the first: one in the handoff queue, and its giver's.
    pub(super) copies: u32,
    /// The driver's end was closed because its process was killed.
    pub(super) killed: bool,
}

/// A wish to be woken for a connection: of which driver, by which operation.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) struct SimPoll {
    pub(super) driver: u32,
    pub(super) op: OpKey,
}

#[derive(Default)]
pub(super) struct SimListener {
    pub(super) backlog: VecDeque<RawFd>,
    /// In the order of asking.
    pub(super) waiters: VecDeque<SimPoll>,
    /// Wake-ups used up but not delivered yet.
    pub(super) woken: Vec<SimPoll>,
    /// Of a handoff queue, the messages about what waits in it.
    pub(super) messages: VecDeque<Vec<u8>>,
}

/// The one world of all drivers of a network. Simulations have one thread; the lock is there because a driver may be
/// sent to another.
#[derive(Clone)]
pub(super) struct WorldHandle(Arc<Mutex<SimWorld>>);

impl WorldHandle {
    pub(super) fn new(world: SimWorld) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// Borrows the world; not twice at a time.
    pub(super) fn borrow_mut(&self) -> MutexGuard<'_, SimWorld> {
        let Ok(world) = self.0.try_lock() else { panic!("borrowed already, or a test has failed in it") };
        world
    }

    /// Borrows it to look at something.
    pub(super) fn borrow(&self) -> MutexGuard<'_, SimWorld> {
        self.borrow_mut()
    }
}

pub(super) struct SimWorld {
    pub(super) config: SimConfig,
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) sockets: BTreeMap<RawFd, SimSocket>,
    pub(super) listeners: BTreeMap<RawFd, SimListener>,
    /// Descriptors that are neither (pipes of an application): their poll(2) mask.
    pub(super) pollables: BTreeMap<RawFd, u32>,
    /// The calls that fail.
    pub(super) faults: BTreeMap<SimCall, SimFault>,
    next_fd: RawFd,
    pub(super) drivers: u32,
    /// The connections of each driver's process.
    pub(super) owned: BTreeSet<(u32, RawFd)>,
    /// The steps that a driver's process has left until it is killed; 0: it was.
    pub(super) steps_left: BTreeMap<u32, u64>,
}

impl SimWorld {
    pub(super) fn new(seed: u64, config: SimConfig) -> Self {
        Self {
            config,
            rng: Rng(seed),
            now: Instant(1_000_000_000),
            sockets: BTreeMap::new(),
            listeners: BTreeMap::new(),
            pollables: BTreeMap::new(),
            faults: BTreeMap::new(),
            next_fd: FIRST_FD,
            drivers: 0,
            owned: BTreeSet::new(),
            steps_left: BTreeMap::new(),
        }
    }

    pub(super) fn new_fd(&mut self) -> RawFd {
        self.next_fd += 1;
        self.next_fd - 1
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now = self.now.after(by);
    }

    /// Counts a call.
    ///
    /// # Errors
    /// The one that the test has asked for.
    pub(super) fn call(&mut self, call: SimCall) -> io::Result<()> {
        match self.faults.get_mut(&call) {
            None => Ok(()),
            Some(fault) if fault.passes > 0 => {
                fault.passes -= 1;
                Ok(())
            }
            Some(fault) => Err(io::Error::from_raw_os_error(fault.errno)),
        }
    }

    /// Takes one step of a driver's process, which has one before each of its calls and one behind those that move a
    /// connection.
    ///
    /// # Errors
    /// The process is dead: what it still does has no effect.
    pub(super) fn step(&mut self, driver: u32) -> io::Result<()> {
        let Some(left) = self.steps_left.get_mut(&driver) else { return Ok(()) };
        if *left > 1 {
            *left -= 1;
            return Ok(());
        }
        if *left == 1 {
            *left = 0;
            self.kill(driver);
        }
        Err(bad_fd())
    }

    /// Tells whether a driver's process was killed.
    pub(super) fn is_dead(&self, driver: u32) -> bool {
        self.steps_left.get(&driver) == Some(&0)
    }

    /// Closes all that a process has open. Wake-ups that were its own are used up.
    fn kill(&mut self, driver: u32) {
        let owned: Vec<_> = self.owned.range((driver, RawFd::MIN)..=(driver, RawFd::MAX)).copied().collect();
        for connection @ (_, fd) in owned {
            self.owned.remove(&connection);
            self.close(fd);
            if let Some(socket) = self.sockets.get_mut(&fd) {
                socket.killed = socket.closed;
            }
        }
        for listener in self.listeners.values_mut() {
            listener.waiters.retain(|waiter| waiter.driver != driver);
            listener.woken.retain(|waiter| waiter.driver != driver);
        }
    }

    /// Returns the error with which this call would fail now.
    pub(super) fn failing(&self, call: SimCall) -> Option<io::Error> {
        let fault = self.faults.get(&call).filter(|fault| fault.passes == 0)?;
        Some(io::Error::from_raw_os_error(fault.errno))
    }

    /// Finds a socket whose local end is open.
    pub(super) fn socket(&mut self, fd: RawFd) -> io::Result<&mut SimSocket> {
        let socket = self.sockets.get_mut(&fd).filter(|socket| !socket.closed);
        socket.ok_or_else(bad_fd)
    }

    /// Wakes one waiter, as a connection that is queued does.
    pub(super) fn wake_one(&mut self, listener: RawFd) {
        if let Some(listener) = self.listeners.get_mut(&listener)
            && let Some(waiter) = listener.waiters.pop_front()
        {
            listener.woken.push(waiter);
        }
    }

    /// Puts a connection into a handoff queue, and wakes one of those who wait for it.
    pub(super) fn give(&mut self, queue: RawFd, connection: RawFd, message: &[u8]) -> io::Result<()> {
        self.call(SimCall::Give)?;
        self.socket(connection)?;
        let listener = self.listeners.get_mut(&queue).ok_or_else(bad_fd)?;
        if listener.backlog.len() >= HANDOFF_MESSAGES_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        listener.backlog.push_back(connection);
        listener.messages.push_back(message.to_vec());
        self.socket(connection)?.copies += 1;
        self.wake_one(queue);
        Ok(())
    }

    /// Takes the oldest connection out of a handoff queue, with its message.
    pub(super) fn take(&mut self, queue: RawFd) -> io::Result<(RawFd, Vec<u8>)> {
        self.call(SimCall::Take)?;
        let listener = self.listeners.get_mut(&queue).ok_or_else(bad_fd)?;
        match (listener.backlog.pop_front(), listener.messages.pop_front()) {
            (Some(connection), Some(message)) => Ok((connection, message)),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Returns the mask that poll(2) would give.
    pub(super) fn readiness(&self, fd: RawFd) -> io::Result<u32> {
        let mut mask = 0;
        if let Some(socket) = self.sockets.get(&fd).filter(|socket| !socket.closed) {
            if !socket.incoming.is_empty() || socket.peer_finished || socket.reset {
                mask |= libc::POLLIN;
            }
            if socket.outgoing.len() < self.config.send_window_bytes || socket.reset {
                mask |= libc::POLLOUT;
            }
            if socket.reset {
                mask |= libc::POLLERR | libc::POLLHUP;
            }
        } else if let Some(listener) = self.listeners.get(&fd) {
            if !listener.backlog.is_empty() {
                mask |= libc::POLLIN;
            }
        } else if let Some(&other) = self.pollables.get(&fd) {
            return Ok(other);
        } else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(mask as u32)
    }

    /// Chooses how much of `whole` is moved now; at least 1.
    pub(super) fn portion(&mut self, whole: usize) -> usize {
        let short = self.rng.roll(self.config.short_per_mille);
        if short { 1 + self.rng.below(whole) } else { whole }
    }

    /// Receives into `into`; 0 is the end of the stream.
    pub(super) fn recv(&mut self, fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len();
        self.call(SimCall::Recv)?;
        let socket = self.socket(fd)?;
        if socket.reset {
            return Err(io::Error::from_raw_os_error(libc::ECONNRESET));
        }
        let whole = socket.incoming.len().min(room);
        if whole == 0 {
            return if socket.peer_finished || socket.recv_closed {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        let count = self.portion(whole);
        let incoming = &mut self.socket(fd)?.incoming;
        for (to, from) in into.iter_mut().zip(incoming.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    /// Sends what fits.
    pub(super) fn send(&mut self, fd: RawFd, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let window = self.config.send_window_bytes;
        self.call(SimCall::Send)?;
        let socket = self.socket(fd)?;
        if socket.reset {
            return Err(io::Error::from_raw_os_error(libc::ECONNRESET));
        }
        if socket.send_closed || socket.peer_closed {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        let whole = (head.len() + body.len()).min(window.saturating_sub(socket.outgoing.len()));
        if whole == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.portion(whole);
        self.socket(fd)?.outgoing.extend(head.iter().chain(body).take(count));
        Ok(count)
    }

    /// Closes the local end. With bytes unread the peer gets a reset, as TCP has it.
    pub(super) fn close(&mut self, fd: RawFd) {
        self.pollables.remove(&fd);
        self.listeners.remove(&fd);
        if let Some(socket) = self.sockets.get_mut(&fd) {
            if let Some(copies) = socket.copies.checked_sub(1) {
                socket.copies = copies;
                return;
            }
            socket.closed = true;
            socket.send_closed = true;
            if !socket.incoming.is_empty() {
                socket.reset = true;
                socket.outgoing.clear();
            }
        }
    }
}

pub(super) fn bad_fd() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}
