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
use super::state::{MasterState, log};
use rgunicorn_io::sys::process::{ChildExit, Pid};

impl MasterState {
    /// A master that a living one has started in its place.
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

    /// The end of the heir, if it is its end.
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

    /// This process's parent is `pid`. If it is not the master that has started us, that one has gone.
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
