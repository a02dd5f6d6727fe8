//! A thread's side of the reactor's mailbox: what a response gives is put together here and posted in as few pieces as its
//! order allows; where an answer is needed the thread waits for it, without the interpreter lock.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use rgunicorn_http::DateCache;
use rgunicorn_io::sys::clock;
use rgunicorn_io::sys::shared::Slot;
use rgunicorn_server::log::{ErrorLog, LineRenderer};
use rgunicorn_server::response::Outgoing;
use rgunicorn_server::worker::{
    AccessFacts, AccessLine, CLIENT_CLOSED_REQUEST, Control, Flow, Hijacked, Mailbox, Reactor, Request,
    RequestCount, RequestId,
};

/// What threads need of the worker.
#[derive(Clone)]
pub struct ThreadContext {
    /// The way to the reactor.
    pub mailbox: Arc<Mailbox>,
    /// Stop requests.
    pub control: Arc<Control>,
    /// The error log.
    pub errors: Arc<ErrorLog>,
    /// Renders records, if an access log is kept.
    pub access: Option<LineRenderer>,
    /// Connections may be kept open at all.
    pub keeps_alive: bool,
    /// This worker's place on the score-board.
    pub slot: Slot,
    /// How requests are counted there.
    pub count: RequestCount,
    /// Threads that wait for their client.
    pub(super) waits: Arc<Waiters>,
}

impl ThreadContext {
    /// See the fields.
    pub fn new(
        mailbox: Arc<Mailbox>,
        control: Arc<Control>,
        errors: Arc<ErrorLog>,
        access: Option<LineRenderer>,
        keeps_alive: bool,
        (slot, count): (Slot, RequestCount),
    ) -> Self {
        Self { mailbox, control, errors, access, keeps_alive, slot, count, waits: Arc::default() }
    }
}

/// The threads that wait until the output of a connection has left, by connection.
#[derive(Default)]
pub(super) struct Waiters(Mutex<HashMap<RequestId, Sender<Flow>>>);

impl Waiters {
    /// Answers the thread that waits for a connection, if one does.
    pub(super) fn answer(&self, conn: RequestId, flow: Flow) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&conn);
        if let Some(sender) = waiting {
            // The thread may be gone with the process.
            let _ = sender.send(flow);
        }
    }

    /// Lets all go: nobody will answer.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn add(&self, conn: RequestId, sender: Sender<Flow>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(conn, sender);
    }
}

/// What is to be posted next, in its order.
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

/// One thread's remote. It has one request at a time.
pub(super) struct RemoteResponder {
    context: ThreadContext,
    conn: Cell<Option<RequestId>>,
    detached: Cell<bool>,
    batch: RefCell<Batch>,
    date: RefCell<DateCache>,
    access: RefCell<Option<LineRenderer>>,
}

impl RemoteResponder {
    pub(super) fn new(context: ThreadContext) -> Self {
        let access = RefCell::new(context.access.clone());
        let (batch, date) = (RefCell::default(), RefCell::default());
        Self { context, conn: Cell::new(None), detached: Cell::new(false), batch, date, access }
    }

    /// The thread takes up a request.
    pub(super) fn begin(&self, conn: RequestId) {
        self.conn.set(Some(conn));
        self.detached.set(false);
    }

    /// The thread is done with it.
    pub(super) fn end(&self) {
        self.batch.borrow_mut().leaves = true;
        self.flush();
        self.conn.set(None);
    }

    pub(super) fn errors(&self) -> &ErrorLog {
        &self.context.errors
    }

    pub(super) fn control(&self) -> &Control {
        &self.context.control
    }

    pub(super) fn count_request(&self) {
        let ThreadContext { slot, control, errors, count, .. } = &self.context;
        count.add(slot, control, errors);
    }

    pub(super) fn keeps_alive(&self) -> bool {
        self.context.keeps_alive && !self.context.control.stopping()
    }

    pub(super) fn is_detached(&self) -> bool {
        self.detached.get()
    }

    pub(super) fn date(&self) -> [u8; 29] {
        *self.date.borrow_mut().at(clock::unix_now().as_secs())
    }

    pub(super) fn send(&self, piece: Outgoing, last: bool) {
        self.batch.borrow_mut().pieces.push((piece, last));
    }

    /// A connection that stays is free for its next request only when the thread is done with this one ([`Self::end`]).
    pub(super) fn finish(&self, keep: bool) {
        self.batch.borrow_mut().end = Some(End::Finish { keep });
        if !keep {
            self.flush();
        }
    }

    pub(super) fn abort(&self) {
        self.batch.borrow_mut().end = Some(End::Abort);
        self.flush();
    }

    /// Posts what there is.
    pub(super) fn flush(&self) {
        let Some(conn) = self.conn.get() else { return };
        let Batch { pieces, lines, end, leaves } = self.batch.take();
        if pieces.is_empty() && lines.is_empty() && end.is_none() && !leaves {
            return;
        }
        self.context.mailbox.post(Box::new(move |reactor: &Reactor| {
            for (piece, last) in pieces {
                if reactor.send(conn, piece, last) == Flow::Gone {
                    break;
                }
            }
            reactor.log_lines(&lines);
            match end {
                Some(End::Finish { keep }) => reactor.finish(conn, keep),
                Some(End::Abort) => reactor.abort(conn),
                None => {}
            }
            if leaves {
                reactor.end_work(conn);
            }
        }));
    }

    /// The client of a request has left before its turn.
    pub(super) fn abandon(&self, request: &Request) {
        let (status, elapsed) = (CLIENT_CLOSED_REQUEST, Duration::ZERO);
        let facts = AccessFacts { status, bytes_sent: 0, response: None, elapsed, environ: &|_| None };
        self.log_access(request, &facts);
        self.abort();
    }

    pub(super) fn logs_access(&self) -> bool {
        self.access.borrow().is_some()
    }

    /// `facts` may run Python, so the renderer is out of its cell meanwhile.
    pub(super) fn log_access(&self, request: &Request, facts: &AccessFacts<'_>) {
        let Some(mut renderer) = self.access.take() else { return };
        let mut line = Vec::new();
        renderer.render(&AccessLine::new(request, facts), &mut line);
        self.access.replace(Some(renderer));
        self.batch.borrow_mut().lines.append(&mut line);
    }

    /// Has `question` answered by the loop, after all that was posted before. `None`: the loop is over.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reactor) -> T + Send + 'static,
    ) -> Option<T> {
        self.flush();
        ask(&self.context.mailbox, question)
    }

    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.context.mailbox)
    }

    /// Waiters until all output of the request's connection has left, or the connection is gone.
    pub(super) fn drained(&self, conn: RequestId) -> Flow {
        self.flush();
        let (sender, answer) = channel();
        let waits = Arc::clone(&self.context.waits);
        self.context.mailbox.post(Box::new(move |reactor: &Reactor| {
            if reactor.park(conn) {
                waits.add(conn, sender);
            } else {
                let flow = if reactor.is_closed(conn) { Flow::Gone } else { Flow::Sent };
                let _ = sender.send(flow);
            }
        }));
        unlocked(move || answer.recv().unwrap_or(Flow::Gone))
    }

    pub(super) fn hijack(&self, conn: RequestId) -> io::Result<Hijacked> {
        let taken = self.ask(move |reactor| reactor.hijack(conn));
        let taken = taken.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))?;
        self.detached.set(true);
        Ok(taken)
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

/// Waiters without the interpreter lock.
fn unlocked<T: Send>(wait: impl FnOnce() -> T + Send) -> T {
    Python::attach(|py| py.detach(wait))
}
