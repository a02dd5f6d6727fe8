//! How fast a request body comes. Time in which the worker does not read is not the client's: neither that of the
//! application's work on the loop, nor that in which nobody waits for the body.

use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;

use super::io::{BytesIn, ConnIo};
use super::refusal::Refusal;
use super::{Conn, ConnPhase};
use crate::worker::handling::SYSTEM_CALLS_BYTES;
use crate::worker::ids::ConnId;

/// The time over which the rate of a body is taken (`body_min_rate`): longer than a lost packet, or a phone on its way
/// from one cell to the next, takes to be made good.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// How far a body had come, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) at: Instant,
    /// Time so far in which the worker did not read ([`crate::worker::turn::Turn::worked`]).
    pub(super) worked: Duration,
    /// Bytes of the body so far.
    pub(super) bytes: u64,
}

/// A judgement of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// The client had too little time until now.
    Unknown,
    Fine,
    Slow,
}

impl Progress {
    /// Judges what has come since then: at least so many bytes in each second, on average over `time_min` or more?
    fn pace(&self, now: &Self, bytes_per_s: u32, time_min: Duration) -> Pace {
        let worked = now.worked.saturating_sub(self.worked);
        let time = now.at.since(self.at).saturating_sub(worked);
        let due = time.as_millis() * u128::from(bytes_per_s) / 1000;
        if time < time_min {
            Pace::Unknown
        } else if u128::from(now.bytes.saturating_sub(self.bytes)) >= due {
            Pace::Fine
        } else {
            Pace::Slow
        }
    }
}

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
        let now = self.progress(id);
        if let Some(conn) = self.conns.get(id)
            && conn.phase == ConnPhase::Body
        {
            conn.ext().progress.get_or_insert(now);
        }
    }

    /// Returns how far the body of a request has come.
    fn progress(&mut self, id: ConnId) -> Progress {
        let ext = self.conns.get(id).and_then(|conn| conn.ext.as_ref());
        let bytes = ext.map_or(0, |ext| ext.body.len());
        Progress { at: self.turn.now(), worked: self.turn.worked(), bytes }
    }

    /// Tells whether not all of a request has come, and its body comes with fewer bytes in each second, on average over
    /// `time_min` or more. Looks first for what has come: a loop that was busy does not know yet.
    pub(super) fn is_slow(&mut self, id: ConnId, bytes_per_s: u32, time_min: Duration) -> bool {
        let (data, end) = self.take_arrived(id);
        if !data.is_empty() || end {
            self.bytes_in(id, BytesIn::Own(&data), end);
        }
        let now = self.progress(id);
        let Some(conn) = self.conns.get(id) else { return false };
        let pace = match (conn.phase, &mut conn.ext) {
            (ConnPhase::Idle | ConnPhase::Head, _) => Pace::Slow,
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

    /// Refuses bodies that come more slowly than is allowed, and begins to look anew at the others.
    pub(super) fn check_rates(&mut self) {
        let bytes_per_s = self.setup.config.body_bytes_per_s_min;
        while let Some(at) = self.next_rate_check()
            && at <= self.turn.now()
            && let Some(id) = self.conns.oldest_unfinished()
        {
            // A head has a time of its own.
            let is_body = self.conns.get(id).is_some_and(|conn| conn.phase == ConnPhase::Body);
            if is_body && self.is_slow(id, bytes_per_s, RATE_WINDOW) {
                self.setup.debug(format_args!("Closing a connection whose request body comes too slowly"));
                self.refuse_unfinished(id, &Refusal::TOO_SLOW);
            } else if self.conns.oldest_unfinished() == Some(id) {
                self.queue_unfinished(id);
            }
            self.turn.handling.count_work(SYSTEM_CALLS_BYTES);
            if self.turn.handling.is_over(|| self.driver.now()) {
                return;
            }
        }
    }

    /// Returns when the next body is to be looked at.
    pub(crate) fn next_rate_check(&self) -> Option<Instant> {
        if self.setup.config.body_bytes_per_s_min == 0 {
            return None;
        }
        self.conns.unfinished.first(0).map(|(_, since)| since.after(RATE_WINDOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_worker_does_not_read_is_not_the_clients() {
        let at = |seconds: u64| Instant(seconds * 1_000_000_000);
        let begin = Progress { at: at(100), worked: Duration::from_secs(7), bytes: 50 };
        let pace = |bytes, worked, time_min| {
            let now = Progress { at: at(110), worked: Duration::from_secs(worked), bytes };
            begin.pace(&now, 100, Duration::from_secs(time_min))
        };
        assert_eq!([pace(1050, 7, 10), pace(1049, 7, 10)], [Pace::Fine, Pace::Slow]);
        assert_eq!(
            [pace(150, 16, 1), pace(149, 16, 1), pace(50, 16, 2)],
            [Pace::Fine, Pace::Slow, Pace::Unknown]
        );
    }
}
