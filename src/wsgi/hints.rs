//! `wsgi.early_hints`: interim responses with status 103 (RFC 8297).

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use rgunicorn_server::response::Outgoing;

use super::current;
use super::shared::RequestShared;

/// The callable that takes a list of `(name, value)` and sends them at once. Does nothing for HTTP/1.0, after
/// the response head has left, and after the request is over.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct EarlyHints {
    shared: Arc<RequestShared>,
}

impl EarlyHints {
    pub(super) fn new(shared: Arc<RequestShared>) -> Self {
        Self { shared }
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
        let hints = rgunicorn_http::early_hints(rgunicorn_http::Version::HTTP_11, borrowed)
            .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
        if let Some(id) = self.shared.hinted() {
            let responder = current::responder()?;
            if !responder.serves(id) {
                let text = "early hints in a thread that serves another request";
                return Err(pyo3::exceptions::PyRuntimeError::new_err(text));
            }
            responder.send(id, Outgoing::from(hints));
            responder.flush();
        }
        Ok(())
    }
}
