//! Relief for a worker whose thread is inside the application: connections that would wait for it go to siblings.
//!
//! Nothing here runs on the worker's thread, or it runs there between two turns (threads mode): what it touches is the
//! core, under its lock, and of the driver only what enters no ring. The bytes that were received and not answered go
//! with the connection, so a request that has not begun can go as well as one that has just come.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use rgunicorn_http::BodyKind;
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::handoff::{HandoffEnds, HandoffEvent};
use rgunicorn_io::sys::shared::{Scoreboard, Slot};

use super::config::WorkerConfig;
use super::conn::body::Body;
use super::conn::handoff::is_full;
use super::conn::io::ConnIo;
use super::conn::{Conn, ConnExt, ConnPhase};
use super::core::Core;
use super::handover::HANDOVER_DATA_BYTES_MAX;
use super::ids::{ConnId, RequestId};
use super::message::Request;

/// Waiting requests that are looked at, at a time: those behind them come next.
const WAITING_LOOKED_AT_MAX: usize = 64;
/// How soon there is another look when siblings have not taken yet what there is to give.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The rules of relief.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReliefRules {
    /// For how long a request waits, or the application works, until siblings are asked (`handoff_after_ms`).
    pub(crate) after: Duration,
    /// The idle time that a connection is given along (`keepalive`).
    pub(crate) keepalive: Duration,
}

/// The finding of a look at the worker.
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

/// Where connections go.
#[derive(Clone, Copy)]
struct Destination<'a> {
    queue: HandoffEnds,
    board: &'a Scoreboard,
    /// When the next owner closes it, if nothing comes.
    deadline: Instant,
}

impl Destination<'_> {
    /// Counts why a connection is not given.
    fn cannot(&self, why: HandoffEvent, outcome: Handed) -> Handed {
        self.board.count_handoff(why);
        outcome
    }
}

/// The outcome of a try to give a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handed {
    Yes,
    /// Not this one, now or ever.
    No,
    /// There is no room in the queue.
    Full,
}

impl ReliefRules {
    /// Returns the rules of a configuration.
    pub(crate) fn of(config: &WorkerConfig) -> Self {
        Self { after: config.handoff.after, keepalive: config.keepalive }
    }
}

impl Core {
    /// Gives what waits to siblings that wait for it: requests that have not begun, oldest first, and of the idle
    /// connections those on which something has come, which are `ready`; those that have to wait stay in there.
    pub(crate) fn relieve(&mut self, slot: &Slot, rules: ReliefRules, ready: &mut Vec<ConnId>) -> Standing {
        let (now, begun) = (self.driver.now(), self.turn.now());
        let work = self.turn.is_at_work().then(|| (now.since(begun), begun));
        let gives = work.is_some() && !self.lifecycle.is_draining();
        let Some(queue) = self.handoff.ends().filter(|_| gives) else {
            ready.clear();
            return Standing { work: work.filter(|_| gives), has_taker: false, has_more: false };
        };
        let mut takers = self.handoff.takers(slot, now);
        let has_taker = takers > 0;
        let to = Destination { queue, board: slot.board(), deadline: now.after(rules.keepalive) };
        let mut at = 0;
        while let Some(request) = self.conns.waiting(at).filter(|_| at < WAITING_LOOKED_AT_MAX) {
            if takers == 0 || now.since(request.arrived) < rules.after {
                break;
            }
            match self.give_waiting(to, at) {
                Handed::Yes => takers -= 1,
                Handed::No => at += 1,
                Handed::Full => takers = 0,
            }
        }
        ready.retain(|id| {
            if takers == 0 {
                return true;
            }
            let given = self.give_idle(to, *id);
            takers -= u64::from(given == Handed::Yes);
            given == Handed::Full
        });
        let has_more = !ready.is_empty() || self.conns.waiting(at).is_some();
        Standing { work, has_taker, has_more }
    }

    /// Tells whether the connection of a request that has not begun can go to a sibling.
    pub(crate) fn may_give(&mut self, id: RequestId) -> bool {
        let Some(conn) = self.conns.request(id) else { return false };
        conn.phase == ConnPhase::Running && conn.is_unused() && self.handoff.ends().is_some()
    }

    /// Gives the connection of a request that a thread was to run. `false`: that is not possible now.
    pub(crate) fn give_taken_back(&mut self, request: &Request, slot: &Slot, rules: ReliefRules) -> bool {
        let Some(queue) = self.handoff.ends() else { return false };
        let to = Destination { queue, board: slot.board(), deadline: self.turn.now().after(rules.keepalive) };
        let given = self.give_request(to, request.id, text_of(request)) == Handed::Yes;
        if given {
            // It was counted as one that a thread works on.
            self.conns.end_work(request.id.conn);
        }
        given
    }

    /// Gives the connection of a request that waits for its turn, with the request.
    fn give_waiting(&mut self, to: Destination<'_>, at: usize) -> Handed {
        let Some(request) = self.conns.waiting(at) else { return Handed::No };
        let (id, text) = (request.id, text_of(request));
        let given = self.give_request(to, id, text);
        if given == Handed::Yes {
            self.conns.remove_waiting(at);
        }
        given
    }

    /// Gives the connection of a request that has not begun, with its bytes.
    fn give_request(&mut self, to: Destination<'_>, id: RequestId, text: Option<Vec<u8>>) -> Handed {
        if !self.may_give(id) {
            return Handed::No;
        }
        let Some(text) = text else { return to.cannot(HandoffEvent::Unfit, Handed::No) };
        self.give_with(to, id.conn, text, 1)
    }

    /// Gives a connection that is between two requests, as far as the worker knows.
    fn give_idle(&mut self, mut to: Destination<'_>, id: ConnId) -> Handed {
        let is_current = self.turn.current() == Some(id);
        match self.conns.get(id) {
            Some(conn) if conn.is_spare() && conn.is_unused() && !conn.held && !is_current => {}
            _ => return Handed::No,
        }
        to.deadline = self.conns.timers.at(id.index).unwrap_or(to.deadline);
        self.give_with(to, id, Vec::new(), 0)
    }

    /// Gives a connection with what was received on it: `data` first, then what is held for later or has had no turn.
    /// `not_begun`: so many of its requests will be counted again.
    fn give_with(&mut self, to: Destination<'_>, id: ConnId, mut data: Vec<u8>, not_begun: u64) -> Handed {
        let Self { conns, driver, acceptor, .. } = self;
        let late = conns.peek_late_input(id, driver);
        let Some(conn) = conns.get(id) else { return Handed::No };
        if let Some(ext) = &conn.ext {
            data.extend_from_slice(ext.pending.rest());
        }
        data.extend(late);
        if let Some(op) = conn.recv {
            data.extend(driver.peek_recv(op));
        }
        if data.len() > HANDOVER_DATA_BYTES_MAX {
            return to.cannot(HandoffEvent::Unfit, Handed::No);
        }
        let mut handover = conn.handover(acceptor.key(conn.listener), to.deadline);
        handover.requests -= not_begun;
        // Nothing has changed so far, and nothing can come in between: the driver's thread is elsewhere.
        if let Err(error) = driver.give_armed(to.queue.give, conn.fd.as_raw_fd(), &handover.encode(&data)) {
            if is_full(&error) {
                return to.cannot(HandoffEvent::Full, Handed::Full);
            }
            self.handoff.refuse(error);
            return to.cannot(HandoffEvent::Refused, Handed::Full);
        }
        to.board.count_handoff(HandoffEvent::GivenBusy);
        if let Some(Conn { fd, recv, .. }) = conns.remove(id) {
            if let Some(op) = recv {
                driver.recv_cancel(op);
            }
            driver.let_go(fd);
        }
        Handed::Yes
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

/// Tells whether requests wait for a thread that siblings could run.
#[inline]
pub(crate) fn needs_threads(io: &ConnIo<'_>) -> bool {
    let WorkerConfig { threads, handoff, .. } = io.setup.config;
    threads > 0
        && io.conns.workers() > threads
        && handoff.works
        && !handoff.after.is_zero()
        && !io.draining
        && io.setup.handles.slot.board().workers() > 1
}

impl Conn {
    /// Tells whether nothing of it is with the application or on its way out, as far as the connection knows.
    fn is_unused(&self) -> bool {
        !(self.detached || self.parked || self.aborted || self.has_output())
            && self.ext.as_deref().is_none_or(ConnExt::is_without_request)
    }
}

/// Returns the bytes of a request as they came, if they are all there and few enough.
fn text_of(request: &Request) -> Option<Vec<u8>> {
    let body = match (&request.body, request.head.body()) {
        (Body::Empty, BodyKind::None) => &[][..],
        (body, BodyKind::Length(_)) => body.in_memory()?,
        // The bytes of chunks are not kept; the end of no body at all would be missing, too.
        _ => return None,
    };
    let head = request.head.text();
    (head.len() + body.len() <= HANDOVER_DATA_BYTES_MAX).then(|| [head, body].concat())
}

/// Tells whether a request has waited for longer than it should, and can go to a sibling.
pub(crate) fn is_due(request: &Request, now: Instant, after: Duration) -> bool {
    now.since(request.arrived) >= after && text_of(request).is_some()
}
