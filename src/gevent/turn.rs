//! One turn: callbacks, the wait, what it brought, in libev's order.
//!
//! Nothing is kept in local variables over a call that could be stale after it: the call may have forked, destroyed the
//! loop, or may never come back.

use std::time::Duration;

use pyo3::exceptions::PySystemError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::py::{WrongOwner, assert_no_borrow, catch_panic};
use rgunicorn_io::driver::{Completion, READABLE};
use rgunicorn_io::sys::clock;

use super::READ;
use super::callback::Callback;
use super::events::collect;
use super::hub_loop::{Loop, os_error};
use super::state::{LoopState, WAKE, WatcherList};
use super::watcher::{Watcher, WatcherKind};
use super::watchers::poll_mask;

/// The longest wait of one turn (libev's number): a bound for whatever was overlooked.
const WAIT_MAX: Duration = Duration::from_millis(59_743);
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

fn turns(this: &Bound<'_, Loop>, nowait: bool, once: bool) -> PyResult<()> {
    let py = this.py();
    let me = this.get();
    let mut completions = Vec::new();
    loop {
        notice_fork(me, py)?;
        if let Some(guest) = me.guest(py).filter(|guest| guest.is_serving()) {
            guest.begin_turn();
        }
        queue_list(me, py, WatcherList::Prepare);
        if me.state.with(py, |state| state.pending_count() > 0 || !state.callbacks.is_empty()) {
            before_work(me, py);
            handle_pending(this);
            run_callbacks(this);
        } else if me.main {
            check_signals(this);
        }
        if me.state.with(py, |state| state.breaking) {
            return Ok(());
        }
        notice_fork(me, py)?;
        wait(me, py, nowait, &mut completions)?;
        collect(this, &mut completions);
        if me.state.with(py, |state| state.pending_count() > 0) {
            before_work(me, py);
            handle_pending(this);
        }
        if let Some(guest) = me.guest(py).filter(|guest| guest.is_serving()) {
            guest.work();
        }
        let over =
            me.state.with(py, |state| state.breaking || (state.refs <= 0 && state.callbacks.is_empty()));
        let guest = me.guest(py).is_some_and(|guest| guest.is_serving());
        if once || nowait || over && !guest || me.state.with(py, |state| state.breaking) {
            return Ok(());
        }
    }
}

/// In a forked child the loop starts over, and says so to those who asked.
fn notice_fork(me: &Loop, py: Python<'_>) -> PyResult<()> {
    if me.driver_ref.check(py) == Err(WrongOwner::Fork) {
        me.start_over_after_fork(py)?;
        queue_list(me, py, WatcherList::Fork);
    }
    Ok(())
}

fn before_work(me: &Loop, py: Python<'_>) {
    if let Some(guest) = me.guest(py).filter(|guest| guest.is_serving()) {
        guest.before_work();
    }
}

/// A long turn is no standstill.
fn heartbeat(me: &Loop, py: Python<'_>) {
    if let Some(guest) = me.guest(py).filter(|guest| guest.is_serving()) {
        guest.after_work();
    }
}

/// Queues an event for every watcher of a list.
pub(super) fn queue_list(me: &Loop, py: Python<'_>, list: WatcherList) {
    if !me.state.with(py, |state| state.has(list)) {
        return;
    }
    for watcher in me.state.with(py, |state| state.listed(py, list)) {
        me.queue(watcher.bind(py), READ);
    }
}

/// Waits for events, or looks for them.
fn wait(me: &Loop, py: Python<'_>, nowait: bool, completions: &mut Vec<Completion>) -> PyResult<()> {
    let guest = me.guest(py).filter(|guest| guest.is_serving());
    me.sync_polls(py)?;
    let own = me.state.with(py, |state| {
        state.iteration += 1;
        state.end_work();
        let at_once = nowait
            || !state.callbacks.is_empty()
            || state.pending_count() > 0
            || state.has(WatcherList::Idle)
            || (state.refs <= 0 && guest.is_none());
        if at_once {
            return Duration::ZERO;
        }
        // What has run took its time: it is not waited for a second time.
        state.update_now();
        state.until_timer().unwrap_or(WAIT_MAX).min(WAIT_MAX)
    });
    let timeout = guest.as_ref().map_or(own, |guest| own.min(guest.before_wait()));
    let blocking = !timeout.is_zero();
    // Who only looks need not be woken.
    let waker = blocking.then(|| me.waker(py));
    if let Some(waker) = &waker {
        waker.set_sleeping(true);
    }
    let mut result = Ok(());
    let waited = me.driver_ref.with(py, |driver_ref| {
        driver_ref.with(|driver| {
            if blocking {
                crate::py::blocking(&mut || result = driver.wait(Some(timeout), completions));
            } else {
                result = driver.wait(Some(timeout), completions);
            }
        });
    });
    if let Some(waker) = &waker {
        waker.set_sleeping(false);
    }
    debug_assert!(waited.is_ok(), "the loop's own thread");
    result.map_err(os_error)?;
    me.state.with(py, LoopState::update_now);
    if let Some(guest) = guest {
        guest.after_wait(completions);
    }
    Ok(())
}

impl Loop {
    /// Tells the driver what has changed since the last wait.
    fn sync_polls(&self, py: Python<'_>) -> PyResult<()> {
        let unarmed = self.wake.with(py, |(_, op)| op.is_none());
        if unarmed {
            let waker = self.waker(py);
            let op = self
                .driver_ref
                .with(py, |driver_ref| driver_ref.with(|driver| driver.poll(waker.fd(), READABLE, WAKE)));
            if let Ok(Some(op)) = op {
                let op = op.map_err(os_error)?;
                self.wake.with(py, |wake| wake.1 = Some(op));
            }
        }
        if self.state.with(py, |state| state.is_clean()) {
            return Ok(());
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

    /// Takes polls back that nobody wants.
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
    loop {
        let (next, tell) = me.state.with(py, |state| {
            let tell = state.begin_work();
            (if state.breaking { None } else { state.next_pending() }, tell)
        });
        let Some(watcher) = next else { return };
        if tell {
            heartbeat(me, py);
        }
        handle(this, watcher.bind(py));
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

/// The arguments with the marker replaced by what has happened.
fn with_events<'py>(args: &Bound<'py, PyTuple>, events: u32) -> PyResult<Bound<'py, PyTuple>> {
    let py = args.py();
    let first = events.into_pyobject(py)?.into_any();
    PyTuple::new(py, std::iter::once(first).chain(args.iter().skip(1)).collect::<Vec<_>>())
}

/// The one place where the loop calls Python on behalf of its users.
#[inline]
fn call_out(callback: &Bound<'_, PyAny>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
    assert_no_borrow();
    catch_panic(|| {
        let result = if args.is_empty() { callback.call0() } else { callback.call1(args) };
        result.map(drop)
    })
}

/// Runs queued callbacks, those that they add too, for about as long as a thread runs before others have their turn. What
/// is left runs in the next turn, after a look at the descriptors.
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
    me.state.with(py, |state| state.in_callbacks = true);
    loop {
        let (next, tell) = me.state.with(py, |state| {
            let next = if state.breaking { None } else { state.callbacks.pop_front() };
            state.refs -= isize::from(next.is_some());
            (next, state.begin_work())
        });
        let Some(callback) = next else { break };
        if tell {
            heartbeat(me, py);
        }
        let callback = callback.into_bound(py);
        run_callback(this, &callback);
        me.put_back(callback);
        let elapsed = clock::coarse_now().since(begun);
        if elapsed > Duration::ZERO && !slice_is_known {
            slice_is_known = true;
            slice = switch_interval(py).unwrap_or(SLICE_DEFAULT);
        }
        if elapsed >= slice {
            break;
        }
    }
    me.state.with(py, |state| state.in_callbacks = false);
}

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

fn switch_interval(py: Python<'_>) -> PyResult<Duration> {
    Ok(super::hub_loop::seconds(py.import("sys")?.call_method0("getswitchinterval")?.extract()?))
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

/// See `Loop.handle_error`.
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
        // The hub's greenlet is told to end: whoever has thrown this waits for `run` to return. Events stay: the next hub of
        // this loop handles them.
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

fn print(class: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, traceback: &Bound<'_, PyAny>) {
    let py = class.py();
    let printed = py
        .import("traceback")
        .and_then(|module| module.call_method1("print_exception", (class, value, traceback)));
    drop(printed);
}
