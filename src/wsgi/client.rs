//! `rgunicorn.client_disconnected`: tells the application whether the client still waits for its work.

use std::sync::Arc;

use pyo3::prelude::*;

use rgunicorn_io::sys::atfork;
use rgunicorn_server::worker::Mailbox;

use super::current;
use super::remote;
use super::shared::RequestShared;

/// The callable without arguments that answers whether the client has closed its connection, or its side of
/// it. It asks the kernel, which takes a microsecond or two (with threads a trip to the loop, some tens):
/// cheap enough for every step of a long work. After the request it answers `True`. Where requests run in
/// threads, any thread may ask; else only the worker's.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct ClientDisconnected {
    shared: Arc<RequestShared>,
    /// The mailbox at which threads of the application's own can ask, and the number of forks before it was
    /// made.
    mailbox: Option<(Arc<Mailbox>, u32)>,
}

impl ClientDisconnected {
    /// Makes the one for the request of `shared`; `mailbox` is there where the application runs in threads.
    pub(super) fn new(shared: Arc<RequestShared>, mailbox: Option<Arc<Mailbox>>) -> Self {
        Self { shared, mailbox: mailbox.map(|mailbox| (mailbox, atfork::generation())) }
    }
}

#[pymethods]
impl ClientDisconnected {
    #[pyo3(signature = ())]
    fn __call__(&self) -> PyResult<bool> {
        let Some(id) = self.shared.request() else { return Ok(true) };
        match (current::responder(), &self.mailbox) {
            (Ok(responder), _) => Ok(responder.is_half_closed(id)),
            (Err(_), Some((mailbox, forks))) if *forks == atfork::generation() => {
                Ok(remote::ask(mailbox, move |reactor| reactor.is_half_closed(id)).unwrap_or(true))
            }
            (Err(error), _) => Err(error),
        }
    }
}
