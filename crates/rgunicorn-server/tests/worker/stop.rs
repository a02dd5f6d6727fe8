//! How a worker leaves.

use std::time::Duration;

use crate::app::answer;
use crate::client::{Client, get};
use crate::stage::{Stage, calm, worker_config};
use rgunicorn_server::worker::WorkerConfig;

#[test]
fn a_stopping_worker_answers_what_it_has_and_closes_the_idle() {
    let stage =
        Stage::new(1, &calm(), WorkerConfig { keepalive: Duration::from_secs(100), ..worker_config() });
    let (idle, slow, head, body) = (stage.connect(), stage.connect(), stage.connect(), stage.connect());
    idle.get("/idle");
    stage.until("the first answer", || idle.contains("/idle|"));
    stage.pass(Duration::from_secs(1));
    slow.get("/stream/5/20000");
    head.send("GET /head HT");
    body.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n1");
    stage.until("the call", || stage.app.count("call") == 2);
    stage.settle();
    let queued = stage.connect();
    queued.get("/queued");
    stage.control.stop();
    stage.settle();
    assert!(idle.sees_end());
    head.send("TP/1.1\r\nHost: a\r\n\r\n");
    body.send("23");
    let end = stage.run_until("the end", || {
        for client in [&slow, &head, &body, &queued] {
            if client.sees_end() {
                client.close();
            }
        }
        false
    });
    assert_eq!(end, Some(0));
    assert!(slow.read().len() > 100_000);
    assert_eq!(head.read(), answer(b"/head|", false));
    assert_eq!(body.read(), answer(b"/body|123", false));
    assert_eq!(queued.read(), answer(b"/queued|", false));
    assert_eq!(stage.snapshot().connections, 0);
}

#[test]
fn a_worker_that_has_nothing_to_do_leaves_at_once() {
    let stage = Stage::calm();
    stage.settle();
    let start = stage.net.now();
    stage.control.stop();
    assert_eq!(stage.run_to_end(), 0);
    assert!(stage.net.now().since(start) < Duration::from_millis(20));
}

#[test]
fn idle_connections_hold_up_a_stop_for_nothing() {
    let stage =
        Stage::new(1, &calm(), WorkerConfig { keepalive: Duration::from_secs(30), ..worker_config() });
    let clients: Vec<_> = (0..200).map(|_| stage.connect()).collect();
    clients.iter().for_each(|client| client.get("/a"));
    stage.until("all answers", || clients.iter().all(|client| client.contains("/a|")));
    stage.pass(Duration::from_millis(700));
    let start = stage.net.now();
    stage.control.stop();
    assert_eq!(stage.run_to_end(), 0);
    assert!(clients.iter().all(Client::sees_end));
    assert!(stage.net.now().since(start) < Duration::from_millis(20));
}

#[test]
fn a_queue_of_slow_requests_does_not_prolong_the_graceful_time() {
    let graceful_timeout = Duration::from_millis(300);
    let stage = Stage::new(1, &calm(), WorkerConfig { graceful_timeout, ..worker_config() });
    let clients: Vec<_> = (0..30).map(|_| stage.connect()).collect();
    clients.iter().for_each(|client| client.get("/slow"));
    stage.until("the first call", || stage.app.count("call") > 0);
    stage.control.stop();
    let start = stage.net.now();
    assert_eq!(stage.run_to_end(), 0);
    let took = stage.net.now().since(start);
    assert!(took <= graceful_timeout + Duration::from_millis(60), "{took:?}: one call may be in progress");
}

#[test]
fn it_leaves_within_the_graceful_time_whatever_goes_on() {
    for path in ["/stream/30/100000", "/yield/10000000/1"] {
        let stage = Stage::new(
            1,
            &calm(),
            WorkerConfig { graceful_timeout: Duration::from_millis(300), ..worker_config() },
        );
        let client = stage.connect();
        client.get(path);
        stage.until("the call", || stage.app.count("call") == 1);
        stage.control.stop();
        let start = stage.net.now();
        let end = stage.run_until("the end", || {
            // Work takes time, which a simulation must be told.
            stage.net.advance(Duration::from_micros(100));
            false
        });
        assert_eq!(end, Some(0), "{path}");
        assert!(stage.net.now().since(start) <= Duration::from_millis(320), "{path}");
    }
}

#[test]
fn a_connection_that_is_silent_after_the_accept_does_not_hold_the_worker() {
    let stage = Stage::calm();
    let _client = stage.connect();
    stage.settle();
    let start = stage.net.now();
    stage.control.stop();
    assert_eq!(stage.run_to_end(), 0);
    assert!(stage.net.now().since(start) <= Duration::from_millis(600));
}

/// A connection that was opened ahead has its first request in the kernel, or on its way, when the worker is told to
/// stop: it is answered, however long the connection was silent.
#[test]
fn the_first_request_of_a_silent_connection_is_answered() {
    for (seed, silent_s) in (0..30).flat_map(|seed| [0, 60].map(|silent_s| (seed, silent_s))) {
        for late_ms in [0, 10, 300, 450] {
            let config = rgunicorn_io::driver::sim::SimConfig { late_per_mille: 900, ..calm() };
            let keepalive = Duration::from_secs(75);
            let idle_wait_max = Duration::from_millis(20);
            let stage =
                Stage::new(seed, &config, WorkerConfig { keepalive, idle_wait_max, ..worker_config() });
            let client = stage.connect();
            stage.pass(Duration::from_secs(silent_s));
            if late_ms == 0 {
                client.get("/first");
            }
            stage.control.stop();
            if late_ms > 0 {
                let start = stage.net.now();
                stage.until("a moment", || stage.net.now().since(start) >= Duration::from_millis(late_ms));
                client.get("/first");
            }
            client.finish();
            assert_eq!(stage.run_to_end(), 0);
            assert_eq!(client.read(), answer(b"/first|", false), "seed {seed}, {late_ms} ms late");
        }
    }
}

/// An answer that promised keep-alive is still on its way: the request that its client sends next is answered.
#[test]
fn a_client_that_was_promised_keepalive_may_send_one_more() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.get("/big/50000");
    stage.until("the call", || stage.app.count("call") == 1);
    stage.control.stop();
    stage.until("the answer", || client.read().len() > 50_000);
    client.get("/next");
    client.finish();
    assert_eq!(stage.run_to_end(), 0);
    assert!(client.read().ends_with(&answer(b"/next|", false)));
}

/// A busy client has the last answer and its next request may be on its way: closing now would lose it.
#[test]
fn a_client_that_was_just_answered_may_send_one_more() {
    for (silence_ms, answered) in [(0, true), (300, true), (700, false)] {
        let stage =
            Stage::new(1, &calm(), WorkerConfig { keepalive: Duration::from_secs(5), ..worker_config() });
        let client = stage.connect();
        client.get("/first");
        stage.until("the answer", || client.contains("/first|"));
        stage.pass(Duration::from_millis(silence_ms));
        let start = stage.net.now();
        stage.control.stop();
        let sent = std::cell::Cell::new(false);
        let end = stage.run_until("the end", || {
            if !sent.get() && stage.net.now().since(start) >= Duration::from_millis(200) {
                client.get("/next");
                client.finish();
                sent.set(true);
            }
            false
        });
        assert_eq!(end, Some(0));
        assert_eq!(client.has(&[answer(b"/first|", true), answer(b"/next|", false)].concat()), answered);
        assert!(stage.net.now().since(start) < Duration::from_millis(600), "{silence_ms}");
    }
}

#[test]
fn quit_leaves_at_once_with_its_status() {
    for status in [0, 1] {
        let stage = Stage::calm();
        let client = stage.connect();
        client.get("/yield/1000/1");
        stage.until("the call", || stage.app.count("call") == 1);
        stage.control.quit(status);
        let begun = stage.turns.get();
        assert_eq!(stage.run_to_end(), status);
        assert_eq!(stage.turns.get() - begun, 1);
    }
}

#[test]
fn the_last_of_max_requests_is_answered_and_so_are_those_behind_it() {
    let stage = Stage::new(1, &calm(), WorkerConfig { requests_max: 3, ..worker_config() });
    let clients: Vec<_> = (0..5).map(|_| stage.connect()).collect();
    clients.iter().for_each(|client| client.get("/m"));
    let end = stage.run_until("the end", || {
        clients.iter().for_each(|client| {
            if client.sees_end() {
                client.close();
            }
        });
        false
    });
    assert_eq!(end, Some(0));
    let closed = clients.iter().filter(|client| client.read() == answer(b"/m|", false)).count();
    assert!(clients.iter().all(|client| client.contains("/m|")));
    assert!(closed >= 3);
    assert_eq!(stage.errors().matches("Autorestarting worker").count(), 1);
}

#[test]
fn requests_queued_behind_a_slow_one_are_answered_in_a_drain() {
    let stage = Stage::calm();
    let clients: Vec<_> = (0..60).map(|_| stage.connect()).collect();
    clients.iter().for_each(|client| client.send([get("/slow"), get("/p")].concat()));
    stage.until("the first call", || stage.app.count("call") >= 1);
    stage.control.stop();
    let end = stage.run_until("the end", || {
        clients.iter().for_each(|client| {
            if client.sees_end() {
                client.close();
            }
        });
        false
    });
    assert_eq!(end, Some(0));
    for client in &clients {
        let got = client.read();
        assert!(got.starts_with(b"HTTP/1.1 200 OK"), "every client is answered");
        // The first answer may have said close before the second request was looked at.
        assert!(client.contains("/p|") || client.contains("Connection: close"));
    }
}
