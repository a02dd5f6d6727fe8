//! New connections. The rule (docs/architecture.md): a listener's wake-up is armed only while this worker waits, and is
//! taken back before the application runs, so that a busy worker never swallows a connection that an idle sibling could
//! serve. A lone worker has no sibling and keeps it armed. How the counts of open connections come into it: `fair`.

pub(crate) mod balance;
pub(crate) mod wakeup;

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::log::Level;
use rgunicorn_io::driver::OpKey;
use rgunicorn_io::sys::shared::Accepting;

use crate::worker::conn::Conn;
use crate::worker::conn::proxy_header::ProxyHeaderState;
use crate::worker::context::ListenerSpec;
use crate::worker::event_source::EventSource;
use crate::worker::ids::ConnId;
use crate::worker::lifecycle::DRAIN_FRESH;
use crate::worker::reactor::{Reactor, State};
use crate::worker::timers::ConnTimer;

/// Accepts per wake-up when siblings share the listener: a second one would wait behind the first one's request while a
/// sibling idles.
const ACCEPT_BATCH_SHARED_MAX: u32 = 1;
/// Accepts per wake-up at most for a lone worker.
const ACCEPT_BATCH_SOLO_MAX: u32 = 64;
/// Pause after accept found no descriptor or memory: closing connections free some meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// At most one warning about it in this time.
const ACCEPT_WARNING_EVERY: Duration = Duration::from_secs(1);

/// One listening socket.
pub(crate) struct AcceptSocket {
    fd: RawFd,
    unix: bool,
    /// Siblings accept from it, too.
    shared: bool,
    /// Its wake-up has come in this turn.
    woken: bool,
    /// The connection of the last wake-up was left to siblings.
    pub(crate) left: bool,
    op: Option<OpKey>,
    /// Accepts tried per wake-up. Grows while all succeed, shrinks when one finds nothing (a miss costs 4 us).
    batch: u32,
}

impl AcceptSocket {
    pub(crate) fn new(spec: &ListenerSpec) -> Self {
        Self {
            fd: spec.fd,
            unix: spec.unix,
            shared: spec.shared,
            woken: false,
            left: false,
            op: None,
            batch: 1,
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }
}

/// What a worker does about the next connections at listeners that it shares.
enum AcceptDecision {
    Arm,
    /// Neither arm them nor give them back.
    Keep,
    /// They are the siblings'.
    Disarm,
}

impl Reactor {
    /// Nobody else accepts at the listeners.
    pub(crate) fn is_only_worker(&self) -> bool {
        self.handles.slot.board().is_only_worker()
    }

    /// Before a wait: arms the listeners if this worker may take more connections.
    pub(crate) fn arm_listeners(&self, state: &mut State) {
        // First of all, because a pause that is over must not shorten the wait to nothing.
        state.accept_paused_until = state.accept_paused_until.filter(|until| state.now < *until);
        state.balancer.next_look = state.balancer.next_look.filter(|_| !state.draining);
        state.next_backlog_check = state.next_backlog_check.filter(|_| !state.draining);
        if state.draining {
            return;
        }
        if state.load() >= self.config.connections_max || state.accept_paused_until.is_some() {
            state.balancer.next_look = None;
            state.next_backlog_check = None;
            return self.hand_back_listeners(state, |_| true);
        }
        let take = match self.accept_decision(state) {
            // Among siblings one is enough for this turn; nobody else takes the next one of a lone worker.
            AcceptDecision::Arm => !self.polls_backlog(state) || self.is_only_worker(),
            AcceptDecision::Keep => false,
            AcceptDecision::Disarm => {
                self.hand_back_listeners(state, |listener| listener.shared);
                false
            }
        };
        for index in 0..state.listeners.len() {
            let listener = &state.listeners[index];
            if listener.op.is_none() && (take || !listener.shared) {
                let (fd, token) = (listener.fd, EventSource::Listener(index as u32).token());
                match state.driver.arm_accept(fd, token) {
                    Ok(op) => state.listeners[index].op = Some(op),
                    Err(error) => self.pause_accepting(state, &error),
                }
            }
        }
        if take {
            let all_armed = state.listeners.iter().all(|listener| listener.op.is_some());
            self.handles.slot.set_accepting(if all_armed { Accepting::Waiting } else { Accepting::No });
        }
    }

    fn accept_decision(&self, state: &mut State) -> AcceptDecision {
        if self.is_only_worker() {
            return AcceptDecision::Arm;
        }
        if self.has_work_at_hand(state) {
            return AcceptDecision::Keep;
        }
        if self.has_no_thread(state) {
            state.balancer.next_look = None;
            return AcceptDecision::Disarm;
        }
        if self.should_back_off(state) { AcceptDecision::Disarm } else { AcceptDecision::Arm }
    }

    /// Requests wait, or have probably just arrived: clients send the first one right behind the connection. A wake-up
    /// armed now would find the sibling's next connection readable, too, and take it to no purpose.
    pub(crate) fn has_work_at_hand(&self, state: &State) -> bool {
        state.just_accepted || !state.jobs.is_empty()
    }

    /// All threads of the application are at work: a request on a new connection would wait, which a sibling could answer.
    fn has_no_thread(&self, state: &State) -> bool {
        self.config.threads > 0 && state.held >= self.config.threads
    }

    /// No sibling could take a connection from this listener.
    fn is_alone_at(&self, listener: &AcceptSocket) -> bool {
        !listener.shared || self.is_only_worker()
    }

    /// Before application work: gives the wake-ups back, and takes the connection of one that had come already.
    pub(crate) fn disarm_listeners(&self, state: &mut State) {
        if self.is_only_worker() && !state.draining {
            return self.handles.slot.set_accepting(Accepting::BusyArmed);
        }
        self.handles.slot.set_accepting(if state.draining { Accepting::No } else { Accepting::BusyDisarmed });
        for index in 0..state.listeners.len() {
            let listener = &mut state.listeners[index];
            if (listener.shared || state.draining)
                && let Some(op) = listener.op.take()
                && state.driver.disarm_accept(op)
                && !self.passes_wakeup_on(state, index)
            {
                self.accept_some(state, index);
            }
        }
    }

    /// This worker takes no more for now: its siblings get the wake-ups. Where one has been used up for us already, its
    /// connection waits for us alone and is taken, above the limit if need be (by one per listener at most).
    fn hand_back_listeners(&self, state: &mut State, which: impl Fn(&AcceptSocket) -> bool) {
        self.handles.slot.set_accepting(Accepting::No);
        for index in 0..state.listeners.len() {
            let listener = &mut state.listeners[index];
            if which(listener)
                && let Some(op) = listener.op.take()
                && state.driver.disarm_accept(op)
                && !self.is_alone_at(&state.listeners[index])
            {
                self.accept_one(state, index);
            }
        }
    }

    pub(crate) fn on_acceptable(&self, index: u32, result: &io::Result<u32>) {
        let state = &mut *self.state();
        let Some(listener) = state.listeners.get_mut(index as usize) else {
            return;
        };
        listener.op = None;
        self.handles.slot.set_accepting(Accepting::BusyDisarmed);
        match result {
            Err(error) => self.pause_accepting(state, error),
            Ok(_) if self.is_alone_at(&state.listeners[index as usize]) => {
                self.accept_some(state, index as usize);
            }
            // What else the turn brings decides.
            Ok(_) => state.listeners[index as usize].woken = true,
        }
    }

    /// After all completions of a turn: takes what shared listeners have woken this worker for, or leaves it.
    pub(crate) fn take_woken(&self) {
        let state = &mut *self.state();
        for index in 0..state.listeners.len() {
            if std::mem::take(&mut state.listeners[index].woken) && !self.passes_wakeup_on(state, index) {
                self.accept_some(state, index);
            }
        }
    }

    /// Accepts after a wake-up. A shared one was used up for us: its connection is taken in any case.
    fn accept_some(&self, state: &mut State, index: usize) {
        let alone = self.is_alone_at(&state.listeners[index]);
        let batch_max = if alone { ACCEPT_BATCH_SOLO_MAX } else { ACCEPT_BATCH_SHARED_MAX };
        let batch = state.listeners[index].batch.min(batch_max);
        for done in 0..batch {
            if state.load() >= self.config.connections_max && (done > 0 || alone) {
                return;
            }
            if !self.accept_one(state, index) {
                state.listeners[index].batch = done.max(1);
                return;
            }
        }
        state.listeners[index].batch = (batch * 2).min(batch_max);
    }

    /// Accepts what the kernel has queued, for a last answer each: the listeners are about to be closed. `false`: there is
    /// no room for all of it now.
    pub(crate) fn accept_rest(&self, state: &mut State) -> bool {
        for index in 0..state.listeners.len() {
            loop {
                if state.load() >= self.config.connections_max || state.accept_paused_until.is_some() {
                    return false;
                }
                if !self.accept_one(state, index) {
                    break;
                }
            }
        }
        state.accept_paused_until.is_none()
    }

    /// While this worker leaves connections to its siblings: takes one that none of them has taken. `false`: there is none.
    pub(crate) fn accept_left_over(&self, state: &mut State) -> bool {
        (0..state.listeners.len()).any(|index| state.listeners[index].shared && self.accept_one(state, index))
    }

    /// `false`: nothing (more) to accept now.
    fn accept_one(&self, state: &mut State, index: usize) -> bool {
        let AcceptSocket { fd: listener_fd, unix, .. } = state.listeners[index];
        let (fd, peer) = match state.driver.accept(listener_fd) {
            Ok(accepted) => accepted,
            // The next one may be fine: the client of this one left before we came.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return true,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return false;
            }
            Err(error) => {
                self.pause_accepting(state, &error);
                return false;
            }
        };
        let trusted = unix || self.handles.trusted.trusts(peer.ip());
        let generation = state.next_generation();
        let mut conn = Conn::new(fd, generation, peer, index as u16, trusted);
        conn.proxy_state = ProxyHeaderState::of(&self.config, peer);
        let id = ConnId { index: state.conns.insert(conn) as u32, generation };
        if state.draining {
            state.start_timer(id.index, ConnTimer::Drain, DRAIN_FRESH);
        } else {
            state.start_timer(id.index, ConnTimer::Header, self.config.header_timeout);
        }
        self.arm_recv(state, id);
        state.just_accepted = true;
        state.balancer.accepted = true;
        self.handles.slot.set_accepted(state.now, state.conns.len() as u32);
        true
    }

    fn pause_accepting(&self, state: &mut State, error: &io::Error) {
        state.accept_paused_until = Some(state.now.after(ACCEPT_PAUSE));
        if state.emfile_warned.is_none_or(|at| state.now.since(at) >= ACCEPT_WARNING_EVERY) {
            state.emfile_warned = Some(state.now);
            self.handles.errors.log(
                Level::Warning,
                format_args!("Cannot accept connections for the moment ({error}); open ones go on"),
            );
        }
    }
}
