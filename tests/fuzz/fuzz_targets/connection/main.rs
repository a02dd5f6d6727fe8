//! A whole connection on the simulated kernel: arbitrary bytes in arbitrary pieces, with the kernel's whims, and an
//! application that answers each request in another way. Whatever comes, the application gets the requests that the
//! parser finds in those bytes and no other, every answer is well formed, the connection ends, and nothing of it stays.
//!
//! The first byte of the input chooses the worker's settings, the second the dice of the network and of the cuts.
#![no_main]

mod answers;
mod app;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use rgunicorn_http::proxy::{ProxyMode, ProxyReader, ProxyStep};
use rgunicorn_http::{HttpError, ParseEvent, Policy, RequestParser};
use rgunicorn_io::driver::Driver;
use rgunicorn_io::driver::sim::{Peer, SimConfig, SimNet};
use rgunicorn_io::sys::process;
use rgunicorn_io::sys::shared::Scoreboard;
use rgunicorn_server::log::{ErrorLog, Level};
use rgunicorn_server::worker::{
    Control, ListenerSpec, Reactor, Snapshot, WakeSources, WorkerConfig, WorkerHandles,
};
use rgunicorn_settings::Networks;

use crate::app::{Echo, Seen};

/// Turns of the loop after which the connection is taken for stuck. It moves at least a byte in a few of them.
const TURNS_MAX: u64 = 100_000;

/// The choices of the first byte.
#[derive(Clone, Copy)]
struct Choices(u8);

impl Choices {
    fn streams(self) -> bool {
        self.0 & 1 != 0
    }
    fn proxy(self) -> bool {
        self.0 & 2 != 0
    }
    /// Tiny windows, so that everything has to wait.
    fn narrow(self) -> bool {
        self.0 & 4 != 0
    }
    /// The client resets the connection on the way: nothing is known of the answers then.
    fn resets(self) -> bool {
        self.0 & 24 == 24
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [choices, seed, bytes @ ..] = input else { return };
    let choices = Choices(*choices);
    let seed = u64::from(*seed) + 1;
    let stage = Stage::new(choices, seed);
    stage.play(bytes, choices, seed);
    let seen = stage.app.seen.take();
    if choices.resets() {
        return;
    }
    let got = stage.got.take();
    let end = check_requests(&seen, &expected(bytes, choices), choices);
    answers::check(&got, &seen, end).unwrap_or_else(|fault| {
        panic!("{fault} in {:?}", got.escape_ascii().to_string());
    });
});

/// The requests that the bytes have, and what ends the connection.
struct Expected {
    requests: Vec<Seen>,
    /// A request whose end does not come.
    begun: Option<Seen>,
    fault: Option<String>,
    /// The status of the page that the fault gets, if it gets one.
    status: Option<u16>,
}

/// Reads the bytes as the server should.
fn expected(bytes: &[u8], choices: Choices) -> Expected {
    let mut expected = Expected { requests: Vec::new(), begun: None, fault: None, status: None };
    let mut input = bytes;
    if choices.proxy() && !bytes.is_empty() {
        match ProxyReader::default().advance(ProxyMode::Auto, true, &mut input) {
            Ok(ProxyStep::NeedMore) => return expected,
            Ok(ProxyStep::Absent(_) | ProxyStep::Header(_)) => {}
            Err(error) => {
                (expected.fault, expected.status) = (Some(error.to_string()), Some(error.status()));
                return expected;
            }
        }
    }
    let (policy, mut parser) = (Policy::default(), RequestParser::new());
    loop {
        match parser.advance(&policy, false, &mut input) {
            Ok(ParseEvent::NeedMore) => return expected,
            Ok(ParseEvent::Head(head)) => expected.begun = Some(Seen::of(&head, expected.requests.len())),
            Ok(ParseEvent::Data(data)) => expected.begun.iter_mut().for_each(|seen| seen.body.extend(data)),
            Ok(ParseEvent::End) => {
                expected.requests.extend(expected.begun.take());
                if expected.requests.last().is_some_and(|seen| !seen.keep) {
                    return expected;
                }
            }
            Err(error) => {
                (expected.fault, expected.status) = (Some(error.to_string()), status(&error));
                return expected;
            }
        }
    }
}

/// The status of the page that a fault gets, if it gets one.
fn status(error: &HttpError) -> Option<u16> {
    error.wants_answer().then(|| error.status())
}

/// The application has got these requests and no other. Returns how the connection ends if not by an answer of its.
fn check_requests(seen: &[Seen], expected: &Expected, choices: Choices) -> Option<u16> {
    let complete: Vec<&Seen> = seen.iter().filter(|seen| seen.complete).collect();
    let same = complete.len() == expected.requests.len()
        && complete.iter().zip(&expected.requests).all(|(seen, expected)| seen.is(expected));
    let fault = &expected.fault;
    assert!(same, "got {complete:?} instead of {:?}, then {fault:?}", expected.requests);
    if let Some(cut) = seen.iter().find(|seen| !seen.complete) {
        let begun = expected.begun.as_ref().expect("its beginning is there");
        assert!(choices.streams() && cut.target == begun.target && begun.body.starts_with(&cut.body));
        return None;
    }
    expected.status
}

/// One worker and its client.
struct Stage {
    reactor: Reactor,
    app: Echo,
    net: SimNet,
    peer: Peer,
    got: RefCell<Vec<u8>>,
}

impl Stage {
    fn new(choices: Choices, seed: u64) -> Self {
        let narrow = choices.narrow();
        let sim = SimConfig {
            recv_buffers: 2,
            recv_buffer_bytes: if narrow { 64 } else { 4096 },
            send_window_bytes: if narrow { 100 } else { 16_384 },
            ..SimConfig::default()
        };
        let (driver, net) = Driver::sim(seed, &sim);
        let (listener, board) = (net.listener(), Scoreboard::new().expect("memory"));
        board.set_workers(1);
        let handles = WorkerHandles {
            errors: Arc::new(ErrorLog::open("/dev/null", Level::Debug).expect("it is there")),
            access: RefCell::new(None),
            slot: board.claim(1).expect("a place"),
            control: Arc::new(Control::default()),
            trusted: Networks::default(),
            parent: process::parent_id(),
            listener_guard: RefCell::new(None),
            handoff: None,
        };
        let listeners = [ListenerSpec { fd: listener, unix: false, shared: true, key: 1 }];
        let config = config(choices);
        let reactor =
            Reactor::new(driver, &listeners, WakeSources::default(), handles, config, Policy::default());
        let peer = net.connect(listener).expect("it listens");
        Self { reactor, app: Echo::new(), net, peer, got: RefCell::default() }
    }

    /// Sends all in pieces, reads the answers in others, and waits for the end.
    fn play(&self, bytes: &[u8], choices: Choices, seed: u64) {
        let dice = Dice(Cell::new((bytes.len() as u64 * 31 + seed * 997) | 1));
        let (sent, turns) = (Cell::new(0), Cell::new(0));
        let reset_at = choices.resets().then(|| dice.below(bytes.len() + 1));
        let done = || {
            turns.set(turns.get() + 1);
            assert!(turns.get() < TURNS_MAX, "the connection does not end: {:?}", self.reactor.snapshot());
            if sent.get() < bytes.len() && dice.below(2) == 0 {
                let most = [3, 40, 5000][dice.below(3)];
                let until = (sent.get() + 1 + dice.below(most)).min(bytes.len());
                self.net.send(self.peer, &bytes[sent.get()..until]);
                sent.set(until);
            }
            if sent.get() == bytes.len() {
                self.net.finish(self.peer);
            }
            if reset_at.is_some_and(|at| sent.get() >= at) {
                self.net.reset(self.peer);
            }
            let some = self.net.receive_some(self.peer, 1 + dice.below(3000));
            self.got.borrow_mut().extend(some);
            let over = self.net.sees_end(self.peer);
            if over {
                self.net.close(self.peer);
            }
            over && self.is_idle() && self.app.is_idle()
        };
        self.app.run(&self.reactor, &done);
    }

    /// Nothing of the connection is left.
    fn is_idle(&self) -> bool {
        self.reactor.snapshot() == Snapshot { connections: 0, timers: 0, jobs: 0, operations: 1 }
    }
}

/// Nothing ends by time, so that the order of bytes alone decides.
fn config(choices: Choices) -> WorkerConfig {
    let (long, narrow) = (Duration::from_secs(1_000_000), choices.narrow());
    WorkerConfig {
        keepalive: long,
        header_timeout: long,
        body_stall_timeout: long,
        write_stall_timeout: long,
        abandon_timeout: Duration::ZERO,
        stream_bodies: choices.streams(),
        body_memory_bytes_max: if narrow { 10 } else { 512 * 1024 },
        body_window_bytes_max: if narrow { 10 } else { 64 * 1024 },
        pipelined_bytes_max: if narrow { 10 } else { 64 * 1024 },
        proxy_protocol: if choices.proxy() { ProxyMode::Auto } else { ProxyMode::Off },
        proxy_allowed: Networks::parse(&["*"]).expect("any peer"),
        idle_wait_max: Duration::from_millis(5),
        ..WorkerConfig::default()
    }
}

/// xorshift64*: the client's own dice, beside those of the network.
struct Dice(Cell<u64>);

impl Dice {
    fn below(&self, below: usize) -> usize {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }
}
