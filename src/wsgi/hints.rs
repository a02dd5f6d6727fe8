//! `wsgi.early_hints`: interim responses with status 103 (RFC 8297).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use rgunicorn_server::response::Outgoing;
use rgunicorn_server::worker::RequestId;

use super::current::current;

/// Callable with a list of `(name, value)`; sends them at once. Does nothing for HTTP/1.0, after the response head has
/// left, and after the request is over.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct EarlyHints {
    target: HintTarget,
}

/// Where hints go; the response holds the other end and takes it back when its head leaves.
#[derive(Clone, Default)]
pub(super) struct HintTarget {
    /// The connection's ticket; 0 when there is nothing (more) to hint at.
    ticket: Arc<AtomicU64>,
}

impl HintTarget {
    /// Points at a connection, or at none (0).
    pub(super) fn set_target(&self, ticket: u64) {
        self.ticket.store(ticket, Ordering::Relaxed);
    }
}

impl EarlyHints {
    pub(super) fn new(target: HintTarget) -> Self {
        Self { target }
    }
}

fn text_or_bytes(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    Ok(crate::py::native_bytes(object)?.into_owned())
}

#[pymethods]
impl EarlyHints {
    fn __call__(&self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut fields = Vec::new();
        for pair in headers.try_iter()? {
            let (name, value) = crate::py::pair(&pair?)?;
            fields.push((text_or_bytes(&name)?, text_or_bytes(&value)?));
        }
        let borrowed = fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        let hints = rgunicorn_http::early_hints((1, 1), borrowed)
            .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
        let ticket = self.target.ticket.load(Ordering::Relaxed);
        if ticket != 0 {
            let here = current()?;
            here.link().send(RequestId::from_raw(ticket), Outgoing::from(hints), false);
            here.link().flush();
        }
        Ok(())
    }
}
