//! A worker whose requests run in greenlets: which applications get it, and how the reactor's turns become
//! part of the gevent loop's.

use std::cell::{Cell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PySystemExit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::gevent::{self, Guest, Patched};
use crate::py::{Greenlets, Watch, exit_status, format_exception};
use crate::wsgi::GreenletApp;
use rgunicorn_io::driver::{Completion, Driver};
use rgunicorn_server::log::{ErrorLog, Level};
use rgunicorn_server::worker::Reactor;
use rgunicorn_settings::{Settings, WorkerKind};

/// Gunicorn's gevent worker asks for this version: the first one that is right on all Pythons we run on.
const GEVENT_LEAST: (u32, u32, u32) = (24, 10, 1);
/// The advice to operators who do not have it.
const INSTALL: &str = "pip install 'rgunicorn[gevent]'";
/// How long greenlets that did not end within `graceful_timeout` have to end when they are killed, in
/// seconds. Gunicorn's number.
const KILL_PATIENCE_S: f64 = 1.0;

/// How a worker runs the application's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestMode {
    /// One at a time, on the loop's thread.
    Direct,
    /// Each in a greenlet.
    Greenlets,
    /// In so many threads beside the loop's.
    Threads(usize),
}

/// The answer to the question how requests run.
pub(super) enum Decided {
    /// In this way.
    Mode(RequestMode),
    /// Not at all: the `gevent` worker cannot have its loop, for this reason.
    Refused(String),
}

/// Decides how requests run, and says so in the log, with the reason. `threads`: how many the configuration
/// asks for; 0: none.
///
/// # Errors
/// The exceptions of gevent.
pub(super) fn decide(
    py: Python<'_>,
    kind: WorkerKind,
    threads: usize,
    errors: &ErrorLog,
) -> PyResult<Decided> {
    let pid = std::process::id();
    let direct = |level, reason: &str| {
        errors.log(level, format_args!("Worker {pid} runs one request at a time: {reason}"));
        Ok(Decided::Mode(RequestMode::Direct))
    };
    let otherwise = |level, reason: &str| {
        if threads == 0 {
            return direct(level, reason);
        }
        let s = if threads == 1 { "" } else { "s" };
        errors.log(level, format_args!("Worker {pid} runs requests in {threads} thread{s}: {reason}"));
        Ok(Decided::Mode(RequestMode::Threads(threads)))
    };
    let missing = match gevent::patched(py)? {
        _ if kind == WorkerKind::Sync => return Ok(Decided::Mode(RequestMode::Direct)),
        Patched::NotUsed => return otherwise(Level::Info, "the application does not use gevent"),
        Patched::No => {
            return otherwise(
                Level::Info,
                "gevent is imported, but nothing is patched (gevent.monkey.patch_all)",
            );
        }
        Patched::TooLittle(missing) => {
            let reason = format!(
                "gevent has not patched {}, which requests in greenlets need (gevent.monkey.patch_all)",
                missing.join(", ")
            );
            // Patched threads are greenlets, which no hub would run.
            let threads_are_real = missing.contains(&"threading");
            return if threads_are_real {
                otherwise(Level::Warning, &reason)
            } else {
                direct(Level::Warning, &reason)
            };
        }
        Patched::Yes(missing) => missing,
    };
    if let Some(reason) = gevent::check_compat(py, GEVENT_LEAST) {
        return direct(Level::Warning, &format!("{reason}; {INSTALL}"));
    }
    if gevent::hub_loop(py)?.is_none() {
        let reason = "gevent's hub was made before rgunicorn's loop could be chosen: set GEVENT_LOOP=rgunicorn.gevent.Loop, \
                      or use nothing of gevent but patching before the application is imported";
        if kind == WorkerKind::Gevent {
            return Ok(Decided::Refused(reason.to_owned()));
        }
        return direct(Level::Warning, reason);
    }
    log_greenlets(py, errors, &missing)?;
    Ok(Decided::Mode(RequestMode::Greenlets))
}

/// Logs that requests run in greenlets, and what gevent has not patched.
fn log_greenlets(py: Python<'_>, errors: &ErrorLog, missing: &[&str]) -> PyResult<()> {
    let version: String = py.import("gevent")?.getattr("__version__")?.extract()?;
    let pid = std::process::id();
    errors.log(Level::Info, format_args!("Worker {pid} runs requests in greenlets (gevent {version})"));
    if !missing.is_empty() {
        errors.log(
            Level::Warning,
            format_args!(
                "Not patched by gevent: {}. Where the application waits in them, all requests of worker {pid} wait",
                missing.join(", ")
            ),
        );
    }
    Ok(())
}

/// Prepares the process for the worker type's use of gevent, before anything of the application is imported.
///
/// # Errors
/// The text for the operator: gevent is missing, or fails.
pub(super) fn prepare_gevent(py: Python<'_>, settings: &Settings) -> Result<(), String> {
    let done = match settings.worker_kind() {
        Ok(WorkerKind::Gevent) => {
            if let Some(reason) = gevent::import_objection(py, GEVENT_LEAST) {
                return Err(format!("Error: the gevent worker needs gevent: {reason}. {INSTALL}"));
            }
            gevent::install_loop(py)
        }
        Ok(WorkerKind::Uring | WorkerKind::Gthread) => gevent::install_loop(py),
        Ok(WorkerKind::Sync) | Err(_) => gevent::uninstall_loop(py),
    };
    done.map_err(|error| format_exception(py, &error))
}

/// The reactor as the loop's guest.
struct Serving {
    reactor: Rc<Reactor>,
    calls: Rc<GreenletApp>,
    greenlets: Greenlets,
    /// The main greenlet, which waits for the end.
    main: Py<PyAny>,
    /// The worker leaves with this status; what is in progress is being ended.
    status: Cell<Option<i32>>,
    /// That is done, too.
    is_over: Cell<bool>,
}

impl Guest for Serving {
    fn driver(&self) -> RefMut<'_, Driver> {
        self.reactor.driver()
    }

    fn begin_turn(&self) {
        self.calls.relay_logs();
        if self.status.get().is_some() {
            return;
        }
        let Some(status) = self.reactor.begin_turn(&*self.calls) else { return };
        self.status.set(Some(status));
        // The main greenlet goes on, and leaves. It comes back here for the ends of those that it kills.
        Python::attach(|py| {
            if let Err(error) = self.greenlets.switch(py, self.main.bind(py)) {
                error.write_unraisable(py, None);
            }
        });
    }

    fn is_serving(&self) -> bool {
        !self.is_over.get()
    }

    fn before_work(&self) {
        self.reactor.before_work();
    }

    fn after_work(&self) {
        self.reactor.after_work();
    }

    fn before_wait(&self) -> Duration {
        self.reactor.before_wait()
    }

    fn after_wait(&self, completions: &mut Vec<Completion>) {
        self.reactor.after_wait(completions);
    }

    fn work(&self) {
        self.reactor.run_jobs(&*self.calls);
        if !rgunicorn_server::worker::App::is_forked_child(&*self.calls) {
            self.reactor.end_turn();
        }
    }
}

/// Serves until the worker is to leave; its exit status.
///
/// # Errors
/// Those of gevent.
pub(super) fn serve(
    py: Python<'_>,
    reactor: &Rc<Reactor>,
    (calls, watch): (&Rc<GreenletApp>, &Arc<Watch>),
) -> PyResult<i32> {
    let greenlets = Greenlets::import(py)?;
    let Some(ours) = gevent::hub_loop(py)? else {
        return Err(pyo3::exceptions::PyRuntimeError::new_err("the hub has another loop"));
    };
    let main = greenlets.current(py)?.unbind();
    let serving = Rc::new(Serving {
        reactor: reactor.clone(),
        calls: calls.clone(),
        greenlets,
        main,
        status: Cell::new(None),
        is_over: Cell::new(false),
    });
    ours.get().share(py, serving.clone(), watch.clone())?;
    let hub = py.import("gevent")?.call_method0("get_hub")?;
    while serving.status.get().is_none() {
        // Comes back by `begin_turn`, or by an exception that the hub passes on to the main greenlet: a signal handler
        // leaves, or the loop cannot go on.
        if let Err(error) = hub.call_method0(intern!(py, "switch")) {
            serving.status.set(Some(left_by(py, reactor, &error)));
        }
    }
    let status = serving.status.get().unwrap_or(0);
    if rgunicorn_server::worker::App::is_forked_child(&**calls) {
        serving.is_over.set(true);
        return Ok(status);
    }
    reactor.leave();
    let killed = kill_rest(py, reactor, calls);
    // Whoever lets the hub run from now on (an `atexit` function) does so with a plain loop.
    serving.is_over.set(true);
    reactor.driver().flush();
    killed.map(|()| status)
}

/// An exception has reached the main greenlet: the status to leave with.
fn left_by(py: Python<'_>, reactor: &Reactor, error: &PyErr) -> i32 {
    if error.is_instance_of::<PySystemExit>(py) {
        return reactor.handles().control.quitting().unwrap_or_else(|| exit_status(py, error));
    }
    let text = format_exception(py, error);
    reactor.handles().errors.log(Level::Error, format_args!("Exception in worker process\n{text}"));
    1
}

/// Requests that are still in progress when the worker leaves are killed, as under Gunicorn: their `finally` clauses run.
fn kill_rest(py: Python<'_>, reactor: &Reactor, calls: &GreenletApp) -> PyResult<()> {
    let running = calls.running(py)?;
    if running.is_empty() {
        return Ok(());
    }
    if reactor.handles().control.quitting().is_none() {
        let pid = std::process::id();
        let errors = &reactor.handles().errors;
        errors.log(Level::Warning, format_args!("Worker graceful timeout (pid:{pid})"));
    }
    let kwargs = PyDict::new(py);
    kwargs.set_item("timeout", KILL_PATIENCE_S)?;
    let killed = py.import("gevent")?.call_method("killall", (running,), Some(&kwargs));
    if let Err(error) = killed {
        error.write_unraisable(py, None);
    }
    Ok(())
}
