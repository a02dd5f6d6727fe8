//! The way from a request's Python side to its connection: straight to the reactor, on the loop's own thread; through the
//! reactor's mailbox from a thread that only runs the application.

use std::io;

use rgunicorn_server::log::ErrorLog;
use rgunicorn_server::response::Outgoing;
use rgunicorn_server::worker::{AccessFacts, Control, Flow, Hijacked, Reactor, Request, RequestId};

use super::remote::RemoteResponder;

/// Who does what a response asks for.
#[derive(Clone, Copy)]
pub(super) enum Link<'a> {
    /// The reactor, on its thread.
    Loop(&'a Reactor),
    /// The remote of another thread.
    Thread(&'a RemoteResponder),
}

impl<'a> Link<'a> {
    /// Another thread than the loop's: it may wait, and what it gives leaves a little later.
    pub(super) fn is_thread(self) -> bool {
        matches!(self, Self::Thread(_))
    }

    pub(super) fn errors(self) -> &'a ErrorLog {
        match self {
            Self::Loop(reactor) => &reactor.handles().errors,
            Self::Thread(remote) => remote.errors(),
        }
    }

    pub(super) fn control(self) -> &'a Control {
        match self {
            Self::Loop(reactor) => &reactor.handles().control,
            Self::Thread(remote) => remote.control(),
        }
    }

    /// An empty buffer for output.
    pub(super) fn buffer(self) -> Vec<u8> {
        match self {
            Self::Loop(reactor) => reactor.buffer(),
            Self::Thread(_) => Vec::with_capacity(512),
        }
    }

    /// Gives one back.
    pub(super) fn recycle(self, buffer: Vec<u8>) {
        match self {
            Self::Loop(reactor) => reactor.recycle(buffer),
            Self::Thread(_) => drop(buffer),
        }
    }

    /// See [`Reactor::send`]. A thread always hears [`Flow::Queued`]: the remote is emptied by whatever waits or ends.
    pub(super) fn send(self, conn: RequestId, piece: Outgoing, last: bool) -> Flow {
        match self {
            Self::Loop(reactor) => reactor.send(conn, piece, last),
            Self::Thread(remote) => {
                remote.send(piece, last);
                Flow::Queued
            }
        }
    }

    /// What was given so far leaves now, however long the application goes on.
    pub(super) fn flush(self) {
        if let Self::Thread(remote) = self {
            remote.flush();
        }
    }

    /// See [`Reactor::run_deferred_drops`].
    pub(super) fn run_deferred_drops(self) {
        if let Self::Loop(reactor) = self {
            reactor.run_deferred_drops();
        }
    }

    /// See [`Reactor::finish`].
    pub(super) fn finish(self, conn: RequestId, keep: bool) {
        match self {
            Self::Loop(reactor) => reactor.finish(conn, keep),
            Self::Thread(remote) => remote.finish(keep),
        }
    }

    /// See [`Reactor::abort`].
    pub(super) fn abort(self, conn: RequestId) {
        match self {
            Self::Loop(reactor) => reactor.abort(conn),
            Self::Thread(remote) => remote.abort(),
        }
    }

    /// The connection is closed.
    pub(super) fn is_closed(self, conn: RequestId) -> bool {
        match self {
            Self::Loop(reactor) => reactor.is_closed(conn),
            Self::Thread(remote) => remote.ask(move |reactor| reactor.is_closed(conn)).unwrap_or(true),
        }
    }

    /// See [`Reactor::is_half_closed`].
    pub(super) fn is_half_closed(self, conn: RequestId) -> bool {
        match self {
            Self::Loop(reactor) => reactor.is_half_closed(conn),
            Self::Thread(remote) => remote.ask(move |reactor| reactor.is_half_closed(conn)).unwrap_or(true),
        }
    }

    /// The application has taken the socket.
    pub(super) fn is_detached(self, conn: RequestId) -> bool {
        match self {
            Self::Loop(reactor) => reactor.is_detached(conn),
            Self::Thread(remote) => remote.is_detached(),
        }
    }

    /// See [`Reactor::hijack`].
    pub(super) fn hijack(self, conn: RequestId) -> io::Result<Hijacked> {
        match self {
            Self::Loop(reactor) => reactor.hijack(conn),
            Self::Thread(remote) => remote.hijack(conn),
        }
    }

    /// The worker is willing to keep connections open at this moment.
    pub(super) fn keeps_alive(self) -> bool {
        match self {
            Self::Loop(reactor) => reactor.keeps_alive(),
            Self::Thread(remote) => remote.keeps_alive(),
        }
    }

    /// The `Date` header value of now.
    pub(super) fn date(self) -> [u8; 29] {
        match self {
            Self::Loop(reactor) => reactor.date(),
            Self::Thread(remote) => remote.date(),
        }
    }

    /// A request is about to run.
    pub(super) fn count_request(self) {
        match self {
            Self::Loop(reactor) => reactor.count_request(),
            Self::Thread(remote) => remote.count_request(),
        }
    }

    /// Whether an access log is kept.
    pub(super) fn logs_access(self) -> bool {
        match self {
            Self::Loop(reactor) => reactor.logs_access(),
            Self::Thread(remote) => remote.logs_access(),
        }
    }

    /// Writes a record of the access log, if that is kept.
    pub(super) fn log_access(self, request: &Request, facts: &AccessFacts<'_>) {
        match self {
            Self::Loop(reactor) => reactor.log_access(request, facts),
            Self::Thread(remote) => remote.log_access(request, facts),
        }
    }
}
