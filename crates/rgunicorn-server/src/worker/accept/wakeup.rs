//! Wake-ups that would be lost. The kernel wakes one of those who wait for a connection, and nobody else for that
//! connection. If the one cannot take it, somebody has to look without having been woken:
//!
//! - A worker that is woken for a connection and gets work in the same turn would hold it while siblings idle. It leaves
//!   the connection in the queue and gives its siblings a nudge.
//! - A worker that works with its listeners armed (it was alone when it began), that ends, or that was killed may be woken
//!   to no purpose. Its siblings and successors look behind it.

use std::time::Duration;

use rgunicorn_io::driver::READABLE;
use rgunicorn_io::sys::shared::Scoreboard;
use std::os::fd::AsRawFd;

use crate::worker::event_source::EventSource;
use crate::worker::reactor::{Reactor, State};

/// How often a worker looks for connections whose wake-ups a sibling may have used up that does not accept.
const BACKLOG_CHECK_EVERY: Duration = Duration::from_millis(10);
/// The same of one that sleeps, and knows of no such sibling (it may be another master's, or killed).
const BACKLOG_CHECK_ASLEEP: Duration = Duration::from_millis(900);
/// A nudge wakes all that idle, so there are not more of them than one in this time.
const SIBLING_WAKEUP_EVERY: Duration = Duration::from_millis(1);

impl Reactor {
    fn board(&self) -> &Scoreboard {
        self.handles.slot.board()
    }

    /// Looks for a connection that nobody was woken for: often while a sibling is there that swallows wake-ups, else when
    /// this worker has slept for so long. `true`: there was one.
    pub(crate) fn polls_backlog(&self, state: &mut State) -> bool {
        if state.next_backlog_check.is_some_and(|at| state.now < at) {
            return false;
        }
        if state.next_backlog_check.is_none()
            && state.now.since(state.last_backlog_check) < BACKLOG_CHECK_ASLEEP
        {
            return false;
        }
        let age = self.handles.slot.read().age;
        let watch = self.board().readings().any(|reading| reading.age != age && reading.may_lose_wakeup());
        state.last_backlog_check = state.now;
        state.next_backlog_check = watch.then(|| state.now.after(BACKLOG_CHECK_EVERY));
        self.accept_left_over(state)
    }

    /// The wake-up of a shared listener has come. Is its connection to be left in the queue, because there is work to do
    /// first, and a sibling that can take it? Not twice in a row: under load there is always work, and always a sibling that
    /// will be free in a moment.
    pub(crate) fn passes_wakeup_on(&self, state: &mut State, index: usize) -> bool {
        let left = std::mem::take(&mut state.listeners[index].left);
        // Threads work while the loop waits.
        if left || state.jobs.is_empty() || state.draining || self.config.threads > 0 {
            return false;
        }
        let siblings = self.siblings(state);
        if !siblings.can_take() {
            return false;
        }
        // Those that do not wait see the queue when they are about to.
        if siblings.idle() {
            if state.now.since(state.siblings_woken_at) < SIBLING_WAKEUP_EVERY {
                return false;
            }
            state.siblings_woken_at = state.now;
            self.board().wake_siblings();
        }
        state.listeners[index].left = true;
        true
    }

    /// A sibling leaves a connection to whoever is free.
    pub(crate) fn on_sibling_wakeup(&self) {
        let state = &mut *self.state();
        state.sibling_wakeup = None;
        self.board().drain_sibling_wakeup();
        state.next_backlog_check = Some(state.now);
    }

    /// Before a wait among siblings: arms the poll of their nudges. It stays armed for good.
    pub(crate) fn arm_sibling_wakeup(&self, state: &mut State) {
        // As the pipe that signals write to: simulations have neither.
        if state.sibling_wakeup.is_none()
            && state.wake.is_some()
            && self.config.threads == 0
            && !self.is_only_worker()
        {
            let fd = self.board().sibling_wakeup().as_raw_fd();
            state.sibling_wakeup = state.driver.poll(fd, READABLE, EventSource::SiblingWakeup.token()).ok();
        }
    }
}
