//! The way from this thread to its requests' connections, for Python objects that outlive a call: they may
//! not hold it, because the collector and other threads may touch them, so they hold a request's number and
//! ask here.

use std::cell::RefCell;
use std::rc::Rc;

use pyo3::PyResult;
use pyo3::exceptions::PyRuntimeError;

use rgunicorn_io::sys::atfork;

use super::responder::Responder;

thread_local! {
    // Holds a counted handle, never a pointer into a stack; and how many forks ago it was made.
    static CURRENT: RefCell<Option<(Rc<dyn Responder>, u32)>> = const { RefCell::new(None) };
}

/// Makes `responder` the one of this thread, until [`clear`].
pub(super) fn set(responder: Rc<dyn Responder>) {
    let former = CURRENT.replace(Some((responder, atfork::generation())));
    drop(former);
}

/// Forgets this thread's responder.
pub(super) fn clear() {
    let responder = CURRENT.take();
    drop(responder);
}

/// Returns the responder of this thread.
///
/// # Errors
/// `RuntimeError` on a thread that is not the worker's, and in a child that the application forked: its
/// connections and rings are the parent's.
pub(super) fn responder() -> PyResult<Rc<dyn Responder>> {
    match CURRENT.with_borrow(Clone::clone) {
        Some((responder, forks)) if forks == atfork::generation() => Ok(responder),
        Some(_) => Err(PyRuntimeError::new_err("this belongs to a request of the parent process")),
        None => Err(PyRuntimeError::new_err("this belongs to a request of the worker's own thread")),
    }
}
