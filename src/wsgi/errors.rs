//! `wsgi.errors`: text goes where the error log goes, flushed at each write.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;

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
    #[expect(clippy::unused_self, reason = "part of the file protocol")]
    fn flush(&self) {}
}
