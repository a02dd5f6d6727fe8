//! Requests in, answers out: order, splits, bodies, refusals, half-closed and vanished clients.

use std::time::Duration;

use crate::app::answer;
use crate::client::get;
use crate::stage::{Stage, calm, worker_config};

#[test]
fn one_request_is_answered() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.get("/a");
    stage.until("the answer", || client.has(&answer(b"/a|", true)));
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let stage = Stage::calm();
    let client = stage.connect();
    let mut expected = Vec::new();
    for turn in 0..20 {
        client.get(&format!("/{turn}"));
        expected.extend(answer(format!("/{turn}|").as_bytes(), true));
        stage.until("the next answer", || client.has(&expected));
    }
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let stage = Stage::calm();
    let client = stage.connect();
    let paths = ["/slow", "/stream/5/9000", "/b", "/yield/3/10", "/c"];
    client.send(paths.map(get).concat());
    stage.until("the last answer", || client.contains("/c|"));
    let got = client.read();
    assert!(got.starts_with(&answer(b"/slow|", true)));
    assert!(got.ends_with(&answer(b"/c|", true)));
    let calls: Vec<_> = stage
        .app
        .log
        .borrow()
        .iter()
        .filter_map(|line| line.strip_prefix("call ").map(str::to_owned))
        .collect();
    assert_eq!(calls, paths);
    client.close();
    stage.assert_nothing_left();
}

/// Their answers leave together; the other one waits for sixteen quick answers at most.
#[test]
fn pipelined_requests_run_in_a_row_but_not_all() {
    let stage = Stage::calm();
    let (one, other) = (stage.connect(), stage.connect());
    stage.settle();
    one.send((0..20).map(|number| get(&format!("/one/{number}"))).collect::<Vec<_>>().concat());
    other.send(["/other/0", "/other/1"].map(get).concat());
    stage.until("the last answers", || one.contains("/one/19|") && other.contains("/other/1|"));
    let calls =
        stage.app.log.borrow().iter().filter(|line| line.starts_with("call ")).cloned().collect::<Vec<_>>();
    let runs: Vec<_> =
        calls.chunk_by(|a, b| a[..9] == b[..9]).map(|run| (run[0].as_str(), run.len())).collect();
    assert_eq!(runs, [("call /one/0", 16), ("call /other/0", 2), ("call /one/16", 4)]);
    one.close();
    other.close();
    stage.assert_nothing_left();
}

#[test]
fn every_split_of_the_bytes_gives_the_same_answers() {
    let requests =
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPOST /y HTTP/1.1\r\nHost: a\r\n\
        Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET /z HTTP/1.0\r\n\r\n";
    let expected = [answer(b"/x|hello", true), answer(b"/y|abcde", true), answer(b"/z|", false)].concat();
    let stage = Stage::calm();
    for at in 1..requests.len() {
        let client = stage.connect();
        client.send(&requests[..at]);
        stage.settle();
        client.send(&requests[at..]);
        stage.until("all answers", || client.has(&expected) && client.sees_end());
        client.close();
    }
    stage.assert_nothing_left();
}

#[test]
fn byte_by_byte_works_as_well() {
    let stage = Stage::calm();
    let client = stage.connect();
    for byte in get("/slowly") {
        client.send([byte]);
        stage.settle();
    }
    stage.until("the answer", || client.has(&answer(b"/slowly|", true)));
}

#[test]
fn http_1_0_closes_after_the_answer() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.send("GET /old HTTP/1.0\r\n\r\n");
    stage.until("the end", || client.sees_end());
    assert_eq!(client.read(), answer(b"/old|", false));
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_body_above_the_memory_bound_arrives_whole() {
    let stage = Stage::new(
        1,
        &calm(),
        rgunicorn_server::worker::WorkerConfig { body_memory_bytes_max: 1000, ..worker_config() },
    );
    for size in [0, 1, 999, 1000, 1001, 50_000] {
        let client = stage.connect();
        let body = crate::app::pattern(size);
        client.send(format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        client.send(&body);
        let expected = answer(&[b"/up|", body.as_slice()].concat(), true);
        stage.until("the echo", || client.has(&expected));
        client.close();
    }
    stage.assert_nothing_left();
}

#[test]
fn a_client_that_waits_for_continue_is_told_to_go_on() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.send("POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    stage.until("the interim answer", || client.has(b"HTTP/1.1 100 Continue\r\n\r\n"));
    assert_eq!(stage.app.count("call"), 0);
    client.send("ok");
    stage.until("the answer", || client.contains("/e|ok"));
}

#[test]
fn no_continue_for_a_body_that_is_there_already() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.send("POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nok");
    stage.until("the answer", || client.has(&answer(b"/e|ok", true)));
}

#[test]
fn a_bad_request_is_refused_and_its_connection_closed() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.send("GET / HTTP/1.1\r\nHost a\r\n\r\n");
    stage.until("the end", || client.sees_end());
    assert!(client.read().starts_with(b"HTTP/1.1 400 "), "{:?}", String::from_utf8_lossy(&client.read()));
    assert_eq!(stage.app.count("call"), 0);
    assert_eq!(stage.app.log.borrow().as_slice(), ["refused / 400"]);
    assert!(stage.errors().contains("Invalid request from ip=127.0.0.1"));
    // Late input is read away while the client has not closed: it must not turn into a reset.
    client.send("more and more");
    stage.settle();
    assert_eq!(stage.reactor.snapshot().connections, 1);
    client.finish();
    stage.assert_nothing_left();
}

#[test]
fn a_refusal_after_the_head_is_recorded() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.send("POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    stage.until("the end", || client.sees_end());
    assert_eq!(stage.app.log.borrow().as_slice(), ["refused /bad 400"]);
}

#[test]
fn every_refusal_has_a_date_and_one_record_and_no_page_for_head() {
    for (bytes, record, page) in [
        ("HEAD /a HTTP/1.1\r\nHost: b c\r\n\r\n", "refused /a 400", false),
        ("GET /a HTTP/1.1\r\n\r\n", "refused /a 400", true),
        ("HEAD /a HTTP/1.1\r\nHost: a\r\nExpect: no\r\n\r\n", "refused /a 417", false),
        ("bad\r\n", "refused - 400", true),
    ] {
        let stage = Stage::calm();
        let client = stage.connect();
        client.send(bytes);
        stage.until("the end", || client.sees_end());
        let text = String::from_utf8(client.read()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nDate: ") && head.contains("\r\nContent-Length: "), "{head}");
        assert_eq!(!body.is_empty(), page, "{bytes:?}");
        assert_eq!(stage.app.log.borrow().as_slice(), [record], "{bytes:?}");
    }
}

#[test]
fn a_refusal_comes_after_the_answers_before_it() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.send([get("/stream/3/20000"), b"BAD\r\n\r\n".to_vec()].concat());
    stage.until("the end", || client.sees_end());
    let text = String::from_utf8_lossy(&client.read()).into_owned();
    let (first, second) = (text.find("200 OK").unwrap(), text.find("HTTP/1.1 400").unwrap());
    assert!(first < second && second > 60_000);
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    for path in ["/a", "/slow", "/stream/4/20000", "/yield/4/10", "/big/100000"] {
        let stage = Stage::calm();
        let client = stage.connect();
        client.send([get(path), get("/last")].concat());
        client.finish();
        stage.until("the end", || client.sees_end());
        assert!(client.contains("/last|"), "{path}");
        stage.assert_nothing_left();
    }
}

/// The end of the stream comes while an earlier answer is on its way and a next request has begun.
#[test]
fn an_end_within_the_next_head_does_not_cut_the_answer() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.get("/big/100000");
    stage.until("the call", || stage.app.count("call") == 1);
    client.send("GET /half");
    client.finish();
    stage.settle();
    stage.until("the end", || client.sees_end());
    assert_eq!(client.read(), answer(&crate::app::pattern(100_000), true));
    stage.assert_nothing_left();
}

#[test]
fn an_end_within_a_request_closes_without_a_call() {
    for part in
        ["", "GET", "GET / HTTP/1.1\r\nHo", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab"]
    {
        let stage = Stage::calm();
        let client = stage.connect();
        client.send(part);
        stage.settle();
        client.finish();
        stage.until("the end", || client.sees_end());
        assert_eq!(client.read(), b"");
        stage.assert_nothing_left();
        assert_eq!(stage.app.count("call"), 0);
    }
}

#[test]
fn a_reset_at_every_point_leaves_nothing() {
    let request =
        b"POST /stream/3/30000 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcdGET /b HTTP/1.1\r\n\r\n";
    let stage = Stage::calm();
    for at in 0..=request.len() {
        for read in [0, 20_000, 100_000] {
            let client = stage.connect();
            client.send(&request[..at]);
            stage.settle();
            client.read_some(read);
            stage.settle();
            client.reset();
        }
    }
    stage.assert_nothing_left();
    assert!(!stage.errors().contains("Internal error"), "{}", stage.errors());
}

#[test]
fn an_aborted_response_sends_what_it_has_and_closes() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.get("/abort/50000");
    stage.until("the end", || client.sees_end());
    assert_eq!(client.read(), crate::app::pattern(50_000));
    client.close();
    stage.assert_nothing_left();
}

/// A virtual socket has no descriptor to duplicate: the taking fails, and the connection is as it was.
#[test]
fn a_failed_takeover_leaves_the_connection_alone() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.send([get("/take"), get("/next")].concat());
    let expected = [answer(b"false", true), answer(b"/next|", true)].concat();
    stage.until("both answers", || client.has(&expected));
    stage.pass(Duration::from_secs(1));
    client.get("/again");
    stage.until("another answer", || client.contains("/again|"));
}
