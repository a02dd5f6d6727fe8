//! Heartbeats: which workers are killed, and which are not.

use super::*;

/// Lets time pass in checks of one second in which only `beating` workers beat; returns all kills.
fn silence(world: &mut World, seconds: u32, beating: &[u64]) -> Vec<Action> {
    let mut all = Vec::new();
    for _ in 0..seconds {
        world.now = world.now.after(SECOND);
        for age in beating {
            world.board.get_mut(age).unwrap().beat = Some(world.now);
        }
        all.extend(world.tick());
    }
    kills(&all)
}

#[test]
fn a_silent_worker_gets_abrt_and_at_the_next_check_kill() {
    let mut world = World::serving(2);
    assert_eq!(silence(&mut world, 30, &[2]), []);
    let actions = world.pass_only(&[2]);
    assert_eq!(actions, [logged(Level::Critical, "WORKER TIMEOUT (pid:1001)"), kill(1, Signal::ABRT)]);
    assert_eq!(world.tick(), [], "no second check within the second");
    assert_eq!(world.pass_only(&[2]), [kill(1, Signal::KILL)]);
    let actions = world.end(1, ChildExit::Signal(Signal::KILL));
    let line = "Worker (pid:1001) was sent SIGKILL! It had been silent for longer than its timeout.";
    assert_eq!(lines(&actions)[0], (Level::Error, line));
    assert_eq!(forks(&actions), [3]);
}

impl World {
    fn pass_only(&mut self, beating: &[u64]) -> Vec<Action> {
        self.now = self.now.after(SECOND);
        for age in beating {
            self.board.get_mut(age).unwrap().beat = Some(self.now);
        }
        self.tick()
    }
}

#[test]
fn the_watch_begins_with_the_first_beat() {
    let mut world = World::unbooted(1);
    assert_eq!(silence(&mut world, 300, &[]), [], "a long import is not killed");
    world.board.get_mut(&1).unwrap().beat = Some(world.now);
    assert_eq!(silence(&mut world, 31, &[]), [kill(1, Signal::ABRT)]);
}

#[test]
fn timeout_zero_watches_nobody() {
    let mut world = World::serving(1);
    world.state.limits.timeout = Duration::ZERO;
    assert_eq!(silence(&mut world, 10_000, &[]), []);
}

#[test]
fn a_master_that_did_not_run_itself_blames_nobody() {
    let mut world = World::serving(2);
    world.now = world.now.after(SECOND * 3600);
    assert_eq!(world.tick(), [], "suspended, or the whole group stopped");
    assert_eq!(silence(&mut world, 30, &[2]), [], "and the workers get their whole timeout from now on");
    assert_eq!(silence(&mut world, 1, &[2]), [kill(1, Signal::ABRT)], "but no more");
}

#[test]
fn a_stop_right_after_the_start_blames_nobody_either() {
    let mut world = World::unbooted(1);
    world.board.get_mut(&1).unwrap().beat = Some(world.now);
    world.now = world.now.after(SECOND * 60);
    assert_eq!(kills(&world.tick()), [], "this is the first turn");
}

#[test]
fn a_stopping_worker_is_watched_too() {
    let mut world = World::serving(2);
    world.signal(Signal::TTOU);
    assert_eq!(silence(&mut world, 31, &[2]), [kill(1, Signal::ABRT)]);
}

#[test]
fn an_idle_master_sleeps_a_second() {
    let mut world = World::serving(2);
    assert_eq!(world.state.wait(world.now), SECOND);
    world.now = world.now.after(SECOND / 4);
    world.tick();
    assert_eq!(world.state.wait(world.now), SECOND * 3 / 4, "an early wake-up does not shift the checks");
}

#[test]
fn signals_do_not_hasten_the_kill() {
    let mut world = World::serving(1);
    silence(&mut world, 31, &[]);
    for _ in 0..5 {
        assert_eq!(kills(&world.signal(Signal::WINCH)), []);
        assert_eq!(kills(&world.tick()), []);
    }
}

impl World {
    fn with_boot_timeout(mut self, seconds: u32) -> Self {
        self.state.limits.boot_timeout = SECOND * seconds;
        self
    }
}

#[test]
fn a_worker_that_does_not_boot_is_killed_and_replaced() {
    let mut world = World::unbooted(1).with_boot_timeout(5);
    assert_eq!(silence(&mut world, 5, &[]), []);
    let actions = world.pass_only(&[]);
    let line = "WORKER BOOT TIMEOUT (pid:1001): not booted after 5 s";
    assert_eq!(actions, [logged(Level::Critical, line), kill(1, Signal::ABRT)]);
    assert_eq!(world.pass_only(&[]), [kill(1, Signal::KILL)]);
    let actions = world.end(1, ChildExit::Signal(Signal::KILL));
    let line = "Worker (pid:1001) was sent SIGKILL! It had not booted within boot_timeout.";
    assert_eq!(lines(&actions)[0], (Level::Error, line));
    assert_eq!(forks(&actions), [2]);
}

#[test]
fn the_status_of_an_aborted_boot_does_not_stop_the_server() {
    for exit in [ChildExit::Code(1), ChildExit::Code(3), ChildExit::Code(4), ChildExit::Signal(Signal::ABRT)]
    {
        let mut world = World::unbooted(1).with_boot_timeout(5);
        silence(&mut world, 6, &[]);
        let actions = world.end(1, exit);
        assert_eq!(forks(&actions), [2], "{exit:?}");
        assert_eq!(exit_status(&actions), None);
    }
}

#[test]
fn a_booted_worker_has_nothing_to_do_with_boot_timeout() {
    let mut world = World::serving(1).with_boot_timeout(1);
    assert_eq!(silence(&mut world, 30, &[]), []);
    let mut world = World::unbooted(1).with_boot_timeout(1);
    world.board.get_mut(&1).unwrap().booted = true;
    assert_eq!(silence(&mut world, 300, &[]), [], "between boot and first beat");
}

#[test]
fn boot_timeout_rejects_a_reload_on_trial() {
    let mut world = World::serving(1);
    world.reload = Ok(WorkerLimits { boot_timeout: SECOND * 3, ..limits(1) });
    world.signal(Signal::HUP);
    let mut actions = Vec::new();
    for _ in 0..4 {
        actions.extend(world.pass_only(&[1]));
    }
    let line = (
        Level::Error,
        "Reload given up, the workers stay as they were: a new worker did not boot within boot_timeout",
    );
    assert!(lines(&actions).contains(&line) && actions.contains(&Action::Rollback));
    assert_eq!(kills(&actions), [kill(2, Signal::ABRT), kill(2, Signal::TERM)]);
    // The limits in force again know no boot_timeout.
    assert_eq!(kills(&world.pass_only(&[1])), [kill(2, Signal::KILL)]);
    world.end(2, ChildExit::Signal(Signal::KILL));
    assert_eq!(world.active(), [1]);
}

#[test]
fn a_suspended_machine_does_not_count_for_boot_timeout() {
    let mut world = World::unbooted(1).with_boot_timeout(5);
    silence(&mut world, 1, &[]);
    world.now = world.now.after(SECOND * 3600);
    assert_eq!(kills(&world.tick()), []);
    assert_eq!(silence(&mut world, 5, &[]), []);
    assert_eq!(silence(&mut world, 1, &[]), [kill(1, Signal::ABRT)]);
}
