//! The access line of a request that the application has answered (or failed to).

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::http::ResponseHead;
use crate::worker::{AccessLine, Reactor, Request};

/// Writes the line, if the access log is on.
pub(super) fn write(
    py: Python<'_>,
    reactor: &Reactor,
    request: &Request,
    environ: Option<&Py<PyDict>>,
    response: Option<&ResponseHead>,
    (status, bytes_sent): (u16, u64),
    elapsed: Duration,
) {
    let Some((format, log)) = &reactor.shared().access else { return };
    let lookup = |key: &str| -> Option<String> {
        let value = environ?.bind(py).get_item(key).ok().flatten()?;
        value.str().ok().map(|text| text.to_string_lossy().into_owned())
    };
    let line =
        AccessLine { request, status, bytes_sent: Some(bytes_sent), response, elapsed, environ: &lookup };
    let mut text = Vec::with_capacity(256);
    // Rendered before the log is borrowed: `lookup` runs Python.
    format.render(&line, &mut text);
    log.borrow_mut().push(&text);
}
