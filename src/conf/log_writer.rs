//! The error log for Python.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::logging::{ErrorLog, Level};

/// Writes records to the error log on behalf of Python.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct LogWriter {
    errors: Arc<ErrorLog>,
}

impl LogWriter {
    /// Writes to `errors`.
    pub fn new(errors: Arc<ErrorLog>) -> Self {
        Self { errors }
    }
}

#[pymethods]
impl LogWriter {
    /// Writes `message % args`, if the level (a name, in any case) is severe enough.
    #[pyo3(signature = (level, message, args))]
    fn __call__(&self, level: &str, message: &Bound<'_, PyAny>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        let level = Level::from_text(level);
        if !self.errors.enabled(level) {
            return Ok(());
        }
        let mut text = message.str()?.into_any();
        if !args.is_empty() {
            // A single mapping names its values, as in Python's logging.
            let only = (args.len() == 1).then(|| args.get_item(0)).transpose()?;
            let named = only.filter(|only| only.is_instance_of::<PyDict>());
            text = text.rem(named.unwrap_or_else(|| args.clone().into_any()))?;
        }
        let text = text.cast::<PyString>()?.to_string_lossy().into_owned();
        self.errors.log(level, format_args!("{text}"));
        Ok(())
    }
}
