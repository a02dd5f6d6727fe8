//! USR2 and WINCH: two masters on the same sockets, and a master without workers.

use super::*;

impl World {
    /// A serving master that the master [`PARENT`] has started.
    fn new_master(workers: u32) -> Self {
        let mut world = Self::unbooted(0);
        world.state = MasterState::new(limits(workers)).started_by(Some(OLD_MASTER));
        world.feed(MasterEvent::Started);
        world.boot_all();
        world
    }

    fn daemon(workers: u32) -> Self {
        let mut world = Self::serving(workers);
        world.state.limits.daemon = true;
        world
    }

    fn new_master_ends(&mut self, exit: ChildExit) -> Vec<Action> {
        self.feed(MasterEvent::Ended { pid: NEW_MASTER, exit, reading: None })
    }
}

fn unlinks(actions: &[Action]) -> Option<bool> {
    actions.iter().find_map(|action| match action {
        Action::CloseListeners { unlink } => Some(*unlink),
        _ => None,
    })
}

#[test]
fn a_second_upgrade_waits_for_the_end_of_the_first() {
    let mut world = World::serving(2);
    assert!(world.signal(Signal::USR2).contains(&Action::Upgrade));
    let actions = world.signal(Signal::USR2);
    assert_eq!(actions[1..], [logged(Level::Warning, "USR2 signal ignored. Child exists.")]);
    world.new_master_ends(ChildExit::Code(1));
    assert!(world.signal(Signal::USR2).contains(&Action::Upgrade));
    assert_eq!(world.active(), [1, 2], "the workers have noticed nothing");
}

#[test]
fn a_new_master_is_not_upgraded_before_its_promotion() {
    let mut world = World::new_master(1);
    let actions = world.signal(Signal::USR2);
    assert_eq!(actions[1..], [logged(Level::Warning, "USR2 signal ignored. Parent exists.")]);
    world.feed(MasterEvent::Parent(1));
    assert!(world.signal(Signal::USR2).contains(&Action::Upgrade));
}

#[test]
fn the_end_of_a_new_master_changes_nothing() {
    let table = [
        (ChildExit::Code(0), Level::Info, "New master (pid:500) has left. This one goes on."),
        (ChildExit::Code(1), Level::Error, "New master (pid:500) exited with code 1. This one goes on."),
        (ChildExit::Code(3), Level::Error, "New master (pid:500) exited with code 3. This one goes on."),
        (
            ChildExit::Signal(Signal::KILL),
            Level::Error,
            "New master (pid:500) was sent SIGKILL. This one goes on.",
        ),
    ];
    for (exit, level, line) in table {
        let mut world = World::unbooted(2);
        world.signal(Signal::USR2);
        let actions = world.new_master_ends(exit);
        assert_eq!(
            actions,
            [logged(level, line), Action::RemoveNewMasterPidFile { pid: NEW_MASTER }, share(2, false)],
            "{exit:?}"
        );
        assert_eq!(unlinks(&world.signal(Signal::TERM)), Some(true), "its own again");
    }
}

#[test]
fn a_failed_fork_leaves_everything_as_it_was() {
    let mut world = World::serving(1);
    world.forks_fail = true;
    let actions = world.signal(Signal::USR2);
    let line = (Level::Error, "Upgrade failed, nothing has changed: EAGAIN");
    assert_eq!(lines(&actions)[1..], [line]);
    world.forks_fail = false;
    assert!(world.signal(Signal::USR2).contains(&Action::Upgrade));
}

#[test]
fn promotion() {
    let mut world = World::new_master(1);
    assert_eq!((world.state.suffix(), world.state.is_new_master()), (".2", true));
    assert_eq!(world.feed(MasterEvent::Parent(OLD_MASTER)), []);
    let line = logged(Level::Info, "Master has been promoted.");
    let promoted = [line, Action::Promote { old_master: OLD_MASTER }, share(1, false)];
    assert_eq!(world.feed(MasterEvent::Parent(1)), promoted);
    assert_eq!((world.state.suffix(), world.state.is_new_master()), ("", false));
    assert_eq!(world.feed(MasterEvent::Parent(1)), []);
}

#[test]
fn socket_files_stay_while_another_master_serves_on_them() {
    for signal in [Signal::TERM, Signal::QUIT, Signal::INT] {
        let mut old = World::serving(1);
        old.signal(Signal::USR2);
        assert_eq!(unlinks(&old.signal(signal)), Some(false), "{signal}: the new master has them");
        assert_eq!(
            unlinks(&World::new_master(1).signal(signal)),
            Some(false),
            "{signal}: the old master has them"
        );
        let mut promoted = World::new_master(1);
        promoted.feed(MasterEvent::Parent(1));
        assert_eq!(unlinks(&promoted.signal(signal)), Some(true), "{signal}: nobody else");
    }
    let mut old = World::serving(1);
    old.signal(Signal::USR2);
    old.signal(Signal::HUP);
    assert!(old.boot(2).contains(&Action::Commit { unlink: false }), "nor does a reload remove them");
}

#[test]
fn workers_know_whether_another_master_is_there() {
    let told = |actions: &[Action]| {
        actions.iter().rev().find_map(|action| match action {
            Action::ShareWorkers { workers, other_master } => Some((*workers, *other_master)),
            _ => None,
        })
    };
    let mut old = World::serving(1);
    assert_eq!(told(&old.signal(Signal::USR2)), Some((1, true)));
    old.signal(Signal::TTIN);
    assert_eq!(told(&old.signal(Signal::TTOU)), Some((1, true)));
    assert_eq!(told(&old.new_master_ends(ChildExit::Code(0))), Some((1, false)));
    let mut new = World::unbooted(0);
    new.state = MasterState::new(limits(1)).started_by(Some(OLD_MASTER));
    assert_eq!(told(&new.feed(MasterEvent::Started)), Some((1, true)));
    assert_eq!(told(&new.feed(MasterEvent::Parent(1))), Some((1, false)));
}

#[test]
fn workers_of_a_server_that_stops_know_when_the_other_master_is_gone() {
    let mut old = World::serving(1);
    old.signal(Signal::USR2);
    old.signal(Signal::TERM);
    assert!(old.new_master_ends(ChildExit::Code(3)).contains(&share(0, false)), "what waits is theirs then");
}

#[test]
fn a_new_master_names_itself_in_the_log() {
    let mut world = World::new_master(1);
    assert!(lines(&world.signal(Signal::HUP)).contains(&(Level::Info, "Hang up: Master.2")));
    let mut world = World::new_master(0);
    assert!(lines(&world.signal(Signal::TERM)).contains(&(Level::Info, "Shutting down: Master.2")));
}

#[test]
fn a_new_master_that_is_told_to_stop_after_its_parent_has_gone_cleans_up() {
    let mut world = World::new_master(1);
    // The look at the parent comes first in each turn.
    world.feed(MasterEvent::Parent(1));
    assert_eq!(unlinks(&world.signal(Signal::TERM)), Some(true));
}

#[test]
fn the_promotion_of_a_stopping_new_master_gives_it_its_names_too() {
    let mut world = World::new_master(1);
    world.signal(Signal::TERM);
    assert!(world.feed(MasterEvent::Parent(1)).contains(&Action::Promote { old_master: OLD_MASTER }));
}

#[test]
fn a_stopping_master_starts_no_other() {
    let mut world = World::serving(1);
    world.signal(Signal::TERM);
    assert_eq!(world.signal(Signal::USR2), []);
}

#[test]
fn winch_sends_a_daemon_s_workers_home() {
    let mut world = World::daemon(2);
    let actions = world.signal(Signal::WINCH);
    assert!(lines(&actions).contains(&(Level::Info, "graceful stop of workers")));
    assert!(actions.contains(&Action::Hook(HookEvent::NumWorkersChanged { new: 0, old: Some(2) })));
    assert_eq!(kills(&actions), [kill(1, Signal::TERM), kill(2, Signal::TERM)]);
    assert_eq!(unlinks(&actions), None, "connections queue");
    for age in [1, 2] {
        assert_eq!(forks(&world.end(age, ChildExit::Code(0))), [0_u64; 0]);
    }
    assert_eq!(exit_status(&world.pass(SECOND)), None);
    assert_eq!(kills(&world.signal(Signal::WINCH)), [], "once more means the same");
    assert!(forks(&world.signal(Signal::TTOU)).is_empty());
}

#[test]
fn workers_come_back_after_winch() {
    let mut world = World::daemon(2);
    world.reload = Ok(WorkerLimits { daemon: true, ..limits(2) });
    world.signal(Signal::WINCH);
    assert_eq!(forks(&world.signal(Signal::TTIN)), [3], "one for each TTIN");
    let mut world = World::daemon(2);
    world.signal(Signal::WINCH);
    world.end(1, ChildExit::Code(0));
    world.end(2, ChildExit::Code(0));
    assert_eq!(forks(&world.signal(Signal::HUP)), [3], "all by HUP, the first one on trial");
    assert_eq!(forks(&world.boot(3)), [4]);
}

#[test]
fn winch_gives_up_a_reload_on_trial() {
    let mut world = World::daemon(1);
    world.reload = Ok(WorkerLimits { daemon: true, ..limits(3) });
    world.signal(Signal::HUP);
    let actions = world.signal(Signal::WINCH);
    assert!(actions.contains(&Action::Rollback));
    assert_eq!(kills(&actions), [kill(2, Signal::TERM), kill(1, Signal::TERM)]);
    assert_eq!(forks(&world.pass(SECOND)), [0_u64; 0]);
}

#[test]
fn all_workers_leave_after_winch_those_of_before_a_reload_too() {
    let mut world = World::daemon(2);
    world.reload = Ok(WorkerLimits { daemon: true, ..limits(2) });
    world.signal(Signal::HUP);
    world.boot(3);
    assert_eq!(world.active(), [2, 3, 4]);
    let told = kills(&world.signal(Signal::WINCH));
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(world.active(), [0_u64; 0]);
}
