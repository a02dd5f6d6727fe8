//! A thread's side of the reactor's mailbox: the pieces of a response are put together here and posted in as
//! few tasks as their order allows; where an answer is needed the thread waits for it, without the
//! interpreter lock.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use rgunicorn_http::DateCache;
use rgunicorn_io::sys::clock::{self, Instant};
use rgunicorn_server::log::LineRenderer;
use rgunicorn_server::response::{HeadContext, Outgoing, Pieces};
use rgunicorn_server::worker::{
    AccessFacts, AccessLine, CLIENT_CLOSED_REQUEST, Flow, Hijacked, Mailbox, Reactor, Request, RequestId,
    Responded, Whole, is_large_item,
};

use super::log_line;
use super::responder::{Responder, Waited, WorkerFacts};

/// The wait of a request, and the time of a response's items, from which on its thread asks whether the client is still
/// there: the question costs a trip to the loop and back.
pub(super) const ASK_AFTER: Duration = Duration::from_millis(20);
/// Capacity of an output buffer: a head and a small body.
const BUFFER_BYTES: usize = 512;

/// The facts and handles of the worker that threads need.
#[derive(Clone)]
pub struct ThreadContext {
    /// The way to the reactor.
    pub mailbox: Arc<Mailbox>,
    /// The facts and handles that any request needs.
    pub worker: WorkerFacts,
    /// The renderer of records, if an access log is kept.
    pub access: Option<LineRenderer>,
    /// Connections may be kept open at all.
    pub keeps_alive: bool,
    /// Threads that wait for their client.
    pub(super) waiters: Arc<Waiters>,
}

impl ThreadContext {
    /// Returns the one of the reactor's worker; `access` renders the records of its access log.
    pub fn new(reactor: &Reactor, mailbox: Arc<Mailbox>, access: Option<LineRenderer>) -> Self {
        Self {
            mailbox,
            worker: WorkerFacts::of(reactor),
            access,
            keeps_alive: !reactor.config().close_always && !reactor.config().keepalive.is_zero(),
            waiters: Arc::default(),
        }
    }
}

/// The threads that wait until the output of a connection has left, by connection.
#[derive(Default)]
pub(super) struct Waiters(Mutex<HashMap<RequestId, Sender<Waited>>>);

impl Waiters {
    /// Answers the thread that waits for a connection, if one does.
    pub(super) fn answer(&self, id: RequestId, waited: Waited) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(sender) = waiting {
            // The thread may be gone with the process.
            let _ = sender.send(waited);
        }
    }

    /// Lets all go: the loop will not answer any more.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn add(&self, id: RequestId, sender: Sender<Waited>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
    }
}

/// The next task for the loop, in its order.
#[derive(Default)]
struct Batch {
    pieces: Vec<(Outgoing, bool)>,
    /// Records of the access log.
    lines: Vec<u8>,
    end: Option<End>,
    /// The thread is done with the request.
    leaves: bool,
}

/// The end of a response.
#[derive(Clone, Copy)]
enum End {
    Finish { keep: bool },
    Abort,
}

/// One thread's way to the reactor. It has one request at a time.
pub(super) struct RemoteResponder {
    context: ThreadContext,
    id: Cell<Option<RequestId>>,
    detached: Cell<bool>,
    batch: RefCell<Batch>,
    date: RefCell<DateCache>,
    access: RefCell<Option<LineRenderer>>,
}

impl RemoteResponder {
    pub(super) fn new(context: ThreadContext) -> Self {
        let access = RefCell::new(context.access.clone());
        let (batch, date) = (RefCell::default(), RefCell::default());
        Self { context, id: Cell::new(None), detached: Cell::new(false), batch, date, access }
    }

    /// Takes up a request on this thread.
    pub(super) fn begin(&self, id: RequestId) {
        self.id.set(Some(id));
        self.detached.set(false);
    }

    /// Posts the rest of the request that this thread is done with.
    pub(super) fn end(&self) {
        self.batch.borrow_mut().leaves = true;
        self.post();
        self.id.set(None);
    }

    /// Posts the batch, if there is anything in it.
    fn post(&self) {
        let Some(id) = self.id.get() else { return };
        let Batch { pieces, lines, end, leaves } = self.batch.take();
        if pieces.is_empty() && lines.is_empty() && end.is_none() && !leaves {
            return;
        }
        self.context.mailbox.post(Box::new(move |reactor: &Reactor| {
            for (piece, last) in pieces {
                if reactor.send(id, piece, last) == Flow::Gone {
                    break;
                }
            }
            reactor.handles().log_lines(&lines);
            match end {
                Some(End::Finish { keep }) => reactor.finish(id, keep),
                Some(End::Abort) => reactor.abort(id),
                None => {}
            }
            if leaves {
                reactor.end_work(id);
            }
        }));
    }

    /// Ends a request whose client has left before its turn.
    pub(super) fn abandon(&self, request: &Request) {
        self.log_access(request, &log_line::without_application(CLIENT_CLOSED_REQUEST));
        self.abort(request.id);
    }

    /// Has `question` answered by the loop, after all that was posted before. `None`: the loop is over.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reactor) -> T + Send + 'static,
    ) -> Option<T> {
        self.post();
        ask(&self.context.mailbox, question)
    }

    fn push(&self, piece: Outgoing, last: bool) {
        self.batch.borrow_mut().pieces.push((piece, last));
    }

    fn push_pieces(&self, pieces: Pieces, last: bool) {
        let (ready, tail) = pieces.into_parts();
        let batch = &mut *self.batch.borrow_mut();
        batch.pieces.extend(ready.into_iter().map(|piece| (piece, last)));
        if !tail.is_empty() {
            batch.pieces.push((Outgoing::from(tail), last));
        }
    }
}

impl Responder for RemoteResponder {
    fn serves(&self, id: RequestId) -> bool {
        self.id.get() == Some(id)
    }

    fn head_context(&self, _: RequestId) -> HeadContext {
        let closes = self.context.worker.control.closes_connections();
        HeadContext {
            keep_alive: self.context.keeps_alive && !closes && !self.detached.get(),
            date: *self.date.borrow_mut().at(clock::unix_now().as_secs()),
        }
    }

    fn buffer(&self) -> Vec<u8> {
        Vec::with_capacity(BUFFER_BYTES)
    }

    fn respond(&self, id: RequestId, whole: Whole<'_>) -> Responded {
        let Whole { response, pieces, item, batch, frees, .. } = whole;
        let mut pieces = pieces.unwrap_or_else(|| Pieces::new(self.buffer()));
        if let Some(item) = item {
            response.append(|| self.head_context(id), &mut pieces, item);
        }
        if !response.end(|| self.head_context(id), &mut pieces) {
            return Responded::NotStarted;
        }
        response.close();
        let large = item.is_some_and(is_large_item);
        self.push_pieces(pieces, batch && !large);
        // Posted by `flush`, where Python may run: a mailbox that is closed drops the application's memory.
        if frees || !response.keeps_alive() {
            self.batch.borrow_mut().end = Some(End::Finish { keep: response.keeps_alive() });
        }
        Responded::Done
    }

    // A thread always hears [`Flow::Queued`]: its pieces are posted by the next wait or end.
    fn send_pieces(&self, _: RequestId, pieces: Pieces) -> Flow {
        self.push_pieces(pieces, false);
        Flow::Queued
    }

    fn send(&self, _: RequestId, piece: Outgoing) -> Flow {
        self.push(piece, false);
        Flow::Queued
    }

    fn flush(&self) {
        self.post();
    }

    // A connection that stays is free for its next request only when the thread is done with this one
    // ([`Self::end`]).
    fn finish(&self, _: RequestId, keep: bool) {
        self.batch.borrow_mut().end = Some(End::Finish { keep });
        if !keep {
            self.post();
        }
    }

    fn abort(&self, id: RequestId) {
        if !self.serves(id) {
            // A thread that reads another's body.
            return self.context.mailbox.post(Box::new(move |reactor: &Reactor| reactor.abort(id)));
        }
        self.batch.borrow_mut().end = Some(End::Abort);
        self.post();
    }

    fn is_closed(&self, id: RequestId) -> bool {
        self.ask(move |reactor| reactor.is_closed(id)).unwrap_or(true)
    }

    fn is_half_closed(&self, id: RequestId) -> bool {
        self.ask(move |reactor| reactor.is_half_closed(id)).unwrap_or(true)
    }

    fn hijack(&self, id: RequestId) -> io::Result<Hijacked> {
        let taken = self.ask(move |reactor| reactor.hijack(id));
        let taken = taken.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))?;
        self.detached.set(true);
        Ok(taken)
    }

    // `facts` may run Python, so the renderer is out of its cell meanwhile.
    fn log_access(&self, request: &Request, facts: &AccessFacts<'_>) {
        let Some(mut renderer) = self.access.take() else { return };
        let mut line = Vec::new();
        renderer.render(&AccessLine::new(request, facts), &mut line);
        self.access.replace(Some(renderer));
        self.batch.borrow_mut().lines.append(&mut line);
    }

    fn wait_sent(&self, _: Python<'_>, id: RequestId) -> PyResult<Waited> {
        self.post();
        let (sender, answer) = channel();
        let waiters = Arc::clone(&self.context.waiters);
        self.context.mailbox.post(Box::new(move |reactor: &Reactor| {
            if reactor.park(id) {
                waiters.add(id, sender);
            } else {
                let waited = if reactor.is_closed(id) { Waited::Closed } else { Waited::Ready };
                let _ = sender.send(waited);
            }
        }));
        Ok(unlocked(move || answer.recv().unwrap_or(Waited::Closed)))
    }

    // The interpreter lets other threads run by itself. But an iterable that gives nothing hears by no send that its
    // client, or the worker, has left.
    fn is_turn_over(&self, begun: Instant) -> bool {
        clock::now().since(begun) >= ASK_AFTER
    }

    fn give_way(&self, _: Python<'_>, id: RequestId) -> PyResult<Waited> {
        Ok(if self.is_closed(id) { Waited::Closed } else { Waited::Ready })
    }

    // The loop sends the rest; the thread takes up the next request meanwhile.
    fn waits_for_reader(&self) -> bool {
        false
    }

    fn frees_before_close(&self) -> bool {
        false
    }

    fn mailbox(&self) -> Option<Arc<Mailbox>> {
        Some(Arc::clone(&self.context.mailbox))
    }
}

/// Has `question` answered by the loop, for any thread but the loop's. `None`: the loop is over.
pub(super) fn ask<T: Send + 'static>(
    mailbox: &Mailbox,
    question: impl FnOnce(&Reactor) -> T + Send + 'static,
) -> Option<T> {
    let (sender, answer) = channel();
    mailbox.post(Box::new(move |reactor: &Reactor| {
        let _ = sender.send(question(reactor));
    }));
    unlocked(move || answer.recv().ok())
}

/// Waits without the interpreter lock.
fn unlocked<T: Send>(wait: impl FnOnce() -> T + Send) -> T {
    Python::attach(|py| py.detach(wait))
}
