//! When requests of an open loop are due: at a fixed rate, whatever the server does.

use std::time::{Duration, Instant};

/// The requests of an open loop, evenly spaced from the start of the run to its end.
#[derive(Debug)]
pub(crate) struct OpenLoop {
    start: Instant,
    end: Instant,
    per_second: u32,
    next: u64,
}

impl OpenLoop {
    /// Makes the schedule of a run from `start` to `end`.
    pub(crate) fn new(start: Instant, end: Instant, per_second: u32) -> Self {
        Self { start, end, per_second, next: 0 }
    }

    /// Returns when the next request is due; `None` after the end.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        // Counted from the start, so that no rounding adds up.
        let (whole, rest) = (self.next / u64::from(self.per_second), self.next % u64::from(self.per_second));
        let nanos = rest * 1_000_000_000 / u64::from(self.per_second);
        let due = self.start + Duration::from_secs(whole) + Duration::from_nanos(nanos);
        (due < self.end).then_some(due)
    }

    /// Takes the next request, if it is due.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next_due().filter(|due| *due <= now)?;
        self.next += 1;
        Some(due)
    }

    /// Returns how many requests were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_the_rate_whatever_was_late() {
        let start = Instant::now();
        let mut open = OpenLoop::new(start, start + Duration::from_secs(2), 3);
        assert_eq!(open.take(start), Some(start));
        assert_eq!(open.take(start + Duration::from_millis(333)), None);
        // Asked late: both are due, each at its own time.
        let late = start + Duration::from_millis(900);
        let dues: Vec<_> = std::iter::from_fn(|| open.take(late)).collect();
        assert_eq!(dues, [333_333_333, 666_666_666].map(|nanos| start + Duration::from_nanos(nanos)));
        let after = start + Duration::from_secs(10);
        assert_eq!(std::iter::from_fn(|| open.take(after)).count(), 3, "none is due after the end");
        assert_eq!((open.taken(), open.next_due()), (6, None));
    }

    #[test]
    fn an_uneven_rate_does_not_drift() {
        let start = Instant::now();
        let mut open = OpenLoop::new(start, start + Duration::from_secs(100), 7_919);
        let all = std::iter::from_fn(|| open.take(start + Duration::from_secs(200))).count();
        assert_eq!(all, 791_900);
    }
}
