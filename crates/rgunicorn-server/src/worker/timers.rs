//! Deadlines of connections: one at a time for each.

use rgunicorn_io::driver::timers::Deadlines;
use rgunicorn_io::sys::clock::Instant;

/// The classes of deadlines, one per duration, so that each is a FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnTimer {
    /// Nothing has come on a new connection.
    FirstByte,
    Keepalive,
    Header,
    BodyStall,
    WriteStall,
    Linger,
    Drain,
    /// Nothing has come on a connection that another worker has given, in the time that it had left. By itself, because
    /// those times are in no order.
    Taken,
}

/// Number of classes.
const CLASSES: usize = 8;

impl ConnTimer {
    /// All of them, in the order of their numbers.
    const ALL: [Self; CLASSES] = [
        Self::FirstByte,
        Self::Keepalive,
        Self::Header,
        Self::BodyStall,
        Self::WriteStall,
        Self::Linger,
        Self::Drain,
        Self::Taken,
    ];
}

/// The deadlines of a worker's connections, by slot.
#[derive(Debug, Default)]
pub(crate) struct ConnTimers(Deadlines<CLASSES>);

impl ConnTimers {
    /// Gives a connection this deadline instead of any that it had.
    pub(crate) fn start(&mut self, index: u32, timer: ConnTimer, at: Instant) {
        self.0.set(index, timer as u8, at);
    }

    /// Does the same for a deadline that may be earlier than others of its class.
    pub(crate) fn start_in_order(&mut self, index: u32, timer: ConnTimer, at: Instant) {
        self.0.set_in_order(index, timer as u8, at);
    }

    /// Takes the deadline of a connection away.
    pub(crate) fn stop(&mut self, index: u32) {
        self.0.clear(index);
    }

    /// Tells whether the deadline of a connection is of this class.
    pub(crate) fn runs(&self, index: u32, timer: ConnTimer) -> bool {
        self.0.class(index) == Some(timer as u8)
    }

    /// Returns the deadline of a connection.
    pub(crate) fn at(&self, index: u32) -> Option<Instant> {
        self.0.at(index)
    }

    /// Returns the connection's slot that comes first in a class, and its deadline.
    pub(crate) fn first(&self, timer: ConnTimer) -> Option<(u32, Instant)> {
        self.0.first(timer as u8)
    }

    /// Returns the nearest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.next()
    }

    /// Takes out one deadline that is due.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<(u32, ConnTimer)> {
        let (index, class) = self.0.pop_expired(now)?;
        Some((index, *ConnTimer::ALL.get(usize::from(class))?))
    }

    /// Counts the deadlines of connections that wait for the first byte of a request.
    pub(crate) fn idle(&self) -> usize {
        self.count(ConnTimer::Keepalive) + self.count(ConnTimer::FirstByte) + self.count(ConnTimer::Taken)
    }

    /// Returns so many connections that wait for the first byte of a request, those with the least time left first. New
    /// ones only whose time is over at `opened_until` at the latest.
    pub(crate) fn longest_idle(&self, count: usize, opened_until: Instant) -> Vec<u32> {
        let of = |timer: ConnTimer| self.0.of_class(timer as u8).take(count);
        let opened = of(ConnTimer::FirstByte).take_while(|(_, at)| *at <= opened_until);
        let mut idle: Vec<_> = of(ConnTimer::Keepalive).chain(of(ConnTimer::Taken)).chain(opened).collect();
        idle.sort_by_key(|(_, at)| *at);
        idle.truncate(count);
        idle.into_iter().map(|(index, _)| index).collect()
    }

    /// Counts the deadlines of one class.
    fn count(&self, timer: ConnTimer) -> usize {
        self.0.count(timer as u8)
    }

    /// Counts all deadlines.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_comes_back_as_itself() {
        let mut timers = ConnTimers::default();
        for (index, timer) in (0..).zip(ConnTimer::ALL) {
            timers.start(index, timer, Instant(800));
            assert!(timers.runs(index, timer) && timers.count(timer) == 1);
        }
        assert_eq!((timers.len(), timers.next()), (CLASSES, Some(Instant(800))));
        assert_eq!(
            timers.idle(),
            3,
            "one between two requests, one before its first, one that was another worker's"
        );
        let expired: Vec<_> = std::iter::from_fn(|| timers.pop_expired(Instant(800))).collect();
        assert_eq!(expired, (0..).zip(ConnTimer::ALL).collect::<Vec<_>>());
    }

    #[test]
    fn those_that_have_been_idle_for_longest_have_the_least_time_left() {
        let mut timers = ConnTimers::default();
        for (index, timer, at) in [
            (0, ConnTimer::FirstByte, 320),
            (1, ConnTimer::FirstByte, 960),
            (2, ConnTimer::Keepalive, 160),
            (3, ConnTimer::Keepalive, 640),
            (4, ConnTimer::Taken, 480),
            (5, ConnTimer::Header, 16),
        ] {
            timers.start(index, timer, Instant(at));
        }
        assert_eq!(timers.longest_idle(9, Instant(800)), [2, 0, 4, 3], "the last one has just been opened");
        assert_eq!(timers.longest_idle(2, Instant(800)), [2, 0]);
        assert!(timers.longest_idle(0, Instant(800)).is_empty());
    }
}
