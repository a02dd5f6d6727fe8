//! The state machine of one connection's input.
//!
//! ```text
//! Idle -> (Head) -> Length | ChunkLine -> ChunkData -> ChunkEnd -> ChunkLine ... Trailers -> Idle
//! ```
//!
//! An idle parser holds no memory: [`RequestParser`] is 32 bytes, and only the unfinished part of a head or trailer
//! section is ever copied. Body bytes are handed on from the caller's buffer.

use super::HttpError;
use super::block::{Block, Trailers};
use super::chunk::ChunkLine;
use super::head::{BodyKind, RequestHead};
use super::policy::{Limits, Policy};
use super::rules::judge_trailer;
use super::scan::Scanner;

/// Bytes of input copied at a time while a section is unfinished: bounds what is copied in vain when the section
/// ends early in a large input.
const COPY_BYTES_MAX: usize = 2048;

/// What the input has brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// All of the input is consumed and more is needed. Also the answer to empty input between requests.
    NeedMore,
    /// A request begins.
    Head(RequestHead),
    /// The next bytes of its body, decoded; never empty.
    Data(&'a [u8]),
    /// The request is complete. The bytes left in the input belong to the next one.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between requests. `blank`: the one empty line that may come before a request line (RFC 9112 2.2) has been.
    Idle {
        blank: bool,
    },
    /// An unfinished head is in the store.
    Head {
        blank: bool,
    },
    /// Body bytes still to come; at 0 the end of the request is to be reported.
    Length(u64),
    ChunkLine(ChunkLine),
    /// Bytes of the chunk still to come, at least 1.
    ChunkData(u64),
    /// Behind the data of a chunk. `cr`: half of the CRLF has come.
    ChunkEnd {
        cr: bool,
    },
    /// Behind the last chunk.
    Trailers,
    /// A fault is final: the framing of what follows is unknown.
    Failed(HttpError),
}

/// An unfinished section, or the trailers of the request that has just ended.
#[derive(Debug)]
enum Store {
    Section { bytes: Vec<u8>, scanner: Scanner },
    Trailers(Trailers),
}

/// Parser of the requests of one connection: bytes in, [`Event`]s out.
///
/// Call [`advance`](Self::advance) until it says [`Event::NeedMore`]; it consumes from the front of the input. After
/// [`Event::End`] the caller may stop and keep the rest of the input (pipelined requests) for later. After an error
/// nothing more is consumed and every call repeats it.
#[derive(Debug)]
pub struct RequestParser {
    phase: Phase,
    /// Boxed, so that the ten thousand idle connections of a worker pay 8 bytes for it.
    store: Option<Box<Store>>,
}

const _: () = assert!(size_of::<RequestParser>() <= 32);

impl Default for RequestParser {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestParser {
    /// A parser before the first byte of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self { phase: Phase::Idle { blank: false }, store: None }
    }

    /// Takes as much of `input` as the next event needs. `trusted`: the peer is one of `forwarded_allow_ips` or came
    /// over a unix socket, so its forwarding fields count; it may not change within a head.
    ///
    /// # Errors
    /// What the client did wrong. The connection is of no further use: answer if
    /// [`wants_answer`](HttpError::wants_answer) says so, and close.
    pub fn advance<'a>(
        &mut self,
        policy: &Policy,
        trusted: bool,
        input: &mut &'a [u8],
    ) -> Result<Event<'a>, HttpError> {
        let result = self.step(policy, trusted, input);
        if let Err(error) = result {
            *self = Self { phase: Phase::Failed(error), store: None };
        }
        result
    }

    /// Between two requests, and no byte of the next head has come (the empty line that may precede it does not count).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle { .. })
    }

    /// A part of a head has come.
    #[must_use]
    pub fn in_head(&self) -> bool {
        matches!(self.phase, Phase::Head { .. })
    }

    /// A head was reported and its [`Event::End`] was not.
    #[must_use]
    pub fn in_body(&self) -> bool {
        !matches!(self.phase, Phase::Idle { .. } | Phase::Head { .. } | Phase::Failed(_))
    }

    /// The peer has closed its side.
    ///
    /// # Errors
    /// [`HttpError::PrematureEnd`] in the middle of a request, or the fault that was reported before.
    pub fn eof(&self) -> Result<(), HttpError> {
        match self.phase {
            Phase::Idle { .. } => Ok(()),
            Phase::Failed(error) => Err(error),
            _ => Err(HttpError::PrematureEnd),
        }
    }

    /// The trailers of the request whose [`Event::End`] was the last event; `None` when it had none.
    pub fn take_trailers(&mut self) -> Option<Trailers> {
        match self.store.take().map(|store| *store) {
            Some(Store::Trailers(trailers)) => Some(trailers),
            section => {
                self.store = section.map(Box::new);
                None
            }
        }
    }

    fn step<'a>(
        &mut self,
        policy: &Policy,
        trusted: bool,
        input: &mut &'a [u8],
    ) -> Result<Event<'a>, HttpError> {
        loop {
            match self.phase {
                Phase::Failed(error) => return Err(error),
                Phase::Length(0) => {
                    self.phase = Phase::Idle { blank: false };
                    return Ok(Event::End);
                }
                _ if input.is_empty() => return Ok(Event::NeedMore),
                Phase::Idle { blank } => {
                    if let Some(event) = self.begin_head(policy, trusted, input, blank)? {
                        return Ok(event);
                    }
                }
                Phase::Head { blank } => {
                    if let Some(event) = self.continue_head(policy, trusted, input, blank)? {
                        return Ok(event);
                    }
                }
                Phase::Length(left) => {
                    let data = take(input, left);
                    self.phase = Phase::Length(left - data.len() as u64);
                    return Ok(Event::Data(data));
                }
                Phase::ChunkData(left) => {
                    let data = take(input, left);
                    self.phase = match left - data.len() as u64 {
                        0 => Phase::ChunkEnd { cr: false },
                        left => Phase::ChunkData(left),
                    };
                    return Ok(Event::Data(data));
                }
                Phase::ChunkLine(line) => self.phase = chunk_line(line, &policy.limits, input)?,
                Phase::ChunkEnd { cr } => self.phase = chunk_end(cr, input)?,
                Phase::Trailers => self.trailers(policy, trusted, input)?,
            }
        }
    }

    /// The first bytes of a head. Most heads come whole and are parsed where they lie.
    fn begin_head<'a>(
        &mut self,
        policy: &Policy,
        trusted: bool,
        input: &mut &'a [u8],
        blank: bool,
    ) -> Result<Option<Event<'a>>, HttpError> {
        self.store = None;
        if !blank && let Some(rest) = input.strip_prefix(b"\r\n") {
            *input = rest;
            self.phase = Phase::Idle { blank: true };
            return Ok(None);
        }
        if let Some(head) = RequestHead::parse_fast(policy, trusted, input) {
            *input = &input[head.wire_len()..];
            return Ok(Some(self.start_body(head)));
        }
        self.phase = Phase::Head { blank };
        self.store = Some(Box::new(Store::Section { bytes: Vec::new(), scanner: Scanner::head() }));
        Ok(None)
    }

    fn continue_head<'a>(
        &mut self,
        policy: &Policy,
        trusted: bool,
        input: &mut &'a [u8],
        blank: bool,
    ) -> Result<Option<Event<'a>>, HttpError> {
        let Some(Store::Section { bytes, scanner }) = self.store.as_deref_mut() else {
            return Err(HttpError::RequestLine);
        };
        // An empty line in two pieces.
        if !blank && bytes == b"\r" && input.starts_with(b"\n") {
            *input = &input[1..];
            *self = Self { phase: Phase::Idle { blank: true }, store: None };
            return Ok(None);
        }
        if !fill(bytes, scanner, policy, input)? {
            return Ok(Some(Event::NeedMore));
        }
        let head = RequestHead::parse_scanned(policy, trusted, bytes, scanner.fields())?;
        self.store = None;
        Ok(Some(self.start_body(head)))
    }

    fn start_body(&mut self, head: RequestHead) -> Event<'static> {
        self.phase = match head.body() {
            BodyKind::None => Phase::Length(0),
            BodyKind::Length(length) => Phase::Length(length),
            BodyKind::Chunked => Phase::ChunkLine(ChunkLine::new()),
        };
        Event::Head(head)
    }

    fn trailers(&mut self, policy: &Policy, trusted: bool, input: &mut &[u8]) -> Result<(), HttpError> {
        if self.store.is_none()
            && let Some(rest) = input.strip_prefix(b"\r\n")
        {
            *input = rest;
            self.phase = Phase::Length(0);
            return Ok(());
        }
        let store = self.store.get_or_insert_with(|| {
            Box::new(Store::Section { bytes: Vec::new(), scanner: Scanner::trailers() })
        });
        let Store::Section { bytes, scanner } = store.as_mut() else {
            return Err(HttpError::TrailerField);
        };
        if !fill(bytes, scanner, policy, input)? {
            return Ok(());
        }
        let trailers = parse_trailers(policy, trusted, bytes, scanner.fields())?;
        self.phase = Phase::Length(0);
        self.store = (trailers.fields().len() > 0).then(|| Box::new(Store::Trailers(trailers)));
        Ok(())
    }
}

/// Moves input into an unfinished section until it is complete (true; the rest stays in the input) or all is consumed.
fn fill(
    bytes: &mut Vec<u8>,
    scanner: &mut Scanner,
    policy: &Policy,
    input: &mut &[u8],
) -> Result<bool, HttpError> {
    while !input.is_empty() {
        let before = bytes.len();
        let (piece, rest) = input.split_at(input.len().min(COPY_BYTES_MAX));
        bytes.extend_from_slice(piece);
        if let Some(end) = scanner.scan(bytes, policy)? {
            bytes.truncate(end);
            *input = &input[end - before..];
            return Ok(true);
        }
        *input = rest;
    }
    Ok(false)
}

fn parse_trailers(policy: &Policy, trusted: bool, text: &[u8], fields: usize) -> Result<Trailers, HttpError> {
    let rewritten = policy.rewrites().then(|| super::block::rewrite(text, 0, policy));
    let limits = Limits { field_bytes_max: Limits::HEAD_BYTES_CAP, ..policy.limits };
    let mut scratch = vec![httparse::EMPTY_HEADER; fields];
    let text = rewritten.as_deref().unwrap_or(text);
    Block::parse(text, 0, &mut scratch, &limits, |field| judge_trailer(field, policy, trusted)).map(Trailers)
}

fn chunk_line(mut line: ChunkLine, limits: &Limits, input: &mut &[u8]) -> Result<Phase, HttpError> {
    while let [byte, rest @ ..] = *input {
        *input = rest;
        if let Some(size) = line.push(*byte, limits.field_bytes_max)? {
            return Ok(if size == 0 { Phase::Trailers } else { Phase::ChunkData(size) });
        }
    }
    Ok(Phase::ChunkLine(line))
}

fn chunk_end(cr: bool, input: &mut &[u8]) -> Result<Phase, HttpError> {
    let (phase, rest) = match (cr, *input) {
        (false, [b'\r', b'\n', rest @ ..]) | (true, [b'\n', rest @ ..]) => {
            (Phase::ChunkLine(ChunkLine::new()), rest)
        }
        (false, [b'\r']) => (Phase::ChunkEnd { cr: true }, &[][..]),
        _ => return Err(HttpError::ChunkTerminator),
    };
    *input = rest;
    Ok(phase)
}

/// Up to `left` bytes from the front.
fn take<'a>(input: &mut &'a [u8], left: u64) -> &'a [u8] {
    let count = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    let (data, rest) = input.split_at(count);
    *input = rest;
    data
}
