//! The base class of watchers: a callback with its arguments, a place in the loop while started, an event that waits to
//! be handled, a priority, and whether the loop's end waits for it.

use std::fmt::Write as _;

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::py::GilCell;

use super::state::{PRIORITY_MAX, PRIORITY_MIN};
use super::types::{Loop, Watcher};
use super::watcher_state::{WatcherKind, WatcherState};

impl Watcher {
    /// Makes a watcher of `owner` that is not started.
    ///
    /// # Errors
    /// `ValueError` for a destroyed loop.
    pub(super) fn new(
        owner: &Bound<'_, Loop>,
        referenced: bool,
        priority: Option<i32>,
        kind: WatcherKind,
    ) -> PyResult<Self> {
        owner.get().check_alive(owner.py())?;
        let priority = clamp_priority(priority.unwrap_or(0));
        let inner =
            WatcherState { callback: None, args: None, slot: None, referenced, priority, events: 0, kind };
        Ok(Self { owner: owner.clone().unbind(), inner: GilCell::new(inner) })
    }

    /// Sets the callback and its arguments, before the watcher is started.
    ///
    /// # Errors
    /// `TypeError` for what cannot be called; those of a loop that cannot be used here.
    pub(super) fn set_target(
        this: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let py = this.py();
        let me = this.get();
        me.owner.get().check_usable(py)?;
        if !callback.is_callable() {
            return Err(PyTypeError::new_err(format!("Expected callable, not {}", callback.repr()?)));
        }
        let before = me
            .inner
            .with(py, |inner| (inner.callback.replace(callback.unbind()), inner.args.replace(args.unbind())));
        drop(before);
        Ok(())
    }

    /// Returns whether it is started.
    pub(super) fn is_active(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.slot.is_some())
    }

    /// Fails while the watcher is started: libev does not let the attribute change then.
    ///
    /// # Errors
    /// `AttributeError`.
    pub(super) fn check_inactive(this: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        if !this.get().is_active(this.py()) {
            return Ok(());
        }
        let class = this.get_type().name()?;
        Err(PyAttributeError::new_err(format!(
            "'{class}' watcher attribute '{name}' is read-only while watcher is active"
        )))
    }
}

/// Clamps a priority to libev's range, as libev does.
fn clamp_priority(priority: i32) -> i8 {
    priority.clamp(PRIORITY_MIN.into(), PRIORITY_MAX.into()) as i8
}

#[pymethods]
impl Watcher {
    /// Watches; at each event `callback(*args)` is called by the loop. On a started watcher only the callback changes.
    #[pyo3(signature = (callback, *args))]
    pub(super) fn start(
        this: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        Self::set_target(this, callback, args)?;
        this.get().owner.bind(this.py()).get().activate(this)
    }

    /// Watches no longer; an event that has not been handled yet is forgotten, callback and arguments are let go of.
    pub(super) fn stop(this: &Bound<'_, Self>) {
        let stopped = this.get().owner.get().deactivate(this, true);
        drop(stopped);
    }

    /// Does what `stop` does. A closed watcher may be started again.
    fn close(this: &Bound<'_, Self>) {
        Self::stop(this);
    }

    /// Queues an event as if it had happened.
    #[pyo3(signature = (revents, callback, *args))]
    fn feed(
        this: &Bound<'_, Self>,
        revents: u32,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        Self::set_target(this, callback, args)?;
        this.get().owner.get().queue(this, revents);
        Ok(())
    }

    #[getter]
    fn callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.with(py, |inner| inner.callback.as_ref().map(|callback| callback.clone_ref(py)))
    }

    #[setter]
    fn set_callback(&self, callback: Bound<'_, PyAny>) -> PyResult<()> {
        let py = callback.py();
        if !callback.is_none() && !callback.is_callable() {
            return Err(PyTypeError::new_err(format!("Expected callable, not {}", callback.repr()?)));
        }
        let new = (!callback.is_none()).then(|| callback.unbind());
        let before = self.inner.with(py, |inner| std::mem::replace(&mut inner.callback, new));
        drop(before);
        Ok(())
    }

    #[getter]
    fn args(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        self.inner.with(py, |inner| inner.args.as_ref().map(|args| args.clone_ref(py)))
    }

    #[setter]
    fn set_args(&self, args: Bound<'_, PyAny>) -> PyResult<()> {
        let py = args.py();
        let new = if args.is_none() {
            None
        } else {
            let class = args.get_type().name()?;
            let tuple = args.cast_into::<PyTuple>();
            Some(tuple.map_err(|_| PyTypeError::new_err(format!("Expected tuple, got {class}")))?.unbind())
        };
        let before = self.inner.with(py, |inner| std::mem::replace(&mut inner.args, new));
        drop(before);
        Ok(())
    }

    /// Returns whether it is started.
    #[getter]
    fn active(&self, py: Python<'_>) -> bool {
        self.is_active(py)
    }

    /// Returns whether an event waits for the callback to be called.
    #[getter]
    fn pending(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| {
            inner.events != 0 || matches!(&inner.kind, WatcherKind::Async(facts) if facts.sent)
        })
    }

    #[getter]
    fn r#ref(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| inner.referenced)
    }

    #[setter]
    fn set_ref(&self, referenced: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = referenced.py();
        self.owner.get().check_alive(py)?;
        let referenced = referenced.is_truthy()?;
        self.owner.get().set_referenced(py, self, referenced);
        Ok(())
    }

    #[getter]
    fn priority(&self, py: Python<'_>) -> i8 {
        self.inner.with(py, |inner| inner.priority)
    }

    #[setter]
    fn set_priority(this: &Bound<'_, Self>, priority: i32) -> PyResult<()> {
        let me = this.get();
        if me.is_active(this.py()) {
            return Err(PyAttributeError::new_err("Cannot set priority of an active watcher"));
        }
        me.inner.with(this.py(), |inner| inner.priority = clamp_priority(priority));
        Ok(())
    }

    #[getter]
    fn r#loop(&self, py: Python<'_>) -> Py<Loop> {
        self.owner.clone_ref(py)
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (_type=None, _value=None, _traceback=None))]
    fn __exit__(
        this: &Bound<'_, Self>,
        _type: Option<&Bound<'_, PyType>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) {
        Self::stop(this);
    }

    /// Returns what `repr` shows beyond the common part.
    fn _format(&self) -> String {
        String::new()
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let py = this.py();
        let me = this.get();
        let extra: String = this.call_method0("_format")?.extract()?;
        let address = this.as_ptr() as usize;
        let mut text = format!(
            "<{} at {address:#x} native={:#x}{extra}",
            this.get_type().name()?,
            std::ptr::from_ref(me).addr()
        );
        if me.is_active(py) {
            text.push_str(" active");
        }
        if me.pending(py) {
            text.push_str(" pending");
        }
        if let Some(callback) = me.callback(py) {
            let _ = write!(text, " callback={}", callback.bind(py).repr()?);
        }
        if let Some(args) = me.args(py) {
            let _ = write!(text, " args={}", args.bind(py).repr()?);
        }
        text.push('>');
        Ok(text)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owner)?;
        let inside = self.inner.peek(|inner| {
            visit.call(&inner.callback)?;
            visit.call(&inner.args)?;
            if let WatcherKind::Stat(facts) = &inner.kind {
                visit.call(&facts.path)?;
            }
            Ok(())
        });
        inside.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        Python::attach(|py| {
            let held = self.inner.with(py, |inner| (inner.callback.take(), inner.args.take()));
            drop(held);
        });
    }
}
