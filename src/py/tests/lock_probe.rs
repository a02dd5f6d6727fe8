//! Beats count while the interpreter lock can be had.

use std::time::Duration;

use pyo3::prelude::*;

use super::LockProbe;
use rgunicorn_io::sys::clock;
use rgunicorn_io::sys::shared::{Scoreboard, Slot};
use rgunicorn_server::log::{ErrorLog, Level};

const EVERY: Duration = Duration::from_millis(5);

/// Beats until the beat counts, or does not.
fn wait_counts(slot: &Slot, counts: bool) {
    for _ in 0..2000 {
        let now = clock::now();
        slot.beat(now);
        if (slot.read().beat == Some(now)) == counts {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("beats count: {}", !counts);
}

#[test]
fn a_beat_counts_while_the_lock_can_be_had() {
    Python::initialize();
    let slot = Scoreboard::new().unwrap().claim(1).unwrap();
    let errors = ErrorLog::open("/dev/null", Level::Info).unwrap();
    let probe = Python::attach(|_| {
        let probe = LockProbe::start(&slot, EVERY, &errors).unwrap();
        wait_counts(&slot, false);
        probe
    });
    wait_counts(&slot, true);
    let held = Python::attach(|_| {
        wait_counts(&slot, false);
        let stands_at = slot.read().beat;
        std::thread::sleep(EVERY * 4);
        slot.beat(clock::now());
        assert_eq!(slot.read().beat, stands_at, "the beginning of the wait");
        stands_at
    });
    wait_counts(&slot, true);
    assert!(slot.read().beat > held);
    drop(probe);
    Python::attach(|_| {
        std::thread::sleep(EVERY * 4);
        let now = clock::now();
        slot.beat(now);
        assert_eq!(slot.read().beat, Some(now), "nobody asks any more");
    });
}

#[test]
fn the_end_of_the_probe_does_not_wait_for_its_next_look() {
    Python::initialize();
    let slot = Scoreboard::new().unwrap().claim(1).unwrap();
    let errors = ErrorLog::open("/dev/null", Level::Info).unwrap();
    let begun = clock::now();
    for _ in 0..20 {
        drop(LockProbe::start(&slot, Duration::from_secs(600), &errors));
        Python::attach(|_| drop(LockProbe::start(&slot, Duration::from_secs(600), &errors)));
    }
    assert!(clock::now().since(begun) < Duration::from_secs(60));
}
