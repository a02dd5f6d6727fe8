//! `rgunicorn.client_disconnected`: whether anybody still waits for what the application does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

use rgunicorn_io::sys::atfork;
use rgunicorn_server::worker::{Mailbox, RequestId};

use super::current::{CurrentThread, current};
use super::remote;

/// Callable without arguments: whether the client has closed its connection, or its side of it. Asks the kernel, which takes
/// a microsecond or two (with threads a trip to the loop, some tens): cheap enough for every step of a long work. After
/// the request it answers `True`. Where requests run in threads, any thread may ask; else only the worker's.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct ClientDisconnected {
    /// The connection's ticket; 0 when the request is over.
    ticket: AtomicU64,
    /// Where threads of the application's own can ask, and how many forks ago it was made.
    mailbox: Option<(Arc<Mailbox>, u32)>,
}

impl ClientDisconnected {
    /// About no connection yet. Made on the thread whose requests it is for.
    pub(super) fn new() -> Self {
        let mailbox = match current() {
            Ok(CurrentThread::Thread(remote)) => Some((remote.mailbox(), atfork::generation())),
            _ => None,
        };
        Self { ticket: AtomicU64::new(0), mailbox }
    }

    /// Points at a connection, or at none (0).
    pub(super) fn set_target(&self, ticket: u64) {
        self.ticket.store(ticket, Ordering::Relaxed);
    }
}

#[pymethods]
impl ClientDisconnected {
    #[pyo3(signature = ())]
    fn __call__(&self) -> PyResult<bool> {
        let ticket = self.ticket.load(Ordering::Relaxed);
        if ticket == 0 {
            return Ok(true);
        }
        let conn = RequestId::from_raw(ticket);
        match (current(), &self.mailbox) {
            (Ok(here), _) => Ok(here.link().is_half_closed(conn)),
            (Err(_), Some((mailbox, forks))) if *forks == atfork::generation() => {
                Ok(remote::ask(mailbox, move |reactor| reactor.is_half_closed(conn)).unwrap_or(true))
            }
            (Err(error), _) => Err(error),
        }
    }
}
