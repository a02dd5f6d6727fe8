//! The executor's part of an upgrade in place: starting a new master, and taking the names of the old one.
//!
//! The fork is Python's, through [`super::Host::fork`], because the hook `pre_exec` is Python and runs in the
//! child. The image that the child needs to become the new program is made before the fork. The sockets are
//! inheritable in the child only, so no program that a worker or the master runs can get them.

use super::event::{Action, MasterEvent};
use super::master::{Master, SIGNALS, pid_path};
use super::state::NEW_MASTER_SUFFIX;
use super::{ForkSide, HookEvent, Level, PARENT_VARIABLE, SOCKETS_VARIABLE};
use rgunicorn_io::sys::exec::Image;
use rgunicorn_io::sys::pidfile::PidFile;
use rgunicorn_io::sys::process::{self, Pid};
use rgunicorn_io::sys::signal::{self, Blocked};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, RawFd};

impl Master<'_> {
    /// Forks a child that becomes the same program, as it was started, with our sockets (USR2).
    pub(super) fn upgrade(&mut self) -> ControlFlow<i32, Vec<Action>> {
        let sockets: Vec<RawFd> =
            self.listener_set.listeners.iter().map(|listener| listener.as_fd().as_raw_fd()).collect();
        let numbers: Vec<String> = sockets.iter().map(RawFd::to_string).collect();
        let variables = [(PARENT_VARIABLE, process::id().to_string()), (SOCKETS_VARIABLE, numbers.join(","))];
        let forked = self.program.image(&variables).and_then(|image| {
            let blocked = signal::block(&SIGNALS)?;
            Ok((self.host.fork()?, image, blocked))
        });
        match forked {
            Ok((ForkSide::Parent(pid), _, blocked)) => {
                drop(blocked);
                self.answer(MasterEvent::UpgradeStarted { pid })
            }
            Ok((ForkSide::Child, image, blocked)) => self.become_master(&image, &sockets, blocked),
            Err(error) => self.answer(MasterEvent::UpgradeFailed(&error.to_string())),
        }
    }

    /// Executes the new program, in the child. Signals get their default actions and are let through: the
    /// program must not start with any blocked, and one that comes before it has its handlers ends it, as it
    /// would end any program.
    fn become_master(&mut self, image: &Image, sockets: &[RawFd], blocked: Blocked) -> ! {
        if let Some(signals) = self.signals.take() {
            signals.leave_in_child();
        }
        if let Err(status) = self.host.event(HookEvent::PreExec) {
            process::exit_now(status);
        }
        drop(blocked);
        let Err(error) = image.exec(sockets);
        self.host.log(Level::Error, format_args!("Cannot start a new master: {error}"));
        process::exit_now(1)
    }

    /// Takes the names of the old master, which has gone.
    pub(super) fn promote(&mut self, old_master: Pid) {
        self.host.became_master();
        self.set_title("master");
        let Some(path) = pid_path(&self.listener_set.config, self.state.suffix()) else { return };
        match PidFile::create_after(&path, old_master) {
            Ok(created) => {
                if let Some(before) = self.pidfile.replace(created) {
                    before.remove();
                }
            }
            Err(error) => self.host.log(Level::Error, format_args!("{error}")),
        }
    }

    /// Removes the pid file of a new master that could not do so itself, because it was killed.
    pub(super) fn remove_new_master_pidfile(&self, pid: Pid) {
        if let Some(path) = pid_path(&self.listener_set.config, NEW_MASTER_SUFFIX) {
            PidFile::of(path, pid).remove();
        }
    }
}
