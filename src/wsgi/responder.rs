//! The way from the application's side of a request to its connection. Three implementations, one for each
//! way in which an application runs: [`direct`](super::direct) on the loop's own frame,
//! [`greenlets`](super::greenlets), and [`remote`](super::remote) in threads. Every difference between them
//! is a method here; no other code asks which it is.

use std::io;
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use rgunicorn_http::PageFacts;
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::shared::Slot;
use rgunicorn_server::log::ErrorLog;
use rgunicorn_server::response::{ErrorPage, HeadContext, Outgoing, Pieces};
use rgunicorn_server::worker::{
    AccessFacts, BodyRead, Control, Flow, Hijacked, Mailbox, Reactor, Request, RequestCount, RequestId,
    Responded, Whole,
};

/// The end of a wait for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// The application goes on.
    Ready,
    /// The client has left.
    Closed,
    /// Nothing can wait here. The reactor resumes the request later; its exchange is to be put aside.
    Parked,
}

/// The way of a response's bytes, and of its application's waits.
pub(super) trait Responder {
    /// Returns whether bytes of this request may leave from here: not those of another thread's.
    fn serves(&self, _: RequestId) -> bool {
        true
    }

    /// Returns what the head of a response says about its connection and the time.
    fn head_context(&self, id: RequestId) -> HeadContext;

    /// Returns an empty buffer for output.
    fn buffer(&self) -> Vec<u8>;

    /// Sends what is left of a response and ends it. Runs no Python: the response is borrowed.
    fn respond(&self, id: RequestId, whole: Whole<'_>) -> Responded;

    /// Sends pieces of a response that goes on.
    fn send_pieces(&self, id: RequestId, pieces: Pieces) -> Flow;

    /// Sends one piece that is not the last.
    fn send(&self, id: RequestId, piece: Outgoing) -> Flow;

    /// Drops the application's memory that was sent, which runs Python.
    fn run_deferred_drops(&self) {}

    /// Hands over now all that was given so far, however long the application goes on.
    fn flush(&self) {}

    /// Ends a response whose bytes have been given. `keep`: the connection stays.
    fn finish(&self, id: RequestId, keep: bool);

    /// Ends a response that cannot be completed.
    fn abort(&self, id: RequestId);

    /// Answers a request without its application.
    fn refuse(&self, request: &Request, page: ErrorPage) {
        let (id, mut bytes) = (request.id, self.buffer());
        let head_request = request.head.method() == b"HEAD";
        page.render(&PageFacts { date: self.head_context(id).date, head_request }, &mut bytes);
        self.send(id, Outgoing::from(bytes));
        self.abort(id);
    }

    /// Returns whether the connection is closed.
    fn is_closed(&self, id: RequestId) -> bool;

    /// Returns whether the client has left, or has at least shut its side of the connection.
    fn is_half_closed(&self, id: RequestId) -> bool;

    /// Takes the socket over for the application.
    ///
    /// # Errors
    /// `NotConnected` when the connection is gone, and the errors of duplicating its descriptor.
    fn hijack(&self, id: RequestId) -> io::Result<Hijacked>;

    /// Writes a record of the access log, if that is kept.
    fn log_access(&self, request: &Request, facts: &AccessFacts<'_>);

    /// Waits until the output of a connection has left.
    ///
    /// # Errors
    /// Exceptions that are thrown into a waiting greenlet.
    fn wait_sent(&self, py: Python<'_>, id: RequestId) -> PyResult<Waited>;

    /// Waits so in the middle of a call of the application's, which cannot be put aside: where nothing can
    /// wait, it goes on.
    ///
    /// # Errors
    /// Exceptions that are thrown into a waiting greenlet.
    fn wait_in_call(&self, py: Python<'_>, id: RequestId) -> PyResult<Waited> {
        self.wait_sent(py, id)
    }

    /// Returns whether a response with more to give, which has gone on since `begun`, is to [`Self::give_way`].
    fn is_turn_over(&self, begun: Instant) -> bool;

    /// Lets other requests run, and looks whether this one still has its client.
    ///
    /// # Errors
    /// Exceptions that are thrown into a waiting greenlet.
    fn give_way(&self, py: Python<'_>, id: RequestId) -> PyResult<Waited>;

    /// Returns whether a complete answer is waited for until its client has taken it, before its request
    /// counts as over.
    fn waits_for_reader(&self) -> bool;

    /// Returns whether a connection that stays is free for its next request as soon as the response is
    /// complete. Otherwise that waits for the application's `close()`, which may take its time.
    fn frees_before_close(&self) -> bool;

    /// Reads at most so many bytes of a body that streams.
    fn read_body(&self, _: RequestId, _: usize) -> BodyRead {
        BodyRead::End
    }

    /// Waits until there is something to read of a body that streams.
    ///
    /// # Errors
    /// Exceptions that are thrown into a waiting greenlet, and `RuntimeError` where nothing can wait.
    fn wait_body(&self, _: Python<'_>, _: RequestId) -> PyResult<()> {
        Err(PyRuntimeError::new_err("a request body cannot be waited for here"))
    }

    /// Returns whether an error is the quiet end of a request that was killed.
    fn is_killed(&self, _: Python<'_>, _: &PyErr) -> bool {
        false
    }

    /// Returns the way to the loop for threads of the application's own, if the application runs in threads.
    fn mailbox(&self) -> Option<Arc<Mailbox>> {
        None
    }
}

/// Sends pieces of a response that goes on, and drops the application's memory that has left: one call of the
/// application may send more than memory holds.
pub(super) fn send_pieces(responder: &dyn Responder, id: RequestId, pieces: Pieces) -> Flow {
    let has_foreign = pieces.has_foreign();
    let flow = responder.send_pieces(id, pieces);
    if has_foreign {
        responder.run_deferred_drops();
    }
    flow
}

/// The facts and handles of the worker that requests need, on any thread.
#[derive(Clone)]
pub struct WorkerFacts {
    /// The error log.
    pub errors: Arc<ErrorLog>,
    /// Stop requests.
    pub control: Arc<Control>,
    /// The worker's place on the score-board.
    pub slot: Slot,
    /// The counter of requests there.
    pub count: RequestCount,
    /// An access log is kept.
    pub logs_access: bool,
}

impl WorkerFacts {
    /// Returns those of the reactor's worker.
    pub fn of(reactor: &Reactor) -> Self {
        let handles = reactor.handles();
        Self {
            errors: Arc::clone(&handles.errors),
            control: Arc::clone(&handles.control),
            slot: handles.slot.clone(),
            count: reactor.count(),
            logs_access: reactor.handles().logs_access(),
        }
    }

    /// Counts a request that is about to run; see [`Reactor::count_request`].
    pub(super) fn count_request(&self) {
        self.count.add(&self.slot, &self.control, &self.errors);
    }
}
