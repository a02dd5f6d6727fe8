//! The driver's contract, second part: polls, shared listeners, signals, and the end of a driver.
#![allow(unsafe_code, reason = "signals, descriptor numbers and forks are made by hand")]
#![allow(clippy::unwrap_used, reason = "test code, though outside of test functions")]

mod driver;

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use driver::{PATIENCE, Rig, everywhere, pattern};
use rgunicorn_io::driver::{
    Choice, Completion, Config, Driver, Fd, PeerAddr, Received, SendBuf, Sent, Token, Urgency,
};
use rgunicorn_io::sys::clock;

const IN: u32 = libc::POLLIN as u32;
const OUT: u32 = libc::POLLOUT as u32;

fn is_poll(token: u64) -> impl Fn(&Completion) -> bool {
    move |c| matches!(c, Completion::Poll { token: t, .. } if *t == Token(token))
}

fn polled(rig: &mut Rig, token: u64) -> u32 {
    match rig.wait_for(is_poll(token)) {
        Completion::Poll { result, .. } => result.unwrap(),
        _ => unreachable!(),
    }
}

#[test]
fn a_poll_fires_once_and_again_only_if_asked_again() {
    everywhere(|rig| {
        let (fd, mut peer) = rig.pair();
        let number = fd.as_raw_fd();
        rig.driver.poll(number, IN, Token(1)).unwrap();
        rig.settle();
        assert!(rig.out.is_empty());
        peer.send(b"x");
        assert_eq!(polled(rig, 1) & IN, IN);
        rig.settle();
        assert!(rig.out.is_empty(), "one shot: {:?}", rig.out);
        // Level-triggered: the byte is still there.
        for _ in 0..3 {
            rig.driver.poll(number, IN, Token(2)).unwrap();
            assert_eq!(polled(rig, 2) & IN, IN);
        }
    });
}

#[test]
fn operations_of_one_descriptor_do_not_disturb_each_other() {
    everywhere(|rig| {
        let (fd, mut peer) = rig.pair();
        let number = fd.as_raw_fd();
        rig.recv(&fd, 1);
        let cancelled = rig.driver.poll(number, IN, Token(2)).unwrap();
        rig.driver.poll(number, OUT, Token(3)).unwrap();
        assert_eq!(polled(rig, 3) & OUT, OUT);
        rig.driver.poll_cancel(cancelled);
        peer.send(b"x");
        assert_eq!(rig.receive(1, 1), b"x");
        let whole = pattern(1 << 17);
        let buf = SendBuf { head: whole.clone(), body: bytes::Bytes::new() };
        assert!(rig.send_all(&fd, buf, Urgency::Batch, &mut peer) == whole);
        peer.send(b"y");
        assert_eq!(rig.receive(1, 1), b"y");
        rig.settle();
        assert!(rig.out.is_empty(), "{:?}", rig.out);
    });
}

#[test]
fn a_poll_of_a_dead_number_fails_and_of_a_file_succeeds() {
    everywhere(|rig| {
        if rig.is_sim() {
            return;
        }
        rig.driver.poll(9_999, IN, Token(1)).unwrap();
        let Completion::Poll { result, .. } = rig.wait_for(is_poll(1)) else { panic!() };
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert!(rig.driver.poll(-1, IN, Token(1)).is_err());
        let file = std::fs::File::open("Cargo.toml").unwrap();
        for _ in 0..2 {
            rig.driver.poll(file.as_raw_fd(), IN, Token(2)).unwrap();
            assert_eq!(polled(rig, 2), IN);
        }
    });
}

/// Does what gevent does: poll, hear, close the descriptor behind the driver's back, and get the same number for
/// another file.
#[test]
fn a_number_closed_behind_our_back_is_polled_anew() {
    everywhere(|rig| {
        if rig.is_sim() {
            return;
        }
        for _ in 0..20 {
            let (mut write, read) = pipe();
            write.write_all(b"x").unwrap();
            rig.driver.poll(read.as_raw_fd(), IN, Token(1)).unwrap();
            polled(rig, 1);
            let (mut write, new) = pipe();
            let read = replaced(read, new);
            write.write_all(b"y").unwrap();
            rig.driver.poll(read.as_raw_fd(), IN, Token(2)).unwrap();
            polled(rig, 2);
        }
    });
}

fn pipe() -> (std::io::PipeWriter, OwnedFd) {
    let (read, write) = std::io::pipe().unwrap();
    (write, read.into())
}

/// Closes `old` and opens `new` under its number, in one step, because other tests' threads open files meanwhile.
fn replaced(old: OwnedFd, new: OwnedFd) -> OwnedFd {
    // SAFETY: both are open; `old` owns its number before and after.
    let made = unsafe { libc::dup2(new.as_raw_fd(), old.as_raw_fd()) };
    assert_eq!(made, old.as_raw_fd());
    old
}

#[test]
fn a_non_blocking_descriptor_works_as_well() {
    everywhere(|rig| {
        let (fd, mut peer) = rig.pair();
        if !matches!(fd, Fd::Real(_)) {
            return;
        }
        // SAFETY: no memory is passed.
        let set = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        assert_eq!(set, 0);
        let op = rig.recv(&fd, 1);
        rig.settle();
        peer.send(b"x");
        assert_eq!(rig.receive(1, 1), b"x");
        let whole = pattern(4 << 20);
        let buf = SendBuf { head: whole.clone(), body: bytes::Bytes::new() };
        assert!(rig.send_all(&fd, buf, Urgency::Batch, &mut peer) == whole);
        assert_eq!(rig.driver.recv_stop(op), (Vec::new(), false));
        rig.driver.close(fd);
        assert!(!rig.driver.has_pending());
    });
}

#[test]
fn a_shared_listener_wakes_one_of_two_and_not_the_one_that_is_busy() {
    everywhere(|rig| {
        let listener = rig.listener();
        let mut sibling = rig.sibling();
        let mut peers = Vec::new();
        for round in 0..20 {
            let busy = rig.driver.arm_accept(listener.fd(), Token(1)).unwrap();
            sibling.arm_accept(listener.fd(), Token(2)).unwrap();
            rig.driver.wait(Some(Duration::ZERO), &mut rig.out).unwrap();
            let mut woken = Vec::new();
            sibling.wait(Some(Duration::ZERO), &mut woken).unwrap();
            assert!(rig.out.is_empty() && woken.is_empty(), "round {round}");
            assert!(!rig.driver.disarm_accept(busy), "nothing has come yet");
            peers.push(listener.connect());
            let deadline = clock::now().after(PATIENCE);
            while woken.is_empty() {
                assert!(clock::now() < deadline, "round {round}: the idle sibling is not woken");
                sibling.wait(Some(Duration::from_millis(5)), &mut woken).unwrap();
            }
            let (fd, address) = sibling.accept(listener.fd()).unwrap();
            assert!(matches!(address, PeerAddr::V4 { addr: [127, 0, 0, 1], .. }));
            sibling.close(fd);
            rig.settle();
            assert!(rig.out.is_empty(), "round {round}: {:?}", rig.out);
        }
    });
}

#[test]
fn a_wake_up_is_delivered_or_confessed_never_lost() {
    everywhere(|rig| {
        let listener = rig.listener();
        let mut peers = Vec::new();
        for round in 0..20 {
            let op = rig.driver.arm_accept(listener.fd(), Token(1)).unwrap();
            rig.driver.wait(Some(Duration::ZERO), &mut rig.out).unwrap();
            peers.push(listener.connect());
            if round % 2 == 0 {
                polled(rig, 1);
                assert!(!rig.driver.disarm_accept(op), "the key is stale");
            } else if !rig.driver.disarm_accept(op) && rig.driver.name() != "epoll" {
                // An epoll that does not wait is not woken: the connection is there for any sibling.
                panic!("round {round}: the ring had been woken and says no");
            }
            let (fd, _) = rig.driver.accept(listener.fd()).unwrap();
            assert!(
                rig.driver.accept(listener.fd()).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
            );
            rig.driver.close(fd);
            rig.settle();
            assert!(rig.out.is_empty(), "round {round}: {:?}", rig.out);
            assert!(!rig.driver.has_pending(), "round {round}: a listener is still armed");
        }
    });
}

#[test]
fn an_armed_listener_with_a_queue_fires_at_once() {
    everywhere(|rig| {
        let listener = rig.listener();
        let _peers = [listener.connect(), listener.connect()];
        for _ in 0..2 {
            rig.driver.arm_accept(listener.fd(), Token(1)).unwrap();
            polled(rig, 1);
            rig.driver.accept(listener.fd()).unwrap();
        }
        assert!(rig.driver.accept(listener.fd()).is_err());
    });
}

extern "C" fn ignore(_: libc::c_int) {}

#[test]
fn a_signal_ends_a_wait_without_an_error() {
    everywhere(|rig| {
        if rig.is_sim() {
            return;
        }
        // SAFETY: a handler that does nothing is async-signal-safe; all-zero bytes are a valid sigaction.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = ignore as *const () as usize;
            libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut());
        }
        let (fd, _peer) = rig.pair();
        rig.recv(&fd, 1);
        // SAFETY: no memory is passed.
        let (pid, thread) = unsafe { (libc::getpid(), libc::gettid()) };
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let signaller = scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    // SAFETY: the thread lives until this scope ends.
                    unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, libc::SIGUSR2) };
                    std::thread::yield_now();
                }
            });
            // Without time-out: only the signal can end it. The first wait also submits.
            for _ in 0..3 {
                rig.driver.wait(None, &mut rig.out).unwrap();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            // Not left to the scope: ThreadSanitizer knows pthread_join.
            signaller.join().unwrap();
        });
        assert!(rig.out.is_empty());
    });
}

#[test]
fn a_wait_without_events_lasts_its_time_out() {
    everywhere(|rig| {
        if rig.is_sim() {
            return;
        }
        for timeout in [Duration::from_micros(700), Duration::from_millis(3)] {
            // A wait may end early: a ring that was closed before interrupts its thread once in a while.
            let (start, mut waits) = (clock::now(), 0);
            while let left = timeout.saturating_sub(clock::now().since(start))
                && !left.is_zero()
            {
                rig.driver.wait(Some(left), &mut rig.out).unwrap();
                waits += 1;
            }
            assert!(waits < 20, "{waits} waits for {timeout:?}");
            assert!(rig.out.is_empty());
        }
    });
}

/// The driver goes while a send that cannot finish, receptions and polls are truly in the kernel's hands.
#[test]
fn a_driver_can_be_dropped_with_operations_in_flight() {
    everywhere(|rig| {
        if rig.is_sim() {
            return;
        }
        let (mut driver, _) = Driver::open(&rig.config).unwrap();
        let connections: Vec<_> = (0..100).map(|_| rig.pair()).collect();
        for (at, (fd, _)) in connections.iter().enumerate() {
            let number = fd.as_raw_fd();
            driver.recv(number, Token(at as u64)).unwrap();
            driver.poll(number, IN, Token(0)).unwrap();
            let body = bytes::Bytes::from(pattern(1 << 18));
            let urgency = if at % 2 == 0 { Urgency::Now } else { Urgency::Batch };
            let buf = SendBuf { head: b"x".to_vec(), body: if at < 30 { body } else { bytes::Bytes::new() } };
            let _ = driver.send(number, Token(1), buf, urgency);
        }
        let mut out = Vec::new();
        driver.wait(Some(Duration::ZERO), &mut out).unwrap();
        assert!(driver.has_pending());
        drop(driver);
        // The descriptors are the test's alone again: what arrives now is for the next reader.
        for (fd, mut peer) in connections {
            peer.send(b"late");
            rig.recv(&fd, 7);
            assert_eq!(rig.receive(7, 4), b"late");
            rig.driver.close(fd);
        }
    });
}

#[test]
fn a_forked_child_forgets_the_driver_and_the_parent_goes_on() {
    for choice in [Choice::Uring, Choice::Epoll] {
        let Ok((driver, _)) = Driver::open(&Config { choice, ..Config::default() }) else {
            continue;
        };
        let mut driver = Some(driver);
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        driver.as_mut().unwrap().recv(ours.as_raw_fd(), Token(1)).unwrap();
        let mut out = Vec::new();
        driver.as_mut().unwrap().wait(Some(Duration::ZERO), &mut out).unwrap();
        // SAFETY: the child only forgets, allocates nothing and leaves by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            driver.take().unwrap().forget_after_fork();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(7) };
        }
        let mut status = 0;
        // SAFETY: `status` is writable.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "status {status}");
        theirs.write_all(b"x").unwrap();
        let driver = driver.as_mut().unwrap();
        driver.wait(Some(PATIENCE), &mut out).unwrap();
        let Some(Completion::Recv { outcome: Received::Data(buf), .. }) = out.pop() else {
            panic!("{out:?}")
        };
        assert_eq!(driver.buffer(&buf), b"x");
        driver.release(buf);
    }
}

#[test]
fn more_work_than_the_queue_holds_is_done_all_the_same() {
    everywhere(|rig| {
        let (fd, mut peer) = rig.pair();
        let mut count = 0;
        for token in 0..2_000 {
            // More cancellations than the submission queue holds.
            let op = rig.driver.poll(fd.as_raw_fd(), IN, Token(token)).unwrap();
            rig.driver.poll_cancel(op);
        }
        rig.settle();
        assert!(rig.out.is_empty());
        for _ in 0..50 {
            match rig.driver.send(fd.as_raw_fd(), Token(1), driver::head(b"x"), Urgency::Batch) {
                Sent::Pending(_) => count += 1,
                Sent::Ready(result, _) => result.unwrap(),
            }
        }
        let mut got = Vec::new();
        rig.wait_until(|rig| {
            got.extend(peer.receive());
            count -= std::iter::from_fn(|| rig.take_sent(1)).count();
            count == 0 && got.len() == 50
        });
        rig.wait_until(|rig| !rig.driver.has_pending());
    });
}

/// A child that the application forked holds an accepted connection's file while its number here is closed and used
/// again: epoll goes on reporting the old file under the number.
#[test]
fn a_file_that_lives_on_elsewhere_does_not_keep_the_driver_busy() {
    everywhere(|rig| {
        if rig.is_sim() {
            return;
        }
        let (mut write, read) = pipe();
        rig.driver.poll(read.as_raw_fd(), IN, Token(1)).unwrap();
        rig.settle();
        let elsewhere = read.try_clone().unwrap();
        let (_write2, new) = pipe();
        let read2 = replaced(read, new);
        rig.driver.poll(read2.as_raw_fd(), OUT, Token(2)).unwrap();
        write.write_all(b"x").unwrap();
        rig.settle();
        rig.out.clear();
        let before = rig.driver.stats().enters;
        let start = clock::now();
        while clock::now().since(start) < Duration::from_millis(20) {
            rig.driver.wait(Some(Duration::from_millis(20)), &mut rig.out).unwrap();
        }
        assert!(rig.driver.stats().enters - before < 10, "the driver spins");
        drop(elsewhere);
    });
}
