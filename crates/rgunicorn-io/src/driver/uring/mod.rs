//! The io_uring back end. One `io_uring_enter` per turn submits everything and waits.
//!
//! - `ring.rs`: the queues; `bufring.rs`: the receive buffers; `entries.rs`: what is asked of the kernel;
//!   `complete.rs`: what its answers mean; `defer.rs`: how much of them a wait delivers; `cancel.rs`: ending
//!   operations, at once or in time; `teardown.rs`: the end.
//! - Every entry carries kind, generation and index of its operation; the table (`optable.rs`) decides what an answer
//!   is worth. A buffer named by a completion goes back to the ring even if its bytes are not wanted.
//! - Kernel 6.1 or newer in effect: deferred task work, multishot recv and buffer rings, found by doing (`probe.rs`).

mod bufring;
mod cancel;
mod complete;
mod defer;
mod entries;
mod ring;
mod teardown;

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::cqueue;

use self::bufring::BufRing;
use self::ring::Ring;
use super::budget::WaitBudget;
use super::config::{BATCHED_AGE_MAX, BATCHED_SENDS_MAX, Config};
use super::direct::DirectCalls;
use super::optable::{Op, OpPhase, OpTable};
use super::sendop::{SendOp, send_rest_now};
use super::types::{BufId, Completion, OpKey, SendBuf, Sent, Stats, Token, Urgency};
use crate::sys::clock::{self, Instant};

/// The back end over io_uring.
pub(crate) struct Uring {
    ring: Ring,
    ops: OpTable,
    buffers: BufRing,
    /// Sends queued for the next submission, and the age of the oldest.
    queued_sends: usize,
    queued_since: Instant,
    /// Receptions that the kernel ended although nothing is wrong: armed again with the next submission.
    to_rearm: Vec<OpKey>,
    /// Receptions that found no buffer, in the order of their turn: armed again when there are buffers.
    awaiting_buffer: VecDeque<OpKey>,
    /// Completions of receptions that a later wait delivers.
    deferred: VecDeque<cqueue::Entry>,
    budget: WaitBudget,
    /// Bytes of earlier waits that the caller has not handled.
    held: usize,
    enobufs: u64,
    rearms: u64,
    completions: u64,
    deferrals: u64,
}

impl DirectCalls for Uring {
    fn may_give(&mut self, connection: RawFd) -> bool {
        let mut at = self.ops.first(connection);
        while let Some(key) = at {
            at = self.ops.next(key);
            // One that the kernel has not seen would be armed by number, for whatever file has that then.
            if let Some((_, OpPhase::Armed, Op::Recv { round, .. })) = self.ops.get(key)
                && *round == self.ring.round()
            {
                return false;
            }
        }
        self.ring.shows_all()
    }
}

impl Uring {
    pub(crate) fn open(config: &Config) -> io::Result<Self> {
        let ring = Ring::open(config.sq_entries, config.cq_entries)?;
        let buffers = BufRing::register(ring.inner(), config.recv_buffers, config.recv_buffer_bytes)?;
        let budget = WaitBudget::new(config.recv_buffers.into(), config.recv_buffer_bytes as usize);
        Ok(Self {
            ring,
            ops: OpTable::new(),
            buffers,
            queued_sends: 0,
            queued_since: Instant::default(),
            to_rearm: Vec::new(),
            awaiting_buffer: VecDeque::new(),
            deferred: VecDeque::new(),
            budget,
            held: 0,
            enobufs: 0,
            rearms: 0,
            completions: 0,
            deferrals: 0,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        "uring"
    }

    /// Describes the abilities of this ring in words.
    pub(crate) fn describe(&self) -> String {
        format!("{}, {}", self.buffers.describe(), self.ring.describe())
    }

    pub(crate) fn recv(&mut self, fd: RawFd, token: Token) -> io::Result<OpKey> {
        self.start(fd, Op::recv(token))
    }

    pub(crate) fn poll(&mut self, fd: RawFd, mask: u32, token: Token) -> io::Result<OpKey> {
        self.start(fd, Op::Poll { token, mask, accept: false })
    }

    /// Polls like `poll`: the kernel keeps nothing about a file between polls, so there is no check to skip.
    pub(crate) fn poll_again(&mut self, fd: RawFd, mask: u32, token: Token) -> io::Result<OpKey> {
        self.poll(fd, mask, token)
    }

    pub(crate) fn arm_accept(&mut self, listener: RawFd, token: Token) -> io::Result<OpKey> {
        // One-shot: a waiter that comes back goes to the end of the kernel's queue, so connections spread evenly.
        // Exclusive: one worker is woken per connection.
        let mask = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32;
        self.start(listener, Op::Poll { token, mask, accept: true })
    }

    fn start(&mut self, fd: RawFd, op: Op) -> io::Result<OpKey> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let key = self.ops.insert(fd, op, OpPhase::Armed);
        self.push_op(key);
        Ok(key)
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
            return Sent::Ready(Err(io::Error::from_raw_os_error(libc::EBADF)), buf);
        }
        let key = self.ops.insert(fd, Op::Send(Box::new(SendOp::new(token, buf, sent))), OpPhase::Armed);
        self.push_op(key);
        if urgency == Urgency::Batch {
            let now = clock::now();
            if self.queued_sends == 0 {
                self.queued_since = now;
            }
            self.queued_sends += 1;
            if self.queued_sends >= BATCHED_SENDS_MAX || now.since(self.queued_since) >= BATCHED_AGE_MAX {
                self.flush();
            }
        }
        Sent::Pending(key)
    }

    pub(crate) fn buffer(&self, id: &BufId) -> &[u8] {
        self.buffers.filled(id)
    }

    pub(crate) fn release(&mut self, id: BufId) {
        self.buffers.release(id.id);
    }

    pub(crate) fn set_held(&mut self, bytes: usize) {
        self.held = bytes;
    }

    pub(crate) fn queued_sends(&self) -> usize {
        self.queued_sends
    }

    pub(crate) fn fileno(&self) -> Option<RawFd> {
        Some(self.ring.fileno())
    }

    pub(crate) fn has_operation(&self, fd: RawFd) -> bool {
        self.ops.first(fd).is_some()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.ops.live()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            enters: self.ring.enters,
            completions: self.completions,
            overflows: self.ring.overflows,
            enobufs: self.enobufs,
            rearms: self.rearms,
            deferrals: self.deferrals,
        }
    }

    /// Submits what is queued, without waiting. Errors come back with the next wait.
    pub(crate) fn flush(&mut self) {
        self.queued_sends = 0;
        if self.ring.unsubmitted() > 0 {
            let _ = self.ring.submit();
        }
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, out: &mut Vec<Completion>) -> io::Result<()> {
        let before = out.len();
        self.queued_sends = 0;
        self.budget.begin(self.held);
        let more_due = self.rearm() || !self.deferred.is_empty();
        if !self.ring.has_completions() && !more_due && timeout != Some(Duration::ZERO) {
            self.ring.wait(timeout)?;
        } else if self.ring.unsubmitted() > 0 || !self.ring.has_completions() {
            self.ring.progress()?;
        }
        self.take_deferred(out);
        // The queue is drained completely before anything is handled by the caller: no borrow of it is alive then.
        while let Some(entry) = self.ring.next() {
            self.take(entry, out);
        }
        self.completions += (out.len() - before) as u64;
        Ok(())
    }

    /// Arms again what the kernel ended, and as many receptions that await a buffer as there are buffers. True if more
    /// of those could go at once: the wait must not block then.
    fn rearm(&mut self) -> bool {
        while let Some(key) = self.to_rearm.pop() {
            self.arm_parked(key, false);
        }
        let mut buffers = self.buffers.available();
        while buffers > 0 {
            let Some(key) = self.awaiting_buffer.pop_front() else {
                return false;
            };
            // For one buffer: a reception of a client that sends much would take all that have come back.
            if self.arm_parked(key, true) {
                buffers -= 1;
            }
        }
        !self.awaiting_buffer.is_empty() && self.buffers.available() > 0
    }

    /// Arms a reception again, or `once` for a single buffer.
    fn arm_parked(&mut self, key: OpKey, once: bool) -> bool {
        let Some((_, OpPhase::Parked, Op::Recv { single, .. })) = self.ops.get_mut(key) else {
            return false;
        };
        *single = once;
        self.ops.set_phase(key, OpPhase::Armed);
        self.rearms += 1;
        self.push_op(key);
        true
    }
}
