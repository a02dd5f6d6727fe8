//! When a piece of work has taken too long: only the decision, with the time as a parameter.
//!
//! The watchdog calls [`Overdue::look`] and takes the step. Between two looks it may sleep: a piece that
//! begins right after a look is as old as the threshold when the wait is over, so an idle watch wakes once per
//! threshold.

use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;

/// While a reported piece goes on, its end is looked for in steps of this share of its age, so that the time it took is
/// known to 2%.
const END_SHARE: u32 = 50;
/// The shortest of these steps: no reader needs the length of a long blockage to the millisecond.
const END_STEP_MIN: Duration = Duration::from_millis(10);
/// The longest: the message that it is over should not come much later than the end.
const END_STEP_MAX: Duration = Duration::from_secs(1);

/// The next step of a look at the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing; look again after this time.
    Wait(Duration),
    /// The piece that began then is overdue. Said once per piece.
    Report(Instant),
    /// The reported piece has ended, after this time in all.
    Ended(Duration),
}

/// Watches one loop, which works on one piece at a time.
#[derive(Debug)]
pub(super) struct Overdue {
    threshold: Duration,
    /// When the piece that was reported began, until it has ended.
    reported: Option<Instant>,
    /// When the last wait should have been over.
    due: Option<Instant>,
    /// Time before this does not count.
    counted_from: Instant,
}

impl Overdue {
    /// Makes a watch for which a piece is overdue after `threshold`.
    pub(super) fn new(threshold: Duration) -> Self {
        Self { threshold, reported: None, due: None, counted_from: Instant::default() }
    }

    /// Decides the step at `now`, when the piece that is being worked on began at `running` (`None`: there is none).
    pub(super) fn look(&mut self, running: Option<Instant>, now: Instant) -> Step {
        // A watchdog that slept a threshold too long was stopped, and so was the loop: it gets its time anew.
        if self.due.take().is_some_and(|due| now.since(due) > self.threshold) {
            self.counted_from = now;
        }
        if let Some(begun) = self.reported {
            if running == Some(begun) {
                return self.wait((now.since(begun) / END_SHARE).clamp(END_STEP_MIN, END_STEP_MAX), now);
            }
            self.reported = None;
            // If the next piece has begun already, that is when this one had ended at the latest.
            return Step::Ended(running.unwrap_or(now).since(begun));
        }
        let Some(begun) = running else {
            return self.wait(self.threshold, now);
        };
        let left = self.threshold.saturating_sub(now.since(begun.max(self.counted_from)));
        if left.is_zero() {
            self.reported = Some(begun);
            return Step::Report(begun);
        }
        self.wait(left, now)
    }

    fn wait(&mut self, time: Duration, now: Instant) -> Step {
        self.due = Some(now.after(time));
        Step::Wait(time)
    }
}

#[cfg(test)]
#[path = "tests/overdue.rs"]
mod tests;
