//! The executor: turns signals, ended children and heartbeats into events, and performs the actions. It
//! decides nothing.

use super::event::{Action, MasterEvent, NotifyMessage};
use super::listener_set::{ListenerSet, SHARED_HINT, limits};
use super::master::{Master, SIGNALS, Trouble, WorkerRecord, create_pidfile, set_title};
use super::plan::plan;
use super::state::MasterState;
use super::{
    ArbiterConfig, ForkSide, HookEvent, Host, Launch, Level, STATUS_WORKER_BOOT_ERROR, WorkerContext,
};
use rgunicorn_io::sys::handoff::HandoffEvent;
use rgunicorn_io::sys::process::{self, Pid};
use rgunicorn_io::sys::shared::{Scoreboard, Slot, SlotReading};
use rgunicorn_io::sys::signal::{self, Blocked, Signal, SignalQueue};
use rgunicorn_io::sys::{
    clock,
    listener::{ListenAddress, Listener},
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::ops::ControlFlow::{self, Break, Continue};
use std::os::fd::RawFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Between two turns when the wait for signals fails.
const FAILED_WAIT_PAUSE: Duration = Duration::from_millis(100);

/// Runs the server: opens the addresses of `config`, or takes their sockets over as `launch` says, keeps
/// workers alive, and returns the exit status. It returns in the master, and in each worker after
/// `Host::run_worker`: the caller lets the interpreter finalize in both.
///
/// There can be one master at a time in a process: signal dispositions are the process's.
pub fn run(host: &mut dyn Host, config: ArbiterConfig, launch: Launch) -> i32 {
    match Master::start(host, config, launch) {
        Ok(master) => master.serve(),
        Err(status) => status,
    }
}

impl<'h> Master<'h> {
    /// Starts up in Gunicorn's order: pid file, `on_starting`, signals, sockets, `when_ready`.
    ///
    /// # Errors
    /// The exit status, after the failure has been reported.
    fn start(host: &'h mut dyn Host, config: ArbiterConfig, launch: Launch) -> Result<Self, i32> {
        let Launch { program, old_master, activated, notifier, watchdog } = launch;
        let config = with_activated(config, &activated);
        let old_pid = old_master.as_ref().map(|old_master| old_master.pid);
        let mut state = MasterState::new(limits(&config)).started_by(old_pid);
        if notifier.is_some() {
            state = state.notifying(watchdog);
        }
        set_title(host, "master", &config, state.suffix());
        host.event(HookEvent::NumWorkersChanged { new: config.workers, old: None })?;
        host.log(Level::Info, format_args!("Starting rgunicorn {}", config.version));
        let pidfile = match create_pidfile(&config, state.suffix()) {
            Ok(pidfile) => pidfile,
            Err(error) => {
                host.startup_error(&error.to_string());
                return Err(1);
            }
        };
        let remove_pidfile = || {
            if let Some(pidfile) = &pidfile {
                pidfile.remove();
            }
        };
        host.event(HookEvent::OnStarting).inspect_err(|_| remove_pidfile())?;
        let resources = Scoreboard::new().and_then(|board| Ok((board, SignalQueue::install(&SIGNALS)?)));
        let opened = match resources {
            Ok((board, signals)) => ListenerSet::start(host, config, old_master.as_ref())
                .map(|listener_set| (board, signals, listener_set)),
            Err(error) => {
                host.startup_error(&error.to_string());
                Err(1)
            }
        };
        let (board, signals, mut listener_set) = opened.inspect_err(|_| remove_pidfile())?;
        log_start(host, &listener_set, &board);
        host.listening(&listener_set.listeners);
        host.event(HookEvent::WhenReady).inspect_err(|_| {
            remove_pidfile();
            listener_set.close(!state.shares_sockets());
        })?;
        let (slots, signals) = (HashMap::new(), Some(signals));
        Ok(Self {
            host,
            state,
            listener_set,
            candidate: None,
            signals,
            board,
            slots,
            told: HashSet::new(),
            pidfile,
            program,
            activated,
            notifier,
        })
    }

    /// Runs the loop. A turn: sleep, signals in order, ended children, heartbeats and counts.
    fn serve(mut self) -> i32 {
        let mut turn = self.apply(MasterEvent::Started);
        loop {
            // A hook, or a thread that one has started, may have asked for another number of workers.
            if let (Continue(()), Some(workers)) = (turn, self.host.take_wanted()) {
                turn = self.apply(MasterEvent::Wanted(workers));
            }
            if let Break(status) = turn {
                if let Some(signals) = self.signals.take() {
                    signals.detach();
                }
                return status;
            }
            self.sleep();
            turn = self.turn();
            if turn.is_continue() {
                self.host.counted(self.slots.len());
            }
        }
    }

    fn sleep(&mut self) {
        let timeout = self.state.wait(clock::now());
        if let Some(signals) = &self.signals {
            let mut waited = Ok(());
            self.host.blocking(&mut || {
                waited = signals
                    .wait_also_for(self.board.master_wakeup(), timeout)
                    .and_then(|()| self.board.drain_master_wakeup());
                if waited.is_err() {
                    // It would go on without a rest; all else works, so the master looks after its workers still.
                    std::thread::sleep(timeout.min(FAILED_WAIT_PAUSE));
                }
            });
            if let Err(error) = waited {
                self.tell_once(Trouble::Wait, &error);
            }
        }
    }

    /// Logs an error that comes again with each turn, the first time. It holds up nothing but this one thing.
    fn tell_once(&mut self, trouble: Trouble, error: &io::Error) {
        if self.told.insert(trouble) {
            let what = match trouble {
                Trouble::Wait => "Cannot wait for signals, looking for them instead",
                Trouble::Reap => "Cannot ask for the ends of workers",
            };
            self.host.log(Level::Error, format_args!("{what}: {error}"));
        }
    }

    fn turn(&mut self) -> ControlFlow<i32> {
        if let Err(status) = self.host.check_signals() {
            self.apply(MasterEvent::Leave(status))?;
        }
        if self.state.is_new_master() {
            self.apply(MasterEvent::Parent(process::parent_id()))?;
        }
        while let Some(signal) = self.signals.as_mut().and_then(SignalQueue::take) {
            // An upgrade is ignored while there is a new master. One that ended before the signal came is none.
            if signal == Signal::USR2 {
                self.reap()?;
            }
            self.apply(MasterEvent::Signal(signal))?;
        }
        self.reap()?;
        let readings: Vec<SlotReading> = self.board.readings().collect();
        self.apply(MasterEvent::Tick(&readings))?;
        match self.board.recycling() {
            Some(age) => self.apply(MasterEvent::Recycling { age }),
            None => Continue(()),
        }
    }

    /// Feeds the children that have ended into the table.
    fn reap(&mut self) -> ControlFlow<i32> {
        loop {
            let (pid, exit) = match process::reap() {
                Ok(Some(ended)) => ended,
                Ok(None) => return Continue(()),
                Err(error) => {
                    self.tell_once(Trouble::Reap, &error);
                    return Continue(());
                }
            };
            let reading = self.slots.get(&pid).map(|record| record.slot.read());
            self.apply(MasterEvent::Ended { pid, exit, reading })?;
        }
    }

    /// Feeds an event to the table, performs the actions that come out, and then those that their answers
    /// lead to.
    fn apply(&mut self, event: MasterEvent<'_>) -> ControlFlow<i32> {
        let mut actions = VecDeque::from(plan(&mut self.state, event, clock::now()));
        while let Some(action) = actions.pop_front() {
            actions.extend(self.perform(action)?);
        }
        Continue(())
    }

    fn perform(&mut self, action: Action) -> ControlFlow<i32, Vec<Action>> {
        match action {
            Action::Log(level, text) => self.host.log(level, format_args!("{text}")),
            Action::Fork { age } => return self.fork(age),
            Action::Kill { pid, signal } => self.kill(pid, signal),
            Action::Release { pid } => {
                if let Some(record) = self.slots.remove(&pid) {
                    record.slot.release();
                }
            }
            Action::EndRecycling { age } => self.board.end_recycling(age),
            Action::ShareWorkers { workers, other_master } => {
                self.board.set_workers(workers);
                self.board.set_other_master(other_master);
            }
            Action::Reload => return self.reload(),
            Action::Commit { unlink } => self.commit(unlink),
            Action::Rollback => self.rollback(),
            Action::ReopenLogs => self.host.reopen_logs(),
            Action::Hook(event) => return self.hook(event),
            Action::Upgrade => return self.upgrade(),
            Action::Promote { old_master } => self.promote(old_master),
            Action::RemoveNewMasterPidFile { pid } => self.remove_new_master_pidfile(pid),
            Action::Notify(notice) => self.notify(notice),
            Action::CloseListeners { unlink } => {
                self.rollback();
                if self.board.has_other_master() {
                    self.mark_all_replaced();
                }
                self.listener_set.close(unlink);
                self.host.listening(&[]);
                // Tells the workers, also those that are leaving already, that no worker of this server will
                // accept.
                self.board.set_workers(0);
            }
            Action::RemovePidFile => {
                if let Some(pidfile) = self.pidfile.take() {
                    pidfile.remove();
                }
            }
            Action::Exit(status) => {
                self.report_handoffs();
                return Break(status);
            }
        }
        Continue(Vec::new())
    }

    /// Says what has become of connections that workers have given to each other.
    fn report_handoffs(&mut self) {
        let count = |event: HandoffEvent| (self.board.handoffs(event), event.name());
        let counts = HandoffEvent::ALL.into_iter().map(count).filter(|(count, _)| *count > 0);
        let told: Vec<_> = counts.map(|(count, name)| format!("{count} {name}")).collect();
        if !told.is_empty() {
            self.host
                .log(Level::Debug, format_args!("Connections at the handoff queue: {}", told.join(", ")));
        }
    }

    /// Runs the hooks of a moment, which may ask for the end of the server or for another number of workers.
    fn hook(&mut self, event: HookEvent) -> ControlFlow<i32, Vec<Action>> {
        if let Err(status) = self.host.event(event) {
            // After the last one there is nothing left to do.
            return if event == HookEvent::OnExit {
                Break(status)
            } else {
                self.answer(MasterEvent::Leave(status))
            };
        }
        match self.host.take_wanted() {
            Some(workers) => self.answer(MasterEvent::Wanted(workers)),
            None => Continue(Vec::new()),
        }
    }

    fn kill(&mut self, pid: Pid, signal: Signal) {
        if signal == Signal::ABRT {
            self.host.aborting(pid);
        }
        if signal == Signal::TERM
            && let Some(record) = self.slots.get(&pid).filter(|record| self.are_kept(&record.listeners))
        {
            record.slot.mark_replaced();
        }
        // `Ok(false)`: the worker has gone; its end will be reaped in this turn or the next.
        if let Err(error) = process::kill(pid, signal) {
            self.host.log(Level::Error, format_args!("Cannot send {signal} to worker (pid:{pid}): {error}"));
        }
    }

    /// Marks all workers as replaced whose sockets another master goes on with.
    fn mark_all_replaced(&self) {
        for record in self.slots.values().filter(|record| self.are_kept(&record.listeners)) {
            record.slot.mark_replaced();
        }
    }

    /// Returns whether these listeners are open still: the server has not begun to stop, and no reload has
    /// given them up.
    fn are_kept(&self, listeners: &[Weak<Listener>]) -> bool {
        let kept = |listener: &Weak<Listener>| {
            self.listener_set.listeners.iter().any(|kept| std::ptr::eq(Arc::as_ptr(kept), listener.as_ptr()))
        };
        listeners.iter().all(kept)
    }

    fn notify(&mut self, notice: NotifyMessage) {
        let Some(notifier) = &self.notifier else { return };
        if let Err(error) = notifier.send(&notice.text(clock::now())) {
            // Signs of life are frequent, and each one lost would be a warning.
            let level = if notice == NotifyMessage::Alive { Level::Debug } else { Level::Warning };
            self.host.log(level, format_args!("Cannot notify the service manager: {error}"));
        }
    }

    fn fork(&mut self, age: u64) -> ControlFlow<i32, Vec<Action>> {
        let Some(slot) = self.board.claim(age) else {
            return self.answer(MasterEvent::ForkFailed { age, error: "no free slot on the score-board" });
        };
        if let Err(status) = self.host.event(HookEvent::PreFork { age }) {
            slot.release();
            return self.answer(MasterEvent::PreForkFailed { age, status });
        }
        let ppid = process::id();
        // From here until the worker's own handlers stand, signals wait: none may reach the child while the
        // handlers in it are still the master's.
        let forked = signal::block(&SIGNALS).and_then(|blocked| Ok((self.host.fork()?, blocked)));
        match forked {
            Ok((ForkSide::Parent(pid), blocked)) => {
                drop(blocked);
                let listeners = &self.candidate.as_ref().unwrap_or(&self.listener_set).listeners;
                let listeners = listeners.iter().map(Arc::downgrade).collect();
                self.slots.insert(pid, WorkerRecord { slot, listeners });
                let _ = self.host.event(HookEvent::Forked { age, pid });
                self.answer(MasterEvent::Forked { age, pid })
            }
            Ok((ForkSide::Child, blocked)) => Break(self.become_worker(age, ppid, slot, blocked)),
            Err(error) => {
                slot.release();
                let _ = self.host.event(HookEvent::NotForked { age });
                self.answer(MasterEvent::ForkFailed { age, error: &error.to_string() })
            }
        }
    }

    /// Runs the worker, in the child, for its whole life. Nothing of the master may act in it: its signal
    /// queue goes, its pid file and socket files are left alone (neither does anything on drop), sockets that
    /// are not this worker's are closed.
    fn become_worker(&mut self, age: u64, ppid: Pid, slot: Slot, blocked: Blocked) -> i32 {
        if let Some(signals) = self.signals.take() {
            signals.leave_in_child();
        }
        self.slots.clear();
        self.pidfile = None;
        if let Some(candidate) = self.candidate.take() {
            self.listener_set = candidate;
        }
        let config = Arc::clone(&self.listener_set.config);
        self.set_title("worker");
        let pid = process::id();
        self.host.log(Level::Info, format_args!("Booting worker with pid: {pid}"));
        let status = match self.listener_set.take_listeners() {
            Ok(listeners) => {
                let slot = slot.claim_for_child();
                self.host.run_worker(WorkerContext { age, ppid, slot, listeners, config, blocked })
            }
            Err(error) => {
                self.host.log(Level::Error, format_args!("{error}"));
                STATUS_WORKER_BOOT_ERROR
            }
        };
        self.host.log(Level::Info, format_args!("Worker exiting (pid: {pid})"));
        let _ = self.host.event(HookEvent::WorkerExit { age });
        // The interpreter takes the handlers away at its end, and a signal that comes then (the master's
        // second TERM) would be the end of this process in place of its status. The master has SIGKILL for
        // one that does not end.
        if let Ok(blocked) = signal::block(&SIGNALS) {
            std::mem::forget(blocked);
        }
        status
    }

    fn reload(&mut self) -> ControlFlow<i32, Vec<Action>> {
        let config = match self.host.reload() {
            Ok(config) => with_activated(config, &self.activated),
            Err(error) => return self.answer(MasterEvent::ReloadFailed(&error)),
        };
        match self.listener_set.next(config) {
            Ok(next) => {
                if !are_same(&next.listeners, &self.listener_set.listeners) {
                    self.host.log(Level::Info, format_args!("Listening at: {}", next.addresses()));
                }
                if next.shares_despite_reuse_port() {
                    self.host.log(Level::Warning, format_args!("{SHARED_HINT}"));
                }
                let limits = limits(&next.config);
                self.candidate = Some(next);
                self.answer(MasterEvent::Reloaded(limits))
            }
            Err(error) => {
                self.host.reload_done(false);
                self.answer(MasterEvent::ReloadFailed(&error))
            }
        }
    }

    fn commit(&mut self, unlink: bool) {
        let Some(next) = self.candidate.take() else { return };
        let before = std::mem::replace(&mut self.listener_set, next);
        if unlink {
            before.unlink_beyond(&self.listener_set);
        }
        self.host.listening(&self.listener_set.listeners);
        self.rewrite_pidfile();
        self.set_title("master");
        self.host.reload_done(true);
    }

    fn rollback(&mut self) {
        if let Some(rejected) = self.candidate.take() {
            rejected.unlink_beyond(&self.listener_set);
            self.host.reload_done(false);
        }
    }
}

/// Logs what the start has opened.
fn log_start(host: &mut dyn Host, listener_set: &ListenerSet, board: &Scoreboard) {
    host.log(Level::Debug, format_args!("Arbiter booted"));
    host.log(Level::Info, format_args!("Listening at: {} ({})", listener_set.addresses(), process::id()));
    if listener_set.shares_despite_reuse_port() {
        host.log(Level::Warning, format_args!("{SHARED_HINT}"));
    }
    host.log(Level::Info, format_args!("Using worker: {}", listener_set.config.worker_name));
    if let Err(error) = board.handoff() {
        host.log(
            Level::Warning,
            format_args!("Connections end with their worker, since there is no handoff: {error}"),
        );
    }
}

/// Puts the sockets of the service manager, if it has opened any, in the place of the configuration's
/// addresses.
fn with_activated(mut config: ArbiterConfig, activated: &[RawFd]) -> ArbiterConfig {
    if !activated.is_empty() {
        config.binds = activated.iter().map(|fd| ListenAddress::Fd(*fd)).collect();
    }
    config
}

fn are_same(left: &[Arc<Listener>], right: &[Arc<Listener>]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| Arc::ptr_eq(left, right))
}
