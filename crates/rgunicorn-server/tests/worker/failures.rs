//! Calls that fail for good, each with each error that it may have, from the first or a later one on. A worker that
//! cannot serve any more leaves with its status, within a bound; one that can goes on. Neither spins or fills the log;
//! clients get their answers, the beginning of them, an error, or nothing.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use rgunicorn_io::driver::sim::{SimCall, SimConfig};
use rgunicorn_io::sys::net::is_lost;
use rgunicorn_server::worker::WorkerConfig;

use crate::app::{answer, pattern};
use crate::client::Client;
use crate::random::seeds;
use crate::stage::{Stage, calm};

/// The virtual time for which the calls fail.
const FAILING: Duration = Duration::from_secs(10);
/// Turns in that time: one in two milliseconds, where an idle worker takes one in twenty.
const TURNS_MAX: u64 = 5_000;
/// Lines of the log in that time: so many of each kind a second, of three kinds.
const LINES_MAX: usize = 10 * 20 * 3;
/// Clients that come one after another while the calls fail.
const CLIENTS: usize = 20;

const CALLS: [(SimCall, &[i32]); 7] = [
    (
        SimCall::Accept,
        &[
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOMEM,
            libc::ENOBUFS,
            libc::EPERM,
            libc::EIO,
            libc::ENOSYS,
            libc::EBADF,
        ],
    ),
    (SimCall::Wait, &[libc::EBADF, libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EIO, libc::EINVAL]),
    (SimCall::Recv, &[libc::ENOMEM, libc::ENOBUFS, libc::EPERM, libc::EIO, libc::EINVAL, libc::ENOTCONN]),
    (SimCall::Send, &[libc::ENOMEM, libc::ENOBUFS, libc::EPERM, libc::EIO, libc::EPIPE, libc::EMSGSIZE]),
    (SimCall::Poll, &[libc::ENOMEM, libc::EPERM, libc::EINVAL, libc::ECANCELED]),
    (
        SimCall::PollListener,
        &[libc::ENOMEM, libc::EPERM, libc::EINVAL, libc::ENOSPC, libc::ECANCELED, libc::EBADF],
    ),
    (SimCall::Shutdown, &[libc::ENOBUFS, libc::EPERM, libc::EIO, libc::ENOTCONN]),
];

/// Requests of all kinds and the bodies that they must get, for the client of this number.
fn exchange(number: usize) -> (Vec<u8>, Vec<u8>) {
    let get =
        |path: String, body: Vec<u8>| (format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(), body);
    let size = 1 + number * 97;
    match number % 5 {
        0 => get(format!("/big/{}", size * 30), pattern(size * 30)),
        1 => get(format!("/stream/4/{size}"), pattern(size).repeat(4)),
        2 => get(format!("/yield/3/{size}"), pattern(size).repeat(3)),
        3 => {
            let body = pattern(size);
            let head = format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
            let content = [format!("/{number}|").as_bytes(), &body].concat();
            ([head.as_bytes(), &body].concat(), content)
        }
        _ => get(format!("/{number}"), format!("/{number}|").into_bytes()),
    }
}

/// Whether a client got what it may get: its answer, a part of it, or an error.
fn is_right(got: &[u8], expected: &[u8]) -> bool {
    // A worker that leaves keeps no connection.
    [true, false].iter().any(|keep| answer(expected, *keep).starts_with(got))
        || [&b"HTTP/1.1 5"[..], b"HTTP/1.1 4"].iter().any(|start| got.starts_with(start))
}

/// Whether the worker can be of use to a client while this fails.
fn can_serve(call: SimCall, errno: i32) -> bool {
    // The last two say that the client has gone.
    matches!(call, SimCall::Poll | SimCall::Shutdown) || matches!(errno, libc::EPIPE | libc::ENOTCONN)
}

/// Tells whether a failure takes more than new connections: those that there are can be answered otherwise.
fn breaks(call: SimCall, errno: i32) -> bool {
    let accepts = matches!(call, SimCall::Accept | SimCall::PollListener);
    !accepts || is_lost(&io::Error::from_raw_os_error(errno))
}

/// Lets `call` fail for a while under clients that come and go. Judges the worker by what is seen of it.
fn fail_for_a_while(seed: u64, call: SimCall, errno: i32, nth: u64) {
    let context = format!("seed {seed}, {call:?} fails with {errno} from the {nth}. on");
    let config = if seed.is_multiple_of(2) { SimConfig::default() } else { calm() };
    let short = Duration::from_secs(2);
    let worker_config = WorkerConfig {
        keepalive: short,
        header_timeout: short,
        body_stall_timeout: short,
        write_stall_timeout: short,
        idle_wait_max: Duration::from_millis(20),
        ..WorkerConfig::default()
    };
    let stage = Stage::new(seed, &config, worker_config);
    let _sibling = (seed % 4 >= 2).then(|| stage.board.claim(2).unwrap());
    let first = stage.connect();
    first.get("/first");
    stage.until("the first answer", || first.contains("/first|"));
    stage.net.fail(call, errno, nth);
    let (begin, turns) = (stage.net.now(), stage.turns.get());
    let clients: RefCell<Vec<(Client, Vec<u8>)>> = RefCell::default();
    let status = stage.run_for(FAILING, || {
        let mut clients = clients.borrow_mut();
        let due = FAILING / CLIENTS as u32 * clients.len() as u32;
        if clients.len() < CLIENTS && stage.net.now().since(begin) >= due {
            let (request, expected) = exchange(clients.len());
            let client = stage.connect();
            client.send(request);
            clients.push((client, expected));
        }
        for (client, _) in clients.iter() {
            client.read();
        }
    });
    let (took, lines) = (stage.turns.get() - turns, stage.errors().lines().count());
    assert!(took < TURNS_MAX, "{context}: spins, {took} turns");
    assert!(lines < LINES_MAX, "{context}: {lines} lines of log");
    for (client, expected) in clients.borrow().iter() {
        let got = client.read();
        assert!(is_right(&got, expected), "{context}: got {:?}", String::from_utf8_lossy(&got));
    }
    // It looks for connections without being told of them.
    let degraded = call == SimCall::PollListener && matches!(errno, libc::ENOMEM | libc::ENOSPC);
    if status.is_some() && degraded {
        return;
    }
    if !degraded && !can_serve(call, errno) {
        return assert_eq!(
            (status, stage.reactor.is_broken()),
            (Some(1), breaks(call, errno)),
            "{context}\n{}",
            stage.errors()
        );
    }
    assert_eq!(status, None, "{context}\n{}", stage.errors());
    stage.net.mend(call);
    clients.borrow().iter().for_each(|(client, _)| client.close());
    first.close();
    let after = stage.connect();
    after.get("/after");
    stage.until("the worker serves again", || after.contains("/after|"));
    after.close();
    stage.assert_nothing_left();
}

#[test]
fn what_works_again_soon_ends_no_worker() {
    for (call, errno) in [
        (SimCall::Accept, libc::EMFILE),
        (SimCall::Accept, libc::EPERM),
        (SimCall::PollListener, libc::ENOMEM),
        (SimCall::Send, libc::ENOBUFS),
        (SimCall::Recv, libc::ENOMEM),
    ] {
        let stage = Stage::calm();
        for _ in 0..3 {
            stage.net.fail(call, errno, 1);
            let lost = stage.connect();
            lost.get("/lost");
            stage.pass(Duration::from_secs(4));
            stage.net.mend(call);
            lost.close();
            let client = stage.connect();
            client.get("/a");
            stage.until("the answer", || client.contains("/a|"));
            client.close();
        }
        assert!(!stage.reactor.is_broken());
    }
}

#[test]
fn short_of_descriptors_a_worker_with_connections_stays() {
    let stage = Stage::calm();
    let client = stage.connect();
    client.get("/a");
    stage.until("the answer", || client.contains("/a|"));
    stage.net.fail(SimCall::Accept, libc::EMFILE, 1);
    let waiting = stage.connect();
    waiting.get("/b");
    for _ in 0..10 {
        stage.pass(Duration::from_secs(1));
        client.get("/a");
    }
    assert!(!stage.reactor.is_broken());
    client.close();
    assert_eq!(stage.run_to_end(), 1, "nothing that it holds can end the shortage");
}

#[test]
fn what_fails_for_good_neither_spins_nor_fills_the_log() {
    for seed in seeds().into_iter().take(4) {
        for (call, errors) in CALLS {
            for errno in errors {
                for nth in [1, 2 + seed] {
                    fail_for_a_while(seed, call, *errno, nth);
                }
            }
        }
    }
}

#[test]
fn a_worker_that_cannot_accept_any_more_answers_those_that_it_has() {
    let stage = Stage::new(1, &calm(), WorkerConfig { graceful_timeout: FAILING, ..WorkerConfig::default() });
    let client = stage.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    stage.settle();
    stage.net.fail(SimCall::Accept, libc::EPERM, 1);
    let _never = stage.connect();
    stage.until("the end is decided", || stage.errors().contains("failed for good"));
    client.send("123456789");
    client.finish();
    assert_eq!(stage.run_to_end(), 1);
    assert!(client.has(&answer(b"/|123456789", false)));
}
