//! A bounded queue of signal numbers which handlers fill and one owner empties, without a lock.

use super::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// A ring of `N` places. `head` and `tail` only grow (and wrap); `0` in a place means 'reserved, not written yet'.
#[derive(Debug)]
pub(super) struct SignalRing<const N: usize> {
    pub(super) places: [AtomicI32; N],
    pub(super) head: AtomicU32,
    pub(super) tail: AtomicU32,
}

impl<const N: usize> SignalRing<N> {
    /// Puts one signal at the end, or drops it if the ring is full. Lock-free and async-signal-safe: handlers of
    /// several threads, and a handler that interrupts another, may run it at the same time.
    pub(super) fn push(&self, signal: i32) {
        let tail = loop {
            // In this order: what is read last is at least as new, so that `head` never lies beyond `tail`. The other
            // way round, a handler that is interrupted in between would take its difference for a full ring.
            let head = self.head.load(Ordering::Acquire);
            let tail = self.tail.load(Ordering::Acquire);
            if tail.wrapping_sub(head) as usize >= N {
                // Unless the owner has emptied it meanwhile.
                if self.head.load(Ordering::Acquire) == head {
                    return;
                }
                continue;
            }
            let next = tail.wrapping_add(1);
            if self.tail.compare_exchange_weak(tail, next, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                break tail;
            }
        };
        if let Some(place) = self.places.get(tail as usize % N) {
            place.store(signal, Ordering::Release);
        }
    }

    /// Takes the oldest signal. Called by the one owner only.
    pub(super) fn pop(&self) -> Option<i32> {
        let head = self.head.load(Ordering::Acquire);
        if head == self.tail.load(Ordering::Acquire) {
            return None;
        }
        let signal = self.places.get(head as usize % N)?.swap(0, Ordering::AcqRel);
        if signal == 0 {
            // Its handler has reserved the place and is about to write; it wakes the owner afterwards.
            return None;
        }
        self.head.store(head.wrapping_add(1), Ordering::Release);
        Some(signal)
    }

    /// Forgets all signals. Called while no handler can run.
    pub(super) fn clear(&self) {
        self.head.store(0, Ordering::Release);
        self.tail.store(0, Ordering::Release);
        for place in &self.places {
            place.store(0, Ordering::Release);
        }
    }
}
