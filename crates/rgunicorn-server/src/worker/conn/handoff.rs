//! Connections that go to another worker, and those that come from one.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use rgunicorn_io::driver::Fd;
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::handoff::{HandoffEnds, HandoffEvent};
use rgunicorn_io::sys::net::is_shortage;

use super::io::{BytesIn, ConnIo, DRAIN_FRESH};
use super::{Conn, ConnPhase, NewConn};
use crate::worker::handling::SYSTEM_CALLS_BYTES;
use crate::worker::handoff::Handoff;
use crate::worker::handover::Handover;
use crate::worker::ids::ConnId;
use crate::worker::timers::ConnTimer;

/// A new connection that has sent nothing for so long was opened ahead: no request is right behind it.
const OPENED_AHEAD_MIN: Duration = Duration::from_millis(100);

/// The outcome of a try to give a connection.
enum Given {
    /// Another worker has it now.
    Yes,
    /// Not this one: it is in use, or at its end.
    No,
    /// Its last answer, or the end of its last request, is still to come.
    Later,
    /// There is no room in the queue.
    Full,
    /// The kernel does not let it pass.
    Refused(io::Error),
}

impl Conn {
    /// Describes it for its next owner. `listener` and `deadline`: see [`Handover`].
    pub(crate) fn handover(&self, listener: u64, deadline: Instant) -> Handover {
        Handover {
            listener,
            peer: self.peer,
            trusted: self.trusted,
            served: self.served,
            proxy_state: self.proxy_state,
            proxied: self.proxied.as_deref().copied(),
            requests: self.requests,
            deadline,
        }
    }

    /// Tells whether another worker can go on with it: it is between two requests.
    pub(crate) fn is_spare(&self) -> bool {
        self.phase == ConnPhase::Idle && !self.read_closed && !self.detached
    }
}

impl ConnIo<'_> {
    /// Tells whether connections go to siblings when they are idle, because this worker leaves and the server goes on.
    pub(crate) fn hands_over(&self) -> bool {
        self.draining && self.setup.handles.control.hands_over()
    }

    /// Notes all idle connections as those to give, those that end first before the others.
    pub(crate) fn spare_idle(&mut self) {
        let mut spare = self.conns.ids();
        spare.retain(|id| self.conns.get(*id).is_some_and(|conn| conn.phase == ConnPhase::Idle));
        spare.sort_by_key(|id| self.conns.timers.at(id.index));
        spare.into_iter().for_each(|id| self.conns.push_spare(id));
    }

    /// Notes so many idle connections, those that have been idle for longest.
    pub(crate) fn spare_longest_idle(&mut self, count: usize) {
        let fresh = self.setup.config.first_byte_timeout().saturating_sub(OPENED_AHEAD_MIN);
        for index in self.conns.timers.longest_idle(count, self.turn.now().after(fresh)) {
            self.conns.push_spare_at(index);
        }
    }

    /// Gives noted connections to siblings, as many as the queue takes and this turn may. `key` names a listener for
    /// all workers. `false`: that is not possible, now or ever.
    pub(crate) fn give_spare(&mut self, handoff: &mut Handoff, key: impl Fn(u16) -> u64) -> bool {
        let now = self.turn.now();
        for _ in 0..self.conns.spare() {
            let Some(queue) = handoff.begin(&self.setup.handles.slot, now) else { return true };
            let Some(id) = self.conns.pop_spare() else { break };
            match self.give(queue, id, &key) {
                Given::Yes => self.turn.handling.count_work(SYSTEM_CALLS_BYTES),
                Given::No => {}
                // The turn that sees it leave tries again.
                Given::Later => self.conns.push_spare(id),
                Given::Full => {
                    self.conns.push_spare(id);
                    handoff.retry_later(now);
                    return true;
                }
                Given::Refused(error) => {
                    self.setup.cannot_give(&error, now);
                    handoff.switch_off();
                    return false;
                }
            }
            if self.conns.spare() > 0 && self.turn.handling.is_over(|| self.driver.now()) {
                handoff.retry_later(now);
                return true;
            }
        }
        if self.conns.spare() == 0 {
            handoff.pause();
        }
        true
    }

    /// Gives a connection away, unless something comes on it.
    fn give(&mut self, queue: HandoffEnds, id: ConnId, key: impl Fn(u16) -> u64) -> Given {
        match self.conns.get(id).filter(|conn| conn.is_spare()) {
            None => return Given::No,
            Some(conn) if conn.has_output() || conn.held => return Given::Later,
            Some(_) => {}
        }
        // First of all: what comes from here on is its next owner's.
        let (data, end) = self.stop_recv(id);
        if !data.is_empty() {
            self.bytes_in(id, BytesIn::Own(&data), end);
            return Given::No;
        }
        if end {
            self.begin_close(id);
            return Given::No;
        }
        let deadline = self.conns.timers.at(id.index).unwrap_or(self.turn.now());
        let Some(conn) = self.conns.get(id) else { return Given::No };
        let handover = conn.handover(key(conn.listener), deadline);
        let board = self.setup.handles.slot.board();
        let reason = if self.draining { HandoffEvent::GivenLeaving } else { HandoffEvent::GivenSpread };
        match self.driver.give(queue.give, conn.fd.as_raw_fd(), &handover.encode(&[])) {
            Ok(()) => {
                board.count_handoff(reason);
                // Without a shutdown: it lives on elsewhere.
                if let Some(conn) = self.conns.remove(id) {
                    self.driver.close(conn.fd);
                }
                Given::Yes
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                // The kernel may still receive for it here, until the next wait as a rule.
                if self.draining {
                    self.start_timer(id, ConnTimer::Drain, DRAIN_FRESH);
                } else {
                    self.arm_recv(id);
                }
                Given::Later
            }
            Err(error) => {
                self.arm_recv(id);
                let full = is_full(&error);
                board.count_handoff(if full { HandoffEvent::Full } else { HandoffEvent::Refused });
                if full { Given::Full } else { Given::Refused(error) }
            }
        }
    }

    /// Goes on with a connection of another worker's. `listener` is the index that it came from, in this worker.
    pub(crate) fn take_over(&mut self, fd: Fd, listener: u16, handover: &Handover) -> ConnId {
        let Handover { peer, trusted, served, proxy_state, proxied, requests, deadline, .. } = *handover;
        let id = self.conns.insert(NewConn { fd, peer, listener, trusted, proxy_state });
        if let Some(conn) = self.conns.get(id) {
            conn.served = served;
            conn.requests = requests;
            conn.proxied = proxied.map(Arc::new);
        }
        self.conns.timers.start_in_order(id.index, ConnTimer::Taken, deadline);
        id
    }
}

/// Tells whether there is no room now, and will be again.
pub(crate) fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || is_shortage(error)
        || error.raw_os_error() == Some(rgunicorn_io::sys::handoff::TOO_MANY_UNDER_WAY)
}
