//! The state of all connections and the events that change it. Nothing here calls the application: completions
//! become [`Job`]s, and `run` works through those with nothing borrowed.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::log::{AccessLog, ErrorLog};
use rgunicorn_http::{DateCache, Policy};
use rgunicorn_io::driver::timers::Deadlines;
use rgunicorn_io::driver::{Completion, Driver, OpKey, READABLE, SendBuf, Token};
use rgunicorn_io::sys::clock::{self, Instant};
use rgunicorn_io::sys::shared::Slot;
use rgunicorn_settings::Networks;

use crate::response::Outgoing;

use super::accept::AcceptSocket;
use super::app::{ConnId, Request, RequestId};
use super::balance::Balancer;
use super::conn::{Conn, FeedContext};
use super::{Control, Mailbox, WorkerConfig};

/// A listening socket as the worker gets it.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// The socket; owned by the arbiter's side, open for the worker's whole life.
    pub fd: RawFd,
    /// A unix socket: its peers are always trusted.
    pub unix: bool,
    /// Other workers accept from it, too. Not so with a socket of this worker's own (`reuse_port`).
    pub shared: bool,
}

/// What the worker shares with the floors above and below: logs, score-board slot, control.
pub struct WorkerHandles {
    /// Error log.
    pub errors: Arc<ErrorLog>,
    /// The access log, if switched on. Taken out while a record is rendered, because rendering may run Python.
    pub access: RefCell<Option<AccessLog>>,
    /// This worker's score-board slot.
    pub slot: Slot,
    /// Stop and quit requests.
    pub control: Arc<Control>,
    /// Work from other threads, if the application runs in any.
    pub mailbox: Option<Arc<Mailbox>>,
    /// Peers that are trusted proxies.
    pub trusted: Networks,
    /// The master: when this is no longer our parent, the worker leaves.
    pub parent: i32,
    /// What keeps the listening sockets open. Let go of when the worker begins to leave: who connects after that must go
    /// to another worker or be refused, and not wait for nobody.
    pub listener_guard: RefCell<Option<Box<dyn std::any::Any>>>,
}

/// Work for the application, in order of arrival.
#[derive(Debug)]
pub(super) enum Job {
    /// A complete request.
    Call(Box<Request>),
    /// A parked response may go on, or there is something to read of a request body.
    Resume(RequestId),
    /// The client has left of one that waits.
    Abandon(RequestId),
    /// A request was answered by us with this status: log it.
    Refused(Box<Request>, u16),
}

impl Job {
    /// Returns the request that it is about.
    pub(super) fn id(&self) -> RequestId {
        match self {
            Self::Call(request) | Self::Refused(request, _) => request.id,
            Self::Resume(id) | Self::Abandon(id) => *id,
        }
    }
}

/// Deadlines of connections; one class per duration, so that each is a FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnTimer {
    Keepalive,
    Header,
    BodyStall,
    WriteStall,
    Linger,
    Drain,
}

/// Number of [`ConnTimer`] classes.
pub(super) const TIMER_CLASSES: usize = 6;

/// The connections of one worker. Every public method borrows the state for its own duration only.
pub struct Reactor {
    pub(super) state: RefCell<State>,
    pub(super) handles: WorkerHandles,
    pub(super) config: WorkerConfig,
    pub(super) policy: Policy,
}

/// How requests are counted; for any thread.
#[derive(Clone, Copy, Debug)]
pub struct RequestCount {
    /// See [`WorkerConfig`].
    pub requests_max: u64,
    /// See [`WorkerConfig`].
    pub shares_listeners: bool,
}

impl RequestCount {
    /// See [`Reactor::count_request`].
    pub fn add(self, slot: &Slot, control: &Control, errors: &ErrorLog) {
        let count = slot.add_request();
        let limit = self.requests_max;
        if limit != 0 && count >= limit && !control.stopping() && slot.begin_recycling() {
            errors.info(format_args!("Autorestarting worker after current request."));
            if self.shares_listeners {
                slot.mark_replaced();
            }
            control.stop();
        }
    }
}

/// Everything that changes; behind one `RefCell`, borrowed briefly.
pub(super) struct State {
    pub(super) driver: Driver,
    pub(super) conns: Slab<Conn>,
    pub(super) timers: Deadlines<TIMER_CLASSES>,
    pub(super) jobs: VecDeque<Job>,
    pub(super) listeners: Vec<AcceptSocket>,
    /// Buffers whose owners may be Python objects: dropped by `run`, where Python may run.
    pub(super) deferred_drops: Vec<SendBuf>,
    /// Connections that hold as much early input as they may: reception pauses when all completions of the turn are
    /// handled. Not earlier: what `recv_stop` returns comes after the data that those completions carry.
    pub(super) full: Vec<ConnId>,
    /// Output buffers for reuse.
    pub(super) spare: Vec<Vec<u8>>,
    pub(super) now: Instant,
    pub(super) date: DateCache,
    pub(super) draining: bool,
    /// The worker leaves, and what the kernel has queued for it has not been accepted yet.
    pub(super) queue_waits: bool,
    /// No further request is begun.
    pub(super) leaving: bool,
    /// Greenlets and threads at work ([`Reactor::begin_work`]).
    pub(super) held: usize,
    /// Those of them whose connection is closed.
    pub(super) orphans: usize,
    pub(super) drain_deadline: Option<Instant>,
    pub(super) accept_paused_until: Option<Instant>,
    pub(super) emfile_warned: Option<Instant>,
    pub(super) balancer: Balancer,
    /// When to look for connections that nobody was woken for, and when this worker last did.
    pub(super) next_backlog_check: Option<Instant>,
    pub(super) last_backlog_check: Instant,
    /// The poll of the siblings' nudges, and when this worker last gave one.
    pub(super) sibling_wakeup: Option<OpKey>,
    pub(super) siblings_woken_at: Instant,
    /// Requests that the present turn brought; one alone is answered at once, several are batched.
    pub(super) turn_requests: usize,
    /// The last turn accepted a connection.
    pub(super) just_accepted: bool,
    /// An application call was slow not long ago: answers do not wait for company behind the next one.
    pub(super) slow_until: Instant,
    /// When the parent was last looked at.
    pub(super) parent_checked: Instant,
    pub(super) wake: Option<(OwnedFd, Option<OpKey>)>,
    /// A signal has come since handlers were last run.
    pub(super) signalled: bool,
    /// The poll of the mailbox.
    pub(super) mail: Option<OpKey>,
    /// When the last two waits were over, the older one first: a connection that waits to be accepted is seen by one, and
    /// its request by the next.
    pub(super) looked: [Instant; 2],
    /// When what this turn reads has arrived, at the earliest.
    pub(super) arrived: Instant,
    generation: u32,
}

/// What a worker holds; all zero (but for an operation per listener and one for the wake-up pipe) when it is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Open connections.
    pub connections: usize,
    /// Deadlines set; at most one per connection.
    pub timers: usize,
    /// Work queued for the application.
    pub jobs: usize,
    /// Operations of the driver, those included whose connection is gone.
    pub operations: usize,
}

/// What a completion's token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventSource {
    Listener(u32),
    Recv(ConnId),
    Send(ConnId),
    Writable(ConnId),
    Wake,
    Mail,
    SiblingWakeup,
}

/// The bit of a token that says that an operation is not the reactor's but was started by whoever shares its driver
/// ([`Reactor::driver`]); the 63 others are free for them.
pub const EXTERNAL: u64 = 1 << 63;

/// The completion is of an operation with a [`EXTERNAL`] token. An orphan is the reactor's, whoever sent it.
pub fn is_external(completion: &Completion) -> bool {
    match completion {
        Completion::Recv { token, .. } | Completion::Sent { token, .. } | Completion::Poll { token, .. } => {
            token.0 & EXTERNAL != 0
        }
        Completion::Orphan { .. } => false,
    }
}

const GENERATION_MASK: u32 = 0x00ff_ffff;
/// Output buffers kept for reuse; about one turn's worth of responses.
const SPARE_BUFFERS_MAX: usize = 64;
/// A buffer that grew beyond this is given back instead.
const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024;

impl EventSource {
    pub(super) fn token(self) -> Token {
        let pack = |kind: u64, id: ConnId| {
            Token(kind << 56 | u64::from(id.generation & GENERATION_MASK) << 32 | u64::from(id.index))
        };
        match self {
            Self::Listener(index) => Token(1 << 56 | u64::from(index)),
            Self::Recv(id) => pack(2, id),
            Self::Send(id) => pack(3, id),
            Self::Writable(id) => pack(4, id),
            Self::Wake => Token(5 << 56),
            Self::Mail => Token(6 << 56),
            Self::SiblingWakeup => Token(7 << 56),
        }
    }

    pub(super) fn from_token(token: Token) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "fields of the packed token")]
        let id = ConnId { index: token.0 as u32, generation: (token.0 >> 32) as u32 & GENERATION_MASK };
        match token.0 >> 56 {
            1 => Some(Self::Listener(id.index)),
            2 => Some(Self::Recv(id)),
            3 => Some(Self::Send(id)),
            4 => Some(Self::Writable(id)),
            5 => Some(Self::Wake),
            6 => Some(Self::Mail),
            7 => Some(Self::SiblingWakeup),
            _ => None,
        }
    }
}

impl Reactor {
    /// A reactor on `driver` for `listeners`. `wake` is readable whenever a signal arrived (the read end of the pipe
    /// that signal handlers write to).
    pub fn new(
        driver: Driver,
        listeners: &[ListenerSpec],
        wake: Option<OwnedFd>,
        handles: WorkerHandles,
        config: WorkerConfig,
        policy: Policy,
    ) -> Self {
        let now = driver.now();
        let state = State {
            driver,
            conns: Slab::new(),
            timers: Deadlines::new(),
            jobs: VecDeque::new(),
            listeners: listeners.iter().map(AcceptSocket::new).collect(),
            deferred_drops: Vec::new(),
            full: Vec::new(),
            spare: Vec::new(),
            now,
            date: DateCache::default(),
            draining: false,
            queue_waits: false,
            leaving: false,
            held: 0,
            orphans: 0,
            drain_deadline: None,
            accept_paused_until: None,
            emfile_warned: None,
            balancer: Balancer::default(),
            next_backlog_check: None,
            last_backlog_check: Instant::default(),
            sibling_wakeup: None,
            siblings_woken_at: Instant::default(),
            turn_requests: 0,
            just_accepted: false,
            slow_until: now,
            parent_checked: now,
            wake: wake.map(|fd| (fd, None)),
            signalled: true,
            mail: None,
            looked: [now; 2],
            arrived: now,
            generation: 0,
        };
        Self { state: RefCell::new(state), handles, config, policy }
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// What the worker shares with other floors.
    pub fn handles(&self) -> &WorkerHandles {
        &self.handles
    }

    /// The numbers this worker runs by.
    pub fn config(&self) -> &WorkerConfig {
        &self.config
    }

    /// When the loop last read the clock: after its wait, and after each call of the application.
    pub fn now(&self) -> Instant {
        self.state.borrow().now
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.state.borrow().conns.len()
    }

    /// What the worker holds at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.borrow();
        Snapshot {
            connections: state.conns.len(),
            timers: state.timers.len(),
            jobs: state.jobs.len(),
            operations: state.driver.in_flight(),
        }
    }

    /// Counts a request that is about to run. At the limit (`max_requests`) the worker begins to leave: the request
    /// is answered with `Connection: close` and this is the last turn that accepts. While another worker is being
    /// replaced for that reason it goes on, and asks again at its next request.
    pub fn count_request(&self) {
        let WorkerHandles { slot, control, errors, .. } = &self.handles;
        self.count().add(slot, control, errors);
    }

    /// How requests are counted.
    pub fn count(&self) -> RequestCount {
        let WorkerConfig { requests_max, shares_listeners, .. } = self.config;
        RequestCount { requests_max, shares_listeners }
    }

    /// The worker is willing to keep connections open at this moment.
    pub fn keeps_alive(&self) -> bool {
        !self.config.close_always
            && self.config.keepalive > Duration::ZERO
            && !self.handles.control.stopping()
    }

    /// There is room for one more connection that waits for its next request.
    pub fn has_idle_room(&self) -> bool {
        let idle_max = self.config.connections_max.saturating_sub(self.config.threads);
        self.config.threads == 0 || self.state.borrow().timers.count(ConnTimer::Keepalive as u8) < idle_max
    }

    /// The `Date` header value of now.
    pub fn date(&self) -> [u8; 29] {
        let unix = clock::unix_now().as_secs();
        *self.state().date.at(unix)
    }

    /// An empty buffer for output, with some capacity.
    pub fn buffer(&self) -> Vec<u8> {
        self.state().buffer()
    }

    /// Gives an output buffer back.
    pub fn recycle(&self, buffer: Vec<u8>) {
        self.state().recycle(buffer);
    }

    pub(super) fn feed_context(&self, (now, arrived): (Instant, Instant)) -> FeedContext<'_> {
        let (policy, config, keep_alive) = (&self.policy, &self.config, self.keeps_alive());
        FeedContext { policy, config, keep_alive, now, arrived }
    }

    /// Handles one completion. The state is borrowed throughout; nothing in here reaches the application.
    pub(super) fn handle(&self, completion: Completion) {
        match completion {
            Completion::Recv { token, outcome } => self.on_recv(token, outcome),
            Completion::Sent { token, result, buf } => self.on_sent(token, result, buf),
            Completion::Poll { token, result } => match EventSource::from_token(token) {
                Some(EventSource::Listener(index)) => self.on_acceptable(index, &result),
                Some(EventSource::Writable(id)) => self.on_writable(id),
                Some(EventSource::Wake) => self.state().drain_wake(),
                Some(EventSource::Mail) => self.drain_mail(),
                Some(EventSource::SiblingWakeup) => self.on_sibling_wakeup(),
                _ => debug_assert!(false, "a poll completion for {token:?}"),
            },
            Completion::Orphan { buf } => self.state().deferred_drops.push(buf),
        }
    }
}

impl State {
    /// The connection that `id` names, if it is still the same one.
    pub(super) fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.index as usize).filter(|conn| conn.generation == id.generation)
    }

    /// The connection on which the request `id` is, if no later one has begun there.
    pub(super) fn request(&mut self, id: RequestId) -> Option<&mut Conn> {
        self.conn(id.conn).filter(|conn| conn.sequence() == id.sequence)
    }

    /// Queues work for the application on the request of a connection.
    pub(super) fn resume(&mut self, id: ConnId) {
        if let Some(conn) = self.conn(id) {
            let id = conn.request_id(id.index);
            self.jobs.push_back(Job::Resume(id));
        }
    }

    pub(super) fn next_generation(&mut self) -> u32 {
        self.generation = match (self.generation + 1) & GENERATION_MASK {
            0 => 1,
            next => next,
        };
        self.generation
    }

    /// Returns an empty buffer for output, with some capacity.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(512))
    }

    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS_MAX
            && buffer.capacity() <= SPARE_BUFFER_BYTES_MAX
            && buffer.capacity() > 0
        {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Buffers of a finished send: ours are reused at once, foreign ones wait for a place where Python may run.
    pub(super) fn discard(&mut self, mut buf: SendBuf) {
        let head = std::mem::take(&mut buf.head);
        self.recycle(head);
        if !buf.body.is_empty() {
            self.deferred_drops.push(buf);
        }
    }

    /// (Re)starts the one timer of a connection.
    pub(super) fn start_timer(&mut self, index: u32, timer: ConnTimer, after: Duration) {
        self.timers.set(index, timer as u8, self.now.after(after));
    }

    pub(super) fn stop_timer(&mut self, index: u32) {
        self.timers.clear(index);
    }

    /// Forgets a connection and closes its descriptor. Operations in flight keep their own memory in the driver.
    pub(super) fn close(&mut self, id: ConnId) {
        if self.conn(id).is_none() {
            return;
        }
        self.stop_timer(id.index);
        let mut conn = self.conns.remove(id.index as usize);
        let waiting = conn.parked || conn.awaits_body();
        self.orphans += usize::from(conn.held);
        if let Some(op) = conn.recv.take() {
            self.driver.recv_cancel(op);
        }
        if let Some(op) = conn.send.take() {
            self.driver.send_cancel(op);
        }
        if let Some(ext) = conn.ext.take() {
            if let Some(op) = ext.writable {
                self.driver.poll_cancel(op);
            }
            for piece in ext.out {
                if let Outgoing::Bytes { head, body } = piece {
                    self.deferred_drops.push(SendBuf { head, body });
                }
            }
        }
        if waiting {
            self.jobs.push_back(Job::Abandon(conn.request_id(id.index)));
        }
        self.driver.close(conn.fd);
    }

    /// Now, and when what is read now has arrived at the earliest.
    pub(super) fn clocks(&self) -> (Instant, Instant) {
        (self.now, self.arrived)
    }

    /// What counts against `worker_connections`.
    pub(super) fn load(&self) -> usize {
        self.conns.len() + self.orphans
    }

    fn drain_wake(&mut self) {
        if let Some((fd, op)) = &mut self.wake {
            *op = None;
            rgunicorn_io::sys::file::drain(fd);
            self.signalled = true;
        }
    }

    /// Arms the wake-up pipe if it is not armed.
    pub(super) fn arm_wake(&mut self) {
        if let Some((fd, op)) = &mut self.wake
            && op.is_none()
        {
            use std::os::fd::AsRawFd;
            *op = self.driver.poll(fd.as_raw_fd(), READABLE, EventSource::Wake.token()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_their_source_again() {
        let id = ConnId { index: 0xfedc_ba98, generation: 0x00ab_cdef };
        for source in [
            EventSource::Listener(7),
            EventSource::Recv(id),
            EventSource::Send(id),
            EventSource::Writable(id),
            EventSource::Wake,
            EventSource::Mail,
            EventSource::SiblingWakeup,
        ] {
            assert_eq!(EventSource::from_token(source.token()), Some(source));
        }
        assert_eq!(EventSource::from_token(Token(0)), None);
        for low in [0, EventSource::Recv(id).token().0, EXTERNAL - 1] {
            assert_eq!(EventSource::from_token(Token(EXTERNAL | low)), None);
        }
    }
}
