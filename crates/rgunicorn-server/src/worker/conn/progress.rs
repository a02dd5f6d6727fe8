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
    /// By [`crate::worker::turn::Turn::reading`].
    pub(super) at: Instant,
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
        let time = now.at.since(self.at);
        if time < time_min {
            Pace::Unknown
        } else if now.bytes.saturating_sub(self.bytes) >= due_bytes(time, bytes_per_s) {
            Pace::Fine
        } else {
            Pace::Slow
        }
    }
}

/// Computes the bytes that must have come in this time.
fn due_bytes(time: Duration, bytes_per_s: u32) -> u64 {
    u64::try_from(time.as_millis() * u128::from(bytes_per_s) / 1000).unwrap_or(u64::MAX)
}

/// The time for which an application has waited for the rest of a body, which it reads while that arrives.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// When the present wait has begun, by [`crate::worker::turn::Turn::reading`].
    begun: Instant,
    /// The waits since the last judgement.
    time: Duration,
    /// Bytes of the body that had come by then.
    bytes: u64,
}

impl Waits {
    /// Begins one.
    pub(super) fn begin(&mut self, now: Instant) {
        self.begun = now;
    }

    /// Tells whether a body, of which so many bytes have come, comes too slowly for the one that waits for it.
    pub(super) fn is_slow(&mut self, now: Instant, bytes: u64, bytes_per_s: u32) -> bool {
        self.time += now.since(self.begun);
        self.begun = now;
        if self.time < RATE_WINDOW {
            return false;
        }
        let due = due_bytes(std::mem::take(&mut self.time), bytes_per_s);
        bytes - std::mem::replace(&mut self.bytes, bytes) < due
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
        Progress { at: self.turn.reading(), bytes }
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

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    #[test]
    fn a_body_is_judged_when_its_client_had_some_time() {
        let begin = Progress { at: at(100), bytes: 50 };
        let pace = |bytes, time_min| {
            begin.pace(&Progress { at: at(110), bytes }, 100, Duration::from_secs(time_min))
        };
        assert_eq!([pace(1050, 10), pace(1049, 10), pace(50, 11)], [Pace::Fine, Pace::Slow, Pace::Unknown]);
    }

    #[test]
    fn only_the_time_of_waits_counts_where_the_application_reads() {
        let mut waits = Waits::default();
        for round in 0..9 {
            waits.begin(at(round * 100));
            assert!(!waits.is_slow(at(round * 100 + 1), 0, 100));
        }
        waits.begin(at(2000));
        assert!(!waits.is_slow(at(2001), 1000, 100), "it is as fast as that");
        waits.begin(at(3000));
        assert!(!waits.is_slow(at(3009), 1000, 100));
        assert!(waits.is_slow(at(3010), 1999, 100));
    }
}
