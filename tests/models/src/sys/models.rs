//! Models of the ring of signals and of the waker.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use super::eventfd::{EfdFlags, EventFd};
use super::signal_ring::SignalRing;
use super::sync::atomic::{AtomicI32, AtomicU32};
use super::waker::Waker;
use crate::check;

pub(crate) fn all() {
    check("signals come out once each", signals_come_out_once_each);
    check("a full ring drops the youngest", a_full_ring_drops_the_youngest);
    check("a sleeper is woken by one write", a_sleeper_is_woken_by_one_write);
    check("a loop with a lock misses no wake-up", a_loop_with_a_lock_misses_no_wake_up);
}

fn ring<const N: usize>() -> SignalRing<N> {
    SignalRing {
        places: std::array::from_fn(|_| AtomicI32::new(0)),
        head: AtomicU32::new(0),
        tail: AtomicU32::new(0),
    }
}

/// A signal handler, as a thread: it can do whatever a handler that interrupts another one can.
fn deliver(ring: &SignalRing<2>, wake: &EventFd, signal: i32) {
    ring.push(signal);
    wake.write(1).unwrap();
}

/// Against two handlers that reserve one place, a place that is read before it is written, and a loop that sleeps
/// while a signal waits.
fn signals_come_out_once_each() {
    let shared = Arc::new((ring::<2>(), EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap()));
    let handlers = [1, 2].map(|signal| {
        let shared = Arc::clone(&shared);
        thread::spawn(move || deliver(&shared.0, &shared.1, signal))
    });
    let mut taken = Vec::new();
    while taken.len() < 2 {
        shared.1.poll();
        shared.1.read().unwrap();
        taken.extend(std::iter::from_fn(|| shared.0.pop()));
    }
    handlers.into_iter().for_each(|handler| handler.join().unwrap());
    taken.sort_unstable();
    assert_eq!((taken, shared.0.pop()), (vec![1, 2], None));
}

/// Against a handler that overwrites what waits, and one that writes to a place while its former signal is taken out.
fn a_full_ring_drops_the_youngest() {
    let ring = Arc::new(ring::<2>());
    ring.push(1);
    ring.push(2);
    let handlers = [3, 4].map(|signal| {
        let ring = Arc::clone(&ring);
        thread::spawn(move || ring.push(signal))
    });
    let first = ring.pop();
    handlers.into_iter().for_each(|handler| handler.join().unwrap());
    let rest: Vec<i32> = std::iter::from_fn(|| ring.pop()).collect();
    assert_eq!(first, Some(1));
    assert!(matches!(rest[..], [2] | [2, 3] | [2, 4]), "{rest:?} after the first");
}

/// Against a wake-up that is lost, and against a second system call for one sleep.
fn a_sleeper_is_woken_by_one_write() {
    let waker = Arc::new(Waker::new().unwrap());
    let event = EventFd::newest();
    waker.set_sleeping(true);
    let others = [(), ()].map(|()| {
        let waker = Arc::clone(&waker);
        thread::spawn(move || waker.wake())
    });
    event.poll();
    others.into_iter().for_each(|other| other.join().unwrap());
    assert_eq!(event.count(), 1);
}

/// As a loop and threads that share the interpreter lock use the waker. Against a loop that sleeps through what was
/// done before its sleep, and one that is not awake afterwards.
fn a_loop_with_a_lock_misses_no_wake_up() {
    let waker = Arc::new(Waker::new().unwrap());
    let event = EventFd::newest();
    let lock = Arc::new(Mutex::new(0));
    let others = [(), ()].map(|()| {
        let (waker, lock) = (Arc::clone(&waker), Arc::clone(&lock));
        thread::spawn(move || {
            let mut work = lock.lock().unwrap();
            *work += 1;
            waker.wake();
        })
    });
    let mut done = 0;
    loop {
        let mut work = lock.lock().unwrap();
        done += std::mem::take(&mut *work);
        if done == 2 {
            break;
        }
        waker.set_sleeping(true);
        drop(work);
        event.poll();
        let _work = lock.lock().unwrap();
        waker.set_sleeping(false);
        waker.drain().unwrap();
    }
    others.into_iter().for_each(|other| other.join().unwrap());
}
