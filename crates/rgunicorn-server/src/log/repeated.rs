//! The bound on lines that a loop, or a client, can cause without end: so many of a kind in a second, and a count of
//! those that were left out.
//!
//! No lock: threads share it, and a forked child must not find one held. Two threads that meet at the turn of a second
//! may let a line more through, or count one in the second before.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;

/// The most lines of one kind within [`REPEATED_PERIOD`]: all of a normal day's, and 2 kB a second of a fault that
/// comes with every turn.
pub const REPEATED_LINES_MAX: u32 = 20;

/// The time for which lines are counted.
pub const REPEATED_PERIOD: Duration = Duration::from_secs(1);

/// The kinds of lines that can come with each turn, connection or request, and are no fault of the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatedLine {
    /// Accepting pauses. Once a second says it all, and how often it was tried says nothing.
    AcceptPaused,
    /// Requests are refused for want of memory: likewise.
    Overload,
    /// Connections are closed to make room for new ones: likewise.
    RoomMade,
    /// The driver refuses a poll or a reception.
    DriverRefused,
    /// A socket has an error that is no disconnection.
    SocketError,
    /// A request body cannot be stored.
    BodyStore,
    /// A client has sent what is no request.
    InvalidRequest,
    /// A panic was caught.
    Panic,
    /// A response does not keep what its head has promised.
    ResponseFault,
    /// A connection cannot be given, or what another worker has given cannot be taken.
    Handoff,
}

/// The number of kinds.
const KINDS: usize = RepeatedLine::Handoff as usize + 1;

impl RepeatedLine {
    fn lines_max(self) -> u32 {
        if self.says_it_all() { 1 } else { REPEATED_LINES_MAX }
    }

    /// Tells whether one line a second is all that there is to know.
    fn says_it_all(self) -> bool {
        matches!(self, Self::AcceptPaused | Self::Overload | Self::RoomMade)
    }
}

/// The counts of one kind.
#[derive(Debug, Default)]
struct Window {
    /// The second that is counted, from 1 on.
    period: AtomicU64,
    written: AtomicU32,
    left_out: AtomicU64,
}

/// The counts of all kinds, of one process.
#[derive(Debug, Default)]
pub(super) struct RepeatedLines {
    windows: [Window; KINDS],
}

impl RepeatedLines {
    /// Decides about a line. `None`: it is left out; else, how many were left out since the last one that was not.
    pub(super) fn admit(&self, line: RepeatedLine, now: Instant) -> Option<u64> {
        let window = self.windows.get(line as usize)?;
        let period =
            u64::try_from(u128::from(now.0) / REPEATED_PERIOD.as_nanos()).unwrap_or(u64::MAX - 1) + 1;
        if window.period.swap(period, Relaxed) != period {
            window.written.store(0, Relaxed);
        }
        if window.written.fetch_add(1, Relaxed) < line.lines_max() {
            let left_out = window.left_out.swap(0, Relaxed);
            return Some(if line.says_it_all() { 0 } else { left_out });
        }
        // Not on and on: the count must not come round to the lines that are let through.
        window.written.store(line.lines_max(), Relaxed);
        window.left_out.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: RepeatedLine = RepeatedLine::SocketError;

    #[test]
    fn so_many_lines_of_a_kind_pass_in_a_second_and_the_rest_are_counted() {
        let lines = RepeatedLines::default();
        let now = Instant(5_000_000_000);
        let passed = (0..REPEATED_LINES_MAX * 3).filter(|_| lines.admit(KIND, now).is_some()).count();
        assert_eq!(passed, REPEATED_LINES_MAX as usize);
        assert_eq!(lines.admit(RepeatedLine::Panic, now), Some(0), "kinds are counted apart");
        let later = now.after(REPEATED_PERIOD);
        assert_eq!(lines.admit(KIND, later), Some(u64::from(REPEATED_LINES_MAX) * 2));
        assert_eq!(lines.admit(KIND, later), Some(0));
    }

    #[test]
    fn a_pause_of_accepting_is_told_once_a_second() {
        let lines = RepeatedLines::default();
        let told =
            |milliseconds: u64| lines.admit(RepeatedLine::AcceptPaused, Instant(milliseconds * 1_000_000));
        assert_eq!((told(100), told(200), told(1_000), told(1_900)), (Some(0), None, Some(0), None));
    }
}
