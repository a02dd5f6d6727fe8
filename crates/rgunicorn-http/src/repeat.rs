//! Field sections that come again. A client that keeps its connection sends the same fields with each request, nearly
//! byte for byte; a section that equals one that was read before means what that one means.
//!
//! What is kept is the section's text to the empty line, its spans and its facts. A head is read by it only if its
//! bytes are the same and the peer is trusted as that one was; the request line is read each time. The policy is that
//! of the worker, which never changes.

use super::block::{SPAN_BYTES, shifted};
use super::rules::HeadFacts;

/// Places for sections. Connections share them by their numbers, so that a section of many clients is found by all.
const PLACES: usize = 64;
/// The longest section that is kept: a browser's, with its cookies.
const SECTION_BYTES_MAX: usize = 4096;

/// The field sections that a worker remembers.
pub struct Repeats(Box<[Repeat]>);

impl Repeats {
    /// Makes the places, all empty.
    #[must_use]
    pub fn new() -> Self {
        Self((0..PLACES).map(|place| Repeat { place, seen: 0, count: 0, known: None }).collect())
    }

    /// Returns how many places there are: a [stamp](super::RequestHead::section) modulo this is a section's place.
    #[must_use]
    pub fn places() -> usize {
        PLACES
    }

    /// Returns the place for the sections of the connection with this number.
    pub fn of(&mut self, connection: u32) -> &mut Repeat {
        &mut self.0[connection as usize % PLACES]
    }
}

impl Default for Repeats {
    fn default() -> Self {
        Self::new()
    }
}

/// The place for one section.
pub struct Repeat {
    place: usize,
    /// The mark of the section that was seen last: it is kept when it is seen again.
    seen: u64,
    /// How many sections were kept here.
    count: usize,
    known: Option<Box<KnownSection>>,
}

/// A section that was read.
pub(super) struct KnownSection {
    trusted: bool,
    text: Box<[u8]>,
    /// Relative to the section's beginning.
    spans: Box<[[u8; SPAN_BYTES]]>,
    pub(super) facts: HeadFacts,
    /// Names the section: no other one of this worker has it. Never 0.
    pub(super) stamp: usize,
}

impl KnownSection {
    pub(super) fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Returns the spans, in a text in which the section begins at `start`.
    pub(super) fn spans(&self, start: usize) -> impl ExactSizeIterator<Item = [u8; SPAN_BYTES]> {
        self.spans.iter().map(move |span| shifted(span, start as u32))
    }
}

impl Repeat {
    /// Returns the section with which `input` begins, if it is known.
    pub(super) fn find(&self, trusted: bool, input: &[u8]) -> Option<&KnownSection> {
        let known = self.known.as_deref().filter(|known| known.trusted == trusted)?;
        input.starts_with(&known.text).then_some(known)
    }

    /// Sees a section that was not known, and keeps it if it is the second time in a row. `start`: where it begins in
    /// the head's text, to which `spans` belong.
    pub(super) fn see(
        &mut self,
        trusted: bool,
        text: &[u8],
        start: usize,
        spans: &[[u8; SPAN_BYTES]],
        facts: HeadFacts,
    ) {
        let section = &text[start..];
        if spans.is_empty() || section.len() > SECTION_BYTES_MAX {
            return;
        }
        let mark = mark(section);
        if std::mem::replace(&mut self.seen, mark) != mark {
            return;
        }
        self.count += 1;
        self.known = Some(Box::new(KnownSection {
            trusted,
            text: section.into(),
            spans: spans.iter().map(|span| shifted(span, (start as u32).wrapping_neg())).collect(),
            facts,
            stamp: self.count * PLACES + self.place,
        }));
    }
}

/// Returns a mark by which a section is told from most others: its length, and samples of its bytes. No more hangs on
/// it than whether a section is worth to be kept.
fn mark(section: &[u8]) -> u64 {
    let sample = |at: usize| {
        let bytes = section.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        u64::from_le_bytes(bytes)
    };
    let len = section.len();
    let samples = [len / 4, len / 2, len / 4 * 3, len.saturating_sub(12)].map(sample);
    samples
        .iter()
        .fold(len as u64, |mark, sample| (mark ^ sample).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}
