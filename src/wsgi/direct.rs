//! Direct mode: the application runs on the loop's own frame, one request at a time. Where it would have to
//! wait for its client, its exchange is parked under its request, and nothing of it stays on the stack.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;

use pyo3::prelude::*;

use rgunicorn_io::sys::atfork;
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_server::response::{HeadContext, Outgoing, Pieces};
use rgunicorn_server::worker::{
    AccessFacts, App, ExitStatus, Flow, Hijacked, Reactor, Request, RequestId, Responded, Whole,
};

use crate::py::Watch;

use super::app::{WsgiApp, WsgiConfig, check_signals};
use super::current;
use super::log_line;
use super::responder::{Responder, Waited, WorkerFacts};
use super::running::RunningRequest;

/// The reactor, on its own thread.
struct DirectResponder(Rc<Reactor>);

impl Responder for DirectResponder {
    fn head_context(&self, id: RequestId) -> HeadContext {
        self.0.head_context(id)
    }

    fn buffer(&self) -> Vec<u8> {
        self.0.buffer()
    }

    fn respond(&self, id: RequestId, whole: Whole<'_>) -> Responded {
        self.0.respond(id, whole)
    }

    fn send_pieces(&self, id: RequestId, pieces: Pieces) -> Flow {
        self.0.send_pieces(id, pieces)
    }

    fn send(&self, id: RequestId, piece: Outgoing) -> Flow {
        self.0.send(id, piece, false)
    }

    fn run_deferred_drops(&self) {
        self.0.run_deferred_drops();
    }

    fn finish(&self, id: RequestId, keep: bool) {
        self.0.finish(id, keep);
    }

    fn abort(&self, id: RequestId) {
        self.0.abort(id);
    }

    fn is_closed(&self, id: RequestId) -> bool {
        self.0.is_closed(id)
    }

    fn is_half_closed(&self, id: RequestId) -> bool {
        self.0.is_half_closed(id)
    }

    fn hijack(&self, id: RequestId) -> io::Result<Hijacked> {
        self.0.hijack(id)
    }

    fn log_access(&self, request: &Request, facts: &AccessFacts<'_>) {
        self.0.handles().log_access(request, facts);
    }

    fn wait_sent(&self, _: Python<'_>, id: RequestId) -> PyResult<Waited> {
        Ok(if self.0.park(id) { Waited::Parked } else { Waited::Ready })
    }

    fn wait_in_call(&self, _: Python<'_>, _: RequestId) -> PyResult<Waited> {
        Ok(Waited::Ready)
    }

    fn is_turn_over(&self, begun: Instant) -> bool {
        self.0.is_turn_over(begun)
    }

    fn give_way(&self, _: Python<'_>, id: RequestId) -> PyResult<Waited> {
        // An iterable that gives nothing hears of it by no failed send.
        if self.0.is_closed(id) {
            return Ok(Waited::Closed);
        }
        self.0.yield_turn(id);
        Ok(Waited::Parked)
    }

    fn waits_for_reader(&self) -> bool {
        true
    }

    fn frees_before_close(&self) -> bool {
        true
    }
}

/// The application in direct mode.
pub struct DirectApp {
    wsgi: Rc<WsgiApp>,
    /// The watch on the loop: it is told about every call into the application, and asks `running` about its
    /// request.
    watch: Arc<Watch>,
    running: Arc<RunningRequest>,
    forks: u32,
}

impl DirectApp {
    /// Makes the application of `config` for the reactor's thread, which is this one.
    ///
    /// # Errors
    /// `MemoryError`, and any error of importing the modules that the shared objects come from.
    pub fn new(py: Python<'_>, config: &WsgiConfig, reactor: &Rc<Reactor>) -> PyResult<Self> {
        let responder = Rc::new(DirectResponder(Rc::clone(reactor)));
        let wsgi = Rc::new(WsgiApp::new(py, config, WorkerFacts::of(reactor), responder.clone())?);
        current::set(responder);
        let running = Arc::new(RunningRequest::default());
        config.watch.describe_by(RunningRequest::describe(&running));
        Ok(Self { wsgi, watch: Arc::clone(&config.watch), running, forks: atfork::generation() })
    }

    /// Closes the application's iterables of responses that are still in progress when the worker leaves (PEP
    /// 3333: `close()` is called however a request ends).
    pub fn close(&self) {
        Python::attach(|py| self.wsgi.close_parked(py));
        current::clear();
    }

    /// Runs `work` on behalf of a request, watched and with the interpreter lock held. A panic ends the
    /// request's connection and goes on to the loop, which logs it.
    fn serve(&self, reactor: &Reactor, id: RequestId, now: Instant, work: impl FnOnce(Python<'_>)) {
        watched(&self.watch, now, work, || {
            if !self.is_forked_child() {
                reactor.abort(id);
            }
        });
    }
}

/// Runs `work` with the interpreter lock held while `watch` knows of it; after a panic `clean_up`, and the
/// panic goes on.
pub(super) fn watched(watch: &Watch, now: Instant, work: impl FnOnce(Python<'_>), clean_up: impl FnOnce()) {
    watch.begin(now);
    let done = catch_unwind(AssertUnwindSafe(|| Python::attach(work)));
    watch.idle();
    if let Err(panic) = done {
        clean_up();
        resume_unwind(panic);
    }
}

impl App for DirectApp {
    fn blocking(&self, wait: &mut dyn FnMut()) {
        crate::py::blocking(wait);
    }

    fn check_signals(&self, _: bool) -> Result<(), ExitStatus> {
        self.wsgi.relay_logs();
        check_signals(&self.wsgi.worker.errors)
    }

    fn call(&self, reactor: &Reactor, request: Box<Request>) {
        self.running.set(&request);
        self.serve(reactor, request.id, request.begun, |py| self.wsgi.start(py, request));
    }

    fn resume(&self, reactor: &Reactor, id: RequestId) {
        if let Some(exchange) = self.wsgi.take_parked(id) {
            self.running.set(&exchange.request);
            self.serve(reactor, id, reactor.now(), |py| self.wsgi.pump(py, exchange));
        }
    }

    fn abandon(&self, reactor: &Reactor, id: RequestId) {
        if let Some(exchange) = self.wsgi.take_parked(id) {
            self.running.set(&exchange.request);
            self.serve(reactor, id, reactor.now(), |py| self.wsgi.close_exchange(py, exchange));
        }
    }

    fn refused(&self, reactor: &Reactor, request: Box<Request>, status: u16) {
        reactor.handles().log_access(&request, &log_line::without_application(status));
        if self.wsgi.hooks.as_ref().is_some_and(|hooks| hooks.access.is_some()) {
            self.running.set(&request);
            self.serve(reactor, request.id, reactor.now(), |py| {
                self.wsgi.record_refused(py, &request, status)
            });
        }
    }

    fn is_forked_child(&self) -> bool {
        atfork::generation() != self.forks
    }
}
