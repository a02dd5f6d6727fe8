//! Request bodies that the application reads while they arrive.

use std::time::Duration;

use rgunicorn_http::HttpError;
use rgunicorn_io::driver::sim::SimConfig;
use rgunicorn_server::response::Outgoing;
use rgunicorn_server::worker::{BodyFault, BodyRead, WorkerConfig};

use crate::app::{answer, pattern};
use crate::client::{Client, get};
use crate::stage::{Stage, calm, worker_config};

/// More than any clock of a connection would allow.
const MORE: Duration = Duration::from_secs(70);

fn streaming() -> WorkerConfig {
    WorkerConfig { stream_bodies: true, ..worker_config() }
}

fn stage(worker_config: WorkerConfig) -> Stage {
    Stage::new(1, &calm(), worker_config)
}

/// The head of a POST with a body of `length` bytes.
fn post(path: &str, length: usize) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

fn post_chunks(path: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes()
}

/// A client whose request `/hold` runs, with a body of this many bytes to come.
fn held(stage: &Stage, length: usize) -> Client {
    let client = stage.connect();
    client.send(post("/hold", length));
    stage.until("the call", || stage.app.count("call /hold") == 1);
    client
}

/// All that can be read without another turn.
fn read_all(stage: &Stage, bytes_max: usize) -> (Vec<u8>, BodyRead) {
    let mut all = Vec::new();
    loop {
        match stage.reactor.read_body(stage.app.hold(), bytes_max) {
            BodyRead::Data(data) => all.extend(data),
            end => return (all, end),
        }
    }
}

#[test]
fn the_call_comes_with_the_head_and_the_body_is_read_as_it_arrives() {
    let stage = stage(streaming());
    let client = stage.connect();
    client.send(post("/x", 6));
    stage.until("the call", || stage.app.count("incoming /x") == 1);
    for piece in ["ab", "cd", "ef"] {
        client.send(piece);
        stage.settle();
    }
    assert!(client.has(&answer(b"/x|abcdef", true)));
    assert_eq!(stage.app.count("resume"), 3);
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_body_that_is_there_with_its_head_is_complete() {
    let stage = stage(streaming());
    let client = stage.connect();
    let chunked = [post_chunks("/c"), b"3\r\nabc\r\n0\r\nA: b\r\n\r\n".to_vec()].concat();
    client.send([post("/x", 3), b"abc".to_vec(), chunked, post("/0", 0), get("/g")].concat());
    let expected = ["/x|abc", "/c|abc", "/0|", "/g|"].map(|text| answer(text.as_bytes(), true)).concat();
    stage.until("the answers", || client.has(&expected));
    assert_eq!(stage.app.count("incoming"), 0);
}

#[test]
fn every_split_of_the_bytes_gives_the_same_answers() {
    let head = post_chunks("/y").iter().map(|byte| *byte as char).collect::<String>();
    let requests = [
        &post("/x", 5)[..],
        b"hello",
        head.as_bytes(),
        b"3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nX-T: t\r\n\r\n",
        &post("/some/2", 4),
        b"1234",
        b"HEAD /h HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        &post("/0", 0),
        b"GET /g HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /z HTTP/1.0\r\n\r\n",
    ]
    .concat();
    let contents = ["/x|hello", "/y|abcde", "12", "/h|hi", "/0|", "/g|"];
    let mut expected = contents.map(|text| answer(text.as_bytes(), true)).concat();
    expected.extend(answer(b"/z|", false));
    for split in 1..requests.len() {
        let stage = stage(WorkerConfig { body_window_bytes_max: 1 + split % 4, ..streaming() });
        let client = stage.connect();
        client.send(&requests[..split]);
        stage.settle();
        client.send(&requests[split..]);
        stage.until("the answers", || client.has(&expected) && client.sees_end());
        client.close();
        stage.assert_nothing_left();
    }
    let stage = stage(streaming());
    let client = stage.connect();
    for byte in requests {
        client.send([byte]);
        stage.settle();
    }
    stage.until("the answers", || client.has(&expected));
}

#[test]
fn a_client_that_sends_faster_than_the_application_reads_is_held_back() {
    for seed in 0..20 {
        let config = SimConfig { recv_buffers: 2, ..SimConfig::default() };
        let stage = Stage::new(seed, &config, WorkerConfig { body_window_bytes_max: 5000, ..streaming() });
        let body = pattern(400_000);
        let client = held(&stage, body.len());
        client.send(&body);
        client.get("/next");
        let mut got = Vec::new();
        while got.len() < body.len() {
            stage.settle();
            let (some, end) = read_all(&stage, 3000);
            // Above the limit by what one turn brings, at most.
            assert!(some.len() <= 5000 + 3 * 16 * 1024, "seed {seed}: {} bytes", some.len());
            assert_ne!(end, BodyRead::Failed(BodyFault::Gone));
            got.extend(some);
        }
        assert!(got == body, "seed {seed}");
        assert_eq!(stage.reactor.read_body(stage.app.hold(), 1), BodyRead::End);
        stage.reactor.finish(stage.app.hold(), true);
        stage.until("the next answer", || client.contains("/next|"));
        client.close();
        stage.assert_nothing_left();
    }
}

#[test]
fn nobody_waits_for_what_is_there() {
    let stage = stage(streaming());
    let client = held(&stage, 4);
    let id = stage.app.hold();
    assert_eq!(stage.reactor.read_body(id, 9), BodyRead::Pending);
    client.send("abcd");
    stage.settle();
    assert!(!stage.reactor.await_body(id));
    assert_eq!(stage.reactor.read_body(id, 3), BodyRead::Data(b"abc".to_vec()));
    assert_eq!(stage.reactor.read_body(id, 3), BodyRead::Data(b"d".to_vec()));
    assert_eq!(stage.reactor.read_body(id, 3), BodyRead::End);
    assert!(!stage.reactor.await_body(id));
    // Without a wish nobody is resumed.
    assert_eq!(stage.app.count("resume"), 0);
    stage.reactor.finish(id, true);
    assert_eq!(stage.reactor.read_body(id, 3), BodyRead::Failed(BodyFault::Gone));
}

#[test]
fn the_stall_time_runs_only_while_somebody_waits() {
    let stage = stage(streaming());
    let client = held(&stage, 4);
    let id = stage.app.hold();
    stage.pass(MORE);
    client.send("a");
    stage.pass(MORE);
    assert_eq!(stage.reactor.read_body(id, 9), BodyRead::Data(b"a".to_vec()));
    assert!(stage.reactor.await_body(id));
    stage.pass(Duration::from_secs(29));
    client.send("b");
    stage.settle();
    assert_eq!((stage.app.count("resume"), stage.snapshot().timers), (1, 0));
    assert_eq!(stage.reactor.read_body(id, 9), BodyRead::Data(b"b".to_vec()));
    assert!(stage.reactor.await_body(id));
    stage.pass(Duration::from_secs(29));
    assert_eq!(stage.app.count("resume"), 1);
    stage.pass(Duration::from_secs(2));
    assert_eq!(stage.app.count("resume"), 2);
    client.send("cd");
    stage.settle();
    assert_eq!(stage.snapshot().operations, 1, "nothing more is received");
    assert_eq!(stage.reactor.read_body(id, 9), BodyRead::Failed(BodyFault::Stalled));
    stage.reactor.finish(id, true);
    stage.until("the end", || client.sees_end());
    client.close();
    stage.assert_nothing_left();
}

/// The rest arrives in the very moment in which the time is over: no completion has told of it.
#[test]
fn a_rest_that_races_the_stall_time_is_read() {
    for seed in 0..200 {
        let config = SimConfig { late_per_mille: 900, ..calm() };
        let short = WorkerConfig { body_stall_timeout: Duration::from_millis(100), ..streaming() };
        let stage = Stage::new(seed, &config, short);
        let client = stage.connect();
        client.send([post("/raced", 5), b"ab".to_vec()].concat());
        stage.until("the call", || stage.app.count("call") == 1);
        let start = stage.net.now();
        stage.until("just before", || stage.net.now().since(start) >= Duration::from_millis(90));
        client.send("cde");
        stage.net.advance(Duration::from_millis(20));
        stage.until("the answer", || client.contains("/raced|abcde") || client.sees_end());
        assert!(client.contains("/raced|abcde"), "seed {seed}");
    }
}

#[test]
fn a_stalled_body_fails_even_while_output_is_queued() {
    let stage = stage(streaming());
    let client = held(&stage, 4);
    let id = stage.app.hold();
    stage.reactor.send(id, Outgoing::from(pattern(5_000_000)), false);
    assert!(stage.reactor.await_body(id));
    stage.pass(Duration::from_secs(31));
    assert_eq!(stage.reactor.read_body(id, 9), BodyRead::Failed(BodyFault::Stalled));
    stage.reactor.abort(id);
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn framing_that_trickles_in_is_no_stall() {
    let stage = stage(streaming());
    let client = stage.connect();
    client.send(post_chunks("/x"));
    for byte in b"00002\r\nab\r\n0\r\n\r\n" {
        stage.pass(Duration::from_secs(20));
        client.send([*byte]);
    }
    stage.until("the answer", || client.has(&answer(b"/x|ab", true)));
}

#[test]
fn a_client_that_ends_within_the_body_is_a_fault_behind_what_it_sent() {
    let stage = stage(streaming());
    let client = held(&stage, 9);
    client.send("abc");
    client.finish();
    stage.settle();
    let (data, end) = read_all(&stage, 2);
    assert_eq!((&data[..], end), (&b"abc"[..], BodyRead::Failed(BodyFault::Gone)));
    assert!(!stage.reactor.await_body(stage.app.hold()));
    // It may still read an answer.
    stage.reactor.send(stage.app.hold(), Outgoing::from(b"sorry".to_vec()), true);
    stage.reactor.finish(stage.app.hold(), true);
    stage.until("the end", || client.sees_end());
    assert_eq!(client.got(), b"sorry");
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn an_end_behind_a_paused_body_is_not_lost() {
    let stage = stage(WorkerConfig { body_window_bytes_max: 1000, ..streaming() });
    let client = held(&stage, 100_000);
    client.send(pattern(60_000));
    client.finish();
    let mut got = Vec::new();
    loop {
        stage.settle();
        let (some, end) = read_all(&stage, 500);
        got.extend(some);
        match end {
            BodyRead::Pending => {}
            end => break assert_eq!(end, BodyRead::Failed(BodyFault::Gone)),
        }
    }
    assert!(got == pattern(60_000));
    stage.reactor.abort(stage.app.hold());
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_client_that_leaves_ends_the_wait() {
    let stage = stage(streaming());
    for (reset, word) in [(true, "abandon"), (false, "fault Gone")] {
        let client = stage.connect();
        client.send(post("/x", 9));
        stage.until("the call", || stage.app.held() == 1);
        if reset {
            client.reset()
        } else {
            client.close()
        }
        stage.until("it is told", || stage.app.count(word) == 1);
        client.close();
        stage.assert_nothing_left();
    }
}

#[test]
fn bad_chunks_are_a_fault_behind_the_good_ones() {
    let stage = stage(streaming());
    let client = stage.connect();
    client.send(post_chunks("/hold"));
    stage.until("the call", || stage.app.count("call /hold") == 1);
    client.send("3\r\nabc\r\nx\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    stage.settle();
    client.send(get("/smuggled"));
    stage.settle();
    assert_eq!(stage.snapshot().operations, 1, "nothing more is received");
    let fault = BodyRead::Failed(BodyFault::Framing(HttpError::ChunkSize));
    assert_eq!(read_all(&stage, 100), (b"abc".to_vec(), fault));
    stage.reactor.finish(stage.app.hold(), true);
    stage.until("the end", || client.sees_end());
    assert_eq!(stage.app.count("call"), 1);
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn continue_is_sent_when_the_body_has_not_come() {
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let stage = stage(streaming());
    let client = stage.connect();
    client.send(head);
    let line = b"HTTP/1.1 100 Continue\r\n\r\n";
    stage.until("the invitation", || client.has(line));
    client.send("abcd");
    stage.until("the answer", || client.has(&[&line[..], &answer(b"/x|abcd", true)].concat()));
    let eager = stage.connect();
    eager.send(format!("{head}ab"));
    stage.settle();
    eager.send("cd");
    stage.until("the answer", || eager.has(&answer(b"/x|abcd", true)));
    assert_eq!(stage.app.count("incoming"), 2);
}

#[test]
fn what_was_not_read_is_read_away_and_the_next_request_is_served() {
    for chunked in [false, true] {
        let stage = stage(streaming());
        let client = stage.connect();
        let (head, body) = if chunked {
            (post_chunks("/some/2"), [&b"ea60\r\n"[..], &pattern(60_000), b"\r\n0\r\n\r\n"].concat())
        } else {
            (post("/some/2", 60_000), pattern(60_000))
        };
        client.send([&head, &body[..20]].concat());
        let first = answer(&pattern(2), true);
        stage.until("the answer", || client.has(&first));
        client.send(&body[20..]);
        client.get("/next");
        stage.until("the next answer", || client.has(&[first.clone(), answer(b"/next|", true)].concat()));
        client.close();
        stage.assert_nothing_left();
    }
}

#[test]
fn a_paused_body_that_nobody_reads_is_read_away_too() {
    let stage = stage(WorkerConfig { body_window_bytes_max: 1000, ..streaming() });
    let client = held(&stage, 60_000);
    client.send([pattern(60_000), get("/next")].concat());
    stage.settle();
    assert_eq!(stage.snapshot().operations, 1, "reception is paused");
    stage.reactor.finish(stage.app.hold(), true);
    stage.until("the next answer", || client.has(&answer(b"/next|", true)));
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn more_than_is_read_away_closes_the_connection_but_not_the_answer() {
    let stage = stage(streaming());
    let client = stage.connect();
    client.send([post("/some/2", 10_000_000), pattern(20)].concat());
    stage.until("the answer", || client.has(&answer(&pattern(2), true)));
    assert!(!client.sees_end());
    client.send(pattern(70_000));
    stage.until("the end", || client.sees_end());
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_rest_that_is_bad_or_cut_off_or_stalls_closes_the_connection() {
    for what in ["bad", "cut off", "stalls"] {
        let stage = stage(streaming());
        let client = stage.connect();
        client.send([post_chunks("/some/2"), b"3\r\nabc".to_vec()].concat());
        stage.until("the answer", || client.has(&answer(b"ab", true)));
        match what {
            "bad" => client.send("xx"),
            "cut off" => client.finish(),
            _ => {
                stage.pass(Duration::from_secs(29));
                assert!(!client.sees_end());
                client.send("\r\n");
                stage.pass(Duration::from_secs(29));
                assert!(!client.sees_end());
                stage.pass(Duration::from_secs(2));
            }
        }
        stage.until(what, || client.sees_end());
        client.close();
        stage.assert_nothing_left();
    }
}

#[test]
fn the_clock_of_what_is_read_away_goes_on_when_the_answer_was_read() {
    let stage = stage(streaming());
    let client = held(&stage, 9);
    let reply = pattern(5_000_000);
    stage.reactor.send(stage.app.hold(), Outgoing::from(reply.clone()), true);
    stage.reactor.finish(stage.app.hold(), true);
    stage.pass(Duration::from_secs(35));
    stage.until("the answer", || client.read().len() == reply.len());
    stage.pass(Duration::from_secs(29));
    assert!(!client.sees_end());
    stage.pass(Duration::from_secs(2));
    assert!(client.sees_end());
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_body_that_cannot_come_any_more_is_no_request() {
    let stage = stage(streaming());
    let client = stage.connect();
    client.send([get("/hold"), post("/x", 9), b"abc".to_vec()].concat());
    client.finish();
    stage.settle();
    stage.reactor.finish(stage.app.hold(), true);
    stage.settle();
    assert!(client.sees_end());
    assert_eq!(stage.app.count("call /x"), 0);
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_response_that_closes_reads_nothing_away_first() {
    let stage = stage(streaming());
    let client = held(&stage, 1000);
    client.send("abc");
    stage.settle();
    stage.reactor.finish(stage.app.hold(), false);
    stage.until("the end", || client.sees_end());
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_stopping_worker_answers_what_streams_and_does_not_wait_for_what_nobody_reads() {
    let stage = stage(streaming());
    let (reading, skipping) = (stage.connect(), stage.connect());
    reading.send(post("/x", 6));
    skipping.send([post("/some/1", 9), b"ab".to_vec()].concat());
    stage.until("the answer", || skipping.has(&answer(b"a", true)));
    stage.control.stop();
    stage.pass(Duration::from_millis(400));
    assert!(!skipping.sees_end());
    skipping.send("c");
    stage.pass(Duration::from_millis(200));
    assert!(skipping.sees_end());
    reading.send("abcdef");
    let end = stage.run_until("the end", || {
        if reading.sees_end() {
            reading.close();
        }
        skipping.close();
        false
    });
    assert_eq!(end, Some(0));
    // The promise of keep-alive was given with the head, and withdrawn with the answer.
    assert!(reading.has(&answer(b"/x|abcdef", true)) || reading.has(&answer(b"/x|abcdef", false)));
}

#[test]
fn what_comes_of_a_body_behind_its_response_is_told_to_no_one() {
    let stage = stage(streaming());
    let client = held(&stage, 4);
    assert!(stage.reactor.await_body(stage.app.hold()));
    stage.reactor.finish(stage.app.hold(), true);
    client.send("abcd");
    client.get("/next");
    stage.until("the next answer", || client.contains("/next|"));
    // Once, and for the end of the response: see the next test.
    assert_eq!(stage.app.count("resume") + stage.app.count("abandon"), 1);
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn a_wait_for_the_body_ends_with_the_response() {
    type End = fn(&Stage, rgunicorn_server::worker::RequestId);
    let kept: End = |stage, id| stage.reactor.finish(id, true);
    let last: End = |stage, id| stage.reactor.finish(id, false);
    let aborted: End = |stage, id| stage.reactor.abort(id);
    for end in [kept, last, aborted] {
        let stage = stage(streaming());
        let client = held(&stage, 4);
        let id = stage.app.hold();
        // As a greenlet of the application's own does, whose request's main greenlet then returns.
        assert!(stage.reactor.await_body(id));
        end(&stage, id);
        stage.until("the wait is over", || stage.app.count("resume") == 1);
        assert!(!stage.reactor.await_body(id));
        assert_eq!(stage.reactor.read_body(id, 9), BodyRead::Failed(BodyFault::Gone));
        // It gives up what it takes for half a request: that is over, and its connection is not its own.
        stage.reactor.abort(id);
        client.send("body");
        client.get("/next");
        stage.until("the end", || client.contains("/next|") || client.sees_end());
        client.close();
        stage.assert_nothing_left();
    }
}
