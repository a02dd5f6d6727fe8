//! Connections that go from one driver to another: whatever the giver's kernel is doing meanwhile, no byte is lost, and
//! none comes twice. On both back ends over TCP and unix sockets, and on many seeds of the simulation.

#![allow(clippy::unwrap_used, reason = "test code, though outside of test functions")]

mod driver;

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use driver::{Rig, everywhere};
use rgunicorn_io::driver::{Completion, Driver, Received, Token, Urgency};
use rgunicorn_io::sys::clock;
use rgunicorn_io::sys::handoff::{HandoffEnds, HandoffQueue};

/// Tries of each order of steps, on real kernels too.
const ROUNDS: usize = 25;
/// More than the submission queue of a test's ring holds.
const GIVEN_AT_A_TIME: usize = 200;

/// A queue for this rig; the second half keeps a real one open.
fn queue(rig: &Rig) -> (HandoffEnds, Option<HandoffQueue>) {
    match &rig.net {
        Some(net) => (net.handoff(), None),
        None => {
            let queue = HandoffQueue::new().unwrap();
            (queue.ends(), Some(queue))
        }
    }
}

/// Receives until `count` bytes are there.
fn receive(driver: &mut Driver, count: usize) -> Vec<u8> {
    let deadline = clock::now().after(driver::PATIENCE);
    let (mut got, mut out) = (Vec::new(), Vec::new());
    while got.len() < count {
        assert!(clock::now() < deadline, "{} of {count} bytes", got.len());
        driver.wait(Some(Duration::from_millis(5)), &mut out).unwrap();
        for completion in out.drain(..) {
            let Completion::Recv { outcome: Received::Data(buf), .. } = completion else {
                panic!("{completion:?}")
            };
            got.extend_from_slice(driver.buffer(&buf));
            driver.release(buf);
        }
    }
    got
}

#[test]
fn what_comes_before_and_after_is_all_there_and_once() {
    everywhere(|rig| {
        let (ends, _kept) = queue(rig);
        let mut taker = rig.sibling();
        for round in 0..ROUNDS {
            let (fd, mut peer) = rig.pair();
            let op = rig.recv(&fd, 1);
            peer.send(b"one");
            assert_eq!(rig.receive(1, 3), b"one");
            // The kernel may have it, or not, when reception ends.
            peer.send(b"two ");
            if round % 3 == 0 {
                rig.driver.flush();
            }
            let (mut bytes, end) = rig.driver.recv_stop(op);
            peer.send(b"three");
            assert!(!end);
            rig.driver.give(ends.give, fd.as_raw_fd(), b"about it").unwrap();
            rig.driver.close(fd);
            if round % 2 == 0 {
                rig.settle();
            }
            let (fd, message) = taker.take(ends.take).unwrap();
            assert_eq!(message, b"about it");
            let op = taker.recv(fd.as_raw_fd(), Token(2)).unwrap();
            let rest = b"two three".len() - bytes.len();
            bytes.extend(receive(&mut taker, rest));
            assert_eq!(bytes, b"two three");
            rig.settle();
            assert!(rig.out.is_empty(), "nothing of it has come to the giver: {:?}", rig.out);
            // And the other way: it is a connection as any other.
            let (mut out, buf) = (Vec::new(), driver::head(b"answer"));
            let _ = taker.send(fd.as_raw_fd(), Token(3), buf, Urgency::Now);
            taker.wait(Some(Duration::ZERO), &mut out).unwrap();
            let mut got = Vec::new();
            rig.wait_until(|_| {
                got.extend(peer.receive());
                got.len() >= 6
            });
            assert_eq!(got, b"answer");
            taker.recv_cancel(op);
            taker.close(fd);
        }
        rig.settle();
        assert!(!rig.driver.has_pending());
    });
}

/// While the giver's own thread is elsewhere; its reception ends only in its next wait, and takes nothing until then.
#[test]
fn another_thread_gives_what_is_still_received_from() {
    everywhere(|rig| {
        let (ends, _kept) = queue(rig);
        let mut taker = rig.sibling();
        for round in 0..10 * ROUNDS {
            let (fd, mut peer) = rig.pair();
            let (other_fd, _other) = rig.pair();
            let (op, other) = (rig.recv(&fd, 1), rig.recv(&other_fd, 2));
            rig.look();
            peer.send(b"one ");
            // To end another reception enters the kernel, which may deliver of this one as well.
            if round % 2 == 0 {
                rig.driver.recv_stop(other);
            }
            let mut bytes = thread::scope(|scope| {
                let giver = scope.spawn(|| {
                    let bytes = rig.driver.peek_recv(op);
                    rig.driver.give_armed(ends.give, fd.as_raw_fd(), b"about it").unwrap();
                    rig.driver.recv_cancel(op);
                    rig.driver.let_go(fd);
                    bytes
                });
                giver.join().unwrap()
            });
            peer.send(b"two");
            rig.look();
            assert!(rig.out.is_empty(), "nothing of it has come to the giver: {:?}", rig.out);
            let (fd, _) = taker.take(ends.take).unwrap();
            taker.recv(fd.as_raw_fd(), Token(3)).unwrap();
            let rest = b"one two".len() - bytes.len();
            bytes.extend(receive(&mut taker, rest));
            assert_eq!(bytes, b"one two");
            taker.close(fd);
            rig.driver.close(other_fd);
        }
        rig.settle();
        assert!(!rig.driver.has_pending());
    });
}

/// Its entry names a descriptor, and not a file: it would be armed for whatever has that number then.
#[test]
fn a_reception_that_the_kernel_has_not_seen_is_not_given_away() {
    everywhere(|rig| {
        let (ends, _kept) = queue(rig);
        let (fd, _peer) = rig.pair();
        let op = rig.recv(&fd, 1);
        let early = rig.driver.give_armed(ends.give, fd.as_raw_fd(), b"x");
        if rig.driver.name() == "uring" {
            assert_eq!(early.unwrap_err().kind(), ErrorKind::WouldBlock);
            rig.look();
            rig.driver.give_armed(ends.give, fd.as_raw_fd(), b"x").unwrap();
        } else {
            early.unwrap();
        }
        rig.driver.recv_cancel(op);
        rig.driver.let_go(fd);
    });
}

/// Many more than the submission queue holds, by another thread: of none a byte is taken after that.
#[test]
fn any_number_is_given_at_a_time() {
    everywhere(|rig| {
        let (ends, _kept) = queue(rig);
        let mut taker = rig.sibling();
        let mut pairs: Vec<_> = (0..GIVEN_AT_A_TIME).map(|_| rig.pair()).collect();
        let ops: Vec<_> = pairs.iter().map(|(fd, _)| rig.recv(fd, 1)).collect();
        rig.settle();
        pairs.iter_mut().for_each(|(_, peer)| peer.send(b"request"));
        let taken = thread::scope(|scope| {
            let giver = scope.spawn(|| {
                let mut taken = Vec::new();
                for ((fd, peer), op) in pairs.into_iter().zip(ops) {
                    rig.driver.give_armed(ends.give, fd.as_raw_fd(), b"x").unwrap();
                    rig.driver.recv_cancel(op);
                    rig.driver.let_go(fd);
                    // Not read yet when the giver's thread comes back.
                    taken.push((taker.take(ends.take).unwrap().0, peer));
                }
                taken
            });
            giver.join().unwrap()
        });
        rig.settle();
        assert!(rig.out.is_empty(), "nothing of them has come to the giver: {:?}", rig.out);
        for (fd, _peer) in taken {
            let op = taker.recv(fd.as_raw_fd(), Token(3)).unwrap();
            assert_eq!(receive(&mut taker, b"request".len()), b"request");
            taker.recv_cancel(op);
            taker.close(fd);
        }
    });
}

#[test]
fn a_connection_that_is_still_received_from_is_not_given() {
    everywhere(|rig| {
        let (ends, _kept) = queue(rig);
        let (fd, mut peer) = rig.pair();
        let op = rig.recv(&fd, 1);
        let refused = rig.driver.give(ends.give, fd.as_raw_fd(), b"x").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ResourceBusy);
        assert_eq!(rig.sibling().take(ends.take).unwrap_err().kind(), ErrorKind::WouldBlock);
        peer.send(b"here");
        assert_eq!(rig.receive(1, 4), b"here");
        rig.driver.recv_cancel(op);
        rig.driver.close(fd);
    });
}

#[test]
fn one_of_those_who_wait_for_the_queue_is_woken() {
    everywhere(|rig| {
        let (ends, _kept) = queue(rig);
        let mut drivers = [rig.sibling(), rig.sibling(), rig.sibling()];
        let mut out = Vec::new();
        let keys: Vec<_> =
            drivers.iter_mut().map(|each| each.arm_accept(ends.take, Token(7)).unwrap()).collect();
        // All of them wait.
        drivers.iter_mut().for_each(|each| each.wait(Some(Duration::ZERO), &mut out).unwrap());
        let (fd, _peer) = rig.pair();
        rig.driver.give(ends.give, fd.as_raw_fd(), b"x").unwrap();
        rig.driver.close(fd);
        let woken = (0..1000).any(|_| {
            drivers.iter_mut().for_each(|each| each.wait(Some(Duration::from_millis(1)), &mut out).unwrap());
            !out.is_empty()
        });
        assert!(woken);
        assert!(drivers[0].take(ends.take).is_ok(), "whoever is woken, it is there for all");
        for (each, key) in drivers.iter_mut().zip(keys) {
            let _ = each.disarm_accept(key);
        }
    });
}
