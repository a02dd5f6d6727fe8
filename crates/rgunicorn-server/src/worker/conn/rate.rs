//! The judgement of how fast a request body comes.

use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;

/// The time over which the rate of a body is taken (`body_min_rate`): longer than a lost packet, or a phone on its way
/// from one cell to the next, takes to be made good.
pub(super) const RATE_WINDOW: Duration = Duration::from_secs(10);

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
pub(super) enum Pace {
    /// The client had too little time until now.
    Unknown,
    Fine,
    Slow,
}

impl Progress {
    /// Judges what has come since then: at least so many bytes in each second, on average over `time_min` or more?
    pub(super) fn pace(&self, now: &Self, bytes_per_s: u32, time_min: Duration) -> Pace {
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
