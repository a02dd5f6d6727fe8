//! Cooperative mode: every request runs in a greenlet of its own, and waits by giving control to gevent's
//! hub, which runs our loop. One worker then has thousands of requests in progress.
//!
//! A request's greenlet is a `gevent.Greenlet`, as under Gunicorn's gevent worker: applications ask for
//! `getcurrent()`, kill it, link to it, and keep things in `gevent.local`. It is new for each request, so
//! that nothing of the one before is found in there.
//!
//! A greenlet that waits for its client (`wait_sent`, `wait_body`) leaves its name here and switches to the
//! hub; the reactor's `resume` or `abandon` switches back. Both sides look again after every switch: others
//! may switch to a greenlet, too. What is thrown into a waiting greenlet (`kill`, `Timeout`) comes out of the
//! wait as an error.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::py::{Greenlets, Watch, assert_no_borrow, catch_panic};
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_server::response::{HeadContext, Outgoing, Pieces};
use rgunicorn_server::worker::{
    AccessFacts, App, BodyRead, ExitStatus, Flow, Hijacked, Reactor, Request, RequestId, RequestMap,
    Responded, Whole,
};

use super::app::{WsgiApp, WsgiConfig, check_signals};
use super::current;
use super::direct::watched;
use super::in_progress::{InProgress, Place};
use super::log_line;
use super::request_greenlet::GreenletMaker;
use super::responder::{Responder, Waited, WorkerFacts};

/// The requests' greenlets: their making and their waits.
struct GreenletPool {
    greenlets: Greenlets,
    hub: Py<PyAny>,
    /// Of those that call `serve_request`: a built-in function is called with less ado than an object of ours.
    maker: GreenletMaker,
    exit_class: Py<PyAny>,
    /// Requests whose greenlets have not begun: one, which its greenlet takes as the first thing that it does. More
    /// where something waits before (a trace function of greenlets).
    starting: RefCell<Vec<(Box<Request>, Place)>>,
    running: Arc<InProgress>,
    /// Greenlets that wait for a connection; more than one if an application shares its request among
    /// greenlets.
    suspended: RefCell<RequestMap<Vec<Py<PyAny>>>>,
}

impl GreenletPool {
    /// Makes the pool of this thread's hub, which must run our loop.
    ///
    /// # Errors
    /// Any error of importing gevent and greenlet.
    fn new(py: Python<'_>) -> PyResult<Self> {
        let gevent = py.import("gevent")?;
        let serve = wrap_pyfunction!(serve_request, py)?;
        let hub = gevent.getattr("get_hub")?.call0()?;
        Ok(Self {
            greenlets: Greenlets::import(py)?,
            maker: GreenletMaker::new(&hub, &serve)?,
            hub: hub.unbind(),
            exit_class: gevent.getattr("GreenletExit")?.unbind(),
            starting: RefCell::default(),
            running: Arc::default(),
            suspended: RefCell::default(),
        })
    }

    /// Runs a request in a new greenlet, up to the first time that it waits for anything.
    ///
    /// # Errors
    /// `MemoryError`, and the errors that gevent raises for a greenlet that it cannot make or start. The
    /// request is over then, too.
    fn spawn(&self, py: Python<'_>, request: Box<Request>) -> PyResult<()> {
        let greenlet = self.maker.make(py)?;
        let place = self.running.insert(&greenlet, &request);
        self.starting.borrow_mut().push((request, place));
        self.go_on(py, &greenlet)
    }

    /// Ends the requests whose greenlets were killed before they began; returns which.
    fn end_unbegun(&self, py: Python<'_>) -> Vec<RequestId> {
        let mut over: Vec<(RequestId, Place)> =
            self.starting.borrow().iter().map(|(request, place)| (request.id, *place)).collect();
        over.retain(|(id, place)| {
            let greenlet = self.running.greenlet(py, *place);
            greenlet.is_some_and(|greenlet| is_dead(&greenlet)) && self.end_if_unbegun(py, *id)
        });
        over.into_iter().map(|(id, _)| id).collect()
    }

    /// Ends a request whose greenlet has not begun; returns whether it was one. A greenlet that begins after all finds
    /// nothing to do.
    fn end_if_unbegun(&self, py: Python<'_>, id: RequestId) -> bool {
        let taken = {
            let mut starting = self.starting.borrow_mut();
            let at = starting.iter().position(|(request, _)| request.id == id);
            at.map(|at| starting.swap_remove(at))
        };
        if let Some((_, place)) = &taken {
            self.running.remove(py, *place);
        }
        taken.is_some()
    }

    /// Switches to a greenlet, from the hub.
    fn go_on(&self, py: Python<'_>, greenlet: &Bound<'_, PyAny>) -> PyResult<()> {
        catch_panic(|| self.greenlets.switch(py, greenlet)).map(drop)
    }

    /// Takes the request of the greenlet that begins, which is the running one.
    ///
    /// # Errors
    /// `MemoryError`.
    fn begin(&self, py: Python<'_>) -> PyResult<Option<(Box<Request>, Place)>> {
        let alone = {
            let mut starting = self.starting.borrow_mut();
            if starting.len() <= 1 { Some(starting.pop()) } else { None }
        };
        if let Some(only) = alone {
            return Ok(only);
        }
        let me = self.greenlets.current(py)?;
        let places: Vec<Place> = self.starting.borrow().iter().map(|(_, place)| *place).collect();
        let is_mine = |place: &Place| self.running.greenlet(py, *place).is_some_and(|other| other.is(&me));
        let at = places.iter().position(is_mine);
        let mut starting = self.starting.borrow_mut();
        Ok(at.map(|at| starting.swap_remove(at)))
    }

    /// Switches to the greenlets that wait for a connection: there is news of it.
    fn wake(&self, py: Python<'_>, id: RequestId) {
        let count = self.suspended.borrow().get(&id).map_or(0, Vec::len);
        // One at a time: each may let the others go on, or wait again.
        for _ in 0..count {
            let first = self
                .suspended
                .borrow_mut()
                .get_mut(&id)
                .filter(|all| !all.is_empty())
                .map(|all| all.remove(0));
            let Some(greenlet) = first else { return };
            if let Err(error) = self.go_on(py, greenlet.bind(py)) {
                error.write_unraisable(py, None);
            }
        }
    }

    /// Waits until the output queue of a connection is empty, or the connection gone.
    ///
    /// # Errors
    /// Exceptions that are thrown into this greenlet.
    fn wait_sent(&self, py: Python<'_>, reactor: &Reactor, id: RequestId) -> PyResult<()> {
        while self.may_wait(py)? && reactor.park(id) {
            self.suspend(py, id)?;
        }
        Ok(())
    }

    /// Waits until there is something to read of a request body, or nothing more will come.
    ///
    /// # Errors
    /// Exceptions that are thrown into this greenlet, and `RuntimeError` in the hub, which cannot wait.
    fn wait_body(&self, py: Python<'_>, reactor: &Reactor, id: RequestId) -> PyResult<()> {
        if !self.may_wait(py)? {
            return Err(PyRuntimeError::new_err("a request body cannot be waited for in the hub"));
        }
        while reactor.await_body(id) {
            self.suspend(py, id)?;
        }
        Ok(())
    }

    /// Lets others run.
    ///
    /// # Errors
    /// Exceptions that are thrown into this greenlet.
    fn give_way(&self, py: Python<'_>, reactor: &Reactor, id: RequestId) -> PyResult<()> {
        if self.may_wait(py)? {
            reactor.yield_turn(id);
            self.suspend(py, id)?;
        }
        Ok(())
    }

    /// Returns whether the running greenlet can wait: every one but the hub can, which runs meanwhile.
    fn may_wait(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(!self.greenlets.current(py)?.is(&self.hub))
    }

    /// Waits until the reactor has news of a connection, or other code of the application switches here.
    fn suspend(&self, py: Python<'_>, id: RequestId) -> PyResult<()> {
        let me = self.greenlets.current(py)?;
        self.suspended.borrow_mut().entry(id).or_default().push(me.clone().unbind());
        assert_no_borrow();
        // The hub's own method: it tells the greenlet that it is switched out.
        let back = catch_panic(|| self.hub.bind(py).call_method0(intern!(py, "switch")).map(drop));
        let mine = {
            let mut suspended = self.suspended.borrow_mut();
            let list = suspended.get_mut(&id);
            let at = list.as_ref().and_then(|list| list.iter().position(|other| other.is(&me)));
            let mine = list.zip(at).map(|(list, at)| list.swap_remove(at));
            if suspended.get(&id).is_some_and(Vec::is_empty) {
                suspended.remove(&id);
            }
            mine
        };
        drop(mine);
        back
    }

    /// Returns whether an error is the quiet end of a greenlet that was killed.
    fn is_exit(&self, py: Python<'_>, error: &PyErr) -> bool {
        error.is_instance(py, self.exit_class.bind(py))
    }

    /// Returns the greenlets of the requests in progress.
    fn running<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.running.greenlets(py))
    }
}

/// Returns whether a greenlet is over, in the eyes of gevent: one that was killed before it began is.
fn is_dead(greenlet: &Bound<'_, PyAny>) -> bool {
    greenlet.getattr(intern!(greenlet.py(), "dead")).is_ok_and(|dead| dead.is_truthy().unwrap_or(false))
}

thread_local! {
    /// The application that this thread serves.
    static SERVING: RefCell<Option<Rc<GreenletApp>>> = const { RefCell::new(None) };
}

/// Runs the request of a greenlet that begins; what a `gevent.Greenlet` of a request is made with.
#[pyfunction]
fn serve_request(py: Python<'_>) -> PyResult<()> {
    // A counted handle, on the heap: this frame may be copied away and never come back.
    let app = SERVING.with_borrow(Clone::clone);
    app.ok_or_else(|| PyRuntimeError::new_err("the worker is over"))?.run(py)
}

/// The reactor and the greenlets of its requests.
struct GreenletResponder {
    reactor: Rc<Reactor>,
    pool: GreenletPool,
}

impl Responder for GreenletResponder {
    fn head_context(&self, id: RequestId) -> HeadContext {
        self.reactor.head_context(id)
    }

    fn buffer(&self) -> Vec<u8> {
        self.reactor.buffer()
    }

    fn respond(&self, id: RequestId, whole: Whole<'_>) -> Responded {
        self.reactor.respond(id, whole)
    }

    fn send_pieces(&self, id: RequestId, pieces: Pieces) -> Flow {
        self.reactor.send_pieces(id, pieces)
    }

    fn send(&self, id: RequestId, piece: Outgoing) -> Flow {
        self.reactor.send(id, piece, false)
    }

    fn run_deferred_drops(&self) {
        self.reactor.run_deferred_drops();
    }

    fn finish(&self, id: RequestId, keep: bool) {
        self.reactor.finish(id, keep);
    }

    fn abort(&self, id: RequestId) {
        self.reactor.abort(id);
    }

    fn is_closed(&self, id: RequestId) -> bool {
        self.reactor.is_closed(id)
    }

    fn is_half_closed(&self, id: RequestId) -> bool {
        self.reactor.is_half_closed(id)
    }

    fn hijack(&self, id: RequestId) -> io::Result<Hijacked> {
        self.reactor.hijack(id)
    }

    fn log_access(&self, request: &Request, facts: &AccessFacts<'_>) {
        self.reactor.handles().log_access(request, facts);
    }

    fn wait_sent(&self, py: Python<'_>, id: RequestId) -> PyResult<Waited> {
        self.pool.wait_sent(py, &self.reactor, id)?;
        Ok(if self.reactor.is_closed(id) { Waited::Closed } else { Waited::Ready })
    }

    fn is_turn_over(&self, begun: Instant) -> bool {
        self.reactor.is_turn_over(begun)
    }

    fn give_way(&self, py: Python<'_>, id: RequestId) -> PyResult<Waited> {
        self.pool.give_way(py, &self.reactor, id)?;
        Ok(if self.reactor.is_closed(id) { Waited::Closed } else { Waited::Ready })
    }

    fn waits_for_reader(&self) -> bool {
        true
    }

    fn frees_before_close(&self) -> bool {
        false
    }

    fn read_body(&self, id: RequestId, bytes_max: usize) -> BodyRead {
        self.reactor.read_body(id, bytes_max)
    }

    fn wait_body(&self, py: Python<'_>, id: RequestId) -> PyResult<()> {
        self.pool.wait_body(py, &self.reactor, id)
    }

    fn is_killed(&self, py: Python<'_>, error: &PyErr) -> bool {
        self.pool.is_exit(py, error)
    }
}

/// The application in cooperative mode.
pub struct GreenletApp {
    wsgi: Rc<WsgiApp>,
    responder: Rc<GreenletResponder>,
    watch: Arc<Watch>,
}

impl GreenletApp {
    /// Makes the application of `config` for the reactor's thread, which is this one and whose hub runs our
    /// loop.
    ///
    /// # Errors
    /// `MemoryError`, and any error of importing gevent and the modules that the shared objects come from.
    pub fn new(py: Python<'_>, config: &WsgiConfig, reactor: &Rc<Reactor>) -> PyResult<Rc<Self>> {
        let pool = GreenletPool::new(py)?;
        config.watch.describe_by(InProgress::describe(&pool.running));
        let responder = Rc::new(GreenletResponder { reactor: Rc::clone(reactor), pool });
        let wsgi = Rc::new(WsgiApp::new(py, config, WorkerFacts::of(reactor), responder.clone())?);
        current::set(responder.clone());
        let app = Rc::new(Self { wsgi, responder, watch: Arc::clone(&config.watch) });
        let former = SERVING.replace(Some(Rc::clone(&app)));
        drop(former);
        Ok(app)
    }

    /// Begins a turn of the loop: hands queued records of the error log over, and looks after greenlets that have
    /// not begun. To be called where nothing is borrowed.
    pub fn begin_turn(&self, py: Python<'_>) {
        self.wsgi.relay_logs();
        self.abort_unbegun(py);
    }

    /// Closes the connections of requests whose greenlets were killed before they began.
    fn abort_unbegun(&self, py: Python<'_>) {
        if self.responder.pool.starting.borrow().is_empty() || self.is_forked_child() {
            return;
        }
        for id in self.responder.pool.end_unbegun(py) {
            self.responder.reactor.abort(id);
        }
    }

    /// Returns the greenlets of the requests in progress.
    ///
    /// # Errors
    /// `MemoryError`.
    pub fn running<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.responder.pool.running(py)
    }

    /// Ends the application's part when the worker leaves: requests find no way to it any more.
    pub fn close(&self) {
        current::clear();
        let app = SERVING.take();
        drop(app);
    }

    /// Runs the request whose greenlet has just begun.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        if self.wsgi.is_forked_copy() {
            // Requests that had not begun when the application forked are the parent's.
            return Ok(());
        }
        let Some((request, place)) = self.responder.pool.begin(py)? else { return Ok(()) };
        let (id, reactor) = (request.id, &self.responder.reactor);
        reactor.begin_work(id);
        self.wsgi.start_guarded(py, request);
        if self.wsgi.is_forked_copy() {
            // The application has forked in here: the child leaves, and the client is its parent's.
            let status = self.wsgi.worker.control.quitting().unwrap_or(0);
            return Err(PySystemExit::new_err(status));
        }
        self.responder.pool.running.remove(py, place);
        reactor.end_work(id);
        Ok(())
    }

    /// Runs `work` on behalf of a request; see [`watched`].
    fn serve(&self, reactor: &Reactor, id: RequestId, now: Instant, work: impl FnOnce(Python<'_>)) {
        watched(&self.watch, now, work, || {
            if !self.is_forked_child() {
                reactor.abort(id);
            }
        });
    }

    fn wake(&self, reactor: &Reactor, id: RequestId) {
        self.serve(reactor, id, reactor.now(), |py| self.responder.pool.wake(py, id));
    }
}

impl App for GreenletApp {
    fn blocking(&self, wait: &mut dyn FnMut()) {
        crate::py::blocking(wait);
    }

    fn check_signals(&self, _: bool) -> Result<(), ExitStatus> {
        self.wsgi.relay_logs();
        check_signals(&self.wsgi.worker.errors)
    }

    fn call(&self, reactor: &Reactor, request: Box<Request>) {
        let id = request.id;
        self.serve(reactor, id, request.begun, |py| {
            let spawned = self.responder.pool.spawn(py, request);
            if self.is_forked_child() {
                return;
            }
            if let Err(error) = spawned {
                error.write_unraisable(py, None);
                self.responder.pool.end_if_unbegun(py, id);
                reactor.abort(id);
            }
            self.abort_unbegun(py);
        });
    }

    fn resume(&self, reactor: &Reactor, id: RequestId) {
        self.wake(reactor, id);
    }

    fn abandon(&self, reactor: &Reactor, id: RequestId) {
        self.wake(reactor, id);
    }

    fn refused(&self, reactor: &Reactor, request: Box<Request>, status: u16) {
        reactor.handles().log_access(&request, &log_line::without_application(status));
        let Some(hooks) = self.wsgi.hooks.as_ref().filter(|hooks| hooks.access.is_some()) else { return };
        self.serve(reactor, request.id, reactor.now(), |py| {
            // A logger may wait, which the hub's own greenlet cannot.
            let spawned = hooks
                .refusal_call(py, &request, status)
                .and_then(|call| self.responder.pool.maker.class(py).call_method1("spawn", call));
            if let Err(error) = spawned {
                error.write_unraisable(py, None);
            }
        });
    }

    fn is_forked_child(&self) -> bool {
        self.wsgi.is_forked_copy()
    }
}
