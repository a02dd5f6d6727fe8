//! Workers whose class others have written for Gunicorn: their loop, under this master (`rgunicorn/_foreign.py`).

use std::cell::RefCell;

use pyo3::prelude::*;

use crate::conf::ConfigObjects;
use rgunicorn_io::sys::signal::Blocked;

/// The status of a worker whose loop has failed; Gunicorn's -1.
pub(super) const STATUS_LOOP_ERROR: i32 = 255;

/// The master's signals, held back in a worker until there are handlers.
#[pyclass(unsendable, frozen, module = "rgunicorn._rgunicorn")]
pub struct HeldSignals(RefCell<Option<Blocked>>);

#[pymethods]
impl HeldSignals {
    /// Lets them come; harmless if it is done twice.
    fn release(&self) {
        let blocked = self.0.take();
        drop(blocked);
    }
}

/// Looks for the class, if it is one of others; if not, sees to it that our own are what they were.
///
/// # Errors
/// There is none, or it cannot run here: the text for the operator.
pub(super) fn check(py: Python<'_>, objects: &ConfigObjects) -> Result<(), String> {
    let found = objects.config(py).getattr("worker_class");
    found.map(drop).map_err(|error| format!("\nError: {}\n", error.value(py)))
}

/// Runs a worker to its end.
///
/// # Errors
/// The exception that has ended it, `SystemExit` included.
pub(super) fn serve(worker: &Bound<'_, PyAny>, handle: &Bound<'_, PyAny>, blocked: Blocked) -> PyResult<()> {
    let py = worker.py();
    let signals = Py::new(py, HeldSignals(RefCell::new(Some(blocked))))?;
    py.import("rgunicorn._foreign")?.call_method1("serve", (worker, handle, signals)).map(drop)
}

/// Tells whether an exception says that the application was not found.
pub(super) fn is_load_error(error: &PyErr, py: Python<'_>) -> bool {
    let asked = || -> PyResult<bool> {
        let module = py.import("rgunicorn._foreign")?;
        module.call_method1("is_load_error", (error.value(py),))?.is_truthy()
    };
    asked().unwrap_or(false)
}
