//! One turn: callbacks, the wait, what it brought, in libev's order.
//!
//! Nothing is kept in local variables over a call into Python that could be stale after it: the call may have forked,
//! destroyed the loop, or may never come back.

use std::rc::Rc;
use std::time::Duration;

use pyo3::exceptions::PySystemError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::py::{WrongOwner, assert_no_borrow, catch_panic, detached};
use rgunicorn_io::driver::{Completion, READABLE};
use rgunicorn_io::sys::clock;
use rgunicorn_server::worker::LoopSource;

use super::callback::Callback;
use super::convert::{os_error, seconds};
use super::events::{collect, reap};
use super::state::{EventStep, LoopState, WAKE};
use super::types::{Loop, Watcher};
use super::watcher_state::{WatcherKind, WatcherList};
use super::watchers::poll_mask;

/// How long callbacks run before the loop looks for other events again, unless `sys.setswitchinterval` says otherwise.
const SLICE_DEFAULT: Duration = Duration::from_millis(5);

/// Runs turns. See `Loop.run`.
pub(super) fn run(this: &Bound<'_, Loop>, nowait: bool, once: bool) -> PyResult<()> {
    let py = this.py();
    let me = this.get();
    if me.driver_ref.check(py) == Err(WrongOwner::Thread) {
        me.check_usable(py)?;
    }
    me.state.with(py, |state| {
        state.breaking = false;
        state.depth += 1;
    });
    let result = turns(this, nowait, once);
    me.state.with(py, |state| {
        // A run within another one, whose callback has destroyed the loop, is not the only one to end.
        state.breaking = state.destroyed;
        state.depth = state.depth.saturating_sub(1);
    });
    result
}

/// Runs turns until the loop is to leave `run`.
fn turns(this: &Bound<'_, Loop>, nowait: bool, once: bool) -> PyResult<()> {
    let py = this.py();
    let me = this.get();
    let mut completions = Vec::new();
    loop {
        // Callbacks begin with it; where there are none, before the look at who takes part, for it may change that.
        if me.main && !me.state.with(py, |state| state.has_work()) {
            check_signals(this);
        }
        let mut source = enter(me, py)?;
        let (prepare, has_work, mut breaking) =
            me.state.with(py, |state| (state.has(WatcherList::Prepare), state.has_work(), state.breaking));
        let works = prepare || has_work;
        if works {
            if let Some(source) = source.take() {
                source.before_work();
            }
            if prepare {
                me.queue_list(py, WatcherList::Prepare);
            }
            handle_pending(this);
            run_callbacks(this);
            breaking = me.state.with(py, |state| state.breaking);
        }
        if breaking {
            return Ok(());
        }
        if works {
            source = enter(me, py)?;
        }
        source = wait(me, py, nowait, source, &mut completions)?;
        let collected = collect(this, &mut completions);
        if collected.has_events {
            if let Some(source) = me.source(py) {
                source.before_work();
            }
            handle_pending(this);
        }
        if collected.has_events || collected.ran_code {
            source = me.source(py);
        }
        let is_serving = source.is_some();
        if let Some(source) = source {
            source.dispatch();
        }
        let (breaking, done) = me.state.with(py, |state| (state.breaking, state.is_done()));
        if once || nowait || breaking || done && !is_serving {
            return Ok(());
        }
    }
}

/// Returns the source that takes part in what comes next. In a forked child the loop starts over, and its fork watchers
/// are told.
fn enter(me: &Loop, py: Python<'_>) -> PyResult<Option<Rc<dyn LoopSource>>> {
    match me.driver_ref.with(py, |driver_ref| driver_ref.source()) {
        Err(WrongOwner::Fork) => {
            me.start_over_after_fork(py)?;
            me.queue_list(py, WatcherList::Fork);
            Ok(None)
        }
        found => Ok(found.ok().flatten().flatten()),
    }
}

/// Waits for events, or looks for them. Takes the source that takes part, and returns the one that still does.
fn wait(
    me: &Loop,
    py: Python<'_>,
    nowait: bool,
    mut source: Option<Rc<dyn LoopSource>>,
    completions: &mut Vec<Completion>,
) -> PyResult<Option<Rc<dyn LoopSource>>> {
    // Python may run in there, and the source may end.
    let limit = source.as_ref().map(|source| source.prepare());
    source = source.filter(|source| source.is_serving());
    let limit = limit.filter(|_| source.is_some());
    let plan = me.state.with(py, |state| state.begin_wait(nowait, limit));
    if plan.needs_sync {
        me.sync_polls(py)?;
    }
    let timeout = plan.timeout;
    let mut result = Ok(());
    // A look need not be ended.
    let waited = if timeout.is_zero() {
        me.driver_ref.with(py, |driver_ref| {
            driver_ref.with(|driver| result = driver.wait(Some(timeout), completions));
        })
    } else {
        me.waker.with(py, |waker| waker.set_sleeping(true));
        let waited = me.driver_ref.with(py, |driver_ref| {
            driver_ref.with(|driver| {
                detached(py, &mut || result = driver.wait(Some(timeout), completions));
            });
        });
        me.waker.with(py, |waker| waker.set_sleeping(false));
        waited
    };
    // A child that was forked in `prepare` has not waited; its next turn starts over.
    debug_assert!(waited != Err(WrongOwner::Thread), "the loop's own thread");
    if let Err(error) = result {
        if let Some(source) = source {
            source.wait_failed(&error);
        }
        return Err(os_error(error));
    }
    if let Some(source) = &source {
        source.check(completions);
    }
    Ok(source)
}

impl Loop {
    /// Tells the driver what has changed since the last wait.
    fn sync_polls(&self, py: Python<'_>) -> PyResult<()> {
        if self.state.with(py, |state| state.wake_op.is_none()) {
            let waker = self.waker(py);
            let op = self
                .driver_ref
                .with(py, |driver_ref| driver_ref.with(|driver| driver.poll(waker.fd(), READABLE, WAKE)));
            if let Ok(Some(op)) = op {
                let op = op.map_err(os_error)?;
                self.state.with(py, |state| state.wake_op = Some(op));
            }
        }
        self.cancel_polls(py);
        while let Some((watcher, token)) = self.state.with(py, |state| state.next_dirty(py)) {
            let watcher = watcher.into_bound(py);
            let wanted = watcher.get().inner.with(py, |inner| match &mut inner.kind {
                WatcherKind::Io(io) if io.op.is_none() && !io.closing => {
                    Some((io.fd, poll_mask(io.events), std::mem::take(&mut io.fresh)))
                }
                _ => None,
            });
            let Some((fd, mask, fresh)) = wanted else { continue };
            let armed = self.driver_ref.with(py, |driver_ref| {
                driver_ref.with(|driver| {
                    if fresh { driver.poll(fd, mask, token) } else { driver.poll_again(fd, mask, token) }
                })
            });
            if let Ok(Some(Ok(key))) = armed {
                watcher.get().inner.with(py, |inner| {
                    if let WatcherKind::Io(io) = &mut inner.kind {
                        io.op = Some(key);
                    }
                });
            }
        }
        Ok(())
    }

    /// Cancels polls that no watcher wants any more.
    fn cancel_polls(&self, py: Python<'_>) {
        let cancels = self.state.with(py, |state| std::mem::take(&mut state.cancels));
        if cancels.is_empty() {
            return;
        }
        // On another thread, or in a forked child, they mean nothing.
        let _ = self.driver_ref.with(py, |driver_ref| {
            driver_ref.with(|driver| cancels.into_iter().for_each(|op| driver.poll_cancel(op)));
        });
    }

    /// Makes the kernel let go of a descriptor that is about to be closed.
    pub(super) fn release_fd(&self, py: Python<'_>, fd: i32) {
        if self.driver_ref.check(py).is_err() {
            return;
        }
        self.cancel_polls(py);
        let _ = self.driver_ref.with(py, |driver_ref| driver_ref.with(|driver| driver.release_file(fd)));
    }
}

/// Handles events, those of a higher priority first, until there is none.
fn handle_pending(this: &Bound<'_, Loop>) {
    let py = this.py();
    let me = this.get();
    while let Some(step) = me.state.with(py, LoopState::next_step) {
        let work = match step {
            EventStep::Reap(pid) => {
                reap(me, py, pid);
                continue;
            }
            EventStep::Handle(work) => work,
        };
        if work.heartbeat_due {
            heartbeat(me, py);
        }
        handle(this, &work.item.into_bound(py));
    }
}

/// Calls a watcher's callback for its event, if that still stands.
fn handle(this: &Bound<'_, Loop>, watcher: &Bound<'_, Watcher>) {
    let py = this.py();
    let me = watcher.get();
    let call = me.inner.with(py, |inner| {
        let events = std::mem::take(&mut inner.events);
        if events == 0 {
            return None;
        }
        let callback = inner.callback.as_ref()?.clone_ref(py);
        let args = inner.args.as_ref().map(|args| args.clone_ref(py));
        let passed = matches!(&inner.kind, WatcherKind::Io(io) if io.pass_events).then_some(events);
        Some((callback, args, passed))
    });
    let Some((callback, args, passed)) = call else { return };
    if this.get().main {
        check_signals(this);
    }
    let args = match (args, passed) {
        (Some(args), Some(events)) => {
            with_events(args.bind(py), events).unwrap_or_else(|_| args.into_bound(py))
        }
        (Some(args), None) => args.into_bound(py),
        (None, _) => PyTuple::empty(py),
    };
    let result = call_out(callback.bind(py), &args);
    drop(args);
    drop(callback);
    if let Err(error) = result {
        report(this, watcher.as_any(), error);
        let is_io = me.inner.with(py, |inner| matches!(inner.kind, WatcherKind::Io(_)));
        if is_io {
            Watcher::stop(watcher);
        }
    }
    // What is no longer started lets go of its callback, unless it was started again meanwhile.
    let idle = me.inner.with(py, |inner| inner.slot.is_none() && inner.events == 0);
    if idle {
        Watcher::stop(watcher);
    }
}

/// Returns the arguments with the marker replaced by what has happened.
fn with_events<'py>(args: &Bound<'py, PyTuple>, events: u32) -> PyResult<Bound<'py, PyTuple>> {
    let py = args.py();
    let first = events.into_pyobject(py)?.into_any();
    PyTuple::new(py, std::iter::once(first).chain(args.iter().skip(1)).collect::<Vec<_>>())
}

/// Calls Python on behalf of the loop's users: the one place that does.
#[inline]
fn call_out(callback: &Bound<'_, PyAny>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
    assert_no_borrow();
    catch_panic(|| {
        let result = if args.is_empty() { callback.call0() } else { callback.call1(args) };
        result.map(drop)
    })
}

/// Runs queued callbacks, those that they add too, for about as long as a thread runs before others have their turn.
/// What is left runs in the next turn, after a look at the descriptors.
fn run_callbacks(this: &Bound<'_, Loop>) {
    let py = this.py();
    let me = this.get();
    let mut slice = SLICE_DEFAULT;
    let mut slice_is_known = false;
    // Python code looks for signals by itself.
    if me.main {
        check_signals(this);
    }
    // Not the turn's time: requests that took long before this would leave no time for callbacks.
    let begun = clock::coarse_now();
    while let Some(work) = me.state.with(py, LoopState::next_callback) {
        if work.heartbeat_due {
            heartbeat(me, py);
        }
        let callback = work.item.into_bound(py);
        run_callback(this, &callback);
        me.recycle(callback);
        let elapsed = clock::coarse_now().since(begun);
        if elapsed > Duration::ZERO && !slice_is_known {
            slice_is_known = true;
            slice = switch_interval(py).unwrap_or(SLICE_DEFAULT);
        }
        if elapsed >= slice {
            me.state.with(py, LoopState::end_callbacks);
            return;
        }
    }
}

/// Beats on behalf of the source: a long turn is no standstill.
fn heartbeat(me: &Loop, py: Python<'_>) {
    if let Some(source) = me.source(py) {
        source.after_work();
    }
}

/// Runs one queued call.
#[inline]
fn run_callback(this: &Bound<'_, Loop>, callback: &Bound<'_, Callback>) {
    let py = this.py();
    let Some((function, args)) = callback.get().begin(py) else { return };
    let (function, args) = (function.into_bound(py), args.into_bound(py));
    let result = call_out(&function, &args);
    if let Err(error) = result {
        report(this, callback.as_any(), error);
    }
    let done = callback.get().call.with(py, |call| call.args.take());
    // Bound ones know that the interpreter lock is held, and need not find out.
    drop((done.map(|done| done.into_bound(py)), args, function));
}

/// Returns Python's `sys.getswitchinterval()`.
fn switch_interval(py: Python<'_>) -> PyResult<Duration> {
    Ok(seconds(py.import("sys")?.call_method0("getswitchinterval")?.extract()?))
}

/// Runs Python's signal handlers. What they raise goes to the main greenlet.
fn check_signals(this: &Bound<'_, Loop>) {
    if let Err(error) = this.py().check_signals() {
        let none = this.py().None();
        report(this, none.bind(this.py()), error);
    }
}

/// Gives an exception to the loop's handler.
pub(super) fn report(this: &Bound<'_, Loop>, context: &Bound<'_, PyAny>, error: PyErr) {
    let py = this.py();
    let class = error.get_type(py).into_any();
    let traceback = error.traceback(py).map_or_else(|| py.None().into_bound(py), Bound::into_any);
    let value = error.into_value(py).into_bound(py).into_any();
    handle_error(this, context, &class, &value, &traceback);
}

/// Handles an exception: see `Loop.handle_error`.
pub(super) fn handle_error(
    this: &Bound<'_, Loop>,
    context: &Bound<'_, PyAny>,
    class: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    traceback: &Bound<'_, PyAny>,
) {
    static HUB_DESTROYED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = this.py();
    let me = this.get();
    let destroyed = super::exception(py, &HUB_DESTROYED, "HubDestroyed");
    if destroyed.is_ok_and(|destroyed| class.is(&destroyed)) {
        // The hub's greenlet is told to end: the code that has thrown this waits for `run` to return. Events stay: the
        // next hub of this loop handles them.
        let dropped = me.state.with(py, |state| {
            state.breaking = true;
            state.take_callbacks()
        });
        drop(dropped);
        return;
    }
    let handler = me.error_handler(py);
    let Some(handler) = handler else {
        print(class, value, traceback);
        me.state.with(py, |state| state.breaking = true);
        return;
    };
    let handler = handler.into_bound(py);
    let handle = handler.getattr("handle_error").unwrap_or(handler);
    assert_no_borrow();
    let handled = catch_panic(|| handle.call1((context, class, value, traceback)));
    if let Err(error) = handled {
        if error.is_instance_of::<PySystemError>(py) {
            me.state.with(py, |state| state.breaking = true);
        }
        error.print(py);
    }
}

/// Prints an exception as Python would.
fn print(class: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, traceback: &Bound<'_, PyAny>) {
    let py = class.py();
    let printed = py
        .import("traceback")
        .and_then(|module| module.call_method1("print_exception", (class, value, traceback)));
    drop(printed);
}
