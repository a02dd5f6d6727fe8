//! The classes of watchers, and what each of them can do beyond starting and stopping.

use pyo3::exceptions::{PyAttributeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use rgunicorn_io::driver::{READABLE, WRITABLE};
use rgunicorn_io::sys::waker;

use super::convert::{os_error, seconds};
use super::types::Watcher;
use super::watcher_state::{AsyncFacts, ChildFacts, IoFacts, StatFacts, TimerFacts, WatcherKind};
use super::{IOFDSET, READ, WRITE};

/// Returns the text of events: `READ|WRITE`, and other bits as a number.
pub(super) fn events_text(events: u32) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (bit, name) in [(READ, "READ"), (WRITE, "WRITE"), (IOFDSET, "_IOFDSET")] {
        if events & bit != 0 {
            parts.push(name.to_owned());
        }
    }
    let rest = events & !(READ | WRITE | IOFDSET);
    if rest != 0 || parts.is_empty() {
        parts.push(format!("{rest:#x}"));
    }
    parts.join("|")
}

/// Returns the mask of poll(2) for gevent's events.
pub(super) fn poll_mask(events: u32) -> u32 {
    let read = if events & READ != 0 { READABLE } else { 0 };
    let write = if events & WRITE != 0 { WRITABLE } else { 0 };
    read | write
}

/// Readiness of a descriptor. Level-triggered: called in every turn in which there is something.
#[pyclass(frozen, extends = Watcher, name = "io", module = "rgunicorn.gevent")]
pub struct Io;

impl Io {
    pub(super) fn kind(fd: i32, events: u32) -> PyResult<WatcherKind> {
        if fd < 0 {
            return Err(PyValueError::new_err(format!("fd must be non-negative: {fd}")));
        }
        if events & !(READ | WRITE | IOFDSET) != 0 {
            return Err(PyValueError::new_err(format!("illegal event mask: {events}")));
        }
        waker::check_open(fd).map_err(os_error)?;
        let events = events | IOFDSET;
        let facts = IoFacts { fd, events, op: None, pass_events: false, closing: false, fresh: true };
        Ok(WatcherKind::Io(facts))
    }

    fn facts<R>(this: &Bound<'_, Self>, look: impl FnOnce(&mut IoFacts) -> R) -> PyResult<R> {
        let found = this.as_super().get().inner.with(this.py(), |inner| match &mut inner.kind {
            WatcherKind::Io(facts) => Some(look(facts)),
            _ => None,
        });
        found.ok_or_else(|| PyAttributeError::new_err("not an io watcher"))
    }
}

#[pymethods]
impl Io {
    /// Starts to watch; with `pass_events` the callback's first argument is the event.
    #[pyo3(signature = (callback, *args, pass_events=false))]
    fn start(
        this: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        pass_events: bool,
    ) -> PyResult<()> {
        let py = this.py();
        let args = if pass_events {
            let marker = py.import("rgunicorn.gevent")?.getattr("EVENTS")?;
            let items = std::iter::once(marker).chain(args.iter());
            PyTuple::new(py, items.collect::<Vec<_>>())?
        } else {
            args
        };
        let watcher = this.as_super();
        Watcher::set_target(watcher, callback, args)?;
        Self::facts(this, |facts| facts.begin(pass_events))?;
        watcher.get().owner.get().activate(watcher)
    }

    #[getter]
    fn fd(this: &Bound<'_, Self>) -> PyResult<i32> {
        Self::facts(this, |facts| facts.fd)
    }

    #[setter]
    fn set_fd(this: &Bound<'_, Self>, fd: i32) -> PyResult<()> {
        Watcher::check_inactive(this.as_super(), "fd")?;
        if fd < 0 {
            return Err(PyValueError::new_err(format!("fd must be non-negative: {fd}")));
        }
        // The loop's table is as long as the highest number: it has to be one that the system knows.
        waker::check_open(fd).map_err(os_error)?;
        Self::facts(this, |facts| (facts.fd, facts.events, facts.fresh) = (fd, facts.events | IOFDSET, true))
    }

    #[getter]
    fn events(this: &Bound<'_, Self>) -> PyResult<u32> {
        Self::facts(this, |facts| facts.events)
    }

    #[setter]
    fn set_events(this: &Bound<'_, Self>, events: u32) -> PyResult<()> {
        Watcher::check_inactive(this.as_super(), "events")?;
        Self::facts(this, |facts| (facts.events, facts.fresh) = (events | IOFDSET, true))
    }

    #[getter]
    fn events_str(this: &Bound<'_, Self>) -> PyResult<String> {
        Self::facts(this, |facts| events_text(facts.events))
    }

    fn _format(this: &Bound<'_, Self>) -> PyResult<String> {
        Self::facts(this, |facts| format!(" fd={} events={}", facts.fd, events_text(facts.events)))
    }
}

/// A point in time, once or again and again.
#[pyclass(frozen, extends = Watcher, name = "timer", module = "rgunicorn.gevent")]
pub struct Timer;

impl Timer {
    pub(super) fn kind(after: f64, repeat: f64) -> PyResult<WatcherKind> {
        if after.is_nan() || repeat.is_nan() {
            return Err(PyValueError::new_err("a timer's seconds must be numbers, not nan"));
        }
        if repeat < 0.0 {
            return Err(PyValueError::new_err(format!("repeat must be positive or zero: {repeat:?}")));
        }
        let facts = TimerFacts { left: seconds(after), repeat: seconds(repeat), due: Default::default() };
        Ok(WatcherKind::Timer(facts))
    }

    /// Reads the clock before a timer starts if that was asked for, or while callbacks run: they may take their time.
    fn update_now(this: &Bound<'_, Self>, update: Option<bool>) {
        let py = this.py();
        this.as_super().get().owner.get().state.with(py, |state| {
            if update.unwrap_or(state.in_callbacks) {
                state.update_now();
            }
        });
    }
}

#[pymethods]
impl Timer {
    /// Starts the timer. `update`: whether the time counts from now, or from the beginning of the turn; default: from
    /// now in a callback.
    #[pyo3(signature = (callback, *args, update=None))]
    fn start(
        this: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        update: Option<bool>,
    ) -> PyResult<()> {
        Watcher::set_target(this.as_super(), callback, args)?;
        Self::update_now(this, update);
        this.as_super().get().owner.get().activate(this.as_super())
    }

    /// Starts a timer anew: it is due after `repeat`. Without a repetition it is stopped.
    #[pyo3(signature = (callback, *args, update=true))]
    fn again(
        this: &Bound<'_, Self>,
        callback: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        update: Option<bool>,
    ) -> PyResult<()> {
        let (py, watcher) = (this.py(), this.as_super());
        Watcher::set_target(watcher, callback, args)?;
        Self::update_now(this, update);
        let owner = watcher.get().owner.get();
        let repeats = watcher.get().inner.with(py, |inner| {
            // An event that waits to be handled is forgotten: it was of the former start.
            inner.events = 0;
            matches!(&inner.kind, WatcherKind::Timer(timer) if !timer.repeat.is_zero())
        });
        if !repeats {
            let stopped = owner.deactivate(watcher, false);
            drop(stopped);
            return Ok(());
        }
        owner.activate(watcher)?;
        owner.state.with(py, |state| {
            watcher.get().inner.with(py, |inner| {
                if let (WatcherKind::Timer(timer), Some(slot)) = (&mut inner.kind, inner.slot) {
                    timer.due = state.now.after(timer.repeat);
                    state.set_timer(slot, timer.due);
                }
            });
        });
        Ok(())
    }

    /// Returns when it is due, while it is started; the time that is left otherwise. In seconds.
    #[getter]
    fn at(this: &Bound<'_, Self>) -> f64 {
        let (py, watcher) = (this.py(), this.as_super().get());
        watcher.owner.get().state.with(py, |state| {
            watcher.inner.with(py, |inner| match (&inner.kind, inner.slot) {
                (WatcherKind::Timer(timer), Some(_)) => state.seconds(timer.due),
                (WatcherKind::Timer(timer), None) => timer.left.as_secs_f64(),
                _ => 0.0,
            })
        })
    }
}

/// A signal of the process. While it is watched, Python's own handler for it is not called.
#[pyclass(frozen, extends = Watcher, name = "signal", module = "rgunicorn.gevent")]
pub struct Signal;

impl Signal {
    pub(super) fn kind(number: i32) -> PyResult<WatcherKind> {
        if number < 1 || usize::try_from(number).is_ok_and(|number| number >= waker::SIGNAL_NUMBERS) {
            return Err(PyValueError::new_err(format!("illegal signal number: {number}")));
        }
        Ok(WatcherKind::Signal(number))
    }
}

/// A child process that has ended. Only on the default loop.
#[pyclass(frozen, extends = Watcher, name = "child", module = "rgunicorn.gevent")]
pub struct Child;

impl Child {
    pub(super) fn kind(pid: i32) -> WatcherKind {
        WatcherKind::Child(ChildFacts { pid, rpid: 0, rstatus: 0 })
    }

    fn facts<R>(this: &Bound<'_, Self>, look: impl FnOnce(&mut ChildFacts) -> R) -> PyResult<R> {
        let found = this.as_super().get().inner.with(this.py(), |inner| match &mut inner.kind {
            WatcherKind::Child(facts) => Some(look(facts)),
            _ => None,
        });
        found.ok_or_else(|| PyAttributeError::new_err("not a child watcher"))
    }
}

#[pymethods]
impl Child {
    /// Returns the child that is waited for; 0 for any.
    #[getter]
    fn pid(this: &Bound<'_, Self>) -> PyResult<i32> {
        Self::facts(this, |facts| facts.pid)
    }

    /// Returns the child that has ended.
    #[getter]
    fn rpid(this: &Bound<'_, Self>) -> PyResult<i32> {
        Self::facts(this, |facts| facts.rpid)
    }

    #[setter]
    fn set_rpid(this: &Bound<'_, Self>, value: i32) -> PyResult<()> {
        Self::facts(this, |facts| facts.rpid = value)
    }

    /// Returns its status, as `os.waitpid` gives it.
    #[getter]
    fn rstatus(this: &Bound<'_, Self>) -> PyResult<i32> {
        Self::facts(this, |facts| facts.rstatus)
    }

    #[setter]
    fn set_rstatus(this: &Bound<'_, Self>, value: i32) -> PyResult<()> {
        Self::facts(this, |facts| facts.rstatus = value)
    }

    fn _format(this: &Bound<'_, Self>) -> PyResult<String> {
        Self::facts(this, |facts| format!(" pid={} rstatus={}", facts.pid, facts.rstatus))
    }
}

/// A file that changes, appears or goes; looked at from time to time.
#[pyclass(frozen, extends = Watcher, name = "stat", module = "rgunicorn.gevent")]
pub struct Stat;

impl Stat {
    pub(super) fn kind(path: Bound<'_, PyAny>, interval: f64) -> PyResult<WatcherKind> {
        // A path that cannot be one fails here.
        path.py().import("os")?.call_method1("fsencode", (&path,))?;
        Ok(WatcherKind::Stat(Box::new(StatFacts { path: path.unbind(), interval, attr: None, prev: None })))
    }

    fn facts<R>(this: &Bound<'_, Self>, look: impl FnOnce(&mut StatFacts) -> R) -> PyResult<R> {
        let found = this.as_super().get().inner.with(this.py(), |inner| match &mut inner.kind {
            WatcherKind::Stat(facts) => Some(look(facts)),
            _ => None,
        });
        found.ok_or_else(|| PyAttributeError::new_err("not a stat watcher"))
    }
}

/// Calls `os.stat(path)`; `None` when there is no such file.
pub(super) fn stat_path<'py>(path: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    path.py().import("os").and_then(|os| os.call_method1("stat", (path,))).ok()
}

/// Returns whether two looks saw different files. Times are compared as precisely as the file system keeps them.
pub(super) fn differs(before: Option<&Bound<'_, PyAny>>, after: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    let (Some(before), Some(after)) = (before, after) else {
        return Ok(before.is_some() != after.is_some());
    };
    for name in ["st_mtime_ns", "st_ctime_ns"] {
        if before.getattr(name)?.ne(after.getattr(name)?)? {
            return Ok(true);
        }
    }
    before.ne(after)
}

#[pymethods]
impl Stat {
    /// Starts to look at the file.
    #[pyo3(signature = (callback, *args))]
    fn start(this: &Bound<'_, Self>, callback: Bound<'_, PyAny>, args: Bound<'_, PyTuple>) -> PyResult<()> {
        let py = this.py();
        if this.as_super().get().is_active(py) {
            // A look now would hide a change since the last one.
            return Watcher::start(this.as_super(), callback, args);
        }
        let path = Self::facts(this, |facts| {
            facts.fix_interval();
            facts.path.clone_ref(py)
        })?;
        let now = stat_path(path.bind(py)).map(Bound::unbind);
        let before = Self::facts(this, |facts| std::mem::replace(&mut facts.attr, now))?;
        drop(before);
        Watcher::start(this.as_super(), callback, args)
    }

    /// Returns the path as it was given.
    #[getter]
    fn path(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::facts(this, |facts| facts.path.clone_ref(this.py()))
    }

    /// Returns the path as the system takes it.
    #[getter]
    fn _paths<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let path = Self::path(this)?;
        this.py().import("os")?.call_method1("fsencode", (path,))
    }

    /// Returns the seconds between two looks.
    #[getter]
    fn interval(this: &Bound<'_, Self>) -> PyResult<f64> {
        Self::facts(this, |facts| facts.interval)
    }

    /// Returns the result of the last look; None for no file.
    #[getter]
    fn attr(this: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Self::facts(this, |facts| facts.attr.as_ref().map(|attr| attr.clone_ref(this.py())))
    }

    /// Returns the result of the look before.
    #[getter]
    fn prev(this: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        Self::facts(this, |facts| facts.prev.as_ref().map(|prev| prev.clone_ref(this.py())))
    }

    fn _format(this: &Bound<'_, Self>) -> PyResult<String> {
        let path = Self::path(this)?;
        let shown: Bound<'_, PyString> = path.bind(this.py()).repr()?;
        Ok(format!(" path={shown}"))
    }
}

/// An event that other threads may send.
#[pyclass(frozen, extends = Watcher, name = "async_", module = "rgunicorn.gevent")]
pub struct Async;

impl Async {
    pub(super) fn kind() -> WatcherKind {
        WatcherKind::Async(AsyncFacts::default())
    }
}

#[pymethods]
impl Async {
    /// Sends the event, for the next turn. From any thread.
    fn send(this: &Bound<'_, Self>) -> PyResult<()> {
        let (py, watcher) = (this.py(), this.as_super());
        let owner = watcher.get().owner.get();
        owner.check_alive(py)?;
        let active = owner.state.with(py, |state| watcher.get().inner.with(py, |inner| state.send(inner)));
        if active {
            owner.waker(py).wake();
        }
        Ok(())
    }

    /// Sends the event; for callbacks that get an argument.
    fn send_ignoring_arg(this: &Bound<'_, Self>, _ignored: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::send(this)
    }
}

/// A fork: called in the child.
#[pyclass(frozen, extends = Watcher, name = "fork", module = "rgunicorn.gevent")]
pub struct Fork;

/// The beginning of a turn, before the wait.
#[pyclass(frozen, extends = Watcher, name = "prepare", module = "rgunicorn.gevent")]
pub struct Prepare;

/// The end of a wait.
#[pyclass(frozen, extends = Watcher, name = "check", module = "rgunicorn.gevent")]
pub struct Check;

/// A turn in which nothing else (of its priority or higher) has happened.
#[pyclass(frozen, extends = Watcher, name = "idle", module = "rgunicorn.gevent")]
pub struct Idle;
