//! Composition. `main` turns the command line into a running server; it joins the floors and decides nothing
//! that one of them could decide.
//!
//! Read it in this order: here (start-up in Gunicorn's order), `sources` (settings from all sources), `setup`
//! (their translation for the floors below), `launch` and `daemon`, `logs`, `app` (the application before the
//! fork), `hooks`, `host` (the arbiter's requests), `worker` (the life of a worker, with `cooperative` and
//! `reloader`). Nothing below imports this file: `names` and `console` hold what all of them say.

mod app;
mod console;
mod cooperative;
mod daemon;
mod foreign;
mod hooks;
mod host;
mod launch;
mod logs;
mod names;
mod reloader;
mod setup;
mod sockets;
mod sources;
mod worker;

use pyo3::prelude::*;

use crate::conf::ConfigObjects;
use crate::gevent;
use crate::py::{format_exception, leave_master_handlers};
use crate::wsgi::{self, LoadError};
use rgunicorn_io::sys::file::open_missing_standard_streams;
use rgunicorn_server::arbiter::{self, ArbiterConfig, Launch};
use rgunicorn_server::log::Level;
use rgunicorn_settings::Settings;

use app::BootContext;
pub(crate) use foreign::HeldSignals;

use console::{StartExit, complain, write_stderr, write_stdout};
use hooks::HookRunner;
use host::{Configuration, Server};
use logs::Logs;
use sources::Sources;

pub(crate) use logs::open_log_file;
pub(crate) use names::VERSION;

/// Runs the server with these arguments (without the program's name) and returns the exit status, in the
/// master and in each worker.
pub(crate) fn main(py: Python<'_>, argv: Vec<String>) -> i32 {
    // Where there is no /dev/null, closed streams stay closed.
    drop(open_missing_standard_streams());
    let sources = Sources::of_process(argv).map_err(|exit| {
        write_stdout(py, &exit.stdout);
        write_stderr(py, &exit.stderr);
        StartExit(exit.status)
    });
    run(py, sources)
}

/// Serves a program's application (`rgunicorn.app.base.BaseApplication`) and returns as [`main`] does.
pub(crate) fn run_program(py: Python<'_>, app: Py<PyAny>) -> i32 {
    drop(open_missing_standard_streams());
    run(py, Ok(Sources::of_program(app)))
}

fn run(py: Python<'_>, sources: Result<Sources, StartExit>) -> i32 {
    let ReadyServer { mut server, config, launch } = match sources.and_then(|sources| start(py, sources)) {
        Ok(ready) => ready,
        Err(StartExit(status)) => return status,
    };
    if let Err(error) = leave_master_handlers(py, &arbiter::SIGNALS) {
        return complain(py, &format_exception(py, &error)).0;
    }
    let status = arbiter::run(&mut server, config, launch);
    if server.leaves_at_once {
        wsgi::leave_process(py, status);
    }
    status
}

/// A server that is ready for the arbiter, and the arbiter's share of the start.
struct ReadyServer {
    server: Server,
    config: ArbiterConfig,
    launch: Launch,
}

/// Does everything up to the arbiter's own start.
fn start(py: Python<'_>, sources: Sources) -> Result<ReadyServer, StartExit> {
    let raised = |error: PyErr| complain(py, &format_exception(py, &error));
    // The master before this one is a daemon, and so are its children.
    let is_detached = std::env::var_os(arbiter::SOCKETS_VARIABLE).is_some();
    let launch = launch::of_process(py, sources.start_directory())
        .map_err(|text| complain(py, &format!("Error: {text}")))?;
    // What configuration files import of Gunicorn is ours.
    py.import("rgunicorn.compat").map_err(raised)?;
    // A hub that the configuration file makes runs our loop, too.
    gevent::install_loop(py).map_err(raised)?;
    let (settings, objects) = sources.read(py).map_err(|refused| {
        complain(py, &refused.stderr);
        StartExit(refused.status)
    })?;
    let config = setup::arbiter_config(&settings).map_err(|text| complain(py, &text))?;
    if settings.print_config() || settings.check_config() {
        return Err(check(py, &sources, &settings, &objects));
    }
    if settings.spew() {
        py.import("rgunicorn.debug").and_then(|debug| debug.call_method0("spew")).map_err(raised)?;
    }
    if settings.daemon() {
        daemon::detach(py, &settings, is_detached).map_err(|text| complain(py, &text))?;
    }
    sources.enter(py, &settings).map_err(|error| complain(py, &format!("Error: {error}")))?;
    foreign::check(py, &objects).map_err(|text| complain(py, &text))?;
    let logs = Logs::open(py, &settings, &objects, None).map_err(|text| complain(py, &text))?;
    if logs.errors.enabled(Level::Debug) {
        let shown = objects.config(py).call_method0("_dump").and_then(|text| text.extract::<String>());
        logs.errors.debug(format_args!("Current configuration:\n{}", shown.unwrap_or_default()));
        logs.flush();
    }
    import_for_workers(py, setup::threads(&settings) > 0);
    cooperative::prepare_gevent(py, &settings).map_err(|text| complain(py, &text))?;
    let configuration = Configuration { settings, objects, logs };
    let hook_runner = prepare_hooks(py, &sources, &configuration)?;
    Ok(ReadyServer { server: Server::new(sources, configuration, hook_runner), config, launch })
}

/// Makes the objects that hooks get; imports the application before, if the workers are to share it.
fn prepare_hooks(
    py: Python<'_>,
    sources: &Sources,
    configuration: &Configuration,
) -> Result<HookRunner, StartExit> {
    let Configuration { settings, objects, logs } = configuration;
    let ctx = BootContext { settings, objects, program: sources.embedding(py) };
    let raised = |error: PyErr| complain(py, &format_exception(py, &error));
    let app = ctx.app_object(py).map_err(raised)?;
    if settings.preload_app() {
        app::preload(py, &ctx, &app, &logs.errors)?;
    }
    for unknown in settings.unknown_names() {
        logs.errors.warning(format_args!("{unknown}"));
    }
    cooperative::warn_of_gevent_websocket(py, settings, &logs.errors);
    let complaint = py.import("rgunicorn._stand_in").and_then(|module| module.call_method0("complaint"));
    if let Ok(Some(text)) = complaint.and_then(|text| text.extract::<Option<String>>()) {
        logs.errors.warning(format_args!("{text}"));
    }
    HookRunner::new(py, &ctx, &app, &logs.object(py)).map_err(raised)
}

/// Loads the application in this process, and leaves: `--check-config` and `--print-config`.
fn check(py: Python<'_>, sources: &Sources, settings: &Settings, objects: &ConfigObjects) -> StartExit {
    if settings.print_config() {
        let shown = objects.config(py).str().map(|text| text.to_string_lossy().into_owned());
        match shown {
            Ok(text) => write_stdout(py, &format!("{text}\n")),
            Err(error) => return complain(py, &format_exception(py, &error)),
        }
    }
    for unknown in settings.unknown_names() {
        write_stderr(py, &format!("Warning: {unknown}\n"));
    }
    if let Err(error) = sources.enter(py, settings) {
        return complain(py, &format!("Error: {error}"));
    }
    let ctx = BootContext { settings, objects, program: sources.embedding(py) };
    let loaded = ctx.app_object(py).map_err(LoadError::from).and_then(|app| app::load_app(&app));
    let text = match loaded {
        Ok(_) => return StartExit(0),
        Err(LoadError::App(text)) => text,
        Err(LoadError::Raised(error)) => format_exception(py, &error),
    };
    complain(py, &format!("\nError while loading the application:\n\n{text}"))
}

/// Imports what workers need of the standard library, once for all of them: they share the memory, and a
/// worker that became another user may not be allowed to read it.
fn import_for_workers(py: Python<'_>, threads: bool) {
    let all = ["ast", "signal", "socket", "traceback", "rgunicorn._handover", "rgunicorn._stacks"];
    for module in all.into_iter().chain(threads.then_some("threading")) {
        // The code that misses it will say so.
        drop(py.import(module));
    }
}
