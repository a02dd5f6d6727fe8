//! rgunicorn: the pre-fork WSGI server that speaks Gunicorn's language, with an io_uring worker.
//!
//! This crate is the extension module: all code that knows Python, and the code that joins the crates below
//! to a server. It makes no system call and parses no byte of HTTP itself. Only the Python package
//! `rgunicorn` uses it, as `rgunicorn._rgunicorn`.
//!
//! Its modules are floors; imports go down only, never sideways on the same floor (only floor 1 may use
//! `py`). `tests/tidy` reads this table and fails on a forbidden import:
//!
//! ```text
//! 2 composition   boot, this file           may import all; nothing imports it
//! 1 Python        wsgi, conf, gevent  ->  py
//! ```
#![deny(unsafe_code)]

mod boot;
pub mod conf;
pub mod gevent;
pub mod py;
pub mod wsgi;

#[pyo3::pymodule(gil_used = true)]
mod _rgunicorn {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::boot::{HeldSignals, open_log_file};
    #[pymodule_export]
    use crate::py::instances;
    #[pymodule_export]
    use crate::wsgi::{
        ClientDisconnected, EarlyHints, ErrorStream, FileWrapper, Input, RequestHandle, ServedApp,
        StartResponse, Write, take_socket,
    };

    #[pymodule_export]
    use crate::conf::{WorkerHandle, check_setting, hook_arities, is_foreign_worker, settings_table};
    #[pymodule_export]
    use crate::gevent::{
        Async, Callback, Check, Child, Fork, Idle, Io, Loop, Prepare, Signal, Stat, Timer, Watcher,
    };
    #[pymodule_export]
    use crate::wsgi::RequestBodyError;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::gevent::install_vectorcall(module.py())?;
        module.add("__version__", crate::boot::VERSION)
    }

    /// Serves a program's application; returns the exit status.
    #[pyfunction]
    fn _run_app(py: Python<'_>, app: Py<PyAny>) -> i32 {
        crate::boot::run_program(py, app)
    }

    /// Loads the application of `MODULE:EXPR`.
    #[pyfunction]
    fn _load_app<'py>(py: Python<'py>, uri: &str) -> PyResult<Bound<'py, PyAny>> {
        crate::wsgi::load(py, uri).map_err(|error| error.into_exception(py))
    }

    /// Puts the hot methods of gevent's sockets in front of gevent's own, or takes them away.
    #[pyfunction]
    fn _set_gevent_sockets(py: Python<'_>, wanted: bool) -> PyResult<()> {
        crate::gevent::set_sockets(py, wanted)
    }

    /// Runs the server with these arguments (without the program's name); returns the exit status.
    #[pyfunction]
    fn main(py: Python<'_>, argv: Vec<String>) -> i32 {
        crate::boot::main(py, argv)
    }
}
