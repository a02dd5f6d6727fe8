//! Heads that come again. A client that keeps its connection sends the same fields with each request, nearly byte for
//! byte; a section of fields that equals one that was read before means what that one means. A client that polls sends
//! the whole head again.
//!
//! What is kept is the section's text to the empty line, its spans and its facts (`section`), and a whole head. A head
//! is read by them only if its bytes are the same and the peer is trusted as that one was. The policy is that of the
//! worker, which never changes.

use super::head::RequestHead;
use super::policy::Policy;
use super::section::{SECTION_BYTES_MAX, SectionRepeat, mark};

/// Places for sections and heads. Connections share them by their numbers, so that what many clients send alike is
/// found by all.
const PLACES: usize = 64;

/// The field sections and heads that a worker remembers.
pub struct Repeats(Box<[Repeat]>);

impl Repeats {
    /// Makes the places, all empty.
    #[must_use]
    pub fn new() -> Self {
        Self((0..PLACES).map(Repeat::new).collect())
    }

    /// Returns how many places there are: a stamp ([of a section](RequestHead::section), [of a
    /// head](RequestHead::whole)) modulo this is its place.
    #[must_use]
    pub fn places() -> usize {
        PLACES
    }

    /// Returns the place for the heads of the connection with this number.
    pub fn of(&mut self, connection: u32) -> &mut Repeat {
        &mut self.0[connection as usize % PLACES]
    }
}

impl Default for Repeats {
    fn default() -> Self {
        Self::new()
    }
}

/// The place for one section, and for one head.
pub struct Repeat {
    section: SectionRepeat,
    /// The mark of the head that was seen last, among those with a known section: it is kept when it is seen again.
    seen: u64,
    next_stamp: usize,
    known: Option<Box<KnownHead>>,
}

/// A head that was read.
struct KnownHead {
    trusted: bool,
    head: RequestHead,
}

impl Repeat {
    fn new(place: usize) -> Self {
        // No stamp is 0.
        let first = PLACES + place;
        Self { section: SectionRepeat::new(first, PLACES), seen: 0, next_stamp: first, known: None }
    }

    /// Tries to read a whole head from the front of `input`, as [`RequestHead::parse_fast`] does, by what is known.
    pub(super) fn parse(&mut self, policy: &Policy, trusted: bool, input: &[u8]) -> Option<RequestHead> {
        if let Some(known) = &self.known
            && known.trusted == trusted
            && input.starts_with(known.head.text())
        {
            return Some(known.head.clone());
        }
        let head = RequestHead::parse_fast(policy, trusted, input, Some(&mut self.section))?;
        if head.section() != 0 {
            self.see(trusted, input, &head);
        }
        Some(head)
    }

    /// Sees a head that was not known, and keeps it if it is the second time in a row.
    fn see(&mut self, trusted: bool, input: &[u8], head: &RequestHead) {
        let text = head.text();
        // What a policy has changed does not come again as it is.
        if text.len() > SECTION_BYTES_MAX || !input.starts_with(text) {
            return;
        }
        let mark = mark(text);
        if std::mem::replace(&mut self.seen, mark) == mark {
            let head = head.clone().stamped(self.next_stamp);
            self.next_stamp += PLACES;
            self.known = Some(Box::new(KnownHead { trusted, head }));
        }
    }
}
