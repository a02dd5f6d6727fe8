//! The methods of the class `Loop`, which gevent calls.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::py::{GilCell, ThreadBound, WrongOwner};
use rgunicorn_io::sys::waker::{self, Waker};

use super::callback::Callback;
use super::driver_ref::DriverRef;
use super::hub_loop::{Stopped, requested_backend};
use super::state::{LoopState, PRIORITY_MAX, PRIORITY_MIN};
use super::types::{Loop, Watcher};
use super::watcher_state::{WatcherKind, WatcherList};
use super::watchers::{Async, Check, Child, Fork, Idle, Io, Prepare, Signal, Stat, Timer};

#[pymethods]
impl Loop {
    #[new]
    #[pyo3(signature = (flags=None, default=None))]
    fn py_new(flags: Option<&Bound<'_, PyAny>>, default: Option<bool>) -> PyResult<Self> {
        let main = default.unwrap_or(true);
        let requested = requested_backend(flags)?;
        let driver = Self::open_driver(main, requested.choice)?;
        let backend = if requested.is_known { driver.name() } else { "default" };
        Ok(Self {
            state: GilCell::new(LoopState::new()),
            waker: GilCell::new(Arc::new(Waker::new()?)),
            driver_ref: ThreadBound::new(DriverRef::Own(Box::new(driver))),
            main,
            backend: GilCell::new(backend),
            requested: requested.choice,
        })
    }

    /// Runs until nothing is left to wait for, `break_` is called, or (`once`, `nowait`) for one turn.
    #[pyo3(signature = (nowait=false, once=false))]
    fn run(this: &Bound<'_, Self>, nowait: bool, once: bool) -> PyResult<()> {
        this.get().check_alive(this.py())?;
        super::turn::run(this, nowait, once)
    }

    /// Queues `func(*args)` for the next turn.
    #[pyo3(signature = (func, *args))]
    fn run_callback<'py>(
        &self,
        func: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, Callback>> {
        self.enqueue(func, args)
    }

    /// Queues `func(*args)` from any thread: the loop is woken.
    #[pyo3(signature = (func, *args))]
    fn run_callback_threadsafe<'py>(
        &self,
        func: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, Callback>> {
        let py = func.py();
        let callback = self.run_callback(func, args)?;
        self.waker(py).wake();
        Ok(callback)
    }

    #[pyo3(signature = (fd, events, r#ref=true, priority=None))]
    fn io(
        this: &Bound<'_, Self>,
        fd: i32,
        events: u32,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<Io>> {
        let kind = Io::kind(fd, events)?;
        Py::new(this.py(), (Io, Watcher::new(this, r#ref, priority, kind)?))
    }

    #[pyo3(signature = (after, repeat=0.0, r#ref=true, priority=None))]
    fn timer(
        this: &Bound<'_, Self>,
        after: f64,
        repeat: f64,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<Timer>> {
        let kind = Timer::kind(after, repeat)?;
        Py::new(this.py(), (Timer, Watcher::new(this, r#ref, priority, kind)?))
    }

    #[pyo3(signature = (signum, r#ref=true, priority=None))]
    fn signal(
        this: &Bound<'_, Self>,
        signum: i32,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<Signal>> {
        let kind = Signal::kind(signum)?;
        Py::new(this.py(), (Signal, Watcher::new(this, r#ref, priority, kind)?))
    }

    #[pyo3(signature = (r#ref=true, priority=None))]
    fn idle(this: &Bound<'_, Self>, r#ref: bool, priority: Option<i32>) -> PyResult<Py<Idle>> {
        Py::new(this.py(), (Idle, Watcher::new(this, r#ref, priority, WatcherKind::Idle)?))
    }

    #[pyo3(signature = (r#ref=true, priority=None))]
    fn prepare(this: &Bound<'_, Self>, r#ref: bool, priority: Option<i32>) -> PyResult<Py<Prepare>> {
        Py::new(this.py(), (Prepare, Watcher::new(this, r#ref, priority, WatcherKind::Prepare)?))
    }

    #[pyo3(signature = (r#ref=true, priority=None))]
    fn check(this: &Bound<'_, Self>, r#ref: bool, priority: Option<i32>) -> PyResult<Py<Check>> {
        Py::new(this.py(), (Check, Watcher::new(this, r#ref, priority, WatcherKind::Check)?))
    }

    #[pyo3(signature = (r#ref=true, priority=None))]
    fn fork(this: &Bound<'_, Self>, r#ref: bool, priority: Option<i32>) -> PyResult<Py<Fork>> {
        Py::new(this.py(), (Fork, Watcher::new(this, r#ref, priority, WatcherKind::Fork)?))
    }

    #[pyo3(signature = (r#ref=true, priority=None))]
    fn async_(this: &Bound<'_, Self>, r#ref: bool, priority: Option<i32>) -> PyResult<Py<Async>> {
        Py::new(this.py(), (Async, Watcher::new(this, r#ref, priority, Async::kind())?))
    }

    /// Calls `async_`, of which this is the former name.
    #[pyo3(signature = (r#ref=true, priority=None))]
    fn r#async(this: &Bound<'_, Self>, r#ref: bool, priority: Option<i32>) -> PyResult<Py<Async>> {
        Self::async_(this, r#ref, priority)
    }

    #[pyo3(signature = (pid, trace=0, r#ref=true))]
    fn child(this: &Bound<'_, Self>, pid: i32, trace: i32, r#ref: bool) -> PyResult<Py<Child>> {
        let _ = trace;
        let me = this.get();
        if !me.main {
            return Err(PyTypeError::new_err("child watchers are only available on the default loop"));
        }
        me.install_sigchld(this.py())?;
        Py::new(this.py(), (Child, Watcher::new(this, r#ref, None, Child::kind(pid))?))
    }

    #[pyo3(signature = (path, interval=0.0, r#ref=true, priority=None))]
    fn stat(
        this: &Bound<'_, Self>,
        path: Bound<'_, PyAny>,
        interval: f64,
        r#ref: bool,
        priority: Option<i32>,
    ) -> PyResult<Py<Stat>> {
        let kind = Stat::kind(path, interval)?;
        Py::new(this.py(), (Stat, Watcher::new(this, r#ref, priority, kind)?))
    }

    /// Lets go of a descriptor that is about to be closed. True if watchers of it are started: they get an event, and
    /// the caller closes the descriptor after the next wait. Otherwise it may be closed at once.
    fn closing_fd(&self, py: Python<'_>, fd: i32) -> PyResult<bool> {
        self.check_alive(py)?;
        let started = self.state.with(py, |state| state.on_fd(py, fd));
        for watcher in &started {
            let keep = watcher.clone_ref(py);
            self.state.with(py, |state| {
                watcher.get().inner.with(py, |inner| {
                    let WatcherKind::Io(io) = &mut inner.kind else { return };
                    io.closing = true;
                    state.cancels.extend(io.op.take());
                    let events = io.events & (super::READ | super::WRITE);
                    if events != 0 {
                        state.queue(keep, inner, events);
                    }
                });
            });
        }
        self.release_fd(py, fd);
        Ok(!started.is_empty())
    }

    /// Starts to reap watched children and to tell their watchers.
    pub(super) fn install_sigchld(&self, py: Python<'_>) -> PyResult<()> {
        if self.main {
            waker::watch_signal(waker::SIGNAL_CHILD, &self.waker(py))?;
            self.state.with(py, |state| state.takes_sigchld = true);
        }
        Ok(())
    }

    /// Ends what `install_sigchld` began.
    fn reset_sigchld(&self, py: Python<'_>) {
        if self.main {
            self.state.with(py, |state| state.takes_sigchld = false);
            waker::forget_signal(waker::SIGNAL_CHILD);
        }
    }

    /// Returns the time of this turn, in seconds since the epoch.
    fn now(&self, py: Python<'_>) -> PyResult<f64> {
        self.check_alive(py)?;
        Ok(self.state.with(py, |state| state.seconds(state.now)))
    }

    /// Reads the clock.
    fn update_now(&self, py: Python<'_>) -> PyResult<()> {
        self.check_alive(py)?;
        self.state.with(py, LoopState::update_now);
        Ok(())
    }

    /// Calls `update_now`, of which this is the former name.
    fn update(&self, py: Python<'_>) -> PyResult<()> {
        self.update_now(py)
    }

    /// Counts a reason to go on.
    fn r#ref(&self, py: Python<'_>) -> PyResult<()> {
        self.check_alive(py)?;
        self.state.with(py, |state| state.refs += 1);
        Ok(())
    }

    /// Takes a reason to go on away.
    fn unref(&self, py: Python<'_>) -> PyResult<()> {
        self.check_alive(py)?;
        self.state.with(py, |state| state.refs -= 1);
        Ok(())
    }

    /// Leaves `run` as soon as the present piece of work is over.
    #[pyo3(signature = (how=1))]
    fn break_(&self, py: Python<'_>, how: i32) -> PyResult<()> {
        self.check_alive(py)?;
        self.state.with(py, |state| state.breaking = how != 0);
        Ok(())
    }

    /// Starts over in a forked child. A child that does not call it is noticed at its next turn.
    fn reinit(&self, py: Python<'_>) -> PyResult<()> {
        let destroyed = self.check_alive(py).is_err();
        if !destroyed && self.driver_ref.check(py) == Err(WrongOwner::Fork) {
            self.start_over_after_fork(py)?;
            self.queue_list(py, WatcherList::Fork);
        }
        Ok(())
    }

    /// Ends the loop: watchers are stopped, descriptors closed. Everything but `stop` and `close` of watchers fails
    /// after it.
    fn destroy(&self, py: Python<'_>) {
        let already = self.state.with(py, |state| std::mem::replace(&mut state.destroyed, true));
        if already {
            return;
        }
        let (started, queues, handler) = self.state.with(py, |state| {
            state.breaking = true;
            (state.all(py), state.take_queues(), state.error_handler.take())
        });
        let stopped: Vec<Stopped> =
            started.iter().map(|watcher| self.deactivate(watcher.bind(py), true)).collect();
        // It may be waiting on its own thread.
        self.waker(py).wake();
        if self.main && self.driver_ref.check(py).is_ok() {
            waker::release_signals(&self.waker(py));
        }
        if let Some((driver_ref, owner)) = self.driver_ref.take(py) {
            driver_ref.release(owner);
        }
        drop((started, queues, handler, stopped));
    }

    /// Returns the handler of callbacks' errors: an object with a method `handle_error`, or a function.
    #[getter]
    pub(super) fn error_handler(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.error_handler.as_ref().map(|handler| handler.clone_ref(py)))
    }

    #[setter]
    fn set_error_handler(&self, handler: Bound<'_, PyAny>) {
        let py = handler.py();
        let new = (!handler.is_none()).then(|| handler.unbind());
        let before = self.state.with(py, |state| std::mem::replace(&mut state.error_handler, new));
        drop(before);
    }

    /// Gives an error to the handler.
    #[pyo3(signature = (context, r#type, value, tb))]
    fn handle_error(
        this: &Bound<'_, Self>,
        context: Bound<'_, PyAny>,
        r#type: Bound<'_, PyAny>,
        value: Bound<'_, PyAny>,
        tb: Bound<'_, PyAny>,
    ) {
        super::turn::handle_error(this, &context, &r#type, &value, &tb);
    }

    /// Returns whether this is the loop of the main thread's hub.
    #[getter]
    fn default(&self, py: Python<'_>) -> bool {
        self.main && !self.state.with(py, |state| state.destroyed)
    }

    #[getter(MAXPRI)]
    fn priority_max(&self) -> i8 {
        PRIORITY_MAX
    }

    #[getter(MINPRI)]
    fn priority_min(&self) -> i8 {
        PRIORITY_MIN
    }

    /// Returns the resolution of timers in seconds: they are as fine as the kernel's.
    #[getter]
    fn approx_timer_resolution(&self) -> f64 {
        0.000_01
    }

    #[getter(WatcherType)]
    fn watcher_type<'py>(&self, py: Python<'py>) -> Bound<'py, PyType> {
        py.get_type::<Watcher>()
    }

    /// Returns the name of the driver that waits: `uring` or `epoll`.
    #[getter]
    fn backend(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.check_alive(py)?;
        Ok(self.backend.with(py, |backend| *backend))
    }

    /// Returns libev's number of the back end.
    #[getter]
    fn backend_int(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(if self.backend(py)? == "uring" { 0x80 } else { 4 })
    }

    /// Returns a number that names the loop; 0 when it is destroyed.
    #[getter]
    fn ptr(this: &Bound<'_, Self>) -> usize {
        let destroyed = this.get().state.with(this.py(), |state| state.destroyed);
        if destroyed { 0 } else { this.as_ptr() as usize }
    }

    #[getter]
    fn pendingcnt(&self, py: Python<'_>) -> PyResult<usize> {
        self.check_alive(py)?;
        Ok(self.state.with(py, |state| state.pending_count()))
    }

    #[getter]
    fn activecnt(&self, py: Python<'_>) -> PyResult<isize> {
        self.check_alive(py)?;
        Ok(self.state.with(py, |state| state.refs))
    }

    #[getter]
    fn iteration(&self, py: Python<'_>) -> PyResult<u64> {
        self.check_alive(py)?;
        Ok(self.state.with(py, |state| state.iteration))
    }

    #[getter]
    fn depth(&self, py: Python<'_>) -> PyResult<u32> {
        self.check_alive(py)?;
        Ok(self.state.with(py, |state| state.depth))
    }

    /// Returns the flags that libev would have been given.
    #[getter]
    fn origflags(&self) -> Vec<&'static str> {
        Vec::new()
    }

    #[getter]
    fn origflags_int(&self) -> i32 {
        0
    }

    /// Checks the loop's structures (they cannot be wrong without a panic).
    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        self.check_alive(py)
    }

    /// Returns the driver's descriptor, if it has one and this is its thread.
    pub(super) fn fileno(&self, py: Python<'_>) -> Option<i32> {
        self.driver_ref
            .with(py, |driver_ref| driver_ref.with(|driver| driver.fileno()))
            .ok()
            .flatten()
            .flatten()
    }

    /// Returns a line for each started watcher.
    fn debug(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let all = self.state.with(py, |state| state.all(py));
        all.iter().map(|watcher| Ok(watcher.bind(py).repr()?.to_string())).collect()
    }

    fn _format(&self, py: Python<'_>) -> String {
        if self.state.with(py, |state| state.destroyed) {
            return "destroyed".to_owned();
        }
        let backend = self.backend.with(py, |backend| *backend);
        let default = if self.main { " default" } else { "" };
        format!("{backend}{default}{}", self.format_details(py))
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let class = this.get_type().name()?;
        Ok(format!("<{class} at {:#x} {}>", this.as_ptr() as usize, this.get()._format(this.py())))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.state.peek(|state| state.visit(visit)).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        Python::attach(|py| self.destroy(py));
    }
}
