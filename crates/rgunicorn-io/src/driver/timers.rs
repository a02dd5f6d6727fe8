//! Deadlines of connections: one at a time for each, few distinct durations. Every class is a FIFO (equal durations
//! expire in the order in which they were set), linked through a table beside the connection slab: setting, clearing
//! and finding the nearest are O(1), re-arming on every request allocates nothing, and an entry takes 16 bytes.

use crate::sys::clock::Instant;

const NONE: u32 = u32::MAX;
/// The class lives in the low bits of the time: a loss of 16 ns.
const CLASS_MASK: u64 = 0b1111;

#[derive(Clone, Copy, Debug)]
struct ListNode {
    prev: u32,
    next: u32,
    /// Nanoseconds with the class in the low bits; `u64::MAX` when not set.
    at: u64,
}

const UNSET: ListNode = ListNode { prev: NONE, next: NONE, at: u64::MAX };

/// At most 15 classes of deadlines for slab keys.
#[derive(Debug)]
pub struct Deadlines<const CLASSES: usize> {
    links: Vec<ListNode>,
    first: [u32; CLASSES],
    last: [u32; CLASSES],
    count: [usize; CLASSES],
    /// A bit for each class that has a deadline: most have none, and the nearest one is asked for in each turn.
    used: u16,
}

impl<const CLASSES: usize> Default for Deadlines<CLASSES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const CLASSES: usize> Deadlines<CLASSES> {
    /// Makes a table without any deadline.
    pub fn new() -> Self {
        const {
            assert!(CLASSES <= 15, "the class must fit into four bits, all ones being taken by UNSET");
        };
        let (first, last, count) = ([NONE; CLASSES], [NONE; CLASSES], [0; CLASSES]);
        Self { links: Vec::new(), first, last, count, used: 0 }
    }

    /// Returns the number of deadlines set.
    pub fn len(&self) -> usize {
        self.count.iter().sum()
    }

    /// Returns the number of deadlines of one class.
    pub fn count(&self, class: u8) -> usize {
        self.count.get(usize::from(class)).copied().unwrap_or_default()
    }

    /// Tells whether no deadline is set.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Returns the class of the deadline that `key` has, if any.
    pub fn class(&self, key: u32) -> Option<u8> {
        let link = self.links.get(key as usize)?;
        (link.at != u64::MAX).then_some((link.at & CLASS_MASK) as u8)
    }

    /// Returns when the deadline of `key` is, if it has one.
    pub fn at(&self, key: u32) -> Option<Instant> {
        let link = self.links.get(key as usize)?;
        (link.at != u64::MAX).then_some(Instant(link.at & !CLASS_MASK))
    }

    /// Gives `key` this deadline instead of any it had. Deadlines of one class should be set in rising order; one that
    /// is not expires only after those set before it.
    pub fn set(&mut self, key: u32, class: u8, at: Instant) {
        self.clear(key);
        self.insert(key, class, at, self.last[usize::from(class)]);
    }

    /// Does the same, before the later ones of its class. Takes as many steps as those are.
    pub fn set_in_order(&mut self, key: u32, class: u8, at: Instant) {
        self.clear(key);
        let mut before = self.last[usize::from(class)];
        while let Some(link) = self.links.get(before as usize)
            && link.at > packed(at, class)
        {
            before = link.prev;
        }
        self.insert(key, class, at, before);
    }

    /// Inserts a deadline behind another one of its class, or as the first.
    fn insert(&mut self, key: u32, class: u8, at: Instant, prev: u32) {
        let (slot, list) = (key as usize, usize::from(class));
        if self.links.len() <= slot {
            self.links.resize(slot + 1, UNSET);
        }
        let next = self.links.get(prev as usize).map_or(self.first[list], |link| link.next);
        self.links[slot] = ListNode { prev, next, at: packed(at, class) };
        match self.links.get_mut(prev as usize) {
            Some(before) => before.next = key,
            None => self.first[list] = key,
        }
        match self.links.get_mut(next as usize) {
            Some(after) => after.prev = key,
            None => self.last[list] = key,
        }
        self.count[list] += 1;
        self.used |= 1 << list;
    }

    /// Takes the deadline of `key` away, if it has one.
    pub fn clear(&mut self, key: u32) {
        let Some(class) = self.class(key) else { return };
        let list = usize::from(class);
        self.count[list] -= 1;
        if self.count[list] == 0 {
            self.used &= !(1 << list);
        }
        let ListNode { prev, next, .. } = std::mem::replace(&mut self.links[key as usize], UNSET);
        match self.links.get_mut(prev as usize) {
            Some(before) => before.next = next,
            None => self.first[list] = next,
        }
        match self.links.get_mut(next as usize) {
            Some(after) => after.prev = prev,
            None => self.last[list] = prev,
        }
    }

    /// Returns the earliest key of each class that has one.
    #[inline]
    fn heads(&self) -> impl Iterator<Item = (u32, &ListNode)> {
        let mut used = self.used;
        std::iter::from_fn(move || {
            let list = used.trailing_zeros() as usize;
            used &= used.wrapping_sub(1);
            let key = *self.first.get(list)?;
            Some((key, self.links.get(key as usize)?))
        })
    }

    /// Returns the keys with a deadline of one class, and these, in their order.
    pub fn of_class(&self, class: u8) -> impl Iterator<Item = (u32, Instant)> + '_ {
        let first = self.first.get(usize::from(class)).copied().unwrap_or(NONE);
        let next = |key: &u32| self.links.get(*key as usize).map(|link| link.next);
        std::iter::successors(Some(first), next)
            .filter_map(|key| self.links.get(key as usize).map(|link| (key, Instant(link.at & !CLASS_MASK))))
    }

    /// Returns the nearest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.heads().map(|(_, link)| Instant(link.at & !CLASS_MASK)).min()
    }

    /// Returns the key that comes first in a class, and its deadline.
    pub fn first(&self, class: u8) -> Option<(u32, Instant)> {
        let key = *self.first.get(usize::from(class))?;
        Some((key, self.at(key)?))
    }

    /// Takes the deadline out that has been due for longest: its key and class.
    pub fn pop_expired(&mut self, now: Instant) -> Option<(u32, u8)> {
        let due = self.heads().filter(|(_, link)| link.at & !CLASS_MASK <= now.0);
        let (at, key) = due.map(|(key, link)| (link.at, key)).min()?;
        self.clear(key);
        Some((key, (at & CLASS_MASK) as u8))
    }
}

/// Puts time and class into one number.
fn packed(at: Instant, class: u8) -> u64 {
    (at.0.min(u64::MAX >> 1) & !CLASS_MASK) | u64::from(class)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn deadlines_in_any_order_expire_in_theirs() {
        let mut deadlines = Deadlines::<2>::new();
        for (key, at) in [(0, 320), (1, 160), (2, 480), (3, 160), (4, 16), (1, 400)] {
            deadlines.set_in_order(key, 1, Instant(at));
        }
        deadlines.clear(2);
        deadlines.set(5, 1, Instant(500));
        assert_eq!((deadlines.first(1), deadlines.first(0)), (Some((4, Instant(16))), None));
        deadlines.set(6, 0, Instant(2000));
        let listed = [(4, 16), (3, 160), (0, 320), (1, 400), (5, 496)].map(|(key, at)| (key, Instant(at)));
        assert_eq!(deadlines.of_class(1).collect::<Vec<_>>(), listed);
        deadlines.clear(6);
        assert_eq!(deadlines.of_class(0).next(), None);
        let expired: Vec<_> = std::iter::from_fn(|| deadlines.pop_expired(Instant(1000))).collect();
        assert_eq!(expired, [(4, 1), (3, 1), (0, 1), (1, 1), (5, 1)]);
        assert!(deadlines.is_empty());
    }

    #[test]
    fn the_nearest_of_all_classes_comes_first() {
        let mut deadlines = Deadlines::<3>::new();
        deadlines.set(5, 1, Instant(800));
        deadlines.set(9, 2, Instant(400));
        assert_eq!(deadlines.next(), Some(Instant(400)));
        assert_eq!([5, 9, 7].map(|key| deadlines.at(key)), [Some(Instant(800)), Some(Instant(400)), None]);
        assert_eq!(deadlines.pop_expired(Instant(399)), None);
        assert_eq!(deadlines.pop_expired(Instant(400)), Some((9, 2)));
        assert_eq!(deadlines.next(), Some(Instant(800)));
        deadlines.clear(5);
        assert_eq!(deadlines.next(), None);
    }

    proptest! {
        /// Against a plain map: the same keys expire, each with its latest class, and none twice.
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0u32..20, 0u8..3, any::<bool>()), 1..200)) {
            let mut deadlines = Deadlines::<3>::new();
            let mut model = HashMap::new();
            let mut now = 0;
            for (key, class, set) in steps {
                now += 8;
                if set {
                    deadlines.set(key, class, Instant(now));
                    model.insert(key, class);
                } else {
                    deadlines.clear(key);
                    model.remove(&key);
                }
                prop_assert_eq!(deadlines.class(key), model.get(&key).copied());
            }
            let mut expired = HashMap::new();
            while let Some((key, class)) = deadlines.pop_expired(Instant(now)) {
                prop_assert!(expired.insert(key, class).is_none());
            }
            prop_assert_eq!(expired, model);
        }
    }
}
