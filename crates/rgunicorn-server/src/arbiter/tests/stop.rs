//! The ways out: graceful, quick, impatient, and because of a worker that cannot boot.

use super::*;

fn the_end(status: i32) -> Vec<Action> {
    let level = if status == 0 { Level::Info } else { Level::Error };
    vec![
        logged(level, "Shutting down: Master"),
        Action::RemovePidFile,
        Action::Hook(HookEvent::OnExit),
        Action::Exit(status),
    ]
}

#[test]
fn a_stop_ends_when_the_last_worker_has_gone() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut world = World::serving(2);
        world.signal(signal);
        assert_eq!(exit_status(&world.end(2, ChildExit::Code(0))), None);
        let actions = world.end(1, ChildExit::Code(0));
        assert!(actions.ends_with(&the_end(0)), "{signal}: {actions:?}");
        assert_eq!(world.tick(), [], "nothing happens after the end");
    }
}

#[test]
fn a_master_without_workers_ends_at_once() {
    let mut world = World::unbooted(0);
    assert!(world.signal(Signal::TERM).ends_with(&the_end(0)));
}

#[test]
fn workers_that_do_not_stop_are_killed_after_graceful_timeout() {
    // A graceful stop gives workers a moment more, to end by themselves what is in progress.
    for (signal, margin) in [(Signal::TERM, Duration::from_millis(1500)), (Signal::INT, Duration::ZERO)] {
        let mut world = World::serving(2);
        world.signal(signal);
        world.end(1, ChildExit::Code(0));
        assert_eq!(world.pass(SECOND * 29 + margin), []);
        assert_eq!(world.state.wait(world.now), SECOND);
        assert_eq!(world.pass(SECOND), [kill(2, Signal::KILL)]);
        let actions = world.end(2, ChildExit::Signal(Signal::KILL));
        let line = "Worker (pid:1002) was sent SIGKILL! It did not stop within graceful_timeout.";
        assert_eq!(lines(&actions)[0], (Level::Error, line));
        assert!(actions.ends_with(&the_end(0)));
    }
}

#[test]
fn a_worker_that_not_even_kill_ends_is_left_behind() {
    let mut world = World::serving(1);
    world.signal(Signal::TERM);
    assert_eq!(kills(&world.pass(SECOND * 32)), [kill(1, Signal::KILL)]);
    assert_eq!(world.pass(SECOND), []);
    assert_eq!(exit_status(&world.pass(SECOND)), Some(0));
}

#[test]
fn signals_while_stopping() {
    let quick =
        [logged(Level::Info, "Quick shutdown requested"), kill(1, Signal::QUIT), kill(2, Signal::QUIT)];
    for impatient in [Signal::INT, Signal::QUIT] {
        let mut world = World::serving(2);
        world.signal(Signal::TERM);
        assert_eq!(world.signal(impatient), quick);
        assert_eq!(world.signal(impatient), [], "once is enough");
        assert_eq!(kills(&world.pass(SECOND * 2)), [kill(1, Signal::KILL), kill(2, Signal::KILL)]);
    }
    let others = [
        Signal::TERM,
        Signal::HUP,
        Signal::USR1,
        Signal::USR2,
        Signal::TTIN,
        Signal::TTOU,
        Signal::WINCH,
        Signal::CHLD,
    ];
    for first in [Signal::TERM, Signal::QUIT] {
        for other in others {
            let mut world = World::serving(2);
            world.signal(first);
            assert_eq!(world.signal(other), [], "{other} after {first}");
        }
    }
    let mut world = World::serving(2);
    world.signal(Signal::QUIT);
    assert_eq!(world.signal(Signal::INT), [], "it is quick already");
}

#[test]
fn impatience_never_makes_the_wait_longer() {
    let mut world = World::serving(1);
    world.signal(Signal::TERM);
    world.pass(SECOND * 30);
    world.signal(Signal::INT);
    assert_eq!(kills(&world.pass(SECOND + SECOND / 2)), [kill(1, Signal::KILL)]);
}

#[test]
fn a_worker_that_cannot_boot_stops_the_server() {
    let table = [(3, "Reason: Worker failed to boot."), (4, "Reason: App failed to load.")];
    for (status, reason) in table {
        let mut world = World::unbooted(2);
        let actions = world.end(2, ChildExit::Code(status));
        assert_eq!(
            lines(&actions),
            [(Level::Error, format!("Worker (pid:1002) exited with code {status}.").as_str())]
        );
        assert_eq!(kills(&actions), [kill(1, Signal::TERM)]);
        assert!(forks(&actions).is_empty());
        let actions = world.end(1, ChildExit::Signal(Signal::TERM));
        let end = [
            logged(Level::Error, "Shutting down: Master"),
            logged(Level::Error, reason),
            Action::RemovePidFile,
            Action::Hook(HookEvent::OnExit),
            Action::Exit(status),
        ];
        assert!(actions.ends_with(&end), "{actions:?}");
    }
}

#[test]
fn boot_failures_count_at_any_time() {
    let mut world = World::serving(1);
    world.end(1, ChildExit::Signal(Signal::KILL));
    assert_eq!(exit_status(&world.end(2, ChildExit::Code(3))), Some(3), "a respawned worker");
    let mut world = World::unbooted(1);
    world.signal(Signal::TTIN);
    world.end(2, ChildExit::Code(4));
    assert_eq!(exit_status(&world.end(1, ChildExit::Code(0))), Some(4), "one more by TTIN");
}

#[test]
fn other_deaths_before_boot_are_respawned() {
    let mut world = World::unbooted(1);
    assert_eq!(forks(&world.end(1, ChildExit::Code(1))), [2]);
    assert_eq!(forks(&world.end(2, ChildExit::Signal(Signal(11)))), [0_u64; 0], "after a pause");
    assert_eq!(forks(&world.pass(SECOND)), [3]);
}

#[test]
fn boot_failures_while_stopping_do_not_change_the_status() {
    let mut world = World::unbooted(1);
    world.signal(Signal::TERM);
    assert_eq!(exit_status(&world.end(1, ChildExit::Code(3))), Some(0));
}

#[test]
fn a_python_handler_can_leave() {
    let mut world = World::serving(1);
    let actions = world.feed(MasterEvent::Leave(7));
    assert_eq!(actions, [Action::CloseListeners { unlink: true }, kill(1, Signal::QUIT)]);
    assert_eq!(exit_status(&world.end(1, ChildExit::Code(0))), Some(7));
}

#[test]
fn a_hook_that_fails_on_the_way_out_is_the_status() {
    let mut world = World::serving(2);
    world.signal(Signal::TERM);
    assert_eq!(
        world.feed(MasterEvent::Ended { pid: pid_of(1), exit: ChildExit::Code(0), reading: None }).len(),
        2
    );
    assert_eq!(world.feed(MasterEvent::Leave(1)), []);
    world.board.remove(&1);
    let actions = world.feed(MasterEvent::Ended { pid: pid_of(2), exit: ChildExit::Code(0), reading: None });
    assert_eq!(exit_status(&actions), None, "its child_exit is still to come");
    assert_eq!(exit_status(&world.feed(MasterEvent::Leave(2))), Some(1), "the first one counts");
}

#[test]
fn a_worker_born_into_a_stop_is_told_to_stop() {
    let mut state = MasterState::new(limits(1));
    let now = Instant(5);
    assert!(plan(&mut state, MasterEvent::Started, now).contains(&Action::Fork { age: 1 }));
    plan(&mut state, MasterEvent::Leave(0), now);
    let actions = plan(&mut state, MasterEvent::Forked { age: 1, pid: 1001 }, now);
    assert_eq!(actions, [kill(1, Signal::TERM)]);
}
