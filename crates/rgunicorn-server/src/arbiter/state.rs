//! The state that the decisions of [`plan()`](super::plan()) rest on, and the questions and steps that several rows of the
//! table share. The rows themselves are in `plan.rs`, `stop.rs`, `reload.rs`, `upgrade.rs` and `notify.rs`.

use super::event::{Action, WorkerLimits};
use super::{HookEvent, Level};
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::process::Pid;
use rgunicorn_io::sys::signal::Signal;
use std::time::Duration;

/// The master looks at heartbeats and worker counts this often; an idle one wakes no oftener. As Gunicorn's loop.
pub(super) const CHECK_PERIOD: Duration = Duration::from_secs(1);
/// How often the master looks whether new workers have booted while a reload waits for them.
pub(super) const RELOAD_PERIOD: Duration = Duration::from_millis(50);
/// What the names of a heir end in: of the pid file, of process titles, in log lines.
pub(super) const NEW_MASTER_SUFFIX: &str = ".2";

/// All that the decisions rest on.
#[derive(Clone, Debug)]
pub struct MasterState {
    pub(super) limits: WorkerLimits,
    /// Wanted number of workers: the configuration's, moved by TTIN and TTOU.
    pub(super) target: u32,
    /// In order of age, the oldest first.
    pub(super) workers: Vec<Worker>,
    pub(super) generation: u32,
    pub(super) canary: Option<Canary>,
    pub(super) next_age: u64,
    pub(super) phase: MasterPhase,
    pub(super) reexec: Reexec,
    /// When the last turn ended.
    pub(super) last_turn: Instant,
    /// When heartbeats were last judged.
    pub(super) last_check: Instant,
    /// Silence is counted from here at the earliest.
    pub(super) watch_from: Instant,
    /// No fork before this, after one has failed.
    pub(super) fork_after: Instant,
    /// The number of workers that was last logged.
    pub(super) counted: Option<usize>,
    pub(super) notify_state: NotifyState,
}

/// A worker as the master sees it. The other side is the process that `Host::run_worker` runs.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) age: u64,
    /// 0 between the decision to fork and the answer.
    pub(super) pid: Pid,
    /// Which configuration it was forked under; counts reloads.
    pub(super) generation: u32,
    pub(super) beat: Option<Instant>,
    pub(super) booted: bool,
    /// When it was decided to fork it.
    pub(super) born: Instant,
    /// It has been told to stop, or has begun to leave by itself.
    pub(super) stopping: bool,
    /// It has begun to leave by itself (`max_requests`, a signal of somebody else).
    pub(super) leaving: bool,
    /// It was silent, or did not boot, for too long, and has got its ABRT.
    pub(super) aborted: bool,
}

/// Where the master is in its life.
#[derive(Clone, Debug)]
pub(super) enum MasterPhase {
    Serving,
    Stopping(GracefulStop),
    Done,
}

/// A stop in progress.
#[derive(Clone, Debug)]
pub(super) struct GracefulStop {
    pub(super) deadline: Instant,
    pub(super) quick: bool,
    pub(super) killed: bool,
    pub(super) status: i32,
    pub(super) reason: Option<&'static str>,
}

/// A configuration on trial: what to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Canary {
    pub(super) limits: WorkerLimits,
    pub(super) target: u32,
}

/// Who else has this master's sockets. At most one of them is there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reexec {
    /// The master before this one, while it lives.
    pub(super) old_master: Option<Pid>,
    /// The master after this one, while it is our child.
    pub(super) new_master: Option<Pid>,
}

/// The manager's view of this master. Nobody listens by default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NotifyState {
    pub(super) wanted: bool,
    /// Silence beyond this would be taken for a hanging server.
    pub(super) watchdog: Option<Duration>,
    pub(super) phase: NotifyPhase,
    /// Workers that serve, and that should, as last said.
    pub(super) workers: (usize, u32),
    pub(super) last_alive: Instant,
}

/// What has been said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NotifyPhase {
    /// Nothing.
    #[default]
    Starting,
    /// READY.
    Ready,
    /// RELOADING, and the configuration is about to be read.
    Reloading,
    /// RELOADING, and what becomes of it is seen by the workers.
    Replacing,
}

impl MasterState {
    /// A master without workers that has not started.
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
            counted: None,
            notify_state: NotifyState::default(),
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        !matches!(self.phase, MasterPhase::Serving)
    }

    pub(super) fn is_new_master(&self) -> bool {
        self.reexec.old_master.is_some()
    }

    pub(super) fn new_master(&self) -> Option<Pid> {
        self.reexec.new_master
    }

    /// Another master serves on our sockets: their files are not ours to remove.
    pub(super) fn shares_sockets(&self) -> bool {
        self.reexec.old_master.or(self.reexec.new_master).is_some()
    }

    /// `.2` for a heir, else nothing.
    pub(super) fn suffix(&self) -> &'static str {
        if self.is_new_master() { NEW_MASTER_SUFFIX } else { "" }
    }

    pub(super) fn count(&self, which: impl Fn(&Worker, u32) -> bool) -> usize {
        self.workers.iter().filter(|worker| which(worker, self.generation)).count()
    }

    pub(super) fn booted_of_this_generation(&self) -> usize {
        self.count(|worker, generation| worker.generation == generation && worker.booted && !worker.stopping)
    }

    /// Does anything wait for new workers to boot?
    pub(super) fn reload_waits(&self) -> bool {
        self.canary.is_some()
            || self.count(|worker, generation| worker.generation != generation && !worker.stopping) > 0
    }

    /// Tells workers and hooks, even if the number is the same: Gunicorn runs the hook at every reload.
    pub(super) fn set_target(&mut self, target: u32, out: &mut Vec<Action>) {
        let old = std::mem::replace(&mut self.target, target);
        self.share_target(out);
        out.push(Action::Hook(HookEvent::NumWorkersChanged { new: target, old: Some(old) }));
    }

    /// Tells the workers how many they are to be, and whether others go on when they are told to leave.
    pub(super) fn share_target(&self, out: &mut Vec<Action>) {
        let workers = if self.is_stopping() { 0 } else { self.target };
        out.push(Action::ShareWorkers { workers, other_master: self.shares_sockets() });
    }

    /// TERM to the `number` oldest that are `which` and not stopping yet.
    pub(super) fn stop_oldest(
        &mut self,
        number: usize,
        which: impl Fn(&Worker) -> bool,
        out: &mut Vec<Action>,
    ) {
        for worker in self.workers.iter_mut().filter(|worker| which(worker) && !worker.stopping).take(number)
        {
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
