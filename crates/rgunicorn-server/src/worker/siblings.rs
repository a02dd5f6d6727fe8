//! The siblings of a worker, as the score-board tells of them at one moment.

use std::time::Duration;

use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::shared::{Accepting, Slot, SlotReading};

/// A sibling that has begun to work so recently is back in a moment, as a rule: longer than it may wait for its CPU
/// where all are busy. What is left or given to one that works for longer waits for it.
const TAKER_BUSY_MAX: Duration = Duration::from_millis(20);
/// A waiting worker beats every second. One that says that it waits and has not beaten for so long is stopped.
const SILENT_AFTER: Duration = Duration::from_millis(2500);

/// The siblings that can take a connection, summed up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Siblings {
    /// How many there are.
    pub(crate) count: u64,
    /// The part of them that waits.
    pub(crate) idle: u64,
    /// The connections that they have.
    pub(crate) connections: u64,
}

impl Siblings {
    /// Sums up those of the worker with this slot.
    pub(crate) fn of(slot: &Slot, now: Instant) -> Self {
        let own = slot.read().age;
        let mut found = Self::default();
        for reading in slot.board().readings() {
            if reading.age != own && can_take(&reading, now) {
                found.count += 1;
                found.idle += u64::from(reading.accepting == Accepting::Waiting);
                found.connections += u64::from(reading.connections);
            }
        }
        found
    }

    /// Tells whether there is one.
    pub(crate) fn can_take(&self) -> bool {
        self.count > 0
    }
}

/// Tells whether a worker is in its wait, its listeners armed, and the wait is one that it wakes from; or has begun to
/// compute just now, and most often will be back in a moment.
fn can_take(reading: &SlotReading, now: Instant) -> bool {
    let has_beaten = |patience| reading.beat.is_some_and(|at| now.since(at) < patience);
    let takes = match reading.accepting {
        Accepting::No | Accepting::BusyArmed => false,
        Accepting::BusyDisarmed => has_beaten(TAKER_BUSY_MAX),
        // Its first beat comes at the end of its first wait.
        Accepting::Waiting => reading.beat.is_none() || has_beaten(SILENT_AFTER),
    };
    reading.booted && !reading.leaving && takes
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1_000_000_000_000);

    fn ago(time: Duration) -> Option<Instant> {
        Some(Instant(NOW.0 - time.as_nanos() as u64))
    }

    #[test]
    fn a_worker_can_take_connections_that_waits_or_has_just_begun_to_work() {
        let waiting = SlotReading {
            age: 2,
            beat: ago(Duration::from_millis(900)),
            booted: true,
            connections: 5,
            requests: 0,
            accepting: Accepting::Waiting,
            leaving: false,
        };
        let working = SlotReading { accepting: Accepting::BusyDisarmed, ..waiting };
        let just_begun = SlotReading { beat: ago(TAKER_BUSY_MAX / 2), ..working };
        for sibling in [waiting, just_begun, SlotReading { beat: None, ..waiting }] {
            assert!(can_take(&sibling, NOW), "{sibling:?}");
        }
        let cannot = [
            SlotReading { accepting: Accepting::No, ..waiting },
            SlotReading { accepting: Accepting::BusyArmed, ..just_begun },
            working,
            SlotReading { booted: false, ..waiting },
            SlotReading { leaving: true, ..waiting },
            SlotReading { beat: None, ..working },
            SlotReading { beat: ago(SILENT_AFTER), ..waiting },
        ];
        for sibling in cannot {
            assert!(!can_take(&sibling, NOW), "{sibling:?}");
        }
    }
}
