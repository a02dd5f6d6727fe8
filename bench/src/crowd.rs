//! The connections of a run on one thread: what happens to each when its socket, its server or its time says something.
//!
//! `run` has the phases and the clock; this file has one step for each event, and never waits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::connection::{Connection, Fault};
use crate::report::{Failure, Stats};
use crate::response::{Answer, KnownHead, Progress};
use crate::schedule::OpenLoop;
use crate::socket::Stream;
use crate::wait::{Event, Waiter};

/// One for all connections: what was read is handled before the next read.
const READ_BYTES: usize = 64 * 1024;
/// The pause after a failure: a server that is down is asked again ten times a second, not in a busy loop.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The connections, and what they have in common.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub args: Args,
    /// The request, as often as it is sent at once.
    requests: Vec<u8>,
    pub connections: Vec<Connection>,
    pub waiter: Waiter,
    /// When a connection has something to do by itself.
    pub timers: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Connections of an open loop that wait for a request to be due, the one that has waited longest first.
    pub free: VecDeque<u32>,
    /// The requests of an open loop, once it runs.
    pub open_loop: Option<OpenLoop>,
    /// The run has begun.
    pub is_running: bool,
    /// Connections that have done what they had to do before.
    pub gathered: u32,
    /// Requests that may still be started; `None` is no limit.
    budget: Option<u64>,
    /// Requests that were started and not answered.
    pub in_flight: u64,
    known: KnownHead,
    buffer: Vec<u8>,
    /// The results so far.
    pub stats: Stats,
}

impl Crowd {
    /// Makes a crowd of which nothing is open.
    pub(crate) fn new(args: Args) -> io::Result<Self> {
        let requests = args.request().repeat(usize::try_from(args.pipeline).unwrap_or(1));
        let connections = (0..args.files()).map(|index| Connection::new(index >= args.connections)).collect();
        Ok(Self {
            requests,
            connections,
            waiter: Waiter::new()?,
            timers: BinaryHeap::new(),
            free: VecDeque::new(),
            open_loop: None,
            is_running: false,
            gathered: 0,
            budget: args.requests,
            in_flight: 0,
            known: KnownHead::default(),
            buffer: vec![0; READ_BYTES],
            stats: Stats::default(),
            args,
        })
    }

    /// Returns whether all requests that may be started were answered.
    pub(crate) fn is_done(&self) -> bool {
        self.budget == Some(0) && self.in_flight == 0
    }

    /// Handles what a wait has brought.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) {
        let Some(connection) = self.connections.get_mut(slot(event.index)) else { return };
        if event.writable && connection.is_connecting {
            self.connected(event.index, now);
        } else if event.writable {
            self.write(event.index, now);
        }
        if event.readable {
            self.receive(event.index, event.ended);
        }
    }

    /// Does what a timer was for: opens what is closed, or goes on.
    pub(crate) fn wake(&mut self, index: u32, now: Instant) {
        let closing = self.args.close;
        let connection = self.at(index);
        if connection.stream.is_none() && !(closing && self.is_running) {
            self.open(index, now);
        } else {
            self.go_on(index, now);
        }
    }

    /// Begins to connect.
    pub(crate) fn open(&mut self, index: u32, now: Instant) {
        let opened = Stream::open(&self.args.target, self.args.source, index)
            .and_then(|stream| self.waiter.watch(&stream, index).map(|()| stream));
        let connection = self.at(index);
        match opened {
            Ok(stream) => {
                connection.stream = Some(stream);
                connection.is_connecting = true;
                connection.since.get_or_insert(now);
            }
            Err(error) => self.failed(index, Fault::new(Failure::Connect, error.to_string()), now),
        }
    }

    fn connected(&mut self, index: u32, now: Instant) {
        let connection = self.at(index);
        if let Err(error) = connection.connected() {
            return self.failed(index, Fault::new(Failure::Connect, error.to_string()), now);
        }
        connection.is_connecting = false;
        let again = std::mem::replace(&mut connection.was_open, true);
        let (is_idle, asked) = (connection.is_idle, connection.asked.len());
        self.stats.opened(again);
        if asked > 0 {
            self.start_writing(index, asked, now);
        } else if is_idle {
            self.ask(index, now, 1, now);
        } else if self.is_running {
            self.go_on(index, now);
        } else {
            self.at(index).since = None;
            self.gather(index);
        }
    }

    /// Begins the next request of a connection that has none in progress, or waits until it is due.
    pub(crate) fn go_on(&mut self, index: u32, now: Instant) {
        let connection = self.at(index);
        if connection.is_idle || !connection.asked.is_empty() {
            return;
        }
        let planned = connection.planned.unwrap_or(now);
        connection.since = None;
        if self.args.rate.is_some() {
            self.free.push_back(index);
        } else if planned > now {
            self.timers.push(Reverse((planned, index)));
        } else {
            let count = self.take_requests();
            if !self.args.interval.is_zero() {
                let next = (planned + self.args.interval).max(now);
                self.at(index).planned = Some(next);
            }
            let from = if self.args.interval.is_zero() { now } else { planned };
            self.ask(index, from, count, now);
        }
    }

    /// Starts `count` requests whose time counts from `from`.
    pub(crate) fn ask(&mut self, index: u32, from: Instant, count: usize, now: Instant) {
        if count == 0 {
            return;
        }
        self.in_flight += count as u64;
        let connection = self.at(index);
        connection.asked.extend(std::iter::repeat_n(from, count));
        connection.since = Some(now);
        if connection.is_open() {
            self.start_writing(index, count, now);
        } else if connection.stream.is_none() {
            self.open(index, now);
        }
    }

    fn start_writing(&mut self, index: u32, count: usize, now: Instant) {
        let bytes = self.requests.len() / usize::try_from(self.args.pipeline).unwrap_or(1) * count;
        self.at(index).begin(bytes);
        self.write(index, now);
    }

    fn write(&mut self, index: u32, now: Instant) {
        let Some(connection) = self.connections.get_mut(slot(index)) else { return };
        if let Err(fault) = connection.write(&self.requests) {
            self.failed(index, fault, now);
        }
    }

    /// Reads what is there. A read that leaves room in the buffer was the last one, unless the end is to come.
    fn receive(&mut self, index: u32, to_end: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(connection) = self.connections.get_mut(slot(index)) {
            let read = connection.read(&mut buffer);
            let now = Instant::now();
            match read {
                Ok(Some(count)) if count > 0 => {
                    self.stats.received_bytes += count as u64;
                    self.take_answers(index, &buffer[..count], now);
                    if count < buffer.len() && !to_end {
                        break;
                    }
                }
                Ok(Some(_)) => {
                    self.ended(index, now);
                    break;
                }
                Ok(None) => break,
                Err(_) if self.at(index).asked.is_empty() => {
                    self.close(index);
                    break;
                }
                Err(fault) => {
                    self.failed(index, fault, now);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    fn take_answers(&mut self, index: u32, mut bytes: &[u8], now: Instant) {
        while !bytes.is_empty()
            && let Some(connection) = self.connections.get_mut(slot(index))
            && connection.is_open()
        {
            match connection.feed(&mut bytes, &mut self.known) {
                Ok(Progress::More) => {}
                Ok(Progress::Done(answer)) => self.answered(index, answer, bytes.is_empty(), now),
                Err(fault) => self.failed(index, fault, now),
            }
        }
    }

    /// Counts an answer, and goes on when it was the last one that was waited for. `is_last`: nothing came behind it.
    fn answered(&mut self, index: u32, answer: Answer, is_last: bool, now: Instant) {
        let connection = self.at(index);
        let (is_idle, from) = (connection.is_idle, connection.asked.pop_front());
        let left = connection.asked.len();
        self.in_flight -= 1;
        if let Some(from) = from
            && !is_idle
        {
            self.stats.answered(answer.status, now.saturating_duration_since(from));
        }
        if left > 0 && !answer.keep_alive {
            let fault = Fault::new(Failure::ClosedBeforeAnswer, "the server closed before the other answers");
            return self.failed(index, fault, now);
        }
        if left == 0 && !is_last {
            let fault = Fault::new(Failure::Malformed, "bytes after the end of the answer");
            return self.failed(index, fault, now);
        }
        if !answer.keep_alive {
            self.close(index);
        }
        if left > 0 {
            return;
        }
        self.at(index).since = None;
        if is_idle {
            self.gather(index);
        } else {
            self.go_on(index, now);
        }
    }

    /// Learns that the server has closed.
    fn ended(&mut self, index: u32, now: Instant) {
        let connection = self.at(index);
        if connection.asked.is_empty() {
            return self.close(index);
        }
        match connection.end() {
            Ok(answer) => self.answered(index, answer, true, now),
            Err(fault) => self.failed(index, fault, now),
        }
    }

    /// Counts a failure for each request in progress, or one; the connection begins anew after a pause.
    pub(crate) fn failed(&mut self, index: u32, fault: Fault, now: Instant) {
        let lost = std::mem::take(&mut self.at(index).asked).len();
        self.in_flight -= lost as u64;
        if self.stats.failed(fault.kind, lost.max(1) as u64) {
            // The first of its kind says what happened; the others are only counted.
            let _ = writeln!(io::stderr(), "{}: {}", fault.kind.name(), fault.why);
        }
        // The budget counts answers: what failed may be tried again, until the run's time is over.
        self.budget = self.budget.map(|left| left + lost as u64);
        self.close(index);
        self.timers.push(Reverse((now + RETRY_PAUSE, index)));
    }

    /// Fails what has waited for longer than the time-out.
    pub(crate) fn sweep(&mut self, now: Instant) {
        for index in 0..self.args.files() {
            let connection = self.at(index);
            let since = connection.since;
            let doing = if connection.is_connecting { "connecting" } else { "waiting for the answer" };
            if since.is_some_and(|since| now.saturating_duration_since(since) > self.args.timeout) {
                self.failed(index, Fault::new(Failure::Timeout, format!("timed out {doing}")), now);
            }
        }
    }

    fn close(&mut self, index: u32) {
        let connection = self.at(index);
        let was_open = connection.is_open();
        let is_lost = was_open && connection.is_idle && connection.is_gathered;
        if connection.close() && was_open {
            self.stats.open -= 1;
        }
        self.stats.idle_lost += u64::from(is_lost);
    }

    /// Notes that a connection is ready for the run.
    fn gather(&mut self, index: u32) {
        let connection = self.at(index);
        self.gathered += u32::from(!std::mem::replace(&mut connection.is_gathered, true));
    }

    /// Takes as many requests from the budget as are sent at once.
    fn take_requests(&mut self) -> usize {
        let wanted = u64::from(self.args.pipeline);
        let count = self.budget.map_or(wanted, |left| left.min(wanted));
        self.budget = self.budget.map(|left| left - count);
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Takes one request from the budget; false when it is used up.
    pub(crate) fn take_request(&mut self) -> bool {
        let left = self.budget;
        self.budget = left.map(|left| left.saturating_sub(1));
        left != Some(0)
    }

    fn at(&mut self, index: u32) -> &mut Connection {
        &mut self.connections[slot(index)]
    }
}

fn slot(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
