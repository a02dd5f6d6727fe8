//! Random clients on a random network: whoever stays gets exactly its answers, in order; nothing is left at the end.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use rgunicorn_io::driver::sim::SimConfig;
use rgunicorn_server::worker::WorkerConfig;

use crate::app::{answer, pattern};
use crate::client::{Client, get};
use crate::stage::{Stage, worker_config};

/// Seeds per test; `RGUNICORN_SEEDS=n` runs more.
const SEEDS: u64 = 60;

/// xorshift64*: the clients' own dice, beside those of the network.
pub(crate) struct Dice(Cell<u64>);

impl Dice {
    pub(crate) fn of(seed: u64) -> Self {
        Self(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    pub(crate) fn below(&self, below: usize) -> usize {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }
}

/// A client with all that it will send and all that it must get.
pub(crate) struct Plan {
    pub(crate) client: Client,
    requests: Vec<u8>,
    pub(crate) expected: Vec<u8>,
    sent: Cell<usize>,
    /// Leaves (by reset or close) when this much was sent.
    pub(crate) leaves_at: Option<usize>,
    half_closes: bool,
    pub(crate) over: Cell<bool>,
}

/// One request and its answer.
fn exchange(dice: &Dice, number: usize, last: bool) -> (Vec<u8>, Vec<u8>) {
    let close = if last { "Connection: close\r\n" } else { "" };
    let (size, body) = (dice.below(3000), pattern(dice.below(2000)));
    let (request, content) = match dice.below(7) {
        0 => (format!("GET /big/{} HTTP/1.1\r\nHost: a\r\n{close}\r\n", size * 20), pattern(size * 20)),
        1 => (
            format!("GET /stream/4/{} HTTP/1.1\r\nHost: a\r\n{close}\r\n", size * 3),
            pattern(size * 3).repeat(4),
        ),
        2 => (format!("GET /yield/3/{size} HTTP/1.1\r\nHost: a\r\n{close}\r\n"), pattern(size).repeat(3)),
        3 => {
            let head = format!(
                "POST /{number} HTTP/1.1\r\nHost: a\r\n{close}Content-Length: {}\r\n\r\n",
                body.len()
            );
            return (
                [head.as_bytes(), &body].concat(),
                answer(&[format!("/{number}|").as_bytes(), &body].concat(), !last),
            );
        }
        4 => {
            let some = pattern(dice.below(2500).max(1));
            let head = format!(
                "PUT /some/{} HTTP/1.1\r\nHost: a\r\n{close}Content-Length: {}\r\n\r\n",
                some.len(),
                body.len()
            );
            let reply = answer(&body[..some.len().min(body.len())], !last);
            return ([head.as_bytes(), &body].concat(), reply);
        }
        5 => {
            let head =
                format!("POST /{number} HTTP/1.1\r\nHost: a\r\n{close}Transfer-Encoding: chunked\r\n\r\n");
            let mut request = head.into_bytes();
            for chunk in body.chunks(700) {
                request.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                request.extend(chunk);
                request.extend(b"\r\n");
            }
            request.extend(b"0\r\n\r\n");
            return (request, answer(&[format!("/{number}|").as_bytes(), &body].concat(), !last));
        }
        _ => {
            (format!("GET /{number} HTTP/1.1\r\nHost: a\r\n{close}\r\n"), format!("/{number}|").into_bytes())
        }
    };
    (request.into_bytes(), answer(&content, !last))
}

impl Plan {
    pub(crate) fn new(dice: &Dice, client: Client) -> Self {
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        let count = 1 + dice.below(6);
        for number in 1..=count {
            let (request, reply) = exchange(dice, number, number == count);
            requests.extend(request);
            expected.extend(reply);
        }
        let leaves_at = (dice.below(4) == 0).then(|| dice.below(requests.len()));
        let half_closes = dice.below(3) == 0;
        Self {
            client,
            requests,
            expected,
            sent: Cell::new(0),
            leaves_at,
            half_closes,
            over: Cell::new(false),
        }
    }

    /// Does a bit of what it has to do.
    pub(crate) fn step(&self, dice: &Dice) {
        if self.over.get() {
            return;
        }
        let sent = self.sent.get();
        if sent < self.requests.len() && dice.below(2) == 0 {
            let most = if dice.below(3) == 0 { 5000 } else { 40 };
            let until = (sent + 1 + dice.below(most)).min(self.requests.len());
            self.client.send(&self.requests[sent..until]);
            self.sent.set(until);
            if until == self.requests.len() && self.half_closes {
                self.client.finish();
            }
        }
        if dice.below(3) == 0 {
            self.client.read_some(1 + dice.below(30_000));
        }
        if self.leaves_at.is_some_and(|at| self.sent.get() >= at) {
            if dice.below(2) == 0 {
                self.client.reset()
            } else {
                self.client.close()
            }
            return self.over.set(true);
        }
        if self.sent.get() == self.requests.len() && self.client.sees_end() {
            self.client.close();
            self.over.set(true);
        }
    }
}

/// The seed that was asked for, or all.
pub(crate) fn seeds() -> Vec<u64> {
    match std::env::var("RGUNICORN_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => {
            let many = std::env::var("RGUNICORN_SEEDS").ok().and_then(|text| text.parse().ok());
            (0..many.unwrap_or(SEEDS)).collect()
        }
    }
}

/// Runs ten clients to their ends; returns the plans. Every other pair of seeds streams its bodies.
fn history(seed: u64, config: &SimConfig) -> Vec<Plan> {
    let long = Duration::from_secs(1_000_000);
    let worker_config = WorkerConfig {
        keepalive: long,
        header_timeout: long,
        body_stall_timeout: long,
        write_stall_timeout: long,
        connections_max: 4,
        // Whoever stays is served.
        evict_after: Duration::ZERO,
        body_memory_bytes_max: 1000,
        stream_bodies: seed % 4 >= 2,
        body_window_bytes_max: 1 + (seed as usize * 37) % 2000,
        pipelined_bytes_max: 2000,
        // Every other group handles one completion a turn, and puts the others off.
        handling_time_max: Duration::from_millis(if seed % 8 >= 4 { 0 } else { 2 }),
        ..worker_config()
    };
    let stage = Stage::new(seed, config, worker_config);
    let _sibling = (seed % 2 == 1).then(|| stage.board.claim(2).unwrap());
    let dice = Dice::of(seed);
    let plans: RefCell<Vec<Plan>> = RefCell::default();
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
    let probe = stage.connect();
    probe.send(get("/probe"));
    // Buffers that were lost on the way would be missing now.
    stage.until("the worker is in good health", || probe.contains("/probe|") || probe.sees_end());
    plans.into_inner()
}

#[test]
fn everyone_who_stays_gets_exactly_the_answers() {
    for seed in seeds() {
        for plan in
            history(seed, &SimConfig { recv_buffers: 2, canceled_per_mille: 20, ..SimConfig::default() })
        {
            let got = plan.client.got();
            if plan.leaves_at.is_none() {
                assert!(got == plan.expected, "seed {seed}: {} of {} bytes", got.len(), plan.expected.len());
            } else {
                assert!(
                    plan.expected.starts_with(&got),
                    "seed {seed}: a client that left got something else"
                );
            }
        }
    }
}

#[test]
fn resets_end_connections_and_nothing_else() {
    for seed in seeds() {
        for plan in history(seed, &SimConfig { reset_per_mille: 3, ..SimConfig::default() }) {
            assert!(plan.expected.starts_with(&plan.client.got()), "seed {seed}: not the answers asked for");
        }
    }
}
