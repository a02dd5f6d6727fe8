//! The epoll back end: completions emulated over level-triggered readiness.
//!
//! A request costs recv + send + its share of epoll_wait and nothing else: a registration stays while the same
//! interest comes back before the next wait (`interest.rs`), a reception stays registered for the life of its
//! connection, a send is tried before it waits for writability.
//!
//! Read `wait` first; it is the turn.

mod dispatch;
mod interest;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use self::interest::Interests;
use super::budget::WaitBudget;
use super::buffers::BufferPool;
use super::config::{BATCHED_AGE_MAX, BATCHED_SENDS_MAX, Config};
use super::direct::DirectCalls;
use super::optable::{Op, OpPhase, OpTable};
use super::sendop::{SendOp, send_rest_now};
use super::types::{BufId, Completion, Fd, OpKey, SendBuf, Sent, Stats, Token, Urgency};
use crate::sys::clock::{self, Instant};
use crate::sys::net;

/// Events taken per wait: bounds a turn, so that due timers and new connections get their share.
const EVENTS_PER_WAIT_MAX: usize = 256;

/// The back end over epoll.
pub(crate) struct Epoll {
    ops: OpTable,
    pool: BufferPool,
    interests: Interests,
    /// Sends that wait for company, and since when.
    queued: Vec<OpKey>,
    queued_since: Instant,
    /// Receptions without a buffer, in the order of their turn.
    awaiting_buffer: VecDeque<OpKey>,
    /// Receptions that are ready and had no turn, because the last wait had brought enough.
    deferred: VecDeque<OpKey>,
    /// Deferred receptions that have had their turn in this wait.
    served: Vec<OpKey>,
    budget: WaitBudget,
    /// Bytes of earlier waits that the caller has not handled.
    held: usize,
    /// Completions that were ready before the wait began.
    ready: Vec<Completion>,
    events: Vec<libc::epoll_event>,
    /// The last wait may have left events in the kernel, the listener's among them.
    cut_short: bool,
    stats: Stats,
}

impl DirectCalls for Epoll {
    fn let_go(&mut self, fd: Fd) {
        self.close(fd);
    }

    fn try_sockets(&self) -> io::Result<()> {
        net::try_sockets(|fd| self.interests.try_out(fd))
    }
}

impl Epoll {
    pub(crate) fn open(config: &Config) -> io::Result<Self> {
        Ok(Self {
            ops: OpTable::new(),
            pool: BufferPool::new(config.recv_buffers, config.recv_buffer_bytes)?,
            interests: Interests::new()?,
            queued: Vec::new(),
            queued_since: Instant::default(),
            awaiting_buffer: VecDeque::new(),
            deferred: VecDeque::new(),
            served: Vec::new(),
            budget: WaitBudget::default(),
            held: 0,
            ready: Vec::new(),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_WAIT_MAX],
            cut_short: false,
            stats: Stats::default(),
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        "epoll"
    }

    pub(crate) fn recv(&mut self, fd: RawFd, token: Token) -> io::Result<OpKey> {
        self.insert(fd, Op::recv(token))
    }

    /// Returns nothing: the kernel hands nothing over between waits.
    pub(crate) fn recv_stop(&mut self, op: OpKey) -> (Vec<u8>, bool) {
        self.recv_cancel(op);
        (Vec::new(), false)
    }

    pub(crate) fn recv_cancel(&mut self, op: OpKey) {
        if let Some((fd, _, Op::Recv { .. })) = self.ops.get(op) {
            self.forget(op, fd);
        }
    }

    pub(crate) fn send(&mut self, fd: RawFd, token: Token, buf: SendBuf, urgency: Urgency) -> Sent {
        let mut sent = 0;
        if urgency == Urgency::Now || buf.is_empty() {
            match send_rest_now(fd, &buf, &mut sent) {
                Ok(true) => return Sent::Ready(Ok(()), buf),
                Ok(false) => {}
                Err(error) => return Sent::Ready(Err(error), buf),
            }
        }
        if fd < 0 {
            return Sent::Ready(Err(bad_fd()), buf);
        }
        let op = Op::Send(Box::new(SendOp::new(token, buf, sent)));
        if urgency == Urgency::Now {
            let verify = self.ops.first(fd).is_none();
            let key = self.ops.insert(fd, op, OpPhase::Armed);
            self.interests.mark_dirty(fd, verify);
            return Sent::Pending(key);
        }
        // Parked: it is not the socket that it waits for.
        let key = self.ops.insert(fd, op, OpPhase::Parked);
        let now = clock::now();
        if self.queued.is_empty() {
            self.queued_since = now;
        }
        self.queued.push(key);
        if self.queued.len() >= BATCHED_SENDS_MAX || now.since(self.queued_since) >= BATCHED_AGE_MAX {
            self.flush();
        }
        Sent::Pending(key)
    }

    pub(crate) fn send_cancel(&mut self, op: OpKey) {
        let Some((fd, _, Op::Send(_))) = self.ops.get(op) else {
            return;
        };
        if let Some(Op::Send(op)) = self.ops.remove(op) {
            self.ready.push(Completion::Orphan { buf: op.buf });
        }
        self.interests.mark_dirty(fd, false);
    }

    pub(crate) fn poll(&mut self, fd: RawFd, mask: u32, token: Token) -> io::Result<OpKey> {
        self.insert(fd, Op::Poll { token, mask, accept: false })
    }

    /// Polls without a check: a registration that was kept idle is that of this very file.
    pub(crate) fn poll_again(&mut self, fd: RawFd, mask: u32, token: Token) -> io::Result<OpKey> {
        self.insert_verified(fd, Op::Poll { token, mask, accept: false }, false)
    }

    pub(crate) fn poll_cancel(&mut self, op: OpKey) {
        let Some((fd, _, Op::Poll { .. })) = self.ops.get(op) else {
            return;
        };
        self.forget(op, fd);
        if self.ops.first(fd).is_none() {
            // At once: the caller may be about to close the descriptor, and epoll could not be told after that.
            self.interests.deregister(fd);
        }
    }

    /// Ends the registration that an operation has left behind, if no other one uses it.
    pub(crate) fn release_file(&mut self, fd: RawFd) {
        if self.ops.first(fd).is_none() {
            self.interests.deregister(fd);
        }
    }

    pub(crate) fn arm_accept(&mut self, listener: RawFd, token: Token) -> io::Result<OpKey> {
        let op = Op::Poll { token, mask: libc::EPOLLIN as u32, accept: true };
        // A listener stays open, so an idle registration is good: `arm_accept` and `disarm_accept` around every piece
        // of application work cost nothing.
        self.insert_verified(listener, op, false)
    }

    /// Removes the operation without a system call: an exclusive registration of a process that is not waiting is
    /// passed over by the kernel, and the next sibling is woken. Only an event that was left behind in the last wait
    /// may have been meant for this process alone.
    pub(crate) fn disarm_accept(&mut self, op: OpKey) -> bool {
        let Some((fd, _, Op::Poll { accept: true, .. })) = self.ops.get(op) else {
            return false;
        };
        self.forget(op, fd);
        self.cut_short
    }

    pub(crate) fn buffer(&self, id: &BufId) -> &[u8] {
        self.pool.filled(id)
    }

    pub(crate) fn release(&mut self, id: BufId) {
        self.pool.release(id);
    }

    pub(crate) fn set_held(&mut self, bytes: usize) {
        self.held = bytes;
    }

    pub(crate) fn queued_sends(&self) -> usize {
        self.queued.len()
    }

    pub(crate) fn fileno(&self) -> Option<RawFd> {
        Some(self.interests.fileno())
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

    /// Sends what is queued.
    pub(crate) fn flush(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        let mut queued = std::mem::take(&mut self.queued);
        for key in queued.drain(..) {
            if let Some(completion) = self.advance_send(key) {
                self.ready.push(completion);
            }
        }
        self.queued = queued;
    }

    pub(crate) fn close(&mut self, fd: Fd) {
        let raw = fd.as_raw_fd();
        while let Some(key) = self.ops.first(raw) {
            if let Some(Op::Send(op)) = self.ops.remove(key) {
                self.ready.push(Completion::Orphan { buf: op.buf });
            }
        }
        // Explicitly, because a forked child of the application may hold the same open file: the kernel would keep the
        // registration, and report a number that is another file's by then.
        self.interests.deregister(raw);
    }

    /// Returns nothing: the kernel hands nothing over between waits.
    pub(crate) fn peek_recv(&mut self, _: OpKey) -> Vec<u8> {
        Vec::new()
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion>) -> io::Result<()> {
        let before = out.len();
        self.flush();
        if !self.ready.is_empty() {
            out.append(&mut self.ready);
        }
        if !self.awaiting_buffer.is_empty() {
            self.rearm();
        }
        self.sync_interests(out);
        let is_due = out.len() > before || !self.deferred.is_empty();
        let timeout = if is_due { Some(Duration::ZERO) } else { timeout };
        self.stats.enters += 1;
        let got = match self.interests.wait(&mut self.events, timeout) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        self.cut_short = got == self.events.len();
        self.budget.begin(self.held);
        self.receive_deferred(out);
        for at in 0..got {
            let event = self.events[at];
            if !self.dispatch(event, out) {
                break;
            }
        }
        if !self.served.is_empty() {
            self.end_deferred();
        }
        self.stats.completions += (out.len() - before) as u64;
        Ok(())
    }

    /// Closes, in a forked child, the child's copy of the descriptor. The registrations are the parent's, the buffers
    /// are not mapped here, and what lies on the heap may have to be dropped elsewhere: all that is leaked.
    pub(crate) fn forget_after_fork(self) {
        let this = std::mem::ManuallyDrop::new(self);
        this.interests.close_in_child();
    }

    fn insert(&mut self, fd: RawFd, op: Op) -> io::Result<OpKey> {
        // The descriptor may have been closed without the driver since it was watched last, and the number may be
        // another file's now: an idle registration is not trusted.
        let verify = self.ops.first(fd).is_none();
        self.insert_verified(fd, op, verify)
    }

    fn insert_verified(&mut self, fd: RawFd, op: Op, verify: bool) -> io::Result<OpKey> {
        if fd < 0 {
            return Err(bad_fd());
        }
        let key = self.ops.insert(fd, op, OpPhase::Armed);
        self.interests.mark_dirty(fd, verify);
        Ok(key)
    }

    fn forget(&mut self, key: OpKey, fd: RawFd) {
        self.ops.remove(key);
        self.interests.mark_dirty(fd, false);
    }
}

fn bad_fd() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}
