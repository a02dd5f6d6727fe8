//! Floor 5: composition. `main` turns the command line into a running server; it joins the floors and decides nothing
//! that one of them could decide.
//!
//! Read it in this order: here (start-up in Gunicorn's order), `sources` (settings from all sources), `setup` (their
//! translation for the floors below), `launch` and `daemon`, `logs`, `host` (what the arbiter asks of us), `worker` (the
//! life of a worker).

mod cooperative;
mod daemon;
mod host;
mod launch;
mod logs;
mod reloader;
mod setup;
mod sources;
mod worker;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

use crate::arbiter;
use crate::gevent;
use crate::py::{exit_status, format_exception};
use crate::settings::{Settings, WorkerKind};
use crate::wsgi::{self, LoadError};

use host::Server;
use logs::Logs;
use setup::arbiter_config;
use sources::Sources;

/// The name of the program in messages.
const PROG: &str = "rgunicorn";

/// Leaves with this status; the messages have been written.
pub(crate) struct Leave(pub(crate) i32);

/// Runs the server with these arguments (without the program's name) and returns the exit status, in the master and
/// in each worker.
pub(crate) fn main(py: Python<'_>, argv: Vec<String>) -> i32 {
    // Where there is no /dev/null, closed streams stay closed.
    drop(crate::sys::file::open_missing_standard_streams());
    match start(py, argv) {
        Ok(mut server) => {
            let start = server.start.take();
            let status = start.map_or(1, |(config, launch)| arbiter::run(&mut server, config, launch));
            if server.has_busy_threads {
                wsgi::leave_process(py, status);
            }
            status
        }
        Err(Leave(status)) => status,
    }
}

/// Everything up to the arbiter's own start.
fn start(py: Python<'_>, argv: Vec<String>) -> Result<Server, Leave> {
    let sources = Sources::of_process(argv).map_err(|exit| {
        write_text(py, &exit.stdout, &exit.stderr);
        Leave(exit.status)
    })?;
    let start_directory = sources.start_directory();
    // The master before this one is a daemon, and so are its children.
    let is_detached = std::env::var_os(arbiter::SOCKETS_VARIABLE).is_some();
    let launch =
        launch::of_process(py, start_directory).map_err(|text| complain(py, &format!("Error: {text}")))?;
    // A hub that the configuration file makes runs our loop, too.
    gevent::prefer_loop(py).map_err(|error| complain(py, &format_exception(py, &error)))?;
    let (settings, hooks) = sources.read(py).map_err(|refused| {
        complain(py, &refused.stderr);
        Leave(refused.status)
    })?;
    let config = arbiter_config(&settings).map_err(|text| complain(py, &text))?;
    if settings.daemon() {
        daemon::detach(py, &settings, is_detached).map_err(|text| complain(py, &text))?;
    }
    sources.enter(py, &settings).map_err(|error| complain(py, &format!("Error: {error}")))?;
    let logs = Logs::open(&settings).map_err(|text| complain(py, &text))?;
    import_for_workers(py, setup::threads(&settings) > 0);
    prepare_gevent(py, &settings).map_err(|text| complain(py, &text))?;
    let app = if settings.preload_app() { Some(preload(py, &settings, &logs)?) } else { None };
    for unknown in settings.unknown_names() {
        logs.errors.warning(format_args!("{unknown}"));
    }
    Ok(Server::new(sources, (settings, hooks), (config, launch), logs, app))
}

/// What the worker type has to do with gevent, before anything of the application is imported.
///
/// # Errors
/// What to tell the operator: gevent is missing, or fails.
fn prepare_gevent(py: Python<'_>, settings: &Settings) -> Result<(), String> {
    let done = match settings.worker_kind() {
        Ok(WorkerKind::Gevent) => {
            if let Some(reason) = gevent::import_objection(py, cooperative::GEVENT_LEAST) {
                let install = cooperative::INSTALL;
                return Err(format!("Error: the gevent worker needs gevent: {reason}. {install}"));
            }
            gevent::prefer_loop(py)
        }
        Ok(WorkerKind::Uring | WorkerKind::Gthread) => gevent::prefer_loop(py),
        Ok(WorkerKind::Sync) | Err(_) => gevent::withdraw_loop(py),
    };
    done.map_err(|error| format_exception(py, &error))
}

fn preload(py: Python<'_>, settings: &Settings, logs: &Logs) -> Result<Py<PyAny>, Leave> {
    let complain = |py, text: &str| {
        // Nobody reads the standard error of a daemon.
        if settings.daemon() {
            logs.errors.error(format_args!("{text}"));
        }
        complain(py, text)
    };
    if settings.worker_kind() == Ok(WorkerKind::Gevent) {
        // Locks and sockets that the application makes must be gevent's. A reload imports nothing here, and could not take
        // the patching back.
        gevent::patch_all(py).map_err(|error| complain(py, &format_exception(py, &error)))?;
    }
    wsgi::load(py, settings.app().unwrap_or_default()).map(Bound::unbind).map_err(|error| match error {
        LoadError::App(text) => complain(py, &text),
        // An application that leaves is believed, as Python would.
        LoadError::Raised(error) if error.is_instance_of::<PySystemExit>(py) => {
            complain(py, &sources::exit_message(py, &error));
            Leave(exit_status(py, &error))
        }
        LoadError::Raised(error) => complain(py, &format_exception(py, &error)),
    })
}

/// Imports what workers need of the standard library, once for all of them: they share the memory, and a worker that
/// became another user may not be allowed to read it.
fn import_for_workers(py: Python<'_>, threads: bool) {
    let all = ["ast", "signal", "socket", "traceback", "rgunicorn._handover", "rgunicorn._stacks"];
    for module in all.into_iter().chain(threads.then_some("threading")) {
        // Who misses it will say so.
        drop(py.import(module));
    }
}

/// Writes a message to `sys.stderr`; the status is 1.
fn complain(py: Python<'_>, text: &str) -> Leave {
    if !text.is_empty() {
        write_text(py, "", &format!("{text}\n"));
    }
    Leave(1)
}

fn write_text(py: Python<'_>, stdout: &str, stderr: &str) {
    for (name, text) in [("stdout", stdout), ("stderr", stderr)] {
        if !text.is_empty() {
            let written = py.import("sys").and_then(|sys| {
                let stream = sys.getattr(name)?;
                stream.call_method1("write", (text,))?;
                stream.call_method0("flush")
            });
            // Nowhere to say it: the stream for saying things is the one that failed.
            drop(written);
        }
    }
}
