//! The access record of a request that the application has answered (or failed to).

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use rgunicorn_http::ResponseHead;
use rgunicorn_server::worker::{AccessFacts, Request};

use super::link::Link;

/// Writes the record, if the access log is on.
pub(super) fn write(
    link: Link<'_>,
    request: &Request,
    environ: Option<&Py<PyDict>>,
    response: Option<&ResponseHead>,
    (status, bytes_sent): (u16, u64),
    elapsed: Duration,
) {
    let lookup = |name: &str| environ.and_then(|environ| Python::attach(|py| find(environ.bind(py), name)));
    link.log_access(request, &AccessFacts { status, bytes_sent, response, elapsed, environ: &lookup });
}

/// The value of a key, whatever its case: format strings name environ keys in any (Gunicorn folds both). No Python runs
/// until the key is found: it could change the dict under the iterator.
fn find(environ: &Bound<'_, PyDict>, name: &str) -> Option<String> {
    environ
        .iter()
        .find(|(key, _)| {
            key.cast::<PyString>().is_ok_and(|key| key.to_string_lossy().eq_ignore_ascii_case(name))
        })
        .and_then(|(_, value)| value.str().ok().map(|text| text.to_string_lossy().into_owned()))
}
