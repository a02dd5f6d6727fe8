//! gevent's numbers and errors as ours, and back.

use std::time::Duration;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// Converts a number of seconds; huge ones mean "for ever".
pub(super) fn seconds(value: f64) -> Duration {
    // About 30 years, which no caller sees the end of, and in which no sum overflows.
    const FOREVER_S: f64 = 1e9;
    Duration::from_secs_f64(value.clamp(0.0, FOREVER_S))
}

/// Converts the error of a poll that could not be armed to the one that gevent's users know.
pub(super) fn os_error(error: std::io::Error) -> PyErr {
    PyOSError::new_err((error.raw_os_error().unwrap_or(0), error.to_string()))
}
