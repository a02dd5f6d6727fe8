//! The state that the decisions of [`plan()`](super::plan()) rest on, and the questions and steps that
//! several rows of the table share. The rows themselves are in `plan.rs`, `stop.rs`, `reload.rs`,
//! `upgrade.rs` and `notify.rs`.

use super::backoff::BackOff;
use super::event::{Action, WorkerLimits};
use super::{HookEvent, Level};
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::process::Pid;
use rgunicorn_io::sys::shared::SlotReading;
use rgunicorn_io::sys::signal::Signal;
use std::time::Duration;

/// The period of the master's look at heartbeats and worker counts; an idle one wakes no oftener. As
/// Gunicorn's loop.
pub(super) const CHECK_PERIOD: Duration = Duration::from_secs(1);
/// The period of the master's look at new workers while a reload waits for them to boot.
pub(super) const RELOAD_PERIOD: Duration = Duration::from_millis(50);
/// The end of a new master's names: of the pid file, of process titles, in log lines.
pub(super) const NEW_MASTER_SUFFIX: &str = ".2";

/// Everything that the decisions rest on.
#[derive(Clone, Debug)]
pub struct MasterState {
    pub(super) limits: WorkerLimits,
    /// The wanted number of workers: the configuration's, changed by TTIN and TTOU.
    pub(super) target: u32,
    /// The workers in order of age, the oldest first.
    pub(super) workers: Vec<Worker>,
    pub(super) generation: u32,
    pub(super) canary: Option<Canary>,
    pub(super) next_age: u64,
    pub(super) phase: MasterPhase,
    pub(super) reexec: Reexec,
    /// The end of the last turn.
    pub(super) last_turn: Instant,
    /// The last look at heartbeats.
    pub(super) last_check: Instant,
    /// The moment from which silence is counted at the earliest.
    pub(super) watch_from: Instant,
    /// The moment before which nothing is forked, after a fork has failed.
    pub(super) fork_after: Instant,
    /// The pauses between workers that end as soon as they begin.
    pub(super) back_off: BackOff,
    /// As many workers as were wanted at the start have been there at once.
    pub(super) has_served: bool,
    /// The number of workers that was last logged.
    pub(super) counted: Option<usize>,
    pub(super) notify_state: NotifyState,
}

/// A worker as the master sees it. The other side is the process that `Host::run_worker` runs.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) age: u64,
    /// The process id; 0 between the decision to fork and the answer.
    pub(super) pid: Pid,
    /// The configuration that it was forked under, by the number of reloads before it.
    pub(super) generation: u32,
    pub(super) beat: Option<Instant>,
    pub(super) booted: bool,
    /// The moment at which the master saw that.
    pub(super) booted_at: Option<Instant>,
    /// The worker has begun a request.
    pub(super) has_requests: bool,
    /// The moment of the decision to fork it.
    pub(super) born: Instant,
    /// The master has told it to stop.
    pub(super) told: bool,
    /// The master has told it to stop, or it has begun to leave by itself.
    pub(super) stopping: bool,
    /// The worker has begun to leave by itself (`max_requests`, a signal that is not the master's).
    pub(super) leaving: bool,
    /// The worker was silent, or did not boot, for too long, and has got its ABRT.
    pub(super) aborted: bool,
}

impl Worker {
    /// Takes over what the worker's slot says at this moment.
    pub(super) fn look(&mut self, reading: &SlotReading, now: Instant) {
        self.booted = reading.booted;
        if reading.booted {
            self.booted_at.get_or_insert(now);
        }
        self.beat = reading.beat;
        self.has_requests |= reading.requests > 0;
        // A worker that the master has told to stop has nothing new to say.
        self.leaving |= reading.leaving && !self.stopping;
        self.stopping |= self.leaving;
    }
}

/// The phase of the master's life.
#[derive(Clone, Debug)]
pub(super) enum MasterPhase {
    Serving,
    Stopping(GracefulStop),
    Done,
}

/// The stop that is in progress.
#[derive(Clone, Debug)]
pub(super) struct GracefulStop {
    pub(super) deadline: Instant,
    pub(super) quick: bool,
    pub(super) killed: bool,
    pub(super) status: i32,
    pub(super) reason: Option<&'static str>,
}

/// The limits to go back to if the configuration on trial is rejected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Canary {
    pub(super) limits: WorkerLimits,
    pub(super) target: u32,
}

/// The other master that has this one's sockets. There is one at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reexec {
    /// The master that has started this one, while it lives.
    pub(super) old_master: Option<Pid>,
    /// The master that this one has started, while it is our child.
    pub(super) new_master: Option<Pid>,
}

/// The service manager's view of this master. By default there is no manager.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NotifyState {
    pub(super) wanted: bool,
    /// The silence beyond which the manager takes the server for hanging.
    pub(super) watchdog: Option<Duration>,
    pub(super) phase: NotifyPhase,
    /// The numbers of workers that serve and that are wanted, as last sent.
    pub(super) workers: (usize, u32),
    pub(super) last_alive: Instant,
}

/// The last message about the life of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NotifyPhase {
    /// No message yet.
    #[default]
    Starting,
    /// READY has been sent.
    Ready,
    /// RELOADING has been sent, and the configuration is about to be read.
    Reloading,
    /// RELOADING has been sent, and the workers of the configuration are being replaced.
    Replacing,
}

impl MasterState {
    /// Returns a master that has no workers and has not started.
    pub fn new(limits: WorkerLimits) -> Self {
        Self {
            limits,
            target: 0,
            workers: Vec::new(),
            generation: 1,
            canary: None,
            next_age: 1,
            phase: MasterPhase::Serving,
            reexec: Reexec::default(),
            last_turn: Instant(0),
            last_check: Instant(0),
            watch_from: Instant(0),
            fork_after: Instant(0),
            back_off: BackOff::default(),
            has_served: false,
            counted: None,
            notify_state: NotifyState::default(),
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        !matches!(self.phase, MasterPhase::Serving)
    }

    /// Returns the moment before which nothing is forked.
    pub(super) fn forks_from(&self) -> Instant {
        self.fork_after.max(self.back_off.until())
    }

    pub(super) fn is_new_master(&self) -> bool {
        self.reexec.old_master.is_some()
    }

    pub(super) fn new_master(&self) -> Option<Pid> {
        self.reexec.new_master
    }

    /// Returns whether another master serves on our sockets, so that their files are not ours to remove.
    pub(super) fn shares_sockets(&self) -> bool {
        self.reexec.old_master.or(self.reexec.new_master).is_some()
    }

    /// Returns the end of this master's names: `.2` for a new master, else nothing.
    pub(super) fn suffix(&self) -> &'static str {
        if self.is_new_master() { NEW_MASTER_SUFFIX } else { "" }
    }

    pub(super) fn count(&self, which: impl Fn(&Worker, u32) -> bool) -> usize {
        self.workers.iter().filter(|worker| which(worker, self.generation)).count()
    }

    pub(super) fn booted_of_this_generation(&self) -> usize {
        self.count(|worker, generation| worker.generation == generation && worker.booted && !worker.stopping)
    }

    /// Returns whether a reload waits for new workers to boot.
    pub(super) fn reload_waits(&self) -> bool {
        self.canary.is_some()
            || self.count(|worker, generation| worker.generation != generation && !worker.stopping) > 0
    }

    /// Sets the wanted number of workers and tells workers and hooks, even if the number is the same:
    /// Gunicorn runs the hook at every reload.
    pub(super) fn set_target(&mut self, target: u32, out: &mut Vec<Action>) {
        let old = std::mem::replace(&mut self.target, target);
        self.share_target(out);
        out.push(Action::Hook(HookEvent::NumWorkersChanged { new: target, old: Some(old) }));
    }

    /// Tells the workers how many they are to be, and whether others go on with the sockets when they are
    /// told to leave.
    pub(super) fn share_target(&self, out: &mut Vec<Action>) {
        let workers = if self.is_stopping() { 0 } else { self.target };
        out.push(Action::ShareWorkers { workers, other_master: self.shares_sockets() });
    }

    /// Sends TERM to the oldest `number` of the workers that `which` chooses and that are not stopping yet.
    pub(super) fn stop_oldest(
        &mut self,
        number: usize,
        which: impl Fn(&Worker) -> bool,
        out: &mut Vec<Action>,
    ) {
        for worker in self.workers.iter_mut().filter(|worker| which(worker) && !worker.stopping).take(number)
        {
            worker.told = true;
            worker.stopping = true;
            if worker.pid != 0 {
                out.push(Action::Kill { pid: worker.pid, signal: Signal::TERM });
            }
        }
    }

    pub(super) fn kill_all(&self, signal: Signal, out: &mut Vec<Action>) {
        let born = self.workers.iter().filter(|worker| worker.pid != 0);
        out.extend(born.map(|worker| Action::Kill { pid: worker.pid, signal }));
    }
}

pub(super) fn log(out: &mut Vec<Action>, level: Level, text: impl Into<String>) {
    out.push(Action::Log(level, text.into()));
}
