//! Connections that outlive their worker: several workers of one server, on one simulated network.

use std::cell::Cell;
use std::time::Duration;

use rgunicorn_io::driver::Driver;
use rgunicorn_io::driver::sim::{SimCall, SimConfig};
use rgunicorn_io::sys::shared::Scoreboard;
use rgunicorn_server::worker::{HandoffConfig, WorkerConfig};

use crate::app::{answer, pattern};
use crate::client::Client;
use crate::stage::{Company, Stage, calm, worker_config};

const KEEPALIVE: Duration = Duration::from_secs(5);
pub(crate) const OFF: HandoffConfig = HandoffConfig { works: false, after: Duration::ZERO };
/// Messages that the queue of the simulation holds.
const QUEUE: usize = 10;

pub(crate) fn config() -> WorkerConfig {
    WorkerConfig { keepalive: KEEPALIVE, ..worker_config() }
}

/// The first worker of a server that wants so many.
pub(crate) fn first(workers: u32, seed: u64, network: &SimConfig) -> Stage {
    first_with(workers, seed, network, config())
}

pub(crate) fn first_with(workers: u32, seed: u64, network: &SimConfig, config: WorkerConfig) -> Stage {
    let (driver, net) = Driver::sim(seed, network);
    let board = Scoreboard::new().unwrap();
    board.set_workers(workers);
    let company = Company { board, listener: net.listener(), handoff: Some(net.handoff()) };
    let stage = Stage::in_company(driver, net, seed, config, company);
    boot(&stage);
    stage
}

/// The worker says that it serves, and waits for connections.
pub(crate) fn boot(stage: &Stage) {
    stage.reactor.handles().slot.set_booted();
    stage.settle();
}

/// The master lets a worker leave and has others go on.
pub(crate) fn replace(stage: &Stage) {
    stage.reactor.handles().slot.mark_replaced();
    stage.control.stop();
}

/// Clients of this worker alone that have had an answer.
pub(crate) fn served(stage: &Stage, count: usize) -> Vec<Client> {
    let clients: Vec<_> = (0..count).map(|_| stage.connect()).collect();
    for client in &clients {
        client.get("/first");
    }
    stage.until("all have an answer", || clients.iter().all(|client| client.contains("/first|")));
    clients
}

pub(crate) fn under_way(stage: &Stage) -> usize {
    stage.net.under_way(stage.handoff.unwrap())
}

/// Two answers on a connection that stays.
pub(crate) fn two_answers(second: &str) -> Vec<u8> {
    [answer(b"/first|", true), answer(format!("{second}|").as_bytes(), true)].concat()
}

#[test]
fn an_idle_connection_goes_to_a_sibling_when_its_worker_is_replaced() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 3);
    let taker = giver.sibling(config());
    boot(&taker);
    let start = giver.net.now();
    replace(&giver);
    assert_eq!(giver.run_to_end(), 0);
    assert_eq!((giver.snapshot().connections, under_way(&giver)), (0, 3));
    assert!(giver.net.now().since(start) < Duration::from_millis(100), "there is nothing to wait for");
    taker.until("all are taken", || taker.snapshot().connections == 3);
    for client in &clients {
        client.get("/second");
    }
    taker.until("the answers", || clients.iter().all(|client| client.has(&two_answers("/second"))));
    assert!(clients.iter().all(|client| !client.sees_end()));
}

#[test]
fn it_keeps_the_rest_of_its_time() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 1);
    let idle_since = giver.net.now();
    let taker = giver.sibling(config());
    boot(&taker);
    giver.pass(Duration::from_secs(2));
    replace(&giver);
    assert_eq!(giver.run_to_end(), 0);
    taker.until("its end", || clients[0].sees_end());
    let idle = taker.net.now().since(idle_since);
    assert!(idle >= KEEPALIVE && idle < KEEPALIVE + Duration::from_millis(100), "{idle:?}");
}

#[test]
fn what_comes_before_it_is_given_is_answered_by_its_worker() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 2);
    let taker = giver.sibling(config());
    boot(&taker);
    clients[0].get("/late");
    clients[1].send("GET /la");
    // They have arrived, and no turn has seen to them when the worker is told to leave.
    replace(&giver);
    assert_eq!(giver.run_for(Duration::from_millis(50), || {}), None, "half a request holds it");
    clients[1].send("te HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(giver.run_to_end(), 0);
    taker.until("both are taken", || taker.snapshot().connections == 2);
    assert!(clients.iter().all(|client| client.has(&two_answers("/late")) && !client.sees_end()));
}

#[test]
fn what_comes_while_it_is_under_way_is_answered_by_the_next() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 2);
    let taker = giver.sibling(config());
    boot(&taker);
    replace(&giver);
    assert_eq!(giver.run_to_end(), 0);
    clients[0].get("/late");
    clients[1].send("GET /late HTTP/1.1\r\nHo");
    taker.until("an answer", || clients[0].has(&two_answers("/late")));
    clients[1].send("st: a\r\n\r\n");
    taker.until("the other one", || clients[1].has(&two_answers("/late")));
}

#[test]
fn a_request_in_progress_is_answered_first_and_its_connection_stays() {
    let giver = first(2, 1, &calm());
    let client = giver.connect();
    client.get("/yield/3/5");
    let taker = giver.sibling(config());
    boot(&taker);
    replace(&giver);
    assert_eq!(giver.run_to_end(), 0);
    assert!(
        client.contains(std::str::from_utf8(&pattern(5)).unwrap()) && !client.contains("Connection: close")
    );
    client.get("/second");
    taker.until("the next answer", || client.contains("/second|"));
    assert!(!client.sees_end());
}

#[test]
fn a_connection_is_given_when_its_last_answer_has_left() {
    let giver = first(2, 1, &calm());
    let client = giver.connect();
    client.get("/big/40000");
    giver.settle();
    let taker = giver.sibling(config());
    boot(&taker);
    replace(&giver);
    assert_eq!(giver.run_for(Duration::from_millis(200), || {}), None, "the client has not read it");
    assert_eq!(under_way(&giver), 0);
    while client.read_some(100_000) > 0 {
        let _ = giver.run_for(Duration::from_millis(5), || {});
    }
    assert!(client.got() == answer(&pattern(40_000), true));
    taker.until("it is taken", || taker.snapshot().connections == 1);
    client.get("/second");
    taker.until("the next answer", || client.contains("/second|"));
}

#[test]
fn more_than_the_queue_holds_is_given_as_it_empties() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 3 * QUEUE);
    let taker = giver.sibling(config());
    boot(&taker);
    replace(&giver);
    assert_eq!(giver.run_for(Duration::from_millis(50), || {}), None, "it has not given all of them");
    assert_eq!((giver.snapshot().connections, under_way(&giver)), (2 * QUEUE, QUEUE));
    // It goes on to serve those.
    clients.iter().for_each(|client| client.get("/second"));
    let mut left = None;
    for _ in 0..200 {
        left = left.or_else(|| giver.run_for(Duration::from_millis(3), || {}));
        assert_eq!(taker.run_for(Duration::from_millis(3), || {}), None);
    }
    assert_eq!((left, taker.snapshot().connections), (Some(0), 3 * QUEUE));
    assert!(clients.iter().all(|client| client.has(&two_answers("/second")) && !client.sees_end()));
}

#[test]
fn without_a_sibling_idle_connections_end() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 2);
    giver.pass(Duration::from_secs(1));
    replace(&giver);
    let start = giver.net.now();
    clients[0].get("/second");
    assert_eq!(giver.run_to_end(), 0);
    assert!(clients[0].has(&[answer(b"/first|", true), answer(b"/second|", false)].concat()));
    assert!(clients.iter().all(Client::sees_end));
    assert!(giver.net.now().since(start) < Duration::from_secs(1));
}

#[test]
fn a_worker_waits_for_siblings_that_are_full_and_serves_meanwhile() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 2);
    let taker = giver.sibling(config());
    taker.reactor.handles().slot.set_booted();
    replace(&giver);
    assert_eq!(giver.run_for(Duration::from_secs(1), || {}), None);
    clients[0].get("/second");
    giver.until("an answer", || clients[0].has(&two_answers("/second")));
    taker.settle();
    assert_eq!(giver.run_to_end(), 0);
    taker.until("both are taken", || taker.snapshot().connections == 2);
    assert!(clients.iter().all(|client| !client.sees_end()));
}

#[test]
fn a_sibling_that_boots_is_waited_for() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 2);
    let taker = giver.sibling(config());
    replace(&giver);
    assert_eq!(giver.run_for(Duration::from_secs(1), || {}), None);
    clients[0].get("/second");
    giver.until("an answer", || clients[0].has(&two_answers("/second")));
    boot(&taker);
    assert_eq!(giver.run_to_end(), 0);
    taker.until("both are taken", || taker.snapshot().connections == 2);
    assert!(clients.iter().all(|client| !client.sees_end()));
}

/// As Gunicorn's last answer does, however far the successor is by then.
#[test]
fn the_only_worker_is_recycled_with_a_last_answer() {
    for (workers, stays) in [(1, false), (2, true)] {
        let recycled = WorkerConfig { requests_max: 2, shares_listeners: true, ..config() };
        let giver = first_with(workers, 1, &calm(), recycled);
        let siblings: Vec<_> = (1..workers).map(|_| giver.sibling(config())).collect();
        siblings.iter().for_each(boot);
        let client = giver.connect();
        client.get("/first");
        giver.until("an answer", || client.contains("/first|"));
        client.get("/hold");
        giver.until("the call", || giver.app.count("call /hold") == 1);
        assert!(giver.control.stopping());
        let successor = giver.sibling(config());
        boot(&successor);
        assert_eq!(giver.reactor.head_context(giver.app.hold()).keep_alive, stays, "{workers} wanted");
    }
}

#[test]
fn a_sibling_that_dies_is_replaced_and_connections_wait_for_that() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 2);
    let full = giver.sibling(config());
    full.reactor.handles().slot.set_booted();
    replace(&giver);
    assert_eq!(giver.run_for(Duration::from_millis(100), || {}), None);
    full.reactor.handles().slot.release();
    clients[0].get("/second");
    giver.until("an answer", || clients[0].has(&two_answers("/second")));
    let taker = giver.sibling(config());
    boot(&taker);
    assert_eq!(giver.run_to_end(), 0);
    taker.until("both are taken", || taker.snapshot().connections == 2);
    assert!(clients.iter().all(|client| !client.sees_end()));
}

#[test]
fn siblings_that_stay_full_get_nothing_and_clients_are_told_in_time() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 3);
    let full = giver.sibling(config());
    full.reactor.handles().slot.set_booted();
    let graceful = giver.reactor.config().graceful_timeout;
    replace(&giver);
    let start = giver.net.now();
    // One is busy all the time, one asks now and then, one is idle for longer than the worker has.
    let asked = Cell::new(0_usize);
    let status = giver.run_for(graceful * 2, || {
        let second = giver.net.now().since(start).as_secs() as usize;
        if second > asked.get() && clients[0].read().len() >= asked.get() {
            asked.set(second);
            clients[0].get("/more");
        }
    });
    assert_eq!(status, Some(0));
    assert!(giver.net.now().since(start) < graceful, "it has closed them before");
    assert!(clients[0].contains("Connection: close") && clients.iter().all(Client::sees_end));
}

#[test]
fn a_turn_that_is_over_leaves_no_plan_behind() {
    let network = calm();
    let giver = first(2, 1, &network);
    let hasty = giver.sibling(WorkerConfig { handling_time_max: Duration::ZERO, ..config() });
    boot(&hasty);
    giver.control.stop();
    assert_eq!(giver.run_to_end(), 0);
    let clients = served(&hasty, 3);
    clients[0].get("/hold");
    hasty.settle();
    let taker = hasty.sibling(config());
    boot(&taker);
    replace(&hasty);
    let turns = hasty.turns.get();
    assert_eq!(hasty.run_for(Duration::from_secs(1), || {}), None, "a request is in progress");
    assert!(hasty.turns.get() - turns < 500, "{} turns", hasty.turns.get() - turns);
    taker.until("the others are taken", || taker.snapshot().connections == 2);
}

#[test]
fn connections_of_several_workers_end_in_the_order_of_their_times() {
    let one = first(3, 1, &calm());
    let early = served(&one, 1);
    one.pass(Duration::from_secs(2));
    let two = one.sibling(config());
    boot(&two);
    let late = two.connect();
    late.get("/first");
    two.until("an answer", || late.contains("/first|"));
    let taker = one.sibling(config());
    // The one with more time is taken first.
    boot(&taker);
    replace(&two);
    assert_eq!(two.run_to_end(), 0);
    taker.until("it is taken", || taker.snapshot().connections == 1);
    replace(&one);
    assert_eq!(one.run_to_end(), 0);
    taker.until("the end of the early one", || early[0].sees_end());
    assert!(!late.sees_end());
    taker.until("the end of the late one", || late.sees_end());
}

#[test]
fn when_the_server_stops_idle_connections_end() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 2);
    let taker = giver.sibling(config());
    boot(&taker);
    replace(&giver);
    assert_eq!(giver.run_to_end(), 0);
    // They are under way now.
    giver.board.set_workers(0);
    clients[0].get("/second");
    taker.control.stop();
    assert_eq!(taker.run_to_end(), 0);
    let last = [answer(b"/first|", true), answer(b"/second|", false)].concat();
    assert!(clients[0].has(&last), "what had come is answered");
    assert!(clients.iter().all(Client::sees_end));
}

/// The workers of the other master have another queue.
#[test]
fn when_another_master_goes_on_what_is_under_way_is_answered_all_the_same() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 2);
    let taker = giver.sibling(config());
    boot(&taker);
    replace(&giver);
    assert_eq!(giver.run_to_end(), 0);
    giver.board.set_other_master(true);
    clients[0].get("/second");
    replace(&taker);
    giver.board.set_workers(0);
    assert_eq!(taker.run_to_end(), 0);
    let last = [answer(b"/first|", true), answer(b"/second|", false)].concat();
    assert!(clients[0].has(&last), "what had come is answered");
    assert!(clients.iter().all(Client::sees_end));
}

#[test]
fn a_server_that_stops_while_a_worker_gives_closes_the_rest() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 2);
    let full = giver.sibling(config());
    full.reactor.handles().slot.set_booted();
    replace(&giver);
    assert_eq!(giver.run_for(Duration::from_secs(1), || {}), None, "there is no room for them");
    giver.board.set_workers(0);
    let start = giver.net.now();
    assert_eq!(giver.run_to_end(), 0);
    assert!(clients.iter().all(Client::sees_end));
    assert!(giver.net.now().since(start) < Duration::from_secs(1));
}

#[test]
fn where_the_kernel_refuses_it_connections_end_as_without_it() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 3);
    let taker = giver.sibling(config());
    boot(&taker);
    giver.net.fail(SimCall::Give, libc::EPERM, 1);
    replace(&giver);
    assert_eq!(giver.run_to_end(), 0);
    assert!(clients.iter().all(Client::sees_end));
    assert_eq!(giver.errors().matches("Cannot give connections to other workers").count(), 1);
}

#[test]
fn a_taker_without_descriptors_leaves_them_in_the_queue() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 2);
    let taker = giver.sibling(config());
    boot(&taker);
    replace(&giver);
    assert_eq!(giver.run_to_end(), 0);
    taker.net.fail(SimCall::Take, libc::EMFILE, 1);
    taker.pass(Duration::from_millis(500));
    assert_eq!(under_way(&taker), 2);
    taker.net.mend(SimCall::Take);
    clients.iter().for_each(|client| client.get("/second"));
    taker.until("the answers", || clients.iter().all(|client| client.has(&two_answers("/second"))));
}

#[test]
fn a_message_of_another_kind_closes_its_connection_and_no_other() {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 1);
    let taker = giver.sibling(config());
    boot(&taker);
    let strange = taker.net.hand_over(giver.handoff.unwrap(), b"of another version");
    replace(&giver);
    assert_eq!(giver.run_to_end(), 0);
    taker.until("it is closed", || taker.net.sees_end(strange));
    clients[0].get("/second");
    taker.until("the answer", || clients[0].has(&two_answers("/second")));
    assert_eq!(taker.errors().matches("has given a connection in a way").count(), 1);
}
