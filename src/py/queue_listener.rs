//! The error log's records on their way to a Python logger: a class of the user's, `logconfig`, syslog, statsd. They
//! were queued (`ErrorLog::queue_records`), because they come up where Python must not run.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use rgunicorn_server::log::ErrorLog;

/// The logger, and the log whose records it gets.
#[derive(Debug)]
pub struct QueueListener {
    logger: Py<PyAny>,
    errors: Arc<ErrorLog>,
}

impl QueueListener {
    /// Makes a listener that gives the records of `errors` to `logger`.
    pub fn new(logger: Py<PyAny>, errors: Arc<ErrorLog>) -> Self {
        Self { logger, errors }
    }

    /// Hands an exception to the logger, which formats the traceback, after the records that wait.
    pub fn exception(&self, py: Python<'_>, message: &str, error: &PyErr) {
        self.relay();
        let kwargs = PyDict::new(py);
        let told = kwargs
            .set_item("exc_info", error.value(py))
            .and_then(|()| self.logger.bind(py).call_method("exception", ("%s", message), Some(&kwargs)));
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }

    /// Hands over the records that wait. To be called where nothing is borrowed: the logger may do anything.
    pub fn relay(&self) {
        let records = self.errors.take_queued();
        if records.is_empty() {
            return;
        }
        Python::attach(|py| {
            let pairs: Vec<(&str, String)> =
                records.into_iter().map(|record| (record.level.name(), record.text)).collect();
            let done = py
                .import("rgunicorn.glogging")
                .and_then(|module| module.call_method1("relay", (&self.logger, pairs)));
            if let Err(error) = done {
                error.write_unraisable(py, None);
            }
        });
    }
}
