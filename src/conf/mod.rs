//! Configuration files. A file is Python; its module-level names become [`Raw`] values for the settings
//! floor.

mod handle;
mod hooks;
mod objects;
mod table;

use std::path::Path;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyModule, PyString, PyTuple, PyType};

use rgunicorn_settings::{ConfigSource, Raw};

pub use handle::WorkerHandle;
pub use hooks::{Hook, HookArg, HookFailure, HookProcess, HookRow};
pub use objects::{ConfigObjects, ServerObject};
pub use table::{check_setting, hook_arities, is_foreign_worker, settings_table};

/// The name that a configuration file's module gets in `sys.modules`, as under Gunicorn.
const MODULE_NAME: &str = "__config__";

/// The reason why a configuration could not be read.
#[derive(Debug)]
pub enum ConfError {
    /// The named file is not there.
    Missing(String),
    /// Running the file (or importing the module) raised.
    Raised {
        /// The file or module, as the operator named it.
        name: String,
        /// The exception.
        error: PyErr,
    },
}

/// The content of a configuration.
#[derive(Debug, Default)]
pub struct Conf {
    /// Its names in order; `None`: there is no configuration.
    pub values: Option<Vec<(String, Raw)>>,
    /// Its names as Python objects, for the settings that are Python's own.
    pub objects: Option<Py<PyDict>>,
}

/// Runs the configuration. Relative paths are relative to `directory`, where the server was started (a reload
/// may happen elsewhere).
///
/// # Errors
/// [`ConfError`].
pub fn read(py: Python<'_>, source: &ConfigSource, directory: &Path) -> Result<Conf, ConfError> {
    let (name, result) = match source {
        ConfigSource::None => return Ok(Conf::default()),
        ConfigSource::File { path, named } => {
            let file = directory.join(path);
            if !file.exists() {
                return if *named { Err(ConfError::Missing(path.clone())) } else { Ok(Conf::default()) };
            }
            (path, run_file(py, &file.to_string_lossy()))
        }
        ConfigSource::Module(module) => (module, import(py, module)),
    };
    let raised = |error| ConfError::Raised { name: name.clone(), error };
    let names = result.map_err(raised)?;
    let mut values = Vec::new();
    for (key, value) in &names {
        let Ok(key) = key.extract::<String>() else {
            continue;
        };
        if !key.starts_with("__") {
            values.push((key, raw(&value).map_err(raised)?));
        }
    }
    Ok(Conf { values: Some(values), objects: Some(names.unbind()) })
}

fn run_file<'py>(py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyDict>> {
    let machinery = py.import("importlib.machinery")?;
    let util = py.import("importlib.util")?;
    // The loader is named, so that any file name will do.
    let compiled = path.ends_with(".pyc");
    let loader = if compiled { "SourcelessFileLoader" } else { "SourceFileLoader" };
    let loader = machinery.call_method1(loader, (MODULE_NAME, path))?;
    let kwargs = PyDict::new(py);
    kwargs.set_item("loader", &loader)?;
    let spec = util.call_method("spec_from_file_location", (MODULE_NAME, path), Some(&kwargs))?;
    let module = util.call_method1("module_from_spec", (&spec,))?;
    py.import("sys")?.getattr("modules")?.set_item(MODULE_NAME, &module)?;
    let names = module.cast::<PyModule>()?.dict();
    if compiled {
        loader.call_method1("exec_module", (&module,))?;
    } else {
        // Compiled here and now: the cached bytecode that a loader may take instead is as old as a second
        // allows, and a reload within it would bring back the former configuration.
        let data = loader.call_method1("get_data", (path,))?;
        let code = loader.call_method1("source_to_code", (data, path))?;
        py.import("builtins")?.call_method1("exec", (code, &names))?;
    }
    Ok(names)
}

fn import<'py>(py: Python<'py>, module: &str) -> PyResult<Bound<'py, PyDict>> {
    Ok(py.import(module)?.dict())
}

/// Reduces a Python value to the types that settings are made of.
fn raw(value: &Bound<'_, PyAny>) -> PyResult<Raw> {
    if value.is_none() {
        return Ok(Raw::None);
    }
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Raw::Bool(flag.is_true()));
    }
    if value.is_instance_of::<PyInt>()
        && let Ok(number) = value.extract()
    {
        return Ok(Raw::Int(number));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Raw::Str(text.to_string_lossy().into_owned()));
    }
    if let Ok(list) = value.cast::<PyList>() {
        return Ok(Raw::List(list.iter().map(|item| raw(&item)).collect::<PyResult<_>>()?));
    }
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return Ok(Raw::List(tuple.iter().map(|item| raw(&item)).collect::<PyResult<_>>()?));
    }
    if let Ok(dict) = value.cast::<PyDict>()
        && dict.keys().iter().all(|key| key.is_instance_of::<PyString>())
    {
        let pairs = dict.iter().map(|(key, value)| Ok((key.extract()?, raw(&value)?)));
        return Ok(Raw::Dict(pairs.collect::<PyResult<_>>()?));
    }
    if !value.is_instance_of::<PyFloat>() && is_path(value)? {
        return Ok(Raw::Str(value.py().import("os")?.call_method1("fspath", (value,))?.extract()?));
    }
    let type_name = value.get_type().name()?.to_string();
    let repr =
        value.repr().map_or_else(|_| format!("<{type_name}>"), |text| text.to_string_lossy().into_owned());
    Ok(Raw::Other { type_name, repr })
}

fn is_path(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(!value.is_instance_of::<PyType>() && value.hasattr("__fspath__")?)
}

/// Returns the settings that a program has made by `cfg.set`, for the resolver.
///
/// # Errors
/// The exceptions of attributes.
pub fn changed_values(config: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Raw)>> {
    let changed: Vec<(String, Bound<'_, PyAny>)> = config.call_method0("_changed_values")?.extract()?;
    changed.into_iter().map(|(name, value)| Ok((name, raw(&value)?))).collect()
}

/// Puts a directory at the front of `sys.path`, unless it is there.
///
/// # Errors
/// The exceptions of changing the list.
pub fn prepend_path(py: Python<'_>, directory: &str) -> PyResult<()> {
    let path = py.import("sys")?.getattr("path")?;
    if !path.contains(directory)? {
        path.call_method1("insert", (0, directory))?;
    }
    Ok(())
}

/// A variable of `os.environ`.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value; `None`: it is not there.
    pub value: Option<Py<PyAny>>,
}

/// Sets or removes a variable in `os.environ`; returns it as it was before.
///
/// # Errors
/// `OSError` or `ValueError` for a name or value that the C library refuses.
pub fn set_environ(py: Python<'_>, Variable { name, value }: Variable) -> PyResult<Variable> {
    let environ = py.import("os")?.getattr("environ")?;
    let before = environ.call_method1("get", (&name,))?;
    match value {
        Some(value) => environ.set_item(&name, value)?,
        None => drop(environ.call_method1("pop", (&name, py.None()))?),
    }
    Ok(Variable { name, value: (!before.is_none()).then(|| before.unbind()) })
}
