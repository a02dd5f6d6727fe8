//! Limits: connections, descriptors, early input; and that reaching one costs no busy loop.

use std::time::Duration;

use crate::app::answer;
use crate::client::get;
use crate::stage::{Stage, calm, worker_config};
use rgunicorn_io::driver::sim::SimCall;
use rgunicorn_server::worker::WorkerConfig;

/// Turns that the worker makes in this virtual time.
fn turns_in(stage: &Stage, time: Duration) -> u64 {
    let begun = stage.turns.get();
    stage.pass(time);
    stage.turns.get() - begun
}

#[test]
fn at_the_limit_connections_wait_until_one_closes() {
    let worker_config =
        WorkerConfig { connections_max: 2, keepalive: Duration::from_secs(100), ..worker_config() };
    for workers in [1, 4] {
        let stage = Stage::new(1, &calm(), worker_config.clone());
        let _siblings: Vec<_> = (2..=workers).map(|age| stage.board.claim(age).unwrap()).collect();
        let clients: Vec<_> = (0..5).map(|_| stage.connect()).collect();
        clients.iter().for_each(|client| client.get("/a"));
        stage.settle();
        let answered = || clients.iter().filter(|client| client.contains("/a|")).count();
        assert_eq!((stage.reactor.snapshot().connections, answered()), (2, 2));
        let turns = turns_in(&stage, Duration::from_secs(1));
        assert!(turns <= 210, "{turns} turns of at least 5 ms in a second");
        for (done, client) in clients.iter().enumerate() {
            assert!(answered() >= (done + 2).min(5));
            client.close();
            stage.settle();
        }
        assert_eq!(answered(), 5);
        stage.assert_nothing_left();
    }
}

#[test]
fn without_descriptors_accepting_pauses_and_open_connections_go_on() {
    let stage =
        Stage::new(1, &calm(), WorkerConfig { keepalive: Duration::from_secs(100), ..worker_config() });
    let open = stage.connect();
    open.get("/a");
    stage.until("the answer", || open.contains("/a|"));
    stage.net.fail(SimCall::Accept, libc::EMFILE, 1);
    let waiting = stage.connect();
    waiting.get("/w");
    let turns = turns_in(&stage, Duration::from_millis(3500));
    assert!(turns < 800, "{turns} turns of at least 5 ms in 3.5 s");
    let warnings = stage.errors().matches("Cannot accept connections").count();
    assert!((3..=4).contains(&warnings), "{warnings} warnings in 3.5 s");
    open.get("/b");
    stage.until("an open connection is served", || open.contains("/b|"));
    stage.net.mend(SimCall::Accept);
    stage.until("the waiting one is served", || waiting.contains("/w|"));
    open.close();
    waiting.close();
    stage.assert_nothing_left();
}

/// A pause that is over must not shorten the waits while nothing may be accepted anyway.
#[test]
fn a_pause_at_the_limit_does_not_spin() {
    let limited = WorkerConfig { connections_max: 1, keepalive: Duration::from_secs(100), ..worker_config() };
    let stage = Stage::new(1, &calm(), limited);
    stage.net.fail(SimCall::Accept, libc::EMFILE, 1);
    let first = stage.connect();
    stage.settle();
    stage.net.mend(SimCall::Accept);
    first.get("/a");
    let _second = stage.connect();
    stage.until("the first is served", || first.contains("/a|"));
    let turns = turns_in(&stage, Duration::from_secs(1));
    assert!(turns <= 210, "{turns} turns in a second");
}

/// Nor may it while the worker leaves and a request is still being received.
#[test]
fn a_pause_in_a_drain_does_not_spin() {
    let stage = Stage::new(1, &calm(), worker_config());
    let client = stage.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    stage.settle();
    stage.net.fail(SimCall::Accept, libc::EMFILE, 1);
    let _never = stage.connect();
    stage.settle();
    stage.control.stop();
    let turns = turns_in(&stage, Duration::from_secs(1));
    assert!(turns <= 210, "{turns} turns in a second");
    client.send("123456789");
    client.finish();
    assert_eq!(stage.run_to_end(), 0);
    assert!(client.has(&answer(b"/|123456789", false)));
}

#[test]
fn early_requests_are_held_back_and_none_is_lost() {
    for seed in 0..30 {
        let config = rgunicorn_io::driver::sim::SimConfig { recv_buffer_bytes: 64, ..Default::default() };
        let stage = Stage::new(seed, &config, WorkerConfig { pipelined_bytes_max: 300, ..worker_config() });
        let client = stage.connect();
        let mut expected = answer(&crate::app::pattern(10).repeat(200), true);
        client.get("/yield/200/10");
        for turn in 0..300 {
            client.get(&format!("/{turn}"));
            expected.extend(answer(format!("/{turn}|").as_bytes(), true));
        }
        stage.until("the answers", || client.read().len() >= expected.len());
        assert!(client.has(&expected), "seed {seed}");
        client.close();
        stage.assert_nothing_left();
    }
}

#[test]
fn held_back_requests_stay_with_the_client() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.send([get("/stream/2/100000"), get("/x").repeat(100_000)].concat());
    stage.pass(Duration::from_secs(1));
    let taken = stage.net.unreceived(client.peer);
    assert!(taken > 2_000_000, "only {taken} bytes were left to the client");
}

/// Not only while a response is in progress: between two of a long row of requests reception is as tempting.
#[test]
fn early_requests_are_taken_as_they_are_answered() {
    let stage = Stage::calm();
    let client = stage.connect();
    let (request, response) = (get("/x"), answer(b"/x|", true));
    client.send(request.repeat(200_000));
    for answers in [100, 1_000, 4_000] {
        stage.until("answers", || client.read().len() >= answers * response.len());
        let taken = 200_000 * request.len() - stage.net.unreceived(client.peer);
        let ahead = taken - answers * request.len();
        assert!(ahead < 200_000, "{ahead} bytes are held after {answers} answers");
    }
}
