//! Events: expired timers, readiness, signals and ended children, as a wait has brought them, become events of
//! watchers.

use std::time::Duration;

use pyo3::prelude::*;

use crate::py::{assert_no_borrow, detached};
use rgunicorn_io::driver::{Completion, READABLE, Token, WRITABLE};
use rgunicorn_io::sys::waker;

use super::state::{LoopState, PRIORITY_MAX, WAKE};
use super::types::{Loop, Watcher};
use super::watcher_state::{WatcherKind, WatcherList};
use super::watchers::{differs, stat_path};
use super::{READ, WRITE};

/// After the waker could not be polled or emptied.
const FAILED_WAKE_PAUSE: Duration = Duration::from_millis(10);

/// The outcome of [`collect`].
pub(super) struct Collected {
    /// There are events to be handled.
    pub(super) has_events: bool,
    /// Python may have run: files were looked at, or watchers let go of.
    pub(super) ran_code: bool,
}

/// Turns what the wait brought into events of watchers: libev's order is checks, timers, descriptors.
pub(super) fn collect(this: &Bound<'_, Loop>, completions: &mut Vec<Completion>) -> Collected {
    let py = this.py();
    let me = this.get();
    let arrived = me.state.with(py, LoopState::end_wait);
    if arrived.checks {
        me.queue_list(py, WatcherList::Check);
    }
    if arrived.timers {
        expire_timers(this);
    }
    let (mut woken, mut wake_failed) = (false, false);
    for completion in completions.drain(..) {
        // What is not ours came for a source that has ended: it is of no use any more.
        let Completion::Poll { token, result } = completion else { continue };
        if token == WAKE {
            woken = true;
            wake_failed = result.is_err();
        } else {
            on_poll(me, py, token, result);
        }
    }
    if woken {
        me.state.with(py, |state| state.wake_op = None);
        wake_failed |= me.waker.with(py, |waker| waker.drain()).is_err();
        if wake_failed {
            // It would come again at once, and the loop would never sleep.
            detached(py, &mut || std::thread::sleep(FAILED_WAKE_PAUSE));
        }
        collect_signals(this);
    }
    if arrived.sent {
        collect_sent(me, py);
    }
    let (idle, pending) = me.state.with(py, |state| (state.has(WatcherList::Idle), state.has_pending()));
    if idle {
        queue_idle(me, py);
    }
    Collected { has_events: idle || pending, ran_code: arrived.timers || arrived.sent }
}

/// Turns a completed poll into an event of its watcher.
fn on_poll(me: &Loop, py: Python<'_>, token: Token, result: std::io::Result<u32>) {
    let watcher = me.state.with(py, |state| state.by_token(py, token));
    let Some(watcher) = watcher.map(|watcher| watcher.into_bound(py)) else { return };
    let keep = watcher.clone().unbind();
    // A descriptor that cannot be polled is reported as ready: its user meets the error.
    let mask = result.unwrap_or(READABLE | WRITABLE | TROUBLE);
    me.state.with(py, |state| {
        watcher.get().inner.with(py, |inner| {
            let WatcherKind::Io(io) = &mut inner.kind else { return };
            io.op = None;
            let mut events = 0;
            if mask & (READABLE | TROUBLE) != 0 {
                events |= READ;
            }
            if mask & (WRITABLE | TROUBLE) != 0 {
                events |= WRITE;
            }
            events &= io.events;
            let closing = io.closing;
            if let Some(slot) = inner.slot.filter(|_| !closing) {
                // Level-triggered: it is polled again with the next wait, if it is still started then.
                state.mark_dirty(slot);
            }
            if events != 0 {
                state.queue(keep, inner, events);
            }
        });
    });
}

/// `POLLERR | POLLHUP | POLLNVAL`: reported whether asked for or not.
const TROUBLE: u32 = 0x38;

/// Queues events for the timers that are due, and looks at the files that are.
fn expire_timers(this: &Bound<'_, Loop>) {
    let py = this.py();
    let me = this.get();
    loop {
        let due = me.state.with(py, |state| state.pop_due(py));
        let Some(watcher) = due else { return };
        let watcher = watcher.bind(py);
        let is_stat = watcher.get().inner.with(py, |inner| matches!(inner.kind, WatcherKind::Stat(_)));
        if is_stat {
            poll_stat(me, watcher);
            continue;
        }
        let keep = watcher.clone().unbind();
        let done = me.state.with(py, |state| {
            watcher.get().inner.with(py, |inner| {
                let now = state.now;
                let again = match (&mut inner.kind, inner.slot) {
                    (WatcherKind::Timer(timer), Some(slot)) if !timer.repeat.is_zero() => {
                        // Late ones are not made up for.
                        timer.due = timer.due.after(timer.repeat).max(now);
                        state.set_timer(slot, timer.due);
                        true
                    }
                    _ => false,
                };
                state.queue(keep, inner, READ);
                if again { None } else { state.deactivate(inner) }
            })
        });
        drop(done);
    }
}

/// Looks at a file whose time has come, and queues an event if it has changed.
fn poll_stat(me: &Loop, watcher: &Bound<'_, Watcher>) {
    let py = watcher.py();
    let known = me.state.with(py, |state| {
        watcher.get().inner.with(py, |inner| {
            let slot = inner.slot?;
            let WatcherKind::Stat(stat) = &inner.kind else { return None };
            state.set_timer(slot, state.now.after(stat.poll_interval()));
            Some((stat.path.clone_ref(py), stat.attr.as_ref().map(|attr| attr.clone_ref(py))))
        })
    });
    let Some((path, before)) = known else { return };
    assert_no_borrow();
    let now = stat_path(path.bind(py));
    let before = before.map(|before| before.into_bound(py));
    if !differs(before.as_ref(), now.as_ref()).unwrap_or(false) {
        return;
    }
    let now = now.map(Bound::unbind);
    let dropped = watcher.get().inner.with(py, |inner| match &mut inner.kind {
        WatcherKind::Stat(stat) => {
            let last = std::mem::replace(&mut stat.attr, now);
            std::mem::replace(&mut stat.prev, last)
        }
        _ => None,
    });
    drop(dropped);
    me.queue(watcher, READ);
}

/// Queues events for signals that have come, and has the children asked for.
fn collect_signals(this: &Bound<'_, Loop>) {
    let py = this.py();
    let me = this.get();
    let arrived = me.waker.with(py, |waker| waker::take_arrivals(waker));
    if !arrived.is_empty() {
        let watchers = me.state.with(py, |state| state.listed(py, WatcherList::Signal));
        let watches = |watcher: &&Py<Watcher>, number: i32| {
            watcher
                .get()
                .inner
                .with(py, |inner| matches!(inner.kind, WatcherKind::Signal(theirs) if theirs == number))
        };
        for number in arrived {
            for watcher in watchers.iter().filter(|watcher| watches(watcher, number)) {
                me.queue(watcher.bind(py), READ);
            }
        }
    }
    if me.main {
        me.state.with(py, LoopState::ask_for_children);
    }
}

/// Queues events for the async watchers that were sent one.
fn collect_sent(me: &Loop, py: Python<'_>) {
    for watcher in me.state.with(py, |state| state.take_sent(py)) {
        let sent = watcher.get().inner.with(py, |inner| match &mut inner.kind {
            WatcherKind::Async(facts) => std::mem::take(&mut facts.sent),
            _ => false,
        });
        if sent {
            me.queue(watcher.bind(py), READ);
        }
    }
}

/// Asks the kernel for a child if it is still watched, and for no other: the exit status of those is for the code that
/// waits for them. Its watchers are handled before the next child is asked for, as libev does.
pub(super) fn reap(me: &Loop, py: Python<'_>, pid: i32) {
    if !me.state.with(py, |state| state.watches_child(pid)) {
        return;
    }
    let Ok(Some((ended, status))) = waker::wait_child(pid) else { return };
    let watchers = me.state.with(py, |state| {
        if pid == 0 {
            state.ask_again();
        }
        let mut watchers = state.of_child(py, 0);
        watchers.extend(state.of_child(py, ended));
        watchers
    });
    for watcher in watchers {
        let keep = watcher.clone_ref(py);
        me.state.with(py, |state| {
            watcher.get().inner.with(py, |inner| {
                let WatcherKind::Child(child) = &mut inner.kind else { return };
                (child.rpid, child.rstatus) = (ended, status);
                state.queue_at(keep, inner, READ, PRIORITY_MAX);
            });
        });
    }
}

/// Queues events for the idle watchers of the highest priority that has some, unless an event of that priority or above
/// waits.
fn queue_idle(me: &Loop, py: Python<'_>) {
    let busy = me.state.with(py, |state| state.pending_priority());
    let idle = me.state.with(py, |state| state.listed(py, WatcherList::Idle));
    let priority = |watcher: &Py<Watcher>| watcher.get().inner.with(py, |inner| inner.priority);
    let Some(highest) = idle.iter().map(priority).max() else { return };
    if busy.is_some_and(|busy| busy >= highest) {
        return;
    }
    for watcher in idle.iter().filter(|watcher| priority(watcher) == highest) {
        me.queue(watcher.bind(py), READ);
    }
}
