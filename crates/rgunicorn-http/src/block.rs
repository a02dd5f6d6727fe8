//! A field section that owns its bytes: the text as it came and, behind it in the same allocation, one span
//! of 16 bytes for each field that was kept. There is one allocation for a head, whatever the number of its
//! fields.

use bytes::{Bytes, BytesMut};

use super::chars::{is_blank, trim};
use super::error::HttpError;
use super::policy::{HeadLimits, Policy};

/// One field. Both slices are as sent; the value has no blanks at its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// A token, in the sender's spelling.
    pub name: &'a [u8],
    /// Latin-1 without control bytes other than HTAB.
    pub value: &'a [u8],
}

/// A field of which it is not yet decided whether the application may see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldCheck<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// The name contains `_`.
    pub(super) underscore: bool,
}

/// Four 32-bit numbers: start and length of the name, start and length of the value.
pub(super) const SPAN_BYTES: usize = 16;
/// The number of fields for which the parser's scratch space lies on the stack. Browsers behind a proxy send
/// 12 to 25.
pub(super) const FIELDS_ON_STACK: usize = 32;

/// Owned text with the spans of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// `text`, then the spans. Copies share them.
    bytes: Bytes,
    /// Length of the text. Invariant: at most `bytes.len()`, and every span lies inside the text.
    text_len: usize,
}

impl Block {
    /// Parses the fields that begin at `fields_at` in `bytes`, which may go on behind the section (then the rest is
    /// ignored). `scratch` must have room for every field. `judge` sees each field once, in order, and says whether
    /// it is kept.
    ///
    /// # Errors
    /// An invalid field, more or longer fields than `limits` allow, or an error of `judge`. A section that is
    /// not complete is an error too: a caller that may hold an unfinished one asks the scanner first.
    pub(super) fn parse<'a>(
        bytes: &'a [u8],
        fields_at: usize,
        scratch: &mut [httparse::Header<'a>],
        limits: &HeadLimits,
        mut judge: impl FnMut(FieldCheck<'a>) -> Result<bool, HttpError>,
    ) -> Result<Self, HttpError> {
        let section = &bytes[fields_at..];
        let (end, found) = match httparse::parse_headers(section, scratch) {
            Ok(httparse::Status::Complete(done)) => done,
            Ok(httparse::Status::Partial) => return Err(HttpError::PrematureEnd),
            Err(httparse::Error::TooManyHeaders) => return Err(HttpError::TooManyFields),
            Err(_) => return Err(field_error(section)),
        };
        let text = &bytes[..fields_at + end];
        if text.len() > HeadLimits::HEAD_BYTES_CAP {
            return Err(HttpError::FieldTooLarge);
        }
        if found.len() > limits.fields_max {
            return Err(HttpError::TooManyFields);
        }
        let mut owned = Vec::with_capacity(text.len() + found.len() * SPAN_BYTES);
        owned.extend_from_slice(text);
        let origin = text.as_ptr() as usize;
        let mut starts = found.iter().map(|header| header.name.as_ptr() as usize - origin).skip(1);
        let last = check_line_end(text, text.len())?;
        let mut underscores = Underscores { next: None };
        for header in found {
            let (name, value) = (header.name.as_bytes(), header.value);
            let name_at = name.as_ptr() as usize - origin;
            // A field ends where the next one begins, the last one where the empty line begins.
            let next = starts.next().unwrap_or(last);
            check_line_end(text, next)?;
            if next - name_at > limits.field_bytes_max {
                return Err(HttpError::FieldTooLarge);
            }
            let underscore = underscores.within(text, name_at, name_at + name.len());
            if judge(FieldCheck { name, value, underscore })? {
                let value_at = value.as_ptr() as usize - origin;
                owned.extend_from_slice(&span(name_at, name.len(), value_at, value.len()));
            }
        }
        Ok(Self { bytes: owned.into(), text_len: text.len() })
    }

    /// Makes a block of a text whose fields are known.
    pub(super) fn known(text: &[u8], spans: impl ExactSizeIterator<Item = [u8; SPAN_BYTES]>) -> Self {
        let mut bytes = Vec::with_capacity(text.len() + spans.len() * SPAN_BYTES);
        bytes.extend_from_slice(text);
        spans.for_each(|span| bytes.extend_from_slice(&span));
        Self { bytes: bytes.into(), text_len: text.len() }
    }

    /// Makes a block of a text without fields.
    pub(super) fn bare(text: Vec<u8>) -> Self {
        Self { text_len: text.len(), bytes: text.into() }
    }

    /// Counts the memory that it takes.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the text, of which every getter of a head is a slice.
    pub(super) fn text(&self) -> &[u8] {
        &self.bytes[..self.text_len]
    }

    /// Returns the spans of the fields that were kept.
    pub(super) fn spans(&self) -> &[[u8; SPAN_BYTES]] {
        self.bytes[self.text_len..].as_chunks().0
    }

    /// Turns the first bytes of the text into upper-case letters.
    pub(super) fn make_uppercase(&mut self, len: usize) {
        self.edit(|bytes| bytes[..len].make_ascii_uppercase());
    }

    /// Changes the bytes; their number cannot change.
    fn edit(&mut self, change: impl FnOnce(&mut [u8])) {
        let mut bytes = BytesMut::from(std::mem::take(&mut self.bytes));
        change(&mut bytes);
        self.bytes = bytes.freeze();
    }

    /// Puts the part of the text from `start` on, `len` bytes long, in the place of the value of the fields of this
    /// name.
    pub(super) fn point_value(&mut self, name: &str, start: usize, len: usize) {
        let (name_len, text_len) = (name.len(), self.text_len);
        self.edit(|bytes| {
            let (text, spans) = bytes.split_at_mut(text_len);
            for old in spans.as_chunks_mut().0 {
                let [at, old_len, ..] = numbers(old);
                if old_len == name_len && text[at..at + name_len].eq_ignore_ascii_case(name.as_bytes()) {
                    *old = span(at, name_len, start, len);
                }
            }
        });
    }

    /// Returns the fields that were kept, in order.
    pub(super) fn fields(&self) -> Fields<'_> {
        let (text, spans) = self.bytes.split_at(self.text_len);
        Fields { text, spans: spans.as_chunks().0.iter() }
    }
}

/// A search for `_` in names, by one vectorised search over the text instead of one loop for each short name:
/// it goes on only where the last find has been passed, and most heads have few or none.
struct Underscores {
    /// The first `_` at or behind the last name asked for; `usize::MAX` when there is no other.
    next: Option<usize>,
}

impl Underscores {
    fn within(&mut self, text: &[u8], start: usize, end: usize) -> bool {
        let next = match self.next {
            Some(next) if next >= start => next,
            _ => memchr::memchr(b'_', &text[start..]).map_or(usize::MAX, |at| start + at),
        };
        self.next = Some(next);
        next < end
    }
}

/// Refuses a bare LF, which httparse takes for a line end, and returns where the line end begins.
fn check_line_end(text: &[u8], end: usize) -> Result<usize, HttpError> {
    if text[..end].ends_with(b"\r\n") { Ok(end - 2) } else { Err(HttpError::BareLineFeed) }
}

/// Packs four numbers into a span. They fit: a text is at most [`HeadLimits::HEAD_BYTES_CAP`] long.
fn span(name_at: usize, name_len: usize, value_at: usize, value_len: usize) -> [u8; SPAN_BYTES] {
    let mut span = [0; SPAN_BYTES];
    for (slot, number) in span.chunks_exact_mut(4).zip([name_at, name_len, value_at, value_len]) {
        slot.copy_from_slice(&(number as u32).to_ne_bytes());
    }
    span
}

/// Moves a span by so many bytes, modulo 2^32.
pub(super) fn shifted(bytes: &[u8; SPAN_BYTES], by: u32) -> [u8; SPAN_BYTES] {
    let [name_at, name_len, value_at, value_len] = numbers(bytes);
    let moved = |at: usize| (at as u32).wrapping_add(by) as usize;
    span(moved(name_at), name_len, moved(value_at), value_len)
}

/// Unpacks the four numbers of a span.
fn numbers(span: &[u8; SPAN_BYTES]) -> [usize; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *span;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(|bytes| u32::from_ne_bytes(bytes) as usize)
}

/// Finds the error of a section that httparse refuses. It says only that something is wrong; a folded line
/// deserves its own name.
fn field_error(section: &[u8]) -> HttpError {
    let folded = section.windows(3).any(|bytes| bytes.starts_with(b"\r\n") && is_blank(bytes[2]));
    if folded { HttpError::Folding } else { HttpError::Field }
}

/// An iterator over the fields of a head or a trailer section, in the order in which they were sent.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    text: &'a [u8],
    spans: std::slice::Iter<'a, [u8; SPAN_BYTES]>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let [name_at, name_len, value_at, value_len] = numbers(self.spans.next()?);
        let slice = |at: usize, len: usize| &self.text[at..at + len];
        Some(Field { name: slice(name_at, name_len), value: slice(value_at, value_len) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// The fields that a client sent after a chunked body (RFC 9112 7.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailers(pub(super) Block);

impl Trailers {
    /// Returns the fields in order, after the rules for names with `_`.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        self.0.fields()
    }
}

/// Rewrites a complete section so that httparse can read it under the two lenient switches: folded lines are
/// joined by one space, blanks before a colon go. A fault that is left after it is a fault of the client.
pub(super) fn rewrite(text: &[u8], fields_at: usize, policy: &Policy) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(&text[..fields_at]);
    let mut fields = 0;
    for line in text[fields_at..].split_inclusive(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        let folded = fields > 0 && line.first().is_some_and(|&byte| is_blank(byte));
        if folded && policy.permit_obsolete_folding {
            out.truncate(trim_end(&out[..out.len() - 2]));
            out.push(b' ');
            out.extend_from_slice(trim(line));
        } else {
            fields += 1;
            push_line(&mut out, line, policy.strip_header_spaces);
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn push_line(out: &mut Vec<u8>, line: &[u8], strip: bool) {
    let colon = memchr::memchr(b':', line).filter(|_| strip).unwrap_or(0);
    let (name, rest) = line.split_at(colon);
    out.extend_from_slice(&name[..trim_end(name)]);
    out.extend_from_slice(rest);
}

/// Returns the length without the blanks at the end.
fn trim_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| !is_blank(byte)).map_or(0, |last| last + 1)
}
