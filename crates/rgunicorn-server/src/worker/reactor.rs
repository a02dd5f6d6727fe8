//! The state of all connections and the events that change it. Nothing here calls the application: completions
//! become [`Job`]s, and `run` works through those with nothing borrowed.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use rgunicorn_http::{DateCache, Policy};
use rgunicorn_io::driver::timers::Deadlines;
use rgunicorn_io::driver::{Completion, Driver, OpKey, READABLE, SendBuf};
use rgunicorn_io::sys::clock::{self, Instant};

use super::accept::AcceptSocket;
use super::accept::balance::Balancer;
use super::config::WorkerConfig;
use super::conn::{Conn, FeedContext};
use super::context::{ListenerSpec, RequestCount, WorkerHandles};
use super::event_source::{EventSource, GENERATION_MASK};
use super::ids::{ConnId, RequestId};
use super::jobs::Job;
use super::mailbox::TaskQueue;
use super::timers::{ConnTimer, TIMER_CLASSES};

/// The queue of tasks that other threads have for the loop.
pub type Mailbox = TaskQueue<Reactor>;

/// The ways to end the loop's wait besides a connection.
#[derive(Debug, Default)]
pub struct WakeSources {
    /// The read end of the pipe that signal handlers write to.
    pub signals: Option<OwnedFd>,
    /// Work from other threads, if the application runs in any.
    pub mailbox: Option<Arc<Mailbox>>,
}

/// The connections of one worker. Every public method borrows the state for its own duration only.
pub struct Reactor {
    pub(crate) state: RefCell<State>,
    pub(crate) handles: WorkerHandles,
    pub(crate) mailbox: Option<Arc<Mailbox>>,
    pub(crate) config: WorkerConfig,
    pub(crate) policy: Policy,
}

/// Everything that changes; behind one `RefCell`, borrowed briefly.
pub(crate) struct State {
    pub(crate) driver: Driver,
    pub(crate) conns: Slab<Conn>,
    pub(crate) timers: Deadlines<TIMER_CLASSES>,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) listeners: Vec<AcceptSocket>,
    /// Buffers whose owners may be Python objects: dropped by `run`, where Python may run.
    pub(crate) deferred_drops: Vec<SendBuf>,
    /// Connections that hold as much early input as they may: reception pauses when all completions of the turn are
    /// handled. Not earlier: what `recv_stop` returns comes after the data that those completions carry.
    pub(crate) full: Vec<ConnId>,
    /// Output buffers for reuse.
    pub(crate) spare: Vec<Vec<u8>>,
    pub(crate) now: Instant,
    pub(crate) date: DateCache,
    pub(crate) draining: bool,
    /// The worker leaves, and what the kernel has queued for it has not been accepted yet.
    pub(crate) queue_waits: bool,
    /// No further request is begun.
    pub(crate) leaving: bool,
    /// Greenlets and threads at work ([`Reactor::begin_work`]).
    pub(crate) held: usize,
    /// Those of them whose connection is closed.
    pub(crate) orphans: usize,
    pub(crate) drain_deadline: Option<Instant>,
    pub(crate) accept_paused_until: Option<Instant>,
    pub(crate) emfile_warned: Option<Instant>,
    pub(crate) balancer: Balancer,
    /// When to look for connections that nobody was woken for, and when this worker last did.
    pub(crate) next_backlog_check: Option<Instant>,
    pub(crate) last_backlog_check: Instant,
    /// The poll of the siblings' nudges, and when this worker last gave one.
    pub(crate) sibling_wakeup: Option<OpKey>,
    pub(crate) siblings_woken_at: Instant,
    /// Requests that the present turn brought; one alone is answered at once, several are batched.
    pub(crate) turn_requests: usize,
    /// The last turn accepted a connection.
    pub(crate) just_accepted: bool,
    /// An application call was slow not long ago: answers do not wait for company behind the next one.
    pub(crate) slow_until: Instant,
    /// When the parent was last looked at.
    pub(crate) parent_checked: Instant,
    pub(crate) wake: Option<(OwnedFd, Option<OpKey>)>,
    /// A signal has come since handlers were last run.
    pub(crate) signalled: bool,
    /// The poll of the mailbox.
    pub(crate) mail: Option<OpKey>,
    /// When the last two waits were over, the older one first: a connection that waits to be accepted is seen by one, and
    /// its request by the next.
    pub(crate) looked: [Instant; 2],
    /// When what this turn reads has arrived, at the earliest.
    pub(crate) arrived: Instant,
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

/// Output buffers kept for reuse; about one turn's worth of responses.
const SPARE_BUFFERS_MAX: usize = 64;
/// A buffer that grew beyond this is given back instead.
const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024;

impl Reactor {
    /// Makes a reactor on `driver` for `listeners`.
    pub fn new(
        driver: Driver,
        listeners: &[ListenerSpec],
        wakes: WakeSources,
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
            wake: wakes.signals.map(|fd| (fd, None)),
            signalled: true,
            mail: None,
            looked: [now; 2],
            arrived: now,
            generation: 0,
        };
        Self { state: RefCell::new(state), handles, mailbox: wakes.mailbox, config, policy }
    }

    pub(crate) fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// What the worker shares with other floors.
    pub fn handles(&self) -> &WorkerHandles {
        &self.handles
    }

    /// Returns the mailbox, if the worker has one.
    pub fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.mailbox.as_ref()
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
        self.state().spare.pop().unwrap_or_else(|| Vec::with_capacity(512))
    }

    /// Gives an output buffer back.
    pub fn recycle(&self, buffer: Vec<u8>) {
        self.state().recycle(buffer);
    }

    pub(crate) fn feed_context(&self, (now, arrived): (Instant, Instant)) -> FeedContext<'_> {
        let (policy, config, keep_alive) = (&self.policy, &self.config, self.keeps_alive());
        FeedContext { policy, config, keep_alive, now, arrived }
    }

    /// Handles one completion. The state is borrowed throughout; nothing in here reaches the application.
    pub(crate) fn handle(&self, completion: Completion) {
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
    pub(crate) fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.index as usize).filter(|conn| conn.generation == id.generation)
    }

    /// The connection on which the request `id` is, if no later one has begun there.
    pub(crate) fn request(&mut self, id: RequestId) -> Option<&mut Conn> {
        self.conn(id.conn).filter(|conn| conn.sequence() == id.sequence)
    }

    /// Queues work for the application on the request of a connection.
    pub(crate) fn resume(&mut self, id: ConnId) {
        if let Some(conn) = self.conn(id) {
            let id = conn.request_id(id.index);
            self.jobs.push_back(Job::Resume(id));
        }
    }

    pub(crate) fn next_generation(&mut self) -> u32 {
        self.generation = match (self.generation + 1) & GENERATION_MASK {
            0 => 1,
            next => next,
        };
        self.generation
    }

    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS_MAX
            && buffer.capacity() <= SPARE_BUFFER_BYTES_MAX
            && buffer.capacity() > 0
        {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Buffers of a finished send: ours are reused at once, foreign ones wait for a place where Python may run.
    pub(crate) fn discard(&mut self, mut buf: SendBuf) {
        let head = std::mem::take(&mut buf.head);
        self.recycle(head);
        if !buf.body.is_empty() {
            self.deferred_drops.push(buf);
        }
    }

    /// (Re)starts the one timer of a connection.
    pub(crate) fn start_timer(&mut self, index: u32, timer: ConnTimer, after: Duration) {
        self.timers.set(index, timer as u8, self.now.after(after));
    }

    pub(crate) fn stop_timer(&mut self, index: u32) {
        self.timers.clear(index);
    }

    /// Forgets a connection and closes its descriptor. Operations in flight keep their own memory in the driver.
    pub(crate) fn close(&mut self, id: ConnId) {
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
                if let super::message::Outgoing::Bytes { head, body } = piece {
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
    pub(crate) fn clocks(&self) -> (Instant, Instant) {
        (self.now, self.arrived)
    }

    /// What counts against `worker_connections`.
    pub(crate) fn load(&self) -> usize {
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
    pub(crate) fn arm_wake(&mut self) {
        if let Some((fd, op)) = &mut self.wake
            && op.is_none()
        {
            use std::os::fd::AsRawFd;
            *op = self.driver.poll(fd.as_raw_fd(), READABLE, EventSource::Wake.token()).ok();
        }
    }
}
