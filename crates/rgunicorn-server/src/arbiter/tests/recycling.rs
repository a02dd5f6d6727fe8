//! Workers that leave by themselves: replaced before they are gone, within bounds, and one at a time where they ask.

use super::*;

impl World {
    /// The worker of this age says that it leaves, and the master looks.
    pub(super) fn leave(&mut self, age: u64) -> Vec<Action> {
        self.board.get_mut(&age).expect("a living worker").leaving = true;
        self.tick()
    }

    /// Does the master take the permit back from the worker of this age?
    fn frees(&mut self, age: u64) -> bool {
        self.feed(MasterEvent::Recycling { age }).contains(&Action::EndRecycling { age })
    }
}

#[test]
fn who_leaves_is_replaced_at_once_and_only_once() {
    let mut world = World::serving(2);
    let actions = world.leave(1);
    assert_eq!(forks(&actions), [3]);
    assert_eq!(kills(&actions), [], "it knows that it leaves");
    assert!(forks(&world.pass(SECOND)).is_empty());
    world.boot(3);
    let end = world.end(1, ChildExit::Code(0));
    assert_eq!((forks(&end), lines(&end)), (vec![], vec![]));
    assert_eq!(world.active(), [2, 3]);
}

#[test]
fn who_was_told_to_leave_says_nothing_new() {
    let mut world = World::serving(2);
    world.signal(Signal::TTOU);
    assert!(forks(&world.leave(1)).is_empty());
    assert!(forks(&world.end(1, ChildExit::Code(0))).is_empty());
    assert_eq!(world.active(), [2]);
}

#[test]
fn one_that_leaves_counts_no_more_when_there_are_too_many() {
    let mut world = World::serving(2);
    world.forks_fail = true;
    world.leave(1);
    assert_eq!(kills(&world.signal(Signal::TTOU)), [], "it is one already");
    assert_eq!(world.active(), [2]);
}

/// Each replacement leaves as soon as it has booted, and none of them ends: the processes do not add up.
#[test]
fn replacements_that_leave_as_well_are_waited_for() {
    for workers in 1..4 {
        let mut world = World::serving(workers);
        for _ in 0..10 {
            for age in world.active() {
                world.boot(age);
                world.leave(age);
            }
            world.pass(SECOND);
        }
        assert_eq!(world.board.len(), 2 * workers as usize);
        let oldest = world.ages()[0];
        assert_eq!(forks(&world.end(oldest, ChildExit::Code(0))).len(), 1, "the next one as usual");
    }
}

#[test]
fn the_permit_is_free_again_when_its_holder_has_a_successor_and_is_gone() {
    let mut world = World::serving(4);
    assert!(!world.frees(1), "it has just asked");
    world.leave(1);
    assert!(!world.frees(1));
    world.boot(5);
    assert!(!world.frees(1), "it is not gone");
    world.end(1, ChildExit::Code(0));
    assert!(world.frees(1));
}

#[test]
fn a_holder_that_dies_does_not_keep_the_permit() {
    let mut world = World::serving(4);
    world.end(2, ChildExit::Signal(Signal::KILL));
    assert!(!world.frees(2), "nobody serves in its place");
    world.boot(5);
    assert!(world.frees(2));
}

#[test]
fn the_permit_stays_taken_while_replacements_do_not_boot() {
    let mut world = World::serving(4);
    world.leave(1);
    world.end(1, ChildExit::Code(0));
    for age in 5..9 {
        world.end(age, ChildExit::Signal(Signal(11)));
        assert!(!world.frees(1));
        world.pass(SECOND);
    }
    world.boot(9);
    assert!(world.frees(1));
}

#[test]
fn a_worker_on_trial_that_leaves_after_it_has_booted_was_good() {
    let mut world = World::serving(1);
    world.signal(Signal::HUP);
    let trial = world.board.get_mut(&2).unwrap();
    (trial.booted, trial.leaving) = (true, true);
    world.tick();
    assert!(world.end(2, ChildExit::Code(0)).iter().any(|action| matches!(action, Action::Commit { .. })));
}
