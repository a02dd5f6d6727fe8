//! The scanner of an unfinished head or trailer section, which reads it line by line, as far as it has come:
//! limits and line ends are judged at once, so that a client can neither fill memory nor wait with a line
//! that will never be accepted.
//!
//! Every verdict depends on the bytes up to it and on nothing else. Therefore any split of the input gives
//! the same error: the checks of a line run in the order in which a slow client would trigger them.

use super::chars::is_blank;
use super::error::HttpError;
use super::line::RequestLine;
use super::policy::{HeadLimits, Policy};

/// The place up to which a section has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scanner {
    /// The end of the bytes that have been looked at.
    seen: usize,
    /// The beginning of the line that is not finished.
    line_start: usize,
    /// Whether the request line has been read.
    past_request_line: bool,
    /// The number of field lines so far, folded continuations not counted.
    fields: usize,
    /// The number of bytes of the last field so far, its line ends included.
    field_bytes: usize,
}

impl Scanner {
    /// Makes a scanner of a request head.
    pub(super) fn head() -> Self {
        Self::default()
    }

    /// Makes a scanner of a trailer section, which has field lines only.
    pub(super) fn trailers() -> Self {
        Self { past_request_line: true, ..Self::default() }
    }

    /// Returns the number of field lines so far, which is that of the spans that a parse needs.
    pub(super) fn fields(&self) -> usize {
        self.fields
    }

    /// Looks at the bytes that `section` has gained. `Some(n)`: the section is complete and is `n` bytes
    /// long.
    ///
    /// # Errors
    /// A limit that is exceeded, or a line that is not valid.
    pub(super) fn scan(&mut self, section: &[u8], policy: &Policy) -> Result<Option<usize>, HttpError> {
        while let Some(found) = memchr::memchr(b'\n', &section[self.seen..]) {
            let line_feed = self.seen + found;
            let line = &section[self.line_start..line_feed];
            self.seen = line_feed + 1;
            self.line_start = self.seen;
            if self.close_line(line, policy)? {
                return Ok(Some(self.seen));
            }
        }
        self.seen = section.len();
        self.check_length(without_cr(&section[self.line_start..]), policy)?;
        Ok(None)
    }

    /// Checks a line that has come to its LF. True: it was the empty one that ends the section.
    fn close_line(&mut self, line: &[u8], policy: &Policy) -> Result<bool, HttpError> {
        let text = without_cr(line);
        self.check_length(text, policy)?;
        if text.len() == line.len() {
            return Err(HttpError::BareLineFeed);
        }
        if !self.past_request_line {
            RequestLine::parse(text, policy)?;
            self.past_request_line = true;
            return Ok(false);
        }
        if text.is_empty() {
            return Ok(true);
        }
        if !self.continues(text, policy) {
            self.fields += 1;
            self.field_bytes = 0;
        }
        self.field_bytes += line.len() + 1;
        if self.fields > policy.limits.fields_max { Err(HttpError::TooManyFields) } else { Ok(false) }
    }

    /// Checks the limits for a line that may still grow.
    fn check_length(&self, text: &[u8], policy: &Policy) -> Result<(), HttpError> {
        if !self.past_request_line {
            let over = text.len() > policy.limits.request_line_bytes_max;
            return if over { Err(HttpError::RequestLineTooLong) } else { Ok(()) };
        }
        let before = if self.continues(text, policy) { self.field_bytes } else { 0 };
        let over = !text.is_empty() && before + text.len() + 2 > policy.limits.field_bytes_max;
        let full = self.line_start > HeadLimits::HEAD_BYTES_CAP;
        if over || full { Err(HttpError::FieldTooLarge) } else { Ok(()) }
    }

    fn continues(&self, text: &[u8], policy: &Policy) -> bool {
        policy.permit_obsolete_folding && self.fields > 0 && text.first().is_some_and(|&byte| is_blank(byte))
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
