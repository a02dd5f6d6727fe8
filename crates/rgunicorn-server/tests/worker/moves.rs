//! Random histories of several workers that leave, give while they are at work, and are killed.

use std::rc::Rc;
use std::time::Duration;

use rgunicorn_io::driver::sim::{SimCall, SimConfig, SimNet};
use rgunicorn_io::sys::shared::Scoreboard;
use rgunicorn_server::worker::{HandoffConfig, WorkerConfig};

use crate::app::Meanwhile;
use crate::client::Client;
use crate::handoff::{config, first, replace};
use crate::random::{Dice, Plan, seeds};
use crate::stage::Stage;

/// Rounds after which clients are taken for lost.
const ROUNDS_MAX: usize = 20_000;

/// A worker whose application is interrupted now and then by a helper, which gives what waits.
fn with_helper(worker: Stage, dice: &Rc<Dice>) -> Stage {
    let (net, dice) = (worker.net.clone(), Rc::clone(dice));
    let relieve: Meanwhile = Rc::new(move |reactor, _| {
        if dice.below(2) == 0 {
            reactor.relieve(|fd| dice.below(2) == 0 || net.has_input(fd));
        }
    });
    *worker.app.meanwhile.borrow_mut() = Some(relieve);
    worker
}

/// Steps of its driver, at most, until a worker is killed that is to be.
const STEPS_TO_KILL_MAX: usize = 60;

/// Three workers of one server, each with a helper, and what happens to them.
struct Server {
    seed: u64,
    dice: Rc<Dice>,
    net: SimNet,
    board: Scoreboard,
    workers: Vec<Stage>,
    /// The numbers of those whose successor is there.
    replaced: Vec<u32>,
    killed: usize,
}

impl Server {
    fn new(seed: u64) -> Self {
        let dice = Rc::new(Dice::of(seed));
        let origin = first(3, seed, &SimConfig { recv_buffers: 4, ..SimConfig::default() });
        let (net, board) = (origin.net.clone(), origin.board.clone());
        let workers = [origin.sibling(Self::config()), origin.sibling(Self::config()), origin];
        let workers: Vec<_> = workers.into_iter().map(|worker| with_helper(worker, &dice)).collect();
        workers.iter().for_each(|worker| worker.reactor.handles().slot.set_booted());
        Self { seed, dice, net, board, workers, replaced: Vec::new(), killed: 0 }
    }

    fn config() -> WorkerConfig {
        WorkerConfig { handoff: HandoffConfig { works: true, after: Duration::ZERO }, ..config() }
    }

    /// One more worker, beside this one.
    fn another(&self, worker: &Stage) -> Stage {
        let next = with_helper(worker.sibling(Self::config()), &self.dice);
        next.reactor.handles().slot.set_booted();
        next
    }

    /// Replaces a worker now and then.
    fn replace_one(&mut self) {
        let serving = self.board.readings().filter(|reading| !reading.leaving).count();
        if self.dice.below(6) > 0 || serving != 3 {
            return;
        }
        let worker = &self.workers[self.dice.below(self.workers.len())];
        if !worker.control.stopping() {
            let next = self.another(worker);
            replace(worker);
            self.replaced.push(worker.number);
            self.workers.push(next);
        }
    }

    /// Fills the queue and takes descriptors away now and then; `kills`: dooms a worker, too.
    fn trouble(&self, kills: bool) {
        for (call, errno) in [(SimCall::Give, libc::EAGAIN), (SimCall::Take, libc::EMFILE)] {
            match self.dice.below(8) {
                0 => self.net.fail(call, errno, 1 + self.dice.below(3) as u64),
                1 | 2 => self.net.mend(call),
                _ => {}
            }
        }
        if kills && self.dice.below(8) == 0 {
            let worker = &self.workers[self.dice.below(self.workers.len())];
            self.net.kill(worker.number, 1 + self.dice.below(STEPS_TO_KILL_MAX) as u64);
        }
    }

    /// Lets each worker run for a while; puts others in the place of those that were killed.
    fn turn(&mut self) {
        let time = Duration::from_micros(self.dice.below(2000) as u64);
        for worker in std::mem::take(&mut self.workers) {
            let left = worker.run_for(time, || {});
            let is_dead = self.net.is_dead(worker.number);
            let Some(status) = left.or(is_dead.then_some(1)) else {
                self.workers.push(worker);
                continue;
            };
            if is_dead {
                self.killed += 1;
                if !self.replaced.contains(&worker.number) {
                    self.workers.push(self.another(&worker));
                }
            } else {
                assert_eq!((status, worker.snapshot().connections), (0, 0), "seed {}", self.seed);
            }
            worker.reactor.handles().slot.clone().release();
        }
    }

    fn stop(&self) {
        self.board.set_workers(0);
        self.net.mend(SimCall::Take);
        for worker in &self.workers {
            worker.control.stop();
            let (seed, status) = (self.seed, worker.run_to_end());
            assert!(status == 0 || self.net.is_dead(worker.number), "seed {seed}: {status}");
            assert!(!worker.errors().contains("Internal error"), "seed {seed}: {}", worker.errors());
        }
    }
}

/// Runs twelve clients to their ends on three workers, each of which may be replaced at any time, and gives connections
/// away while it is at work; the queue is full now and then, and takers are out of descriptors. `kills`: workers are
/// killed between any two steps. Returns the plans, and how many workers were killed.
fn moves(seed: u64, kills: bool) -> (Vec<Plan>, usize) {
    let mut server = Server::new(seed);
    let (net, dice, listener) = (server.net.clone(), Rc::clone(&server.dice), server.workers[0].listener);
    let mut plans: Vec<Plan> = Vec::new();
    for round in 0.. {
        assert!(round < ROUNDS_MAX, "seed {seed}: clients wait for ever");
        if plans.len() < 12 && dice.below(4) == 0 {
            plans.push(Plan::new(&dice, Client::new(&net, net.connect(listener).unwrap())));
        }
        plans.iter().for_each(|plan| plan.step(&dice));
        if plans.len() == 12 && plans.iter().all(|plan| plan.over.get()) {
            break;
        }
        server.replace_one();
        server.trouble(kills);
        server.turn();
    }
    assert!(!server.replaced.is_empty() || kills, "seed {seed}");
    server.stop();
    (plans, server.killed)
}

/// Each client that has stayed has its answers, and no other byte; one whose worker was killed, the beginning of them.
/// Tells how many have lost some.
fn check(seed: u64, plans: &[Plan], net: &SimNet) -> usize {
    let mut cut = 0;
    for plan in plans {
        let (got, len) = (plan.client.got(), plan.expected.len());
        let lost = plan.leaves_at.is_some() || net.was_killed(plan.client.peer);
        assert!(plan.expected.starts_with(&got), "seed {seed}: something else than was asked for");
        assert!(lost || got.len() == len, "seed {seed}: {} of {len} bytes", got.len());
        cut += usize::from(plan.leaves_at.is_none() && got.len() < len);
    }
    cut
}

#[test]
fn whoever_stays_gets_exactly_the_answers_from_whichever_workers() {
    for seed in seeds() {
        let (plans, _) = moves(seed, false);
        assert_eq!(check(seed, &plans, plans[0].client.net()), 0);
    }
}

/// What was the killed one's alone is cut, and nothing else: not what it had given, and not what it had not taken.
#[test]
fn a_killed_worker_loses_its_own_connections_and_no_other() {
    let (mut all_killed, mut all_cut) = (0, 0);
    for seed in seeds() {
        let (plans, killed) = moves(seed, true);
        all_cut += check(seed, &plans, plans[0].client.net());
        all_killed += killed;
    }
    // Of a single history that need not be so.
    if seeds().len() > 1 {
        assert!(all_killed > 0 && all_cut > 0, "{all_killed} workers were killed, {all_cut} answers cut");
    }
}
