//! Bodies that the application reads while they arrive (`WorkerConfig::stream_bodies`). What has come and was
//! not read is bounded: at the limit reception pauses, and TCP's window holds the client back.

use super::ConnPhase;
use super::incoming::{BodyFault, BodyRead, SkipProgress};
use super::io::{BytesIn, ConnIo, DRAIN_FRESH};
use crate::worker::ids::{ConnId, RequestId};
use crate::worker::timers::ConnTimer;

impl ConnIo<'_> {
    /// Reads at most `bytes_max` bytes, and at least one, of the body of the request in progress.
    pub(crate) fn read_body(&mut self, id: RequestId, bytes_max: usize) -> BodyRead {
        let Some(conn) = self.conns.running(id) else { return BodyRead::Failed(BodyFault::Gone) };
        let Some(incoming) = conn.incoming() else { return BodyRead::End };
        let read = incoming.read(bytes_max);
        let (held, change) = (incoming.held_bytes(), conn.recount());
        self.conns.count_bytes(change);
        // Not as soon as there is room for a byte: pausing again costs more than that.
        if held <= self.setup.config.body_window_bytes_max / 2 {
            self.arm_recv(id.conn);
        }
        read
    }

    /// Notes that the application waits for something to read. `false`: there is already.
    pub(crate) fn await_body(&mut self, id: RequestId) -> bool {
        let now = self.turn.reading();
        let incoming = self.conns.running(id).and_then(|conn| conn.incoming());
        let Some(incoming) = incoming.filter(|incoming| !incoming.is_readable()) else { return false };
        incoming.begin_wait(now);
        self.start_timer(id.conn, ConnTimer::BodyStall, self.setup.config.body_stall_timeout);
        true
    }

    /// Goes on when something has come of a body that the application reads, or its end or a fault.
    pub(crate) fn after_body_input(&mut self, id: ConnId) {
        let (now, bytes_per_s) = (self.turn.reading(), self.setup.config.body_bytes_per_s_min);
        let Some(conn) = self.conns.get(id) else { return };
        let parked = conn.parked;
        let Some(incoming) = conn.incoming().filter(|incoming| incoming.is_awaited()) else { return };
        incoming.check_rate(now, bytes_per_s);
        if !incoming.is_readable() {
            // Framing only, but the client is alive.
            return self.start_timer(id, ConnTimer::BodyStall, self.setup.config.body_stall_timeout);
        }
        incoming.set_awaited(false);
        if parked {
            // Another greenlet of the application writes; its clock had given way to this one's.
            self.start_timer(id, ConnTimer::WriteStall, self.setup.config.write_stall_timeout);
        } else {
            self.conns.timers.stop(id.index);
        }
        self.conns.resume(id);
    }

    /// Ends the wait for a body that has taken too long, unless something has just come and no completion has
    /// told of it.
    pub(crate) fn stall_body(&mut self, id: ConnId) {
        let (data, end) = self.take_arrived(id);
        if !data.is_empty() {
            self.bytes_in(id, BytesIn::Own(&data), end);
            return self.arm_recv(id);
        }
        let Some(conn) = self.conns.get(id) else { return };
        if end {
            conn.end_input();
        }
        if let Some(incoming) = conn.incoming() {
            incoming.fail(BodyFault::Stalled);
        }
        self.after_body_input(id);
        // What still comes is of no use.
        self.conns.mark_full(id);
    }

    /// Goes on after a response on a connection that stays if the rest of the request's body can be read away.
    pub(crate) fn skip_body(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(incoming) = conn.incoming() else { return self.next_request(id) };
        incoming.skip();
        conn.phase = ConnPhase::Skipping;
        let change = conn.recount();
        self.conns.count_bytes(change);
        self.skip_on(id);
        // It may have been paused, and the next request arms it by itself.
        if self.conns.get(id).is_some_and(|conn| conn.phase == ConnPhase::Skipping) {
            self.arm_recv(id);
        }
    }

    /// Goes on when some of the rest was read away.
    pub(crate) fn skip_on(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(incoming) = conn.incoming() else { return };
        match incoming.skip_progress(self.setup.config.unread_body_bytes_max) {
            SkipProgress::Complete => {
                conn.ext().incoming = None;
                self.next_request(id);
            }
            SkipProgress::Open => self.start_skip_timer(id),
            SkipProgress::Hopeless => self.begin_close(id),
        }
    }

    /// Starts the deadline of a body that is read away. A worker that leaves gives it a moment in all.
    pub(crate) fn start_skip_timer(&mut self, id: ConnId) {
        if !self.draining {
            self.start_timer(id, ConnTimer::BodyStall, self.setup.config.body_stall_timeout);
        } else if !self.conns.timers.runs(id.index, ConnTimer::Drain) {
            self.start_timer(id, ConnTimer::Drain, DRAIN_FRESH);
        }
    }
}
