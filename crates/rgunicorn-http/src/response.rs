//! The head of a response: the application's status and headers in, bytes out.

use super::chars::{decimal, is_field_value, is_name, is_token, trim};
use super::error::ResponseError;
use super::framing::Framing;
use super::version::Version;

/// The facts about the request and the worker that a response depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseFacts {
    /// The version of the request. The status line repeats it up to 1.1, which is ours.
    pub version: Version,
    /// The request was HEAD.
    pub head_request: bool,
    /// The request was CONNECT.
    pub connect: bool,
    /// Client and worker both want to keep the connection.
    pub keep_alive: bool,
}

/// The memory that a cleared builder keeps: one large head must not stay for ever.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// A builder of one response head, reused from response to response: after the first few it allocates
/// nothing.
///
/// Call [`clear`](Self::clear), [`status`](Self::status), [`header`](Self::header) for each header, then
/// [`finish`](Self::finish).
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// `200 OK`.
    status: Vec<u8>,
    code: u16,
    /// The application's headers that are sent, as lines with CRLF.
    lines: Vec<u8>,
    content_length: Option<ContentLength>,
    /// The application said `Connection: upgrade`.
    upgrade: bool,
}

/// The length, and the place of its line among the lines: 1xx and 204 are sent without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ContentLength {
    length: u64,
    line_start: usize,
    line_end: usize,
}

impl ResponseHead {
    /// Makes an empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the response and keeps the memory.
    pub fn clear(&mut self) {
        self.status.clear();
        self.code = 0;
        self.lines.clear();
        self.lines.shrink_to(KEPT_BYTES_MAX);
        self.content_length = None;
        self.upgrade = false;
    }

    /// Takes the application's status, `ddd` or `ddd reason` (PEP 3333), in latin-1.
    ///
    /// # Errors
    /// [`ResponseError::Status`] for any other form or a control byte.
    pub fn status(&mut self, status: &[u8]) -> Result<(), ResponseError> {
        let code = match status {
            [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..]
                if matches!(rest, [] | [b' ', ..]) && is_field_value(rest) =>
            {
                [a, b, c].iter().fold(0, |code, &&digit| code * 10 + u16::from(digit - b'0'))
            }
            _ => return Err(ResponseError::Status(status.to_vec())),
        };
        self.code = code;
        self.status.clear();
        self.status.extend_from_slice(status);
        if status.len() == 3 {
            // RFC 9112 4: the space stands even before an empty reason.
            self.status.push(b' ');
        }
        Ok(())
    }

    /// Takes a status that a head had before.
    pub fn prepared_status(&mut self, status: &PreparedStatus) {
        self.code = status.code;
        self.status.clear();
        self.status.extend_from_slice(&status.text);
    }

    /// Takes one of the application's headers, in latin-1. Headers that the server sets itself (Gunicorn's
    /// list of hop-by-hop fields, `Server`, `Date`) are left out silently.
    ///
    /// # Errors
    /// The name is no token, the value holds control bytes, or `Content-Length` is no number or contradicts itself.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        if !is_token(name) {
            return Err(ResponseError::HeaderName(name.to_vec()));
        }
        if !is_field_value(value) {
            return Err(ResponseError::HeaderValue(name.to_vec()));
        }
        let value = trim(value);
        match Role::of(name) {
            Role::Application => self.push(name, value),
            Role::ContentLength => return self.push_content_length(name, value),
            Role::Upgrade if value.eq_ignore_ascii_case(b"websocket") => self.push(name, value),
            Role::Connection => {
                let mut options = value.split(|&byte| byte == b',').map(trim);
                self.upgrade |= options.any(|option| option.eq_ignore_ascii_case(b"upgrade"));
            }
            Role::Upgrade | Role::Server => {}
        }
        Ok(())
    }

    /// Takes a header that was read before, as [`header`](Self::header) does.
    ///
    /// # Errors
    /// `Content-Length` contradicts itself.
    pub fn prepared(&mut self, field: &PreparedField) -> Result<(), ResponseError> {
        match field.length {
            None => self.lines.extend_from_slice(&field.line),
            Some(length) if self.is_new_length(length)? => {
                let line_start = self.lines.len();
                self.lines.extend_from_slice(&field.line);
                self.content_length = Some(ContentLength { length, line_start, line_end: self.lines.len() });
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        push_line(&mut self.lines, name, value);
    }

    fn push_content_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        let length = decimal(value).ok_or_else(|| ResponseError::ContentLength(value.to_vec()))?;
        if self.is_new_length(length)? {
            let line_start = self.lines.len();
            self.push(name, value);
            self.content_length = Some(ContentLength { length, line_start, line_end: self.lines.len() });
        }
        Ok(())
    }

    /// Returns whether the length of the body was not known. Equal repetitions are sent once; others would let client
    /// and server disagree about the end of the body.
    fn is_new_length(&self, length: u64) -> Result<bool, ResponseError> {
        match self.content_length {
            Some(known) if known.length != length => {
                Err(ResponseError::ContentLength(length.to_string().into_bytes()))
            }
            known => Ok(known.is_none()),
        }
    }

    /// Returns the status code; 0 before [`status`](Self::status).
    #[must_use]
    pub fn status_code(&self) -> u16 {
        self.code
    }

    /// Returns the status as it is sent, such as `200 OK`.
    #[must_use]
    pub fn status_text(&self) -> &[u8] {
        &self.status
    }

    /// Returns the length of the body, if the application has named it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length.map(|known| known.length)
    }

    /// Returns the application's headers that are sent: names and values, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.split(|byte| *byte == b'\n').filter_map(|line| {
            let at = memchr::memchr(b':', line)?;
            Some((&line[..at], trim(line[at + 1..].strip_suffix(b"\r").unwrap_or_default())))
        })
    }

    /// Returns the value of the last header of this name, in any case, among those that are sent.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields().filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).last()
    }

    /// Appends the head to `out`: status line, `Server`, `Date`, `Connection`, `Transfer-Encoding`, the
    /// application's headers in order, the empty line. Returns the framing of the body.
    pub fn finish(
        &self,
        facts: &ResponseFacts,
        server: &[u8],
        date: &[u8; 29],
        out: &mut Vec<u8>,
    ) -> Framing {
        let framing = self.framing(facts);
        out.reserve(160 + self.status.len() + server.len() + self.lines.len());
        push_status_start(out, facts.version);
        out.extend_from_slice(&self.status);
        out.extend_from_slice(b"\r\nServer: ");
        out.extend_from_slice(server);
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(date);
        out.extend_from_slice(match (self.upgrade, framing.keep_alive()) {
            (true, _) => b"\r\nConnection: upgrade\r\n",
            (false, true) => b"\r\nConnection: keep-alive\r\n",
            (false, false) => b"\r\nConnection: close\r\n",
        });
        if framing.is_chunked() {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        match self.content_length {
            // RFC 9110 8.6: no Content-Length in 1xx and 204.
            Some(known) if self.code < 200 || self.code == 204 => {
                out.extend_from_slice(&self.lines[..known.line_start]);
                out.extend_from_slice(&self.lines[known.line_end..]);
            }
            _ => out.extend_from_slice(&self.lines),
        }
        out.extend_from_slice(b"\r\n");
        framing
    }

    fn framing(&self, facts: &ResponseFacts) -> Framing {
        // After 101 the connection speaks another protocol, so it never comes back to this one.
        let keep_alive = facts.keep_alive && !facts.connect && self.code != 101;
        if facts.head_request || self.code < 200 || matches!(self.code, 204 | 304) {
            return Framing::none(keep_alive);
        }
        match self.content_length {
            Some(known) => Framing::length(known.length, keep_alive),
            None if facts.version > Version::HTTP_10 => Framing::chunked(keep_alive),
            None => Framing::close(),
        }
    }
}

/// A status that was read once, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedStatus {
    code: u16,
    text: Box<[u8]>,
}

impl PreparedStatus {
    /// Returns the status that a head has.
    #[must_use]
    pub fn of(head: &ResponseHead) -> Self {
        Self { code: head.code, text: head.status.as_slice().into() }
    }
}

/// A header that was read once, as it is sent: what an application gives again costs a copy of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedField {
    /// With CRLF; empty for a header that the server sets itself.
    line: Box<[u8]>,
    /// Of `Content-Length`.
    length: Option<u64>,
}

impl PreparedField {
    /// Reads a header; `None` if it is not allowed, or means more than its line (`Connection: upgrade`).
    #[must_use]
    pub fn new(name: &[u8], value: &[u8]) -> Option<Self> {
        let mut head = ResponseHead::new();
        head.header(name, value).ok()?;
        let length = head.content_length();
        (!head.upgrade).then(|| Self { line: head.lines.into_boxed_slice(), length })
    }
}

/// The role of a response header: whether the server or the application determines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Application,
    ContentLength,
    Connection,
    Upgrade,
    /// Left out: the server sets it itself, or it concerns one hop only.
    Server,
}

impl Role {
    fn of(name: &[u8]) -> Self {
        let is = |usual: &[u8]| is_name(name, usual);
        match name.len() {
            2 if is(b"TE") => Self::Server,
            4 if is(b"Date") => Self::Server,
            6 if is(b"Server") => Self::Server,
            7 if is(b"Upgrade") => Self::Upgrade,
            8 if is(b"Trailers") => Self::Server,
            10 if is(b"Connection") => Self::Connection,
            10 if is(b"Keep-Alive") => Self::Server,
            14 if is(b"Content-Length") => Self::ContentLength,
            17 if is(b"Transfer-Encoding") => Self::Server,
            18 if is(b"Proxy-Authenticate") => Self::Server,
            19 if is(b"Proxy-Authorization") => Self::Server,
            _ => Self::Application,
        }
    }
}

/// Appends the status line up to the status code: `HTTP/1.1 `. Later versions are answered with the highest that we
/// speak (RFC 9110 6.2): to name theirs would promise what it asks for.
pub(super) fn push_status_start(out: &mut Vec<u8>, version: Version) {
    let Version { major, minor } = version.min(Version::HTTP_11);
    out.extend_from_slice(&[b'H', b'T', b'T', b'P', b'/', b'0' + major % 10, b'.', b'0' + minor % 10, b' ']);
}

pub(super) fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
