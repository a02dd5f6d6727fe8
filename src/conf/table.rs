//! The table of settings for Python, of which `rgunicorn.config` is a view.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use rgunicorn_settings::{
    Environment, Id, ROWS, Settings, Value, WorkerKind, checked_value, defaults, worker_class_check,
};

use super::hooks::Hook;
use super::raw;

/// Converts a value to a Python object.
///
/// # Errors
/// `MemoryError`.
pub(super) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::None => py.None().into_bound(py),
        Value::Flag(on) => on.into_pyobject(py)?.to_owned().into_any(),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::Text(text) => text.into_pyobject(py)?.into_any(),
        Value::List(items) => PyList::new(py, items)?.into_any(),
        Value::Map(pairs) => {
            let dict = PyDict::new(py);
            for (key, value) in pairs {
                dict.set_item(key, value)?;
            }
            dict.into_any()
        }
    })
}

/// Returns the value of a setting as a Python object.
///
/// # Errors
/// As [`to_python`].
pub(super) fn value_of<'py>(py: Python<'py>, settings: &Settings, id: Id) -> PyResult<Bound<'py, PyAny>> {
    to_python(py, settings.value(id))
}

/// One row of the table.
type Row<'py> = (
    &'static str,
    String,
    &'static str,
    Vec<&'static str>,
    &'static str,
    &'static str,
    Bound<'py, PyAny>,
    &'static str,
);

/// Returns all rows: name, shape, section, flags, metavar, text, the default as the environment makes it, and
/// the release of Gunicorn that has brought it (`rgunicorn`: none).
///
/// # Errors
/// `ValueError` when a variable of the environment has a value that its setting refuses.
#[pyfunction]
#[pyo3(name = "_settings_table")]
pub fn settings_table(py: Python<'_>) -> PyResult<Vec<Row<'_>>> {
    let pairs = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
    let environment = Environment::from_pairs(pairs);
    let values = defaults(&environment).map_err(|invalid| PyValueError::new_err(invalid.to_string()))?;
    ROWS.iter()
        .zip(&values)
        .map(|(row, value)| {
            let (shape, flags) = (format!("{:?}", row.kind), row.flags().collect());
            let (section, text) = (row.section.title(), row.text.trim());
            Ok((row.name, shape, section, flags, row.metavar(), text, to_python(py, value)?, row.since))
        })
        .collect()
}

/// Checks a value for a setting; returns it as the setting holds it.
///
/// # Errors
/// `ValueError`, which says what is allowed.
#[pyfunction]
#[pyo3(name = "_check_setting")]
pub fn check_setting<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let id = Id::by_name(name)
        .ok_or_else(|| PyValueError::new_err(format!("No configuration setting for: {name}")))?;
    let checked =
        checked_value(id, &raw(value)?).map_err(|invalid| PyValueError::new_err(invalid.to_string()))?;
    to_python(value.py(), &checked)
}

/// Returns whether a text of `worker_class` stands for a class of others. One that stands for none does not.
#[pyfunction]
#[pyo3(name = "_is_foreign_worker")]
pub fn is_foreign_worker(name: &str) -> bool {
    worker_class_check(name) == Ok(WorkerKind::Foreign)
}

/// Returns the numbers of positional parameters that a hook's function may have; none for a setting that is
/// no hook.
#[pyfunction]
#[pyo3(name = "_hook_arities")]
pub fn hook_arities(name: &str) -> Vec<usize> {
    Hook::by_name(name).map(|hook| hook.arities().collect()).unwrap_or_default()
}
