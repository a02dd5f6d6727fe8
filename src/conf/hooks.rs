//! Hooks: functions of the configuration file that are called at certain moments.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::logging::{ErrorLog, Level};
use crate::settings::HOOKS;

/// The hooks that a configuration file defines.
#[derive(Debug, Default)]
pub struct Hooks {
    functions: Vec<(&'static str, Py<PyAny>)>,
}

impl Hooks {
    /// Picks the hooks out of a configuration's names.
    ///
    /// # Errors
    /// `TypeError` for one that is not callable.
    pub(super) fn of(names: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut hooks = Self::default();
        for name in HOOKS {
            let Some(function) = names.get_item(name)?.filter(|function| !function.is_none()) else {
                continue;
            };
            if !function.is_callable() {
                let shown = function.repr()?;
                let text = format!("Invalid value for {name}: {shown} (allowed: a function)");
                return Err(PyTypeError::new_err(text));
            }
            hooks.functions.push((name, function.unbind()));
        }
        Ok(hooks)
    }

    fn get<'py>(&self, py: Python<'py>, name: &str) -> Option<Bound<'py, PyAny>> {
        let found = self.functions.iter().find(|(known, _)| *known == name)?;
        Some(found.1.bind(py).clone())
    }

    /// Calls `post_fork(server, worker)`, if there is one: in the worker, before the application is imported and before the
    /// worker becomes another user.
    ///
    /// # Errors
    /// What it raises.
    pub fn post_fork(&self, py: Python<'_>, age: u64, ppid: i32, errors: &Arc<ErrorLog>) -> PyResult<()> {
        let Some(function) = self.get(py, "post_fork") else { return Ok(()) };
        let module = py.import("rgunicorn._hooks")?;
        let write = Py::new(py, LogWriter { errors: errors.clone() })?;
        let log = module.getattr("Log")?.call1((write,))?;
        let server = module.getattr("Server")?.call1((ppid, &log))?;
        let worker = module.getattr("Worker")?.call1((std::process::id(), age, ppid, &log))?;
        function.call1((server, worker)).map(drop)
    }
}

/// Writes records to the error log on behalf of Python.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct LogWriter {
    errors: Arc<ErrorLog>,
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
