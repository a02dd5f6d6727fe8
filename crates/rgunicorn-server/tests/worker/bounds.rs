//! The memory of requests that are not with the application, places at the limit of connections, and slow bodies. That
//! the memory is counted right is asserted in each turn of every test ([`Stage::until`]).

use std::time::Duration;

use rgunicorn_io::driver::sim::SimConfig;
use rgunicorn_io::sys::shared::Accepting;
use rgunicorn_server::worker::WorkerConfig;

use crate::app::{answer, pattern};
use crate::client::{Client, get};
use crate::random::{Dice, Plan, seeds};
use crate::stage::{Stage, calm, worker_config};

const LONG: Duration = Duration::from_secs(1_000_000);

const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A worker that has so many bytes for requests, and closes connections for no other reason.
fn with_memory(request_memory_bytes_max: usize) -> WorkerConfig {
    WorkerConfig {
        request_memory_bytes_max,
        connections_max: 20,
        evict_after: Duration::ZERO,
        keepalive: LONG,
        header_timeout: LONG,
        body_stall_timeout: LONG,
        ..worker_config()
    }
}

fn stage(config: WorkerConfig) -> Stage {
    Stage::new(1, &calm(), config)
}

fn post(path: &str, length: usize) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

/// So many bytes of a head without an end.
fn half_a_head(bytes: usize) -> Vec<u8> {
    let mut head = b"GET /half HTTP/1.1\r\n".to_vec();
    while head.len() < bytes {
        head.extend(format!("X-{}: {}\r\n", head.len(), "v".repeat(bytes / 20)).as_bytes());
    }
    head
}

fn held_bytes(stage: &Stage) -> usize {
    stage.reactor.held_bytes()[0]
}

/// Counts the answers of this status that are recorded.
fn recorded(stage: &Stage, status: u16) -> usize {
    let end = format!(" {status}");
    let log = stage.app.log.borrow();
    log.iter().filter(|line| line.starts_with("refused") && line.ends_with(&end)).count()
}

fn has_status(client: &Client, status: u16) -> bool {
    client.read().starts_with(format!("HTTP/1.1 {status} ").as_bytes())
}

#[test]
fn the_oldest_unfinished_heads_are_refused_when_they_take_all_the_memory() {
    let stage = stage(with_memory(100_000));
    let small = stage.connect();
    small.send("GET /small HTTP/1.1\r\n");
    let clients: Vec<_> = (0..15).map(|_| stage.connect()).collect();
    let most = std::cell::Cell::new(0);
    for client in &clients {
        client.send(half_a_head(10_000));
        let begun = stage.net.now();
        stage.until("it is read", || {
            most.set(most.get().max(held_bytes(&stage)));
            stage.net.now().since(begun) >= millis(20)
        });
    }
    assert!((80_000..=100_000).contains(&most.get()), "{} bytes", most.get());
    let refused = clients.iter().filter(|client| has_status(client, 503)).count();
    assert!((5..=8).contains(&refused), "{refused}");
    assert!(
        clients[..refused].iter().all(|client| client.sees_end() && client.contains("Connection: close"))
    );
    assert_eq!(recorded(&stage, 503), refused, "they are recorded");
    assert_eq!(stage.errors().matches("limit_request_memory").count(), 1, "{}", stage.errors());
    small.send("Host: a\r\n\r\n");
    clients[14].send("Host: a\r\n\r\n");
    stage.until("the answers", || small.contains("/small|") && clients[14].contains("/half|"));
    clients.iter().chain([&small]).for_each(Client::close);
    stage.assert_nothing_left();
}

/// A head takes what it has, not twice as much.
#[test]
fn a_buffer_is_not_much_larger_than_what_is_in_it() {
    let stage = stage(with_memory(10_000_000));
    let client = stage.connect();
    client.send(half_a_head(70_000));
    stage.settle();
    assert!((70_000..90_000).contains(&held_bytes(&stage)), "{}", held_bytes(&stage));
    client.close();
    stage.assert_nothing_left();
}

#[test]
fn bodies_go_to_their_files_and_none_is_refused() {
    let stage = stage(with_memory(100_000));
    let clients: Vec<_> = (0..15).map(|_| stage.connect()).collect();
    let body = pattern(30_000);
    clients.iter().for_each(|client| client.send(post("/up", body.len())));
    for piece in body.chunks(3000) {
        clients.iter().for_each(|client| client.send(piece));
        stage.settle();
        assert!(held_bytes(&stage) <= 100_000, "{}", held_bytes(&stage));
    }
    let expected = answer(&[b"/up|".as_slice(), &body].concat(), true);
    stage.until("the answers", || clients.iter().all(|client| client.has(&expected)));
    clients.iter().for_each(Client::close);
    stage.assert_nothing_left();
}

/// What came before the memory was short is moved, too.
#[test]
fn a_body_in_memory_makes_room_for_others_by_its_file() {
    let stage = stage(with_memory(100_000));
    let uploader = stage.connect();
    let body = pattern(45_000);
    uploader.send(post("/up", body.len()));
    uploader.send(&body[..40_000]);
    stage.settle();
    assert!(held_bytes(&stage) > 40_000);
    let heads: Vec<_> = (0..6).map(|_| stage.connect()).collect();
    for head in &heads {
        head.send(half_a_head(9_000));
        stage.settle();
    }
    assert!(heads.iter().all(|head| head.read().is_empty()), "none is refused");
    assert!(held_bytes(&stage) < 80_000, "{}", held_bytes(&stage));
    uploader.send(&body[40_000..]);
    stage.until("the answer", || uploader.has(&answer(&[b"/up|".as_slice(), &body].concat(), true)));
    heads.iter().chain([&uploader]).for_each(Client::close);
    stage.assert_nothing_left();
}

/// Nothing can be freed: requests with the application, and what has come behind them, take it all.
#[test]
fn new_requests_wait_while_those_with_the_application_take_all_the_memory() {
    let config =
        WorkerConfig { pipelined_bytes_max: 50_000, write_stall_timeout: LONG, ..with_memory(60_000) };
    let stage = stage(WorkerConfig { header_timeout: Duration::from_secs(5), ..config });
    let busy: Vec<_> = (0..3).map(|_| stage.connect()).collect();
    busy.iter().for_each(|client| client.send([get("/stream/2/100000"), get("/next").repeat(3000)].concat()));
    stage.pass(millis(100));
    assert!(held_bytes(&stage) > 60_000);
    assert!(held_bytes(&stage) < 60_000 + 5 * 16 * 1024, "no more than a buffer for each");
    let waiting = stage.connect();
    waiting.get("/waits");
    // Longer than a head, or a connection without its first byte, has: the client is not the one to wait for.
    stage.pass(Duration::from_secs(60));
    assert!(waiting.read().is_empty() && !waiting.sees_end());
    busy.iter().for_each(Client::close);
    stage.until("the answer", || waiting.contains("/waits|"));
    waiting.close();
    stage.assert_nothing_left();
}

#[test]
fn one_request_beyond_all_memory_is_refused() {
    let stage = stage(with_memory(5_000));
    let client = stage.connect();
    client.send(half_a_head(10_000));
    stage.until("the answer", || has_status(&client, 503) && client.sees_end());
    client.close();
    let other = stage.connect();
    other.get("/fine");
    stage.until("the answer", || other.contains("/fine|"));
    other.close();
    stage.assert_nothing_left();
}

/// As in `random`, but memory and places are short: what a client gets is its answers, or their beginning and an error.
#[test]
fn short_of_memory_and_places_nobody_gets_anything_else() {
    for seed in seeds() {
        let dice = Dice::of(seed);
        let config = WorkerConfig {
            connections_max: 4,
            evict_after: millis(1 + dice.below(60) as u64),
            body_memory_bytes_max: 1000,
            stream_bodies: seed % 4 >= 2,
            request_memory_bytes_max: 200 + dice.below(6000),
            body_bytes_per_s_min: dice.below(3) as u32 * 1000,
            ..with_memory(0)
        };
        let stage = Stage::new(seed, &SimConfig { recv_buffers: 2, ..SimConfig::default() }, config);
        let _sibling = (seed % 2 == 1).then(|| stage.board.claim(2).unwrap());
        let plans: std::cell::RefCell<Vec<Plan>> = Default::default();
        stage.until("all clients are done", || {
            let mut plans = plans.borrow_mut();
            if plans.len() < 10 && dice.below(4) == 0 {
                plans.push(Plan::new(&dice, stage.connect()));
            }
            plans.iter().for_each(|plan| plan.step(&dice));
            plans.len() == 10 && plans.iter().all(|plan| plan.over.get() || plan.client.sees_end())
        });
        plans.borrow().iter().for_each(|plan| plan.client.close());
        stage.assert_nothing_left();
        assert!(!stage.errors().contains("Internal error"), "seed {seed}: {}", stage.errors());
        for plan in plans.take() {
            let got = plan.client.got();
            let same = got.iter().zip(&plan.expected).take_while(|(got, expected)| got == expected).count();
            let rest = String::from_utf8_lossy(&got[same..]).into_owned();
            // The error begins as an answer does.
            let fine = rest.is_empty() || rest.starts_with("503 ") || rest.starts_with("408 ");
            assert!(fine, "seed {seed}: {rest:?}");
        }
    }
}

/// A worker with two places.
fn of_two(evict_after: Duration) -> WorkerConfig {
    WorkerConfig { connections_max: 2, evict_after, ..with_memory(1 << 20) }
}

#[test]
fn the_longest_idle_connection_makes_room() {
    let stage = stage(of_two(millis(1000)));
    let (first, silent) = (stage.connect(), stage.connect());
    first.get("/a");
    stage.until("the answer", || first.contains("/a|"));
    stage.pass(millis(900));
    first.get("/a");
    stage.settle();
    let third = stage.connect();
    third.get("/c");
    stage.pass(millis(50));
    assert!(third.read().is_empty(), "none has been idle for so long");
    stage.until("the answer", || third.contains("/c|"));
    assert!(silent.sees_end() && !first.sees_end(), "a connection without its first byte is an idle one");
    assert!(silent.got().is_empty());
    let fourth = stage.connect();
    fourth.get("/d");
    stage.until("the answer", || fourth.contains("/d|"));
    assert!(first.sees_end() && !third.sees_end());
    assert_eq!(stage.snapshot().connections, 2);
    assert!(stage.errors().contains("worker_connections"));
    [first, silent, third, fourth].iter().for_each(Client::close);
    stage.assert_nothing_left();
}

/// Its next request comes in the very moment in which it is to go.
#[test]
fn a_request_that_races_its_end_is_answered() {
    for seed in 0..100 {
        let config = SimConfig { late_per_mille: 900, ..calm() };
        let stage = Stage::new(seed, &config, of_two(millis(100)));
        let (busy, other) = (stage.connect(), stage.connect());
        for client in [&busy, &other] {
            client.get("/a");
            stage.until("the answer", || client.contains("/a|"));
        }
        let third = stage.connect();
        third.get("/c");
        let start = stage.net.now();
        stage.until("just before", || stage.net.now().since(start) >= millis(80));
        busy.get("/raced");
        stage.net.advance(millis(30));
        stage.until("the answers", || third.contains("/c|") && (busy.contains("/raced|") || busy.sees_end()));
        assert!(busy.contains("/raced|"), "seed {seed}");
    }
}

#[test]
fn requests_that_do_not_come_make_room() {
    for begin in ["GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1"] {
        let stage = stage(of_two(millis(1000)));
        let slow: Vec<_> = (0..2).map(|_| stage.connect()).collect();
        slow.iter().for_each(|client| client.send(begin));
        stage.settle();
        let third = stage.connect();
        third.get("/c");
        stage.pass(millis(500));
        assert!(third.read().is_empty());
        stage.until("the answer", || third.contains("/c|"));
        let gone = slow.iter().filter(|client| has_status(client, 408) && client.sees_end()).count();
        assert_eq!((gone, stage.snapshot().connections, recorded(&stage, 408)), (1, 2, 1));
        slow.iter().chain([&third]).for_each(Client::close);
        stage.assert_nothing_left();
    }
}

/// Nor does one that is with the application, or whose answer is on its way.
#[test]
fn a_body_that_comes_does_not_make_room() {
    let stage = stage(of_two(millis(1000)));
    let (uploader, reader, third) = (stage.connect(), stage.connect(), stage.connect());
    uploader.send(post("/up", 100_000));
    reader.get("/stream/2/1000000");
    third.get("/c");
    let body = pattern(100_000);
    for piece in body.chunks(500) {
        uploader.send(piece);
        stage.pass(millis(100));
        assert!(third.read().is_empty());
    }
    stage.until("the answer", || uploader.has(&answer(&[b"/up|".as_slice(), &body].concat(), true)));
    stage.until("the others' turn", || third.contains("/c|"));
    assert!(uploader.sees_end(), "it is idle now");
    [uploader, reader, third].iter().for_each(Client::close);
    stage.assert_nothing_left();
}

#[test]
fn where_a_sibling_has_room_new_ones_are_left_to_it() {
    let stage = stage(of_two(millis(100)));
    let sibling = stage.board.claim(2).unwrap();
    sibling.set_booted();
    sibling.set_accepting(Accepting::Waiting);
    let clients: Vec<_> = (0..2).map(|_| stage.connect()).collect();
    stage.settle();
    let third = stage.connect();
    third.get("/c");
    let begun = stage.net.now();
    stage.until("some time", || {
        sibling.beat(stage.net.now());
        stage.net.now().since(begun) >= Duration::from_secs(1)
    });
    assert!(third.read().is_empty() && clients.iter().all(|client| !client.sees_end()));
    sibling.set_accepting(Accepting::No);
    stage.until("the answer", || third.contains("/c|"));
    clients.iter().chain([&third]).for_each(Client::close);
    stage.assert_nothing_left();
}

#[test]
fn without_eviction_new_ones_wait() {
    let stage = stage(of_two(Duration::ZERO));
    let clients: Vec<_> = (0..3).map(|_| stage.connect()).collect();
    stage.pass(Duration::from_secs(60));
    assert!(clients.iter().all(|client| !client.sees_end()) && stage.snapshot().connections == 2);
}

/// A worker whose places are all taken by those who must stay does not spin.
#[test]
fn nobody_who_can_go_costs_no_busy_loop() {
    let stage = stage(of_two(millis(10)));
    let clients: Vec<_> = (0..3).map(|_| stage.connect()).collect();
    clients.iter().for_each(|client| client.get("/hold"));
    stage.settle();
    let begun = stage.turns.get();
    stage.pass(Duration::from_secs(1));
    assert!(stage.turns.get() - begun <= 220, "{} turns", stage.turns.get() - begun);
    assert_eq!(stage.snapshot().connections, 2);
}

/// One byte a second is no stall.
#[test]
fn a_body_below_the_rate_is_refused() {
    for (bytes, fine) in [(1000, true), (100, false)] {
        let config = WorkerConfig { body_bytes_per_s_min: 500, ..with_memory(1 << 20) };
        let stage = stage(config);
        let client = stage.connect();
        client.send(post("/up", 60 * bytes));
        for _ in 0..60 {
            client.send(pattern(bytes));
            stage.pass(millis(1000));
        }
        assert_eq!(client.contains("/up|"), fine);
        assert_eq!(has_status(&client, 408) && client.sees_end(), !fine);
        assert_eq!(recorded(&stage, 408), usize::from(!fine));
        client.close();
        stage.assert_nothing_left();
    }
}

#[test]
fn a_body_that_streams_below_the_rate_fails() {
    for (bytes, fine) in [(1000, true), (100, false)] {
        let config = WorkerConfig { body_bytes_per_s_min: 500, stream_bodies: true, ..with_memory(1 << 20) };
        let stage = stage(config);
        let client = stage.connect();
        client.send(post("/up", 60 * bytes));
        for _ in 0..60 {
            client.send(pattern(bytes));
            stage.pass(millis(1000));
        }
        assert_eq!((client.contains("/up|"), stage.app.count("fault Stalled") == 1), (fine, !fine));
        client.close();
        stage.assert_nothing_left();
    }
}

/// The worker computes for longer than the rate is taken over, and the client has sent as much as the kernel takes.
#[test]
fn time_in_which_the_worker_does_not_read_does_not_count() {
    let config = WorkerConfig { body_bytes_per_s_min: 500, ..with_memory(1 << 20) };
    let stage = stage(config);
    let (client, busy) = (stage.connect(), stage.connect());
    client.send(post("/up", 6000));
    client.send(pattern(3000));
    stage.settle();
    // 50 ms each.
    busy.send(get("/slow").repeat(400));
    stage.until("they are answered", || busy.read().len() >= 400 * answer(b"/slow|", true).len());
    client.send(pattern(3000));
    stage.until("the answer", || client.contains("/up|") || client.sees_end());
    assert!(client.contains("/up|"), "{}", String::from_utf8_lossy(&client.got()));
}
