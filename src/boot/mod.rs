//! Floor 5: composition. `main` turns the command line into a running server; it joins the floors and decides nothing
//! that one of them could decide.
//!
//! Read it in this order: here (start-up in Gunicorn's order), `setup` (settings from all sources, and their
//! translation for the floors below), `host` (what the arbiter asks of us), `worker` (the life of a worker process).

mod host;
mod setup;
mod worker;

use std::sync::Arc;

use pyo3::prelude::*;

use crate::arbiter;
use crate::io;
use crate::logging::{AccessLog, ErrorLog, Level};
use crate::settings::{IoDriver, Settings};
use crate::wsgi::{self, LoadError};

use host::Server;
use setup::{Sources, arbiter_config};

/// The name of the program in messages.
const PROG: &str = "rgunicorn";

/// Leaves with this status; the messages have been written.
pub(crate) struct Leave(pub(crate) i32);

/// Runs the server with these arguments (without the program's name) and returns the exit status, in the master and
/// in each worker.
pub(crate) fn main(py: Python<'_>, argv: Vec<String>) -> i32 {
    match start(py, argv) {
        Ok(mut server) => {
            let config = server.first_config.take();
            match config {
                Some(config) => arbiter::run(&mut server, config),
                None => 1,
            }
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
    let settings = sources.read(py).map_err(|text| complain(py, &text))?;
    let config = prepare(py, &settings).map_err(|text| complain(py, &format!("Error: {text}")))?;
    let (errors, access) =
        open_logs(&settings).map_err(|text| complain(py, &format!("\nError: {text}\n")))?;
    let app = if settings.preload_app() { Some(preload(py, &settings)?) } else { None };
    for unknown in settings.unknown_names() {
        errors.log(Level::Warning, format_args!("{unknown}"));
    }
    Ok(Server::new(sources, settings, config, errors, access, app))
}

/// Checks that cross settings, and changes of the process that come before the logs.
fn prepare(py: Python<'_>, settings: &Settings) -> Result<arbiter::Config, String> {
    let config = arbiter_config(settings)?;
    if settings.io_driver() == IoDriver::Uring {
        let wanted = io::Config { choice: io::Choice::Uring, ..setup::driver_config(settings) };
        io::Driver::open(&wanted).map_err(|error| format!("io_driver: uring does not work here: {error}"))?;
    }
    setup::enter(py, settings).map_err(|error| error.to_string())?;
    Ok(config)
}

fn open_logs(settings: &Settings) -> Result<(Arc<ErrorLog>, Option<AccessLog>), String> {
    let unwritable = |path: &str, error: std::io::Error| format!("'{path}' isn't writable [{error}]");
    let target = settings.errorlog();
    let errors = ErrorLog::open(target, Level::from_text(settings.loglevel()))
        .map_err(|error| unwritable(target, error))?;
    let access = match settings.accesslog() {
        None => None,
        Some(target) => {
            let format = setup::access_format(settings)?;
            Some(AccessLog::open(target, format).map_err(|error| unwritable(target, error))?)
        }
    };
    Ok((Arc::new(errors), access))
}

fn preload(py: Python<'_>, settings: &Settings) -> Result<Py<PyAny>, Leave> {
    match wsgi::load(py, settings.app().unwrap_or_default()) {
        Ok(app) => Ok(app.unbind()),
        Err(LoadError::App(text)) => Err(complain(py, &text)),
        Err(LoadError::Raised(error)) => {
            error.print(py);
            Err(Leave(1))
        }
    }
}

/// Writes a message to `sys.stderr`; the status is 1.
fn complain(py: Python<'_>, text: &str) -> Leave {
    write_text(py, "", &format!("{text}\n"));
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
