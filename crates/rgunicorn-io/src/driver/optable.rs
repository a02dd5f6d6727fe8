//! The operations in flight, and the parties that still need each of them.
//!
//! ```text
//!              insert                 terminal completion
//!   (vacant) ---------> Armed ------------------------------> (vacant)
//!                       |  ^  \                                  ^  ^
//!     no buffer, or the |  |   \ owner has gone                  |  |
//!     kernel ended it   v  |    v                                |  |
//!                      Parked   Orphaned -- terminal completion -+  |
//!                       |                                           |
//!                       +--------- stopped or dropped --------------+
//! ```
//!
//! `Armed`: the kernel (or the emulation) holds it. `Parked`: the driver alone holds it, and will arm it again.
//! `Orphaned`: the owner has gone, the kernel still has it and its memory. A slot becomes vacant only when the kernel
//! cannot name it any more, that is at the terminal completion, and its generation then changes: an old handle matches
//! nothing.
//!
//! All operations of one descriptor form a chain, so that closing it, and merging its interests for epoll, needs no
//! search.

use std::num::NonZeroU32;
use std::os::fd::RawFd;

use super::sendop::SendOp;
use super::types::{OpKey, Token};

/// Index that means "none".
const NONE: u32 = u32::MAX;
/// Generations have 24 bits, so that a key and a kind of 8 bits fit the 64 bits that the kernel carries along; they
/// begin with 1. A stale key would have to survive 16 million uses of its slot to be taken for a live one.
pub(super) const GENERATION_MASK: u32 = 0x00ff_ffff;

/// The place of an operation in its life. See the picture at the top.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum OpPhase {
    Armed,
    Parked,
    Orphaned,
}

/// An operation, by its kind. Small: there is one per idle connection.
#[derive(Debug)]
pub(crate) enum Op {
    /// Reception. `by_poll`: the descriptor is non-blocking, so a poll waits for it instead of the recv itself.
    Recv {
        token: Token,
        by_poll: bool,
        /// Completions of it that wait for a later turn; on epoll, whether it waits for the turn itself.
        deferred: u16,
        /// The driver has ended it, to arm it again when those have had their turn.
        ended: bool,
        /// Armed for one buffer only, because there are few (io_uring only).
        single: bool,
        /// The round of submissions that it is part of (io_uring only).
        round: u16,
    },
    /// One-shot poll; `accept` marks the wake-up of a shared listener.
    Poll { token: Token, mask: u32, accept: bool },
    /// A send with its memory.
    Send(Box<SendOp>),
}

#[derive(Debug)]
struct OpSlot {
    generation: NonZeroU32,
    /// Next in the chain of the same descriptor, or next vacant slot.
    next: u32,
    fd: RawFd,
    phase: OpPhase,
    op: Option<Op>,
}

/// The operations in flight, by key and by descriptor.
#[derive(Debug)]
pub(crate) struct OpTable {
    slots: Vec<OpSlot>,
    vacant: u32,
    live: usize,
    /// First operation of each descriptor.
    heads: Vec<u32>,
}

impl Op {
    /// Returns a reception that begins.
    pub(crate) fn recv(token: Token) -> Self {
        Self::Recv { token, by_poll: false, deferred: 0, ended: false, single: false, round: 0 }
    }
}

impl OpTable {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), vacant: NONE, live: 0, heads: Vec::new() }
    }

    /// Returns the number of operations whose slot is not vacant.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Takes in a new operation of `fd` (not negative).
    pub(crate) fn insert(&mut self, fd: RawFd, op: Op, phase: OpPhase) -> OpKey {
        let at = fd as usize;
        if self.heads.len() <= at {
            self.grow(at);
        }
        let next = self.heads[at];
        let index = if self.vacant == NONE {
            let index = self.slots.len() as u32;
            self.slots.push(OpSlot { generation: NonZeroU32::MIN, next, fd, phase, op: Some(op) });
            index
        } else {
            let index = self.vacant;
            let slot = &mut self.slots[index as usize];
            self.vacant = slot.next;
            (slot.next, slot.fd, slot.phase, slot.op) = (next, fd, phase, Some(op));
            index
        };
        self.heads[at] = index;
        self.live += 1;
        OpKey { index, generation: self.slots[index as usize].generation }
    }

    #[cold]
    fn grow(&mut self, at: usize) {
        self.heads.resize((at + 1).next_power_of_two(), NONE);
    }

    /// Ends an operation: its slot is vacant, its key stale. `None` for a stale key.
    pub(crate) fn remove(&mut self, key: OpKey) -> Option<Op> {
        let slot = self.slot_mut(key)?;
        let (fd, next) = (slot.fd, slot.next);
        let op = slot.op.take();
        slot.generation = NonZeroU32::MIN.saturating_add(slot.generation.get() % GENERATION_MASK);
        self.unchain(fd, key.index, next);
        self.slots[key.index as usize].next = self.vacant;
        self.vacant = key.index;
        self.live -= 1;
        op
    }

    fn unchain(&mut self, fd: RawFd, index: u32, next: u32) {
        let mut at = self.heads[fd as usize];
        if at == index {
            self.heads[fd as usize] = next;
            return;
        }
        while at != NONE {
            let slot = &mut self.slots[at as usize];
            if slot.next == index {
                slot.next = next;
                return;
            }
            at = slot.next;
        }
        debug_assert!(false, "operation {index} is missing in the chain of descriptor {fd}");
    }

    fn slot(&self, key: OpKey) -> Option<&OpSlot> {
        let slot = self.slots.get(key.index as usize)?;
        (slot.generation == key.generation && slot.op.is_some()).then_some(slot)
    }

    fn slot_mut(&mut self, key: OpKey) -> Option<&mut OpSlot> {
        let slot = self.slots.get_mut(key.index as usize)?;
        (slot.generation == key.generation && slot.op.is_some()).then_some(slot)
    }

    pub(crate) fn get(&self, key: OpKey) -> Option<(RawFd, OpPhase, &Op)> {
        let slot = self.slot(key)?;
        Some((slot.fd, slot.phase, slot.op.as_ref()?))
    }

    pub(crate) fn get_mut(&mut self, key: OpKey) -> Option<(RawFd, OpPhase, &mut Op)> {
        let slot = self.slot_mut(key)?;
        Some((slot.fd, slot.phase, slot.op.as_mut()?))
    }

    pub(crate) fn set_phase(&mut self, key: OpKey, phase: OpPhase) {
        if let Some(slot) = self.slot_mut(key) {
            slot.phase = phase;
        }
    }

    /// Returns the first operation of a descriptor.
    pub(crate) fn first(&self, fd: RawFd) -> Option<OpKey> {
        self.key(*self.heads.get(usize::try_from(fd).ok()?)?)
    }

    /// Returns the operation after `key` of the same descriptor.
    pub(crate) fn next(&self, key: OpKey) -> Option<OpKey> {
        self.key(self.slot(key)?.next)
    }

    fn key(&self, index: u32) -> Option<OpKey> {
        let slot = self.slots.get(index as usize)?;
        Some(OpKey { index, generation: slot.generation })
    }

    /// Returns every live operation.
    pub(crate) fn keys(&self) -> Vec<OpKey> {
        let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.op.is_some());
        live.map(|(index, slot)| OpKey { index: index as u32, generation: slot.generation }).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_idle_connection_costs_36_bytes() {
        assert_eq!(size_of::<OpSlot>(), 32, "and 4 for its place in the chain heads");
        assert_eq!(size_of::<Option<OpKey>>(), 8, "of which its owner has two");
    }

    fn op(token: u64) -> Op {
        Op::recv(Token(token))
    }

    #[test]
    fn a_key_dies_with_its_operation_even_if_the_slot_lives_on() {
        let mut table = OpTable::new();
        let old = table.insert(3, op(1), OpPhase::Armed);
        assert!(table.remove(old).is_some());
        let new = table.insert(3, op(2), OpPhase::Armed);
        assert_eq!(old.index, new.index);
        table.set_phase(old, OpPhase::Orphaned);
        assert!(table.get(old).is_none() && table.remove(old).is_none());
        assert!(matches!(table.get(new), Some((3, OpPhase::Armed, Op::Recv { token: Token(2), .. }))));
    }

    #[test]
    fn generations_fit_24_bits() {
        let mut table = OpTable::new();
        let first = table.insert(3, op(1), OpPhase::Armed);
        let greatest = NonZeroU32::new(GENERATION_MASK).unwrap();
        table.slots[0].generation = greatest;
        assert!(table.get(first).is_none());
        let last = OpKey { index: 0, generation: greatest };
        assert!(table.remove(last).is_some());
        assert_eq!(table.insert(3, op(1), OpPhase::Armed).generation, NonZeroU32::MIN);
    }

    proptest! {
        /// Chains and vacant slots against a plain list.
        #[test]
        fn behaves_as_a_list(steps in prop::collection::vec((any::<bool>(), 0_usize..8, 0_i32..4), 0..200)) {
            let mut table = OpTable::new();
            let mut model: Vec<(OpKey, RawFd)> = Vec::new();
            for (token, (insert, pick, fd)) in steps.into_iter().enumerate() {
                if insert || model.is_empty() {
                    model.push((table.insert(fd, op(token as u64), OpPhase::Armed), fd));
                } else {
                    let (key, _) = model.swap_remove(pick % model.len());
                    prop_assert!(table.remove(key).is_some());
                    prop_assert!(table.remove(key).is_none());
                }
                prop_assert_eq!(table.live(), model.len());
                prop_assert_eq!(table.keys().len(), model.len());
                for fd in 0..4 {
                    let chain: Vec<_> = std::iter::successors(table.first(fd), |key| table.next(*key)).collect();
                    prop_assert!(chain.iter().all(|key| model.contains(&(*key, fd))));
                    prop_assert_eq!(chain.len(), model.iter().filter(|(_, f)| *f == fd).count());
                }
            }
        }
    }
}
