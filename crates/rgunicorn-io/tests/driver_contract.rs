//! The driver's contract, held by every back end. Each test runs on io_uring and epoll, over TCP and unix sockets, with
//! normal and with the smallest queues (`Config::torture`), and on many seeds of the simulation.

mod driver;

use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::Duration;

use bytes::Bytes;
use driver::{Rig, everywhere, head, pattern};
use rgunicorn_io::driver::{BufId, Completion, OpKey, Received, SendBuf, Sent, Token, Urgency};

const IN: u32 = libc::POLLIN as u32;
const OUT: u32 = libc::POLLOUT as u32;

#[test]
fn data_arrives_in_order_and_reception_stays_armed() {
    everywhere(|rig| {
        let (fd, mut peer) = rig.pair();
        rig.recv(&fd, 1);
        for part in [&b"GET / HTTP/1.1\r\n"[..], b"Host: a\r\n", b"\r\n"] {
            peer.send(part);
            assert_eq!(rig.receive(1, part.len()), part);
        }
        peer.finish();
        assert!(matches!(rig.received(1), Received::Eof));
        rig.settle();
        assert!(rig.out.is_empty(), "nothing follows the end: {:?}", rig.out);
        assert!(!rig.driver.has_pending());
    });
}

#[test]
fn a_stream_larger_than_all_buffers_arrives_whole() {
    everywhere(|rig| {
        let (fd, mut peer) = rig.pair();
        let whole = pattern(1 << 18);
        rig.recv(&fd, 1);
        let (mut sent, mut got) = (0, Vec::new());
        while got.len() < whole.len() {
            sent += peer.send_some(&whole[sent..]);
            rig.driver.wait(Some(Duration::from_millis(1)), &mut rig.out).unwrap();
            for completion in std::mem::take(&mut rig.out) {
                let Completion::Recv { outcome: Received::Data(buf), .. } = completion else {
                    panic!("{completion:?}")
                };
                got.extend_from_slice(rig.driver.buffer(&buf));
                rig.driver.release(buf);
            }
        }
        assert!(got == whole);
    });
}

/// Moves what was received from `out` to `held`.
fn hold(rig: &mut Rig, held: &mut Vec<(Token, BufId)>) {
    for completion in rig.out.drain(..) {
        let Completion::Recv { token, outcome: Received::Data(buf) } = completion else {
            panic!("{completion:?}")
        };
        held.push((token, buf));
    }
}

#[test]
fn held_buffers_starve_receptions_without_spinning_and_released_ones_revive_them() {
    everywhere(|rig| {
        // More connections than there are buffers.
        let count = if rig.is_sim() { 20 } else { usize::from(rig.config.recv_buffers) + 44 };
        let mut connections: Vec<_> = (0..count).map(|_| rig.pair()).collect();
        for (at, (fd, peer)) in connections.iter_mut().enumerate() {
            rig.recv(fd, at as u64);
            peer.send(b"x");
        }
        let mut held = Vec::new();
        rig.settle();
        hold(rig, &mut held);
        assert!(!held.is_empty());
        let before = rig.driver.stats().enobufs;
        for _ in 0..20 {
            rig.driver.wait(Some(Duration::from_millis(1)), &mut rig.out).unwrap();
        }
        let spent = rig.driver.stats().enobufs - before;
        assert!(rig.is_sim() || spent == 0, "a starved driver spins: {spent}");
        // Give back one by one: everybody is served in the end, exactly once.
        let mut served = vec![0; count];
        for _ in 0..count {
            rig.wait_until(|rig| {
                hold(rig, &mut held);
                !held.is_empty()
            });
            let (token, buf) = held.remove(0);
            assert_eq!(rig.driver.buffer(&buf), b"x");
            served[token.0 as usize] += 1;
            rig.driver.release(buf);
        }
        assert!(served.iter().all(|&times| times == 1), "{served:?}");
    });
}

#[test]
fn a_reset_is_an_error_and_the_end() {
    everywhere(|rig| {
        let (fd, peer) = rig.pair();
        rig.recv(&fd, 1);
        rig.settle();
        if !peer.reset() {
            return;
        }
        let Received::Err(error) = rig.received(1) else { panic!("no error") };
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        assert!(!rig.driver.has_pending());
        rig.driver.close(fd);
    });
}

#[test]
fn small_sends_go_out_now_or_with_the_next_wait() {
    everywhere(|rig| {
        let (fd, mut peer) = rig.pair();
        for urgency in [Urgency::Now, Urgency::Batch] {
            for (first, second) in [("head", "body"), ("head", ""), ("", "body"), ("", "")] {
                let buf = SendBuf { head: first.into(), body: Bytes::from_static(second.as_bytes()) };
                let got = rig.send_all(&fd, buf, urgency, &mut peer);
                assert_eq!(got, [first, second].concat().as_bytes());
            }
        }
        assert!(!rig.driver.has_pending());
        assert_eq!(rig.driver.queued_sends(), 0);
    });
}

#[test]
fn a_large_body_reaches_a_slow_reader_whole() {
    everywhere(|rig| {
        let count = if rig.is_sim() { 200_000 } else { 8 << 20 };
        for urgency in [Urgency::Now, Urgency::Batch] {
            let (fd, mut peer) = rig.pair();
            let whole = pattern(count);
            let buf = SendBuf { head: whole[..5000].to_vec(), body: Bytes::copy_from_slice(&whole[5000..]) };
            assert!(rig.send_all(&fd, buf, urgency, &mut peer) == whole);
            rig.driver.close(fd);
        }
    });
}

#[test]
fn a_batch_leaves_without_a_wait_when_full_or_flushed() {
    everywhere(|rig| {
        if rig.is_sim() {
            return;
        }
        let mut connections: Vec<_> = (0..16).map(|_| rig.pair()).collect();
        for (fd, _) in &connections {
            let sent = rig.driver.send(fd.as_raw_fd(), Token(1), head(b"x"), Urgency::Batch);
            assert!(matches!(sent, Sent::Pending(_)));
            // The sixteenth takes all along, and on a slow machine age does so before.
            assert!(rig.driver.queued_sends() < 16);
        }
        rig.driver.flush();
        assert_eq!(rig.driver.queued_sends(), 0);
        for (_, peer) in &mut connections {
            rig.out.clear();
            let mut got = Vec::new();
            while got.is_empty() {
                got = peer.receive();
            }
            assert_eq!(got, b"x");
        }
    });
}

#[test]
fn sending_to_a_closed_peer_is_an_error_not_a_signal() {
    everywhere(|rig| {
        for urgency in [Urgency::Now, Urgency::Batch] {
            let (fd, peer) = rig.pair();
            match peer {
                driver::Peer::Sim(net, peer) => net.close(peer),
                other => drop(other),
            }
            // TCP takes the first bytes and learns of the closed end by the answer.
            let mut failed = false;
            rig.wait_until(|rig| {
                let sent = rig.driver.send(fd.as_raw_fd(), Token(5), head(b"x"), urgency);
                failed = match sent {
                    Sent::Ready(result, _) => result.is_err(),
                    Sent::Pending(_) => match rig.wait_for(|c| matches!(c, Completion::Sent { .. })) {
                        Completion::Sent { result, .. } => result.is_err(),
                        _ => false,
                    },
                };
                failed
            });
            rig.driver.close(fd);
        }
    });
}

#[test]
fn a_stopped_reception_delivers_nothing_and_loses_nothing() {
    everywhere(|rig| {
        for round in 0..20 {
            let (fd, mut peer) = rig.pair();
            let op = rig.recv(&fd, 1);
            let (other, mut other_peer) = rig.pair();
            rig.recv(&other, 2);
            if round % 2 == 0 {
                rig.settle();
            }
            other_peer.send(b"kept");
            peer.send(b"first");
            if round % 3 == 0 {
                peer.finish();
            }
            let (mut bytes, over) = rig.driver.recv_stop(op);
            rig.settle();
            assert!(!rig.out.iter().any(|c| matches!(c, Completion::Recv { token: Token(1), .. })));
            assert_eq!(rig.driver.recv_stop(op), (Vec::new(), false), "the key is stale");
            if !over {
                rig.recv(&fd, 3);
                bytes.extend(rig.receive(3, 5 - bytes.len()));
                if round % 3 == 0 {
                    assert!(matches!(rig.received(3), Received::Eof));
                }
            }
            assert_eq!(bytes, b"first");
            assert_eq!(rig.receive(2, 4), b"kept");
            rig.driver.close(fd);
            rig.driver.close(other);
        }
    });
}

#[test]
fn the_peer_sees_the_end_at_once_though_operations_were_armed() {
    everywhere(|rig| {
        for dropped_first in [false, true] {
            let (fd, mut peer) = rig.pair();
            let op = rig.recv(&fd, 1);
            let poll = rig.driver.poll(fd.as_raw_fd(), IN, Token(2)).unwrap();
            rig.settle();
            if dropped_first {
                rig.driver.recv_cancel(op);
                rig.driver.poll_cancel(poll);
            }
            rig.driver.close(fd);
            // No further wait of the driver is needed.
            let deadline = rgunicorn_io::sys::clock::now().after(Duration::from_millis(500));
            while !peer.sees_end() {
                assert!(rgunicorn_io::sys::clock::now() < deadline, "the peer does not learn of the close");
            }
            rig.settle();
            assert!(rig.out.is_empty(), "{:?}", rig.out);
            assert!(!rig.driver.has_pending());
        }
    });
}

#[test]
fn a_dropped_send_gives_its_memory_back_through_the_caller() {
    struct Foreign(Vec<u8>, std::rc::Rc<std::cell::Cell<bool>>);
    // SAFETY: the test has one thread.
    unsafe impl Send for Foreign {}
    impl AsRef<[u8]> for Foreign {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Foreign {
        fn drop(&mut self) {
            self.1.set(true);
        }
    }
    everywhere(|rig| {
        for close in [false, true] {
            let (fd, _peer) = rig.pair();
            let freed = std::rc::Rc::new(std::cell::Cell::new(false));
            let body = Bytes::from_owner(Foreign(pattern(8 << 20), freed.clone()));
            let sent =
                rig.driver.send(fd.as_raw_fd(), Token(1), SendBuf { head: Vec::new(), body }, Urgency::Now);
            let Sent::Pending(op) = sent else { panic!("{sent:?}") };
            rig.settle();
            if close {
                rig.driver.close(fd);
            } else {
                rig.driver.send_cancel(op);
            }
            assert!(!freed.get(), "nobody but the caller drops a body");
            let mut orphan = None;
            rig.wait_until(|rig| {
                orphan = rig.take_orphan();
                orphan.is_some()
            });
            assert!(!freed.get());
            drop(orphan);
            assert!(freed.get());
            assert!(rig.out.is_empty());
        }
    });
}

#[test]
fn stale_keys_are_harmless_everywhere() {
    everywhere(|rig| {
        let (fd, mut peer) = rig.pair();
        let mut stale: Vec<OpKey> = Vec::new();
        for token in 0..50 {
            let op = rig.recv(&fd, token);
            rig.driver.recv_stop(op);
            stale.push(op);
            stale.push(rig.driver.poll(fd.as_raw_fd(), IN, Token(token)).unwrap());
            rig.driver.poll_cancel(stale[stale.len() - 1]);
        }
        rig.settle();
        let receiving = rig.recv(&fd, 1);
        // On another connection: the reception would take the byte away before the poll looks.
        let (other, mut other_peer) = rig.pair();
        let alive = rig.driver.poll(other.as_raw_fd(), IN, Token(2)).unwrap();
        for op in stale {
            rig.driver.recv_cancel(op);
            rig.driver.recv_stop(op);
            rig.driver.send_cancel(op);
            rig.driver.poll_cancel(op);
            assert!(!rig.driver.disarm_accept(op));
        }
        // Of the wrong kind.
        rig.driver.recv_cancel(alive);
        rig.driver.send_cancel(alive);
        rig.driver.recv_stop(alive);
        rig.driver.poll_cancel(receiving);
        rig.driver.send_cancel(receiving);
        assert!(!rig.driver.disarm_accept(alive));
        peer.send(b"x");
        other_peer.send(b"y");
        rig.wait_for(|c| matches!(c, Completion::Poll { token: Token(2), result: Ok(_) }));
        assert_eq!(rig.receive(1, 1), b"x");
        rig.settle();
    });
}

#[test]
fn a_reused_descriptor_number_hears_nothing_of_its_predecessor() {
    everywhere(|rig| {
        for round in 0..30 {
            let (old, mut old_peer) = rig.pair();
            let number = old.as_raw_fd();
            rig.recv(&old, 1);
            rig.driver.poll(number, IN | OUT, Token(1)).unwrap();
            if round % 2 == 0 {
                rig.driver.wait(Some(Duration::ZERO), &mut rig.out).unwrap();
                rig.out.clear();
            }
            old_peer.send(b"old");
            rig.driver.close(old);
            let (new, mut new_peer) = rig.pair();
            // Other tests of this process take numbers too; nextest gives each test a process.
            if !rig.is_sim() && round == 0 && std::env::var_os("NEXTEST").is_some() {
                assert!(new.as_raw_fd() <= number + 3);
            }
            rig.recv(&new, 2);
            new_peer.send(b"new");
            assert_eq!(rig.receive(2, 3), b"new");
            rig.settle();
            assert!(rig.out.is_empty(), "{:?}", rig.out);
            rig.driver.close(new);
        }
    });
}

#[test]
fn calls_without_an_operation_answer_alike() {
    everywhere(|rig| {
        let (fd, mut peer) = rig.pair();
        let raw = fd.as_raw_fd();
        assert!(!rig.driver.is_half_closed(raw) && !rig.driver.is_reset(raw));
        assert_eq!(rig.driver.try_recv(raw), (Vec::new(), false));
        peer.send(b"late");
        let mut got = Vec::new();
        rig.wait_until(|rig| {
            let (bytes, ended) = rig.driver.try_recv(raw);
            assert!(!ended);
            got.extend(bytes);
            got.len() >= 4
        });
        assert_eq!(got, b"late");
        peer.finish();
        rig.wait_until(|rig| rig.driver.is_half_closed(raw));
        assert!(!rig.driver.is_reset(raw), "the peer still reads");
        assert_eq!(rig.driver.try_recv(raw), (Vec::new(), true));
        rig.driver.shutdown(raw, Shutdown::Write).unwrap();
        rig.wait_until(|_| peer.sees_end());
        let (other, mut other_peer) = rig.pair();
        other_peer.send(b"x");
        let before = rig.driver.now();
        let op = rig.driver.poll_again(other.as_raw_fd(), OUT, Token(2)).unwrap();
        rig.driver.release_file(other.as_raw_fd());
        assert!(rig.driver.has_pending(), "an operation that is armed is not ended");
        rig.wait_for(|c| matches!(c, Completion::Poll { token: Token(2), .. }));
        rig.driver.poll_cancel(op);
        assert!(rig.driver.now() >= before);
        assert_eq!(rig.driver.fileno().is_none(), rig.is_sim());
        if other_peer.reset() {
            rig.wait_until(|rig| rig.driver.is_reset(other.as_raw_fd()));
            assert!(rig.driver.is_half_closed(other.as_raw_fd()));
            rig.wait_until(|rig| rig.driver.try_recv(other.as_raw_fd()).1);
            assert!(rig.driver.shutdown(other.as_raw_fd(), Shutdown::Both).is_err());
        }
        rig.driver.close(fd);
        rig.driver.close(other);
    });
}
