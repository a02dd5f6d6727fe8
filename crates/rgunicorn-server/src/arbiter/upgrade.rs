//! The rows of an upgrade in place (USR2) in the decision table.
//!
//! 1. USR2: the master forks, and the child executes the same command line once more, with the listening
//!    sockets and the id of its parent. It is the new master: its names end in `.2`, and it has workers of
//!    its own. Both serve.
//! 2. The operator tells the old master to stop (TERM, or WINCH first), and it leaves the socket files to the
//!    new one.
//! 3. The new master sees that its parent has gone, and is the master from then on: without `.2`.
//!
//! Back: the operator tells the new master to stop, which leaves the socket files to the old one. A new
//! master that ends by itself, because it cannot start, changes nothing for the old one.

use super::Level;
use super::event::Action;
use super::state::{MasterState, log};
use rgunicorn_io::sys::process::{ChildExit, Pid};

impl MasterState {
    /// Makes this a new master, which `old_master` has started in its place; none for the first master of a
    /// server.
    #[must_use]
    pub fn started_by(mut self, old_master: Option<Pid>) -> Self {
        self.reexec.old_master = old_master;
        self
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

    /// Handles the end of the new master. `false`: the ended process is not the new master.
    pub(super) fn new_master_ended(&mut self, pid: Pid, exit: ChildExit, out: &mut Vec<Action>) -> bool {
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

    /// Compares this process's parent with the master that has started it: if they differ, that master has
    /// gone.
    pub(super) fn parent_is(&mut self, pid: Pid, out: &mut Vec<Action>) {
        if let Some(old_master) = self.reexec.old_master
            && old_master != pid
        {
            self.reexec.old_master = None;
            log(out, Level::Info, "Master has been promoted.");
            out.push(Action::Promote { old_master });
            self.share_target(out);
        }
    }
}
