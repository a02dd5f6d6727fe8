//! The reactor: the parts of a worker, and what the application may ask of them. Nothing here calls the application:
//! events become [`Job`](super::jobs::Job)s, and `run` works through those with nothing borrowed.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;

use rgunicorn_http::Policy;
use rgunicorn_io::driver::Driver;
use rgunicorn_io::sys::biased::{Biased, Borrowed};
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::process;

use super::accept::Acceptor;
use super::config::WorkerConfig;
use super::conn::incoming::BodyRead;
use super::conn::table::Connections;
use super::core::Core;
use super::handling::Longest;
use super::handoff::Handoff;
use super::helper::Helper;
use super::ids::RequestId;
use super::lifecycle::Lifecycle;
use super::mailbox::{Task, TaskQueue};
use super::memory::Memory;
use super::message::{Flow, Hijacked};
use super::relief::ReliefRules;
use super::setup::{ListenerSpec, RequestCount, WorkerHandles, WorkerSetup};
use super::spread::Spread;
use super::turn::Turn;
use super::wakes::Wakes;
use crate::response::Outgoing;

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

/// The connections of one worker. Every public method borrows the parts for its own duration only.
pub struct Reactor {
    core: Biased<Core>,
    /// Gives connections away while the application runs on this thread.
    helper: Option<Helper>,
    pub(crate) setup: WorkerSetup,
    mailbox: Option<Arc<Mailbox>>,
    /// Memory for the tasks of the mailbox; none of them is in it between two turns.
    pub(crate) tasks: Cell<Vec<Task<Self>>>,
    /// A signal has come since handlers were last run.
    pub(crate) signalled: Cell<bool>,
}

/// A count of what a worker holds; all zero (but for an operation per listener and one for the wake-up pipe) when it is
/// idle.
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
        let WakeSources { signals, mailbox } = wakes;
        // Simulations have neither a pipe nor siblings' wake-ups; with threads, the loop is never busy for long.
        let is_real = signals.is_some();
        let polls_siblings = is_real && config.threads == 0;
        let core = Core {
            driver,
            conns: Connections::default(),
            acceptor: Acceptor::new(listeners, handles.handoff.map(|ends| ends.take), polls_siblings),
            lifecycle: Lifecycle::new(now),
            turn: Turn::new(now, config.handling_time_max),
            memory: Memory::default(),
            wakes: Wakes::new(signals),
            handoff: Handoff::new(handles.handoff.filter(|_| config.handoff.works)),
            spread: Spread::default(),
        };
        handles.control.set_handoff(config.handoff.works && handles.handoff.is_some());
        let setup = WorkerSetup::new(handles, config, policy);
        let core = Biased::new(core);
        let helper = if is_real { helper(&core, &setup) } else { None };
        Self { core, helper, setup, mailbox, tasks: Cell::default(), signalled: Cell::new(true) }
    }

    /// Borrows the parts. Not while the application runs.
    #[inline]
    pub(crate) fn core(&self) -> Borrowed<'_, Core> {
        self.core.borrow()
    }

    /// Has the helper look after what waits, because the application is about to work. With the core not borrowed: a
    /// helper that is about to sleep takes a borrowed one for a sign of no work.
    #[inline]
    pub(crate) fn wake_helper(&self) {
        if let Some(Err(error)) = self.helper.as_ref().map(Helper::wake) {
            self.setup.cannot_relieve(&error);
        }
    }

    /// Returns what the worker shares with other floors.
    pub fn handles(&self) -> &WorkerHandles {
        &self.setup.handles
    }

    /// Returns the numbers this worker runs by.
    pub fn config(&self) -> &WorkerConfig {
        &self.setup.config
    }

    /// Returns the mailbox, if the worker has one.
    pub fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.mailbox.as_ref()
    }

    /// Returns when the loop last read the clock: after its wait, and after each call of the application.
    pub fn now(&self) -> Instant {
        self.core.borrow().turn.now()
    }

    /// Counts what the worker holds at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let core = self.core.borrow();
        Snapshot {
            connections: core.conns.len(),
            timers: core.conns.timers.len(),
            jobs: core.conns.jobs(),
            operations: core.driver.in_flight(),
        }
    }

    /// Counts the memory of requests that are not with the application: as it is kept, and as it is found.
    pub fn held_bytes(&self) -> [usize; 2] {
        let conns = &self.core().conns;
        [conns.own_bytes(), conns.find_own_bytes()]
    }

    /// Says how long the application had to wait for the server itself, in the worst turn. Not in a forked child, whose
    /// parent is the worker.
    pub fn report_handling(&self) {
        if self.handles().parent != process::parent_id() {
            return;
        }
        let (pid, Longest { time, bytes }) = (process::id(), self.core.borrow().turn.handling.longest());
        let ms = time.as_secs_f64() * 1e3;
        self.setup.debug(format_args!(
            "Worker {pid} has handled clients for {ms:.1} ms in its longest turn, and {bytes} bytes in its fullest"
        ));
    }

    /// Describes in words when connections go to siblings.
    pub fn describe_handoff(&self) -> String {
        let WorkerConfig { handoff, threads, .. } = self.setup.config;
        if !handoff.works || self.handles().handoff.is_none() {
            return "no handoff".to_owned();
        }
        let relieves = self.helper.is_some() || threads > 0 && !handoff.after.is_zero();
        let after = handoff.after.as_millis();
        if relieves { format!("handoff after {after} ms") } else { "handoff, but not while busy".to_owned() }
    }

    /// Returns the way in which requests are counted.
    pub fn count(&self) -> RequestCount {
        let WorkerConfig { requests_max, shares_listeners, .. } = self.setup.config;
        RequestCount { requests_max, shares_listeners }
    }

    /// Tells whether there is room for one more connection that waits for its next request.
    pub fn has_idle_room(&self) -> bool {
        let config = &self.setup.config;
        let idle_max = config.connections_max.saturating_sub(config.threads);
        config.threads == 0 || self.core.borrow().conns.timers.idle() < idle_max
    }

    /// Returns an empty buffer for output, with some capacity.
    pub fn buffer(&self) -> Vec<u8> {
        self.core().memory.buffer()
    }

    /// Gives a piece of a response to a connection. `last`: the application has nothing further, so the piece may
    /// leave together with those of other connections; otherwise it is offered to the kernel before this returns.
    pub fn send(&self, id: RequestId, mut piece: Outgoing, last: bool) -> Flow {
        // An empty body may have an owner all the same; it is dropped here, where nothing is borrowed.
        if let Outgoing::Bytes { body, .. } = &mut piece
            && body.is_empty()
        {
            *body = Bytes::new();
        }
        let core = &mut *self.core();
        let mut io = core.parts(&self.setup).io;
        let urgency = io.turn.urgency(last);
        io.push_piece(id, piece, urgency)
    }

    /// Ends a response. `keep`: the connection stays open for the next request, if what was not read of this
    /// one's body is not too much to be read away.
    pub fn finish(&self, id: RequestId, keep: bool) {
        self.core().parts(&self.setup).io.finish(id, keep);
    }

    /// Ends a response that cannot be completed: what is queued still leaves, then the connection is cut.
    pub fn abort(&self, id: RequestId) {
        self.core().parts(&self.setup).io.abort(id);
    }

    /// Asks for [`super::App::resume`] when all output has left (or [`super::App::abandon`] when the client has).
    /// `false`: nothing is queued, or the response is over: go on at once, unless [`Self::is_closed`].
    pub fn park(&self, id: RequestId) -> bool {
        self.core().parts(&self.setup).io.park(id)
    }

    /// Asks for [`super::App::resume`] in the next turn although nothing is queued: lets others run in between.
    pub fn yield_turn(&self, id: RequestId) {
        self.core().conns.push_resume(id);
    }

    /// Tells whether a response with more to give, which has gone on since `begun`, is to let others run now.
    pub fn is_turn_over(&self, begun: Instant) -> bool {
        let core = self.core();
        core.turn.has_gone_on_long(begun, core.driver.now())
    }

    /// Counts a greenlet or a thread that begins to work on a request. Until [`Self::end_work`] it counts as one of
    /// `worker_connections` also when its connection is closed, and the worker's end waits for it.
    pub fn begin_work(&self, id: RequestId) {
        self.core().conns.begin_work(id.conn);
    }

    /// Counts it no longer.
    pub fn end_work(&self, id: RequestId) {
        self.core().conns.end_work(id.conn);
    }

    /// Tells whether a response is cut short: its client has left (or never was), or it was aborted.
    pub fn is_closed(&self, id: RequestId) -> bool {
        self.core().conns.is_cut(id)
    }

    /// Tells whether the client has left, or has at least shut its side of the connection: asks the kernel,
    /// because the loop may not have looked for a while.
    pub fn is_half_closed(&self, id: RequestId) -> bool {
        let Core { conns, driver, .. } = &mut *self.core();
        // The connection is asked, not the request: its application may still be at work behind its response, while
        // the next one has begun.
        conns.get(id.conn).is_none_or(|conn| conn.is_half_closed(driver))
    }

    /// Tells whether the answer to a request is no longer waited for, which has waited for its turn from
    /// `arrived` to `now`. A client that has shut its side of the connection may be gone, or wait for its
    /// answer all the same (RFC 9112 section 9.6 lets it), and TCP cannot tell: it is taken for gone after
    /// `abandon_timeout`.
    pub fn is_abandoned(&self, id: RequestId, arrived: Instant, now: Instant) -> bool {
        let Core { conns, driver, .. } = &mut *self.core();
        let (waited, timeout) = (now.since(arrived), self.setup.config.abandon_timeout);
        conns.request(id).is_none_or(|conn| conn.is_abandoned(driver, waited, timeout))
    }

    /// Takes the connection's socket over for the application. Reception stops; what was received and not
    /// used is handed over: of the request's body first, decoded as far as it was received. The reactor keeps
    /// its own descriptor, sends the response if there will be one, and closes then.
    ///
    /// # Errors
    /// `NotConnected` when the response is over or the connection gone, or whatever duplicating the descriptor gives.
    pub fn hijack(&self, id: RequestId) -> io::Result<Hijacked> {
        self.core().parts(&self.setup).io.hijack(id)
    }

    /// Reads at most `bytes_max` bytes (and at least one) of the body of the request in progress, if that is a
    /// [`super::Body::Incoming`]; any other one is at its end. After [`Reactor::finish`] or [`Reactor::abort`] there is
    /// nothing to read.
    pub fn read_body(&self, id: RequestId, bytes_max: usize) -> BodyRead {
        self.core().parts(&self.setup).io.read_body(id, bytes_max)
    }

    /// Asks for [`super::App::resume`] when there is something to read, be it the end or a fault (or for
    /// [`super::App::abandon`] when the connection is closed before). `false`: there is already. A connection
    /// may be parked, too: whichever waits looks again after either. [`Reactor::finish`] and
    /// [`Reactor::abort`] end the wait by the same call.
    pub fn await_body(&self, id: RequestId) -> bool {
        self.core().parts(&self.setup).io.await_body(id)
    }
}

/// Makes the helper of a worker whose application runs on the loop's thread, if connections can go to siblings.
fn helper(core: &Biased<Core>, setup: &WorkerSetup) -> Option<Helper> {
    let WorkerConfig { handoff, threads, .. } = setup.config;
    if !handoff.works || handoff.after.is_zero() || threads > 0 || setup.handles.handoff.is_none() {
        return None;
    }
    let core = core.visitor().inspect_err(|error| setup.cannot_relieve(error)).ok()?;
    let (slot, errors) = (setup.handles.slot.clone(), Arc::clone(&setup.handles.errors));
    Some(Helper::new(core, slot, errors, ReliefRules::of(&setup.config)))
}
