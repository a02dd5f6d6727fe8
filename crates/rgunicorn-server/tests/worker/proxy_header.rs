//! PROXY headers before the first request.

use std::time::Duration;

use rgunicorn_http::proxy::ProxyMode;
use rgunicorn_server::worker::WorkerConfig;
use rgunicorn_settings::Networks;

use crate::app::answer;
use crate::client::get;
use crate::stage::{Stage, calm, worker_config};

const LINE: &[u8] = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 2000\r\n";

fn stage(allowed: &str) -> Stage {
    let proxy_allowed = Networks::parse(&[allowed]).unwrap();
    Stage::new(1, &calm(), WorkerConfig { proxy_protocol: ProxyMode::Auto, proxy_allowed, ..worker_config() })
}

#[test]
fn every_split_of_header_and_requests() {
    let bytes = [LINE, &get("/a"), &get("/b")].concat();
    let expected = [answer(b"/a|", true), answer(b"/b|", true)].concat();
    let stage = stage("127.0.0.1");
    for at in 1..bytes.len() {
        let client = stage.connect();
        client.send(&bytes[..at]);
        stage.settle();
        client.send(&bytes[at..]);
        stage.until("both answers", || client.has(&expected));
        client.close();
    }
    stage.assert_nothing_left();
}

#[test]
fn every_split_of_what_begins_like_a_header() {
    let bytes = [&b"\r\n"[..], &get("/a")].concat();
    let stage = stage("127.0.0.1");
    for at in 1..bytes.len() {
        let client = stage.connect();
        client.send(&bytes[..at]);
        stage.settle();
        client.send(&bytes[at..]);
        stage.until("the answer", || client.has(&answer(b"/a|", true)));
        client.close();
    }
    stage.assert_nothing_left();
}

/// Its first byte is the first one of the connection, which is idle until then.
#[test]
fn the_clock_starts_with_the_header() {
    for sent in [1, LINE.len() - 1, LINE.len()] {
        let stage = stage("127.0.0.1");
        let client = stage.connect();
        stage.pass(Duration::from_millis(9900));
        client.send(&LINE[..sent]);
        stage.pass(Duration::from_millis(9900));
        assert!(!client.sees_end(), "{sent}");
        stage.pass(Duration::from_millis(200));
        assert!(client.sees_end(), "{sent}");
        stage.assert_nothing_left();
    }
}

#[test]
fn refusals() {
    for (allowed, header, status) in
        [("127.0.0.1", &b"PROXY nonsense\r\n"[..], "400"), ("10.0.0.1", LINE, "403")]
    {
        let stage = stage(allowed);
        let client = stage.connect();
        client.send(header);
        stage.until("the end", || client.sees_end());
        assert!(client.contains(&format!("HTTP/1.1 {status} ")), "{header:?}");
        client.close();
        stage.assert_nothing_left();
    }
}

/// Clients that never finish their header cost the time of a head, and nothing after it.
#[test]
fn a_header_that_stops() {
    for length in [1, 6, 20, LINE.len()] {
        let stage = stage("127.0.0.1");
        let client = stage.connect();
        client.send(&LINE[..length]);
        stage.pass(Duration::from_secs(9));
        assert!(!client.sees_end(), "{length}");
        stage.pass(Duration::from_secs(2));
        assert!(client.sees_end(), "{length}");
        client.close();
        stage.assert_nothing_left();
    }
}

#[test]
fn clients_that_leave_within_the_header() {
    let stage = stage("127.0.0.1");
    for length in 0..=LINE.len() {
        let client = stage.connect();
        client.send(&LINE[..length]);
        stage.settle();
        if length % 2 == 0 { client.close() } else { client.reset() }
    }
    stage.assert_nothing_left();
}

/// A worker that leaves serves the connection whose header has come and whose request is on its way.
#[test]
fn a_request_behind_its_header_while_the_worker_leaves() {
    for length in [5, LINE.len()] {
        let stage = stage("127.0.0.1");
        let client = stage.connect();
        client.send(&LINE[..length]);
        stage.settle();
        stage.control.stop();
        let bytes = [&LINE[length..], &get("/a")].concat();
        client.send(&bytes);
        assert_eq!(stage.run_to_end(), 0);
        assert!(client.contains("/a|"), "{length}");
    }
}
