//! The application: by which settings it is found, and its import before the fork.

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::conf::ConfigObjects;
use crate::gevent;
use crate::py::{exit_status, format_exception};
use crate::wsgi::{self, LoadError};
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

/// Loads the application, by whichever way the settings name it.
///
/// # Errors
/// [`LoadError`].
pub(super) fn load_app<'py>(py: Python<'py>, ctx: &BootContext<'py>) -> Result<Bound<'py, PyAny>, LoadError> {
    if let Some(program) = &ctx.program {
        return Ok(program.call_method0("wsgi")?);
    }
    let Some(paste) = ctx.settings.paste() else {
        return wsgi::load(py, ctx.settings.app().unwrap_or_default());
    };
    let kwargs = PyDict::new(py);
    kwargs.set_item("defaults", ctx.objects.config(py).getattr("paste_global_conf")?)?;
    let module = py.import("rgunicorn.app.pasterapp")?;
    Ok(module.call_method("get_wsgi_app", (paste,), Some(&kwargs))?)
}

/// Loads the application in the master, for all workers.
///
/// # Errors
/// The status of a start that fails; the reason has been reported.
pub(super) fn preload(
    py: Python<'_>,
    ctx: &BootContext<'_>,
    errors: &ErrorLog,
) -> Result<Py<PyAny>, StartExit> {
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
    let loaded = load_app(py, ctx).and_then(|app| {
        // What the workers share is to stay shared: a collection would touch every object.
        py.import("gc")?.call_method0("freeze")?;
        Ok(app.unbind())
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
