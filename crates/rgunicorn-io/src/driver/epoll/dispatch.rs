//! From readiness to completions.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::super::optable::{Op, OpPhase};
use super::super::types::{Completion, OpKey, Received, Token};
use super::Epoll;
use crate::sys::{file, net};

/// Reported whether asked for or not; every operation must look at it.
const ERRORS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
/// Between two tries to make a new epoll while no descriptor is free.
const START_OVER_PAUSE: Duration = Duration::from_millis(10);
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;

impl Epoll {
    /// Returns what the operations of `fd` wait for, as one mask; 0 for nothing.
    fn wanted(&self, fd: RawFd) -> u32 {
        let (mut mask, mut listens, mut others) = (0, false, false);
        let mut at = self.ops.first(fd);
        while let Some(key) = at {
            at = self.ops.next(key);
            let Some((_, OpPhase::Armed, op)) = self.ops.get(key) else {
                continue;
            };
            match op {
                Op::Recv { .. } => mask |= IN,
                Op::Send(_) => mask |= OUT,
                Op::Poll { mask: polled, .. } => mask |= polled,
            }
            let accept = matches!(op, Op::Poll { accept: true, .. });
            (listens, others) = (listens || accept, others || !accept);
        }
        if listens && !others { mask | EXCLUSIVE } else { mask }
    }

    /// Tells epoll what has changed since the last wait.
    pub(super) fn sync_interests(&mut self, out: &mut Vec<Completion>) {
        while let Some(fd) = self.interests.next_dirty() {
            let wanted = self.wanted(fd);
            let synced = match self.ops.first(fd) {
                Some(_) => self.interests.sync(fd, wanted),
                None => self.interests.keep_idle(fd),
            };
            if let Err(error) = synced {
                self.refused(fd, wanted, &error, out);
            }
        }
    }

    /// Answers the operations of a descriptor that epoll refuses. A regular file is always ready, as poll(2) says;
    /// anything else is the operations' error.
    fn refused(&mut self, fd: RawFd, wanted: u32, error: &io::Error, out: &mut Vec<Completion>) {
        let always_ready = error.raw_os_error() == Some(libc::EPERM) && file::is_always_ready(fd);
        let mut at = self.ops.first(fd);
        while let Some(key) = at {
            at = self.ops.next(key);
            if always_ready {
                self.complete_ready(key, wanted & (IN | OUT), out);
            } else if let Some(op) = self.ops.remove(key) {
                let error = || io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EBADF));
                out.push(match op {
                    Op::Recv { token, .. } => Completion::Recv { token, outcome: Received::Err(error()) },
                    Op::Poll { token, .. } => Completion::Poll { token, result: Err(error()) },
                    Op::Send(op) => Completion::Sent { token: op.token, result: Err(error()), buf: op.buf },
                });
            }
        }
    }

    /// Handles one ready descriptor. `false`: there is a new epoll, or should be one, and the other events of this
    /// wait come again.
    pub(super) fn dispatch(&mut self, event: libc::epoll_event, out: &mut Vec<Completion>) -> bool {
        let events = event.events;
        let fd = self.interests.fd_of(&event);
        let mut at = fd.and_then(|fd| self.ops.first(fd));
        if at.is_none() {
            // No operation asks any more.
            let named = fd.is_some_and(|fd| self.interests.deregister(fd));
            if !named && self.interests.start_over().is_err() {
                // The same event comes again at once, until a descriptor is free (EMFILE).
                std::thread::sleep(START_OVER_PAUSE);
            }
            return named;
        }
        while let Some(key) = at {
            at = self.ops.next(key);
            self.complete_ready(key, events, out);
        }
        true
    }

    fn complete_ready(&mut self, key: OpKey, events: u32, out: &mut Vec<Completion>) {
        let Some((fd, OpPhase::Armed, op)) = self.ops.get(key) else {
            return;
        };
        match op {
            &Op::Recv { deferred: 1.., .. } => {}
            &Op::Recv { token, .. } if events & (IN | ERRORS) != 0 => self.receive(key, fd, token, out),
            Op::Send(_) if events & (OUT | ERRORS) != 0 => out.extend(self.advance_send(key)),
            Op::Poll { mask, token, accept } if events & (mask | ERRORS) != 0 => {
                let (token, accept, result) = (*token, *accept, Ok(events & (mask | ERRORS)));
                self.ops.remove(key);
                self.interests.mark_dirty(fd, false);
                if accept {
                    self.interests.rotate(fd);
                }
                out.push(Completion::Poll { token, result });
            }
            _ => {}
        }
    }

    /// Receives from those that had no turn in the last wait, as much as this one may bring. They stay marked until
    /// [`Self::end_deferred`]: this wait's events of them, which tell of the same input, are not for a second turn.
    pub(super) fn receive_deferred(&mut self, out: &mut Vec<Completion>) {
        for _ in 0..self.deferred.len() {
            if self.budget.is_full() {
                return;
            }
            let Some(key) = self.deferred.pop_front() else { return };
            if let Some((fd, OpPhase::Armed, &mut Op::Recv { token, .. })) = self.ops.get_mut(key) {
                self.served.push(key);
                self.receive(key, fd, token, out);
            }
        }
    }

    /// Ends the turn of those: the next wait's events count.
    pub(super) fn end_deferred(&mut self) {
        for key in self.served.drain(..) {
            if let Some((_, _, Op::Recv { deferred, .. })) = self.ops.get_mut(key) {
                *deferred = 0;
            }
        }
    }

    /// Receives once per readiness: what is left is reported again by the next wait, after the other connections'
    /// turn. So is all of it if this wait has brought enough.
    #[inline]
    fn receive(&mut self, key: OpKey, fd: RawFd, token: Token, out: &mut Vec<Completion>) {
        if self.budget.is_full() {
            self.stats.deferrals += 1;
            if let Some((_, _, Op::Recv { deferred, .. })) = self.ops.get_mut(key) {
                *deferred = 1;
            }
            self.deferred.push_back(key);
            return;
        }
        if !self.pool.has_free() {
            self.stats.enobufs += 1;
            self.ops.set_phase(key, OpPhase::Parked);
            self.awaiting_buffer.push_back(key);
            self.interests.mark_dirty(fd, false);
            return;
        }
        let outcome = match self.pool.fill(|into| net::recv_now(fd, into)) {
            Ok(Some(buf)) => {
                self.budget.count(buf.len());
                Received::Data(buf)
            }
            Ok(None) => Received::Eof,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => Received::Err(error),
        };
        if !matches!(outcome, Received::Data(_)) {
            self.ops.remove(key);
            self.interests.mark_dirty(fd, false);
        }
        out.push(Completion::Recv { token, outcome });
    }

    /// Makes as many receptions that await a buffer watch their sockets again as there are buffers, and gives those
    /// the first turn: the others, which have had theirs, must not take the buffers again.
    pub(super) fn rearm(&mut self) {
        let mut free = self.pool.free();
        while free > 0 {
            let Some(key) = self.awaiting_buffer.pop_front() else { return };
            if let Some((fd, OpPhase::Parked, Op::Recv { deferred, .. })) = self.ops.get_mut(key) {
                *deferred = 1;
                self.ops.set_phase(key, OpPhase::Armed);
                self.interests.mark_dirty(fd, false);
                self.deferred.push_back(key);
                self.stats.rearms += 1;
                free -= 1;
            }
        }
    }

    /// Sends on, and returns the completion if that was the rest.
    pub(super) fn advance_send(&mut self, key: OpKey) -> Option<Completion> {
        let (fd, phase, Op::Send(op)) = self.ops.get_mut(key)? else {
            return None;
        };
        let result = match op.advance_now(fd) {
            Ok(false) => {
                // Full: from now on the socket is what it waits for.
                if phase != OpPhase::Armed {
                    self.ops.set_phase(key, OpPhase::Armed);
                    self.interests.mark_dirty(fd, false);
                }
                return None;
            }
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        };
        if phase == OpPhase::Armed {
            self.interests.mark_dirty(fd, false);
        }
        match self.ops.remove(key)? {
            Op::Send(op) => Some(Completion::Sent { token: op.token, result, buf: op.buf }),
            _ => None,
        }
    }
}
