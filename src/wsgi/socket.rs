//! `gunicorn.socket`: the client's socket, for libraries that take a connection over (WebSocket). Making a real socket
//! object costs about as much as a whole request, so the environ holds an unborn one (`rgunicorn._handover.ClientSocket`,
//! an instance of `socket.socket`), which becomes real at its first use by calling [`take_socket`]. An unborn socket that
//! nobody kept is used again for the next request.

use std::cell::RefCell;
use std::os::fd::IntoRawFd;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rgunicorn_server::worker::RequestId;

use super::current::current;

/// Detaches the connection of `ticket` from the loop. Returns a descriptor that the caller owns, and the bytes that had
/// been received and not used.
///
/// # Errors
/// `OSError` when the connection is gone.
#[pyfunction]
#[pyo3(name = "_take_socket")]
pub fn take_socket(py: Python<'_>, ticket: u64) -> PyResult<(i32, Py<PyBytes>)> {
    let handover = current()?.link().hijack(RequestId::from_raw(ticket))?;
    Ok((handover.fd.into_raw_fd(), PyBytes::new(py, &handover.unread).unbind()))
}

/// Makes sockets for environs.
pub(super) struct SocketFactory {
    class: Py<PyAny>,
    base_new: Py<PyAny>,
    stash: Py<PyAny>,
    spare: RefCell<Option<Py<PyAny>>>,
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
            stash: module.getattr("set_ticket")?.unbind(),
            spare: RefCell::new(None),
        })
    }

    /// An unborn socket for the connection of `ticket`.
    pub(super) fn get<'py>(&self, py: Python<'py>, ticket: u64) -> PyResult<Bound<'py, PyAny>> {
        let spare = self.spare.borrow_mut().take();
        let socket = match spare {
            Some(socket) => socket.into_bound(py),
            None => self.base_new.bind(py).call1((self.class.bind(py),))?,
        };
        self.stash.bind(py).call1((&socket, ticket))?;
        Ok(socket)
    }

    /// Whether the application took this socket: it is no longer of the class that it was made with.
    pub(super) fn is_taken(&self, py: Python<'_>, socket: &Py<PyAny>) -> bool {
        !socket.bind(py).get_type().is(&self.class)
    }

    /// The request is over. A socket that became real is closed, as Gunicorn does; an unborn one that nobody else holds
    /// is kept for the next request, one that somebody holds leads nowhere from now on.
    pub(super) fn put_back(&self, py: Python<'_>, socket: Py<PyAny>) {
        let taken = self.is_taken(py, &socket);
        let socket = socket.into_bound(py);
        let done = if taken {
            socket.call_method0("close").map(drop)
        } else if crate::py::is_only_reference(&socket) {
            let before = self.spare.borrow_mut().replace(socket.unbind());
            drop(before);
            return;
        } else {
            self.stash.bind(py).call1((&socket, 0)).map(drop)
        };
        if let Err(error) = done {
            error.write_unraisable(py, Some(&socket));
        }
    }
}
