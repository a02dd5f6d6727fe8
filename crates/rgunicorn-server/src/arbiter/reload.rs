//! The rows of a reload (HUP) in the decision table: a reload is a transaction.
//!
//! 1. The configuration is read and its addresses are opened. If that fails, nothing has changed.
//! 2. One worker is forked under it, the canary. If it ends before it has booted, whatever its status, the
//!    configuration is rolled back and the old workers have never noticed. (Gunicorn 27 stops the server, or
//!    leaves the workers orphaned.)
//! 3. When it has booted, the configuration is in force and the rest is forked. An old worker gets TERM only
//!    as new ones have booted: booted new ones and old ones that were not told to stop are never fewer than
//!    wanted.
//!
//! While a canary boots, workers that die are replaced by more canaries. Another HUP gives the canary up and
//! begins anew, so that a configuration whose application hangs at import can be corrected.

use super::backoff::BackOff;
use super::event::{Action, WorkerLimits};
use super::state::{Canary, MasterState, log};
use super::{HookEvent, Level};

impl MasterState {
    pub(super) fn reload(&mut self, out: &mut Vec<Action>) {
        log(out, Level::Info, format!("Hang up: Master{}", self.suffix()));
        if self.canary.is_some() {
            self.reject_canary("another reload was asked for", out);
        }
        self.notify_reload(out);
        out.push(Action::Reload);
    }

    pub(super) fn reloaded(&mut self, limits: WorkerLimits, out: &mut Vec<Action>) {
        self.notify_reloaded();
        self.canary = Some(Canary { limits: self.limits, target: self.target });
        self.generation += 1;
        // What ended the workers before may be mended.
        self.back_off = BackOff::default();
        self.limits = limits;
        self.set_target(limits.workers, out);
        out.extend([Action::ReopenLogs, Action::Hook(HookEvent::OnReload)]);
    }

    /// Puts the configuration in force once a canary has booted.
    pub(super) fn judge_canary(&mut self, out: &mut Vec<Action>) {
        if self.canary.is_some() && self.booted_of_this_generation() > 0 {
            self.accept_canary(out);
        }
    }

    pub(super) fn accept_canary(&mut self, out: &mut Vec<Action>) {
        self.canary = None;
        out.push(Action::Commit { unlink: !self.shares_sockets() });
    }

    /// Goes back to the configuration before: the canaries are told to stop, and the workers before them are
    /// this generation again.
    pub(super) fn reject_canary(&mut self, why: &str, out: &mut Vec<Action>) {
        let Some(canary) = self.canary.take() else { return };
        let rejected = self.generation;
        log(out, Level::Error, format!("Reload given up, the workers stay as they were: {why}"));
        self.stop_oldest(usize::MAX, |worker| worker.generation == rejected, out);
        self.generation += 1;
        for worker in self.workers.iter_mut().filter(|worker| worker.generation + 1 == rejected) {
            worker.generation = rejected + 1;
        }
        self.limits = canary.limits;
        self.set_target(canary.target, out);
        out.push(Action::Rollback);
    }

    /// Returns how many workers of the present generation there should be.
    pub(super) fn wanted_of_this_generation(&self) -> usize {
        let Some(canary) = &self.canary else {
            return self.target as usize;
        };
        let old = self.count(|worker, generation| worker.generation != generation && !worker.stopping);
        (canary.target as usize).saturating_sub(old).max(1)
    }

    /// Tells as many old workers to stop as booted new ones stand in for.
    pub(super) fn stop_replaced(&mut self, out: &mut Vec<Action>) {
        let generation = self.generation;
        let old = self.count(|worker, generation| worker.generation != generation && !worker.stopping);
        let needed = (self.target as usize).saturating_sub(self.booted_of_this_generation());
        self.stop_oldest(old.saturating_sub(needed), |worker| worker.generation != generation, out);
    }
}
