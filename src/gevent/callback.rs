//! The object that `run_callback` returns: a function that is called with its arguments in the next turn.

use std::fmt::Write as _;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::py::GilCell;

/// A queued call. `args[0]` is the very object that was given: gevent's notifiers are lists that grow while they wait
/// here.
#[pyclass(frozen, name = "callback", module = "rgunicorn.gevent")]
pub struct Callback {
    pub(super) call: GilCell<PendingCall>,
}

/// The function is taken when the call begins, the arguments when it is over.
pub(super) struct PendingCall {
    pub(super) function: Option<Py<PyAny>>,
    pub(super) args: Option<Py<PyTuple>>,
}

impl Callback {
    /// Makes a call that waits to begin.
    pub(super) fn new(function: Py<PyAny>, args: Py<PyTuple>) -> Self {
        Self { call: GilCell::new(PendingCall { function: Some(function), args: Some(args) }) }
    }

    /// Reuses the object for another call. What the former one referred to is gone already, so nothing is dropped.
    pub(super) fn reuse(&self, py: Python<'_>, function: Py<PyAny>, args: Py<PyTuple>) {
        self.call.with(py, |call| {
            debug_assert!(call.function.is_none() && call.args.is_none(), "the former call is over");
            (call.function, call.args) = (Some(function), Some(args));
        });
    }

    /// Begins the call: returns its function and arguments, or `None` if it was stopped.
    pub(super) fn begin(&self, py: Python<'_>) -> Option<(Py<PyAny>, Py<PyTuple>)> {
        self.call.with(py, |call| Some((call.function.take()?, call.args.as_ref()?.clone_ref(py))))
    }
}

#[pymethods]
impl Callback {
    #[new]
    #[pyo3(signature = (callback, args))]
    fn py_new(callback: Py<PyAny>, args: Py<PyTuple>) -> Self {
        Self::new(callback, args)
    }

    /// Stops the call before it begins. What it refers to is let go of at once.
    fn stop(&self, py: Python<'_>) {
        let dropped = self.call.with(py, |call| (call.function.take(), call.args.take()));
        drop(dropped);
    }

    /// Does what `stop` does.
    fn close(&self, py: Python<'_>) {
        self.stop(py);
    }

    /// Returns whether the call has neither begun nor been stopped.
    #[getter]
    fn pending(&self, py: Python<'_>) -> bool {
        self.call.with(py, |call| call.function.is_some())
    }

    /// Returns the function, until the call begins.
    #[getter]
    fn callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.call.with(py, |call| call.function.as_ref().map(|function| function.clone_ref(py)))
    }

    /// Returns the arguments, until the call is over.
    #[getter]
    fn args(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        self.call.with(py, |call| call.args.as_ref().map(|args| args.clone_ref(py)))
    }

    /// Returns whether the call is not over yet: also while it runs.
    fn __bool__(&self, py: Python<'_>) -> bool {
        self.call.with(py, |call| call.args.is_some())
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let py = this.py();
        let me = this.get();
        let mut text = format!("<callback at {:#x}", this.as_ptr() as usize);
        if me.pending(py) {
            text.push_str(" pending");
        }
        if let Some(function) = me.callback(py) {
            let _ = write!(text, " callback={}", function.bind(py).repr()?);
        }
        if let Some(args) = me.args(py) {
            let _ = write!(text, " args={}", args.bind(py).repr()?);
        }
        if !me.pending(py) && me.args(py).is_none() {
            text.push_str(" stopped");
        }
        text.push('>');
        Ok(text)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.call
            .peek(|call| {
                visit.call(&call.function)?;
                visit.call(&call.args)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        Python::attach(|py| self.stop(py));
    }
}
