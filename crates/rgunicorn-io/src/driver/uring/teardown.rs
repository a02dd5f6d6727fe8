//! The end of a ring: normal, and in a forked child.

use std::mem::ManuallyDrop;
use std::time::Duration;

use super::super::optable::{Op, OpPhase};
use super::Uring;

/// How long the end waits for the kernel, in all, before memory is leaked instead of freed. Cancelled operations on
/// sockets and polls finish at once; this is for operations that no test has met.
const DRAIN_WAITS_MAX: u32 = 20;
const DRAIN_WAIT: Duration = Duration::from_millis(10);

impl Uring {
    /// Closes, in a forked child, the child's copy of the descriptor. The queues are the parent's (and not even mapped
    /// here), so nothing else is touched; what lies on the heap is leaked, because buffers may belong to objects that
    /// must be dropped elsewhere.
    pub(crate) fn forget_after_fork(self) {
        let this = ManuallyDrop::new(self);
        this.ring.close_in_child();
    }

    /// Cancels everything and waits for the kernel to let go, within bounds. True if it did.
    fn drain(&mut self) -> bool {
        for key in self.ops.keys() {
            match self.ops.get(key) {
                Some((_, OpPhase::Parked, _)) => drop(self.ops.remove(key)),
                Some(_) => {
                    self.ops.set_phase(key, OpPhase::Orphaned);
                    self.push_cancel(key);
                }
                None => {}
            }
        }
        let mut orphans = Vec::new();
        while let Some(entry) = self.deferred.pop_front() {
            self.complete(&entry, &mut orphans);
        }
        let mut turns_left = DRAIN_WAITS_MAX;
        while self.ops.live() > 0 && turns_left > 0 {
            let before = self.ops.live();
            let entered = if self.ring.has_completions() { Ok(()) } else { self.ring.wait(Some(DRAIN_WAIT)) };
            while let Some(entry) = self.ring.next() {
                self.complete(&entry, &mut orphans);
            }
            if entered.is_err() {
                break;
            }
            if self.ops.live() == before {
                turns_left -= 1;
            }
        }
        self.ops.live() == 0
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.ring.is_own_process() && self.drain() {
            return;
        }
        self.buffers.leak();
        for key in self.ops.keys() {
            if let Some(Op::Send(op)) = self.ops.remove(key) {
                Box::leak(op);
            }
        }
    }
}
