//! HUP as a transaction.

use super::*;

fn hang_up(world: &mut World) -> Vec<Action> {
    world.signal(Signal::HUP)
}

#[test]
fn the_way_of_a_good_reload() {
    let mut world = World::serving(2);
    let actions = hang_up(&mut world);
    assert_eq!(
        actions[2..],
        [
            Action::Reload,
            share(2, false),
            Action::Hook(HookEvent::NumWorkersChanged { new: 2, old: Some(2) }),
            Action::ReopenLogs,
            Action::Hook(HookEvent::OnReload),
            Action::Fork { age: 3 },
            logged(Level::Debug, "3 workers"),
        ]
    );
    assert_eq!(world.state.wait(world.now), Duration::from_millis(50), "the boot is noticed soon");
    let actions = world.boot(3);
    assert_eq!(actions, [Action::Commit { unlink: true }, Action::Fork { age: 4 }, kill(1, Signal::TERM)]);
    let actions = world.boot(4);
    assert_eq!(kills(&actions), [kill(2, Signal::TERM)]);
    world.end(1, ChildExit::Code(0));
    world.end(2, ChildExit::Code(0));
    assert_eq!(world.ages(), [3, 4]);
    assert!(world.state.wait(world.now) > Duration::from_millis(500));
}

#[test]
fn capacity_never_falls_below_the_wanted_number() {
    for (before, after) in [(1, 1), (1, 4), (4, 1), (4, 4), (3, 5)] {
        let mut world = World::serving(before);
        world.reload = Ok(limits(after));
        hang_up(&mut world);
        let floor = before.min(after) as usize;
        while let Some(age) = world.board.values().find(|reading| !reading.booted).map(|reading| reading.age)
        {
            world.boot(age);
            let serving =
                world.state.workers.iter().filter(|worker| worker.booted && !worker.stopping).count();
            assert!(serving >= floor, "{before} -> {after}: {serving}");
        }
        assert_eq!(world.active().len(), after as usize, "{before} -> {after}");
        assert!(world.active().iter().all(|age| *age > u64::from(before)), "only new ones stay");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_changes_nothing() {
    let mut world = World::serving(2);
    world.reload = Err("Invalid value for workers: many");
    let actions = hang_up(&mut world);
    assert_eq!(
        actions[3..],
        [logged(Level::Error, "Reload failed, nothing has changed: Invalid value for workers: many")]
    );
    assert_eq!(world.active(), [1, 2]);
}

#[test]
fn a_worker_that_does_not_boot_rolls_back_whatever_its_status() {
    for exit in [
        ChildExit::Code(3),
        ChildExit::Code(4),
        ChildExit::Code(0),
        ChildExit::Code(1),
        ChildExit::Signal(Signal(11)),
    ] {
        let mut world = World::serving(2);
        world.reload = Ok(WorkerLimits { timeout: SECOND, graceful_timeout: SECOND, ..limits(5) });
        hang_up(&mut world);
        let actions = world.end(3, exit);
        let line =
            (Level::Error, "Reload given up, the workers stay as they were: a new worker did not boot");
        assert!(lines(&actions).contains(&line), "{exit:?}");
        assert!(actions.contains(&Action::Rollback) && actions.contains(&share(2, false)));
        assert_eq!((kills(&actions), forks(&actions)), (vec![], vec![]), "{exit:?}: nobody else is touched");
        assert_eq!(world.state.limits, limits(2));
        assert_eq!(
            forks(&world.end(1, ChildExit::Code(0))),
            [4],
            "respawn goes on under the old configuration"
        );
    }
}

#[test]
fn a_hook_before_the_fork_that_fails_ends_the_trial_and_not_the_server() {
    let mut world = World::serving(2);
    world.pre_forks_fail = 1;
    let actions = hang_up(&mut world);
    assert!(actions.contains(&Action::Rollback), "{actions:?}");
    assert!(!world.state.is_stopping());
    assert_eq!(world.active(), [1, 2]);
    hang_up(&mut world);
    assert_eq!(kills(&world.boot(4)), [kill(1, Signal::TERM)]);
}

#[test]
fn hooks_before_forks_that_fail_for_several_canaries_end_one_trial() {
    let mut world = World::serving(2);
    world.forks_fail = true;
    for age in [1, 2] {
        world.end(age, ChildExit::Code(0));
    }
    hang_up(&mut world);
    assert_eq!(world.active(), [0; 0]);
    (world.forks_fail, world.pre_forks_fail) = (false, 2);
    let actions = world.pass(SECOND * 2);
    assert_eq!(actions.iter().filter(|action| **action == Action::Rollback).count(), 1, "{actions:?}");
    assert!(!world.state.is_stopping());
    assert_eq!(world.active().len(), 2, "workers of the configuration before");
}

#[test]
fn after_a_rollback_a_reload_can_succeed() {
    let mut world = World::serving(1);
    hang_up(&mut world);
    world.end(2, ChildExit::Code(3));
    hang_up(&mut world);
    let actions = world.boot(3);
    assert_eq!(kills(&actions), [kill(1, Signal::TERM)]);
}

#[test]
fn a_worker_that_booted_and_died_between_two_looks_has_proved_the_configuration() {
    let mut world = World::serving(1);
    hang_up(&mut world);
    world.board.get_mut(&2).unwrap().booted = true;
    let actions = world.end(2, ChildExit::Signal(Signal::KILL));
    assert!(actions.contains(&Action::Commit { unlink: true }));
    assert_eq!(forks(&actions), [3]);
    assert_eq!(kills(&actions), [], "the old one serves until there is another");
    assert_eq!(kills(&world.boot(3)), [kill(1, Signal::TERM)]);
}

#[test]
fn an_old_worker_that_dies_during_the_trial_is_made_up_for_by_a_new_one() {
    let mut world = World::serving(3);
    hang_up(&mut world);
    assert_eq!(forks(&world.end(1, ChildExit::Code(0))), [0_u64; 0], "four were there, three are wanted");
    assert_eq!(world.active(), [2, 3, 4]);
    assert_eq!(forks(&world.end(2, ChildExit::Code(0))), [5]);
    let actions = world.end(4, ChildExit::Code(3));
    assert!(actions.contains(&Action::Rollback));
    assert_eq!(kills(&actions), [kill(5, Signal::TERM)], "all that are on trial go");
    assert_eq!(forks(&actions), [6, 7], "and the old configuration gets its number back");
}

#[test]
fn an_unbooted_old_worker_cannot_stop_a_server_on_trial() {
    let mut world = World::unbooted(1);
    hang_up(&mut world);
    let actions = world.end(1, ChildExit::Code(3));
    assert_eq!(exit_status(&actions), None);
    assert!(!actions.iter().any(|action| matches!(action, Action::CloseListeners { .. })));
    assert!(world.boot(2).contains(&Action::Commit { unlink: true }));
}

#[test]
fn a_second_hang_up_gives_up_a_trial_that_hangs() {
    let mut world = World::serving(1);
    hang_up(&mut world);
    world.pass(SECOND);
    let actions = hang_up(&mut world);
    let given_up = actions.iter().position(|action| *action == Action::Rollback).unwrap();
    let reload = actions.iter().position(|action| *action == Action::Reload).unwrap();
    assert!(given_up < reload);
    assert_eq!((kills(&actions), forks(&actions)), (vec![kill(2, Signal::TERM)], vec![3]));
    assert_eq!(kills(&world.boot(3)), [kill(1, Signal::TERM)]);
}

#[test]
fn a_hang_up_while_old_workers_still_retire_replaces_all_of_them() {
    let mut world = World::serving(2);
    hang_up(&mut world);
    world.boot(3);
    assert_eq!(world.active(), [2, 3, 4]);
    hang_up(&mut world);
    assert_eq!(world.active(), [2, 3, 4, 5]);
    world.boot(5);
    world.boot(6);
    assert_eq!(world.active(), [5, 6]);
}

#[test]
fn ttin_and_ttou_during_a_trial_survive_both_ends_of_it() {
    let mut world = World::serving(2);
    hang_up(&mut world);
    world.signal(Signal::TTIN);
    world.end(world.ages().pop().unwrap(), ChildExit::Code(3));
    assert_eq!(world.active().len(), 3, "rolled back");
    let mut world = World::serving(2);
    hang_up(&mut world);
    world.signal(Signal::TTOU);
    world.boot(3);
    assert_eq!(world.active(), [3], "committed");
}

#[test]
fn a_reload_takes_the_number_of_workers_back_from_ttin() {
    let mut world = World::serving(1);
    world.signal(Signal::TTIN);
    world.boot_all();
    let actions = hang_up(&mut world);
    assert!(actions.contains(&Action::Hook(HookEvent::NumWorkersChanged { new: 1, old: Some(2) })));
    assert_eq!(kills(&world.boot(3)), [kill(1, Signal::TERM), kill(2, Signal::TERM)]);
}

#[test]
fn term_during_a_trial_stops_everyone() {
    let mut world = World::serving(1);
    hang_up(&mut world);
    let actions = world.signal(Signal::TERM);
    assert_eq!(kills(&actions), [kill(1, Signal::TERM), kill(2, Signal::TERM)]);
    world.end(2, ChildExit::Code(3));
    assert_eq!(exit_status(&world.end(1, ChildExit::Code(0))), Some(0));
}
