//! Relief for a worker whose thread is inside the application: connections that would wait for it go to siblings.
//!
//! Nothing here runs on the worker's thread, or it runs there between two turns (threads mode): what it touches is the
//! core, under its lock, and of the driver only what enters no ring. The bytes that were received and not answered go
//! with the connection, so a request that has not begun can go as well as one that has just come.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use rgunicorn_http::BodyKind;
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::handoff::HandoffEnds;
use rgunicorn_io::sys::shared::{Accepting, Slot};

use super::app::App;
use super::config::WorkerConfig;
use super::conn::body::Body;
use super::conn::handoff::is_full;
use super::conn::io::ConnIo;
use super::conn::{Conn, ConnExt, ConnPhase};
use super::handover::HANDOVER_DATA_BYTES_MAX;
use super::ids::ConnId;
use super::message::Request;
use super::reactor::{Core, Reactor};

/// Waiting requests that are looked at, at a time: those behind them come next.
const WAITING_LOOKED_AT_MAX: usize = 64;

/// The rules of relief.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReliefRules {
    /// For how long a request waits, or the application works, until siblings are asked (`handoff_after_ms`).
    pub(crate) after: Duration,
    /// The idle time that a connection is given along (`keepalive`).
    pub(crate) keepalive: Duration,
}

/// What a look at the worker has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// For how long the present piece of the application's work has lasted, and when it began.
    pub(crate) work: Option<(Duration, Instant)>,
    /// A sibling waits for connections.
    pub(crate) has_taker: bool,
    /// There is more to give, as soon as siblings take it.
    pub(crate) has_more: bool,
}

/// An idle connection, to be watched from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdleConn {
    pub(crate) id: ConnId,
    pub(crate) fd: RawFd,
    /// Something has come that the descriptor does not show any more.
    pub(crate) has_input: bool,
}

/// The outcome of a try to give a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Yes,
    /// Not this one, now or ever.
    No,
    /// There is no room in the queue.
    Full,
}

impl Core {
    /// Gives what waits to siblings that wait for it: requests that have not begun, oldest first, and of the idle
    /// connections those on which something has come, which are `ready`; those that have to wait stay in there.
    pub(crate) fn relieve(&mut self, slot: &Slot, rules: ReliefRules, ready: &mut Vec<ConnId>) -> Standing {
        let (now, begun) = (self.driver.now(), self.turn.now());
        let work = self.turn.is_at_work().then(|| (now.since(begun), begun));
        let gives = work.is_some() && !self.lifecycle.is_draining();
        let Some(ends) = self.handoff.ends().filter(|_| gives) else {
            ready.clear();
            return Standing { work: work.filter(|_| gives), has_taker: false, has_more: false };
        };
        let mut takers = waiting_siblings(slot);
        let has_taker = takers > 0;
        let deadline = now.after(rules.keepalive);
        let mut at = 0;
        while let Some(request) = self.conns.waiting(at).filter(|_| at < WAITING_LOOKED_AT_MAX) {
            if takers == 0 || now.since(request.arrived) < rules.after {
                break;
            }
            match self.give_waiting(ends, at, deadline) {
                Given::Yes => takers -= 1,
                Given::No => at += 1,
                Given::Full => takers = 0,
            }
        }
        ready.retain(|id| {
            if takers == 0 {
                return true;
            }
            let given = self.give_idle(ends, *id, deadline);
            takers -= usize::from(given == Given::Yes);
            given == Given::Full
        });
        let has_more = !ready.is_empty() || self.conns.waiting(at).is_some();
        Standing { work, has_taker, has_more }
    }

    /// Gives the connection of a request that waits for its turn, with the request.
    fn give_waiting(&mut self, ends: HandoffEnds, at: usize, deadline: Instant) -> Given {
        let Self { conns, .. } = self;
        let Some(request) = conns.waiting(at) else { return Given::No };
        let (id, text) = (request.id, text_of(request));
        let (Some(data), Some(conn)) = (text, conns.request(id)) else { return Given::No };
        if conn.phase != ConnPhase::Running || !conn.is_free() {
            return Given::No;
        }
        let given = self.give_with(ends, id.conn, data, 1, deadline);
        if given == Given::Yes {
            self.conns.remove_waiting(at);
        }
        given
    }

    /// Gives a connection that is between two requests, as far as the worker knows.
    fn give_idle(&mut self, ends: HandoffEnds, id: ConnId, deadline: Instant) -> Given {
        let is_current = self.turn.current() == Some(id);
        match self.conns.get(id) {
            Some(conn) if conn.is_spare() && conn.is_free() && !is_current => {}
            _ => return Given::No,
        }
        let deadline = self.conns.timers.at(id.index).unwrap_or(deadline);
        self.give_with(ends, id, Vec::new(), 0, deadline)
    }

    /// Gives a connection with what was received on it: `data` first, then what is held for later or has had no turn.
    /// `not_begun`: so many of its requests will be counted again.
    fn give_with(
        &mut self,
        ends: HandoffEnds,
        id: ConnId,
        mut data: Vec<u8>,
        not_begun: u64,
        deadline: Instant,
    ) -> Given {
        let Self { conns, driver, acceptor, .. } = self;
        let late = conns.peek_late_input(id, driver);
        let Some(conn) = conns.get(id) else { return Given::No };
        if let Some(ext) = &conn.ext {
            data.extend_from_slice(ext.pending.rest());
        }
        data.extend(late);
        if let Some(op) = conn.recv {
            data.extend(driver.peek_recv(op));
        }
        if data.len() > HANDOVER_DATA_BYTES_MAX {
            return Given::No;
        }
        let mut handover = conn.handover(acceptor.key(conn.listener), deadline);
        handover.requests -= not_begun;
        // Nothing has changed so far, and nothing can come in between: the driver's thread is elsewhere.
        if let Err(error) = driver.give_armed(ends.give, conn.fd.as_raw_fd(), &handover.encode(&data)) {
            if !is_full(&error) {
                self.handoff.refuse(error);
            }
            return Given::Full;
        }
        if let Some(Conn { fd, recv, .. }) = conns.remove(id) {
            if let Some(op) = recv {
                driver.recv_cancel(op);
            }
            driver.let_go(fd);
        }
        Given::Yes
    }

    /// Returns idle connections, of `count` slots from `from` on, and where the next ones begin, if there are more.
    pub(crate) fn idle_from(&mut self, from: usize, count: usize) -> (Vec<IdleConn>, Option<usize>) {
        let Self { conns, driver, turn, .. } = self;
        let current = turn.current();
        let (ids, next) = conns.ids_from(from, count);
        let mut idle = Vec::new();
        for id in ids.into_iter().filter(|id| Some(*id) != current) {
            let has_late = !conns.peek_late_input(id, driver).is_empty();
            let Some(conn) = conns.get(id).filter(|conn| conn.is_spare()) else { continue };
            let has_input = has_late || conn.recv.is_some_and(|op| !driver.peek_recv(op).is_empty());
            idle.push(IdleConn { id, fd: conn.fd.as_raw_fd(), has_input });
        }
        (idle, next)
    }
}

impl Reactor {
    /// Gives what waits for the application to siblings that have time, as the helper does while the loop's thread is in
    /// the application: in simulations, where there is no other thread. `has_input`: whether something has come on a
    /// descriptor.
    pub fn relieve(&self, has_input: impl Fn(RawFd) -> bool) {
        let WorkerConfig { handoff_after: after, keepalive, .. } = self.setup.config;
        let core = &mut *self.core();
        let (idle, _) = core.idle_from(0, usize::MAX);
        let ready = |conn: &IdleConn| conn.has_input || has_input(conn.fd);
        let mut ready = idle.into_iter().filter(ready).map(|conn| conn.id).collect();
        core.relieve(&self.setup.handles.slot, ReliefRules { after, keepalive }, &mut ready);
    }

    /// Gives requests that wait for a thread to siblings that have time, where the application's threads are all taken.
    pub(crate) fn relieve_threads<A: App>(&self, app: &A) {
        if self.setup.config.threads == 0 || !needs_threads(&self.core().parts(&self.setup).io) {
            return;
        }
        let WorkerConfig { handoff_after: after, keepalive, .. } = self.setup.config;
        let slot = &self.setup.handles.slot;
        for _ in 0..waiting_siblings(slot) {
            let Some(ends) = self.core().handoff.ends() else { return };
            let now = self.now();
            let is_due =
                |request: &Request| now.since(request.arrived) >= after && text_of(request).is_some();
            let Some(request) = app.take_back(&is_due) else { return };
            let id = request.id.conn;
            let core = &mut *self.core();
            core.conns.end_work(id);
            core.conns.call_next(request);
            if core.give_waiting(ends, 0, now.after(keepalive)) != Given::Yes {
                // The next turn runs it, behind those that wait already.
                return;
            }
        }
    }
}

/// Tells whether requests wait for a thread that siblings could run.
pub(crate) fn needs_threads(io: &ConnIo<'_>) -> bool {
    let WorkerConfig { threads, handoff, handoff_after, .. } = io.setup.config;
    threads > 0
        && io.conns.workers() > threads
        && handoff
        && !handoff_after.is_zero()
        && !io.draining
        && io.setup.handles.slot.board().workers() > 1
}

impl Conn {
    /// Tells whether nothing of it is with the application or on its way out.
    fn is_free(&self) -> bool {
        !(self.detached || self.held || self.parked || self.aborted || self.has_output())
            && self.ext.as_deref().is_none_or(ConnExt::is_without_request)
    }
}

/// Returns the bytes of a request as they came, if they are all there and few enough.
fn text_of(request: &Request) -> Option<Vec<u8>> {
    let body = match &request.body {
        Body::Empty => &[][..],
        Body::Memory(body) if matches!(request.head.body(), BodyKind::Length(_)) => body,
        Body::Memory(_) | Body::File { .. } | Body::Incoming => return None,
    };
    let head = request.head.text();
    (head.len() + body.len() <= HANDOVER_DATA_BYTES_MAX).then(|| [head, body].concat())
}

/// Counts the siblings that wait for connections.
fn waiting_siblings(slot: &Slot) -> usize {
    let own = slot.read().age;
    slot.board()
        .readings()
        .filter(|sibling| {
            sibling.age != own
                && sibling.booted
                && !sibling.leaving
                && sibling.accepting == Accepting::Waiting
        })
        .count()
}
