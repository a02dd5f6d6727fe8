//! `wsgi.errors`: text goes where the error log goes, flushed at each write.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;

use rgunicorn_server::log::ErrorLog;

/// The stream that PEP 3333 asks for. With the error log on stderr it writes to `sys.stderr` as it is at that
/// moment (so that an application's replacement sees the text), otherwise to the log file.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct ErrorStream {
    /// `None`: the error log is stderr.
    file: Option<Arc<ErrorLog>>,
}

impl ErrorStream {
    /// Makes a stream beside `log`. `is_stderr`: that writes to stderr.
    pub fn new(log: Arc<ErrorLog>, is_stderr: bool) -> Self {
        Self { file: (!is_stderr).then_some(log) }
    }
}

#[pymethods]
impl ErrorStream {
    /// Writes text.
    fn write(&self, py: Python<'_>, text: &Bound<'_, PyString>) -> PyResult<()> {
        match &self.file {
            Some(log) => log.write(text.to_string_lossy().as_bytes()),
            None => {
                let stderr = py.import("sys")?.getattr("stderr")?;
                if !stderr.is_none() {
                    stderr.call_method1("write", (text,))?;
                    stderr.call_method0("flush")?;
                }
            }
        }
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
