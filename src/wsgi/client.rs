//! `rgunicorn.client_disconnected`: whether anybody still waits for what the application does.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

use super::current::{current, from_ticket};

/// Callable without arguments: whether the client has closed its connection, or its side of it. Asks the kernel, which takes
/// a microsecond or two (with threads a trip to the loop, some tens): cheap enough for every step of a long work. After
/// the request it answers `True`.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct ClientDisconnected {
    /// The connection's ticket; 0 when the request is over.
    ticket: AtomicU64,
}

impl ClientDisconnected {
    /// About no connection yet.
    pub(super) fn new() -> Self {
        Self { ticket: AtomicU64::new(0) }
    }

    /// Points at a connection, or at none (0).
    pub(super) fn aim(&self, ticket: u64) {
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
        Ok(current()?.link().has_client_left(from_ticket(ticket)))
    }
}
