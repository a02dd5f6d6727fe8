//! Ending operations.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::cqueue;

use super::super::optable::{Op, OpPhase};
use super::super::types::{BufId, Fd, OpKey};
use super::Uring;
use super::entries::{OpKind, poll_remove, user_data};
use super::ring::take_matching;

/// How often, and how long each time, a synchronous cancellation waits for the kernel before it gives up. It normally
/// succeeds with the first enter; the bound only keeps a kernel bug from hanging the worker.
const CANCEL_WAITS_MAX: u32 = 100;
const CANCEL_WAIT: Duration = Duration::from_millis(10);
/// Enters that a close spends on getting its cancellations done; each runs about 20 pieces of deferred work. What is
/// left is done by the next wait.
const CLOSE_ENTERS_MAX: u32 = 64;

impl Uring {
    pub(crate) fn recv_stop(&mut self, op: OpKey) -> (Vec<u8>, bool) {
        let (mut bytes, mut over) = (Vec::new(), false);
        match self.ops.get(op) {
            Some((_, OpPhase::Armed, Op::Recv { .. })) => {}
            Some((_, OpPhase::Parked, Op::Recv { .. })) => {
                self.ops.remove(op);
                return (bytes, over);
            }
            _ => return (bytes, over),
        }
        let deferred = self.take_deferred_of(user_data(OpKind::Op, op));
        if self.takes_end(op, &deferred, &mut bytes, &mut over) {
            return (bytes, over);
        }
        self.push_cancel(op);
        for turn in 0..CANCEL_WAITS_MAX {
            let entered = if turn == 0 { self.ring.progress() } else { self.ring.wait(Some(CANCEL_WAIT)) };
            self.ring.reap();
            let entries = self.take_stashed(user_data(OpKind::Op, op));
            if self.takes_end(op, &entries, &mut bytes, &mut over) {
                return (bytes, over);
            }
            if entered.is_err() {
                break;
            }
        }
        self.ops.set_phase(op, OpPhase::Orphaned);
        (bytes, over)
    }

    /// Keeps the bytes of completions of a reception that is being stopped. True if the terminal one was among them.
    fn takes_end(
        &mut self,
        op: OpKey,
        entries: &[cqueue::Entry],
        bytes: &mut Vec<u8>,
        over: &mut bool,
    ) -> bool {
        for entry in entries {
            *over |= self.take_final_bytes(op, entry, bytes);
            if !cqueue::more(entry.flags()) {
                self.ops.remove(op);
                return true;
            }
        }
        false
    }

    /// Keeps the bytes of a reception that is being stopped. True if it had ended by itself: end of stream or an error.
    fn take_final_bytes(&mut self, key: OpKey, entry: &cqueue::Entry, bytes: &mut Vec<u8>) -> bool {
        if let Some(buf) = self.acquire_buffer(entry) {
            bytes.extend_from_slice(self.buffers.filled(&buf));
            self.release_buffer(Some(buf));
        }
        let by_poll = matches!(self.ops.get(key), Some((_, _, Op::Recv { by_poll: true, .. })));
        match entry.result() {
            0 => !by_poll,
            1.. => false,
            error => !matches!(-error, libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN),
        }
    }

    /// Takes the completions with this user data out of the stash, in order.
    fn take_stashed(&mut self, user_data: u64) -> Vec<cqueue::Entry> {
        take_matching(&mut self.ring.stash, user_data)
    }

    pub(crate) fn recv_cancel(&mut self, op: OpKey) {
        if let Some((_, _, Op::Recv { .. })) = self.ops.get(op) {
            self.abandon_op(op);
        }
    }

    pub(crate) fn send_cancel(&mut self, op: OpKey) {
        if let Some((_, _, Op::Send(_))) = self.ops.get(op) {
            self.abandon_op(op);
        }
    }

    pub(crate) fn poll_cancel(&mut self, op: OpKey) {
        if let Some((_, _, Op::Poll { .. })) = self.ops.get(op) {
            self.abandon_op(op);
        }
    }

    /// Ends an operation whose owner has gone.
    fn abandon_op(&mut self, key: OpKey) {
        match self.ops.get(key) {
            Some((_, OpPhase::Armed, _)) => {
                self.ops.set_phase(key, OpPhase::Orphaned);
                self.push_cancel(key);
            }
            // Only receptions are parked, and they hold nothing.
            Some((_, OpPhase::Parked, _)) => drop(self.ops.remove(key)),
            _ => {}
        }
    }

    /// Takes the waiter out of the listener's queue by POLL_REMOVE, which does that while it is submitted and says
    /// whether the waiter was still there.
    ///
    /// If it was not, its wake-up is this ring's, and it must be seen through to its terminal completion here: the
    /// kernel looks at the listener once more when it finishes such a poll, and would arm it again, for good, if the
    /// connection had been accepted in between (6.18: it would then take the wake-ups of the siblings while the
    /// application runs).
    pub(crate) fn disarm_accept(&mut self, op: OpKey) -> bool {
        let Some((_, OpPhase::Armed, Op::Poll { accept: true, .. })) = self.ops.get(op) else {
            return false;
        };
        self.ops.set_phase(op, OpPhase::Orphaned);
        self.queued_sends = 0;
        let mut woken = false;
        for _ in 0..CANCEL_WAITS_MAX {
            // SAFETY: a poll removal names no memory, only the user data of another entry.
            unsafe { self.ring.push(poll_remove(op)) };
            let submitted = if woken { self.ring.progress() } else { self.ring.submit() };
            self.ring.reap();
            let answer = self.take_stashed(user_data(OpKind::PollRemove, op)).pop();
            if answer.is_some_and(|answer| answer.result() == 0) {
                return woken;
            }
            // ENOENT: it has fired. EALREADY: it is firing.
            woken = true;
            if submitted.and_then(|()| self.ring.progress()).is_err() {
                return true;
            }
            self.ring.reap();
            if !self.take_stashed(user_data(OpKind::Op, op)).is_empty() {
                self.ops.remove(op);
                return true;
            }
        }
        true
    }

    pub(crate) fn peek_recv(&mut self, op: OpKey) -> Vec<u8> {
        self.ring.reap();
        let wanted = user_data(OpKind::Op, op);
        let mut bytes = Vec::new();
        for entry in self.deferred.iter().chain(&self.ring.stash).filter(|entry| entry.user_data() == wanted)
        {
            if let (Some(id), Ok(len)) = (cqueue::buffer_select(entry.flags()), u32::try_from(entry.result()))
            {
                bytes.extend_from_slice(self.buffers.filled(&BufId { id, len }));
            }
        }
        bytes
    }

    pub(crate) fn close(&mut self, fd: Fd) {
        self.release_fd(fd.as_raw_fd());
        drop(fd);
    }

    /// Makes the kernel let go of the file: while an operation holds it, close(2) tells the peer nothing.
    fn release_fd(&mut self, fd: RawFd) {
        let mut at = self.ops.first(fd);
        while let Some(key) = at {
            at = self.ops.next(key);
            self.abandon_op(key);
        }
        self.release_file(fd);
    }

    /// Enters the kernel until cancelled operations of this descriptor have let go of the file.
    pub(crate) fn release_file(&mut self, fd: RawFd) {
        let mut at = self.ops.first(fd);
        while let Some(key) = at
            && !matches!(self.ops.get(key), Some((_, OpPhase::Orphaned, _)))
        {
            at = self.ops.next(key);
        }
        if at.is_none() {
            return;
        }
        for _ in 0..CLOSE_ENTERS_MAX {
            self.queued_sends = 0;
            if self.ring.progress().is_err() || !self.ring.has_deferred_work() {
                return;
            }
        }
    }
}
