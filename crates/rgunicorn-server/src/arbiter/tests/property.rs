//! Whatever happens in whatever order, some things always hold.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Signal(i32),
    Boot(prop::sample::Index),
    Leave(prop::sample::Index),
    End(prop::sample::Index, ChildExit),
    Pass(u32),
    ForksFail(bool),
    ReloadAnswers(Option<u32>),
    NewMasterEnds(ChildExit),
    ParentEnds,
}

fn step() -> impl Strategy<Value = Step> {
    let serving =
        [Signal::HUP, Signal::TTIN, Signal::TTOU, Signal::USR1, Signal::USR2, Signal::WINCH, Signal::CHLD];
    let exit = prop_oneof![
        Just(ChildExit::Code(0)),
        Just(ChildExit::Code(1)),
        Just(ChildExit::Code(3)),
        Just(ChildExit::Signal(Signal::KILL)),
    ];
    prop_oneof![
        4 => prop::sample::select(serving.to_vec()).prop_map(|signal| Step::Signal(signal.0)),
        4 => any::<prop::sample::Index>().prop_map(Step::Boot),
        2 => any::<prop::sample::Index>().prop_map(Step::Leave),
        3 => (any::<prop::sample::Index>(), exit).prop_map(|(index, exit)| Step::End(index, exit)),
        4 => (1u32..3000).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::ForksFail),
        1 => prop::option::of(1u32..5).prop_map(Step::ReloadAnswers),
        1 => exit_of_new_master().prop_map(Step::NewMasterEnds),
        1 => Just(Step::ParentEnds),
    ]
}

fn exit_of_new_master() -> impl Strategy<Value = ChildExit> {
    prop_oneof![Just(ChildExit::Code(0)), Just(ChildExit::Code(1)), Just(ChildExit::Signal(Signal::KILL))]
}

impl World {
    /// Performs a step and checks that it addressed living workers only. `true` at the end of the master.
    fn step(&mut self, step: Step) -> bool {
        let ages = self.ages();
        let actions = match step {
            Step::Signal(number) => self.signal(Signal(number)),
            Step::Boot(index) if !ages.is_empty() => self.boot(*index.get(&ages)),
            Step::Leave(index) if !ages.is_empty() => self.leave(*index.get(&ages)),
            Step::End(index, exit) if !ages.is_empty() => self.end(*index.get(&ages), exit),
            Step::Pass(milliseconds) => self.pass(Duration::from_millis(milliseconds.into())),
            Step::ForksFail(fail) => {
                self.forks_fail = fail;
                Vec::new()
            }
            Step::ReloadAnswers(workers) => {
                self.reload = workers.map(limits).ok_or("broken");
                Vec::new()
            }
            Step::NewMasterEnds(exit) => {
                self.feed(MasterEvent::Ended { pid: NEW_MASTER, exit, reading: None })
            }
            Step::ParentEnds => self.feed(MasterEvent::Parent(1)),
            Step::Boot(_) | Step::Leave(_) | Step::End(..) => Vec::new(),
        };
        for action in kills(&actions) {
            let Action::Kill { pid, signal } = action else { unreachable!() };
            assert!(self.board.keys().any(|age| pid_of(*age) == pid), "{signal} to {pid}, which is reaped");
        }
        exit_status(&actions).is_some()
    }
}

proptest! {
    /// No signal goes to a pid that is not a living worker's; ages are never reused; the wait is never zero twice.
    #[test]
    fn only_the_living_are_signalled(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::serving(2);
        let mut oldest_next = 3;
        for step in steps {
            let before = world.ages();
            if world.step(step) {
                return Ok(());
            }
            for age in world.ages().into_iter().filter(|age| !before.contains(age)) {
                prop_assert!(age >= oldest_next, "age {age} was used before");
                oldest_next = age + 1;
            }
            world.tick();
            prop_assert!(world.state.wait(world.now) > Duration::ZERO, "the loop would spin");
        }
    }

    /// Once nothing goes wrong any more, the master settles at exactly the wanted number of booted workers of one
    /// generation, unless a failed boot has ended it.
    #[test]
    fn it_settles(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::serving(2);
        for step in steps {
            if world.step(step) {
                return Ok(());
            }
        }
        world.forks_fail = false;
        for _ in 0..20 {
            world.boot_all();
            if world.state.is_stopping() {
                return Ok(());
            }
            let leaving: Vec<u64> =
                world.state.workers.iter().filter(|worker| worker.stopping).map(|worker| worker.age).collect();
            for age in leaving {
                world.end(age, ChildExit::Code(0));
            }
        }
        prop_assert_eq!(world.active().len(), world.state.target as usize);
        prop_assert!(!world.state.reload_waits());
        prop_assert!(world.state.workers.iter().all(|worker| worker.booted && !worker.stopping));
    }

    /// From any state, TERM and patience lead to the end.
    #[test]
    fn term_always_ends_it(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::serving(2);
        for step in steps {
            if world.step(step) {
                return Ok(());
            }
        }
        let mut over = exit_status(&world.signal(Signal::TERM)).is_some();
        for _ in 0..40 {
            over = over || exit_status(&world.pass(SECOND)).is_some();
        }
        prop_assert!(over);
    }
}
