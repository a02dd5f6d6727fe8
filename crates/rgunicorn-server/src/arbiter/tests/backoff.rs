//! Workers that end as soon as they have begun, and replacements that do not boot.

use super::*;

const CRASH: ChildExit = ChildExit::Signal(Signal(11));
const BOOT_ERROR: ChildExit = ChildExit::Code(3);

impl World {
    /// Ends every worker that is forked within this time by itself as soon as it is there; returns their number.
    fn crash_loop(&mut self, time: Duration, exit: ChildExit) -> usize {
        let end = self.now.after(time);
        let mut forked = 0;
        let mut live: Vec<u64> =
            self.board.values().filter(|reading| !reading.booted).map(|it| it.age).collect();
        while self.now < end {
            let mut next = Vec::new();
            self.now = self.now.after(Duration::from_millis(1));
            for age in live {
                next.extend(forks(&self.end(age, exit)));
            }
            let wait = self.state.wait(self.now).clamp(Duration::from_millis(1), Duration::from_millis(10));
            next.extend(forks(&self.pass(wait)));
            forked += next.len();
            live = next;
        }
        forked
    }
}

#[test]
fn workers_that_die_at_once_are_forked_ever_more_rarely() {
    for exit in [CRASH, ChildExit::Code(0), ChildExit::Code(1)] {
        let mut world = World::unbooted(1);
        let forked = world.crash_loop(SECOND * 60, exit);
        assert!((5..=15).contains(&forked), "{exit:?}: {forked} forks in a minute");
        assert!(!world.state.is_stopping());
    }
}

#[test]
fn all_workers_of_a_round_are_one_reason_to_wait() {
    let mut world = World::unbooted(8);
    let forked = world.crash_loop(SECOND, CRASH);
    assert!((8 * 3..=8 * 6).contains(&forked), "{forked} forks in a second");
}

#[test]
fn one_that_lived_is_replaced_at_once() {
    let mut world = World::unbooted(1);
    world.crash_loop(SECOND * 20, CRASH);
    while world.board.is_empty() {
        world.pass(SECOND);
    }
    let age = world.ages()[0];
    world.board.get_mut(&age).unwrap().booted = true;
    world.pass(SECOND);
    world.pass(SECOND * 6);
    let mut age = age;
    for _ in 0..2 {
        let next = forks(&world.end(age, CRASH));
        assert_eq!(next, [age + 1], "no pause");
        age += 1;
    }
    assert_eq!(forks(&world.end(age, CRASH)), [0_u64; 0], "but these two have not");
}

#[test]
fn one_that_has_begun_a_request_is_replaced_at_once() {
    let mut world = World::serving(2);
    for age in 1..100 {
        assert_eq!(forks(&world.end(age, CRASH)), [age + 2]);
        world.boot(age + 2);
    }
}

#[test]
fn a_reload_does_not_wait_for_the_pause() {
    let mut world = World::unbooted(1);
    world.crash_loop(SECOND * 20, CRASH);
    assert!(world.board.is_empty());
    assert_eq!(forks(&world.signal(Signal::HUP)).len(), 1);
}

#[test]
fn a_failed_boot_at_the_first_start_ends_the_server() {
    for (status, reason) in [(3, "Worker failed to boot."), (4, "App failed to load.")] {
        let mut world = World::unbooted(2);
        // One of two is no server that has served.
        world.boot(1);
        let mut actions = world.end(2, ChildExit::Code(status));
        assert_eq!(forks(&actions), [0_u64; 0]);
        actions.extend(world.end(1, ChildExit::Code(0)));
        assert_eq!(exit_status(&actions), Some(status));
        assert!(lines(&actions).contains(&(Level::Error, &format!("Reason: {reason}"))));
    }
}

#[test]
fn a_replacement_that_does_not_boot_is_tried_again_while_others_serve() {
    let mut world = World::serving(2);
    let actions = world.end(1, CRASH);
    assert_eq!(forks(&actions), [3]);
    let actions = world.end(3, BOOT_ERROR);
    assert!(!world.state.is_stopping());
    let told = "Worker failed to boot. The others serve on, and it is tried again.";
    assert!(lines(&actions).contains(&(Level::Error, told)));
    let forked = world.crash_loop(SECOND * 60, BOOT_ERROR);
    assert!((5..=15).contains(&forked), "{forked} forks in a minute");
    assert_eq!(world.active()[0], 2, "the other one is left alone");
}

#[test]
fn one_more_that_does_not_boot_is_tried_again_too() {
    let mut world = World::unbooted(1);
    world.board.get_mut(&1).unwrap().booted = true;
    world.signal(Signal::TTIN);
    world.tick();
    world.end(2, BOOT_ERROR);
    assert!(!world.state.is_stopping());
    assert_eq!(forks(&world.pass(SECOND)), [0_u64; 0], "the first was replaced at once");
    assert_eq!(world.active(), [1, 3]);
}

#[test]
fn a_replacement_that_does_not_boot_ends_a_server_of_which_nothing_serves() {
    let mut world = World::serving(1);
    world.end(1, CRASH);
    assert_eq!(exit_status(&world.end(2, BOOT_ERROR)), Some(3));
}

#[test]
fn forks_that_fail_together_are_told_once() {
    let mut world = World::serving(8);
    world.forks_fail = true;
    let mut actions = Vec::new();
    for age in world.ages() {
        actions.extend(world.end(age, CRASH));
    }
    let failed = lines(&actions).iter().filter(|(_, text)| text.starts_with("Cannot fork")).count();
    assert_eq!(failed, 1);
}
