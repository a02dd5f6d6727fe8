//! The application of this thread, for Python objects that outlive a call: they may not hold it, because the collector and
//! other threads may touch them, so they hold a request's number and ask here.

use std::cell::RefCell;
use std::rc::Rc;

use pyo3::PyResult;
use pyo3::exceptions::PyRuntimeError;

use rgunicorn_io::sys::atfork;

use super::app::WsgiApp;
use super::greenlets::GreenletApp;

thread_local! {
    // Holds a counted handle, never a pointer into a stack; and how many forks ago it was made.
    static CURRENT: RefCell<Option<(Rc<WsgiApp>, u32)>> = const { RefCell::new(None) };
    // The same in cooperative mode, for the greenlets of requests.
    static GREENLETS: RefCell<Option<Rc<GreenletApp>>> = const { RefCell::new(None) };
}

/// Makes `app` the one of this thread, until [`clear`].
pub(super) fn set(app: Rc<WsgiApp>) {
    CURRENT.set(Some((app, atfork::generation())));
}

/// The same in cooperative mode.
pub(super) fn set_greenlets(app: Rc<GreenletApp>) {
    GREENLETS.set(Some(app));
}

/// Forgets this thread's application.
pub(super) fn clear() {
    let (app, greenlets) = (CURRENT.take(), GREENLETS.take());
    drop((app, greenlets));
}

/// Returns the application of this thread, whose requests run in greenlets.
///
/// # Errors
/// `RuntimeError` when the worker is over.
pub(super) fn greenlets() -> PyResult<Rc<GreenletApp>> {
    GREENLETS.with_borrow(Clone::clone).ok_or_else(|| PyRuntimeError::new_err("the worker is over"))
}

/// Returns the application of this thread, and by it the way to the connections of its requests.
///
/// # Errors
/// `RuntimeError` on a thread that is not the worker's, and in a child that the application forked: its connections
/// and rings are the parent's.
pub(super) fn app() -> PyResult<Rc<WsgiApp>> {
    match CURRENT.with_borrow(Clone::clone) {
        Some((app, forks)) if forks == atfork::generation() => Ok(app),
        Some(_) => Err(PyRuntimeError::new_err("this belongs to a request of the parent process")),
        None => Err(PyRuntimeError::new_err("this belongs to a request of the worker's own thread")),
    }
}
