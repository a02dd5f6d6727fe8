//! The configuration and the server as Python objects (`rgunicorn.config.Config`,
//! `rgunicorn._server.Server`), and the hooks, which are called through them.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use rgunicorn_settings::{Id, Invalid, Origin, Settings, ValueKind};

use super::hooks::Hook;
use super::table::value_of;

/// One configuration as hooks, loggers and the application's side see it.
#[derive(Debug)]
pub struct ConfigObjects {
    config: Py<PyAny>,
}

impl ConfigObjects {
    /// Makes the configuration object of `settings`. `names`: what the configuration file defines, for the
    /// values that are Python's own: functions, classes, dicts.
    ///
    /// # Errors
    /// A function that takes the wrong number of arguments, something that is no function, and the like.
    pub fn new(
        py: Python<'_>,
        settings: &Settings,
        names: Option<&Bound<'_, PyDict>>,
    ) -> Result<Self, Invalid> {
        let unexpected = |error: PyErr| settings.refuse(Id::config, error.to_string());
        let made = (|| py.import("rgunicorn.config")?.getattr("Config")?.call0())();
        let config = made.map_err(unexpected)?;
        for id in Id::ALL.iter().copied() {
            fill(py, &config, settings, id, names)?;
        }
        Ok(Self { config: config.unbind() })
    }

    /// Wraps the configuration object of an embedding program.
    pub fn of_object(config: Py<PyAny>) -> Self {
        Self { config }
    }

    /// Returns the object, an `rgunicorn.config.Config`.
    pub fn config<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.config.bind(py)
    }

    /// Returns the function that a hook is: the configured one, or that which stands for it.
    ///
    /// # Errors
    /// The exceptions of attributes.
    pub fn hook<'py>(&self, py: Python<'py>, hook: Hook) -> PyResult<Bound<'py, PyAny>> {
        self.config(py).getattr(hook.name())
    }

    /// Returns the function that is configured for a hook; `None` if none is.
    ///
    /// # Errors
    /// The exceptions of attributes.
    pub fn own_hook<'py>(&self, py: Python<'py>, hook: Hook) -> PyResult<Option<Bound<'py, PyAny>>> {
        let function = self.config(py).call_method1("_own_hook", (hook.name(),))?;
        Ok((!function.is_none()).then_some(function))
    }
}

/// Gives the configuration object the value of one setting.
fn fill(
    py: Python<'_>,
    config: &Bound<'_, PyAny>,
    settings: &Settings,
    id: Id,
    names: Option<&Bound<'_, PyDict>>,
) -> Result<(), Invalid> {
    let row = id.row();
    // A worker class may be given as a class, whose text stands for it in the settings.
    let is_class = id == Id::worker_class && settings.worker_class().starts_with('<');
    let python_own = matches!(row.kind, ValueKind::Hook | ValueKind::Object) || is_class;
    let from_file = settings.origin(id) == Some(Origin::File);
    let refuse = |error: PyErr| {
        let text = error.value(py).to_string();
        settings.refuse(id, text.strip_prefix(&format!("{}: ", row.name)).unwrap_or(&text))
    };
    let given = (|| {
        let object =
            names.filter(|_| python_own && from_file).map(|names| names.get_item(row.name)).transpose()?;
        if let Some(object) = object.flatten().filter(|object| !object.is_none()) {
            return config.call_method1("_give", (row.name, object));
        }
        if python_own && settings.origin(id).is_none() {
            return Ok(py.None().into_bound(py));
        }
        config.call_method1("_take", (row.name, value_of(py, settings, id)?))
    })();
    given.map(drop).map_err(refuse)
}

/// The master as hooks see it, in the master and in the copies of it that its workers have.
#[derive(Debug)]
pub struct ServerObject(Py<PyAny>);

impl ServerObject {
    /// Makes it. `app`: the object for `server.app`.
    ///
    /// # Errors
    /// The exceptions of making objects.
    pub fn new(
        py: Python<'_>,
        objects: &ConfigObjects,
        app: &Bound<'_, PyAny>,
        log: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let class = py.import("rgunicorn._server")?.getattr("Server")?;
        Ok(Self(class.call1((objects.config(py), app, log))?.unbind()))
    }

    /// Returns the object.
    pub fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.bind(py)
    }

    /// Shows it the configuration that a reload has put in force. `app`: the application that it names.
    ///
    /// # Errors
    /// The exceptions of attributes.
    pub fn configure(
        &self,
        py: Python<'_>,
        objects: &ConfigObjects,
        app: Option<&str>,
        log: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.bind(py).call_method1("_configure", (objects.config(py), app, log)).map(drop)
    }

    /// Calls one of its methods (`_pre_fork`, ...), which may call a hook.
    ///
    /// # Errors
    /// The exception of the hook.
    pub fn call_method<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        args: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.bind(py).call_method1(name, args)
    }

    /// Takes the number of workers that a hook has asked for since the last call.
    ///
    /// # Errors
    /// The exceptions of attributes.
    pub fn take_wanted(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        self.bind(py).call_method0("_take_wanted")?.extract()
    }
}
