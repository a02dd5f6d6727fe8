//! Connections that wait for a worker at work: they go to siblings with time, with all that has come on them.

use std::rc::Rc;
use std::time::Duration;

use rgunicorn_io::driver::sim::SimCall;
use rgunicorn_server::worker::{Reactor, WorkerConfig};

use crate::app::{Meanwhile, answer};
use crate::client::Client;
use crate::handoff::{OFF, boot, config, first, first_with, served, two_answers};
use crate::stage::{Stage, calm};

/// How long `/busy` takes.
const BUSY: Duration = Duration::from_secs(3);

/// Two workers, of which the first has clients, and will be busy: after a while `meanwhile` happens, with the second
/// one at hand, and then the helper looks a few times.
fn busy_and_idle(meanwhile: impl Fn(&Stage) + 'static) -> (Stage, Rc<Stage>, Vec<Client>) {
    let giver = first(2, 1, &calm());
    let clients = served(&giver, 4);
    let taker = Rc::new(giver.sibling(config()));
    boot(&taker);
    let (net, idle) = (giver.net.clone(), Rc::clone(&taker));
    let busy: Meanwhile = Rc::new(move |reactor: &Reactor, path: &str| {
        if path == "/busy" {
            let start = net.now();
            meanwhile(&idle);
            for _ in 0..4 {
                reactor.relieve(|fd| net.has_input(fd));
                assert_eq!(idle.run_for(Duration::from_millis(50), || {}), None);
            }
            net.advance(BUSY.saturating_sub(net.now().since(start)));
        }
    });
    *giver.app.meanwhile.borrow_mut() = Some(busy);
    (giver, taker, clients)
}

/// Lets the giver be busy; returns how many connections it has after that.
fn be_busy(giver: &Stage, clients: &[Client]) -> usize {
    clients[0].get("/busy");
    giver.until("the answer", || clients[0].contains("/busy|"));
    giver.settle();
    assert_eq!(giver.app.count("call /busy"), 1);
    giver.snapshot().connections
}

#[test]
fn a_request_that_comes_meanwhile_is_answered_by_a_sibling() {
    let (giver, taker, clients) = busy_and_idle(|taker| taker.net.advance(Duration::from_millis(10)));
    // What comes before the helper looks; the loop has not seen it.
    let early = Rc::new(clients);
    let (late, inner) = (Rc::clone(&early), giver.app.meanwhile.borrow().clone().unwrap());
    let asks: Meanwhile = Rc::new(move |reactor, path| {
        if path == "/busy" {
            late[1].get("/second");
            late[2].send("GET /sec");
        }
        inner(reactor, path);
        if path == "/busy" {
            assert!(late[1].has(&two_answers("/second")), "before the busy one has ended");
        }
    });
    *giver.app.meanwhile.borrow_mut() = Some(asks);
    assert_eq!(be_busy(&giver, &early), 2);
    assert_eq!(taker.snapshot().connections, 2);
    early[2].send("ond HTTP/1.1\r\nHost: a\r\n\r\n");
    early[1].get("/third");
    taker.until("the answers", || early[2].has(&two_answers("/second")) && early[1].contains("/third|"));
    early[3].get("/second");
    giver.until("the answer of one that was not given", || early[3].has(&two_answers("/second")));
    assert!(early.iter().all(|client| !client.sees_end()));
}

/// Lets the giver be busy when these requests have come together with that of the busy client.
fn come_with(requests: &[&str]) -> (Stage, Rc<Stage>, Vec<Client>, usize) {
    let (giver, taker, clients) = busy_and_idle(|taker| taker.net.advance(Duration::from_millis(10)));
    clients[0].get("/busy");
    for (client, request) in clients[1..].iter().zip(requests) {
        client.send(request);
    }
    giver.until("the answer", || clients[0].contains("/busy|"));
    let left = giver.snapshot().connections;
    giver.settle();
    (giver, taker, clients, left)
}

#[test]
fn requests_of_the_same_turn_go_with_all_that_has_come() {
    let body = "POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    let several = "GET /second HTTP/1.1\r\nHost: a\r\n\r\nGET /third HTTP/1.1\r\nHost: a\r\n\r\nGET /fo";
    let (_, taker, clients, left) = come_with(&[body, several]);
    assert_eq!((left, taker.snapshot().connections), (2, 2));
    assert_eq!((taker.app.count("call /second"), taker.app.count("call /third")), (2, 1));
    let echo = [answer(b"/first|", true), answer(b"/second|body", true)].concat();
    assert!(clients[1].has(&echo));
    clients[2].send("urth HTTP/1.1\r\nHost: a\r\n\r\n");
    let three = [two_answers("/second"), answer(b"/third|", true), answer(b"/fourth|", true)].concat();
    taker.until("the last answer", || clients[2].has(&three));
}

#[test]
fn what_cannot_travel_is_answered_by_its_worker() {
    let half = "POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo";
    let chunked = "POST /second HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let large =
        format!("POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n{}", "x".repeat(9000));
    let no_chunk = "POST /second HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let (giver, taker, clients, left) = come_with(&[no_chunk]);
    assert_eq!((left, taker.snapshot().connections), (4, 0));
    giver.until("the answer", || clients[1].has(&two_answers("/second")));
    let (giver, taker, clients, left) = come_with(&[half, chunked, &large]);
    assert_eq!((left, taker.snapshot().connections), (4, 0));
    clients[1].send("dy");
    giver.until("the answers", || clients[1..].iter().all(|client| client.contains("/second|")));
    assert!(clients.iter().all(|client| !client.sees_end()));
}

#[test]
fn a_request_behind_the_busy_one_on_its_connection_waits_for_it() {
    let (giver, taker, clients) = busy_and_idle(|taker| taker.net.advance(Duration::from_millis(10)));
    clients[0].get("/busy");
    clients[0].get("/second");
    giver.until("the answers", || clients[0].contains("/second|"));
    let all = [answer(b"/first|", true), answer(b"/busy|", true), answer(b"/second|", true)].concat();
    assert!(clients[0].has(&all));
    assert_eq!(taker.snapshot().connections, 0);
}

#[test]
fn nothing_is_given_that_has_not_waited() {
    let (giver, taker, clients) = busy_and_idle(|_| {});
    let net = giver.net.clone();
    *giver.app.meanwhile.borrow_mut() = Some(Rc::new(move |reactor, path| {
        if path == "/busy" {
            reactor.relieve(|fd| net.has_input(fd));
        }
    }));
    clients[0].get("/busy");
    clients[1].get("/second");
    giver.until("the answers", || clients[1].contains("/second|"));
    assert_eq!((giver.snapshot().connections, taker.snapshot().connections), (4, 0));
}

#[test]
fn nothing_is_given_to_siblings_that_are_busy_themselves_or_leave() {
    for leaves in [false, true] {
        let giver = first(2, 1, &calm());
        let clients = served(&giver, 2);
        let taker = giver.sibling(config());
        taker.reactor.handles().slot.set_booted();
        if leaves {
            taker.settle();
            taker.reactor.handles().slot.set_leaving();
        }
        let net = giver.net.clone();
        *giver.app.meanwhile.borrow_mut() = Some(Rc::new(move |reactor, path| {
            if path == "/busy" {
                net.advance(BUSY);
                reactor.relieve(|fd| net.has_input(fd));
            }
        }));
        clients[0].get("/busy");
        clients[1].get("/second");
        giver.until("the answers", || clients[1].has(&two_answers("/second")));
        assert_eq!(giver.snapshot().connections, 2);
    }
}

#[test]
fn what_the_kernel_does_not_let_pass_stays_with_its_worker() {
    for (errno, lines) in [(libc::EAGAIN, 0), (libc::EPERM, 1)] {
        let (giver, taker, clients) = busy_and_idle(|taker| taker.net.advance(Duration::from_millis(10)));
        giver.net.fail(SimCall::Give, errno, 1);
        clients[0].get("/busy");
        clients[1].get("/second");
        giver.until("the answers", || clients[1].has(&two_answers("/second")));
        giver.settle();
        assert_eq!((giver.snapshot().connections, taker.snapshot().connections), (4, 0));
        let told = giver.errors().matches("Cannot give connections to other workers").count();
        assert_eq!(told, lines, "{}", giver.errors());
    }
}

#[test]
fn a_worker_that_does_not_give_keeps_all() {
    let without = WorkerConfig { handoff: OFF, ..config() };
    let giver = first_with(2, 1, &calm(), without);
    let clients = served(&giver, 2);
    let taker = giver.sibling(config());
    boot(&taker);
    let net = giver.net.clone();
    *giver.app.meanwhile.borrow_mut() = Some(Rc::new(move |reactor, path| {
        if path == "/busy" {
            net.advance(BUSY);
            reactor.relieve(|fd| net.has_input(fd));
        }
    }));
    clients[0].get("/busy");
    clients[1].get("/second");
    giver.until("the answers", || clients[1].has(&two_answers("/second")));
    assert_eq!(giver.snapshot().connections, 2);
}
