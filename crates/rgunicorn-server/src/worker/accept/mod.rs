//! New connections. The rule (docs/accept.md): a listener's wake-up is armed only while this worker waits,
//! and is taken back before the application runs, so that a busy worker never swallows a connection that an
//! idle sibling could serve. A lone worker has no sibling and keeps it armed. How wake-ups that were lost are made
//! good: `wakeup`. The counts of open connections do not come into it: those in the wrong hands are given away
//! ([`super::spread`]).

mod room;
mod take;
#[cfg(test)]
mod tests;
mod wakeup;

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use rgunicorn_io::driver::OpKey;
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::net::{is_lost, is_shortage};
use rgunicorn_io::sys::shared::{Accepting, Scoreboard, Slot};

use self::wakeup::Wakeups;
use super::conn::io::ConnIo;
use super::event_source::EventSource;
use super::failing::Failing;
use super::setup::ListenerSpec;
use super::siblings::Siblings;
use crate::log::{Level, RepeatedLine};

/// Accepts per wake-up when siblings share the listener: a second one would wait behind the first one's request while a
/// sibling idles.
const ACCEPT_BATCH_SHARED_MAX: u32 = 1;
/// Accepts per wake-up at most for a lone worker.
const ACCEPT_BATCH_SOLO_MAX: u32 = 64;
/// Pause after accept found no descriptor or memory: closing connections free some meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The name of the accepts in the line of a worker that leaves because of them.
const ACCEPTING: &str = "Accepting connections";

/// One listening socket.
struct AcceptSocket {
    fd: RawFd,
    unix: bool,
    /// Siblings accept from it, too.
    shared: bool,
    /// This is the handoff queue: what comes from it was another worker's.
    handoff: bool,
    /// Its wake-up has come in this turn.
    woken: bool,
    /// The connection of the last wake-up was left to siblings.
    left: bool,
    op: Option<OpKey>,
    /// Accepts tried per wake-up. Grows while all succeed, shrinks when one finds nothing (a miss costs 4 us).
    batch: u32,
}

impl AcceptSocket {
    /// Begins with one accept per wake-up.
    fn new(spec: &ListenerSpec) -> Self {
        Self {
            fd: spec.fd,
            unix: spec.unix,
            shared: spec.shared,
            handoff: false,
            woken: false,
            left: false,
            op: None,
            batch: 1,
        }
    }

    /// Makes the last one, which is no listener.
    fn handoff(fd: RawFd) -> Self {
        let spec = ListenerSpec { fd, unix: false, shared: true, key: 0 };
        Self { handoff: true, ..Self::new(&spec) }
    }
}

/// The decision about the next connections at listeners that are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptDecision {
    Arm,
    /// Neither arm them nor give them back.
    Keep,
    /// They are the siblings'.
    Disarm,
}

/// The listeners of a worker, and what it remembers to decide about their connections.
pub(crate) struct Acceptor {
    listeners: Vec<AcceptSocket>,
    /// [`ListenerSpec::key`] of each listener; also when those have been let go of.
    keys: Vec<u64>,
    wakeups: Wakeups,
    /// Accepting has failed for want of resources.
    paused_until: Option<Instant>,
    /// The worker had as many connections as it may before the last wait.
    full: bool,
    /// When the worker may find a connection next that makes room, if it has as many as it may.
    room_at: Option<Instant>,
    /// For how long it has.
    accepts_failing: Failing,
    /// For how long listeners cannot be polled: what comes is found by looking only.
    polls_failing: Failing,
    /// The last turn accepted a connection.
    just_accepted: bool,
    /// This worker takes what siblings give.
    takes_given: bool,
    /// A connection was taken that a sibling gave, since that was last asked.
    has_taken: bool,
    /// No sibling accepts at the listeners, as of the beginning of the last wait.
    alone: bool,
    /// The next connections are the siblings': all threads are at work.
    holds_back: bool,
    /// Connections that the score-board knows of.
    reported: usize,
}

impl Acceptor {
    /// Takes the listeners, and the end of the `handoff` queue that connections of other workers come out of.
    /// `polls_siblings`: the worker listens for wake-ups that siblings give.
    pub(crate) fn new(listeners: &[ListenerSpec], handoff: Option<RawFd>, polls_siblings: bool) -> Self {
        Self {
            keys: listeners.iter().map(|listener| listener.key).collect(),
            listeners: listeners
                .iter()
                .map(AcceptSocket::new)
                .chain(handoff.map(AcceptSocket::handoff))
                .collect(),
            wakeups: Wakeups::new(polls_siblings),
            paused_until: None,
            full: false,
            room_at: None,
            accepts_failing: Failing::default(),
            polls_failing: Failing::default(),
            just_accepted: false,
            takes_given: true,
            has_taken: false,
            alone: false,
            holds_back: false,
            reported: 0,
        }
    }

    /// Arms, before a wait, the listeners if this worker may take more connections, and, with `polls`, the poll of
    /// siblings' wake-ups.
    #[inline]
    pub(crate) fn begin_wait(&mut self, io: &mut ConnIo<'_>, polls: bool) {
        let board = io.setup.handles.slot.board();
        self.alone = board.is_only_worker();
        self.arm(io);
        if polls && !self.alone {
            self.wakeups.arm(io.driver, board);
        }
    }

    /// Tells, when all is armed, whether the wait is only a look: after an accept among siblings nothing is armed.
    pub(crate) fn takes_look_only(&mut self) -> bool {
        std::mem::take(&mut self.just_accepted) && !self.alone
    }

    /// Returns the times at which the wait must be over.
    pub(crate) fn deadlines(&self) -> [Option<Instant>; 2] {
        // A worker that leaves connections to others does not follow the plan of looks: what is due there stays due.
        let check = self.wakeups.next_check().filter(|_| !self.holds_back);
        let room_at = self.room_at.filter(|_| self.full);
        [self.paused_until.or(room_at), check]
    }

    /// Arms the listeners if this worker may take more connections.
    #[inline]
    fn arm(&mut self, io: &mut ConnIo<'_>) {
        let now = io.turn.now();
        // First of all, because a pause that is over must not shorten the wait to nothing.
        self.paused_until = self.paused_until.filter(|until| now < *until);
        if io.draining {
            self.room_at = None;
            return self.wakeups.end_checks();
        }
        self.full = io.conns.is_full(&io.setup.config);
        if self.paused_until.is_some() || self.full && !self.has_room(io) {
            self.wakeups.end_checks();
            io.setup.handles.slot.set_accepting(Accepting::No);
            return self.hand_back(io, |_| true);
        }
        // Where it is full, another one goes for each that comes.
        let full = self.full;
        let decision = self.decide(io);
        self.holds_back = decision == AcceptDecision::Disarm;
        let take = match decision {
            // Among siblings one is enough for this turn; no other worker takes the next one of a lone worker.
            AcceptDecision::Arm => full || !self.polls_backlog(io) || self.alone,
            AcceptDecision::Keep => false,
            AcceptDecision::Disarm => {
                io.setup.handles.slot.set_accepting(Accepting::No);
                self.hand_back(io, |listener| listener.shared);
                false
            }
        };
        let takes_given = self.takes_given && !full;
        let is_fine = |listener: &AcceptSocket| listener.op.is_some() || listener.handoff && !takes_given;
        let all_armed = self.listeners.iter().all(is_fine) || self.arm_listeners(io, take, takes_given);
        if take {
            let accepting = if all_armed && !full { Accepting::Waiting } else { Accepting::No };
            io.setup.handles.slot.set_accepting(accepting);
        }
    }

    /// Arms listeners that are not: with `take` all of them, but the handoff queue only with `takes_given`; otherwise
    /// those that are not shared. Tells whether all of them, but for that queue, are armed then.
    fn arm_listeners(&mut self, io: &mut ConnIo<'_>, take: bool, takes_given: bool) -> bool {
        let mut all_armed = true;
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            if listener.handoff && !takes_given {
                continue;
            }
            if listener.op.is_none() && (take || !listener.shared) {
                match io.driver.arm_accept(listener.fd, EventSource::Listener(index as u32).token()) {
                    Ok(op) => listener.op = Some(op),
                    Err(error) => self.cannot_poll(io, &error),
                }
            }
            all_armed &= self.listeners[index].op.is_some();
        }
        all_armed
    }

    /// Decides about the next connections at listeners that are shared.
    fn decide(&self, io: &ConnIo<'_>) -> AcceptDecision {
        if self.alone {
            return AcceptDecision::Arm;
        }
        // Requests wait, or have probably just arrived: clients send the first one right behind the
        // connection. A wake-up armed now would find the sibling's next connection readable, too, and take it
        // to no purpose.
        if self.just_accepted || io.conns.has_new_jobs() {
            return AcceptDecision::Keep;
        }
        // Responses that go on may do so for ever: only a sibling that waits is a better place for a new request.
        if io.conns.jobs() > 0 && Siblings::of(&io.setup.handles.slot, io.turn.now()).idle > 0 {
            return AcceptDecision::Keep;
        }
        // All threads of the application are at work: a request on a new connection would wait, which a sibling could
        // answer.
        let threads = io.setup.config.threads;
        let is_full = threads > 0 && io.conns.workers() >= threads;
        if is_full { AcceptDecision::Disarm } else { AcceptDecision::Arm }
    }

    /// Looks for a connection that no worker was woken for: often while a sibling is there that may lose
    /// wake-ups, else when this worker has slept for so long. Returns whether there was one.
    fn polls_backlog(&mut self, io: &mut ConnIo<'_>) -> bool {
        let slot = &io.setup.handles.slot;
        let may_be_lost = || {
            let age = slot.read().age;
            slot.board().readings().any(|reading| reading.age != age && reading.may_lose_wakeup())
        };
        self.wakeups.begin_check(io.turn.now(), may_be_lost)
            && (0..self.listeners.len()).any(|index| {
                let AcceptSocket { shared, handoff, .. } = self.listeners[index];
                shared && (self.takes_given || !handoff) && self.accept_one(io, index)
            })
    }

    /// Tells whether no sibling could take a connection from this listener.
    fn is_alone_at(&self, index: usize) -> bool {
        self.alone || !self.listeners[index].shared
    }

    /// Begins application work: gives the wake-ups back, and takes the connection of one that had come already.
    pub(crate) fn begin_work(&mut self, io: &mut ConnIo<'_>) {
        // Threads work while the loop waits.
        if io.setup.config.threads == 0 {
            self.disarm(io);
        }
    }

    /// Gives the wake-ups back.
    fn disarm(&mut self, io: &mut ConnIo<'_>) {
        let slot = &io.setup.handles.slot;
        // A sibling may have come during the wait.
        self.alone = self.alone && slot.board().is_only_worker();
        if self.alone && !io.draining {
            return slot.set_accepting(Accepting::BusyArmed);
        }
        let takes_none = io.draining || self.full;
        slot.set_accepting(if takes_none { Accepting::No } else { Accepting::BusyDisarmed });
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            if (listener.shared || io.draining)
                && let Some(op) = listener.op.take()
                && io.driver.disarm_accept(op)
                && !self.passes_wakeup_on(io, index)
            {
                self.accept_some(io, index);
            }
        }
    }

    /// Begins to drain: gives all listeners back. They are closed when what waits there has been taken.
    pub(crate) fn begin_drain(&mut self, io: &mut ConnIo<'_>) {
        self.alone = io.setup.handles.slot.board().is_only_worker();
        self.disarm(io);
        for listener in &self.listeners {
            // Siblings have the same socket, so that closing it here does not take this worker out of the
            // kernel's queue of waiters, and a wake-up that is used up for it would be lost.
            io.driver.release_file(listener.fd);
        }
    }

    /// Gives wake-ups to the siblings, because this worker takes no more for now. Where one has been used up
    /// for us already, its connection waits for us alone and is taken, above the limit if need be (by one per
    /// listener at most).
    fn hand_back(&mut self, io: &mut ConnIo<'_>, which: impl Fn(&AcceptSocket) -> bool) {
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            if which(listener)
                && let Some(op) = listener.op.take()
                && io.driver.disarm_accept(op)
                && !self.is_alone_at(index)
            {
                self.accept_one(io, index);
            }
        }
    }

    /// Says whether this worker takes what siblings give.
    pub(crate) fn take_given(&mut self, io: &mut ConnIo<'_>, takes: bool) {
        self.takes_given = takes;
        if !takes {
            self.hand_back(io, |listener| listener.handoff);
        }
    }

    /// Tells, once, whether it has taken a connection that a sibling gave.
    pub(crate) fn has_taken(&mut self) -> bool {
        std::mem::take(&mut self.has_taken)
    }

    /// Handles the wake-up of a listener.
    pub(crate) fn on_acceptable(&mut self, io: &mut ConnIo<'_>, index: u32, result: &io::Result<u32>) {
        let index = index as usize;
        let Some(listener) = self.listeners.get_mut(index) else { return };
        listener.op = None;
        io.setup.handles.slot.set_accepting(Accepting::BusyDisarmed);
        self.alone = self.alone && io.setup.handles.slot.board().is_only_worker();
        match result {
            Err(error) => return self.cannot_poll(io, error),
            Ok(_) if self.is_alone_at(index) => self.accept_some(io, index),
            // What else the turn brings decides.
            Ok(_) => self.listeners[index].woken = true,
        }
        self.polls_failing.end();
    }

    /// Tells whether a shared listener has woken this worker in this turn.
    pub(crate) fn is_woken(&self) -> bool {
        self.listeners.iter().any(|listener| listener.woken)
    }

    /// Takes, after all completions of a turn, what shared listeners have woken this worker for, or leaves it.
    pub(crate) fn take_woken(&mut self, io: &mut ConnIo<'_>) {
        for index in 0..self.listeners.len() {
            if std::mem::take(&mut self.listeners[index].woken)
                && !self.passes_wakeup_on(io, index)
                && !self.leaves_for_room(io)
            {
                self.accept_some(io, index);
            }
        }
    }

    /// Decides whether the connection of a shared listener's wake-up is left in the queue, because there is
    /// work to do first, and a sibling that can take it. Not twice in a row: under load there is always work,
    /// and always a sibling that will be free in a moment.
    fn passes_wakeup_on(&mut self, io: &mut ConnIo<'_>, index: usize) -> bool {
        let left = std::mem::take(&mut self.listeners[index].left);
        // Threads work while the loop waits.
        if left || io.conns.jobs() == 0 || io.draining || io.setup.config.threads > 0 {
            return false;
        }
        let (slot, now) = (&io.setup.handles.slot, io.turn.now());
        let siblings = Siblings::of(slot, now);
        if !siblings.can_take() {
            return false;
        }
        // Those that do not wait see the queue when they are about to.
        if siblings.idle > 0 {
            if !self.wakeups.may_wake_siblings(now) {
                return false;
            }
            slot.board().wake_siblings();
        }
        self.listeners[index].left = true;
        true
    }

    /// Handles a wake-up of a sibling, which leaves a connection to any worker that is free.
    ///
    /// # Errors
    /// It cannot be taken off: it would come again at once.
    pub(crate) fn on_sibling_wakeup(&mut self, board: &Scoreboard, now: Instant) -> io::Result<()> {
        self.wakeups.on_sibling_wakeup(now);
        board.drain_sibling_wakeup()
    }

    /// Accepts after a wake-up. A shared one was used up for us: its connection is taken in any case.
    fn accept_some(&mut self, io: &mut ConnIo<'_>, index: usize) {
        let alone = self.is_alone_at(index);
        let batch_max = if alone { ACCEPT_BATCH_SOLO_MAX } else { ACCEPT_BATCH_SHARED_MAX };
        let batch = self.listeners[index].batch.min(batch_max);
        for done in 0..batch {
            if io.conns.is_full(&io.setup.config) && (done > 0 || !self.gets_room(io) && alone) {
                return;
            }
            if !self.accept_one(io, index) {
                self.listeners[index].batch = done.max(1);
                return;
            }
        }
        self.listeners[index].batch = (batch * 2).min(batch_max);
    }

    /// Accepts what the kernel has queued for a worker that drains, for a last answer each, and then forgets
    /// the listeners, but not the handoff queue: a sibling may still give. `false`: there is no room for all of it now.
    pub(crate) fn take_queue(&mut self, io: &mut ConnIo<'_>) -> bool {
        let taken = self.take_all(io, false);
        if taken {
            self.listeners.retain(|listener| listener.handoff);
        }
        taken
    }

    /// Takes what siblings have given, for a last answer each, where no worker of this server goes on: those of another
    /// master do not have that queue.
    pub(crate) fn take_given_at_end(&mut self, io: &mut ConnIo<'_>) {
        let slot = &io.setup.handles.slot;
        if slot.board().workers() == 0 || !slot.has_sibling() {
            self.take_all(io, true);
        }
    }

    /// Accepts all that waits in the handoff queue, or at the listeners. `false`: there is no room for all of it now.
    fn take_all(&mut self, io: &mut ConnIo<'_>, handoff: bool) -> bool {
        let now = io.turn.now();
        self.paused_until = self.paused_until.filter(|until| now < *until);
        for index in 0..self.listeners.len() {
            if self.listeners[index].handoff != handoff {
                continue;
            }
            loop {
                if io.conns.load() >= io.setup.config.connections_max || self.paused_until.is_some() {
                    return false;
                }
                if !self.accept_one(io, index) {
                    break;
                }
            }
        }
        self.paused_until.is_none()
    }

    /// Tells whether there are listeners.
    pub(crate) fn has_listeners(&self) -> bool {
        self.listeners.iter().any(|listener| !listener.handoff)
    }

    /// Handles a listener that the driver refuses.
    fn cannot_poll(&mut self, io: &ConnIo<'_>, error: &io::Error) {
        let lasts = self.polls_failing.note(io.turn.now());
        self.pause(io, error, lasts);
    }

    /// Accepts nothing for a while: resources are short. A listener that is none any more stays so. And what has
    /// failed for long, another process may be able to do: descriptors may have run out because the application does
    /// not close its own.
    fn pause(&mut self, io: &ConnIo<'_>, error: &io::Error, lasts: bool) {
        let now = io.turn.now();
        if is_lost(error) {
            return io.setup.give_up(ACCEPTING, error);
        }
        self.paused_until = Some(now.after(ACCEPT_PAUSE));
        // As long as there is something to serve, a shortage may end with it. A worker that drains leaves anyway.
        if lasts && !io.draining && (io.conns.load() == 0 || !is_shortage(error)) {
            return io.setup.retire(ACCEPTING, error);
        }
        io.log(
            RepeatedLine::AcceptPaused,
            Level::Warning,
            format_args!("Cannot accept connections for the moment ({error}); open ones go on"),
        );
    }

    /// Tells the score-board how many connections are open, if it does not know yet.
    pub(crate) fn report(&mut self, slot: &Slot, connections: usize) {
        if self.reported != connections {
            self.reported = connections;
            slot.set_connections(connections as u32);
        }
    }
}

#[cfg(test)]
impl Acceptor {
    /// Pretends that this turn has accepted a connection.
    pub(crate) fn set_just_accepted(&mut self) {
        self.just_accepted = true;
    }

    /// Tells whether this turn has accepted a connection.
    pub(crate) fn has_just_accepted(&self) -> bool {
        self.just_accepted
    }
}
