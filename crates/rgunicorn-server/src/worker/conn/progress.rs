//! Progress of requests that are being received: their queue, in which the oldest come first, and the rate of bodies
//! (`body_min_rate`). Time in which the worker does not read is not the client's: neither that of the application's
//! work on the loop, nor that in which no application waits for the body.

use std::time::Duration;

use super::io::{BytesIn, ConnIo};
use super::rate::{Pace, Progress, RATE_WINDOW};
use super::refusal::Refusal;
use super::{Conn, ConnPhase};
use crate::worker::handling::SYSTEM_CALLS_BYTES;
use crate::worker::ids::ConnId;

impl Conn {
    /// Tells whether a body has begun whose progress is not looked at yet.
    pub(super) fn begins_body(&self) -> bool {
        self.phase == ConnPhase::Body && self.ext.as_ref().is_some_and(|ext| ext.progress.is_none())
    }
}

impl ConnIo<'_> {
    /// Puts a request that is being received behind the others.
    pub(super) fn queue_unfinished(&mut self, id: ConnId) {
        self.conns.unfinished.set(id.index, 0, self.turn.now());
        let now = progress(self, id);
        if let Some(conn) = self.conns.get(id)
            && conn.phase == ConnPhase::Body
        {
            conn.ext().progress.get_or_insert(now);
        }
    }

    /// Tells whether not all of a request has come, and its body comes with fewer bytes in each second, on average over
    /// `time_min` or more. Looks first for what has come: a loop that was busy does not know yet.
    pub(super) fn is_slow(&mut self, id: ConnId, bytes_per_s: u32, time_min: Duration) -> bool {
        let (data, end) = self.take_arrived(id);
        if !data.is_empty() || end {
            self.bytes_in(id, BytesIn::Own(&data), end);
        }
        let now = progress(self, id);
        let Some(conn) = self.conns.get(id) else { return false };
        let pace = match (conn.phase, &mut conn.ext) {
            (ConnPhase::Idle | ConnPhase::Head, _) if data.is_empty() => Pace::Slow,
            (ConnPhase::Body, Some(ext)) => {
                let since = ext.progress.get_or_insert(now);
                let pace = since.pace(&now, bytes_per_s, time_min);
                if pace == Pace::Fine {
                    *since = now;
                }
                pace
            }
            _ => Pace::Fine,
        };
        if pace != Pace::Slow {
            self.arm_recv(id);
        }
        pace == Pace::Slow
    }
}

/// Returns how far the body of a request has come.
fn progress(io: &mut ConnIo<'_>, id: ConnId) -> Progress {
    let ext = io.conns.get(id).and_then(|conn| conn.ext.as_ref());
    let bytes = ext.map_or(0, |ext| ext.body.len());
    Progress { at: io.turn.reading(), bytes }
}

/// Refuses bodies that come more slowly than is allowed, and begins to look anew at the others.
pub(super) fn check_rates(io: &mut ConnIo<'_>) {
    let bytes_per_s = io.setup.config.body_bytes_per_s_min;
    while let Some(at) = io.conns.next_rate_check(&io.setup.config)
        && at <= io.turn.now()
        && let Some(id) = io.conns.oldest_unfinished()
    {
        // A head has a time of its own.
        let is_body = io.conns.get(id).is_some_and(|conn| conn.phase == ConnPhase::Body);
        if is_body && io.is_slow(id, bytes_per_s, RATE_WINDOW) {
            io.setup.debug(format_args!("Closing a connection whose request body comes too slowly"));
            io.refuse_unfinished(id, &Refusal::TOO_SLOW);
        } else if io.conns.oldest_unfinished() == Some(id) {
            io.queue_unfinished(id);
        }
        io.turn.handling.count_work(SYSTEM_CALLS_BYTES);
        if io.turn.handling.is_over(|| io.driver.now()) {
            return;
        }
    }
}
