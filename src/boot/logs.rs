//! The logs that the settings name: opened at the start and at each reload, given to whom the workers become.

use std::io;
use std::os::unix::fs::chown;
use std::sync::Arc;

use pyo3::prelude::*;

use crate::conf::LogWriter;
use crate::logging::{AccessFormat, AccessLog, ErrorLog, Level};
use crate::settings::{Id, Settings};

use super::setup;

/// The two logs of a configuration.
pub(super) struct Logs {
    pub(super) errors: Arc<ErrorLog>,
    pub(super) access: Option<AccessLog>,
    /// Files, and who gets them: workers that became somebody else must be able to open them again.
    files: Vec<String>,
    owner: Option<(u32, u32)>,
}

impl Logs {
    /// Opens both logs.
    ///
    /// # Errors
    /// A file that cannot be written or given away, or a record format that means nothing: the text for stderr.
    pub(super) fn open(settings: &Settings) -> Result<Self, String> {
        let unwritable = |path: &str, error| format!("Error: '{path}' isn't writable [{error}]");
        let owner = setup::file_owner(settings).map_err(|invalid| invalid.to_string())?;
        let format = AccessFormat::compile(settings.access_log_format())
            .map_err(|error| settings.refuse(Id::access_log_format, error.to_string()).to_string())?;
        let target = settings.errorlog();
        let errors = ErrorLog::open(target, Level::from_text(settings.loglevel()))
            .map_err(|error| unwritable(target, error))?;
        let access = settings
            .accesslog()
            .map(|target| AccessLog::open(target, format).map_err(|error| unwritable(target, error)));
        let targets = [Some(target), settings.accesslog()].into_iter().flatten();
        let files = targets.filter(|target| *target != "-").map(str::to_owned).collect();
        let logs = Self { errors: Arc::new(errors), access: access.transpose()?, files, owner };
        logs.give_away()
            .map_err(|(path, error)| format!("Error: cannot change the owner of '{path}': {error}"))?;
        Ok(logs)
    }

    /// The error log as hooks get it (`server.log`).
    ///
    /// # Errors
    /// Those of making objects.
    pub(super) fn object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let write = Py::new(py, LogWriter::new(Arc::clone(&self.errors)))?;
        py.import("rgunicorn._hooks")?.getattr("Log")?.call1((write,))
    }

    /// Opens the files again. What fails goes on into the old file, and says so there.
    pub(super) fn reopen(&mut self) {
        let errors = self.errors.reopen();
        let access = self.access.as_mut().map_or(Ok(()), AccessLog::reopen);
        for (name, result) in [("error", errors), ("access", access)] {
            if let Err(error) = result {
                self.errors.error(format_args!("Cannot open the {name} log again: {error}"));
            }
        }
        if let Err((path, error)) = self.give_away() {
            self.errors.error(format_args!("Cannot change the owner of '{path}': {error}"));
        }
    }

    /// Only regular files: a device or a pipe that a log is sent to is not ours to give.
    fn give_away(&self) -> Result<(), (&str, io::Error)> {
        let Some((user, group)) = self.owner else { return Ok(()) };
        let regular = |path: &&String| std::fs::metadata(path).is_ok_and(|file| file.is_file());
        for path in self.files.iter().filter(regular) {
            chown(path, Some(user), Some(group)).map_err(|error| (path.as_str(), error))?;
        }
        Ok(())
    }
}
