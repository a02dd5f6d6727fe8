//! Accept decisions, with the parts that an acceptor needs and without a reactor.

use rgunicorn_io::driver::Completion;
use rgunicorn_io::driver::sim::SimCall;

use super::*;
use crate::worker::config::WorkerConfig;
use crate::worker::conn::io::fixture::{Parts, new_conn};
use crate::worker::ids::{ConnId, RequestId};
use crate::worker::jobs::Job;

/// An acceptor with one shared listener, among the parts that it needs.
struct Rig {
    acceptor: Acceptor,
    parts: Parts,
    listener: RawFd,
}

impl Rig {
    fn new(config: WorkerConfig) -> Self {
        let parts = Parts::new(config);
        let listener = parts.net.listener();
        let acceptor =
            Acceptor::new(&[ListenerSpec { fd: listener, unix: false, shared: true, key: 1 }], None, false);
        Self { acceptor, parts, listener }
    }

    /// One whose score-board has a sibling that waits.
    fn with_sibling(config: WorkerConfig) -> (Self, Slot) {
        let rig = Self::new(config);
        rig.slot().board().set_workers(2);
        let sibling = rig.slot().board().claim(2).unwrap();
        sibling.set_booted();
        sibling.beat(rig.parts.turn.now());
        sibling.set_accepting(Accepting::Waiting);
        (rig, sibling)
    }

    fn slot(&self) -> &Slot {
        &self.parts.setup.handles.slot
    }

    /// Begins a wait. Returns what the score-board says then, and whether the listener is armed.
    fn begin_wait(&mut self) -> (Accepting, bool) {
        self.acceptor.begin_wait(&mut self.parts.io(), true);
        (self.slot().read().accepting, self.parts.driver.in_flight() > 0)
    }

    fn begin_work(&mut self) -> (Accepting, bool) {
        self.acceptor.begin_work(&mut self.parts.io());
        (self.slot().read().accepting, self.parts.driver.in_flight() > 0)
    }

    /// Lets a client connect, and the wait end with its wake-up.
    fn wake(&mut self) {
        self.parts.net.connect(self.listener).unwrap();
        let mut completions = Vec::new();
        self.parts.driver.wait(Some(Duration::ZERO), &mut completions).unwrap();
        for completion in completions {
            let Completion::Poll { result, .. } = completion else { panic!("{completion:?}") };
            self.acceptor.on_acceptable(&mut self.parts.io(), 0, &result);
        }
        self.acceptor.take_woken(&mut self.parts.io());
    }

    fn add_job(&mut self) {
        self.parts.conns.push_job(Job::Abandon(request_id()));
    }
}

fn request_id() -> RequestId {
    RequestId { conn: ConnId { index: 99, generation: 1 }, conn_number: 1, sequence: 1 }
}

#[test]
fn responses_that_go_on_keep_no_connection_waiting_unless_a_sibling_idles() {
    let (mut rig, sibling) = Rig::with_sibling(WorkerConfig::default());
    rig.begin_wait();
    rig.begin_work();
    rig.parts.conns.push_resume(request_id());
    assert_eq!(rig.begin_wait(), (Accepting::BusyDisarmed, false), "the sibling takes it");
    sibling.set_accepting(Accepting::BusyDisarmed);
    assert_eq!(rig.begin_wait(), (Accepting::Waiting, true));
    rig.add_job();
    rig.begin_work();
    assert_eq!(rig.begin_wait(), (Accepting::BusyDisarmed, false), "a request waits");
}

#[test]
fn a_lone_worker_keeps_its_listeners_armed_while_it_works() {
    let mut rig = Rig::new(WorkerConfig::default());
    assert_eq!(rig.begin_wait(), (Accepting::Waiting, true));
    assert_eq!(rig.begin_work(), (Accepting::BusyArmed, true));
    rig.add_job();
    assert_eq!(rig.begin_wait(), (Accepting::Waiting, true));
}

#[test]
fn among_siblings_the_listeners_are_given_back_before_work() {
    let (mut rig, _sibling) = Rig::with_sibling(WorkerConfig::default());
    assert_eq!(rig.begin_wait(), (Accepting::Waiting, true));
    assert_eq!(rig.begin_work(), (Accepting::BusyDisarmed, false));
    rig.add_job();
    assert_eq!(rig.begin_wait(), (Accepting::BusyDisarmed, false), "there is work at hand");
}

#[test]
fn whether_the_worker_is_alone_is_asked_before_each_wait() {
    let (mut rig, sibling) = Rig::with_sibling(WorkerConfig::default());
    rig.begin_wait();
    sibling.release();
    rig.slot().board().set_workers(1);
    assert_eq!(rig.begin_work().0, Accepting::BusyDisarmed, "as the wait began");
    rig.begin_wait();
    assert_eq!(rig.begin_work().0, Accepting::BusyArmed);
}

#[test]
fn at_the_limit_nothing_is_armed() {
    let mut rig = Rig::new(WorkerConfig { connections_max: 1, ..WorkerConfig::default() });
    let id = rig.parts.conns.insert(new_conn());
    assert_eq!(rig.begin_wait(), (Accepting::No, false));
    rig.parts.conns.remove(id);
    assert_eq!(rig.begin_wait(), (Accepting::Waiting, true));
}

#[test]
fn a_worker_whose_threads_are_all_at_work_leaves_connections_to_its_siblings() {
    let config = WorkerConfig { threads: 1, ..WorkerConfig::default() };
    let (mut rig, _sibling) = Rig::with_sibling(config.clone());
    let id = rig.parts.conns.insert(new_conn());
    rig.parts.conns.begin_work(id);
    assert_eq!(rig.begin_wait(), (Accepting::No, false));
    rig.parts.conns.end_work(id);
    assert_eq!(rig.begin_wait(), (Accepting::Waiting, true));
    assert_eq!(rig.begin_work(), (Accepting::Waiting, true), "threads work while the loop waits");
    let mut lone = Rig::new(config);
    lone.parts.conns.begin_work(id);
    assert_eq!(lone.begin_wait(), (Accepting::Waiting, true));
}

/// Whether a wait that begins now would end at once.
fn would_not_sleep(rig: &Rig) -> bool {
    rig.acceptor.deadlines().into_iter().flatten().any(|at| at <= rig.parts.turn.now())
}

#[test]
fn a_worker_that_leaves_connections_to_its_siblings_sleeps_also_after_their_wakeups() {
    let config = WorkerConfig { threads: 1, ..WorkerConfig::default() };
    let (mut rig, _sibling) = Rig::with_sibling(config);
    let id = rig.parts.conns.insert(new_conn());
    rig.parts.conns.begin_work(id);
    rig.begin_wait();
    rig.acceptor.wakeups.on_sibling_wakeup(rig.parts.turn.now());
    assert_eq!(rig.begin_wait(), (Accepting::No, false));
    assert!(!would_not_sleep(&rig));
    // The connection is looked for as soon as this worker may take it.
    rig.parts.conns.end_work(id);
    rig.parts.net.connect(rig.listener).unwrap();
    rig.begin_wait();
    assert_eq!(rig.parts.conns.len(), 2);
}

#[test]
fn a_wakeup_with_work_at_hand_is_passed_on_but_not_twice_in_a_row() {
    let (mut rig, _sibling) = Rig::with_sibling(WorkerConfig::default());
    rig.begin_wait();
    rig.add_job();
    rig.wake();
    assert_eq!(rig.parts.conns.len(), 0, "the sibling can take it");
    rig.parts.conns.pop_job();
    rig.begin_wait();
    rig.add_job();
    rig.wake();
    assert_eq!(rig.parts.conns.len(), 1);
}

#[test]
fn after_an_accept_among_siblings_the_wait_is_only_a_look() {
    let (mut rig, _sibling) = Rig::with_sibling(WorkerConfig::default());
    rig.begin_wait();
    assert!(!rig.acceptor.takes_look_only());
    rig.wake();
    assert_eq!(rig.parts.conns.len(), 1);
    rig.begin_wait();
    assert!(rig.acceptor.takes_look_only() && !rig.acceptor.takes_look_only());
}

#[test]
fn a_lone_worker_takes_a_growing_batch() {
    let mut rig = Rig::new(WorkerConfig::default());
    rig.begin_wait();
    for expected in [1, 3, 7] {
        for _ in 0..8 {
            rig.parts.net.connect(rig.listener).unwrap();
        }
        rig.begin_wait();
        rig.wake();
        assert_eq!(rig.parts.conns.len(), expected);
    }
}

#[test]
fn without_descriptors_accepting_pauses() {
    let mut rig = Rig::new(WorkerConfig::default());
    rig.begin_wait();
    rig.parts.net.fail(SimCall::Accept, libc::EMFILE, 1);
    rig.wake();
    let pause = rig.parts.turn.now().after(ACCEPT_PAUSE);
    assert_eq!(rig.acceptor.deadlines()[0], Some(pause));
    assert_eq!(rig.begin_wait(), (Accepting::No, false));
    rig.parts.net.mend(SimCall::Accept);
    rig.parts.turn.end_wait(pause);
    assert_eq!(rig.begin_wait(), (Accepting::Waiting, true));
    assert_eq!(rig.acceptor.deadlines()[0], None);
}

#[test]
fn a_draining_worker_takes_what_waits_as_far_as_there_is_room() {
    let mut rig = Rig::new(WorkerConfig { connections_max: 2, ..WorkerConfig::default() });
    rig.begin_wait();
    for _ in 0..3 {
        rig.parts.net.connect(rig.listener).unwrap();
    }
    rig.parts.draining = true;
    rig.acceptor.begin_drain(&mut rig.parts.io());
    assert_eq!(rig.slot().read().accepting, Accepting::No);
    assert!(!rig.acceptor.take_queue(&mut rig.parts.io()), "one waits");
    assert!(rig.acceptor.has_listeners());
    let served = rig.parts.conns.ids();
    rig.parts.conns.remove(served[0]);
    rig.parts.conns.remove(served[1]);
    assert!(rig.acceptor.take_queue(&mut rig.parts.io()));
    assert!(!rig.acceptor.has_listeners() && rig.parts.conns.len() == 1);
}

#[test]
fn the_score_board_is_told_only_what_it_does_not_know() {
    let mut rig = Rig::new(WorkerConfig::default());
    let slot = rig.slot().clone();
    slot.set_connections(9);
    rig.acceptor.report(&slot, 0);
    assert_eq!(slot.read().connections, 9, "nothing has changed");
    rig.acceptor.report(&slot, 2);
    assert_eq!(slot.read().connections, 2);
}
