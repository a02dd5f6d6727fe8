//! The part of a turn that belongs to the connections: from the end of the wait to the application's work. It handles
//! what the wait has brought, and deadlines, for a bounded time: what is left has its turn behind the application's.
//!
//! The clock is read only as often as much work has been done, so that a usual turn costs no look at it.

use std::time::Duration;

use rgunicorn_io::driver::{Completion, Received};
use rgunicorn_io::sys::clock::Instant;

/// Work between two looks at the clock, counted in received bytes: the most costly input takes 100 us for as many.
const LOOK_AFTER_BYTES: usize = 16 * 1024;
/// The bytes that a completion counts for, beside those that it brings: a look after 32 short requests.
const COMPLETION_BYTES: usize = 512;
/// The bytes that a piece of work counts for that makes system calls: a new connection, a deadline, a queued piece.
pub(crate) const SYSTEM_CALLS_BYTES: usize = 4096;

/// Input that is shorter is what others have sent beside a flood: it is handled first.
const SHORT_BYTES_MAX: usize = 4096;

/// The time and the work of the present turn's handling.
#[derive(Debug)]
pub(crate) struct Handling {
    begun: Instant,
    time_max: Duration,
    look_after: usize,
    /// Work since the last look, in bytes.
    work: usize,
    /// Bytes received in this turn.
    received: usize,
    is_over: bool,
    /// Even short input has to wait.
    is_spent: bool,
    longest: Longest,
}

/// The most that a turn has done before the application had its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Longest {
    /// The longest time. Turns with little work are not looked at.
    pub(crate) time: Duration,
    /// The most input.
    pub(crate) bytes: usize,
}

impl Handling {
    /// Makes the clock for turns that handle for `time_max` at most; zero means one completion each.
    pub(crate) fn new(now: Instant, time_max: Duration) -> Self {
        let look_after = if time_max.is_zero() { 1 } else { LOOK_AFTER_BYTES };
        let longest = Longest::default();
        Self {
            begun: now,
            time_max,
            look_after,
            work: 0,
            received: 0,
            is_over: false,
            is_spent: false,
            longest,
        }
    }

    /// Begins with the end of a wait.
    #[inline]
    pub(crate) fn begin(&mut self, now: Instant) {
        (self.begun, self.work, self.received) = (now, 0, 0);
        (self.is_over, self.is_spent) = (false, false);
    }

    /// Counts a completion that is handled.
    #[inline]
    pub(crate) fn count(&mut self, completion: &Completion) {
        let bytes = input_bytes(completion);
        self.work += COMPLETION_BYTES + bytes;
        self.received += bytes;
    }

    /// Counts a piece of work of so many bytes.
    pub(crate) fn count_work(&mut self, bytes: usize) {
        self.work += bytes;
    }

    /// Tells whether this turn has handled enough. `now` reads the clock.
    #[inline]
    pub(crate) fn is_over(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.work >= self.look_after {
            self.look(now());
        }
        self.is_over
    }

    /// Tells whether this turn has handled so much that short input has to wait as well: it has as much time again.
    pub(crate) fn is_spent(&mut self, now: impl FnOnce() -> Instant) -> bool {
        self.is_over(now) && self.is_spent
    }

    fn look(&mut self, now: Instant) {
        self.work = 0;
        let time = now.since(self.begun);
        self.is_over |= time >= self.time_max;
        self.is_spent |= time >= self.time_max * 2;
        self.longest.time = self.longest.time.max(time);
        self.longest.bytes = self.longest.bytes.max(self.received);
    }

    /// Returns the most that a turn has done.
    pub(crate) fn longest(&self) -> Longest {
        self.longest
    }
}

/// Counts the bytes that a completion brings.
pub(crate) fn input_bytes(completion: &Completion) -> usize {
    match completion {
        Completion::Recv { outcome: Received::Data(buf), .. } => buf.len(),
        _ => 0,
    }
}

/// Tells whether a completion brings little.
pub(crate) fn is_short(completion: &Completion) -> bool {
    input_bytes(completion) < SHORT_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(2);

    fn at(time: Duration) -> Instant {
        Instant(1_000_000_000).after(time)
    }

    #[test]
    fn the_clock_is_read_after_much_work_only() {
        let mut handling = Handling::new(at(Duration::ZERO), MAX);
        handling.count_work(LOOK_AFTER_BYTES - 1);
        assert!(!handling.is_over(|| panic!("there was little work")));
        handling.count_work(1);
        assert!(!handling.is_over(|| at(MAX / 2)));
        assert!(!handling.is_over(|| panic!("there was none since")));
        assert_eq!(handling.longest().time, MAX / 2);
    }

    #[test]
    fn a_turn_that_is_over_stays_so_until_the_next() {
        let mut handling = Handling::new(at(Duration::ZERO), MAX);
        handling.count_work(LOOK_AFTER_BYTES);
        assert!(handling.is_over(|| at(MAX)) && handling.is_over(|| at(MAX)));
        handling.begin(at(MAX * 2));
        assert!(!handling.is_over(|| at(MAX * 9)));
        assert_eq!(handling.longest(), Longest { time: MAX, bytes: 0 });
    }

    #[test]
    fn without_time_a_turn_handles_one() {
        let mut handling = Handling::new(at(Duration::ZERO), Duration::ZERO);
        assert!(!handling.is_over(|| at(MAX)));
        handling.count(&Completion::Orphan { buf: Default::default() });
        assert!(handling.is_over(|| at(Duration::ZERO)));
    }
}
