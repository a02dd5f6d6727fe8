//! What a worker leaves to siblings that are only entries of the score-board here.

use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};

use crate::client::Client;
use crate::stage::{Stage, calm, worker_config};
use rgunicorn_io::sys::shared::{Accepting, Slot};
use rgunicorn_server::worker::WorkerConfig;

/// A worker that serves, and does this about new connections.
fn sibling(stage: &Stage, accepting: Accepting) -> Slot {
    let slot = stage.board.claim(2).unwrap();
    slot.set_booted();
    slot.beat(stage.net.now());
    slot.set_accepting(accepting);
    slot
}

fn is_nudged(stage: &Stage) -> bool {
    let mut asked = [PollFd::new(stage.board.sibling_wakeup(), PollFlags::POLLIN)];
    let nudged = poll(&mut asked, 0u8).unwrap() == 1;
    stage.board.drain_sibling_wakeup().unwrap();
    nudged
}

/// A connection that the kernel has woken the sibling for.
fn unseen(stage: &Stage) -> Client {
    Client::new(&stage.net, stage.net.connect_unseen(stage.listener).unwrap())
}

/// A connection whose request arrives together with the wake-up for another connection. How often the worker nudged.
fn both_at_once(accepting: Option<Accepting>, rounds: usize) -> usize {
    let stage =
        Stage::new(1, &calm(), WorkerConfig { keepalive: Duration::from_secs(100), ..worker_config() });
    let sibling = accepting.map(|accepting| sibling(&stage, accepting));
    let mut nudges = 0;
    for _ in 0..rounds {
        let first = stage.connect();
        stage.settle();
        if let Some(sibling) = &sibling {
            sibling.beat(stage.net.now());
        }
        first.get("/a");
        let second = stage.connect();
        second.get("/a");
        stage.until("the first answer", || first.contains("/a|"));
        nudges += usize::from(is_nudged(&stage));
        // The sibling does not come, so it is this worker's after all.
        stage.until("the second answer", || second.contains("/a|"));
    }
    nudges
}

#[test]
fn a_worker_with_work_leaves_a_connection_to_an_idle_sibling() {
    assert_eq!(both_at_once(Some(Accepting::Waiting), 3), 3);
}

#[test]
fn nobody_is_nudged_who_cannot_take_a_connection_or_will_see_it() {
    assert_eq!(both_at_once(None, 3), 0, "there is no sibling");
    for accepting in [Accepting::No, Accepting::BusyDisarmed, Accepting::BusyArmed] {
        assert_eq!(both_at_once(Some(accepting), 3), 0, "{accepting:?}");
    }
}

#[test]
fn a_connection_that_nobody_was_woken_for_is_found() {
    let stage = Stage::calm();
    let sibling = sibling(&stage, Accepting::BusyArmed);
    let served = stage.connect();
    served.get("/a");
    stage.until("the answer", || served.contains("/a|"));
    stage.settle();
    let lost = unseen(&stage);
    lost.get("/b");
    let begun = stage.net.now();
    stage.until("the answer", || lost.contains("/b|"));
    assert!(stage.net.now().since(begun) <= Duration::from_millis(30), "while the sibling works");
    sibling.release();
    let lost = unseen(&stage);
    lost.get("/c");
    stage.until("the answer", || lost.contains("/c|"));
    assert!(stage.net.now().since(begun) <= Duration::from_millis(1100), "in any case");
}

#[test]
fn a_lone_worker_that_finds_a_connection_waits_for_the_next() {
    let (idle_wait_max, header_timeout) = (Duration::from_secs(60), Duration::from_secs(1000));
    let stage = Stage::new(1, &calm(), WorkerConfig { idle_wait_max, header_timeout, ..worker_config() });
    let begun = stage.net.now();
    let (_idle, next) = (unseen(&stage), unseen(&stage));
    next.get("/a");
    stage.until("the answer", || next.contains("/a|"));
    assert!(stage.net.now().since(begun) < Duration::from_secs(1));
}
