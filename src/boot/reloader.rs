//! `--reload`: a thread in each worker looks at the source files of what is loaded, and has the worker stop
//! gracefully when one has changed. The master replaces it, and the new one loads the new code.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PySyntaxError;
use pyo3::prelude::*;

use crate::py::format_exception;
use rgunicorn_io::sys::filewatch::FileWatch;
use rgunicorn_io::sys::process;
use rgunicorn_io::sys::signal::{self, Signal};
use rgunicorn_server::log::{ErrorLog, Level};
use rgunicorn_settings::{Id, Invalid, Settings};

/// The time between the hook `worker_int` and the signal. Gunicorn's number.
const HOOK_PAUSE: Duration = Duration::from_millis(100);
/// How often the files are looked at, as under Gunicorn; inotify makes it sooner.
const INTERVAL: Duration = Duration::from_secs(1);

/// Refuses extra files that do not exist. Patterns may begin to match later.
///
/// # Errors
/// The first path that is not there.
pub(super) fn check(py: Python<'_>, settings: &Settings) -> Result<(), Invalid> {
    let refuse = |reason: String| settings.refuse(Id::reload_extra_files, reason);
    let (paths, _) = missing(py, settings).map_err(|error| refuse(error.to_string()))?;
    paths.first().map_or(Ok(()), |path| {
        Err(refuse(format!("{path:?} does not exist (allowed: existing files, patterns with * ? [ ])")))
    })
}

fn missing(py: Python<'_>, settings: &Settings) -> PyResult<(Vec<String>, Vec<String>)> {
    let extra = settings.reload_extra_files().to_vec();
    py.import("rgunicorn._reload")?.call_method1("missing", (extra,))?.extract()
}

/// Begins to watch, if the settings say so. `broken`: files that could not be loaded; `leave`: what happens
/// first when one has changed.
///
/// # Errors
/// `inotify` was asked for and cannot be had.
pub(super) fn start(
    py: Python<'_>,
    settings: &Settings,
    errors: &Arc<ErrorLog>,
    broken: Vec<PathBuf>,
    leave: impl Fn(Python<'_>) + Send + 'static,
) -> Result<(), String> {
    if !settings.reload() {
        return Ok(());
    }
    errors.log(Level::Warning, format_args!("Reloader is on. Use in development only!"));
    let (_, patterns) = missing(py, settings).map_err(|error| error.to_string())?;
    for pattern in patterns {
        errors.log(Level::Warning, format_args!("reload_extra_files: nothing matches {pattern:?} yet"));
    }
    let watch = match (settings.reload_engine(), FileWatch::inotify()) {
        ("poll", _) | ("auto", Err(_)) => FileWatch::polling(),
        (_, Ok(watch)) => watch,
        (_, Err(error)) => return Err(settings.refuse(Id::reload_engine, error.to_string()).to_string()),
    };
    let (extra, told) = (settings.reload_extra_files().to_vec(), Arc::clone(errors));
    // Signals are the loop's: a thread inherits the mask that holds while it is made.
    let started = signal::block_all().and_then(|blocked| {
        let started = thread::Builder::new()
            .name("reloader".to_owned())
            .spawn(move || keep_watch(watch, &extra, &broken, &told, &leave));
        drop(blocked);
        started
    });
    // What only watches decides nothing.
    if let Err(error) = started {
        errors.warning(format_args!("Cannot watch files, serving without (reload): {error}"));
    }
    Ok(())
}

fn keep_watch(
    mut watch: FileWatch,
    extra: &[String],
    broken: &[PathBuf],
    errors: &ErrorLog,
    leave: &dyn Fn(Python<'_>),
) {
    loop {
        // `None`: the interpreter ends, and the worker with it.
        let Some(files) = Python::try_attach(|py| files(py, extra)) else { return };
        let mut files = files.unwrap_or_default();
        files.extend_from_slice(broken);
        if let Some(file) = watch.changed(files) {
            errors.log(Level::Info, format_args!("Worker reloading: {} modified", file.display()));
            if Python::try_attach(leave).is_none() {
                return;
            }
            thread::sleep(HOOK_PAUSE);
            // As the master would: in every mode of the worker, and even if the application wraps the
            // handler.
            let _ = process::kill(process::id(), Signal::TERM);
            return;
        }
        watch.wait(INTERVAL);
    }
}

fn files(py: Python<'_>, extra: &[String]) -> PyResult<Vec<PathBuf>> {
    py.import("rgunicorn._reload")?.call_method1("files", (extra.to_vec(),))?.extract()
}

/// Returns an application that answers every request with the traceback of a syntax error, for the time until
/// the developer has mended it, and the file that has it. `None`: it is another error.
pub(super) fn error_app(
    py: Python<'_>,
    settings: &Settings,
    errors: &ErrorLog,
    error: &PyErr,
) -> PyResult<Option<(Py<PyAny>, Vec<PathBuf>)>> {
    if !settings.reload() || !error.is_instance_of::<PySyntaxError>(py) {
        return Ok(None);
    }
    let text = format_exception(py, error);
    errors.log(
        Level::Error,
        format_args!("The application cannot be loaded, its requests are answered with this:\n{text}"),
    );
    let file: Option<PathBuf> = error.value(py).getattr("filename")?.extract()?;
    let app = py.import("rgunicorn._reload")?.call_method1("error_app", (text,))?;
    Ok(Some((app.unbind(), file.into_iter().collect())))
}
