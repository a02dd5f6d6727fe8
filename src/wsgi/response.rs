//! `start_response` and `write`.

use std::sync::Arc;

use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple, PyType};

use rgunicorn_http::{ResponseError, ResponseHead};
use rgunicorn_server::response::{Pieces, Response};
use rgunicorn_server::worker::Flow;

use crate::py::{Args, FastMethod, MethodPair, install_vectorcall_method, is_referenced, native_bytes, pair};

use super::current;
use super::field_cache::{FieldCache, Lookup};
use super::responder::{Waited, send_pieces};
use super::shared::RequestShared;

/// The object whose method is the `start_response` of one request.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct StartResponse {
    shared: Arc<RequestShared>,
    write: Py<Write>,
    fields: Arc<FieldCache>,
}

impl StartResponse {
    pub(super) fn new(shared: Arc<RequestShared>, write: Py<Write>, fields: Arc<FieldCache>) -> Self {
        Self { shared, write, fields }
    }

    /// Returns the callable that applications get.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn callable(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(this.getattr(Start::NAME)?.unbind())
    }

    /// Returns whether nothing else holds its `write`.
    pub(super) fn owns_write(&self, py: Python<'_>) -> bool {
        is_referenced(self.write.bind(py), 1)
    }

    /// Checks that the head may still be replaced.
    ///
    /// # Errors
    /// As PEP 3333 wants it: the exception of `exc_info` when the head has left, `AssertionError` for a
    /// second call without `exc_info`.
    fn check_start(&self, exc_info: Option<&Bound<'_, PyAny>>, started: bool, sent: bool) -> PyResult<()> {
        match exc_info.filter(|info| !info.is_none()) {
            Some(info) if sent => {
                let info = info.cast::<PyTuple>()?;
                let (value, traceback) = (info.get_item(1)?, info.get_item(2)?);
                Err(PyErr::from_value(value.call_method1("with_traceback", (traceback,))?))
            }
            None if started => Err(PyAssertionError::new_err("Response headers already set!")),
            Some(_) | None => Ok(()),
        }
    }
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info=None))]
    fn start_response<'py>(
        &self,
        py: Python<'py>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Py<Write>> {
        let response = &self.shared.response;
        let (started, sent) = response.with(py, |response| (response.is_started(), response.is_head_sent()));
        if started || exc_info.is_some() {
            self.check_start(exc_info, started, sent)?;
        }
        self.start(py, status, headers)
    }
}

impl StartResponse {
    /// Takes the head of the response, in place of one that was there.
    fn start<'py>(
        &self,
        py: Python<'py>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
    ) -> PyResult<Py<Write>> {
        let response = &self.shared.response;
        // Taken out while Python may run (iterating `headers`); put back below.
        let mut head = response.with(py, Response::take_head);
        head.clear();
        let filled = fill(&mut head, &self.fields, status, headers);
        response.with(py, |response| response.start(head, filled.is_ok()));
        filled.map(|()| self.write.clone_ref(py))
    }
}

/// The usual call, `start_response(status, headers)`, without the cost of pyo3's way in (`py/vectorcall.rs`).
struct Start;

impl FastMethod for Start {
    type Class = StartResponse;
    const NAME: &'static str = "start_response";

    fn class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
        Ok(py.get_type::<StartResponse>())
    }

    fn pair() -> &'static PyOnceLock<MethodPair> {
        static PAIR: PyOnceLock<MethodPair> = PyOnceLock::new();
        &PAIR
    }

    fn call<'py>(
        this: &Bound<'py, StartResponse>,
        args: Args<'_, 'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (Some(status), Some(headers), None) = (args.get(0), args.get(1), args.get(2)) else {
            return Ok(None);
        };
        let (py, me) = (this.py(), this.get());
        if me.shared.response.with(py, |response| response.is_started()) {
            return Ok(None);
        }
        Ok(Some(me.start(py, &status, &headers)?.into_bound(py).into_any()))
    }
}

/// Installs the way of the usual call. Once in a process.
///
/// # Errors
/// Those of changing the class.
pub(super) fn install_start(py: Python<'_>) -> PyResult<()> {
    install_vectorcall_method::<Start>(py)
}

/// Fills a response head with the application's status and headers.
///
/// # Errors
/// `ValueError` for a status or header that is none, `TypeError` for one that is no text, and exceptions of
/// iterating.
fn fill(
    head: &mut ResponseHead,
    fields: &FieldCache,
    status: &Bound<'_, PyAny>,
    headers: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if let Lookup::Unknown { again } = fields.set_status(head, status) {
        head.status(&native_bytes(status)?).map_err(refuse)?;
        if again {
            fields.keep_status(head, status);
        }
    }
    let mut add = |item: &Bound<'_, PyAny>| -> PyResult<()> {
        // A tuple keeps its items for as long as `item` keeps the tuple.
        if let Ok(tuple) = item.cast_exact::<PyTuple>()
            && let [name, value] = tuple.as_slice()
        {
            return add_header(head, fields, name, value);
        }
        let (name, value) = pair(item)?;
        add_header(head, fields, &name, &value)
    };
    if let Ok(list) = headers.cast_exact::<PyList>() {
        // By index, for the list may change meanwhile.
        let mut index = 0;
        while index < list.len() {
            add(&list.get_item(index)?)?;
            index += 1;
        }
        return Ok(());
    }
    headers.try_iter()?.try_for_each(|item| add(&item?))
}

fn add_header(
    head: &mut ResponseHead,
    fields: &FieldCache,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    match fields.add(head, name, value) {
        Lookup::Added(added) => added.map_err(refuse),
        Lookup::Unknown { again } => {
            head.header(&native_bytes(name)?, &native_bytes(value)?).map_err(refuse)?;
            if again {
                fields.keep(name, value);
            }
            Ok(())
        }
    }
}

fn refuse(error: ResponseError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// The imperative `write` that `start_response` returns.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct Write {
    shared: Arc<RequestShared>,
}

impl Write {
    pub(super) fn new(shared: Arc<RequestShared>) -> Self {
        Self { shared }
    }
}

#[pymethods]
impl Write {
    fn __call__(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(data) = data.cast::<PyBytes>() else {
            return Err(PyTypeError::new_err(format!("{} is not a byte", data.repr()?)));
        };
        let responder = &*current::responder()?;
        let over = self.shared.response.with(py, |response| response.is_closed());
        let Some(id) = self.shared.request().filter(|_| !over) else {
            return Err(PyRuntimeError::new_err("write() after the end of the response"));
        };
        if !responder.serves(id) {
            return Err(PyRuntimeError::new_err("write() in a thread that serves another request"));
        }
        let mut pieces = Pieces::new(responder.buffer());
        // `write` exists only after start_response.
        let _ = self.shared.append(responder, id, &mut pieces, data);
        let waited = match send_pieces(responder, id, pieces) {
            Flow::Sent => Waited::Ready,
            Flow::Gone => Waited::Closed,
            Flow::Queued => responder.wait_in_call(py, id)?,
        };
        match waited {
            // Without this an application that writes for ever would never learn of it.
            Waited::Closed => Err(PyBrokenPipeError::new_err("the client has closed the connection")),
            Waited::Ready | Waited::Parked => Ok(()),
        }
    }
}
