//! Calls that fail again and again: whether that lasts so long that another process should take this one's place.

use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;

/// How long a call must have failed, without one success, until the worker leaves. What passes, as a lack of memory
/// does or a burst that uses up the descriptors, has passed by then as a rule; clients wait that long.
pub(crate) const FAILING_MAX: Duration = Duration::from_secs(5);
/// Failures that are farther apart have nothing to do with each other.
const FAILURES_APART: Duration = Duration::from_secs(2);

/// The failures of one call since it last succeeded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Failing {
    /// The first and the last one.
    span: Option<(Instant, Instant)>,
}

impl Failing {
    /// Notes a failure. True: it has been so for [`FAILING_MAX`].
    pub(crate) fn note(&mut self, now: Instant) -> bool {
        let first = match self.span {
            Some((first, last)) if now.since(last) < FAILURES_APART => first,
            _ => now,
        };
        self.span = Some((first, now));
        now.since(first) >= FAILING_MAX
    }

    /// Notes a success.
    pub(crate) fn end(&mut self) {
        self.span = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers at these milliseconds.
    fn told(times: &[u64]) -> Vec<bool> {
        let mut failing = Failing::default();
        times.iter().map(|ms| failing.note(Instant(ms * 1_000_000))).collect()
    }

    #[test]
    fn failures_close_together_last() {
        assert_eq!(told(&[1000, 2900, 4800, 5999, 6000]), [false, false, false, false, true]);
    }

    #[test]
    fn failures_far_apart_are_single_ones() {
        assert_eq!(told(&[1000, 3000, 10_000, 20_000, 21_000]), [false; 5]);
    }

    #[test]
    fn a_success_ends_them() {
        let mut failing = Failing::default();
        assert!(!failing.note(Instant(0)));
        failing.end();
        assert!(!failing.note(Instant(FAILING_MAX.as_nanos() as u64)));
    }
}
