//! `gunicorn.socket`: the client's socket, for libraries that take a connection over (WebSocket). Making a
//! real socket object costs about as much as a whole request, so the environ holds an unborn one
//! (`rgunicorn._handover.ClientSocket`, an instance of `socket.socket`), which becomes real at its first use
//! by calling [`take_socket`]. An unborn socket that the application has not kept serves the next request.

use std::io;
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::current;
use super::shared::RequestShared;

/// The handle by which an unborn socket leads to its request.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct RequestHandle {
    shared: Arc<RequestShared>,
}

impl RequestHandle {
    pub(super) fn new(shared: Arc<RequestShared>) -> Self {
        Self { shared }
    }
}

/// Detaches the connection of a request from the loop. Returns a descriptor that the caller owns, and the
/// bytes that had been received and not used.
///
/// # Errors
/// `OSError` when the connection is gone, or the request is over.
#[pyfunction]
#[pyo3(name = "_take_socket")]
pub fn take_socket(py: Python<'_>, handle: &Bound<'_, RequestHandle>) -> PyResult<(i32, Py<PyBytes>)> {
    let responder = current::responder()?;
    let id = handle.get().shared.request();
    let id = id.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
    let hijacked = responder.hijack(id)?;
    Ok((hijacked.fd.into_raw_fd(), PyBytes::new(py, &hijacked.unread).unbind()))
}

/// The maker of sockets for environs.
pub(super) struct SocketFactory {
    class: Py<PyAny>,
    base_new: Py<PyAny>,
    set_handle: Py<PyAny>,
}

impl SocketFactory {
    pub(super) fn new(py: Python<'_>) -> PyResult<Self> {
        let mut module = py.import("rgunicorn._handover")?.into_any();
        let plain = py.import("socket")?.getattr("socket")?;
        if !module.getattr("ClientSocket")?.getattr("__base__")?.is(&plain) {
            // gevent has put its own class in the place of the one that the module was made with.
            module = py.import("importlib")?.call_method1("reload", (module,))?;
        }
        let class = module.getattr("ClientSocket")?;
        Ok(Self {
            base_new: class.getattr("__new__")?.unbind(),
            class: class.unbind(),
            set_handle: module.getattr("set_handle")?.unbind(),
        })
    }

    /// Makes an unborn socket for the requests that `handle` will lead to.
    pub(super) fn make(&self, py: Python<'_>, handle: &Py<RequestHandle>) -> PyResult<Py<PyAny>> {
        let socket = self.base_new.bind(py).call1((self.class.bind(py),))?;
        self.set_handle.bind(py).call1((&socket, handle))?;
        Ok(socket.unbind())
    }

    /// Returns whether the application took this socket: it is no longer of the class that it was made with.
    pub(super) fn is_taken(&self, py: Python<'_>, socket: &Py<PyAny>) -> bool {
        !socket.bind(py).get_type().is(&self.class)
    }

    /// Closes a socket that became real, as Gunicorn does at the end of its request.
    #[expect(clippy::unused_self, reason = "one door for everything about these sockets")]
    pub(super) fn close(&self, py: Python<'_>, socket: &Py<PyAny>) {
        if let Err(error) = socket.call_method0(py, "close") {
            error.write_unraisable(py, Some(socket.bind(py)));
        }
    }
}
