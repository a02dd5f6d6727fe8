//! Cooperative mode: every request runs in a greenlet of its own, and waits by giving control to gevent's hub, which runs
//! our loop. One worker then has thousands of requests in progress.
//!
//! A request's greenlet is a `gevent.Greenlet`, as under Gunicorn's gevent worker: applications ask for `getcurrent()`,
//! kill it, link to it, and keep things in `gevent.local`. It is new for each request, so that nothing of the one before is
//! found in there.
//!
//! Who waits for its client (`GreenletPool::drained`, `GreenletPool::body`) leaves its name here and switches to the hub; the reactor's
//! `resume` or `abandon` switches back. Both sides look again after every switch: others may switch to a greenlet, too.
//! What is thrown into a waiting greenlet (`kill`, `Timeout`) comes out of the wait as an error.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::py::{Describe, GilCell, Greenlets, assert_no_borrow, catch_panic};
use rgunicorn_server::worker::{Reactor, Request, RequestId};

use super::current::{calls, reactor};
use super::link::Link;
use super::running::Line;

/// What cooperative mode adds to the application's calls.
pub(super) struct GreenletPool {
    greenlets: Greenlets,
    hub: Py<PyAny>,
    greenlet_class: Py<PyAny>,
    exit_class: Py<PyAny>,
    serve: Py<ServeRequest>,
    /// Requests whose greenlet has not begun yet.
    waiting: RefCell<HashMap<RequestId, Request>>,
    running: Arc<InProgress>,
    /// Greenlets that wait for a connection; more than one if an application shares its request among greenlets.
    suspended: RefCell<HashMap<RequestId, Vec<Py<PyAny>>>>,
}

/// The greenlet of each request in progress, and what it was asked for. Reports of a blocked loop are made from it, on another
/// thread.
#[derive(Default)]
struct InProgress(GilCell<HashMap<RequestId, (Py<PyAny>, Line)>>);

impl InProgress {
    /// A line for each request: the one that runs first; all of them, and what else it might be, if none does.
    fn describe(this: &Arc<Self>) -> Describe {
        let this = this.clone();
        Box::new(move |py| {
            let all: Vec<(Py<PyAny>, String)> = this.0.with(py, |all| {
                all.values().map(|(greenlet, line)| (greenlet.clone_ref(py), line.text())).collect()
            });
            // A greenlet that is switched out has a frame to show, the running one has not.
            let runs =
                |greenlet: &Py<PyAny>| greenlet.getattr(py, "gr_frame").is_ok_and(|frame| frame.is_none(py));
            if let Some((_, text)) = all.iter().find(|(greenlet, _)| runs(greenlet)) {
                return vec![text.clone()];
            }
            let others = format!("no request of {}: a callback, or a greenlet of the application", all.len());
            vec![others]
        })
    }
}

impl GreenletPool {
    /// How reports learn about the requests in progress.
    pub(super) fn describe(&self) -> Describe {
        InProgress::describe(&self.running)
    }

    /// For this thread's hub, which must run our loop.
    ///
    /// # Errors
    /// Those of importing gevent.
    pub(super) fn new(py: Python<'_>) -> PyResult<Self> {
        let gevent = py.import("gevent")?;
        Ok(Self {
            greenlets: Greenlets::import(py)?,
            hub: gevent.getattr("get_hub")?.call0()?.unbind(),
            greenlet_class: gevent.getattr("Greenlet")?.unbind(),
            exit_class: gevent.getattr("GreenletExit")?.unbind(),
            serve: Py::new(py, ServeRequest)?,
            waiting: RefCell::default(),
            running: Arc::default(),
            suspended: RefCell::default(),
        })
    }

    /// Runs a request in a new greenlet, up to the first time that it waits for anything.
    ///
    /// # Errors
    /// Those of making a greenlet. The request is over then.
    pub(super) fn spawn(&self, py: Python<'_>, request: Request) -> PyResult<()> {
        let conn = request.id;
        let greenlet = self.greenlet_class.bind(py).call1((&self.serve, conn.to_raw()))?;
        let line = Line::of(&request);
        self.waiting.borrow_mut().insert(conn, request);
        let entry = (greenlet.clone().unbind(), line);
        let before = self.running.0.with(py, |all| all.insert(conn, entry));
        drop(before);
        self.go_on(py, &greenlet)
    }

    /// Switches to a greenlet, from the hub.
    fn go_on(&self, py: Python<'_>, greenlet: &Bound<'_, PyAny>) -> PyResult<()> {
        catch_panic(|| self.greenlets.switch(py, greenlet)).map(drop)
    }

    /// The request of a greenlet that begins.
    fn begin(&self, conn: RequestId) -> Option<Request> {
        self.waiting.borrow_mut().remove(&conn)
    }

    /// A greenlet's request is over.
    fn end(&self, py: Python<'_>, conn: RequestId) {
        let over = self.running.0.with(py, |all| all.remove(&conn));
        drop(over);
    }

    /// The connection has news for those who wait for it.
    pub(super) fn wake(&self, py: Python<'_>, conn: RequestId) {
        let count = self.suspended.borrow().get(&conn).map_or(0, Vec::len);
        // One at a time: each may let the others go on, or wait again.
        for _ in 0..count {
            let first = self
                .suspended
                .borrow_mut()
                .get_mut(&conn)
                .filter(|all| !all.is_empty())
                .map(|all| all.remove(0));
            let Some(greenlet) = first else { return };
            if let Err(error) = self.go_on(py, greenlet.bind(py)) {
                error.write_unraisable(py, None);
            }
        }
    }

    /// Waiters until the output queue of a connection is empty, or the connection gone.
    ///
    /// # Errors
    /// What is thrown into this greenlet.
    pub(super) fn drained(&self, py: Python<'_>, reactor: &Reactor, conn: RequestId) -> PyResult<()> {
        while self.may_wait(py)? && reactor.park(conn) {
            self.suspend(py, conn)?;
        }
        Ok(())
    }

    /// Waiters until there is something to read of a request body, or nothing more will come.
    ///
    /// # Errors
    /// What is thrown into this greenlet, and `RuntimeError` in the hub, which cannot wait.
    pub(super) fn body(&self, py: Python<'_>, reactor: &Reactor, conn: RequestId) -> PyResult<()> {
        if !self.may_wait(py)? {
            return Err(PyRuntimeError::new_err("a request body cannot be waited for in the hub"));
        }
        while reactor.await_body(conn) {
            self.suspend(py, conn)?;
        }
        Ok(())
    }

    /// Lets others run.
    ///
    /// # Errors
    /// What is thrown into this greenlet.
    pub(super) fn give_way(&self, py: Python<'_>, reactor: &Reactor, conn: RequestId) -> PyResult<()> {
        if self.may_wait(py)? {
            reactor.yield_turn(conn);
            self.suspend(py, conn)?;
        }
        Ok(())
    }

    /// Whether the running greenlet can wait: the hub is who is waited with.
    fn may_wait(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(!self.greenlets.current(py)?.is(&self.hub))
    }

    /// Waiters until the reactor has news of a connection, or somebody else switches here.
    fn suspend(&self, py: Python<'_>, conn: RequestId) -> PyResult<()> {
        let me = self.greenlets.current(py)?;
        self.suspended.borrow_mut().entry(conn).or_default().push(me.clone().unbind());
        assert_no_borrow();
        // The hub's own method: it tells the greenlet that it is switched out.
        let back = catch_panic(|| self.hub.bind(py).call_method0(intern!(py, "switch")).map(drop));
        let mine = {
            let mut suspended = self.suspended.borrow_mut();
            let list = suspended.get_mut(&conn);
            let at = list.as_ref().and_then(|list| list.iter().position(|other| other.is(&me)));
            let mine = list.zip(at).map(|(list, at)| list.swap_remove(at));
            if suspended.get(&conn).is_some_and(Vec::is_empty) {
                suspended.remove(&conn);
            }
            mine
        };
        drop(mine);
        back
    }

    /// Whether an error is the quiet end of a greenlet that was killed.
    pub(super) fn is_exit(&self, py: Python<'_>, error: &PyErr) -> bool {
        error.is_instance(py, self.exit_class.bind(py))
    }

    /// The greenlets of the requests in progress, for whoever ends them or tells of them.
    pub(super) fn running<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let all: Vec<Py<PyAny>> =
            self.running.0.with(py, |all| all.values().map(|(greenlet, _)| greenlet.clone_ref(py)).collect());
        PyList::new(py, all)
    }
}

/// What a request's greenlet runs.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
struct ServeRequest;

#[pymethods]
impl ServeRequest {
    fn __call__(&self, py: Python<'_>, ticket: u64) -> PyResult<()> {
        let conn = RequestId::from_raw(ticket);
        // Counted handles, on the heap: this frame may be copied away and never come back.
        let (calls, reactor) = (calls()?, reactor()?);
        let Some(greenlets) = calls.greenlets() else {
            return Err(PyRuntimeError::new_err("the worker is over"));
        };
        let Some(request) = greenlets.begin(conn) else { return Ok(()) };
        reactor.begin_work(conn);
        calls.guarded_start(py, Link::Loop(&reactor), request);
        if calls.is_forked_copy() {
            // The application has forked in here: the child leaves, and the client is its parent's.
            let status = reactor.handles().control.quitting().unwrap_or(0);
            return Err(PySystemExit::new_err(status));
        }
        greenlets.end(py, conn);
        reactor.end_work(conn);
        Ok(())
    }
}
