//! Each way that a loop can be looked at: idle, busy, blocked, stopped with the process.

use std::time::Duration;

use super::{Overdue, Step};
use rgunicorn_io::sys::clock::Instant;

const START: Instant = Instant(5_000_000_000);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(offset_ms: u64) -> Instant {
    START.after(ms(offset_ms))
}

/// One watch with a threshold of a second, and looks in milliseconds after the start.
struct Watch(Overdue);

impl Watch {
    fn new() -> Self {
        Self(Overdue::new(ms(1000)))
    }

    fn look(&mut self, running_ms: Option<u64>, now_ms: u64) -> Step {
        self.0.look(running_ms.map(at), at(now_ms))
    }
}

#[test]
fn an_idle_loop_is_looked_at_once_per_threshold() {
    let mut watch = Watch::new();
    for turn in 0..5 {
        assert_eq!(watch.look(None, turn * 1000), Step::Wait(ms(1000)));
    }
}

#[test]
fn short_pieces_are_never_reported() {
    let mut watch = Watch::new();
    for turn in 0..100 {
        // Each look meets another piece that is 900 ms old.
        assert_eq!(watch.look(Some(turn * 100), turn * 100 + 900), Step::Wait(ms(100)));
    }
}

#[test]
fn a_piece_that_begins_after_a_look_is_reported_right_at_the_threshold() {
    let mut watch = Watch::new();
    assert_eq!(watch.look(None, 0), Step::Wait(ms(1000)));
    assert_eq!(watch.look(Some(1), 1000), Step::Wait(ms(1)));
    assert_eq!(watch.look(Some(1), 1001), Step::Report(at(1)));
}

#[test]
fn one_piece_is_reported_once_and_its_end_is_told() {
    let mut watch = Watch::new();
    assert_eq!(watch.look(Some(0), 1000), Step::Report(at(0)));
    assert_eq!(watch.look(Some(0), 1000), Step::Wait(ms(20)));
    assert_eq!(watch.look(Some(0), 5000), Step::Wait(ms(100)));
    assert_eq!(watch.look(Some(0), 100_000), Step::Wait(ms(1000)));
    assert_eq!(watch.look(None, 100_500), Step::Ended(ms(100_500)));
    assert_eq!(watch.look(None, 100_500), Step::Wait(ms(1000)));
}

#[test]
fn the_next_piece_says_when_the_reported_one_ended_and_has_its_own_time() {
    let mut watch = Watch::new();
    assert_eq!(watch.look(Some(0), 1100), Step::Report(at(0)));
    assert_eq!(watch.look(Some(1150), 1200), Step::Ended(ms(1150)));
    assert_eq!(watch.look(Some(1150), 1200), Step::Wait(ms(950)));
    assert_eq!(watch.look(Some(1150), 2150), Step::Report(at(1150)));
    assert_eq!(watch.look(Some(3000), 4100), Step::Ended(ms(1850)));
    assert_eq!(watch.look(Some(3000), 4100), Step::Report(at(3000)));
}

#[test]
fn a_process_that_was_stopped_blames_nobody() {
    let mut watch = Watch::new();
    assert_eq!(watch.look(None, 0), Step::Wait(ms(1000)));
    // An hour later: the piece began before the stop, and has had no time since.
    assert_eq!(watch.look(Some(500), 3_600_000), Step::Wait(ms(1000)));
    assert_eq!(watch.look(None, 3_600_100), Step::Wait(ms(1000)));
    // One that does not end now is reported, with all of its time.
    assert_eq!(watch.look(Some(3_600_200), 3_601_200), Step::Report(at(3_600_200)));
}

#[test]
fn a_piece_that_begins_later_than_now_is_just_young() {
    // The clock was read before the loop's store was seen.
    let mut watch = Watch::new();
    assert_eq!(watch.look(Some(100), 50), Step::Wait(ms(1000)));
}
