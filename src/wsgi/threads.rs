//! Threads mode: the loop, on the main thread, only receives and sends; the application runs in threads of
//! its own, one request at a time in each. They are Python's threads (`threading.Thread`), so that
//! `threading.local` keeps what an application puts there from one request to the next, as under Gunicorn's
//! gthread worker.
//!
//! The loop never holds the interpreter lock while it works: a thread that keeps it busy holds up the other
//! threads, and no connection.

use std::rc::Rc;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

use crate::py::{Describe, GilCell, QueueListener};
use rgunicorn_io::sys::{atfork, clock, process};
use rgunicorn_server::log::Level;
use rgunicorn_server::worker::{App, ExitStatus, Reactor, Request, RequestId, RequestQueue};

use super::app::{WsgiApp, WsgiConfig, check_signals};
use super::current;
use super::log_line;
use super::remote::{ASK_AFTER, RemoteResponder, ThreadContext};
use super::responder::Waited;
use super::running::Line;

/// The time for each thread to end when the worker leaves, in seconds. Threads at work on requests were
/// waited for before.
const JOIN_PATIENCE_S: f64 = 0.1;

/// The application's threads, as the loop sees them.
pub struct Threads {
    pool: Arc<RequestQueue>,
    context: ThreadContext,
    threads: Vec<Py<PyAny>>,
    listener: Option<Arc<QueueListener>>,
    /// A logger of the configuration's writes access records: in the threads.
    records_by_python: bool,
    forks: u32,
}

impl Threads {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// `RuntimeError` when there can be no further thread.
    pub fn start(
        py: Python<'_>,
        count: usize,
        context: ThreadContext,
        wsgi_config: WsgiConfig,
    ) -> PyResult<Self> {
        let pool = Arc::new(RequestQueue::default());
        let running: Arc<RunningRequests> =
            Arc::new(GilCell::new((0..count).map(|_| Line::default()).collect()));
        wsgi_config.watch.describe_by(describe(&running));
        let listener = wsgi_config.listener.clone();
        let records_by_python = wsgi_config.hooks.as_ref().is_some_and(|hooks| hooks.access.is_some());
        let wsgi_config = Arc::new(wsgi_config);
        let class = py.import("threading")?.getattr("Thread")?;
        // Whole from here on: where a thread, or a signal handler, raises, its drop lets the others go.
        let forks = atfork::generation();
        let mut this = Self { pool, context, threads: Vec::new(), listener, records_by_python, forks };
        for number in 0..count {
            let (pool, context) = (Arc::clone(&this.pool), this.context.clone());
            let (wsgi_config, running) = (Arc::clone(&wsgi_config), Arc::clone(&running));
            let main = Py::new(py, ThreadMain { wsgi_config, pool, context, running, number })?;
            let kwargs = PyDict::new(py);
            kwargs.set_item("target", main)?;
            // The name that they have under Gunicorn.
            kwargs.set_item("name", format!("ThreadPoolExecutor-0_{number}"))?;
            // Threads that the application starts in a request inherit it: as under Gunicorn, the end of the process
            // waits for their work. It does not wait for one of these that hangs: see `leave_process`.
            kwargs.set_item("daemon", false)?;
            let thread = class.call((), Some(&kwargs))?;
            thread.call_method0("start")?;
            this.threads.push(thread.unbind());
        }
        Ok(this)
    }

    /// Shows a worker's object its threads, and how many requests wait for one.
    ///
    /// # Errors
    /// Those of attributes.
    pub fn show(&self, py: Python<'_>, worker: &Bound<'_, PyAny>) -> PyResult<()> {
        let shown = worker.getattr("tpool")?;
        if shown.is_none() {
            return Ok(());
        }
        let all = shown.getattr("_threads")?;
        for thread in &self.threads {
            all.call_method1("add", (thread,))?;
        }
        let pool = Arc::clone(&self.pool);
        let count = PyCFunction::new_closure(
            py,
            Some(c"waiting"),
            None,
            move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| pool.waiting_count(),
        )?;
        shown.getattr("_work_queue")?.setattr("_waiting", count)
    }

    /// Ends the threads when the loop is over. `false`: some are still at work, and the interpreter must not
    /// be finalized under them.
    pub fn finish(&self, py: Python<'_>) -> bool {
        self.pool.close();
        self.context.mailbox.close();
        self.context.waiters.clear();
        let is_over = |thread: &Py<PyAny>| -> PyResult<bool> {
            thread.call_method1(py, "join", (JOIN_PATIENCE_S,))?;
            Ok(!thread.call_method0(py, "is_alive")?.extract(py)?)
        };
        // One that does not end within its time is enough; the others would not be waited for either.
        self.threads.iter().all(|thread| is_over(thread).unwrap_or(false))
    }
}

impl Drop for Threads {
    /// Lets the threads go also where the worker does not get as far as its loop: the interpreter's end waits for them.
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl App for Threads {
    // The loop's thread does not hold the interpreter lock.
    fn blocking(&self, wait: &mut dyn FnMut()) {
        wait();
    }

    fn check_signals(&self, arrived: bool) -> Result<(), ExitStatus> {
        if let Some(listener) = &self.listener {
            listener.relay();
        }
        if arrived { check_signals(&self.context.worker.errors) } else { Ok(()) }
    }

    fn call(&self, reactor: &Reactor, mut request: Box<Request>) {
        let id = request.id;
        request.keep_alive &= reactor.has_idle_room();
        reactor.begin_work(id);
        end_refused(reactor, self.pool.push(request));
    }

    fn resume(&self, _: &Reactor, id: RequestId) {
        self.context.waiters.answer(id, Waited::Ready);
    }

    fn abandon(&self, _: &Reactor, id: RequestId) {
        self.context.waiters.answer(id, Waited::Closed);
    }

    fn refused(&self, reactor: &Reactor, mut request: Box<Request>, status: u16) {
        reactor.handles().log_access(&request, &log_line::without_application(status));
        if self.records_by_python {
            request.refused = Some(status);
            // Lost if the worker leaves: its threads take nothing any more.
            drop(self.pool.push(request));
        }
    }

    fn take_back(&self, wanted: &dyn Fn(&Request) -> bool) -> Option<Box<Request>> {
        self.pool.take_waiting(wanted)
    }

    fn put_back(&self, reactor: &Reactor, request: Box<Request>) {
        end_refused(reactor, self.pool.put_back(request));
    }

    fn waiting_bytes(&self) -> usize {
        self.pool.held_bytes()
    }

    fn is_forked_child(&self) -> bool {
        atfork::generation() != self.forks
    }
}

/// Ends a request that no thread will take any more.
fn end_refused(reactor: &Reactor, pushed: Result<(), Box<Request>>) {
    if let Err(request) = pushed {
        reactor.abort(request.id);
        reactor.end_work(request.id);
    }
}

/// The request at work in each thread, if there is one.
type RunningRequests = GilCell<Vec<Line>>;

/// Returns the maker of a line for each request at work, for reports of an aborted worker.
fn describe(running: &Arc<RunningRequests>) -> Describe {
    let running = Arc::clone(running);
    Box::new(move |py| {
        running.with(py, |all| all.iter().filter(|line| !line.is_empty()).map(Line::text).collect())
    })
}

/// The function that one thread runs.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
struct ThreadMain {
    wsgi_config: Arc<WsgiConfig>,
    pool: Arc<RequestQueue>,
    context: ThreadContext,
    running: Arc<RunningRequests>,
    number: usize,
}

#[pymethods]
impl ThreadMain {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let remote = Rc::new(RemoteResponder::new(self.context.clone()));
        let worker = self.context.worker.clone();
        let app = Rc::new(WsgiApp::new(py, &self.wsgi_config, worker, remote.clone())?);
        current::set(remote.clone());
        while let Some(request) = py.detach(|| self.pool.take()) {
            self.note(py, |line| line.note(&request));
            serve(py, &remote, &app, request);
            self.note(py, Line::clear);
        }
        current::clear();
        Ok(())
    }
}

impl ThreadMain {
    /// Changes what is known of this thread's request.
    fn note(&self, py: Python<'_>, change: impl FnOnce(&mut Line)) {
        self.running.with(py, |all| {
            all.get_mut(self.number).map(change);
        });
    }
}

/// Serves one request, from beginning to end.
fn serve(py: Python<'_>, remote: &RemoteResponder, app: &WsgiApp, request: Box<Request>) {
    if let Some(status) = request.refused {
        return app.record_refused(py, &request, status);
    }
    remote.begin(request.id);
    if is_abandoned(remote, &request) {
        app.worker.errors.log(Level::Debug, format_args!("The client has left before its request's turn"));
        remote.abandon(&request);
    } else {
        app.start_guarded(py, request);
        if app.is_forked_copy() {
            // Of the process's threads the application's child has only this one, which now is all of it.
            leave_process(py, app.worker.control.quitting().unwrap_or(0));
        }
    }
    remote.end();
}

fn is_abandoned(remote: &RemoteResponder, request: &Request) -> bool {
    let (id, arrived, now) = (request.id, request.arrived, clock::now());
    now.since(arrived) >= ASK_AFTER
        && remote.ask(move |reactor| reactor.is_abandoned(id, arrived, now)).unwrap_or(true)
}

/// Ends the process while threads are at work, which the interpreter's own end would not survive: they would
/// come out of their calls into an interpreter that is no more. What Python does at its end for the program's
/// sake is done.
pub fn leave_process(py: Python<'_>, status: i32) -> ! {
    let tidy = || -> PyResult<()> {
        py.import("atexit")?.call_method0("_run_exitfuncs")?;
        let sys = py.import("sys")?;
        for name in ["stdout", "stderr"] {
            let stream = sys.getattr(name)?;
            if !stream.is_none() {
                stream.call_method0("flush")?;
            }
        }
        Ok(())
    };
    if let Err(error) = tidy() {
        error.write_unraisable(py, Some(&PyTuple::empty(py)));
    }
    process::exit_now(status)
}
