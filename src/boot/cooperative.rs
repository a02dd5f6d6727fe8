//! A worker whose requests run in greenlets: which applications get it, and what it needs of gevent.

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::gevent::{self, Patched, RequestGreenlets, Version};
use crate::py::format_exception;
use crate::wsgi::GreenletApp;
use rgunicorn_server::log::{ErrorLog, Level};
use rgunicorn_settings::{Settings, WorkerKind};

use super::setup;

/// Gunicorn's gevent worker asks for this version: the first one that is right on all Pythons we run on.
const GEVENT_LEAST: Version = Version::new(24, 10, 1);
/// The advice to operators who do not have it.
const INSTALL: &str = "pip install 'rgunicorn[gevent]'";

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

impl RequestMode {
    /// Returns the way in words, for the log.
    ///
    /// # Errors
    /// Those of asking gevent for its version.
    pub(super) fn text(self, py: Python<'_>) -> PyResult<String> {
        Ok(match self {
            Self::Direct => "runs one request at a time".to_owned(),
            Self::Greenlets => {
                let version: String = py.import("gevent")?.getattr("__version__")?.extract()?;
                format!("runs requests in greenlets (gevent {version})")
            }
            Self::Threads(1) => "runs requests in 1 thread".to_owned(),
            Self::Threads(count) => format!("runs requests in {count} threads"),
        })
    }
}

/// The answer to the question how requests run.
pub(super) enum Decided {
    /// In this way.
    Mode(RequestMode),
    /// Not at all: the `gevent` worker cannot have its loop, for this reason.
    Refused(String),
}

/// Decides how requests run, and gives the reason in the log, for debugging or as a warning. Where they run in
/// greenlets, gevent's sockets have got the methods that the configuration wants.
///
/// # Errors
/// The exceptions of gevent.
pub(super) fn decide(
    py: Python<'_>,
    kind: WorkerKind,
    settings: &Settings,
    errors: &ErrorLog,
) -> PyResult<Decided> {
    let (pid, threads) = (std::process::id(), setup::threads(settings));
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
        Patched::NotUsed => return otherwise(Level::Debug, "the application does not use gevent"),
        Patched::No => {
            return otherwise(
                Level::Debug,
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
    if gevent::current_loop(py)?.is_none() {
        let reason = "gevent's hub was made before rgunicorn's loop could be chosen: set GEVENT_LOOP=rgunicorn.gevent.Loop, \
                      or use nothing of gevent but patching before the application is imported";
        if kind == WorkerKind::Gevent {
            return Ok(Decided::Refused(reason.to_owned()));
        }
        return direct(Level::Warning, reason);
    }
    warn_of_missing(errors, &missing);
    gevent::set_sockets(py, settings.gevent_sockets()).map(|()| Decided::Mode(RequestMode::Greenlets))
}

/// Warns of modules that gevent has not patched.
fn warn_of_missing(errors: &ErrorLog, missing: &[&str]) {
    let pid = std::process::id();
    if !missing.is_empty() {
        errors.log(
            Level::Warning,
            format_args!(
                "Not patched by gevent: {}. Where the application waits in them, all requests of worker {pid} wait",
                missing.join(", ")
            ),
        );
    }
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
        Ok(WorkerKind::Sync | WorkerKind::Foreign) | Err(_) => gevent::uninstall_loop(py),
    };
    done.map_err(|error| format_exception(py, &error))
}

/// Warns where gevent-websocket is installed and its worker class is not chosen: python-engineio takes the package for
/// the server's, and refuses each upgrade to a websocket.
pub(super) fn warn_of_gevent_websocket(py: Python<'_>, settings: &Settings, errors: &ErrorLog) {
    let is_installed = || -> PyResult<bool> {
        let spec = py.import("importlib.util")?.call_method1("find_spec", ("geventwebsocket",))?;
        Ok(!spec.is_none())
    };
    if settings.worker_kind() == Ok(WorkerKind::Gevent) && is_installed().unwrap_or(false) {
        errors.warning(format_args!(
            "gevent-websocket is installed, and websockets of Socket.IO fall back to long polling where it is and the \
             worker is gevent: pip uninstall gevent-websocket, or pip install gunicorn beside rgunicorn and use -k \
             geventwebsocket.gunicorn.workers.GeventWebSocketWorker"
        ));
    }
}

impl RequestGreenlets for GreenletApp {
    fn begin_turn(&self) {
        Python::attach(|py| Self::begin_turn(self, py));
    }

    fn running<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Self::running(self, py)
    }
}
