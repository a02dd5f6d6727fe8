//! Table tests of the decision table: no process, no clock, no signal. [`World`] plays the executor's part:
//! it answers forks and reloads at once and holds the readings of the scoreboard.

mod backoff;
mod notify;
mod property;
mod recycling;
mod reload;
mod signals;
mod stop;
mod upgrade;
mod watch;

use super::event::{Action, MasterEvent, NotifyMessage, WorkerLimits};
use super::plan::plan;
use super::state::MasterState;
use super::{HookEvent, Level};
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::process::{ChildExit, Pid};
use rgunicorn_io::sys::shared::{Accepting, SlotReading};
use rgunicorn_io::sys::signal::Signal;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// The pid that a worker of this age gets.
fn pid_of(age: u64) -> Pid {
    1000 + Pid::try_from(age).unwrap()
}

fn limits(workers: u32) -> WorkerLimits {
    WorkerLimits {
        workers,
        timeout: SECOND * 30,
        graceful_timeout: SECOND * 30,
        boot_timeout: Duration::ZERO,
        daemon: false,
    }
}

fn kill(age: u64, signal: Signal) -> Action {
    Action::Kill { pid: pid_of(age), signal }
}

fn share(workers: u32, other_master: bool) -> Action {
    Action::ShareWorkers { workers, other_master }
}

fn logged(level: Level, text: &str) -> Action {
    Action::Log(level, text.to_owned())
}

/// A master's surroundings.
struct World {
    state: MasterState,
    now: Instant,
    /// Of living workers, by age.
    board: BTreeMap<u64, SlotReading>,
    /// What the next reload answers.
    reload: Result<WorkerLimits, &'static str>,
    forks_fail: bool,
    /// How many of the next hooks before a fork fail.
    pre_forks_fail: usize,
}

/// The process id that a new master gets.
const NEW_MASTER: Pid = 500;
/// The process id of the old master, in tests of a new one.
const OLD_MASTER: Pid = 400;

impl World {
    /// A started master with `workers` workers that have booted and beat.
    fn serving(workers: u32) -> Self {
        let mut world = Self::unbooted(workers);
        world.boot_all();
        world
    }

    /// A started master whose workers have not booted.
    fn unbooted(workers: u32) -> Self {
        let mut world = Self {
            state: MasterState::new(limits(workers)),
            now: Instant(1).after(SECOND * 1000),
            board: BTreeMap::new(),
            reload: Ok(limits(workers)),
            forks_fail: false,
            pre_forks_fail: 0,
        };
        world.feed(MasterEvent::Started);
        world
    }

    /// Feeds one event, answers what it asks for, returns all actions in order.
    fn feed(&mut self, event: MasterEvent<'_>) -> Vec<Action> {
        let mut done = Vec::new();
        let mut todo = VecDeque::from(plan(&mut self.state, event, self.now));
        while let Some(action) = todo.pop_front() {
            todo.extend(self.answer(&action));
            done.push(action);
        }
        done
    }

    fn answer(&mut self, action: &Action) -> Vec<Action> {
        let event = match action {
            Action::Fork { age } if self.pre_forks_fail > 0 => {
                self.pre_forks_fail -= 1;
                MasterEvent::PreForkFailed { age: *age, status: 255 }
            }
            Action::Fork { age } if self.forks_fail => MasterEvent::ForkFailed { age: *age, error: "EAGAIN" },
            Action::Fork { age } => {
                self.board.insert(*age, fresh(*age));
                MasterEvent::Forked { age: *age, pid: pid_of(*age) }
            }
            Action::Upgrade if self.forks_fail => MasterEvent::UpgradeFailed("EAGAIN"),
            Action::Upgrade => MasterEvent::UpgradeStarted { pid: NEW_MASTER },
            Action::Reload => match self.reload {
                Ok(limits) => MasterEvent::Reloaded(limits),
                Err(error) => MasterEvent::ReloadFailed(error),
            },
            _ => return Vec::new(),
        };
        plan(&mut self.state, event, self.now)
    }

    fn signal(&mut self, signal: Signal) -> Vec<Action> {
        self.feed(MasterEvent::Signal(signal))
    }

    /// The worker of this age ends, and during a stop the master's turn with it.
    fn end(&mut self, age: u64, exit: ChildExit) -> Vec<Action> {
        let reading = self.board.remove(&age).expect("a living worker");
        let mut actions = self.feed(MasterEvent::Ended { pid: pid_of(age), exit, reading: Some(reading) });
        if self.state.is_stopping() {
            actions.extend(self.tick());
        }
        actions
    }

    /// Lets time pass, workers beating, and ends with a tick.
    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now = self.now.after(time);
        let now = self.now;
        self.board.values_mut().filter(|reading| reading.booted).for_each(|reading| reading.beat = Some(now));
        self.tick()
    }

    fn tick(&mut self) -> Vec<Action> {
        let readings: Vec<SlotReading> = self.board.values().copied().collect();
        self.feed(MasterEvent::Tick(&readings))
    }

    /// The worker of this age says that it has booted and begun a request, and the master looks.
    fn boot(&mut self, age: u64) -> Vec<Action> {
        let reading = self.board.get_mut(&age).expect("a living worker");
        reading.booted = true;
        reading.requests = 1;
        self.pass(SECOND / 20)
    }

    fn boot_all(&mut self) {
        for reading in self.board.values_mut() {
            reading.booted = true;
            reading.requests = 1;
        }
        self.pass(SECOND);
    }

    fn ages(&self) -> Vec<u64> {
        self.board.keys().copied().collect()
    }

    /// Ages of workers that have not been told to stop.
    fn active(&self) -> Vec<u64> {
        self.state.workers.iter().filter(|worker| !worker.stopping).map(|worker| worker.age).collect()
    }
}

fn fresh(age: u64) -> SlotReading {
    SlotReading {
        age,
        beat: None,
        booted: false,
        connections: 0,
        requests: 0,
        accepting: Accepting::No,
        leaving: false,
    }
}

/// The kills among actions.
fn kills(actions: &[Action]) -> Vec<Action> {
    actions.iter().filter(|action| matches!(action, Action::Kill { .. })).cloned().collect()
}

/// The log lines among actions.
fn lines(actions: &[Action]) -> Vec<(Level, &str)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Log(level, text) => Some((*level, text.as_str())),
            _ => None,
        })
        .collect()
}

fn forks(actions: &[Action]) -> Vec<u64> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Fork { age } => Some(*age),
            _ => None,
        })
        .collect()
}

fn exit_status(actions: &[Action]) -> Option<i32> {
    actions.iter().find_map(|action| match action {
        Action::Exit(status) => Some(*status),
        _ => None,
    })
}
