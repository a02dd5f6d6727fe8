//! A worker that serves in greenlets: its reactor becomes a source of the hub's loop until it leaves.
//!
//! The main greenlet waits for that in here, and then ends what is still in progress.

use std::rc::Rc;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::py::{Greenlets, Watch, exit_status, format_exception};
use rgunicorn_server::log::Level;
use rgunicorn_server::worker::{App, Reactor, SourceHost, WorkerSource};

use super::monkey::current_loop;

/// How long greenlets that did not end within `graceful_timeout` have to end when they are killed, in seconds.
/// Gunicorn's number.
const KILL_TIMEOUT_S: f64 = 1.0;

/// The greenlets of a worker's requests, as far as the turns and the end of the worker are concerned.
pub trait RequestGreenlets {
    /// Begins a turn of the hub's loop. Nothing is borrowed.
    fn begin_turn(&self);

    /// Returns the greenlets of the requests in progress.
    ///
    /// # Errors
    /// `MemoryError`.
    fn running<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>>;
}

/// The main greenlet, which goes on when the worker is to leave.
struct MainGreenlet<R> {
    requests: Rc<R>,
    greenlets: Greenlets,
    main: Py<PyAny>,
}

impl<R: RequestGreenlets> SourceHost for MainGreenlet<R> {
    fn begin_turn(&self) {
        self.requests.begin_turn();
    }

    fn leave(&self) {
        // The main greenlet comes back here for the ends of those that it kills.
        Python::attach(|py| {
            if let Err(error) = self.greenlets.switch(py, self.main.bind(py)) {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// Serves `app`, whose requests run in the greenlets of `requests`, until the worker is to leave; returns its exit
/// status. `watch` is told what the loop works on.
///
/// # Errors
/// Those of gevent, and `RuntimeError` for a hub that runs another loop.
pub fn serve<A: App + 'static, R: RequestGreenlets + 'static>(
    py: Python<'_>,
    reactor: &Rc<Reactor>,
    app: &Rc<A>,
    requests: &Rc<R>,
    watch: &Arc<Watch>,
) -> PyResult<i32> {
    let Some(hub_loop) = current_loop(py)? else {
        return Err(PyRuntimeError::new_err("the hub has another loop"));
    };
    let greenlets = Greenlets::import(py)?;
    let host = MainGreenlet { requests: requests.clone(), greenlets, main: greenlets.current(py)?.unbind() };
    let source = Rc::new(WorkerSource::new(reactor.clone(), app.clone(), host));
    hub_loop.get().attach_source(py, source.clone(), watch.clone())?;
    let hub = py.import("gevent")?.call_method0("get_hub")?;
    let status = loop {
        if let Some(status) = source.status() {
            break status;
        }
        // Comes back by `SourceHost::leave`, or by an exception that the hub passes on to the main greenlet: a signal
        // handler leaves, or the loop cannot go on.
        if let Err(error) = hub.call_method0(intern!(py, "switch")) {
            source.set_status(status_of(py, reactor, &error));
        }
    };
    // Without a driver no greenlet can be waited for, and nothing can be sent.
    if app.is_forked_child() || reactor.is_broken() {
        source.end();
        return Ok(status);
    }
    reactor.leave();
    let killed = kill_rest(py, reactor, &**requests);
    // Code that lets the hub run from now on (an `atexit` function) does so with a plain loop.
    source.end();
    reactor.driver().flush();
    killed.map(|()| status)
}

/// Returns the status that a worker leaves with when an exception has reached its main greenlet.
fn status_of(py: Python<'_>, reactor: &Reactor, error: &PyErr) -> i32 {
    // The log knows already why.
    if error.is_instance_of::<PySystemExit>(py) || reactor.is_broken() {
        return reactor.handles().control.quitting().unwrap_or_else(|| exit_status(py, error));
    }
    let text = format_exception(py, error);
    reactor.handles().errors.log(Level::Error, format_args!("Exception in worker process\n{text}"));
    1
}

/// Kills the requests that are still in progress when the worker leaves, as under Gunicorn: their `finally` clauses
/// run.
fn kill_rest(py: Python<'_>, reactor: &Reactor, requests: &impl RequestGreenlets) -> PyResult<()> {
    let running = requests.running(py)?;
    if running.is_empty() {
        return Ok(());
    }
    if reactor.handles().control.quitting().is_none() {
        let pid = std::process::id();
        let errors = &reactor.handles().errors;
        errors.log(Level::Warning, format_args!("Worker graceful timeout (pid:{pid})"));
    }
    let kwargs = PyDict::new(py);
    kwargs.set_item("timeout", KILL_TIMEOUT_S)?;
    let killed = py.import("gevent")?.call_method("killall", (running,), Some(&kwargs));
    if let Err(error) = killed {
        error.write_unraisable(py, None);
    }
    Ok(())
}
