//! The loop's queues. Plain data: nothing in here calls Python, and whatever is taken out is dropped by the caller. `W`
//! is the class of the watchers, of which only their [`WatcherState`] is known here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use slab::Slab;

use crate::py::Watch;
use rgunicorn_io::driver::{OpKey, TimerHeap, Token};
use rgunicorn_io::sys::clock::{self, Instant};
use rgunicorn_server::worker::EXTERNAL;

use super::callback::Callback;
use super::watcher_state::{LISTS, WatcherKind, WatcherList, WatcherState};

/// Watchers of a higher priority are handled first (libev's range).
pub(super) const PRIORITY_MIN: i8 = -2;
/// See [`PRIORITY_MIN`].
pub(super) const PRIORITY_MAX: i8 = 2;
const PRIORITIES: usize = (PRIORITY_MAX - PRIORITY_MIN) as usize + 1;

/// The longest wait of one turn (libev's number): a bound for whatever was overlooked.
const WAIT_MAX: Duration = Duration::from_millis(59_743);
/// How often the wall clock is read: an administrator may set it.
const WALL_EVERY: Duration = Duration::from_millis(500);

/// How often the source beats while pieces of work follow each other; the master looks at heartbeats every second.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(100);

const GENERATION_MASK: u32 = 0x00ff_ffff;
/// The token of the waker; no slot has generation 0.
pub(super) const WAKE: Token = Token(EXTERNAL);

struct Started<W> {
    /// Keeps it alive: no other code has to.
    watcher: Py<W>,
    generation: u32,
}

/// A piece of the application's work, taken out of its queue.
pub(super) struct Work<T> {
    pub(super) item: Py<T>,
    /// Pieces have followed each other for a while: the source beats before this one.
    pub(super) heartbeat_due: bool,
}

/// A wait as it is about to begin.
pub(super) struct WaitPlan {
    pub(super) timeout: Duration,
    /// The driver has to be told of changes first.
    pub(super) needs_sync: bool,
}

/// The next step of a turn that handles events.
pub(super) enum EventStep<W> {
    /// To ask the kernel for a child.
    Reap(i32),
    /// To handle the event of a watcher.
    Handle(Work<W>),
}

/// Events that a wait brings without the driver.
pub(super) struct Arrived {
    /// Check watchers are started.
    pub(super) checks: bool,
    /// A timer is due.
    pub(super) timers: bool,
    /// Async watchers were sent an event. What they are sent from now on ends the next wait.
    pub(super) sent: bool,
}

/// The queues and the facts of one loop.
pub(super) struct LoopState<W> {
    pub(super) callbacks: VecDeque<Py<Callback>>,
    /// Objects of calls that are over, which the application does not hold: the next calls'. They refer to nothing.
    pub(super) spare_callbacks: Vec<Py<Callback>>,
    started: Slab<Started<W>>,
    timers: TimerHeap,
    /// Events to be handled, by priority; each watcher says whether its event still stands.
    pending: [VecDeque<Py<W>>; PRIORITIES],
    lists: [Vec<u32>; LISTS],
    /// Slots of the started watchers of each child; 0: any child.
    children: BTreeMap<i32, Vec<u32>>,
    /// Children that the kernel has to be asked for, one after the other. The callbacks for one that has ended run
    /// before the next is asked for: they may start watchers of it, and a status is given out once.
    asked: VecDeque<i32>,
    /// Async watchers that were sent an event since the last wait: slot and generation.
    sent: Vec<(u32, u32)>,
    /// SIGCHLD is taken for the watchers of children, whatever becomes of its other watchers.
    pub(super) takes_sigchld: bool,
    /// Slots of the started io watchers of each descriptor.
    by_fd: Vec<Vec<u32>>,
    /// Io watchers that have to be polled with the next wait: slot and generation.
    dirty: Vec<(u32, u32)>,
    /// Polls that no watcher wants any more.
    pub(super) cancels: Vec<OpKey>,
    /// The poll of the waker.
    pub(super) wake_op: Option<OpKey>,
    /// Reasons to go on: started watchers that the loop goes on for, queued callbacks, and calls of `ref`.
    pub(super) refs: isize,
    pub(super) now: Instant,
    /// Wall-clock nanoseconds at `Instant(0)`: the loop's time is given out as seconds since the epoch, as libev does.
    wall: i128,
    /// When [`LoopState::wall`] was read.
    wall_read: Instant,
    /// In a worker: reports callbacks that block the loop.
    pub(super) watch: Option<Arc<Watch>>,
    /// When the source last beat between pieces of work.
    heartbeat: Instant,
    pub(super) error_handler: Option<Py<PyAny>>,
    /// Asked to leave `run`.
    pub(super) breaking: bool,
    pub(super) destroyed: bool,
    /// Callbacks run: a timer that is started now counts from now, and not from the turn's beginning.
    pub(super) in_callbacks: bool,
    pub(super) depth: u32,
    pub(super) iteration: u64,
    generation: u32,
}

impl<W> LoopState<W> {
    /// Makes the queues of a new loop.
    pub(super) fn new() -> Self {
        let mut state = Self {
            callbacks: VecDeque::new(),
            spare_callbacks: Vec::new(),
            started: Slab::new(),
            timers: TimerHeap::default(),
            pending: Default::default(),
            lists: Default::default(),
            children: BTreeMap::new(),
            asked: VecDeque::new(),
            sent: Vec::new(),
            takes_sigchld: false,
            by_fd: Vec::new(),
            dirty: Vec::new(),
            cancels: Vec::new(),
            wake_op: None,
            refs: 0,
            now: Instant::default(),
            wall: 0,
            wall_read: Instant::default(),
            watch: None,
            heartbeat: Instant::default(),
            error_handler: None,
            breaking: false,
            destroyed: false,
            in_callbacks: false,
            depth: 0,
            iteration: 0,
            generation: 0,
        };
        state.update_now();
        state
    }

    /// Reads the clock, and now and then the wall clock.
    pub(super) fn update_now(&mut self) {
        self.now = clock::now();
        if self.now.since(self.wall_read) >= WALL_EVERY {
            self.wall_read = self.now;
            self.wall = clock::unix_now().as_nanos() as i128 - i128::from(self.now.0);
        }
    }

    /// Queues a call.
    pub(super) fn enqueue(&mut self, callback: Py<Callback>) {
        self.callbacks.push_back(callback);
        self.refs += 1;
    }

    /// Begins a piece of the application's work. True when a heartbeat is due: now and then, in a turn with much to do.
    fn begin_work(&mut self) -> bool {
        let Some(watch) = &self.watch else { return false };
        let now = clock::coarse_now();
        watch.begin(now);
        let due = now.since(self.heartbeat) >= HEARTBEAT_EVERY;
        if due {
            self.heartbeat = now;
        }
        due
    }

    /// Plans the wait that comes next, before which nothing of the application runs any more. It takes no time if the
    /// loop is to come back at once: because of `nowait`, of what is queued, or because nothing is waited for. `limit`
    /// is the longest wait that the source allows, if there is one.
    pub(super) fn begin_wait(&mut self, nowait: bool, limit: Option<Duration>) -> WaitPlan {
        self.iteration += 1;
        if let Some(watch) = &self.watch {
            watch.idle();
        }
        let needs_sync = self.wake_op.is_none() || !self.is_clean();
        let waits_for_nothing = limit.is_none() && self.refs <= 0;
        let has_events = self.has_work() || !self.sent.is_empty() || self.has(WatcherList::Idle);
        if nowait || has_events || waits_for_nothing {
            return WaitPlan { timeout: Duration::ZERO, needs_sync };
        }
        let mut timeout = limit.map_or(WAIT_MAX, |limit| limit.min(WAIT_MAX));
        if let Some((due, _)) = self.timers.first() {
            // What has run took its time: it is not waited for a second time.
            self.update_now();
            timeout = timeout.min(due.since(self.now));
        }
        WaitPlan { timeout, needs_sync }
    }

    /// Ends a wait: reads the clock, and says what came up without the driver.
    pub(super) fn end_wait(&mut self) -> Arrived {
        self.update_now();
        let timers = self.timers.first().is_some_and(|(at, _)| at <= self.now);
        Arrived { checks: self.has(WatcherList::Check), timers, sent: !self.sent.is_empty() }
    }

    /// Converts a time to seconds since the epoch.
    pub(super) fn seconds(&self, at: Instant) -> f64 {
        (i128::from(at.0) + self.wall) as f64 / 1e9
    }

    /// Takes in a watcher that is not started.
    pub(super) fn activate(&mut self, watcher: Py<W>, inner: &mut WatcherState) {
        debug_assert!(inner.slot.is_none(), "started once");
        self.generation = match (self.generation + 1) & GENERATION_MASK {
            0 => 1,
            next => next,
        };
        let generation = self.generation;
        let slot = self.started.insert(Started { watcher, generation }) as u32;
        inner.slot = Some(slot);
        self.refs += isize::from(inner.referenced);
        match &mut inner.kind {
            WatcherKind::Io(io) => {
                io.closing = false;
                let at = io.fd as usize;
                if self.by_fd.len() <= at {
                    self.by_fd.resize_with((at + 1).next_power_of_two(), Vec::new);
                }
                self.by_fd[at].push(slot);
                self.dirty.push((slot, generation));
            }
            WatcherKind::Timer(timer) => {
                timer.due = self.now.after(timer.left);
                self.timers.set(slot, timer.due);
            }
            WatcherKind::Stat(stat) => {
                let due = self.now.after(stat.poll_interval());
                self.timers.set(slot, due);
            }
            // What was sent before it was started is lost, as with libev.
            WatcherKind::Async(facts) => facts.sent = false,
            WatcherKind::Child(child) => {
                self.children.entry(child.pid).or_default().push(slot);
                // It may have ended before, and its signal may have been collected.
                self.asked.push_back(child.pid);
            }
            kind => {
                if let Some(list) = kind.list() {
                    self.lists[list as usize].push(slot);
                }
            }
        }
    }

    /// Forgets a started watcher; returns the reference that kept it alive.
    pub(super) fn deactivate(&mut self, inner: &mut WatcherState) -> Option<Py<W>> {
        let slot = inner.slot.take()?;
        self.refs -= isize::from(inner.referenced);
        match &mut inner.kind {
            WatcherKind::Io(io) => {
                self.cancels.extend(io.op.take());
                if let Some(slots) = self.by_fd.get_mut(io.fd as usize) {
                    slots.retain(|other| *other != slot);
                }
            }
            WatcherKind::Timer(timer) => {
                timer.left = timer.due.since(self.now);
                self.timers.clear(slot);
            }
            WatcherKind::Stat(_) => {
                self.timers.clear(slot);
            }
            WatcherKind::Async(_) => {}
            WatcherKind::Child(child) => {
                if let Some(slots) = self.children.get_mut(&child.pid) {
                    slots.retain(|other| *other != slot);
                    if slots.is_empty() {
                        self.children.remove(&child.pid);
                    }
                }
            }
            kind => {
                if let Some(list) = kind.list() {
                    self.lists[list as usize].retain(|other| *other != slot);
                }
            }
        }
        self.started.try_remove(slot as usize).map(|started| started.watcher)
    }

    /// Sets (or moves) the deadline of a started timer.
    pub(super) fn set_timer(&mut self, slot: u32, due: Instant) {
        self.timers.set(slot, due);
    }

    /// Queues an event of a watcher.
    pub(super) fn queue(&mut self, watcher: Py<W>, inner: &mut WatcherState, events: u32) {
        let priority = inner.priority;
        self.queue_at(watcher, inner, events, priority);
    }

    /// Queues an event of a watcher that is handled as if the watcher had that priority.
    pub(super) fn queue_at(&mut self, watcher: Py<W>, inner: &mut WatcherState, events: u32, priority: i8) {
        let first = inner.events == 0;
        inner.events |= events;
        if first {
            self.pending[(priority - PRIORITY_MIN) as usize].push_back(watcher);
        }
    }

    /// Takes the next step: a child to be asked for when the callbacks for the one before have run, or else the next
    /// watcher to be handled, of the highest priority the first queued. Its event may be void by now.
    pub(super) fn next_step(&mut self) -> Option<EventStep<W>> {
        if self.breaking {
            return None;
        }
        if !self.asked.is_empty() && self.pending[PRIORITIES - 1].is_empty() {
            return self.asked.pop_front().map(EventStep::Reap);
        }
        let item = self.pending.iter_mut().rev().find_map(VecDeque::pop_front)?;
        Some(EventStep::Handle(Work { item, heartbeat_due: self.begin_work() }))
    }

    /// Asks for every watched child in the steps that come, for "any child" last: it must not take away the statuses of
    /// children that are waited for by name.
    pub(super) fn ask_for_children(&mut self) {
        self.asked.clear();
        self.asked.extend(self.children.keys().filter(|pid| **pid > 0));
        self.asked.extend(self.children.contains_key(&0).then_some(0));
    }

    /// Asks for any child once more, after the callbacks for the one that was found.
    pub(super) fn ask_again(&mut self) {
        self.asked.push_front(0);
    }

    /// Forgets the children to be asked for: in a forked child they are not its own.
    pub(super) fn forget_children(&mut self) {
        self.asked.clear();
    }

    /// Returns the started watchers of a child.
    pub(super) fn of_child(&self, py: Python<'_>, pid: i32) -> Vec<Py<W>> {
        let slots = self.children.get(&pid);
        slots.into_iter().flatten().filter_map(|slot| self.watcher(py, *slot)).collect()
    }

    /// Returns whether a child is watched.
    pub(super) fn watches_child(&self, pid: i32) -> bool {
        self.children.contains_key(&pid)
    }

    /// Notes that an async watcher was sent an event; the next turn collects it. False if it is not started.
    pub(super) fn send(&mut self, inner: &mut WatcherState) -> bool {
        let (WatcherKind::Async(facts), Some(slot)) = (&mut inner.kind, inner.slot) else { return false };
        if let Some(started) = self.started.get(slot as usize)
            && !std::mem::replace(&mut facts.sent, true)
        {
            self.sent.push((slot, started.generation));
        }
        true
    }

    /// Takes the async watchers that were sent an event and are still started.
    pub(super) fn take_sent(&mut self, py: Python<'_>) -> Vec<Py<W>> {
        let sent = std::mem::take(&mut self.sent);
        let started = sent.into_iter().filter_map(|(slot, generation)| {
            self.started.get(slot as usize).filter(|started| started.generation == generation)
        });
        started.map(|started| started.watcher.clone_ref(py)).collect()
    }

    /// Takes the next queued call. From the first one to the end of the queue, or to [`LoopState::end_callbacks`],
    /// callbacks run.
    pub(super) fn next_callback(&mut self) -> Option<Work<Callback>> {
        let next = if self.breaking { None } else { self.callbacks.pop_front() };
        self.in_callbacks = next.is_some();
        let item = next?;
        self.refs -= 1;
        Some(Work { item, heartbeat_due: self.begin_work() })
    }

    /// Ends the run of callbacks before the queue is empty.
    pub(super) fn end_callbacks(&mut self) {
        self.in_callbacks = false;
    }

    /// Returns whether callbacks or events wait to be run.
    pub(super) fn has_work(&self) -> bool {
        !self.callbacks.is_empty() || self.has_pending()
    }

    /// Returns whether events wait to be handled, void ones included, or children to be asked for.
    pub(super) fn has_pending(&self) -> bool {
        !self.asked.is_empty() || self.pending.iter().any(|queue| !queue.is_empty())
    }

    /// Returns whether nothing is left that the loop would go on for.
    pub(super) fn is_done(&self) -> bool {
        self.refs <= 0 && self.callbacks.is_empty()
    }

    /// Returns the number of events that wait to be handled, void ones included.
    pub(super) fn pending_count(&self) -> usize {
        self.pending.iter().map(VecDeque::len).sum()
    }

    /// Returns the highest priority of a queued event; those of children have the highest.
    pub(super) fn pending_priority(&self) -> Option<i8> {
        if !self.asked.is_empty() {
            return Some(PRIORITY_MAX);
        }
        let at = self.pending.iter().rposition(|queue| !queue.is_empty())?;
        Some(at as i8 + PRIORITY_MIN)
    }

    /// Returns the started watchers of a list.
    pub(super) fn listed(&self, py: Python<'_>, list: WatcherList) -> Vec<Py<W>> {
        self.lists[list as usize].iter().filter_map(|slot| self.watcher(py, *slot)).collect()
    }

    /// Returns whether a list has watchers.
    pub(super) fn has(&self, list: WatcherList) -> bool {
        !self.lists[list as usize].is_empty()
    }

    /// Returns the started io watchers of a descriptor.
    pub(super) fn on_fd(&self, py: Python<'_>, fd: i32) -> Vec<Py<W>> {
        let slots = usize::try_from(fd).ok().and_then(|at| self.by_fd.get(at));
        slots.into_iter().flatten().filter_map(|slot| self.watcher(py, *slot)).collect()
    }

    /// Returns the watcher that is started in a slot.
    fn watcher(&self, py: Python<'_>, slot: u32) -> Option<Py<W>> {
        self.started.get(slot as usize).map(|started| started.watcher.clone_ref(py))
    }

    /// Returns the watcher that a completion's token names, if it has not been stopped since.
    pub(super) fn by_token(&self, py: Python<'_>, token: Token) -> Option<Py<W>> {
        if token.0 & EXTERNAL == 0 {
            // The source's.
            return None;
        }
        let (slot, generation) = (token.0 as u32, (token.0 >> 32) as u32 & GENERATION_MASK);
        let started = self.started.get(slot as usize).filter(|started| started.generation == generation)?;
        Some(started.watcher.clone_ref(py))
    }

    /// Takes the next timer that is due.
    pub(super) fn pop_due(&mut self, py: Python<'_>) -> Option<Py<W>> {
        let slot = self.timers.pop_due(self.now)?;
        self.watcher(py, slot)
    }

    /// Takes an io watcher that has to be polled, with its token.
    pub(super) fn next_dirty(&mut self, py: Python<'_>) -> Option<(Py<W>, Token)> {
        while let Some((slot, generation)) = self.dirty.pop() {
            if let Some(started) = self.started.get(slot as usize)
                && started.generation == generation
            {
                let token = Token(EXTERNAL | u64::from(generation) << 32 | u64::from(slot));
                return Some((started.watcher.clone_ref(py), token));
            }
        }
        None
    }

    /// Returns whether the driver knows of every change of io watchers.
    fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.cancels.is_empty()
    }

    /// Marks an io watcher whose poll is over: it is polled again with the next wait.
    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if let Some(started) = self.started.get(slot as usize) {
            self.dirty.push((slot, started.generation));
        }
    }

    /// Returns every started watcher.
    pub(super) fn all(&self, py: Python<'_>) -> Vec<Py<W>> {
        self.started.iter().map(|(_, started)| started.watcher.clone_ref(py)).collect()
    }

    /// Shows the collector what is referred to.
    pub(super) fn visit(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        visit.call(&self.error_handler)?;
        self.callbacks.iter().try_for_each(|callback| visit.call(callback))?;
        self.started.iter().try_for_each(|(_, started)| visit.call(&started.watcher))?;
        self.pending.iter().flatten().try_for_each(|watcher| visit.call(watcher))
    }

    /// Takes everything that waits to be handled, to be dropped.
    pub(super) fn take_queues(&mut self) -> (VecDeque<Py<Callback>>, Vec<Py<W>>) {
        let pending = self.pending.iter_mut().flat_map(|queue| queue.drain(..)).collect();
        (self.take_callbacks(), pending)
    }

    /// Takes the queued callbacks, to be dropped.
    pub(super) fn take_callbacks(&mut self) -> VecDeque<Py<Callback>> {
        self.refs -= self.callbacks.len() as isize;
        std::mem::take(&mut self.callbacks)
    }
}
