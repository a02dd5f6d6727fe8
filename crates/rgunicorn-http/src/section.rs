//! A field section that comes again, one of a connection's: what it means is known.

use super::block::{SPAN_BYTES, shifted};
use super::rules::HeadFacts;

/// The longest section, and the longest head, that is kept: a browser's, with its cookies.
pub(super) const SECTION_BYTES_MAX: usize = 4096;

/// The place for one section.
pub(super) struct SectionRepeat {
    /// The first stamp here, and the distance of each from the next.
    first_stamp: usize,
    stamp_step: usize,
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

impl SectionRepeat {
    /// Makes an empty place whose sections get these stamps.
    pub(super) fn new(first_stamp: usize, stamp_step: usize) -> Self {
        Self { first_stamp, stamp_step, seen: 0, count: 0, known: None }
    }

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
        let stamp = self.first_stamp + self.count * self.stamp_step;
        self.count += 1;
        self.known = Some(Box::new(KnownSection {
            trusted,
            text: section.into(),
            spans: spans.iter().map(|span| shifted(span, (start as u32).wrapping_neg())).collect(),
            facts,
            stamp,
        }));
    }
}

/// Returns a mark by which a text is told from most others: its length, and samples of its bytes. No more hangs on it
/// than whether the text is worth to be kept.
pub(super) fn mark(text: &[u8]) -> u64 {
    let sample = |at: usize| {
        let bytes = text.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        u64::from_le_bytes(bytes)
    };
    let len = text.len();
    let samples = [len / 4, len / 2, len / 4 * 3, len.saturating_sub(12)].map(sample);
    samples
        .iter()
        .fold(len as u64, |mark, sample| (mark ^ sample).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}
