//! The logs that the settings name: opened at the start and at each reload, owned by the account of the
//! workers.

use std::os::fd::IntoRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;

use crate::conf::ConfigObjects;
use crate::py::{QueueListener, format_exception};
use rgunicorn_io::sys::logfile;
use rgunicorn_server::log::{AccessExclude, AccessFormat, AccessLog, ErrorLog, Level};
use rgunicorn_settings::{Id, Settings};

use super::setup;

/// The logs of a configuration: the two native ones, and the logger object that hooks and applications know.
pub(super) struct Logs {
    pub(super) errors: Arc<ErrorLog>,
    pub(super) access: Option<AccessLog>,
    /// An instance of `logger_class`.
    logger: Py<PyAny>,
    /// Records of the error log go to that logger.
    relay: Option<Arc<QueueListener>>,
}

impl Logs {
    /// Opens the logs. `former`: the logs in force; a logger of the same class goes on with the new settings.
    ///
    /// # Errors
    /// A file that cannot be written or given away, a record format that means nothing, a logger that cannot
    /// be made: the text for stderr.
    pub(super) fn open(
        py: Python<'_>,
        settings: &Settings,
        objects: &ConfigObjects,
        former: Option<&Self>,
    ) -> Result<Self, String> {
        let unwritable = |path: &str, error| format!("Error: '{path}' isn't writable [{error}]");
        let owner = setup::file_owner(settings).map_err(|invalid| invalid.to_string())?;
        let format = access_format(settings)?;
        let target = settings.errorlog();
        let errors = ErrorLog::open_for(target, Level::from_text(settings.loglevel()), owner)
            .map_err(|error| unwritable(target, error))?;
        let access = settings.accesslog().map(|target| {
            AccessLog::open_for(target, format, owner).map_err(|error| unwritable(target, error))
        });
        let access = access.transpose()?;
        let former = former.map(|former| former.logger.bind(py));
        let logger = make_logger(py, objects, former).map_err(|error| logger_error(py, &error))?.unbind();
        let mut logs = Self { errors: Arc::new(errors), access, logger, relay: None };
        logs.choose_writer(py, objects).map_err(|error| format_exception(py, &error))?;
        Ok(logs)
    }

    /// Chooses what writes: the native logs, or Python's logger where something of it is not as it came.
    /// Hooks and the application may add handlers and filters later, so the worker chooses again.
    ///
    /// # Errors
    /// The exceptions of attributes.
    pub(super) fn choose_writer(&mut self, py: Python<'_>, objects: &ConfigObjects) -> PyResult<()> {
        let stock = py.import("rgunicorn.glogging")?;
        let of = (&self.logger, objects.config(py));
        if self.relay.is_none() && !stock.call_method1("is_stock", of)?.is_truthy()? {
            let log = self.logger.getattr(py, "error_log").ok();
            let level =
                log.and_then(|log| log.call_method0(py, "getEffectiveLevel").ok()?.extract::<u32>(py).ok());
            if let Some(level) = level {
                self.errors.set_level(python_level(level));
            }
            self.errors.queue_records();
            let relay = QueueListener::new(self.logger.clone_ref(py), Arc::clone(&self.errors));
            self.relay = Some(Arc::new(relay));
        }
        Ok(())
    }

    /// Returns the logger that writes access records, if the native access log does not.
    ///
    /// # Errors
    /// The exceptions of attributes.
    pub(super) fn access_logger(
        &self,
        py: Python<'_>,
        objects: &ConfigObjects,
    ) -> PyResult<Option<Py<PyAny>>> {
        let stock = py
            .import("rgunicorn.glogging")?
            .call_method1("access_is_stock", (&self.logger, objects.config(py)))?;
        Ok((!stock.is_truthy()?).then(|| self.logger.clone_ref(py)))
    }

    /// Sets the logger up again, after other logs were on trial: they may have had the same one.
    pub(super) fn restore(&self, py: Python<'_>, objects: &ConfigObjects) {
        if let Err(error) = self.logger.call_method1(py, "setup", (objects.config(py),)) {
            let text = format_exception(py, &error);
            self.errors.error(format_args!("Cannot go back to the former log settings: {text}"));
        }
    }

    /// Returns the listener that gets the records of the error log, if its file does not.
    pub(super) fn relay(&self) -> Option<Arc<QueueListener>> {
        self.relay.clone()
    }

    /// Hands queued records over. To be called where nothing is borrowed.
    pub(super) fn flush(&self) {
        if let Some(relay) = &self.relay {
            relay.relay();
        }
    }

    /// Returns the logger object: `server.log`, `worker.log`.
    pub(super) fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.logger.bind(py).clone()
    }

    /// Opens the files again. A log that fails goes on into the old file, and says so there.
    pub(super) fn reopen(&mut self) {
        let errors = self.errors.reopen();
        let access = self.access.as_mut().map_or(Ok(()), AccessLog::reopen);
        for (name, result) in [("error", errors), ("access", access)] {
            if let Err(error) = result {
                self.errors.error(format_args!("Cannot open the {name} log again: {error}"));
            }
        }
        Python::attach(|py| {
            if let Err(error) = self.logger.call_method0(py, "reopen_files") {
                let text = format_exception(py, &error);
                self.errors.error(format_args!("The logger cannot open its files again: {text}"));
            }
        });
    }
}

/// Opens a log file for a handler of Python's, as the native logs open theirs: at its end, and given to the account of
/// the workers. Returns a descriptor that the caller owns.
///
/// # Errors
/// `OSError`, with the path.
#[pyfunction]
#[pyo3(name = "_open_log_file")]
pub(crate) fn open_log_file(
    py: Python<'_>,
    path: PathBuf,
    user: Option<u32>,
    group: Option<u32>,
) -> PyResult<i32> {
    let opened = logfile::open(&path, setup::owner(user, group));
    opened.map(IntoRawFd::into_raw_fd).map_err(|error| match error.raw_os_error() {
        // As Python's own open has it: a number, and a text without it.
        Some(number) => match py.import("os").and_then(|os| os.call_method1("strerror", (number,))) {
            Ok(text) => PyOSError::new_err((number, text.unbind())),
            Err(other) => other,
        },
        None => error.into(),
    })
}

/// Compiles the form of access records, and the rule which requests have none.
fn access_format(settings: &Settings) -> Result<AccessFormat, String> {
    let refuse = |id, text: String| settings.refuse(id, text).to_string();
    let format = if settings.access_log_json() {
        AccessFormat::json()
    } else {
        AccessFormat::compile(settings.access_log_format())
            .map_err(|error| refuse(Id::access_log_format, error.to_string()))?
    };
    let entries = settings.access_log_exclude().iter().map(String::as_str);
    let exclude =
        AccessExclude::parse(entries).map_err(|error| refuse(Id::access_log_exclude, error.to_string()))?;
    Ok(format.excluding(exclude))
}

/// Makes an instance of the configured class; returns the former one, with the new settings, if it is of that
/// class.
fn make_logger<'py>(
    py: Python<'py>,
    objects: &ConfigObjects,
    former: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let config = objects.config(py);
    let class = config.getattr("logger_class")?;
    if let Some(former) = former.filter(|former| former.get_type().is(&class)) {
        former.call_method1("setup", (config,))?;
        return Ok(former.clone());
    }
    class.call1((config,))
}

/// Returns `Error: TEXT` for an exception that Gunicorn's loggers raise on purpose, a traceback for any
/// other.
fn logger_error(py: Python<'_>, error: &PyErr) -> String {
    if !error.is_instance_of::<PyRuntimeError>(py) {
        return format_exception(py, error);
    }
    let text = error.value(py).to_string();
    if text.starts_with("Error: ") { text } else { format!("Error: {text}") }
}

/// Returns the level that a number of Python's `logging` means.
fn python_level(level: u32) -> Level {
    match level {
        0..=10 => Level::Debug,
        11..=20 => Level::Info,
        21..=30 => Level::Warning,
        31..=40 => Level::Error,
        _ => Level::Critical,
    }
}
