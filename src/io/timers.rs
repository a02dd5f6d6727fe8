//! Deadlines of connections. There are few distinct durations (keep-alive, request head, drain), so each gets a list of its
//! own, in which the newest deadline is always the last: inserting, moving and removing are O(1), and a timer that is set
//! again on every request allocates nothing. The links lie in one array indexed by the connection's slab key.

use crate::sys::clock::Instant;

/// End of the list.
const NONE: u32 = u32::MAX;
/// `previous` of a key that is not in the list. No key may have this value.
const ABSENT: u32 = u32::MAX - 1;

/// 16 bytes per key.
#[derive(Copy, Clone, Debug)]
struct Link {
    at: Instant,
    previous: u32,
    next: u32,
}

/// Keys (slab indices, dense and below 2^32 - 2) in the order of their deadlines.
///
/// The order of insertion should be that of the deadlines, as it is when all have the same duration. A deadline before
/// those of earlier insertions is put in its place by walking from the end.
#[derive(Debug)]
pub struct DeadlineList {
    links: Vec<Link>,
    first: u32,
    last: u32,
}

impl Default for DeadlineList {
    fn default() -> Self {
        Self::new()
    }
}

impl DeadlineList {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            links: Vec::new(),
            first: NONE,
            last: NONE,
        }
    }

    /// Sets the deadline of `key`, instead of the one it has. Memory grows with the greatest key only.
    pub fn insert(&mut self, key: u32, at: Instant) {
        debug_assert!(key < ABSENT, "key {key} is reserved");
        self.remove(key);
        let index = key as usize;
        if self.links.len() <= index {
            let absent = Link {
                at: Instant::default(),
                previous: ABSENT,
                next: NONE,
            };
            self.links.resize((index + 1).next_power_of_two(), absent);
        }
        let mut previous = self.last;
        while previous != NONE && self.links[previous as usize].at > at {
            previous = self.links[previous as usize].previous;
        }
        let next = if previous == NONE {
            self.first
        } else {
            self.links[previous as usize].next
        };
        self.links[index] = Link { at, previous, next };
        self.join(previous, key);
        match next {
            NONE => self.last = key,
            next => self.links[next as usize].previous = key,
        }
    }

    /// Takes the deadline of `key` away; false if it had none.
    pub fn remove(&mut self, key: u32) -> bool {
        let Some(link) = self
            .links
            .get_mut(key as usize)
            .filter(|link| link.previous != ABSENT)
        else {
            return false;
        };
        let Link { previous, next, .. } = *link;
        link.previous = ABSENT;
        self.join(previous, next);
        match next {
            NONE => self.last = previous,
            next => self.links[next as usize].previous = previous,
        }
        true
    }

    /// Takes out the key with the earliest deadline if that is not after `now`. Called until `None`.
    pub fn expired(&mut self, now: Instant) -> Option<u32> {
        let key = self.first;
        if key == NONE || self.links[key as usize].at > now {
            return None;
        }
        self.remove(key);
        Some(key)
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.links.get(self.first as usize).map(|link| link.at)
    }

    /// Whether no key has a deadline.
    pub fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// `next` follows `previous`, or is the first.
    fn join(&mut self, previous: u32, next: u32) {
        match previous {
            NONE => self.first = next,
            previous => self.links[previous as usize].next = next,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_link_is_16_bytes() {
        assert_eq!(size_of::<Link>(), 16);
    }

    #[test]
    fn setting_again_moves_and_never_grows() {
        let mut list = DeadlineList::new();
        for turn in 0..10_000 {
            list.insert(turn as u32 % 3, Instant(turn));
        }
        assert_eq!(list.links.len(), 4);
        assert_eq!(list.next(), Some(Instant(9_997)));
        assert_eq!(list.expired(Instant(9_996)), None);
        let order: Vec<_> = std::iter::from_fn(|| list.expired(Instant(u64::MAX))).collect();
        assert_eq!(order, [9_997 % 3, 9_998 % 3, 9_999 % 3]);
        assert!(list.is_empty() && list.next().is_none());
    }

    proptest! {
        /// Against a map searched from end to end.
        #[test]
        fn behaves_as_a_sorted_map(steps in prop::collection::vec((0_u8..4, 0_u32..12, 0_u64..40), 0..200)) {
            let mut list = DeadlineList::new();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (what, key, at) in steps {
                match what {
                    0 | 1 => {
                        list.insert(key, Instant(at));
                        model.insert(key, at);
                    }
                    2 => prop_assert_eq!(list.remove(key), model.remove(&key).is_some()),
                    _ => {
                        let earliest = model.values().min().copied();
                        let got = list.expired(Instant(at));
                        prop_assert_eq!(got.is_some(), earliest.is_some_and(|first| first <= at));
                        if let Some(key) = got {
                            prop_assert_eq!(model.remove(&key), earliest);
                        }
                    }
                }
                prop_assert_eq!(list.next().map(|at| at.0), model.values().min().copied());
                prop_assert_eq!(list.is_empty(), model.is_empty());
            }
        }
    }
}
