//! A worker's side of what its hooks may change: `worker.alive`, `worker.nr`, `worker.notify()`.

use std::sync::Arc;

use pyo3::prelude::*;

use rgunicorn_io::sys::clock;
use rgunicorn_io::sys::shared::Slot;
use rgunicorn_server::worker::Control;

/// The control block and the score-board slot of this process's worker.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct WorkerHandle {
    control: Arc<Control>,
    slot: Slot,
}

impl WorkerHandle {
    /// Makes the handle of this process's worker.
    pub fn new(control: Arc<Control>, slot: Slot) -> Self {
        Self { control, slot }
    }
}

#[pymethods]
impl WorkerHandle {
    /// Returns whether the worker goes on.
    #[getter]
    fn alive(&self) -> bool {
        !self.control.stopping()
    }

    /// Stops the worker gracefully, if `False`. It cannot be called back.
    #[setter]
    fn set_alive(&self, alive: bool) {
        if !alive {
            self.control.stop();
        }
    }

    /// Returns the number of requests begun.
    #[getter]
    fn requests(&self) -> u64 {
        self.slot.read().requests
    }

    /// Counts on from another number.
    #[setter]
    fn set_requests(&self, requests: u64) {
        self.slot.set_requests(requests);
    }

    /// Returns the number of open connections.
    #[getter]
    fn connections(&self) -> u32 {
        self.slot.read().connections
    }

    /// Says that the worker serves. One that does not within `boot_timeout` is replaced.
    fn set_booted(&self) {
        self.slot.set_booted();
    }

    /// Beats: the time-out of the worker begins anew.
    fn notify(&self) {
        self.slot.beat(clock::now());
    }

    /// Returns the time of the last heartbeat, in seconds of the monotonic clock; 0 before the first.
    fn last_beat(&self) -> f64 {
        self.slot.read().beat.map_or(0.0, |beat| beat.0 as f64 / 1e9)
    }
}
