//! The framing of a response's body on the wire, item by item, without a copy.

/// The way in which the client finds the end of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyEnd {
    /// There is no body: HEAD, 1xx, 204, 304. The application's bytes are dropped.
    None,
    /// `Content-Length`: bytes still owed.
    Length(u64),
    /// Each item is one chunk.
    Chunked,
    /// The connection's end is the body's end.
    Close,
}

/// The framing of one response, made by [`ResponseHead::finish`](super::ResponseHead::finish).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framing {
    kind: BodyEnd,
    keep_alive: bool,
}

/// The form in which one body item goes out: `prefix`, the first `take` bytes of the item, `suffix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The number of the item's bytes that may go out; the surplus is dropped. 0: send nothing at all for
    /// this item.
    pub take: usize,
    /// The chunk-size line, or empty.
    pub prefix: Prefix,
    /// The bytes behind the item: the chunk's CRLF, or none.
    pub suffix: &'static [u8],
}

/// The length of the longest chunk-size line: sixteen hex digits and CRLF.
const PREFIX_BYTES_MAX: usize = 18;

/// A chunk-size line, held inline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Right-aligned. Invariant: `start <= PREFIX_BYTES_MAX`.
    bytes: [u8; PREFIX_BYTES_MAX],
    start: u8,
}

impl Prefix {
    const EMPTY: Self = Self { bytes: [0; PREFIX_BYTES_MAX], start: PREFIX_BYTES_MAX as u8 };

    /// Renders the size in hex, then CRLF (RFC 9112 7.1).
    fn chunk(mut size: usize) -> Self {
        let mut bytes = [0; PREFIX_BYTES_MAX];
        let mut start = PREFIX_BYTES_MAX - 2;
        bytes[start..].copy_from_slice(b"\r\n");
        loop {
            start -= 1;
            bytes[start] = b"0123456789abcdef"[size % 16];
            size /= 16;
            if size == 0 {
                return Self { bytes, start: start as u8 };
            }
        }
    }

    /// Returns the line, CRLF included.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start as usize..]
    }
}

impl AsRef<[u8]> for Prefix {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Framing {
    pub(super) fn none(keep_alive: bool) -> Self {
        Self { kind: BodyEnd::None, keep_alive }
    }

    pub(super) fn length(length: u64, keep_alive: bool) -> Self {
        Self { kind: BodyEnd::Length(length), keep_alive }
    }

    pub(super) fn chunked(keep_alive: bool) -> Self {
        Self { kind: BodyEnd::Chunked, keep_alive }
    }

    pub(super) fn close() -> Self {
        Self { kind: BodyEnd::Close, keep_alive: false }
    }

    /// Returns the form in which an item of `len` bytes goes out, and advances: call it once for each item
    /// that is really sent. An empty item sends nothing, for an empty chunk would end the body.
    pub fn frame(&mut self, len: usize) -> Frame {
        let bare = |take| Frame { take, prefix: Prefix::EMPTY, suffix: b"" };
        match &mut self.kind {
            BodyEnd::None => bare(0),
            BodyEnd::Close => bare(len),
            BodyEnd::Chunked if len == 0 => bare(0),
            BodyEnd::Chunked => Frame { take: len, prefix: Prefix::chunk(len), suffix: b"\r\n" },
            BodyEnd::Length(left) => {
                let take = usize::try_from(*left).map_or(len, |left| left.min(len));
                *left -= take as u64;
                bare(take)
            }
        }
    }

    /// Returns the bytes that end the body: the last chunk, or none.
    #[must_use]
    pub fn last(&self) -> &'static [u8] {
        if self.kind == BodyEnd::Chunked { b"0\r\n\r\n" } else { b"" }
    }

    /// Returns whether the application has given as much as its `Content-Length` says. If not, the client
    /// still waits for the rest, so the connection must close.
    #[must_use]
    pub fn complete(&self) -> bool {
        !matches!(self.kind, BodyEnd::Length(1..))
    }

    /// Returns whether the response has a body at all. If not, the application's bytes are dropped and worth
    /// a warning.
    #[must_use]
    pub fn body_allowed(&self) -> bool {
        self.kind != BodyEnd::None
    }

    /// Returns whether each item is a chunk of its own.
    #[must_use]
    pub fn is_chunked(&self) -> bool {
        self.kind == BodyEnd::Chunked
    }

    /// Returns how many bytes the application still owes under its `Content-Length`; `None` when there is
    /// none.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.kind {
            BodyEnd::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Returns whether the head promised to keep the connection. Holds only if the body became
    /// [`complete`](Self::complete).
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }
}
