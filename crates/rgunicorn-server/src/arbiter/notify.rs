//! The messages to the service manager (sd_notify), as part of the decision table.
//!
//! READY is sent when the first worker has booted, not when the sockets listen: only then are requests
//! answered. RELOADING is sent when HUP came, and READY again when the workers of one generation are on their
//! own, be it the new one or, after a failure, the old one. A new master sends nothing until it is promoted:
//! the service is the old master's, which names its successor when it leaves.

use super::event::{Action, NotifyMessage};
use super::state::{MasterState, NotifyPhase, NotifyState, RELOAD_PERIOD};
use rgunicorn_io::sys::clock::Instant;
use std::time::Duration;

impl MasterState {
    /// Makes the master send messages to its service manager, and signs of life within `watchdog`.
    #[must_use]
    pub fn notifying(mut self, watchdog: Option<Duration>) -> Self {
        self.notify_state = NotifyState { wanted: true, watchdog, ..NotifyState::default() };
        self
    }

    fn notifies(&self) -> bool {
        self.notify_state.wanted && !self.is_new_master()
    }

    /// Returns for how long the master may sleep without delaying a message.
    pub(super) fn notify_wait(&self, now: Instant) -> Duration {
        if !self.notifies() {
            return Duration::MAX;
        }
        let first = if self.notify_state.phase == NotifyPhase::Starting && !self.is_stopping() {
            RELOAD_PERIOD
        } else {
            Duration::MAX
        };
        self.beat_period()
            .map_or(first, |period| first.min(self.notify_state.last_alive.after(period).since(now)))
    }

    /// Returns the period of signs of life: half of what is allowed, as sd_watchdog_enabled(3) recommends.
    fn beat_period(&self) -> Option<Duration> {
        self.notify_state.watchdog.map(|allowed| allowed / 2)
    }

    /// Sends the messages that are due, at the end of every event.
    pub(super) fn notify(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !self.notifies() {
            return;
        }
        if self.beat_period().is_some_and(|period| now.since(self.notify_state.last_alive) >= period) {
            self.notify_state.last_alive = now;
            out.push(Action::Notify(NotifyMessage::Alive));
        }
        if self.is_stopping() {
            return;
        }
        let serving = self.count(|worker, _| worker.booted && !worker.stopping);
        let workers = (serving, self.target);
        let notice = match self.notify_state.phase {
            NotifyPhase::Starting if serving > 0 || self.target == 0 => {
                NotifyMessage::Ready(workers.0, workers.1)
            }
            NotifyPhase::Replacing if !self.reload_waits() => NotifyMessage::Ready(workers.0, workers.1),
            NotifyPhase::Ready if workers != self.notify_state.workers => {
                NotifyMessage::Workers(workers.0, workers.1)
            }
            _ => return,
        };
        self.notify_state.phase = NotifyPhase::Ready;
        self.notify_state.workers = workers;
        out.push(Action::Notify(notice));
    }

    /// Announces a reload (HUP). A master that has not been ready yet is not reloading either.
    pub(super) fn notify_reload(&mut self, out: &mut Vec<Action>) {
        if self.notifies() && self.notify_state.phase != NotifyPhase::Starting {
            self.notify_state.phase = NotifyPhase::Reloading;
            out.push(Action::Notify(NotifyMessage::Reloading));
        }
    }

    /// Notes that the configuration has been read, or could not be.
    pub(super) fn notify_reloaded(&mut self) {
        if self.notify_state.phase == NotifyPhase::Reloading {
            self.notify_state.phase = NotifyPhase::Replacing;
        }
    }

    /// Announces the end of the service or, with a new master, of this process only.
    pub(super) fn notify_stop(&self, out: &mut Vec<Action>) {
        if self.notifies() {
            out.push(Action::Notify(
                self.new_master().map_or(NotifyMessage::Stopping, NotifyMessage::Successor),
            ));
        }
    }
}

impl NotifyMessage {
    /// Renders the datagram.
    pub(super) fn text(self, now: Instant) -> String {
        let workers = |serving, wanted| format!("STATUS={serving} of {wanted} workers serve\n");
        match self {
            Self::Ready(serving, wanted) => format!("READY=1\n{}", workers(serving, wanted)),
            Self::Workers(serving, wanted) => workers(serving, wanted),
            Self::Reloading => {
                let usec = now.since(Instant(0)).as_micros();
                format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=Reloading\n")
            }
            Self::Stopping => "STOPPING=1\nSTATUS=Waiting for requests in progress\n".to_owned(),
            Self::Successor(pid) => format!("MAINPID={pid}\nSTATUS=A new master has taken over\n"),
            Self::Alive => "WATCHDOG=1\n".to_owned(),
        }
    }
}
