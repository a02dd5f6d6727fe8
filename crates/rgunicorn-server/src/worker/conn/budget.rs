//! The budget of a worker: memory for requests that are not with the application yet (`limit_request_memory`). Every
//! buffer counts with what it takes. The count is kept where input has come or was taken: what a connection holds is
//! looked at anew ([`Conn::recount`]), so that no buffer has to know that it is counted.
//!
//! Each connection may count on a share ([`WorkerConfig::request_share_bytes`]), and all shares together are half of
//! the budget. Once the other half is taken, bodies beyond their share go to their files; and if all is taken, the
//! oldest unfinished requests that hold more than their share are refused. What still holds it then waits for the
//! application, or for its own end: no further request is begun until it has gone on.
//!
//! [`WorkerConfig::request_share_bytes`]: crate::worker::config::WorkerConfig::request_share_bytes

use rgunicorn_http::RequestHead;

use super::evict::LOOKS_MAX;
use super::io::ConnIo;
use super::refusal::Refusal;
use super::{Conn, ConnExt, ConnPhase};
use crate::log::{Level, RepeatedLine};
use crate::worker::ids::ConnId;
use crate::worker::timers::ConnTimer;

impl ConnExt {
    /// Counts the memory of what has come of requests.
    fn held_bytes(&self) -> usize {
        self.head.as_ref().map_or(0, RequestHead::held_bytes)
            + self.body.held_bytes()
            + self.incoming.as_ref().map_or(0, |incoming| incoming.memory_bytes())
            + self.pending.memory_bytes()
    }
}

impl Conn {
    /// Counts the memory of what has come of its requests.
    pub(super) fn held_bytes(&self) -> u32 {
        let held = self.parser.held_bytes() + self.ext.as_ref().map_or(0, |ext| ext.held_bytes());
        // One connection alone does not get beyond: its bounds are far lower.
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    /// Counts it anew. Returns how much more it is than before.
    #[inline]
    pub(super) fn recount(&mut self) -> isize {
        // A small request that comes whole leaves nothing here.
        if self.ext.is_none() && self.counted_bytes == 0 && self.parser.held_bytes() == 0 {
            return 0;
        }
        let held = self.held_bytes();
        // Both fit: they are the sizes of memory.
        held as isize - std::mem::replace(&mut self.counted_bytes, held) as isize
    }

    /// Tells whether a client sends, or may send, a request that is not received for want of memory.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled && self.recv.is_none() && matches!(self.phase, ConnPhase::Idle | ConnPhase::Head)
    }

    /// Moves what has come of a body to its file. `false`: it is all there, or cannot be written.
    fn spool_body(&mut self) -> bool {
        let Some(ext) = &mut self.ext else { return false };
        ext.body.held_bytes() > 0 && ext.body.spool().is_ok()
    }

    /// Drops what has come of requests that will not be answered.
    pub(super) fn forget_input(&mut self) {
        self.parser = rgunicorn_http::RequestParser::new();
        if let Some(ext) = &mut self.ext {
            (ext.head, ext.incoming, ext.progress) = (None, None, None);
            (ext.body, ext.pending) = Default::default();
        }
    }
}

impl ConnIo<'_> {
    /// Tells whether requests hold more memory than there is for them.
    #[inline]
    pub(crate) fn is_over_budget(&self) -> bool {
        self.conns.held_bytes() > self.setup.config.request_memory_bytes_max
    }

    /// Refuses the oldest unfinished requests that hold more than their share until all is within the budget. If that
    /// is not enough, the connection `id`, on which something has come, receives nothing more for now.
    #[cold]
    pub(crate) fn relieve(&mut self, id: ConnId) {
        let share = self.setup.config.request_share_bytes();
        for _ in 0..LOOKS_MAX.min(self.conns.unfinished.len()) {
            if !self.is_over_budget() {
                return;
            }
            let Some(oldest) = self.conns.oldest_unfinished() else { break };
            let Some(conn) = self.conns.get(oldest) else { break };
            let may_go = conn.counted_bytes as usize > share && !conn.has_output();
            if !may_go || conn.spool_body() {
                let change = conn.recount();
                self.conns.count_bytes(change);
                // It is not to be looked at again before the others.
                self.queue_unfinished(oldest);
                continue;
            }
            self.log(
                RepeatedLine::Overload,
                Level::Warning,
                format_args!(
                    "Requests hold more memory than limit_request_memory allows; the oldest unfinished ones are \
                     answered with 503"
                ),
            );
            self.refuse_unfinished(oldest, &Refusal::OVERLOADED);
        }
        if self.is_over_budget() {
            self.conns.mark_full(id);
        }
    }

    /// Answers a request of which not all has come, and closes its connection.
    pub(super) fn refuse_unfinished(&mut self, id: ConnId, refusal: &Refusal) {
        let Some(conn) = self.conns.get(id) else { return };
        let head = match conn.ext.as_mut().and_then(|ext| ext.head.take()) {
            Some(head) => Some(head),
            None => conn.parser.give_up(&self.setup.policy),
        };
        self.refuse(id, refusal, head.unwrap_or_else(RequestHead::unread));
    }

    /// Receives again where that was stopped for want of memory, if there is some. Time begins anew: the client was not
    /// the one to wait for.
    #[inline]
    pub(crate) fn end_stalls(&mut self) {
        if self.conns.stalled.is_empty() || self.is_over_budget() {
            return;
        }
        for id in std::mem::take(&mut self.conns.stalled) {
            let Some(conn) = self.conns.get(id) else { continue };
            let was_stalled = conn.is_stalled();
            conn.stalled = false;
            if was_stalled {
                self.restart_timer(id);
                self.arm_recv(id);
            }
        }
    }

    /// Gives a connection that was not read from the time for its next byte once more.
    pub(super) fn restart_timer(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let config = &self.setup.config;
        let (timer, time) = match (conn.phase, conn.served) {
            (ConnPhase::Head, _) => (ConnTimer::Header, config.header_timeout),
            (ConnPhase::Idle, true) => return self.start_idle_timer(id),
            (ConnPhase::Idle, false) if !self.draining => (ConnTimer::FirstByte, config.first_byte_timeout()),
            _ => return,
        };
        self.start_timer(id, timer, time);
    }
}
