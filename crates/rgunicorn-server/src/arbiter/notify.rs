//! What a service manager is told (sd_notify), as part of the decision table.
//!
//! READY when the first worker has booted, not when the sockets listen: only then does anybody answer. RELOADING when HUP
//! came, and READY again when the workers of one generation are on their own, be it the new one or, after a failure, the
//! old one. A heir says nothing until it is promoted: the service is its parent's, which names it when it leaves.

use super::event::{Action, Notice};
use super::plan::{RELOAD_PERIOD, State};
use rgunicorn_io::sys::clock::Instant;
use std::time::Duration;

/// What has been said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Said {
    /// Nothing.
    #[default]
    Nothing,
    /// READY.
    Ready,
    /// RELOADING, and the configuration is about to be read.
    Reloading,
    /// RELOADING, and what becomes of it is seen by the workers.
    Replacing,
}

/// The manager's view of this master. Nobody listens by default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    wanted: bool,
    /// Silence beyond this would be taken for a hanging server.
    watchdog: Option<Duration>,
    said: Said,
    /// Workers that serve, and that should, as last said.
    workers: (usize, u32),
    alive: Instant,
}

impl State {
    /// A master whose service manager wants to be told, and signs of life within `watchdog`.
    #[must_use]
    pub fn notifying(mut self, watchdog: Option<Duration>) -> Self {
        self.news = News { wanted: true, watchdog, ..News::default() };
        self
    }

    fn has_listener(&self) -> bool {
        self.news.wanted && !self.is_heir()
    }

    /// How long the master may sleep for the sake of it.
    pub(super) fn notify_wait(&self, now: Instant) -> Duration {
        if !self.has_listener() {
            return Duration::MAX;
        }
        let first = if self.news.said == Said::Nothing && !self.is_stopping() {
            RELOAD_PERIOD
        } else {
            Duration::MAX
        };
        self.beat_period().map_or(first, |period| first.min(self.news.alive.after(period).since(now)))
    }

    /// Half of what is allowed, as sd_watchdog_enabled(3) recommends.
    fn beat_period(&self) -> Option<Duration> {
        self.news.watchdog.map(|allowed| allowed / 2)
    }

    /// The end of every event.
    pub(super) fn notify(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !self.has_listener() {
            return;
        }
        if self.beat_period().is_some_and(|period| now.since(self.news.alive) >= period) {
            self.news.alive = now;
            out.push(Action::Notify(Notice::Alive));
        }
        if self.is_stopping() {
            return;
        }
        let serving = self.count(|worker, _| worker.booted && !worker.stopping);
        let workers = (serving, self.target);
        let notice = match self.news.said {
            Said::Nothing if serving > 0 || self.target == 0 => Notice::Ready(workers.0, workers.1),
            Said::Replacing if !self.reload_waits() => Notice::Ready(workers.0, workers.1),
            Said::Ready if workers != self.news.workers => Notice::Workers(workers.0, workers.1),
            _ => return,
        };
        self.news.said = Said::Ready;
        self.news.workers = workers;
        out.push(Action::Notify(notice));
    }

    /// HUP. Who has not been ready yet is not reloading either.
    pub(super) fn notify_reload(&mut self, out: &mut Vec<Action>) {
        if self.has_listener() && self.news.said != Said::Nothing {
            self.news.said = Said::Reloading;
            out.push(Action::Notify(Notice::Reloading));
        }
    }

    /// The configuration has been read, or not.
    pub(super) fn notify_reloaded(&mut self) {
        if self.news.said == Said::Reloading {
            self.news.said = Said::Replacing;
        }
    }

    /// The end. With a heir it is not the service's.
    pub(super) fn notify_stop(&self, out: &mut Vec<Action>) {
        if self.has_listener() {
            out.push(Action::Notify(self.heir().map_or(Notice::Stopping, Notice::Successor)));
        }
    }
}

impl Notice {
    /// The datagram.
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
