//! Dispositions belong to the process, so these tests take turns; raise(3) delivers to the calling thread before it
//! returns.

use super::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn raise(signal: Signal) {
    // SAFETY: the signal has a handler or is blocked in these tests.
    check(unsafe { libc::raise(signal.0) }).unwrap();
}

fn taken(queue: &mut SignalQueue) -> Vec<Signal> {
    std::iter::from_fn(|| queue.take()).collect()
}

fn disposition(signal: Signal) -> libc::sighandler_t {
    // SAFETY: all-zero is a valid sigaction, which the call fills.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        check(libc::sigaction(signal.0, std::ptr::null(), &raw mut action)).unwrap();
        action.sa_sigaction
    }
}

#[test]
fn signals_keep_their_order_and_number() {
    let _turn = turn();
    let mut queue = SignalQueue::install(&[Signal::USR1, Signal::USR2, Signal::TTIN]).unwrap();
    let sent = [Signal::USR1, Signal::TTIN, Signal::TTIN, Signal::USR2, Signal::TTIN];
    sent.into_iter().for_each(raise);
    assert_eq!(taken(&mut queue), sent);
    assert_eq!(queue.take(), None);
}

#[test]
fn a_full_queue_drops_the_youngest_and_recovers() {
    let _turn = turn();
    let mut queue = SignalQueue::install(&[Signal::USR1, Signal::USR2]).unwrap();
    raise(Signal::USR2);
    for _ in 0..QUEUE_SIGNALS_MAX + 10 {
        raise(Signal::USR1);
    }
    let all = taken(&mut queue);
    assert_eq!((all.len(), all[0]), (QUEUE_SIGNALS_MAX, Signal::USR2));
    raise(Signal::USR2);
    assert_eq!(taken(&mut queue), [Signal::USR2]);
}

#[test]
fn many_threads_may_be_interrupted_at_once() {
    let _turn = turn();
    let mut queue = SignalQueue::install(&[Signal::USR1]).unwrap();
    for _ in 0..50 {
        std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| (0..50).for_each(|_| raise(Signal::USR1))));
            // Not left to the scope: ThreadSanitizer knows pthread_join.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert_eq!(taken(&mut queue).len(), 200);
    }
}

#[test]
fn a_waiting_signal_ends_the_wait() {
    let _turn = turn();
    let mut queue = SignalQueue::install(&[Signal::USR1]).unwrap();
    raise(Signal::USR1);
    // Would hang the test if the wake-up were lost.
    queue.wait(Duration::from_secs(60)).unwrap();
    assert_eq!(taken(&mut queue), [Signal::USR1]);
    queue.wait(Duration::ZERO).unwrap();
    queue.wait(Duration::from_nanos(1)).unwrap();
}

#[test]
fn blocked_signals_come_when_the_guard_goes() {
    let _turn = turn();
    let mut queue = SignalQueue::install(&[Signal::USR1, Signal::USR2]).unwrap();
    let blocked = block(&[Signal::USR1]).unwrap();
    raise(Signal::USR1);
    raise(Signal::USR2);
    assert_eq!(taken(&mut queue), [Signal::USR2]);
    drop(blocked);
    assert_eq!(taken(&mut queue), [Signal::USR1]);
}

#[test]
fn one_owner_at_a_time_who_leaves_nothing_behind() {
    let _turn = turn();
    let queue = SignalQueue::install(&[Signal::USR1]).unwrap();
    assert_eq!(SignalQueue::install(&[]).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_ne!(disposition(Signal::USR1), libc::SIG_DFL);
    raise(Signal::USR1);
    queue.leave_in_child();
    assert_eq!(disposition(Signal::USR1), libc::SIG_DFL);
    let mut next = SignalQueue::install(&[Signal::USR1]).unwrap();
    assert_eq!(next.take(), None, "nothing is handled twice");
}

#[test]
fn a_signal_that_cannot_be_caught_is_refused_and_the_queue_is_free_again() {
    let _turn = turn();
    assert!(SignalQueue::install(&[Signal::KILL]).is_err());
    assert!(SignalQueue::install(&[Signal::USR1]).is_ok());
}

#[test]
fn a_handler_keeps_errno() {
    let _turn = turn();
    let _queue = SignalQueue::install(&[Signal::USR1]).unwrap();
    // Without its eventfd the handler's write fails and sets errno.
    WAKE_FD.store(-1, Ordering::Release);
    // SAFETY: errno's address is valid for the calling thread.
    let errno = unsafe {
        *libc::__errno_location() = libc::EXDEV;
        libc::raise(libc::SIGUSR1);
        *libc::__errno_location()
    };
    assert_eq!(errno, libc::EXDEV);
}

#[test]
fn names() {
    let table = [
        (Signal::TERM, "SIGTERM"),
        (Signal::CHLD, "SIGCHLD"),
        (Signal(11), "SIGSEGV"),
        (Signal(40), "signal 40"),
    ];
    for (signal, name) in table {
        assert_eq!(signal.to_string(), name);
    }
}
