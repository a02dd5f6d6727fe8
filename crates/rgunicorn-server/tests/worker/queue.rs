//! What waits in the kernel's queue when a worker leaves: answered, or left to those who go on.

use std::time::Duration;

use crate::app::answer;
use crate::client::Client;
use crate::stage::{Stage, calm, worker_config};
use rgunicorn_io::driver::sim::SimCall;
use rgunicorn_server::worker::WorkerConfig;

/// A worker that may have two connections, and has them. Each client has sent a request; the last ones wait.
fn full(worker_config: WorkerConfig, count: usize) -> (Stage, Vec<Client>) {
    let (keepalive, evict_after) = (Duration::from_secs(100), Duration::ZERO);
    let worker_config = WorkerConfig { connections_max: 2, keepalive, evict_after, ..worker_config };
    let stage = Stage::new(1, &calm(), worker_config);
    let clients: Vec<_> = (0..count).map(|_| stage.connect()).collect();
    for client in &clients[..2] {
        client.get("/a");
        stage.until("the answer", || client.contains("/a|"));
    }
    clients[2..].iter().for_each(|client| client.get("/w"));
    stage.settle();
    assert_eq!(stage.reactor.snapshot().connections, 2);
    (stage, clients)
}

/// Runs the worker to its end; clients leave when they have seen theirs.
fn run_to_end(stage: &Stage, clients: &[Client]) {
    let end = stage.run_until("the end", || {
        clients.iter().filter(|client| client.sees_end()).for_each(Client::close);
        assert!(stage.reactor.snapshot().connections <= 2, "the limit holds");
        false
    });
    assert_eq!(end, Some(0));
}

fn answered(clients: &[Client]) -> usize {
    clients.iter().filter(|client| client.has(&answer(b"/w|", false))).count()
}

#[test]
fn at_the_limit_those_who_wait_are_answered_as_there_is_room() {
    for quiet_ms in [0, 1000] {
        let (stage, clients) = full(worker_config(), 9);
        stage.pass(Duration::from_millis(quiet_ms));
        stage.control.stop();
        run_to_end(&stage, &clients);
        assert_eq!(answered(&clients), 7, "idle for {quiet_ms} ms");
    }
}

#[test]
fn a_drain_without_descriptors_waits_for_some() {
    let (stage, clients) = full(worker_config(), 4);
    stage.pass(Duration::from_secs(1));
    stage.net.fail(SimCall::Accept, libc::EMFILE, 1);
    stage.control.stop();
    let begun = stage.turns.get();
    stage.pass(Duration::from_millis(500));
    assert!(stage.turns.get() - begun < 150, "no spin");
    stage.net.mend(SimCall::Accept);
    run_to_end(&stage, &clients);
    assert_eq!(answered(&clients), 2);
}

#[test]
fn without_descriptors_it_leaves_when_its_time_is_over() {
    let (stage, clients) =
        full(WorkerConfig { graceful_timeout: Duration::from_secs(1), ..worker_config() }, 3);
    stage.net.fail(SimCall::Accept, libc::EMFILE, 1);
    stage.control.stop();
    let start = stage.net.now();
    run_to_end(&stage, &clients);
    assert!(stage.net.now().since(start) <= Duration::from_millis(1100));
}

#[test]
fn a_retired_worker_leaves_the_queue_to_the_others() {
    for own in [false, true] {
        let (stage, clients) =
            full(WorkerConfig { requests_max: 3, shares_listeners: !own, ..worker_config() }, 5);
        clients[0].get("/w");
        run_to_end(&stage, &clients);
        // One more on the connection that was there.
        assert!(clients[0].contains("/w|"));
        assert_eq!(answered(&clients[2..]), if own { 3 } else { 0 });
        assert!(own || clients[2..].iter().all(|client| !client.sees_end()));
    }
}

#[test]
fn a_retired_worker_takes_the_queue_when_the_server_stops() {
    let (stage, clients) = full(worker_config(), 5);
    stage.reactor.handles().slot.mark_replaced();
    stage.control.stop();
    stage.settle();
    assert_eq!(answered(&clients), 0);
    stage.board.set_workers(0);
    run_to_end(&stage, &clients);
    assert_eq!(answered(&clients), 3);
}
