//! The simulated back end, for tests: no kernel, no clock, one seed. Everything that a kernel may do at its own
//! pleasure (short reads, late completions, receptions that end for no reason, resets) is decided by dice, so that a
//! failure can be replayed by its seed. The process of a driver can be killed between any two of its calls.
//!
//! `world.rs` is the kernel, `net.rs` the test's handle on it, this file the driver, `turn.rs` the work of a wait.

mod net;
mod turn;
mod world;

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

pub use self::net::{Peer, SimNet};
pub use self::world::{SimCall, SimConfig};
use self::world::{SimPoll, SimWorld, WorldHandle, bad_fd};
use super::buffers::BufferPool;
use super::config::BATCHED_SENDS_MAX;
use super::direct::DirectCalls;
use super::optable::{Op, OpPhase, OpTable};
use super::sendop::{SendOp, rest};
use super::types::{BufId, Completion, Fd, OpKey, SendBuf, Sent, Stats, Token, Urgency};
use crate::sys::clock::Instant;
use crate::sys::net::PeerAddr;

/// How far virtual time moves while a late completion is on its way.
const TICK: Duration = Duration::from_micros(50);
/// A completion that is due is late at most this many times in a row (all dice of one wait), so that waits end.
const TICKS_PER_WAIT_MAX: u32 = 20;

pub(crate) struct Sim {
    world: WorldHandle,
    id: u32,
    ops: OpTable,
    pool: BufferPool,
    queued: Vec<OpKey>,
    ready: Vec<Completion>,
    stats: Stats,
}

/// Returns the address of a simulated client.
fn peer_of(fd: RawFd) -> PeerAddr {
    PeerAddr::V4 { addr: [127, 0, 0, 1], port: (fd % 60_000) as u16 }
}

impl DirectCalls for Sim {
    fn accept(&mut self, listener: RawFd) -> io::Result<(Fd, PeerAddr)> {
        let mut world = self.world.borrow_mut();
        world.step(self.id)?;
        world.call(SimCall::Accept)?;
        let listening = world.listeners.get_mut(&listener).ok_or_else(bad_fd)?;
        let fd = listening.backlog.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        world.owned.insert((self.id, fd));
        world.step(self.id)?;
        Ok((Fd::Virtual(fd), peer_of(fd)))
    }

    fn peer(&self, fd: RawFd) -> Option<PeerAddr> {
        Some(peer_of(fd))
    }

    fn give(&mut self, queue: RawFd, connection: RawFd, message: &[u8]) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.step(self.id)?;
        world.give(queue, connection, message)?;
        world.step(self.id)
    }

    fn take(&mut self, queue: RawFd) -> io::Result<(Fd, Vec<u8>)> {
        let mut world = self.world.borrow_mut();
        world.step(self.id)?;
        let (fd, message) = world.take(queue)?;
        world.owned.insert((self.id, fd));
        world.step(self.id)?;
        Ok((Fd::Virtual(fd), message))
    }

    fn let_go(&mut self, fd: Fd) {
        self.close(fd);
    }

    fn try_recv(&mut self, fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        world.step(self.id)?;
        world.recv(fd, into)
    }

    fn is_half_closed(&self, fd: RawFd) -> bool {
        let world = self.world.borrow();
        world.sockets.get(&fd).is_none_or(|socket| socket.peer_finished || socket.reset)
    }

    fn is_reset(&self, fd: RawFd) -> bool {
        self.world.borrow().sockets.get(&fd).is_none_or(|socket| socket.reset)
    }

    fn shutdown(&mut self, fd: RawFd, how: Shutdown) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.step(self.id)?;
        world.call(SimCall::Shutdown)?;
        let socket = world.socket(fd)?;
        if socket.reset {
            return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
        }
        socket.send_closed |= how != Shutdown::Read;
        socket.recv_closed |= how != Shutdown::Write;
        Ok(())
    }

    fn try_sockets(&self) -> io::Result<()> {
        let world = self.world.borrow();
        [SimCall::Send, SimCall::Recv].into_iter().find_map(|call| world.failing(call)).map_or(Ok(()), Err)
    }

    fn now(&self) -> Instant {
        self.world.borrow().now
    }
}

impl Sim {
    /// Makes a driver on this network.
    pub(crate) fn new(net: &SimNet) -> io::Result<Self> {
        let world = net.world.clone();
        let mut inner = world.borrow_mut();
        inner.drivers += 1;
        let (id, config) = (inner.drivers, inner.config.clone());
        drop(inner);
        Ok(Self {
            world,
            id,
            ops: OpTable::new(),
            pool: BufferPool::new(config.recv_buffers, config.recv_buffer_bytes)?,
            queued: Vec::new(),
            ready: Vec::new(),
            stats: Stats::default(),
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        "sim"
    }

    /// Returns none: no descriptor stands behind a simulation.
    pub(crate) fn fileno(&self) -> Option<RawFd> {
        None
    }

    pub(crate) fn recv(&mut self, fd: RawFd, token: Token) -> io::Result<OpKey> {
        self.insert(fd, Op::recv(token))
    }

    /// Returns some of the bytes that wait, as if the kernel had handed them over already: the dice say how many.
    pub(crate) fn recv_stop(&mut self, op: OpKey) -> (Vec<u8>, bool) {
        let Some((fd, _, Op::Recv { .. })) = self.ops.get(op) else {
            return (Vec::new(), false);
        };
        self.ops.remove(op);
        let (mut bytes, mut chunk) = (Vec::new(), [0; 512]);
        let mut world = self.world.borrow_mut();
        if world.step(self.id).is_err() {
            return (bytes, true);
        }
        while world.rng.roll(500) {
            match world.recv(fd, &mut chunk) {
                Ok(0) => return (bytes, true),
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) => return (bytes, error.kind() != io::ErrorKind::WouldBlock),
            }
        }
        (bytes, false)
    }

    pub(crate) fn recv_cancel(&mut self, op: OpKey) {
        if let Some((_, _, Op::Recv { .. })) = self.ops.get(op) {
            self.ops.remove(op);
        }
    }

    pub(crate) fn send(&mut self, fd: RawFd, token: Token, buf: SendBuf, urgency: Urgency) -> Sent {
        let mut sent = 0;
        if let Err(error) = self.world.borrow_mut().step(self.id) {
            return Sent::Ready(Err(error), buf);
        }
        if urgency == Urgency::Now || buf.is_empty() {
            match send_rest(&mut self.world.borrow_mut(), fd, &buf, &mut sent) {
                Ok(true) => return Sent::Ready(Ok(()), buf),
                Ok(false) => {}
                Err(error) => return Sent::Ready(Err(error), buf),
            }
        }
        if fd < 0 {
            return Sent::Ready(Err(bad_fd()), buf);
        }
        let batch = urgency == Urgency::Batch;
        let phase = if batch { OpPhase::Parked } else { OpPhase::Armed };
        let key = self.ops.insert(fd, Op::Send(Box::new(SendOp::new(token, buf, sent))), phase);
        if batch {
            self.queued.push(key);
            if self.queued.len() >= BATCHED_SENDS_MAX {
                self.flush();
            }
        }
        Sent::Pending(key)
    }

    pub(crate) fn send_cancel(&mut self, op: OpKey) {
        let Some((_, _, Op::Send(_))) = self.ops.get(op) else {
            return;
        };
        if let Some(Op::Send(op)) = self.ops.remove(op) {
            self.ready.push(Completion::Orphan { buf: op.buf });
        }
    }

    pub(crate) fn poll(&mut self, fd: RawFd, mask: u32, token: Token) -> io::Result<OpKey> {
        self.insert(fd, Op::Poll { token, mask, accept: false })
    }

    pub(crate) fn poll_again(&mut self, fd: RawFd, mask: u32, token: Token) -> io::Result<OpKey> {
        self.poll(fd, mask, token)
    }

    pub(crate) fn poll_cancel(&mut self, op: OpKey) {
        if let Some((_, _, Op::Poll { .. })) = self.ops.get(op) {
            self.ops.remove(op);
        }
    }

    pub(crate) fn arm_accept(&mut self, listener: RawFd, token: Token) -> io::Result<OpKey> {
        self.world.borrow_mut().step(self.id)?;
        let key = self.insert(listener, Op::Poll { token, mask: libc::POLLIN as u32, accept: true })?;
        let waiter = SimPoll { driver: self.id, op: key };
        if let Some(listening) = self.world.borrow_mut().listeners.get_mut(&listener) {
            if listening.backlog.is_empty() {
                listening.waiters.push_back(waiter);
            } else {
                listening.woken.push(waiter);
            }
        }
        Ok(key)
    }

    pub(crate) fn disarm_accept(&mut self, op: OpKey) -> bool {
        let Some((fd, _, Op::Poll { accept: true, .. })) = self.ops.get(op) else {
            return false;
        };
        self.ops.remove(op);
        let mut world = self.world.borrow_mut();
        let Some(listening) = world.listeners.get_mut(&fd) else {
            return false;
        };
        let waiter = SimPoll { driver: self.id, op };
        listening.waiters.retain(|other| *other != waiter);
        let before = listening.woken.len();
        listening.woken.retain(|other| *other != waiter);
        listening.woken.len() < before
    }

    pub(crate) fn buffer(&self, id: &BufId) -> &[u8] {
        self.pool.filled(id)
    }

    pub(crate) fn release(&mut self, id: BufId) {
        self.pool.release(id);
    }

    pub(crate) fn flush(&mut self) {
        for key in std::mem::take(&mut self.queued) {
            self.ops.set_phase(key, OpPhase::Armed);
        }
    }

    /// Ignores it: a simulation brings what the dice say.
    pub(crate) fn set_held(&mut self, _: usize) {}

    pub(crate) fn queued_sends(&self) -> usize {
        self.queued.len()
    }

    pub(crate) fn has_operation(&self, fd: RawFd) -> bool {
        self.ops.first(fd).is_some()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.ops.live() + self.ready.len()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }

    pub(crate) fn close(&mut self, fd: Fd) {
        let raw = fd.as_raw_fd();
        while let Some(key) = self.ops.first(raw) {
            if let Some(Op::Send(op)) = self.ops.remove(key) {
                self.ready.push(Completion::Orphan { buf: op.buf });
            }
        }
        let mut world = self.world.borrow_mut();
        if world.step(self.id).is_ok() {
            world.owned.remove(&(self.id, raw));
            world.close(raw);
        }
    }

    /// Returns nothing: what has arrived is in the socket until a wait takes it.
    pub(crate) fn peek_recv(&mut self, _: OpKey) -> Vec<u8> {
        Vec::new()
    }

    /// Does nothing: operations that were ended hold no file here.
    pub(crate) fn release_file(&mut self, _: RawFd) {}

    pub(crate) fn forget_after_fork(self) {
        std::mem::forget(self);
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion>) -> io::Result<()> {
        {
            let mut world = self.world.borrow_mut();
            world.step(self.id)?;
            world.call(SimCall::Wait)?;
        }
        let before = out.len();
        self.stats.enters += 1;
        self.flush();
        out.append(&mut self.ready);
        let mut ticks = 0;
        while out.len() == before {
            let due = self.turn(out);
            if !due || ticks == TICKS_PER_WAIT_MAX || timeout == Some(Duration::ZERO) {
                break;
            }
            ticks += 1;
            self.world.borrow_mut().advance(TICK);
        }
        if out.len() == before {
            self.world.borrow_mut().advance(timeout.unwrap_or(TICK));
        }
        self.stats.completions += (out.len() - before) as u64;
        Ok(())
    }

    fn insert(&mut self, fd: RawFd, op: Op) -> io::Result<OpKey> {
        if fd < 0 {
            return Err(bad_fd());
        }
        Ok(self.ops.insert(fd, op, OpPhase::Armed))
    }
}

/// Sends what fits from byte `sent` on. True if that was the rest.
fn send_rest(world: &mut SimWorld, fd: RawFd, buf: &SendBuf, sent: &mut usize) -> io::Result<bool> {
    while *sent < buf.len() {
        let (head, body) = rest(buf, *sent);
        match world.send(fd, head, body) {
            Ok(count) => *sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
