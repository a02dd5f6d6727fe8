//! The application: by which settings it is found, and its import before the fork.

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

use crate::conf::ConfigObjects;
use crate::gevent;
use crate::py::{exit_status, format_exception};
use crate::wsgi::LoadError;
use rgunicorn_server::log::ErrorLog;
use rgunicorn_settings::{Settings, WorkerKind};

use super::console::{self, StartExit};

/// The configuration that a master or a worker works by.
pub(super) struct BootContext<'a> {
    pub(super) settings: &'a Settings,
    pub(super) objects: &'a ConfigObjects,
    /// The program that embeds the server.
    pub(super) program: Option<Bound<'a, PyAny>>,
}

impl<'py> BootContext<'py> {
    /// Makes the object for `server.app` and `worker.app`: the program, or one of the command line's own class.
    ///
    /// # Errors
    /// The exceptions of making it.
    pub(super) fn app_object(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        let class = py.import("rgunicorn._server")?.getattr("App")?;
        class.call1((self.objects.config(py), self.settings.app()))
    }
}

/// Loads the application by the object that stands for it, `worker.app`; if that was done before the fork, it has it.
/// Agents that measure applications replace its methods, `gunicorn.app.base.Application.wsgi` or `load`, when the
/// module is imported.
///
/// # Errors
/// [`LoadError`].
pub(super) fn load_app<'py>(app: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, LoadError> {
    let py = app.py();
    let loaded = py.import("gunicorn.app.base").and_then(|_| app.call_method0("wsgi"));
    loaded.map_err(|error| {
        let error = without_own_frames(py, &error).unwrap_or(error);
        LoadError::from_exception(py, error)
    })
}

/// Returns an exception without the frames of this package that its traceback begins with: an operator looks for the
/// application's.
fn without_own_frames(py: Python<'_>, error: &PyErr) -> PyResult<PyErr> {
    let home: String = py.import("rgunicorn")?.getattr("__path__")?.get_item(0)?.extract()?;
    let mut trace = error.traceback(py).map_or_else(|| py.None().into_bound(py), Bound::into_any);
    while !trace.is_none() {
        let file: String = trace.getattr("tb_frame")?.getattr("f_code")?.getattr("co_filename")?.extract()?;
        if !file.starts_with(&home) {
            break;
        }
        trace = trace.getattr("tb_next")?;
    }
    Ok(PyErr::from_value(error.value(py).call_method1("with_traceback", (trace,))?))
}

/// Loads the application in the master, for all workers.
///
/// # Errors
/// The status of a start that fails; the reason has been reported.
pub(super) fn preload(
    py: Python<'_>,
    ctx: &BootContext<'_>,
    app: &Bound<'_, PyAny>,
    errors: &ErrorLog,
) -> Result<(), StartExit> {
    let complain = |py, text: &str| {
        // A daemon's standard error leads nowhere.
        if ctx.settings.daemon() {
            errors.error(format_args!("{text}"));
        }
        console::complain(py, text)
    };
    if ctx.settings.worker_kind() == Ok(WorkerKind::Gevent) {
        // Locks and sockets that the application makes must be gevent's. A reload imports nothing here, and
        // could not take the patching back.
        gevent::patch_all(py).map_err(|error| complain(py, &format_exception(py, &error)))?;
    }
    let loaded = load_app(app).and_then(|_| {
        // What the workers share is to stay shared: a collection would touch every object.
        py.import("gc")?.call_method0("freeze")?;
        Ok(())
    });
    loaded.map_err(|error| match error {
        LoadError::App(text) => complain(py, &text),
        // An application that leaves is believed, as Python would.
        LoadError::Raised(error) if error.is_instance_of::<PySystemExit>(py) => {
            complain(py, &console::exit_message(py, &error));
            StartExit(exit_status(py, &error))
        }
        LoadError::Raised(error) => complain(py, &format_exception(py, &error)),
    })
}
