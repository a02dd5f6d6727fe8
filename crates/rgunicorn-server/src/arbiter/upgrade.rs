//! What USR2 adds to the decision table: the upgrade in place.
//!
//! 1. USR2: the master forks, and the child becomes the same command line once more, with the listening sockets and the id
//!    of its parent. It is the new_master: its names end in `.2`, and it has workers of its own. Both serve.
//! 2. The parent is told to stop (TERM, or WINCH first), and leaves the socket files to its heir.
//! 3. The heir sees that its parent has gone, and is the master from then on: without `.2`.
//!
//! Back: the heir is told to stop, which leaves the socket files to its parent. A heir that ends by itself, because it
//! cannot start, changes nothing for its parent.

use super::Level;
use super::event::Action;
use super::plan::{MasterState, log};
use rgunicorn_io::sys::process::{ChildExit, Pid};

/// What the names of a heir end in: of the pid file, of process titles, in log lines.
pub(super) const NEW_MASTER_SUFFIX: &str = ".2";

/// Who else has this master's sockets. At most one of them is there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reexec {
    /// The master before this one, while it lives.
    parent: Option<Pid>,
    /// The master after this one, while it is our child.
    new_master: Option<Pid>,
}

impl MasterState {
    /// A master that a living one has started in its place.
    #[must_use]
    pub fn started_by(mut self, parent: Option<Pid>) -> Self {
        self.reexec.parent = parent;
        self
    }

    /// `.2` for a heir, else nothing.
    pub(super) fn suffix(&self) -> &'static str {
        if self.is_new_master() { NEW_MASTER_SUFFIX } else { "" }
    }

    pub(super) fn is_new_master(&self) -> bool {
        self.reexec.parent.is_some()
    }

    pub(super) fn new_master(&self) -> Option<Pid> {
        self.reexec.new_master
    }

    /// Another master serves on our sockets: their files are not ours to remove.
    pub(super) fn shares_sockets(&self) -> bool {
        self.reexec.parent.or(self.reexec.new_master).is_some()
    }

    /// Tells the workers how many they are to be, and whether others go on when they are told to leave.
    pub(super) fn share_target(&self, out: &mut Vec<Action>) {
        let workers = if self.is_stopping() { 0 } else { self.target };
        out.push(Action::ShareWorkers { workers, company: self.shares_sockets() });
    }

    pub(super) fn upgrade(&mut self, out: &mut Vec<Action>) {
        if self.reexec.new_master.is_some() {
            log(out, Level::Warning, "USR2 signal ignored. Child exists.");
        } else if self.is_new_master() {
            log(out, Level::Warning, "USR2 signal ignored. Parent exists.");
        } else {
            out.push(Action::Upgrade);
        }
    }

    pub(super) fn upgrade_started(&mut self, pid: Pid, out: &mut Vec<Action>) {
        self.reexec.new_master = Some(pid);
        log(out, Level::Info, format!("Upgrade: starting a new master (pid:{pid})"));
        self.share_target(out);
    }

    /// The end of the heir, if it is its end.
    pub(super) fn heir_ended(&mut self, pid: Pid, exit: ChildExit, out: &mut Vec<Action>) -> bool {
        if self.reexec.new_master != Some(pid) {
            return false;
        }
        self.reexec.new_master = None;
        let (level, how) = match exit {
            ChildExit::Code(0) => (Level::Info, "has left".to_owned()),
            ChildExit::Code(code) => (Level::Error, format!("exited with code {code}")),
            ChildExit::Signal(signal) => (Level::Error, format!("was sent {signal}")),
        };
        log(out, level, format!("New master (pid:{pid}) {how}. This one goes on."));
        out.push(Action::RemoveNewMasterPidFile { pid });
        self.share_target(out);
        true
    }

    /// This process's parent is `pid`. If it is not the master that has started us, that one has gone.
    pub(super) fn parent_is(&mut self, pid: Pid, out: &mut Vec<Action>) {
        if let Some(former) = self.reexec.parent
            && former != pid
        {
            self.reexec.parent = None;
            log(out, Level::Info, "Master has been promoted.");
            out.push(Action::Promote { former });
            self.share_target(out);
        }
    }

    /// WINCH: a daemon sends its workers home and stays, with the sockets open. HUP or TTIN bring workers back.
    pub(super) fn stop_workers(&mut self, out: &mut Vec<Action>) {
        if !self.limits.daemon {
            return log(out, Level::Debug, "SIGWINCH ignored. Not daemonized");
        }
        log(out, Level::Info, "graceful stop of workers");
        self.reject_trial("all workers are told to stop", out);
        self.set_target(0, out);
    }
}
