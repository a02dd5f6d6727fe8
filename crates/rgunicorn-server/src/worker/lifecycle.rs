//! Timers and the end: what happens to connections when their time is up or the worker leaves.

use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::log::Level;
use rgunicorn_io::sys::process;

use super::conn::ConnPhase;
use crate::worker::ids::ConnId;
use crate::worker::reactor::{Reactor, State};
use crate::worker::timers::ConnTimer;

/// How long a connection that may be about to send a request, or to close after its answer, is given while the worker
/// leaves. One that had its last answer within this time before may be: a busy client's next request is on its way.
pub(crate) const DRAIN_FRESH: Duration = Duration::from_millis(500);

impl Reactor {
    /// Handles every timer that is due.
    pub(crate) fn expire_timers(&self) {
        let state = &mut *self.state();
        while let Some((index, class)) = state.timers.pop_expired(state.now) {
            let Some(conn) = state.conns.get(index as usize) else {
                continue;
            };
            let id = ConnId { index, generation: conn.generation };
            if class == ConnTimer::BodyStall as u8 && conn.awaits_body() {
                self.stall_body(state, id);
                continue;
            }
            match (conn.has_output(), conn.phase) {
                (true, _) if class != ConnTimer::WriteStall as u8 => {
                    state.start_timer(index, ConnTimer::WriteStall, self.config.write_stall_timeout);
                }
                (true, _) => {
                    self.handles
                        .errors
                        .log(Level::Debug, format_args!("Closing a connection whose client does not read"));
                    state.close(id);
                }
                (false, ConnPhase::Idle | ConnPhase::Body) => self.close_silent(state, id),
                (false, ConnPhase::Head) => {
                    self.close_silent(state, id);
                    // What had arrived was not the end of it either.
                    if state.conn(id).is_some_and(|conn| conn.phase == ConnPhase::Head) {
                        state.close(id);
                    }
                }
                (false, _) => state.close(id),
            }
        }
    }

    /// Closes a connection from which nothing has come in time, unless something has raced in: a loop that was blocked, or
    /// has more to receive than one turn takes, does not know yet. A request that is complete with it is answered.
    fn close_silent(&self, state: &mut State, id: ConnId) {
        let (data, eof) = state.take_arrived(id);
        if let Some(conn) = state.conn(id) {
            conn.read_closed |= eof;
        }
        if data.is_empty() {
            return state.close(id);
        }
        self.feed_held(state, id, &data);
    }

    /// The worker leaves, a turn of it: stop accepting, close what is idle, take what the kernel has queued for us. Requests
    /// in flight, and those that still arrive, are answered with `Connection: close`.
    pub(crate) fn drain(&self) {
        let state = &mut *self.state();
        if !state.draining {
            self.begin_drain(state);
        }
        self.take_queue(state);
    }

    fn begin_drain(&self, state: &mut State) {
        state.draining = true;
        state.drain_deadline = Some(state.now.after(self.config.graceful_timeout));
        self.disarm_listeners(state);
        for listener in &state.listeners {
            // Siblings have the same socket, so that closing it here does not take this worker out of the kernel's queue of
            // those who wait, and a wake-up that is used up for it would be lost.
            state.driver.release_file(listener.fd());
        }
        let ids: Vec<ConnId> = state
            .conns
            .iter()
            .map(|(index, conn)| ConnId { index: index as u32, generation: conn.generation })
            .collect();
        for id in ids {
            let Some(conn) = state.conn(id) else { continue };
            let (phase, output) = (conn.phase, conn.has_output());
            let quiet = conn.served && !self.was_busy(state, id.index);
            match phase {
                // Its client has not seen yet that it may send no further request.
                ConnPhase::Idle if output => state.start_timer(id.index, ConnTimer::Drain, DRAIN_FRESH),
                ConnPhase::Idle if quiet => self.close_silent(state, id),
                ConnPhase::Idle => state.start_timer(id.index, ConnTimer::Drain, DRAIN_FRESH),
                ConnPhase::Lingering | ConnPhase::Skipping => {
                    state.start_timer(id.index, ConnTimer::Drain, DRAIN_FRESH);
                }
                ConnPhase::Head
                | ConnPhase::Body
                | ConnPhase::Running
                | ConnPhase::Flushing
                | ConnPhase::Closing => {}
            }
        }
    }

    /// Accepts what waits at the listeners, as there is room for it, and then closes them: who connects later must be
    /// refused, or go to another worker, and not wait for nobody.
    fn take_queue(&self, state: &mut State) {
        let for_others = self.queue_is_for_others();
        state.queue_waits = !state.listeners.is_empty() && !state.leaving && !for_others;
        if !state.queue_waits || state.accept_paused_until.is_some_and(|until| state.now < until) {
            return;
        }
        state.accept_paused_until = None;
        if self.accept_rest(state) {
            state.queue_waits = false;
            state.listeners.clear();
            self.handles.listener_guard.take();
        }
    }

    /// What waits at the listeners is left to the siblings and successors. A worker that leaves could take more of it than
    /// it can answer within its `graceful_timeout`; they have all the time. Asked in each turn, because the server may
    /// stop, or lose its master, while the worker is leaving: then nobody else would take it.
    fn queue_is_for_others(&self) -> bool {
        let slot = &self.handles.slot;
        self.config.shares_listeners
            && slot.is_replaced()
            && (slot.board().workers() > 0 || slot.board().has_other_master())
            && process::parent_id() == self.handles.parent
    }

    /// An idle connection had its last answer a moment ago: so much of its keep-alive time is left.
    fn was_busy(&self, state: &State, index: u32) -> bool {
        let since_answer =
            state.timers.at(index).map(|at| self.config.keepalive.saturating_sub(at.since(state.now)));
        since_answer.is_some_and(|time| time < DRAIN_FRESH)
    }

    /// Nothing left to answer, or no time left to do so.
    pub(crate) fn is_drained(&self) -> bool {
        let state = self.state();
        state.has_drained() || state.draining && state.drain_deadline.is_some_and(|at| state.now >= at)
    }

    /// The worker leaves with this turn or soon: no further request is begun, nothing is accepted. What is in progress may
    /// still be ended by whoever calls the steps of a turn.
    pub fn leave(&self) {
        self.drain();
        let state = &mut *self.state();
        state.leaving = true;
        state.queue_waits = false;
        // It is over, and must not shorten waits to nothing.
        state.drain_deadline = None;
    }

    /// How long the next wait may take.
    pub(crate) fn wait_time(&self, state: &State) -> Duration {
        if !state.jobs.is_empty()
            || !state.deferred_drops.is_empty()
            || (state.has_drained() && !state.leaving)
        {
            return Duration::ZERO;
        }
        let mut wait = self.config.idle_wait_max;
        let looks = [state.accept_paused_until, state.balancer.next_look, state.next_backlog_check];
        for at in [state.timers.next(), state.drain_deadline].into_iter().chain(looks).flatten() {
            wait = wait.min(at.since(state.now));
        }
        wait
    }
}

impl State {
    /// What has come on a connection and was not told yet, and whether that is its end. Reception is no longer armed.
    pub(crate) fn take_arrived(&mut self, id: ConnId) -> (Vec<u8>, bool) {
        let Some(conn) = self.conn(id) else {
            return Default::default();
        };
        let (fd, op) = (conn.fd.as_raw_fd(), conn.recv.take());
        let arrived = op.map(|op| self.driver.recv_stop(op)).unwrap_or_default();
        if arrived == Default::default() { self.driver.try_recv(fd) } else { arrived }
    }

    /// The worker leaves, and nothing is left to answer or to wait for.
    fn has_drained(&self) -> bool {
        self.draining && self.jobs.is_empty() && self.load() == 0 && !self.queue_waits
    }
}
