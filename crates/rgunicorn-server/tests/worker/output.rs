//! Answers to clients that read slowly, or not at all.

use std::time::Duration;

use crate::app::{answer, pattern};
use crate::client::{Client, get};
use crate::stage::{Stage, calm, worker_config};
use rgunicorn_io::driver::sim::SimConfig;
use rgunicorn_server::response::Outgoing;
use rgunicorn_server::worker::{Flow, WorkerConfig};

#[test]
fn a_slow_reader_gets_a_large_body_whole() {
    for path in ["/big/3000000", "/stream/30/100000"] {
        let stage = Stage::calm();
        let client = stage.connect();
        client.get(path);
        stage.until("the whole body", || client.read_some(7000) < 100 && client.got().len() > 3_000_000);
        let got = client.got();
        assert!(got.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n"));
        if path.starts_with("/big") {
            assert_eq!(got, answer(&pattern(3_000_000), true));
        } else {
            let body = &got[got.len() - 3_000_000..];
            assert!(body.chunks(100_000).all(|piece| piece == pattern(100_000)));
            assert!(stage.app.count("resume") >= 10, "the application waits for the reader");
        }
        client.get("/next");
        stage.until("the connection is as good as new", || client.contains("/next|"));
        client.close();
        stage.assert_nothing_left();
    }
}

#[test]
fn a_parked_response_of_a_client_that_leaves_is_abandoned_once() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.get("/stream/30/100000");
    stage.until("the call", || stage.app.count("call") == 1);
    stage.settle();
    assert_eq!(stage.app.held(), 1);
    client.reset();
    stage.assert_nothing_left();
    assert_eq!(stage.app.count("abandon"), 1);
    assert_eq!(stage.app.count("resume"), 0);
}

#[test]
fn a_slow_reader_does_not_hold_up_the_others() {
    let stage = Stage::calm();
    let slow = stage.connect();
    slow.get("/big/1000000");
    let endless = stage.connect();
    endless.get("/yield/100000/1");
    stage.until("both are called", || stage.app.count("call") == 2);
    for turn in 0..50 {
        let client = stage.connect();
        client.get(&format!("/{turn}"));
        let begun = stage.turns.get();
        stage.until("the quick answer", || {
            endless.read();
            client.contains(&format!("/{turn}|"))
        });
        assert!(stage.turns.get() - begun < 20, "a new connection is served within a few turns");
        client.close();
    }
    stage.until("the slow answer", || slow.read().len() > 1_000_000);
}

/// Memory must not grow with the patience of a client that sends requests and reads no answers.
#[test]
fn a_client_that_never_reads_does_not_queue_answers_without_bound() {
    let stage = Stage::calm();
    let client = stage.connect();
    for _ in 0..200 {
        client.get("/big/20000");
    }
    stage.settle();
    let called = stage.app.count("call");
    assert!(called < 20, "{called} answers of 20 kB wait for a client with a window of 16 kB");
    let one = answer(&pattern(20_000), true);
    stage.until("all answers", || client.read_some(16_000) == 0 && client.got().len() >= 200 * one.len());
    assert_eq!(client.got(), one.repeat(200));
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_half_closed_client_that_never_read_gets_all_answers_when_it_does() {
    let stage = Stage::calm();
    let client = stage.connect();
    for _ in 0..20 {
        client.get("/big/20000");
    }
    client.finish();
    stage.settle();
    stage.until("the end", || client.sees_end());
    assert_eq!(client.got(), answer(&pattern(20_000), true).repeat(20));
    stage.assert_nothing_left();
}

#[test]
fn a_client_that_stops_reading_is_cut_off() {
    for path in ["/stream/30/100000", "/big/1000000", "/abort/100000"] {
        let stage = Stage::new(
            1,
            &calm(),
            WorkerConfig { write_stall_timeout: Duration::from_secs(5), ..worker_config() },
        );
        let client = stage.connect();
        client.get(path);
        stage.until("the call", || stage.app.count("call") == 1);
        stage.pass(Duration::from_secs(4));
        assert_eq!(stage.reactor.snapshot().connections, 1, "{path}");
        stage.pass(Duration::from_secs(4));
        assert_eq!(stage.reactor.snapshot().connections, 0, "{path}");
        assert!(stage.errors().contains("does not read"), "{}", stage.errors());
        stage.assert_nothing_left();
    }
}

#[test]
fn a_client_that_reads_a_little_now_and_then_is_not_cut_off() {
    let stage = Stage::new(
        1,
        &calm(),
        WorkerConfig { write_stall_timeout: Duration::from_secs(5), ..worker_config() },
    );
    let client = stage.connect();
    client.get("/stream/40/16000");
    stage.until("the call", || stage.app.count("call") == 1);
    let mut rounds = 0;
    while client.got().len() < 40 * 16_000 {
        stage.pass(Duration::from_secs(4));
        client.read_some(20_000);
        rounds += 1;
        assert!(rounds < 100);
    }
    assert!(rounds > 20, "it took much longer than one time-out");
}

#[test]
fn pieces_stay_in_order_under_trouble() {
    let trouble = SimConfig {
        send_window_bytes: 50,
        short_per_mille: 800,
        late_per_mille: 500,
        ..SimConfig::default()
    };
    for seed in 0..20 {
        let stage = Stage::new(seed, &trouble, worker_config());
        let client = stage.connect();
        client.send([get("/yield/20/30"), get("/stream/20/70"), get("/end")].concat());
        let expected = [
            answer(&pattern(30).repeat(20), true),
            answer(&pattern(70).repeat(20), true),
            answer(b"/end|", true),
        ]
        .concat();
        stage.until("all answers", || client.has(&expected));
        client.close();
        stage.assert_nothing_left();
    }
}

#[test]
fn a_wait_for_output_ends_with_its_response_and_the_connection_goes_on() {
    // With little output the next request begins at once, with much only when that has left.
    for bytes in [40_000, 400_000] {
        let stage = Stage::new(1, &SimConfig { send_window_bytes: 1000, ..calm() }, worker_config());
        let client = stage.connect();
        client.get("/hold");
        client.get("/next");
        stage.until("the call", || stage.app.count("call /hold") == 1);
        let id = stage.app.hold();
        stage.reactor.send(id, Outgoing::from(pattern(bytes)), false);
        // As a greenlet of the application's own does, whose request's main greenlet then returns.
        assert!(stage.reactor.park(id));
        stage.reactor.finish(id, true);
        stage.until("the wait is over", || stage.app.count(&format!("resume {id:?}")) == 1);
        // It looks again, and finds neither anything to wait for nor that its client has left.
        assert!(!stage.reactor.park(id) && !stage.reactor.is_closed(id));
        stage.until("the next answer", || client.read_some(7000) < 100 && client.contains("/next|"));
        client.close();
        stage.assert_nothing_left();
    }
}

#[test]
fn nothing_waits_for_output_behind_the_last_response() {
    let stage = Stage::new(1, &SimConfig { send_window_bytes: 1000, ..calm() }, worker_config());
    let client = stage.connect();
    client.get("/hold");
    stage.until("the call", || stage.app.count("call /hold") == 1);
    let id = stage.app.hold();
    stage.reactor.send(id, Outgoing::from(pattern(400_000)), false);
    assert!(stage.reactor.park(id));
    stage.reactor.finish(id, false);
    stage.until("the wait is over", || stage.app.count("resume") == 1);
    assert!(!stage.reactor.park(id) && !stage.reactor.is_closed(id));
    assert_eq!(stage.reactor.send(id, Outgoing::from(pattern(1)), false), Flow::Gone);
    stage.until("the end", || client.read_some(7000) == 0 && client.sees_end());
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_response_that_is_aborted_ends_the_waits_of_its_writers() {
    let stage = Stage::new(1, &SimConfig { send_window_bytes: 1000, ..calm() }, worker_config());
    let client = stage.connect();
    client.get("/hold");
    stage.until("the call", || stage.app.count("call /hold") == 1);
    let id = stage.app.hold();
    stage.reactor.send(id, Outgoing::from(pattern(400_000)), false);
    assert!(stage.reactor.park(id));
    stage.reactor.abort(id);
    stage.until("the wait is over", || stage.app.count("resume") == 1);
    assert!(!stage.reactor.park(id) && stage.reactor.is_closed(id));
    assert_eq!(stage.reactor.send(id, Outgoing::from(pattern(1)), false), Flow::Gone);
    stage.until("the end", || client.read_some(7000) == 0 && client.sees_end());
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_request_waits_for_one_piece_of_all_slow_responses_and_each_of_them_goes_on() {
    const STREAMS: usize = 5;
    let stage = Stage::calm();
    let endless: Vec<_> = (0..STREAMS).map(|_| stage.connect()).collect();
    endless.iter().for_each(|client| client.get("/crawl/100000/1"));
    stage.until("all are called", || stage.app.count("call") == STREAMS);
    for turn in 0..50 {
        let client = stage.connect();
        client.get(&format!("/{turn}"));
        let begun = stage.net.now();
        stage.until("the answer", || client.contains(&format!("/{turn}|")));
        let waited = stage.net.now().since(begun);
        assert!(waited <= Duration::from_millis(60), "{waited:?}: a turn to be accepted, one to be read");
        client.close();
    }
    let pieces = |client: &Client| client.got().len();
    endless.iter().for_each(|client| assert!(client.read_some(1 << 20) > 0));
    let (least, most) = (endless.iter().map(pieces).min(), endless.iter().map(pieces).max());
    assert!(
        least.zip(most).is_some_and(|(least, most)| least > 0 && most - least <= STREAMS),
        "{least:?} {most:?}"
    );
}

#[test]
fn responses_go_on_however_many_requests_there_are() {
    let stage = Stage::calm();
    let endless = stage.connect();
    endless.get("/crawl/100000/1");
    let busy: Vec<_> = (0..10).map(|_| stage.connect()).collect();
    for _ in 0..5 {
        busy.iter().for_each(|client| client.get("/slow"));
        let (called, resumed) = (stage.app.count("call /slow"), stage.app.count("resume"));
        stage.until("all are called", || stage.app.count("call /slow") == called + busy.len());
        assert!(stage.app.count("resume") - resumed >= busy.len() - 1, "one for each of those slow calls");
    }
}
