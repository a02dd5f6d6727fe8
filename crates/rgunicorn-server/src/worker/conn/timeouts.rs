//! Deadlines: the end of connections whose time is up, also because the worker leaves.

use rgunicorn_io::sys::clock::Instant;

use super::ConnPhase;
use super::io::{BytesIn, ConnIo, DRAIN_FRESH};
use super::progress::check_rates;
use crate::worker::event_source::EventSource;
use crate::worker::handling::SYSTEM_CALLS_BYTES;
use crate::worker::ids::ConnId;
use crate::worker::timers::ConnTimer;

/// Deadlines that each turn handles, also one that has handled enough: a flood must not keep connections for ever.
const EXPIRED_MIN: usize = 8;

impl ConnIo<'_> {
    /// Handles the deadlines that are due, some in any case; the rest comes with the next turn where this one has
    /// handled enough.
    #[inline]
    pub(crate) fn expire_timers(&mut self) {
        if self.setup.config.body_bytes_per_s_min > 0 {
            check_rates(self);
        }
        let mut done = 0;
        while let Some((id, timer)) = self.conns.pop_expired(self.turn.now()) {
            self.expire(id, timer);
            done += 1;
            self.turn.handling.count_work(SYSTEM_CALLS_BYTES);
            if done >= EXPIRED_MIN && self.turn.handling.is_over(|| self.driver.now()) {
                return;
            }
        }
    }

    /// Handles one of them.
    fn expire(&mut self, id: ConnId, timer: ConnTimer) {
        let Some(conn) = self.conns.get(id) else { return };
        if timer == ConnTimer::BodyStall && conn.awaits_body() {
            return self.stall_body(id);
        }
        let (output, phase) = (conn.has_output(), conn.phase);
        if !output && conn.is_stalled() && !self.draining {
            // It is not the client that is waited for.
            return self.restart_timer(id);
        }
        // Progress of output may wait for its turn.
        let goes_on = output && self.conns.has_late_output(id);
        match (output, phase) {
            (true, _) if timer != ConnTimer::WriteStall || goes_on => {
                self.start_timer(id, ConnTimer::WriteStall, self.setup.config.write_stall_timeout);
            }
            (true, _) => {
                self.setup.debug(format_args!("Closing a connection whose client does not read"));
                self.close(id);
            }
            (false, ConnPhase::Idle | ConnPhase::Body) => self.close_silent(id),
            (false, ConnPhase::Head) => {
                self.close_silent(id);
                // What had arrived was not the end of it either.
                if self.conns.get(id).is_some_and(|conn| conn.phase == ConnPhase::Head) {
                    self.close(id);
                }
            }
            // The rest of a body, and perhaps the next request, that have come in time and wait for their turn.
            (false, ConnPhase::Skipping) if self.conns.has_late_of(EventSource::Recv(id).token()) => {
                self.start_timer(id, timer, DRAIN_FRESH);
            }
            (false, _) => self.close(id),
        }
    }

    /// Closes a connection from which nothing has come in time, unless something has raced in: a loop that
    /// was blocked, or has more to receive than one turn takes, does not know yet. A request that is complete
    /// with it is answered.
    pub(super) fn close_silent(&mut self, id: ConnId) {
        let (data, end) = self.take_arrived(id);
        if data.is_empty() {
            return self.close(id);
        }
        self.bytes_in(id, BytesIn::Own(&data), end);
    }

    /// Closes the connections that are idle when the worker begins to leave, and gives those a moment that
    /// may be about to send a request, or to close after their answer.
    pub(crate) fn drain_idle(&mut self) {
        // A connection that had its last answer a moment ago still has most of its keep-alive time.
        let keepalive = self.setup.config.keepalive;
        let now = self.turn.now();
        let fresh = |at: Instant| keepalive.saturating_sub(at.since(now)) < DRAIN_FRESH;
        for id in self.conns.ids() {
            let Some(conn) = self.conns.get(id) else { continue };
            let (phase, output, served) = (conn.phase, conn.has_output(), conn.served);
            let was_busy = self.conns.timers.at(id.index).is_some_and(fresh);
            match phase {
                ConnPhase::Idle if !output && served && !was_busy => self.close_silent(id),
                // Those with output: their clients have not seen yet that they may send no further request.
                ConnPhase::Idle | ConnPhase::Lingering | ConnPhase::Skipping => {
                    self.start_timer(id, ConnTimer::Drain, DRAIN_FRESH);
                }
                ConnPhase::Head
                | ConnPhase::Body
                | ConnPhase::Running
                | ConnPhase::Flushing
                | ConnPhase::Closing => {}
            }
        }
    }
}
