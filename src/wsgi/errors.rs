//! `wsgi.errors`: text goes where the error log goes, flushed at each write.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use rgunicorn_server::log::ErrorLog;

/// The stream that PEP 3333 asks for: the error log's file. Where that is stderr and the application has replaced
/// `sys.stderr`, the replacement sees the text.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct ErrorStream {
    log: Arc<ErrorLog>,
    is_stderr: bool,
}

impl ErrorStream {
    /// Makes a stream beside `log`. `is_stderr`: that writes to stderr.
    pub fn new(log: Arc<ErrorLog>, is_stderr: bool) -> Self {
        Self { log, is_stderr }
    }
}

#[expect(clippy::unused_self, reason = "the file protocol")]
#[pymethods]
impl ErrorStream {
    /// Writes text.
    fn write(&self, py: Python<'_>, text: &Bound<'_, PyString>) -> PyResult<()> {
        if self.is_stderr {
            let sys = py.import("sys")?;
            let stderr = sys.getattr("stderr")?;
            // Python's own stream would wait for a reader that has stopped reading; the log does not.
            if !stderr.is(&sys.getattr("__stderr__")?) {
                if !stderr.is_none() {
                    stderr.call_method1("write", (text,))?;
                    stderr.call_method0("flush")?;
                }
                return Ok(());
            }
        }
        self.log.write(text.to_string_lossy().as_bytes());
        Ok(())
    }

    /// Writes every item of an iterable of text.
    fn writelines(&self, py: Python<'_>, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(py, line?.cast::<PyString>()?)?;
        }
        Ok(())
    }

    /// Does nothing: no text is held back.
    fn flush(&self) {}

    /// Does nothing: the log stays open.
    fn close(&self) {}

    #[getter]
    fn closed(&self) -> bool {
        false
    }

    #[getter]
    fn encoding(&self) -> &'static str {
        "utf-8"
    }

    fn writable(&self) -> bool {
        true
    }

    fn readable(&self) -> bool {
        false
    }

    fn seekable(&self) -> bool {
        false
    }

    fn isatty(&self) -> bool {
        false
    }

    /// Raises `io.UnsupportedOperation`: the log may go to more than one descriptor, or to none.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let class = py.import("io")?.getattr("UnsupportedOperation")?;
        Err(PyErr::from_value(class.call1(("fileno",))?))
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyTuple>) {}
}
