//! Completions of receptions that wait for a later turn: see `driver/budget.rs`.

use io_uring::cqueue;

use super::super::budget::Admission;
use super::super::optable::{Op, OpPhase};
use super::super::types::{Completion, OpKey};
use super::Uring;
use super::entries::op_key;
use super::ring::take_matching;

/// Completions of a reception that may wait for a later turn until the reception is ended meanwhile.
const DEFERRED_MAX: u16 = 4;

impl Uring {
    /// Handles a completion, or defers it.
    pub(super) fn take(&mut self, entry: cqueue::Entry, out: &mut Vec<Completion>) {
        if self.defers(&entry) {
            self.deferrals += 1;
            self.deferred.push_back(entry);
        } else {
            self.complete(&entry, out);
        }
    }

    /// Decides whether a completion has to wait for a later turn.
    fn defers(&mut self, entry: &cqueue::Entry) -> bool {
        let Some(key) = op_key(entry.user_data()) else { return false };
        let Some((_, OpPhase::Armed, Op::Recv { deferred, ended, .. })) = self.ops.get_mut(key) else {
            return false;
        };
        // Behind what waits already: bytes come in their order.
        let mut is_over = *deferred >= DEFERRED_MAX;
        if *deferred == 0 {
            match self.budget.admit(key.index, received(entry)) {
                Admission::Granted => return false,
                Admission::OpFull => is_over = true,
                Admission::WaitFull => {}
            }
        }
        *deferred += 1;
        if is_over && cqueue::more(entry.flags()) && !*ended {
            *ended = true;
            self.push_cancel(key);
        }
        true
    }

    /// Handles what earlier waits have deferred, as much of it as this one may.
    pub(super) fn take_deferred(&mut self, out: &mut Vec<Completion>) {
        // Behind one that has to wait longer, the others of its reception wait as well.
        let mut waiting = Vec::new();
        for _ in 0..self.deferred.len() {
            let Some(entry) = self.deferred.pop_front() else { return };
            let key = op_key(entry.user_data()).filter(|key| self.is_armed(*key));
            if let Some(key) = key {
                if waiting.contains(&key.index)
                    || self.budget.admit(key.index, received(&entry)) != Admission::Granted
                {
                    waiting.push(key.index);
                    self.deferred.push_back(entry);
                    continue;
                }
                if let Some((_, _, Op::Recv { deferred, .. })) = self.ops.get_mut(key) {
                    *deferred = deferred.saturating_sub(1);
                }
            }
            self.complete(&entry, out);
        }
    }

    fn is_armed(&self, key: OpKey) -> bool {
        matches!(self.ops.get(key), Some((_, OpPhase::Armed, _)))
    }

    /// Takes the deferred completions with this user data out, in order.
    pub(super) fn take_deferred_of(&mut self, user_data: u64) -> Vec<cqueue::Entry> {
        take_matching(&mut self.deferred, user_data)
    }
}

fn received(entry: &cqueue::Entry) -> usize {
    usize::try_from(entry.result()).unwrap_or(0)
}
