//! The access record of a request that the application has answered (or failed to).

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use rgunicorn_http::ResponseHead;
use rgunicorn_server::worker::{AccessFacts, Request};

use super::responder::Responder;

/// Writes the record of a request that the application was called for.
pub(super) fn write(
    responder: &dyn Responder,
    request: &Request,
    environ: &Py<PyDict>,
    facts: AccessFacts<'_>,
    response: &ResponseHead,
) {
    let AccessFacts { status, bytes_sent, elapsed, .. } = facts;
    let lookup = |name: &str| Python::attach(|py| find(environ.bind(py), name));
    let facts = AccessFacts { status, bytes_sent, elapsed, response: Some(response), environ: &lookup };
    responder.log_access(request, &facts);
}

/// Returns the facts of a request that the server has answered by itself.
pub(super) fn without_application(status: u16) -> AccessFacts<'static> {
    AccessFacts { status, bytes_sent: 0, response: None, elapsed: Duration::ZERO, environ: &|_| None }
}

/// Returns the value of a key in any case: format strings name environ keys so (Gunicorn folds both). No
/// Python runs until the key is found: it could change the dict under the iterator.
fn find(environ: &Bound<'_, PyDict>, name: &str) -> Option<String> {
    environ
        .iter()
        .find(|(key, _)| {
            key.cast::<PyString>().is_ok_and(|key| key.to_string_lossy().eq_ignore_ascii_case(name))
        })
        .and_then(|(_, value)| value.str().ok().map(|text| text.to_string_lossy().into_owned()))
}
