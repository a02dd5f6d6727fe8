//! The loop: its state, its driver, and where they move to.

use std::rc::Rc;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::py::{Watch, WrongOwner, assert_no_borrow, is_only_reference};
use rgunicorn_io::driver::{Choice, Config, Driver};
use rgunicorn_io::sys::waker::{self, Waker};
use rgunicorn_server::worker::LoopSource;

use super::READ;
use super::callback::Callback;
use super::driver_ref::DriverRef;
use super::types::{Loop, Watcher};
use super::watcher_state::{WatcherKind, WatcherList};

/// The environment variable that chooses the driver of a loop that works alone.
const DRIVER_VARIABLE: &str = "RGUNICORN_IO_DRIVER";

/// Objects of queued calls that are kept for the next ones: more than a turn of a busy program has.
const SPARE_CALLBACKS_MAX: usize = 1024;

/// The objects that a watcher lets go of when it stops; to be dropped where nothing is open.
#[must_use = "dropping it may run Python: do it where nothing is open"]
#[derive(Default)]
pub(super) struct Stopped {
    pub(super) _watcher: Option<Py<Watcher>>,
    pub(super) _callback: Option<Py<PyAny>>,
    pub(super) _args: Option<Py<PyTuple>>,
}

impl Drop for Loop {
    /// Closes the driver. The last reference may be given up on any thread, and a ring must not be closed on another
    /// one than its own.
    fn drop(&mut self) {
        Python::attach(|py| {
            if let Some((driver_ref, owner)) = self.driver_ref.take(py) {
                driver_ref.release(owner);
            }
        });
    }
}

static DESTROYED: &str = "operation on destroyed loop";

impl Loop {
    /// Opens a driver for a loop that works alone.
    ///
    /// # Errors
    /// Those of the driver, and `ValueError` for an environment variable that names none.
    pub(super) fn open_driver(main: bool, requested: Option<Choice>) -> PyResult<Driver> {
        let choice = match std::env::var(DRIVER_VARIABLE).as_deref() {
            // The loops of further threads are many and do little; epoll is cheap to make, and any thread may end it.
            _ if !main => Choice::Epoll,
            Err(_) | Ok("" | "auto") => requested.unwrap_or_default(),
            Ok("uring") => Choice::Uring,
            Ok("epoll") => Choice::Epoll,
            Ok(other) => {
                let text = format!("{DRIVER_VARIABLE} is {other:?} (allowed: auto, uring, epoll)");
                return Err(PyValueError::new_err(text));
            }
        };
        let (driver, _) = Driver::open(&Config { choice, ..Config::polls_only() })?;
        Ok(driver)
    }

    /// Fails after `destroy`.
    pub(super) fn check_alive(&self, py: Python<'_>) -> PyResult<()> {
        // Python comes in here.
        assert_no_borrow();
        if self.state.with(py, |state| state.destroyed) {
            Err(PyValueError::new_err(DESTROYED))
        } else {
            Ok(())
        }
    }

    /// Fails after `destroy`, and on another thread than the loop's. A forked child may prepare what its loop will do.
    pub(super) fn check_usable(&self, py: Python<'_>) -> PyResult<()> {
        self.check_alive(py)?;
        match self.driver_ref.check(py) {
            Ok(()) | Err(WrongOwner::Fork) => Ok(()),
            Err(WrongOwner::Thread) => Err(wrong_thread(py)),
        }
    }

    /// Queues a call for the next turn.
    ///
    /// # Errors
    /// After `destroy`; `MemoryError`.
    pub(super) fn enqueue<'py>(
        &self,
        function: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, Callback>> {
        let py = function.py();
        assert_no_borrow();
        let (function, args) = (function.unbind(), args.unbind());
        let queued = self.state.with(py, |state| {
            if state.destroyed {
                return Err((function, args));
            }
            let Some(callback) = state.spare_callbacks.pop() else { return Err((function, args)) };
            callback.get().reuse(py, function, args);
            state.enqueue(callback.clone_ref(py));
            Ok(callback)
        });
        match queued {
            Ok(callback) => Ok(callback.into_bound(py)),
            Err((function, args)) => {
                // Bound again: see `py/vectorcall.rs`.
                let (function, args) = (function.into_bound(py), args.into_bound(py));
                self.check_alive(py)?;
                let callback = Bound::new(py, Callback::new(function.unbind(), args.unbind()))?;
                let queued = callback.clone().unbind();
                self.state.with(py, |state| state.enqueue(queued));
                Ok(callback)
            }
        }
    }

    /// Keeps the object of a call that is over for the next one, unless the application holds it.
    pub(super) fn recycle(&self, callback: Bound<'_, Callback>) {
        let py = callback.py();
        if !is_only_reference(&callback) {
            return;
        }
        let callback = callback.unbind();
        let surplus = self.state.with(py, |state| {
            if state.spare_callbacks.len() >= SPARE_CALLBACKS_MAX {
                return Some(callback);
            }
            state.spare_callbacks.push(callback);
            None
        });
        drop(surplus);
    }

    /// Starts a watcher that is not started yet.
    pub(super) fn activate(&self, watcher: &Bound<'_, Watcher>) -> PyResult<()> {
        let py = watcher.py();
        let me = watcher.get();
        let signal = me.inner.with(py, |inner| match inner.kind {
            WatcherKind::Signal(number) if inner.slot.is_none() => Some(number),
            _ => None,
        });
        if let Some(number) = signal {
            waker::watch_signal(number, &self.waker(py))?;
        }
        let keep = watcher.clone().unbind();
        let unused = self.state.with(py, |state| {
            me.inner.with(py, |inner| {
                if inner.slot.is_some() {
                    return Some(keep);
                }
                state.activate(keep, inner);
                None
            })
        });
        drop(unused);
        Ok(())
    }

    /// Stops a watcher. `forget`: its callback is let go of, too, and its event forgotten.
    pub(super) fn deactivate(&self, watcher: &Bound<'_, Watcher>, forget: bool) -> Stopped {
        assert_no_borrow();
        let py = watcher.py();
        let me = watcher.get();
        let (stopped, signal) = self.state.with(py, |state| {
            me.inner.with(py, |inner| {
                let signal = match inner.kind {
                    WatcherKind::Signal(number) if inner.slot.is_some() => Some(number),
                    _ => None,
                };
                let keep = state.deactivate(inner);
                if !forget {
                    return (Stopped { _watcher: keep, ..Stopped::default() }, signal);
                }
                inner.events = 0;
                let (callback, args) = (inner.callback.take(), inner.args.take());
                (Stopped { _watcher: keep, _callback: callback, _args: args }, signal)
            })
        });
        if let Some(number) = signal {
            self.release_signal(py, number);
        }
        stopped
    }

    /// Gives a signal its default effect back, if its last watcher is gone.
    fn release_signal(&self, py: Python<'_>, number: i32) {
        if number == waker::SIGNAL_CHILD && self.state.with(py, |state| state.takes_sigchld) {
            return;
        }
        let others = self.state.with(py, |state| state.listed(py, WatcherList::Signal));
        let same = |other: &Py<Watcher>| {
            other
                .get()
                .inner
                .with(py, |inner| matches!(inner.kind, WatcherKind::Signal(theirs) if theirs == number))
        };
        if !others.iter().any(same) {
            waker::unwatch_signal(number);
        }
    }

    /// Queues an event.
    pub(super) fn queue(&self, watcher: &Bound<'_, Watcher>, events: u32) {
        let py = watcher.py();
        let keep = watcher.clone().unbind();
        self.state.with(py, |state| watcher.get().inner.with(py, |inner| state.queue(keep, inner, events)));
    }

    /// Queues an event for every watcher of a list.
    pub(super) fn queue_list(&self, py: Python<'_>, list: WatcherList) {
        for watcher in self.state.with(py, |state| state.listed(py, list)) {
            self.queue(watcher.bind(py), READ);
        }
    }

    /// Sets whether `run` goes on for a watcher.
    pub(super) fn set_referenced(&self, py: Python<'_>, watcher: &Watcher, referenced: bool) {
        self.state.with(py, |state| {
            watcher.inner.with(py, |inner| {
                if inner.slot.is_some() {
                    state.refs += isize::from(referenced) - isize::from(inner.referenced);
                }
                inner.referenced = referenced;
            });
        });
    }

    /// Returns a handle of what ends the loop's wait.
    pub(super) fn waker(&self, py: Python<'_>) -> Arc<Waker> {
        self.waker.with(py, |waker| waker.clone())
    }

    /// Returns the source that wants turns of this loop, if there is one. A forked child has none.
    pub(super) fn source(&self, py: Python<'_>) -> Option<Rc<dyn LoopSource>> {
        self.driver_ref.with(py, |driver_ref| driver_ref.source()).ok().flatten().flatten()
    }

    /// Attaches a source: from now on its driver is used, and its steps are part of the loop's turns. Watchers stay
    /// started. `watch` is told what the loop works on.
    ///
    /// # Errors
    /// On another thread than the loop's, or when it is destroyed.
    pub(super) fn attach_source(
        &self,
        py: Python<'_>,
        source: Rc<dyn LoopSource>,
        watch: Arc<Watch>,
    ) -> PyResult<()> {
        self.check_usable(py)?;
        self.state.with(py, |state| state.watch = Some(watch));
        let name = source.driver().name();
        self.move_to(py, DriverRef::Shared(source), name)
    }

    /// Leaves the present driver for another one, where every io watcher is polled anew.
    fn move_to(&self, py: Python<'_>, driver_ref: DriverRef, name: &'static str) -> PyResult<()> {
        self.unarm(py);
        let former = self.driver_ref.take(py);
        if let Some((former, owner)) = former {
            former.release(owner);
        }
        self.driver_ref.replace(py, driver_ref);
        self.backend.with(py, |backend| *backend = name);
        Ok(())
    }

    /// Forgets which polls are armed; all of them will be armed with the next wait.
    fn unarm(&self, py: Python<'_>) {
        let all = self.state.with(py, |state| {
            state.wake_op = None;
            state.cancels.clear();
            state.all(py)
        });
        for watcher in &all {
            self.state.with(py, |state| {
                watcher.get().inner.with(py, |inner| {
                    if let (WatcherKind::Io(io), Some(slot)) = (&mut inner.kind, inner.slot) {
                        io.op = None;
                        state.mark_dirty(slot);
                    }
                });
            });
        }
    }

    /// Starts over in a forked child: the driver and the waker are the parent's, so new ones are made.
    ///
    /// # Errors
    /// Those of making them.
    pub(super) fn start_over_after_fork(&self, py: Python<'_>) -> PyResult<()> {
        let driver = Self::open_driver(self.main, self.requested)?;
        let fresh = Arc::new(Waker::new()?);
        let name = driver.name();
        // Its end would be that of the signals' handlers, too, until they are told of the new one.
        let before = self.waker.with(py, |waker| std::mem::replace(waker, fresh.clone()));
        self.move_to(py, DriverRef::Own(Box::new(driver)), name)?;
        waker::rebind_signals(&before, &fresh);
        drop(before);
        self.state.with(py, |state| {
            state.forget_children();
            state.update_now();
        });
        Ok(())
    }

    /// Returns what `repr` shows beyond the name of the driver.
    pub(super) fn format_details(&self, py: Python<'_>) -> String {
        let (pending, refs) = self.state.with(py, |state| (state.pending_count(), state.refs));
        let fileno = self.fileno(py).map_or_else(|| "None".to_owned(), |fd| fd.to_string());
        format!(" pending={pending} ref={refs} fileno={fileno}")
    }
}

/// Returns gevent's error for a loop that is used on another thread than its own.
fn wrong_thread(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let text = "this event loop belongs to another thread";
    match super::exception(py, &CLASS, "InvalidThreadUseError") {
        Ok(class) => class.call1((text,)).map_or_else(|error| error, PyErr::from_value),
        Err(_) => PyRuntimeError::new_err(text),
    }
}

/// A driver that libev's flags ask for.
pub(super) struct RequestedBackend {
    /// `None`: any.
    pub(super) choice: Option<Choice>,
    /// There is such a driver. libev's other names are accepted and mean nothing.
    pub(super) is_known: bool,
}

/// Returns the driver that libev's flags (a number, a name, or several; `GEVENT_BACKEND`) ask for.
///
/// # Errors
/// `TypeError` for flags of another type.
pub(super) fn requested_backend(flags: Option<&Bound<'_, PyAny>>) -> PyResult<RequestedBackend> {
    let any = RequestedBackend { choice: None, is_known: true };
    let Some(flags) = flags else { return Ok(any) };
    if flags.extract::<i64>().is_ok() {
        return Ok(any);
    }
    let names: Vec<String> = match flags.extract::<String>() {
        Ok(text) => text.split(',').map(|name| name.trim().to_lowercase()).collect(),
        Err(_) => flags.extract().map_err(|_| {
            PyTypeError::new_err(format!("flags must be an int, a str or a list of str, not {flags}"))
        })?,
    };
    let choice = names.iter().find_map(|name| match name.as_str() {
        "uring" => Some(Choice::Uring),
        "epoll" => Some(Choice::Epoll),
        _ => None,
    });
    Ok(RequestedBackend { choice, is_known: choice.is_some() })
}
