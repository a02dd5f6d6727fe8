//! The decision table: what the master does about each event. Pure; see `mod.rs`.
//!
//! Top-down: [`plan`] is the table; below it one function per row, the watch over heartbeats, and what every
//! row ends with while the master serves ([`MasterState::balance`]). The state is in `state.rs`, the
//! vocabulary in `event.rs`; the rows of a stop are in `stop.rs`, of a reload in `reload.rs`, of a second
//! master in `upgrade.rs`, and the messages to a service manager in `notify.rs`.

use super::Level;
use super::backoff::LIVED_AFTER;
use super::event::{Action, MasterEvent};
use super::state::{CHECK_PERIOD, MasterPhase, MasterState, RELOAD_PERIOD, Worker, log};
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::process::Pid;
use rgunicorn_io::sys::shared::SlotReading;
use rgunicorn_io::sys::signal::Signal;
use std::time::Duration;

/// The delay of a loop turn, beyond a check period, from which on the master itself did not run (suspended
/// machine, stopped process group, a slow hook), so that the workers' silence proves nothing.
const LATE_AFTER: Duration = Duration::from_secs(1);

/// Decides about `event`. The actions are to be performed in order; events that they give rise to come after
/// all of them.
pub fn plan(state: &mut MasterState, event: MasterEvent<'_>, now: Instant) -> Vec<Action> {
    let mut out = Vec::new();
    // The hook `child_exit` of this worker may still decide: the tick of the same turn ends the server.
    let may_be_over = !matches!(event, MasterEvent::Ended { .. });
    match event {
        MasterEvent::Started => state.start(now, &mut out),
        MasterEvent::Signal(signal) if state.is_stopping() => {
            state.signal_while_stopping(signal, now, &mut out)
        }
        MasterEvent::Signal(signal) => state.signal(signal, now, &mut out),
        MasterEvent::Forked { age, pid } => state.forked(age, pid, &mut out),
        MasterEvent::ForkFailed { age, error } => state.fork_failed(age, error, now, &mut out),
        MasterEvent::PreForkFailed { age, status } => state.pre_fork_failed(age, status, now, &mut out),
        MasterEvent::UpgradeStarted { pid } => state.upgrade_started(pid, &mut out),
        MasterEvent::UpgradeFailed(error) => {
            log(&mut out, Level::Error, format!("Upgrade failed, nothing has changed: {error}"));
        }
        MasterEvent::Parent(pid) => state.parent_is(pid, &mut out),
        MasterEvent::Ended { pid, exit, reading } => state.ended(pid, exit, reading, now, &mut out),
        MasterEvent::Reloaded(limits) => state.reloaded(limits, &mut out),
        MasterEvent::ReloadFailed(error) => {
            state.notify_reloaded();
            log(&mut out, Level::Error, format!("Reload failed, nothing has changed: {error}"));
        }
        MasterEvent::Wanted(workers) if state.target != workers => state.set_target(workers, &mut out),
        MasterEvent::Wanted(_) => {}
        MasterEvent::Tick(readings) => state.tick(readings, now, &mut out),
        MasterEvent::Recycling { age } => state.recycling(age, &mut out),
        MasterEvent::Leave(status) => state.leave(status, now, &mut out),
    }
    match state.phase {
        MasterPhase::Serving => state.balance(now, &mut out),
        MasterPhase::Stopping(_) if may_be_over => state.finish_if_over(now, &mut out),
        MasterPhase::Stopping(_) => {}
        MasterPhase::Done => return out,
    }
    state.notify(now, &mut out);
    out
}

impl MasterState {
    /// Returns for how long the loop may sleep if nothing happens.
    pub fn wait(&self, now: Instant) -> Duration {
        let wait = match &self.phase {
            MasterPhase::Serving if self.reload_waits() => RELOAD_PERIOD,
            MasterPhase::Serving => {
                let check = self.last_check.after(CHECK_PERIOD);
                let pause = Some(self.forks_from()).filter(|at| *at > now);
                pause.map_or(check, |at| at.min(check)).since(now)
            }
            MasterPhase::Stopping(stop) => stop.wait(now),
            MasterPhase::Done => Duration::ZERO,
        };
        wait.min(self.notify_wait(now))
    }

    fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.target = self.limits.workers;
        self.last_check = now;
        self.last_turn = now;
        self.share_target(out);
    }

    fn signal(&mut self, signal: Signal, now: Instant, out: &mut Vec<Action>) {
        let level = if signal == Signal::CHLD { Level::Debug } else { Level::Info };
        log(out, level, format!("Handling signal: {}", name_in_log(signal)));
        match signal {
            Signal::TERM => self.stop(true, 0, None, now, out),
            Signal::INT | Signal::QUIT => self.stop(false, 0, None, now, out),
            Signal::HUP => self.reload(out),
            Signal::USR1 => {
                out.push(Action::ReopenLogs);
                self.kill_all(Signal::USR1, out);
            }
            Signal::USR2 => self.upgrade(out),
            Signal::TTIN => self.change_target(1, out),
            Signal::TTOU => self.change_target(-1, out),
            Signal::WINCH => self.stop_workers(out),
            _ => {} // CHLD: children are reaped in every turn.
        }
    }

    /// Changes the wanted number of workers (TTIN, TTOU). TTOU never goes below one worker.
    fn change_target(&mut self, by: i32, out: &mut Vec<Action>) {
        let moved = |target: u32| target.saturating_add_signed(by).max(target.min(1));
        if let Some(canary) = &mut self.canary {
            canary.target = moved(canary.target);
        }
        if moved(self.target) != self.target {
            self.set_target(moved(self.target), out);
        }
    }

    /// Stops all workers (WINCH) if the server is a daemon, which stays, with its sockets open. HUP or TTIN
    /// bring workers back.
    fn stop_workers(&mut self, out: &mut Vec<Action>) {
        if !self.limits.daemon {
            return log(out, Level::Debug, "SIGWINCH ignored. Not daemonized");
        }
        log(out, Level::Info, "graceful stop of workers");
        self.reject_canary("all workers are told to stop", out);
        self.set_target(0, out);
    }

    fn forked(&mut self, age: u64, pid: Pid, out: &mut Vec<Action>) {
        let stopping = self.is_stopping();
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.age == age) {
            worker.pid = pid;
            // The worker was told to stop while it was being forked.
            worker.stopping |= stopping;
            if worker.stopping {
                out.push(Action::Kill { pid, signal: Signal::TERM });
            }
        }
    }

    fn fork_failed(&mut self, age: u64, error: &str, now: Instant, out: &mut Vec<Action>) {
        self.workers.retain(|worker| worker.age != age);
        // Those that were to be forked together fail together.
        if self.fork_after > now {
            return;
        }
        self.fork_after = now.after(CHECK_PERIOD);
        log(out, Level::Error, format!("Cannot fork a worker, trying again in a second: {error}"));
    }

    /// Ends the server, as Gunicorn's master, unless the configuration is on trial: then that is given up.
    fn pre_fork_failed(&mut self, age: u64, status: i32, now: Instant, out: &mut Vec<Action>) {
        let generation = self.generation;
        let is_rejected =
            self.workers.iter().any(|worker| worker.age == age && worker.generation != generation);
        self.workers.retain(|worker| worker.age != age);
        if self.canary.is_some() {
            self.reject_canary("no new worker could be prepared", out);
        } else if !is_rejected {
            self.leave(status, now, out);
        }
    }

    fn leave(&mut self, status: i32, now: Instant, out: &mut Vec<Action>) {
        if self.is_stopping() {
            self.fail_stop(status);
        } else {
            self.stop(false, status, None, now, out);
        }
    }

    fn tick(&mut self, readings: &[SlotReading], now: Instant, out: &mut Vec<Action>) {
        for worker in &mut self.workers {
            if let Some(reading) = readings.iter().find(|reading| reading.age == worker.age) {
                worker.look(reading, now);
            }
        }
        self.look_back(now);
        let late = CHECK_PERIOD + LATE_AFTER;
        if now.since(self.last_turn) > late {
            self.watch_from = now;
        }
        self.last_turn = now;
        if self.is_stopping() {
            return;
        }
        if now.since(self.last_check) >= CHECK_PERIOD {
            self.last_check = now;
            self.watch(now, out);
        }
        self.judge_canary(out);
    }

    /// Notes whether the server has served, and which workers have lived.
    fn look_back(&mut self, now: Instant) {
        // Not the additional ones of a TTIN, which may come in the turn in which the first ones have booted.
        let wanted = self.target.min(self.limits.workers) as usize;
        self.has_served |= wanted > 0 && self.booted_of_this_generation() >= wanted;
        let lived = |worker: &&Worker| worker.booted_at.is_some_and(|at| now.since(at) >= LIVED_AFTER);
        if let Some(newest) = self.workers.iter().filter(lived).map(|worker| worker.born).max() {
            self.back_off.note_lived(newest);
        }
    }

    /// Frees the permit to recycle when its holder has been reaped and as many workers as are wanted have
    /// booted. While that fails, no further worker gives up its place.
    fn recycling(&self, age: u64, out: &mut Vec<Action>) {
        let holder_lives = self.workers.iter().any(|worker| worker.age == age);
        let serving = self.count(|worker, _| worker.booted && !worker.stopping);
        if !holder_lives && serving >= self.target as usize {
            out.push(Action::EndRecycling { age });
        }
    }

    /// Kills the workers that have been silent, or have not booted, for too long: with ABRT first, so that
    /// they can say where they hang, and with KILL at the next check.
    fn watch(&mut self, now: Instant, out: &mut Vec<Action>) {
        let mut canary_failed = false;
        for worker in self.workers.iter_mut().filter(|worker| worker.pid != 0) {
            // A worker that was aborted before it booted is killed even if other limits are in force
            // meanwhile.
            let condemned = worker.aborted && worker.beat.is_none();
            let (since, timeout) = match (worker.beat, worker.booted) {
                (Some(beat), _) => (beat, self.limits.timeout),
                (None, false) => (worker.born, self.limits.boot_timeout),
                (None, true) => continue,
            };
            let is_over = !timeout.is_zero() && now.since(since.max(self.watch_from)) > timeout;
            if !is_over && !condemned {
                continue;
            }
            let pid = worker.pid;
            let signal = if worker.aborted { Signal::KILL } else { Signal::ABRT };
            if !worker.aborted {
                worker.aborted = true;
                let line = match worker.beat {
                    Some(_) => format!("WORKER TIMEOUT (pid:{pid})"),
                    None => {
                        format!("WORKER BOOT TIMEOUT (pid:{pid}): not booted after {} s", timeout.as_secs())
                    }
                };
                log(out, Level::Critical, line);
                canary_failed |= worker.beat.is_none() && worker.generation == self.generation;
            }
            out.push(Action::Kill { pid, signal });
        }
        if canary_failed {
            self.reject_canary("a new worker did not boot within boot_timeout", out);
        }
    }

    /// Forks the workers that are missing, and stops those that are too many.
    fn balance(&mut self, now: Instant, out: &mut Vec<Action>) {
        let wanted = self.wanted_of_this_generation();
        let present = self.count(|worker, generation| worker.generation == generation && !worker.stopping);
        if now >= self.forks_from() {
            for _ in present + self.leavers_beyond_target()..wanted {
                self.fork_one(now, out);
            }
        }
        if self.canary.is_none() {
            let generation = self.generation;
            self.stop_oldest(present.saturating_sub(wanted), |worker| worker.generation == generation, out);
            self.stop_replaced(out);
        }
        let count = self.count(|worker, _| !worker.stopping);
        if self.counted != Some(count) {
            self.counted = Some(count);
            log(out, Level::Debug, format!("{count} workers"));
        }
    }

    /// Counts the leaving workers that are beyond the wanted number. Workers that leave by themselves are
    /// replaced before they are gone, for their last request may be a long one; but of as many as are wanted
    /// at most, for if the replacements leave as well, the processes would add up.
    fn leavers_beyond_target(&self) -> usize {
        self.count(|worker, _| worker.leaving).saturating_sub(self.target as usize)
    }

    fn fork_one(&mut self, now: Instant, out: &mut Vec<Action>) {
        let age = self.next_age;
        self.next_age += 1;
        self.workers.push(Worker {
            age,
            pid: 0,
            generation: self.generation,
            beat: None,
            booted: false,
            booted_at: None,
            has_requests: false,
            born: now,
            told: false,
            stopping: false,
            leaving: false,
            aborted: false,
        });
        out.push(Action::Fork { age });
    }
}

/// Returns the name in `Handling signal:`. Gunicorn says `cld` for SIGCHLD (the number's last name in
/// Python's list).
fn name_in_log(signal: Signal) -> String {
    match signal {
        Signal::CHLD => "cld".to_owned(),
        _ => signal.short_name().map_or_else(|| signal.0.to_string(), str::to_ascii_lowercase),
    }
}
