//! Composition. `main` turns the command line into a running server; it joins the floors and decides nothing
//! that one of them could decide.
//!
//! Read it in this order: here (start-up in Gunicorn's order), `sources` (settings from all sources), `setup` (their
//! translation for the floors below), `launch` and `daemon`, `logs`, `host` (what the arbiter asks of us), `worker` (the
//! life of a worker).

mod cooperative;
mod daemon;
mod hooks;
mod host;
mod launch;
mod logs;
mod reloader;
mod setup;
mod sources;
mod worker;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::conf::ConfigObjects;
use crate::gevent;
use crate::py::{exit_status, format_exception};
use crate::wsgi::{self, LoadError};
use rgunicorn_server::arbiter;
use rgunicorn_server::log::Level;
use rgunicorn_settings::{Settings, WorkerKind};

use hooks::HookRunner;
use host::Server;
use logs::Logs;
use setup::arbiter_config;
use sources::Sources;

/// The version of this package.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The name of the program in messages.
const PROG: &str = "rgunicorn";

/// Leaves with this status; the messages have been written.
pub(crate) struct StartExit(pub(crate) i32);

/// Runs the server with these arguments (without the program's name) and returns the exit status, in the master and
/// in each worker.
pub(crate) fn main(py: Python<'_>, argv: Vec<String>) -> i32 {
    // Where there is no /dev/null, closed streams stay closed.
    drop(rgunicorn_io::sys::file::open_missing_standard_streams());
    let sources = Sources::of_process(argv).map_err(|exit| {
        write_text(py, &exit.stdout, &exit.stderr);
        StartExit(exit.status)
    });
    run(py, sources)
}

/// Serves a program's application (`rgunicorn.app.base.BaseApplication`) and returns as [`main`] does.
pub(crate) fn run_program(py: Python<'_>, app: Py<PyAny>) -> i32 {
    drop(rgunicorn_io::sys::file::open_missing_standard_streams());
    run(py, Ok(Sources::of_program(app)))
}

fn run(py: Python<'_>, sources: Result<Sources, StartExit>) -> i32 {
    match sources.and_then(|sources| start(py, sources)) {
        Ok(mut server) => {
            let start = server.start.take();
            let status = start.map_or(1, |(config, launch)| arbiter::run(&mut server, config, launch));
            if server.has_busy_threads {
                wsgi::leave_process(py, status);
            }
            status
        }
        Err(StartExit(status)) => status,
    }
}

/// Everything up to the arbiter's own start.
fn start(py: Python<'_>, sources: Sources) -> Result<Server, StartExit> {
    let start_directory = sources.start_directory();
    // The master before this one is a daemon, and so are its children.
    let is_detached = std::env::var_os(arbiter::SOCKETS_VARIABLE).is_some();
    let launch =
        launch::of_process(py, start_directory).map_err(|text| complain(py, &format!("Error: {text}")))?;
    // What configuration files import of Gunicorn is ours.
    py.import("rgunicorn.compat").map_err(|error| complain(py, &format_exception(py, &error)))?;
    // A hub that the configuration file makes runs our loop, too.
    gevent::install_loop(py).map_err(|error| complain(py, &format_exception(py, &error)))?;
    let (settings, live) = sources.read(py).map_err(|refused| {
        complain(py, &refused.stderr);
        StartExit(refused.status)
    })?;
    let config = arbiter_config(&settings).map_err(|text| complain(py, &text))?;
    if settings.print_config() || settings.check_config() {
        return Err(check(py, &sources, &settings, &live));
    }
    if settings.spew() {
        py.import("rgunicorn.debug")
            .and_then(|debug| debug.call_method0("spew"))
            .map_err(|error| complain(py, &format_exception(py, &error)))?;
    }
    if settings.daemon() {
        daemon::detach(py, &settings, is_detached).map_err(|text| complain(py, &text))?;
    }
    sources.enter(py, &settings).map_err(|error| complain(py, &format!("Error: {error}")))?;
    let logs = Logs::open(py, &settings, &live, None).map_err(|text| complain(py, &text))?;
    if logs.errors.enabled(Level::Debug) {
        let shown = live.config(py).call_method0("_dump").and_then(|text| text.extract::<String>());
        logs.errors.debug(format_args!("Current configuration:\n{}", shown.unwrap_or_default()));
        logs.flush();
    }
    import_for_workers(py, setup::threads(&settings) > 0);
    prepare_gevent(py, &settings).map_err(|text| complain(py, &text))?;
    let program = sources.embedding(py);
    let app = if settings.preload_app() {
        Some(preload(py, &settings, (&live, program.as_ref()), &logs)?)
    } else {
        None
    };
    for unknown in settings.unknown_names() {
        logs.errors.warning(format_args!("{unknown}"));
    }
    let hook_runner = made_stage(py, &settings, (&live, program), (&logs, app.as_ref()))
        .map_err(|error| complain(py, &format_exception(py, &error)))?;
    Ok(Server::new(sources, (settings, live, hook_runner), (config, launch), logs, app))
}

/// `--check-config` and `--print-config`: the application is loaded in this process, and that is all.
fn check(py: Python<'_>, sources: &Sources, settings: &Settings, live: &ConfigObjects) -> StartExit {
    if settings.print_config() {
        let shown = live.config(py).str().map(|text| text.to_string_lossy().into_owned());
        match shown {
            Ok(text) => write_text(py, &format!("{text}\n"), ""),
            Err(error) => return complain(py, &format_exception(py, &error)),
        }
    }
    for unknown in settings.unknown_names() {
        write_text(py, "", &format!("Warning: {unknown}\n"));
    }
    if let Err(error) = sources.enter(py, settings) {
        return complain(py, &format!("Error: {error}"));
    }
    let text = match load_app(py, settings, (live, sources.embedding(py).as_ref())) {
        Ok(_) => return StartExit(0),
        Err(LoadError::App(text)) => text,
        Err(LoadError::Raised(error)) => format_exception(py, &error),
    };
    complain(py, &format!("\nError while loading the application:\n\n{text}"))
}

/// What hooks are called with.
fn made_stage(
    py: Python<'_>,
    settings: &Settings,
    (live, program): (&ConfigObjects, Option<Bound<'_, PyAny>>),
    (logs, app_object): (&Logs, Option<&Py<PyAny>>),
) -> PyResult<HookRunner> {
    let made = || {
        let class = py.import("rgunicorn._server")?.getattr("App")?;
        class.call1((live.config(py), settings.app().unwrap_or_default()))
    };
    let app = program.map_or_else(made, Ok)?;
    if let Some(object) = app_object {
        app.setattr("callable", object)?;
    }
    HookRunner::new(py, live, &app, &logs.object(py))
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
            gevent::install_loop(py)
        }
        Ok(WorkerKind::Uring | WorkerKind::Gthread) => gevent::install_loop(py),
        Ok(WorkerKind::Sync) | Err(_) => gevent::uninstall_loop(py),
    };
    done.map_err(|error| format_exception(py, &error))
}

fn preload(
    py: Python<'_>,
    settings: &Settings,
    (live, program): (&ConfigObjects, Option<&Bound<'_, PyAny>>),
    logs: &Logs,
) -> Result<Py<PyAny>, StartExit> {
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
    let loaded = load_app(py, settings, (live, program)).and_then(|app| {
        // What the workers share is to stay shared: a collection would touch every object.
        py.import("gc")?.call_method0("freeze")?;
        Ok(app.unbind())
    });
    loaded.map_err(|error| match error {
        LoadError::App(text) => complain(py, &text),
        // An application that leaves is believed, as Python would.
        LoadError::Raised(error) if error.is_instance_of::<PySystemExit>(py) => {
            complain(py, &sources::exit_message(py, &error));
            StartExit(exit_status(py, &error))
        }
        LoadError::Raised(error) => complain(py, &format_exception(py, &error)),
    })
}

/// The server's name in headers, and `SERVER_SOFTWARE`: a configuration file may set `gunicorn.SERVER` and the other.
fn names(py: Python<'_>) -> (String, String) {
    let names = py.import("rgunicorn.compat").and_then(|compat| compat.call_method0("names")?.extract());
    names.unwrap_or_else(|_| (PROG.to_owned(), setup::software()))
}

/// The application, by whichever way the settings name it.
fn load_app<'py>(
    py: Python<'py>,
    settings: &Settings,
    (live, program): (&ConfigObjects, Option<&Bound<'py, PyAny>>),
) -> Result<Bound<'py, PyAny>, LoadError> {
    if let Some(program) = program {
        return Ok(program.call_method0("wsgi")?);
    }
    let Some(paste) = settings.paste() else {
        return wsgi::load(py, settings.app().unwrap_or_default());
    };
    let kwargs = PyDict::new(py);
    kwargs.set_item("defaults", live.config(py).getattr("paste_global_conf")?)?;
    let module = py.import("rgunicorn.app.pasterapp")?;
    Ok(module.call_method("get_wsgi_app", (paste,), Some(&kwargs))?)
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
fn complain(py: Python<'_>, text: &str) -> StartExit {
    if !text.is_empty() {
        write_text(py, "", &format!("{text}\n"));
    }
    StartExit(1)
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
