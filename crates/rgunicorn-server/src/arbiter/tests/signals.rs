//! One row per signal while serving, and the worker counts that TTIN, TTOU and deaths lead to.

use super::*;

fn say(name: &str) -> Action {
    logged(Level::Info, &format!("Handling signal: {name}"))
}

fn workers_changed(new: u32, old: u32) -> Action {
    Action::Hook(HookEvent::NumWorkersChanged { new, old: Some(old) })
}

fn stops(name: &str, signal: Signal) -> Vec<Action> {
    vec![say(name), Action::CloseListeners { unlink: true }, kill(1, signal), kill(2, signal)]
}

/// What a master with the workers 1 and 2 does about each signal.
fn table_of_signals() -> Vec<(Signal, Vec<Action>)> {
    let upgrade = logged(Level::Info, "Upgrade: starting a new master (pid:500)");
    let more = Action::Fork { age: 3 };
    let less = kill(1, Signal::TERM);
    let count = |number| logged(Level::Debug, &format!("{number} workers"));
    vec![
        (Signal::TERM, stops("term", Signal::TERM)),
        (Signal::INT, stops("int", Signal::QUIT)),
        (Signal::QUIT, stops("quit", Signal::QUIT)),
        (Signal::USR1, vec![say("usr1"), Action::ReopenLogs, kill(1, Signal::USR1), kill(2, Signal::USR1)]),
        (Signal::USR2, vec![say("usr2"), Action::Upgrade, upgrade, share(2, true)]),
        (Signal::TTIN, vec![say("ttin"), share(3, false), workers_changed(3, 2), more, count(3)]),
        (Signal::TTOU, vec![say("ttou"), share(1, false), workers_changed(1, 2), less, count(1)]),
        (Signal::WINCH, vec![say("winch"), logged(Level::Debug, "SIGWINCH ignored. Not daemonized")]),
        (Signal::CHLD, vec![logged(Level::Debug, "Handling signal: cld")]),
    ]
}

#[test]
fn each_signal_while_serving() {
    let table = table_of_signals();
    for (signal, expected) in table {
        assert_eq!(World::serving(2).signal(signal), expected, "{signal}");
    }
    let hang_up = World::serving(2).signal(Signal::HUP);
    assert_eq!(hang_up[..3], [say("hup"), logged(Level::Info, "Hang up: Master"), Action::Reload]);
}

#[test]
fn the_start_forks_the_configured_number_with_ages_from_one() {
    let mut world = World::unbooted(0);
    world.state = MasterState::new(limits(3));
    let actions = world.feed(MasterEvent::Started);
    assert_eq!(actions[0], share(3, false));
    assert_eq!(forks(&actions), [1, 2, 3]);
    assert_eq!(lines(&actions), [(Level::Debug, "3 workers")]);
}

#[test]
fn signals_of_one_kind_are_not_merged() {
    let mut world = World::serving(1);
    for _ in 0..3 {
        world.signal(Signal::TTIN);
    }
    assert_eq!(world.ages(), [1, 2, 3, 4]);
}

#[test]
fn ttou_never_goes_below_one() {
    let mut world = World::serving(2);
    assert_eq!(kills(&world.signal(Signal::TTOU)), [kill(1, Signal::TERM)]);
    for _ in 0..3 {
        let actions = world.signal(Signal::TTOU);
        assert_eq!(actions, [logged(Level::Info, "Handling signal: ttou")]);
    }
    assert_eq!(world.active(), [2]);
    assert!(
        forks(&world.end(1, ChildExit::Code(0))).is_empty(),
        "the one that was told to stop is not replaced"
    );
}

#[test]
fn ttin_after_ttou_does_not_wait_for_the_leaving_worker() {
    let mut world = World::serving(2);
    world.signal(Signal::TTOU);
    assert_eq!(forks(&world.signal(Signal::TTIN)), [3]);
    assert_eq!(world.active(), [2, 3]);
}

#[test]
fn the_leaving_worker_is_told_once() {
    let mut world = World::serving(2);
    world.signal(Signal::TTOU);
    for _ in 0..3 {
        assert_eq!(kills(&world.pass(SECOND)), []);
    }
}

#[test]
fn a_dead_worker_is_replaced_under_a_new_age() {
    let table = [
        (ChildExit::Code(0), None),
        (ChildExit::Code(1), Some((Level::Error, "Worker (pid:1001) exited with code 1."))),
        (ChildExit::Code(255), Some((Level::Error, "Worker (pid:1001) exited with code 255."))),
        (ChildExit::Code(3), Some((Level::Error, "Worker (pid:1001) exited with code 3."))),
        (
            ChildExit::Signal(Signal::KILL),
            Some((Level::Error, "Worker (pid:1001) was sent SIGKILL! Perhaps out of memory?")),
        ),
        (ChildExit::Signal(Signal::TERM), Some((Level::Info, "Worker (pid:1001) was sent SIGTERM!"))),
        (ChildExit::Signal(Signal(11)), Some((Level::Warning, "Worker (pid:1001) was sent SIGSEGV!"))),
        (ChildExit::Signal(Signal(40)), Some((Level::Warning, "Worker (pid:1001) was sent signal 40!"))),
    ];
    for (exit, line) in table {
        let mut world = World::serving(2);
        let actions = world.end(1, exit);
        assert_eq!(lines(&actions), line.into_iter().collect::<Vec<_>>(), "{exit:?}");
        let told = [
            Action::Release { pid: 1001 },
            Action::Hook(HookEvent::ChildExit { pid: 1001, age: 1 }),
            Action::Fork { age: 3 },
        ];
        assert!(actions.ends_with(&told), "{exit:?}: {actions:?}");
    }
}

#[test]
fn a_child_that_is_no_worker_is_reaped_quietly() {
    let mut world = World::serving(1);
    let actions = world.feed(MasterEvent::Ended { pid: 77, exit: ChildExit::Code(5), reading: None });
    assert_eq!(actions, [logged(Level::Debug, "Reaped unknown child process (pid:77, status:5)")]);
}

#[test]
fn a_failed_fork_is_tried_again_after_a_second_and_not_before() {
    let mut world = World::serving(1);
    world.forks_fail = true;
    let actions = world.signal(Signal::TTIN);
    assert_eq!(forks(&actions), [2]);
    assert_eq!(lines(&actions).last().unwrap().0, Level::Debug);
    assert!(lines(&actions).iter().any(|(level, text)| *level == Level::Error && text.contains("EAGAIN")));
    assert!(forks(&world.pass(SECOND / 2)).is_empty());
    world.forks_fail = false;
    assert_eq!(forks(&world.pass(SECOND / 2)), [3]);
}
