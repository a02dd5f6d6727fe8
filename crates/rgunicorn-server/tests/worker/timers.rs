//! Time-outs, in virtual time.

use std::time::Duration;

use crate::app::{answer, pattern};
use crate::stage::{Stage, calm, worker_config};
use rgunicorn_server::worker::WorkerConfig;

const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn an_idle_connection_is_closed_after_the_keepalive_time() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.get("/a");
    stage.until("the answer", || client.contains("/a|"));
    stage.pass(millis(1900));
    assert!(!client.sees_end());
    stage.pass(millis(200));
    assert!(client.sees_end());
    stage.assert_nothing_left();
}

#[test]
fn a_request_restarts_the_keepalive_time() {
    let stage = Stage::calm();
    let client = stage.connect();
    for _ in 0..5 {
        stage.pass(millis(1500));
        client.get("/a");
        stage.settle();
        assert!(client.read().ends_with(&answer(b"/a|", true)));
    }
    assert!(!client.sees_end());
}

/// The request arrives in the very moment in which the time is over: it is in the socket, but no completion has told of
/// it.
#[test]
fn a_request_that_races_the_keepalive_time_is_answered() {
    for seed in 0..200 {
        let config = rgunicorn_io::driver::sim::SimConfig { late_per_mille: 900, ..calm() };
        let stage = Stage::new(seed, &config, WorkerConfig { keepalive: millis(100), ..worker_config() });
        let client = stage.connect();
        client.get("/a");
        stage.until("the answer", || client.contains("/a|"));
        let start = stage.net.now();
        stage.until("just before", || stage.net.now().since(start) >= millis(90));
        assert!(!client.sees_end());
        client.get("/raced");
        stage.net.advance(millis(20));
        stage.until("the raced answer", || client.contains("/raced|") || client.sees_end());
        assert!(client.contains("/raced|"), "seed {seed}");
    }
}

/// The same for the rest of a request, when the time for it is over.
#[test]
fn a_rest_that_races_its_time_is_answered() {
    let pieces = [
        ("GET /raced HT", "TP/1.1\r\nHost: a\r\n\r\n"),
        ("POST /raced HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", "cde"),
    ];
    for (seed, (begin, rest)) in (0..200).flat_map(|seed| pieces.map(|piece| (seed, piece))) {
        let config = rgunicorn_io::driver::sim::SimConfig { late_per_mille: 900, ..calm() };
        let short =
            WorkerConfig { header_timeout: millis(100), body_stall_timeout: millis(100), ..worker_config() };
        let stage = Stage::new(seed, &config, short);
        let client = stage.connect();
        client.send(begin);
        let start = stage.net.now();
        stage.until("just before", || stage.net.now().since(start) >= millis(90));
        client.send(rest);
        stage.net.advance(millis(20));
        stage.until("the raced answer", || client.contains("/raced|") || client.sees_end());
        assert!(client.contains("/raced|"), "seed {seed}, {rest}");
    }
}

#[test]
fn a_head_that_never_ends_is_cut_off_however_it_drips() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.send("GET / HTTP/1.1\r\n");
    for second in 0..9 {
        stage.pass(millis(1000));
        client.send(format!("X-{second}: y\r\n"));
        assert_eq!(stage.reactor.snapshot().connections, 1);
    }
    stage.pass(millis(1500));
    assert_eq!(stage.reactor.snapshot().connections, 0);
    stage.assert_nothing_left();
}

/// A stage whose connections may be idle for so many seconds.
fn keeping(seconds: u64) -> Stage {
    Stage::new(1, &calm(), WorkerConfig { keepalive: Duration::from_secs(seconds), ..worker_config() })
}

/// It is idle as one between two requests, but has the time of a head where `keepalive` is less.
#[test]
fn a_connection_that_says_nothing_is_closed() {
    for (keepalive, time) in [(2, 10_000), (0, 10_000), (75, 75_000)] {
        let stage = keeping(keepalive);
        let client = stage.connect();
        stage.pass(millis(time - 100));
        assert!(!client.sees_end(), "{keepalive}");
        stage.pass(millis(200));
        assert!(client.sees_end(), "{keepalive}");
        stage.assert_nothing_left();
    }
}

#[test]
fn a_first_request_that_races_its_time_is_answered() {
    for keepalive in [2, 75] {
        let stage = keeping(keepalive);
        let client = stage.connect();
        stage.pass(millis(keepalive.max(10) * 1000 - 10));
        client.get("/late");
        stage.net.advance(millis(100));
        stage.until("the answer", || client.contains("/late|"));
    }
}

/// Also a blank line, which belongs to no request.
#[test]
fn the_clock_of_a_head_starts_with_its_first_byte() {
    for begin in ["G", "\r\n", "\r\n\r", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        for served in [false, true] {
            let stage = keeping(75);
            let client = stage.connect();
            if served {
                client.get("/a");
                stage.until("the answer", || client.contains("/a|"));
            }
            stage.pass(millis(60_000));
            client.send(begin);
            stage.pass(millis(9900));
            assert!(!client.sees_end(), "{begin:?}");
            stage.pass(millis(200));
            assert!(client.sees_end(), "{begin:?}");
            stage.assert_nothing_left();
        }
    }
}

#[test]
fn a_body_may_take_long_but_not_stall() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    for _ in 0..4 {
        stage.pass(millis(20_000));
        client.send("x");
    }
    stage.pass(millis(29_000));
    assert_eq!(stage.reactor.snapshot().connections, 1);
    stage.pass(millis(2000));
    stage.assert_nothing_left();
}

#[test]
fn lingering_is_bounded_in_time_and_bytes() {
    for flood in [false, true] {
        let stage = Stage::calm();
        let client = stage.connect();
        client.send("GET /a HTTP/1.0\r\n\r\n");
        stage.until("the end", || client.sees_end());
        assert_eq!(stage.reactor.snapshot().connections, 1, "it waits for the client's end");
        if flood {
            client.send(vec![b'x'; 200_000]);
            stage.pass(millis(500));
        } else {
            stage.pass(millis(1900));
            assert_eq!(stage.reactor.snapshot().connections, 1);
            stage.pass(millis(200));
        }
        stage.assert_nothing_left();
    }
}

/// The keep-alive time passes while the answer is still on its way: the client gets it all, and the usual time after.
#[test]
fn the_keepalive_time_does_not_cut_an_answer() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.get("/big/100000");
    stage.until("the call", || stage.app.count("call") == 1);
    stage.pass(millis(5000));
    stage.until("the whole answer", || client.has(&answer(&pattern(100_000), true)));
    stage.pass(millis(1900));
    assert!(!client.sees_end());
    stage.pass(millis(300));
    assert!(client.sees_end(), "an idle connection must not live on under the write time-out");
    stage.assert_nothing_left();
}

#[test]
fn an_idle_worker_sleeps() {
    let stage = Stage::new(1, &calm(), WorkerConfig::default());
    let clients: Vec<_> = (0..10).map(|_| stage.connect()).collect();
    let begun = stage.turns.get();
    stage.pass(Duration::from_secs(60));
    assert!(stage.turns.get() - begun < 120, "{} turns in a minute", stage.turns.get() - begun);
    assert!(clients.iter().all(|client| client.sees_end()));
}
