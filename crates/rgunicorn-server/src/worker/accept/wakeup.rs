//! Wake-ups that would be lost. The kernel wakes one of the workers that wait for a connection, and no other
//! for that connection. If the one cannot take it, a worker has to look without having been woken:
//!
//! - A worker that is woken for a connection and gets work in the same turn would hold it while siblings
//!   idle. It leaves the connection in the queue and wakes its siblings.
//! - A worker that works with its listeners armed (it was alone when it began), that ends, or that was killed
//!   may be woken to no purpose. Its siblings and successors look behind it.

use std::os::fd::AsRawFd;
use std::time::Duration;

use rgunicorn_io::driver::{Driver, OpKey, READABLE};
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::shared::Scoreboard;

use crate::worker::event_source::EventSource;

/// How often a worker looks for connections whose wake-ups a sibling may have used up that does not accept.
const BACKLOG_CHECK_EVERY: Duration = Duration::from_millis(10);
/// How often a worker does that sleeps, and knows of no such sibling (it may be another master's, or killed).
const BACKLOG_CHECK_ASLEEP: Duration = Duration::from_millis(900);
/// A wake-up wakes all siblings that idle, so there are not more of them than one in this time.
const SIBLING_WAKEUP_EVERY: Duration = Duration::from_millis(1);

/// The times of looks at the backlog and of wake-ups among siblings.
#[derive(Debug)]
pub(super) struct Wakeups {
    /// This worker listens for the wake-ups that siblings give.
    polls_siblings: bool,
    /// The poll of them.
    poll: Option<OpKey>,
    /// When to look for connections that no worker was woken for, if that is known.
    next_check: Option<Instant>,
    /// When this worker last did.
    last_check: Instant,
    /// When this worker last woke its siblings.
    siblings_woken_at: Instant,
}

impl Wakeups {
    /// Begins as a worker that has not looked for long.
    pub(super) fn new(polls_siblings: bool) -> Self {
        Self {
            polls_siblings,
            poll: None,
            next_check: None,
            last_check: Instant::default(),
            siblings_woken_at: Instant::default(),
        }
    }

    /// Arms the poll of siblings' wake-ups. It stays armed for good.
    pub(super) fn arm(&mut self, driver: &mut Driver, board: &Scoreboard) {
        if self.polls_siblings && self.poll.is_none() {
            let fd = board.sibling_wakeup().as_raw_fd();
            self.poll = driver.poll(fd, READABLE, EventSource::SiblingWakeup.token()).ok();
        }
    }

    /// Notes that a sibling leaves a connection to the others: looks at the next occasion.
    pub(super) fn on_sibling_wakeup(&mut self, now: Instant) {
        self.poll = None;
        self.next_check = Some(now);
    }

    /// Returns when the next look is, if that is known.
    pub(super) fn next_check(&self) -> Option<Instant> {
        self.next_check
    }

    /// Plans no look.
    pub(super) fn end_checks(&mut self) {
        self.next_check = None;
    }

    /// Tells whether to look at the backlog now, and plans the next look: soon if `may_be_lost`, that is, if
    /// a sibling may lose wake-ups.
    pub(super) fn begin_check(&mut self, now: Instant, may_be_lost: impl FnOnce() -> bool) -> bool {
        let due = match self.next_check {
            Some(at) => now >= at,
            None => now.since(self.last_check) >= BACKLOG_CHECK_ASLEEP,
        };
        if due {
            self.last_check = now;
            self.next_check = may_be_lost().then(|| now.after(BACKLOG_CHECK_EVERY));
        }
        due
    }

    /// Tells whether siblings may be woken now, and notes that they are.
    pub(super) fn may_wake_siblings(&mut self, now: Instant) -> bool {
        let may = now.since(self.siblings_woken_at) >= SIBLING_WAKEUP_EVERY;
        if may {
            self.siblings_woken_at = now;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1_000_000_000_000);

    #[test]
    fn a_worker_looks_at_once_and_then_after_each_long_sleep() {
        let mut wakeups = Wakeups::new(false);
        assert!(wakeups.begin_check(NOW, || false), "it may have a predecessor");
        assert_eq!(wakeups.next_check(), None);
        assert!(!wakeups.begin_check(Instant(NOW.after(BACKLOG_CHECK_ASLEEP).0 - 1), || true));
        assert!(wakeups.begin_check(NOW.after(BACKLOG_CHECK_ASLEEP), || false));
    }

    #[test]
    fn it_looks_often_while_a_sibling_may_lose_wakeups() {
        let mut wakeups = Wakeups::new(false);
        assert!(wakeups.begin_check(NOW, || true));
        let next = NOW.after(BACKLOG_CHECK_EVERY);
        assert_eq!(wakeups.next_check(), Some(next));
        assert!(!wakeups.begin_check(Instant(next.0 - 1), || true));
        assert!(wakeups.begin_check(next, || false), "and once more after it has gone");
        assert_eq!(wakeups.next_check(), None);
        wakeups.on_sibling_wakeup(next);
        assert!(wakeups.begin_check(next, || false), "a sibling has said that there is one");
        wakeups.on_sibling_wakeup(next);
        wakeups.end_checks();
        assert!(!wakeups.begin_check(next, || true));
    }

    #[test]
    fn siblings_are_not_woken_again_at_once() {
        let mut wakeups = Wakeups::new(false);
        assert!(wakeups.may_wake_siblings(NOW));
        assert!(!wakeups.may_wake_siblings(Instant(NOW.after(SIBLING_WAKEUP_EVERY).0 - 1)));
        assert!(wakeups.may_wake_siblings(NOW.after(SIBLING_WAKEUP_EVERY)));
    }
}
