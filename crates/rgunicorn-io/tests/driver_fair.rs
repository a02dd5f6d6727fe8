//! One reception and the others: what a wait delivers of each is bounded, and nothing is lost or reordered by that.

#![allow(clippy::unwrap_used, reason = "test code, though outside of test functions")]

mod driver;

use std::time::Duration;

use driver::{Rig, everywhere, pattern};
use rgunicorn_io::driver::{Completion, Received, Token};

/// As `driver/budget.rs` has it for one reception, and a buffer more, which crosses the bound.
const BYTES_PER_WAIT_MAX: usize = 64 * 1024 + 16 * 1024;
/// The same for all of them, without the buffer that crosses the bound.
const BYTES_OF_ALL_MAX: usize = 512 * 1024;
/// Input that is shorter has as much room again.
const SHORT_BYTES: usize = 4096;

/// Waits once; returns what came of reception 1 and of reception 2.
fn wait(rig: &mut Rig) -> (Vec<u8>, Vec<u8>) {
    rig.driver.wait(Some(Duration::from_millis(1)), &mut rig.out).unwrap();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for completion in std::mem::take(&mut rig.out) {
        let Completion::Recv { token, outcome: Received::Data(buf) } = completion else {
            panic!("{completion:?}")
        };
        let into = if token == Token(1) { &mut first } else { &mut second };
        into.extend_from_slice(rig.driver.buffer(&buf));
        rig.driver.release(buf);
    }
    (first, second)
}

#[test]
fn a_flood_is_delivered_in_parts_and_in_order() {
    everywhere(|rig| {
        let (fd, mut peer) = rig.pair();
        let (other, mut other_peer) = rig.pair();
        let whole = pattern(if rig.is_sim() { 1 << 16 } else { 4 << 20 });
        let (mut sent, mut got, mut others) = (0, Vec::new(), 0);
        // As much as the kernel takes lies there before the first look.
        loop {
            let more = peer.send_some(&whole[sent..]);
            sent += more;
            if more == 0 || sent == whole.len() {
                break;
            }
        }
        rig.recv(&fd, 1);
        rig.recv(&other, 2);
        while got.len() < whole.len() {
            other_peer.send(b"x");
            let mut waits = 0;
            while others == 0 {
                let (first, second) = wait(rig);
                assert!(first.len() <= BYTES_PER_WAIT_MAX, "{} bytes in one wait", first.len());
                got.extend(first);
                others += second.len();
                waits += 1;
                assert!(waits < 50, "the other one waits");
                sent += peer.send_some(&whole[sent..]);
            }
            others = 0;
        }
        assert!(got == whole);
        rig.driver.close(fd);
        rig.driver.close(other);
        rig.settle();
        assert!(!rig.driver.has_pending());
    });
}

#[test]
fn a_flood_that_is_stopped_gives_all_that_has_come() {
    everywhere(|rig| {
        let (fd, mut peer) = rig.pair();
        let whole = pattern(if rig.is_sim() { 1 << 16 } else { 2 << 20 });
        let op = rig.recv(&fd, 1);
        let (mut sent, mut got) = (0, Vec::new());
        for _ in 0..3 {
            sent += peer.send_some(&whole[sent..]);
            got.extend(wait(rig).0);
        }
        let (rest, end) = rig.driver.recv_stop(op);
        got.extend(rest);
        assert!(!end && whole.starts_with(&got), "in order, and nothing between");
        let op = rig.recv(&fd, 1);
        while got.len() < whole.len() {
            sent += peer.send_some(&whole[sent..]);
            got.extend(wait(rig).0);
        }
        assert!(got == whole);
        rig.driver.recv_cancel(op);
        rig.settle();
        assert!(!rig.driver.has_pending());
    });
}

/// More connections than one wait may bring input of, with as much of it as their sockets hold.
#[test]
fn a_flood_of_many_is_delivered_in_parts_and_to_all() {
    const FLOODS: usize = 64;
    everywhere(|rig| {
        // A simulation has a turn for every operation, and no costs.
        if rig.is_sim() {
            return;
        }
        let whole = pattern(384 * 1024);
        let mut pairs: Vec<_> = (0..FLOODS).map(|_| rig.pair()).collect();
        let mut sent = vec![0; FLOODS];
        for ((fd, peer), (token, sent)) in pairs.iter_mut().zip((0..).zip(&mut sent)) {
            *sent = peer.send_some(&whole);
            rig.recv(fd, token);
        }
        let mut got = vec![Vec::new(); FLOODS];
        let mut begun = Vec::new();
        let mut waits = 0;
        while got.iter().any(|got| got.len() < whole.len()) {
            for ((_, peer), sent) in pairs.iter_mut().zip(&mut sent) {
                *sent += peer.send_some(&whole[*sent..]);
            }
            let mut all = 0;
            rig.driver.wait(Some(Duration::from_millis(1)), &mut rig.out).unwrap();
            for completion in std::mem::take(&mut rig.out) {
                let Completion::Recv { token, outcome: Received::Data(buf) } = completion else {
                    panic!("{completion:?}")
                };
                let into = &mut got[token.0 as usize];
                if into.is_empty() {
                    begun.push(waits);
                }
                let room = if buf.len() < SHORT_BYTES { 2 * BYTES_OF_ALL_MAX } else { BYTES_OF_ALL_MAX };
                assert!(all < room, "{} bytes behind {all} in one wait", buf.len());
                all += buf.len();
                into.extend_from_slice(rig.driver.buffer(&buf));
                rig.driver.release(buf);
            }
            waits += 1;
        }
        assert!(got.iter().all(|got| *got == whole), "all of it, in order");
        // By turns, and not one after the other.
        assert!(begun.len() == FLOODS && begun.iter().all(|wait| *wait <= waits / 2), "{begun:?} of {waits}");
        for (fd, _) in pairs {
            rig.driver.close(fd);
        }
        rig.settle();
        assert!(!rig.driver.has_pending());
    });
}
