//! Exceptions as text.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Formats the traceback as Python would print it, without the final newline. If formatting fails itself, the plain
/// message.
pub fn format_exception(py: Python<'_>, error: &PyErr) -> String {
    let formatted = || -> PyResult<String> {
        let lines = py
            .import("traceback")?
            .call_method1("format_exception", (error.get_type(py), error.value(py), error.traceback(py)))?;
        let text = PyString::new(py, "").call_method1("join", (lines,))?;
        Ok(text.cast::<PyString>()?.to_string_lossy().trim_end().to_owned())
    };
    formatted().unwrap_or_else(|_| error.to_string())
}

/// Returns the status that a `SystemExit` asks for: its code if that is a number, 0 for none, 1 for anything else.
pub fn exit_status(py: Python<'_>, error: &PyErr) -> i32 {
    match error.value(py).getattr("code") {
        Ok(code) if code.is_none() => 0,
        Ok(code) => code.extract().unwrap_or(1),
        Err(_) => 1,
    }
}

/// Returns whether this is `StopIteration`, by which WebSocket libraries say that they have answered on the socket
/// themselves.
pub fn is_stop_iteration(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyStopIteration>(py)
}
