//! Connections spread evenly over the workers of a server, on a simulated network, and their clients notice nothing.

use std::time::Duration;

use rgunicorn_io::driver::sim::{SimCall, SimConfig};
use rgunicorn_io::sys::shared::Accepting;
use rgunicorn_server::worker::WorkerConfig;

use crate::app::answer;
use crate::client::Client;
use crate::handoff::{OFF, boot, config, first_with, replace, served, under_way};
use crate::random::{Dice, seeds};
use crate::stage::{Stage, calm};

/// Within this time the counts are even.
const EVEN_WITHIN: Duration = Duration::from_secs(5);
/// One worker after the other runs for this time.
const SLICE: Duration = Duration::from_millis(2);

/// No connection is closed by its time.
fn patient() -> WorkerConfig {
    WorkerConfig { keepalive: Duration::from_secs(1000), ..config() }
}

/// A worker of a server that wants so many, and this many clients that it has answered.
fn rich(workers: u32, clients: usize) -> (Stage, Vec<Client>) {
    let stage = first_patient(workers, &calm());
    let clients = served(&stage, clients);
    (stage, clients)
}

fn first_patient(workers: u32, network: &SimConfig) -> Stage {
    first_with(workers, 1, network, patient())
}

fn sibling(stage: &Stage) -> Stage {
    let sibling = stage.sibling(patient());
    boot(&sibling);
    sibling
}

/// Lets the workers run for so long, one after the other.
fn run(workers: &[&Stage], time: Duration) {
    let start = workers[0].net.now();
    while workers[0].net.now().since(start) < time {
        workers.iter().for_each(|worker| assert_eq!(worker.run_for(SLICE, || {}), None));
    }
}

fn counts(workers: &[&Stage]) -> Vec<usize> {
    workers.iter().map(|worker| worker.snapshot().connections).collect()
}

/// Whether no worker has more than 1.2 times the mean, and none is without one.
fn are_even(counts: &[usize]) -> bool {
    let mean = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    counts.iter().all(|count| *count as f64 <= 1.2 * mean && *count > 0)
}

/// Runs the workers until the counts are even, and no connection is under way. How long it took.
fn spread(workers: &[&Stage]) -> Duration {
    let start = workers[0].net.now();
    loop {
        let took = workers[0].net.now().since(start);
        if are_even(&counts(workers)) && under_way(workers[0]) == 0 {
            return took;
        }
        assert!(took < EVEN_WITHIN, "{:?}, {} under way", counts(workers), under_way(workers[0]));
        run(workers, SLICE);
    }
}

/// Each of the clients gets another answer.
fn assert_served(workers: &[&Stage], clients: &[Client]) {
    clients.iter().for_each(|client| client.get("/second"));
    let expected = [answer(b"/first|", true), answer(b"/second|", true)].concat();
    let start = workers[0].net.now();
    while !clients.iter().all(|client| client.has(&expected)) {
        assert!(workers[0].net.now().since(start) < EVEN_WITHIN, "a request is lost");
        run(workers, SLICE);
    }
    assert!(clients.iter().all(|client| !client.sees_end()));
}

#[test]
fn a_worker_that_comes_into_being_gets_its_share() {
    let (old, clients) = rich(2, 40);
    let new = sibling(&old);
    spread(&[&old, &new]);
    run(&[&old, &new], EVEN_WITHIN);
    assert_eq!((counts(&[&old, &new]), old.board.taken()), (vec![20, 20], 20), "none went to and fro");
    assert_served(&[&old, &new], &clients);
}

#[test]
fn two_that_came_get_theirs_from_two_that_were_there() {
    let (one, mut clients) = rich(4, 60);
    let two = sibling(&one);
    spread(&[&one, &two]);
    let (three, four) = (sibling(&one), sibling(&one));
    let all = [&one, &two, &three, &four];
    spread(&all);
    run(&all, EVEN_WITHIN);
    assert!(one.board.taken() <= 30 + 30 + 4, "{} moves", one.board.taken());
    clients.extend(served(&four, 1));
    assert_served(&all, &clients[..60]);
}

#[test]
fn workers_sleep_for_a_second_and_are_in_time() {
    let sleepy = || WorkerConfig { idle_wait_max: Duration::from_secs(1), ..patient() };
    let old = first_with(2, 1, &calm(), sleepy());
    let clients = served(&old, 30);
    let new = old.sibling(sleepy());
    boot(&new);
    spread(&[&old, &new]);
    assert_served(&[&old, &new], &clients);
}

#[test]
fn those_that_have_been_idle_for_longest_go() {
    let old = first_patient(2, &calm());
    let idle = served(&old, 10);
    old.pass(Duration::from_millis(300));
    let fresh = served(&old, 10);
    let new = sibling(&old);
    spread(&[&old, &new]);
    fresh.iter().for_each(|client| client.get("/second"));
    old.until("their worker answers", || fresh.iter().all(|client| client.contains("/second|")));
    assert_served(&[&old, &new], &idle);
}

#[test]
fn clients_that_ask_meanwhile_get_their_answers() {
    let network = SimConfig { recv_buffers: 4, ..SimConfig::default() };
    for seed in seeds() {
        let dice = Dice::of(seed);
        let old = first_with(3, seed, &network, patient());
        let clients = served(&old, 30);
        let (two, three) = (sibling(&old), sibling(&old));
        let workers = [&old, &two, &three];
        let mut asked = vec![0; clients.len()];
        let start = old.net.now();
        while !are_even(&counts(&workers)) || asked.iter().sum::<usize>() < 60 {
            assert!(old.net.now().since(start) < EVEN_WITHIN, "seed {seed}: {:?}", counts(&workers));
            let chosen = dice.below(clients.len());
            asked[chosen] += 1;
            clients[chosen].get("/again");
            for (call, errno) in [(SimCall::Give, libc::EAGAIN), (SimCall::Take, libc::EMFILE)] {
                match dice.below(8) {
                    0 => old.net.fail(call, errno, 1 + dice.below(3) as u64),
                    1 | 2 => old.net.mend(call),
                    _ => {}
                }
            }
            run(&workers, Duration::from_micros(1 + dice.below(3000) as u64));
        }
        old.net.mend(SimCall::Give);
        old.net.mend(SimCall::Take);
        let expected = |times| [answer(b"/first|", true), answer(b"/again|", true).repeat(times)].concat();
        let start = old.net.now();
        while !clients.iter().zip(&asked).all(|(client, times)| client.has(&expected(*times))) {
            assert!(old.net.now().since(start) < EVEN_WITHIN, "seed {seed}: a request is lost");
            run(&workers, SLICE);
        }
        assert!(clients.iter().all(|client| !client.sees_end()), "seed {seed}");
    }
}

#[test]
fn what_no_sibling_takes_is_taken_back() {
    let (old, clients) = rich(2, 40);
    let stopped = sibling(&old);
    old.until("it has given some", || under_way(&old) > 0);
    clients.iter().for_each(|client| client.get("/second"));
    let start = old.net.now();
    let expected = [answer(b"/first|", true), answer(b"/second|", true)].concat();
    old.until("all have an answer", || clients.iter().all(|client| client.has(&expected)));
    assert!(old.net.now().since(start) < Duration::from_millis(600), "it has looked soon");
    drop(stopped);
}

#[test]
fn nothing_is_given_where_it_would_not_help() {
    let (old, clients) = rich(2, 40);
    // Full, then at work for long, then leaving.
    let slot = old.board.claim(99).unwrap();
    slot.set_booted();
    old.pass(Duration::from_secs(1));
    slot.set_accepting(Accepting::BusyDisarmed);
    slot.beat(rgunicorn_io::sys::clock::Instant(1));
    old.pass(Duration::from_secs(1));
    slot.set_accepting(Accepting::Waiting);
    slot.set_leaving();
    old.pass(Duration::from_secs(1));
    // As many as this one.
    let rich_too = old.board.claim(100).unwrap();
    rich_too.set_booted();
    rich_too.set_accepting(Accepting::Waiting);
    rich_too.set_connections(38);
    old.pass(Duration::from_secs(1));
    assert_eq!((counts(&[&old]), under_way(&old)), (vec![40], 0));
    assert_served(&[&old], &clients);
}

#[test]
fn without_handoff_connections_stay_where_they_are() {
    let old = first_with(2, 1, &calm(), WorkerConfig { handoff: OFF, ..patient() });
    let clients = served(&old, 40);
    let new = sibling(&old);
    run(&[&old, &new], EVEN_WITHIN);
    assert_eq!(counts(&[&old, &new]), [40, 0]);
    assert_served(&[&old, &new], &clients);
}

#[test]
fn where_the_kernel_refuses_it_connections_stay_and_end_with_their_worker() {
    let (old, clients) = rich(2, 40);
    old.net.fail(SimCall::Give, libc::EPERM, 1);
    let new = sibling(&old);
    run(&[&old, &new], EVEN_WITHIN);
    assert_eq!(counts(&[&old, &new]), [40, 0]);
    assert_eq!(old.errors().matches("Cannot give connections to other workers").count(), 1);
    assert_served(&[&old, &new], &clients);
    replace(&old);
    assert_eq!(old.run_to_end(), 0);
    assert!(clients.iter().all(Client::sees_end));
}

#[test]
fn idle_workers_sleep_also_where_counts_differ() {
    let long = || WorkerConfig { idle_wait_max: Duration::from_secs(100), ..patient() };
    let old = first_with(2, 1, &calm(), long());
    let _idle = served(&old, 30);
    let slot = old.board.claim(99).unwrap();
    slot.set_booted();
    // Full.
    let turns = old.turns.get();
    old.pass(Duration::from_secs(500));
    assert!(old.turns.get() - turns < 10, "{} turns", old.turns.get() - turns);
    // It is away, and never takes any: what is given is taken back, each time that this one wakes up.
    slot.set_accepting(Accepting::Waiting);
    let turns = old.turns.get();
    old.pass(Duration::from_secs(500));
    assert!(old.turns.get() - turns < 500, "{} turns", old.turns.get() - turns);
}
