//! Precise deadlines of any duration (gevent's timers): a heap of four children per node, which knows where each key
//! stands. A timer that is set and cleared again leaves nothing behind, however far in the future it lay: requests
//! with a time-out do that thousands of times a second.
//!
//! Keys are small numbers (slots of a slab). Equal times keep the order in which they were set.

use crate::sys::clock::Instant;

const NONE: u32 = u32::MAX;
/// Four children: half the height of a binary heap, and the four lie in one or two cache lines.
const CHILDREN: usize = 4;

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct HeapNode {
    at: Instant,
    /// Counts the insertions: the tie-breaker.
    sequence: u64,
    key: u32,
}

/// A heap of deadlines by small keys.
#[derive(Debug, Default)]
pub struct TimerHeap {
    nodes: Vec<HeapNode>,
    /// Index into `nodes` for each key.
    positions: Vec<u32>,
    sequence: u64,
}

impl TimerHeap {
    /// Returns the number of deadlines set.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Tells whether no deadline is set.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the nearest deadline and its key.
    pub fn first(&self) -> Option<(Instant, u32)> {
        self.nodes.first().map(|node| (node.at, node.key))
    }

    /// Sets (or moves) the deadline of `key`.
    pub fn set(&mut self, key: u32, at: Instant) {
        match self.positions.get(key as usize) {
            Some(&NONE) => {}
            Some(_) => {
                self.clear(key);
            }
            None => self.positions.resize((key as usize + 1).next_power_of_two(), NONE),
        }
        self.sequence += 1;
        let (node, position) = (HeapNode { at, sequence: self.sequence, key }, self.nodes.len());
        self.nodes.push(node);
        self.positions[key as usize] = position as u32;
        // Most are due later than what is there, being set later.
        if position > 0 && node < self.nodes[(position - 1) / CHILDREN] {
            self.rise(position);
        }
    }

    /// Takes the deadline of `key` away; `false` if it had none.
    pub fn clear(&mut self, key: u32) -> bool {
        let Some(position) = self.positions.get_mut(key as usize).filter(|position| **position != NONE)
        else {
            return false;
        };
        let at = std::mem::replace(position, NONE) as usize;
        self.nodes.swap_remove(at);
        if at < self.nodes.len() {
            // What came from the end may belong further down or, being of another branch, further up.
            let position = self.sink(at);
            self.rise(position);
        }
        true
    }

    /// Takes the nearest deadline that is not after `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let (at, key) = self.first()?;
        if at > now {
            return None;
        }
        self.clear(key);
        Some(key)
    }

    fn rise(&mut self, mut at: usize) {
        let node = self.nodes[at];
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            if self.nodes[parent] <= node {
                break;
            }
            self.put(at, self.nodes[parent]);
            at = parent;
        }
        self.put(at, node);
    }

    fn sink(&mut self, mut at: usize) -> usize {
        let node = self.nodes[at];
        loop {
            let first = at * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.nodes.len());
            let Some(least) = children.min_by_key(|child| self.nodes[*child]) else {
                break;
            };
            if node <= self.nodes[least] {
                break;
            }
            self.put(at, self.nodes[least]);
            at = least;
        }
        self.put(at, node);
        at
    }

    #[inline]
    fn put(&mut self, at: usize, node: HeapNode) {
        self.nodes[at] = node;
        self.positions[node.key as usize] = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_times_keep_their_order() {
        let mut heap = TimerHeap::default();
        for key in [5, 3, 9, 1] {
            heap.set(key, Instant(7));
        }
        assert_eq!(heap.pop_due(Instant(6)), None);
        let order: Vec<u32> = std::iter::from_fn(|| heap.pop_due(Instant(7))).collect();
        assert_eq!(order, [5, 3, 9, 1]);
    }

    proptest! {
        /// Against an ordered map.
        #[test]
        fn behaves_as_an_ordered_map(steps in prop::collection::vec((0_u32..40, 0_u64..50, 0_u8..4), 0..400)) {
            let mut heap = TimerHeap::default();
            let mut model: BTreeMap<(u64, u64), u32> = BTreeMap::new();
            for (sequence, (key, time, action)) in steps.into_iter().enumerate() {
                let known = model.iter().find(|(_, k)| **k == key).map(|(at, _)| *at);
                match action {
                    0 => {
                        prop_assert_eq!(heap.clear(key), known.is_some());
                        known.map(|at| model.remove(&at));
                    }
                    1 => {
                        let due = model.first_key_value().filter(|((at, _), _)| *at <= time).map(|(at, k)| (*at, *k));
                        prop_assert_eq!(heap.pop_due(Instant(time)), due.map(|(_, k)| k));
                        due.map(|(at, _)| model.remove(&at));
                    }
                    _ => {
                        heap.set(key, Instant(time));
                        known.map(|at| model.remove(&at));
                        model.insert((time, sequence as u64), key);
                    }
                }
                prop_assert_eq!(heap.len(), model.len());
                let first = model.first_key_value().map(|((at, _), key)| (Instant(*at), *key));
                prop_assert_eq!(heap.first(), first);
            }
        }
    }
}
