//! A worker whose requests run in greenlets: which applications get it.

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::gevent::{self, GreenletApp, Patched, Version};
use crate::wsgi::WsgiApp;
use rgunicorn_server::log::{ErrorLog, Level};
use rgunicorn_settings::WorkerKind;

/// Gunicorn's gevent worker asks for this version: the first one that is right on all Pythons we run on.
pub(super) const GEVENT_LEAST: Version = Version::new(24, 10, 1);
/// What those are told who do not have it.
pub(super) const INSTALL: &str = "pip install 'rgunicorn[gevent]'";
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

/// Decides how requests run, and says so in the log, with the reason. `threads`: how many the configuration asks for; 0: none.
///
/// # Errors
/// Those of gevent, and for the `gevent` worker a hub that runs another loop.
pub(super) fn decide(
    py: Python<'_>,
    (kind, threads): (WorkerKind, usize),
    errors: &ErrorLog,
) -> PyResult<Result<RequestMode, String>> {
    let pid = std::process::id();
    let direct = |level, reason: &str| {
        errors.log(level, format_args!("Worker {pid} runs one request at a time: {reason}"));
        Ok(Ok(RequestMode::Direct))
    };
    let otherwise = |level, reason: &str| {
        if threads == 0 {
            return direct(level, reason);
        }
        let s = if threads == 1 { "" } else { "s" };
        errors.log(level, format_args!("Worker {pid} runs requests in {threads} thread{s}: {reason}"));
        Ok(Ok(RequestMode::Threads(threads)))
    };
    let missing = match gevent::patched(py)? {
        _ if kind == WorkerKind::Sync => return Ok(Ok(RequestMode::Direct)),
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
            // Patched threads are greenlets, which nobody would run.
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
            return Ok(Err(reason.to_owned()));
        }
        return direct(Level::Warning, reason);
    }
    tell_greenlets(py, errors, &missing)?;
    Ok(Ok(RequestMode::Greenlets))
}

fn tell_greenlets(py: Python<'_>, errors: &ErrorLog, missing: &[&str]) -> PyResult<()> {
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

impl GreenletApp for WsgiApp {
    fn relay_logs(&self) {
        Self::relay_logs(self);
    }

    fn running<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Self::running(self, py)
    }
}
