//! The rows of a stop in the decision table: workers are told to leave, waited for, and in the end killed.

use super::event::Action;
use super::state::{CHECK_PERIOD, GracefulStop, MasterPhase, MasterState, log};
use super::{HookEvent, Level};
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::signal::Signal;
use std::time::Duration;

/// The time that a second, impatient signal leaves of a graceful stop.
const QUICK_STOP: Duration = Duration::from_secs(2);
/// The time that workers get on top of `graceful_timeout`: they themselves end what is in progress when it is
/// over, and need a moment for that (greenlets that are killed run their `finally` clauses).
const LEAVE_MARGIN: Duration = Duration::from_millis(1500);
/// The time for which killed workers are waited for at the very end; only one in uninterruptible sleep needs
/// any of it.
const KILLED_WAIT: Duration = Duration::from_secs(2);

impl GracefulStop {
    /// Returns for how long the loop may sleep.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.deadline.since(now).min(CHECK_PERIOD)
    }
}

impl MasterState {
    pub(super) fn has_killed(&self) -> bool {
        matches!(&self.phase, MasterPhase::Stopping(stop) if stop.killed)
    }

    /// Handles a signal during a stop: an impatient one makes it quick, others change nothing.
    pub(super) fn signal_while_stopping(&mut self, signal: Signal, now: Instant, out: &mut Vec<Action>) {
        let MasterPhase::Stopping(stop) = &mut self.phase else {
            return;
        };
        if stop.quick || !matches!(signal, Signal::INT | Signal::QUIT) {
            return;
        }
        stop.quick = true;
        stop.deadline = stop.deadline.min(now.after(QUICK_STOP));
        log(out, Level::Info, "Quick shutdown requested");
        self.kill_all(Signal::QUIT, out);
    }

    /// Begins to stop: no client is accepted any more, and the workers are told to leave. Later calls change
    /// nothing.
    pub(super) fn stop(
        &mut self,
        graceful: bool,
        status: i32,
        reason: Option<&'static str>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if self.is_stopping() {
            return;
        }
        self.notify_stop(out);
        out.push(Action::CloseListeners { unlink: !self.shares_sockets() });
        let margin = if graceful { LEAVE_MARGIN } else { Duration::ZERO };
        let deadline = now.after(self.limits.graceful_timeout + margin);
        self.phase =
            MasterPhase::Stopping(GracefulStop { deadline, quick: !graceful, killed: false, status, reason });
        self.kill_all(if graceful { Signal::TERM } else { Signal::QUIT }, out);
        for worker in &mut self.workers {
            worker.stopping = true;
        }
    }

    /// Takes the exit status of a hook that has failed during a stop. The first failure counts.
    pub(super) fn fail_stop(&mut self, status: i32) {
        if let MasterPhase::Stopping(stop) = &mut self.phase
            && stop.status == 0
        {
            stop.status = status;
        }
    }

    /// Ends the master when no worker is left, or when the time is over.
    pub(super) fn finish_if_over(&mut self, now: Instant, out: &mut Vec<Action>) {
        let suffix = self.suffix();
        let MasterPhase::Stopping(stop) = &mut self.phase else {
            return;
        };
        if !self.workers.is_empty() {
            if now < stop.deadline {
                return;
            }
            if !stop.killed {
                stop.killed = true;
                stop.deadline = now.after(KILLED_WAIT);
                return self.kill_all(Signal::KILL, out);
            }
        }
        let level = if stop.status == 0 { Level::Info } else { Level::Error };
        log(out, level, format!("Shutting down: Master{suffix}"));
        if let Some(reason) = stop.reason {
            log(out, level, format!("Reason: {reason}"));
        }
        out.extend([Action::RemovePidFile, Action::Hook(HookEvent::OnExit), Action::Exit(stop.status)]);
        self.phase = MasterPhase::Done;
    }
}
