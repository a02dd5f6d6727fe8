//! The two classes that refer to each other: a loop knows its started watchers, a watcher knows its loop. What they can
//! do is in `hub_loop`, `methods` and `turn`, and in `watcher`.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::py::{GilCell, ThreadBound};
use rgunicorn_io::driver::Choice;
use rgunicorn_io::sys::waker::Waker;

use super::driver_ref::DriverRef;
use super::state::LoopState;
use super::watcher_state::WatcherState;

/// gevent's event loop.
#[pyclass(frozen, subclass, dict, weakref, name = "Loop", module = "rgunicorn.gevent")]
pub struct Loop {
    pub(super) state: GilCell<LoopState<Watcher>>,
    pub(super) driver_ref: ThreadBound<DriverRef>,
    /// Ends the loop's wait.
    pub(super) waker: GilCell<Arc<Waker>>,
    /// Of the main thread: runs signal handlers, may watch children.
    pub(super) main: bool,
    /// `uring` or `epoll`.
    pub(super) backend: GilCell<&'static str>,
    /// The driver that was asked for when the loop was made.
    pub(super) requested: Option<Choice>,
}

/// The base class of all watchers.
#[pyclass(frozen, subclass, weakref, name = "watcher", module = "rgunicorn.gevent")]
pub struct Watcher {
    pub(super) owner: Py<Loop>,
    pub(super) inner: GilCell<WatcherState>,
}
