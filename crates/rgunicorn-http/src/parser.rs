//! The state machine of one connection's input.
//!
//! ```text
//! Idle -> (Head) -> Length | ChunkLine -> ChunkData -> ChunkEnd -> ChunkLine ... Trailers -> Idle
//! ```
//!
//! An idle parser holds no memory: [`RequestParser`] is 32 bytes, and only the unfinished part of a head or trailer
//! section is ever copied. Body bytes are handed on from the caller's buffer.

use super::block::{Block, Trailers};
use super::chunk::ChunkLine;
use super::error::HttpError;
use super::head::RequestHead;
use super::policy::{HeadLimits, Policy};
use super::repeat::Repeat;
use super::rules::{BodyKind, judge_trailer};
use super::scan::Scanner;
use super::tight::append_tight;

/// The number of bytes copied at a time while a section is unfinished: bounds the copy that is made in vain
/// when the section ends early in a large input.
const COPY_BYTES_MAX: usize = 2048;

/// The length of a chunk-size line that is no excess: sixteen digits and CRLF, with room for a short extension. A byte
/// of data makes up for one more.
const CHUNK_LINE_BYTES_FREE: u32 = 32;

/// The bytes of a body's chunk-size lines beyond that. Only extensions (which no client is known to use at length, and
/// which are thrown away) and leading zeros come to as many, and they cost CPU without a byte of data.
const CHUNK_EXCESS_BYTES_MAX: u32 = 16 * 1024;

/// An event that the input has brought.
#[derive(Debug, PartialEq, Eq)]
pub enum ParseEvent<'a> {
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
enum ParsePhase {
    /// Between requests. `blank`: the one empty line that may come before a request line (RFC 9112 2.2) has been.
    Idle {
        blank: bool,
    },
    /// An unfinished head is in the partial.
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

/// An unfinished section, the trailers of the request that has just ended, or what could be read of a head that is
/// refused.
#[derive(Debug)]
enum Partial {
    Section { bytes: Vec<u8>, scanner: Scanner },
    Trailers(Trailers),
    Refused(RequestHead),
}

/// The parser of the requests of one connection: bytes in, [`ParseEvent`]s out.
///
/// Call [`advance`](Self::advance) until it returns [`ParseEvent::NeedMore`]; it consumes from the front of
/// the input. After [`ParseEvent::End`] the caller may stop and keep the rest of the input (pipelined
/// requests) for later. After an error nothing more is consumed and every call repeats it.
#[derive(Debug)]
pub struct RequestParser {
    phase: ParsePhase,
    /// Boxed, so that the ten thousand idle connections of a worker pay 8 bytes for it.
    partial: Option<Box<Partial>>,
    /// Bytes of chunk-size lines so far, beyond what chunks of their sizes need.
    excess: u32,
}

const _: () = assert!(size_of::<RequestParser>() <= 32);

impl Default for RequestParser {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestParser {
    /// Makes a parser for a connection of which no byte has come.
    #[must_use]
    pub fn new() -> Self {
        Self { phase: ParsePhase::Idle { blank: false }, partial: None, excess: 0 }
    }

    /// Takes as much of `input` as the next event needs. `trusted`: the peer is one of `forwarded_allow_ips` or came
    /// over a unix socket, so its forwarding fields count; it may not change within a head.
    ///
    /// # Errors
    /// The fault of the client. The connection is of no further use: answer if
    /// [`wants_answer`](HttpError::wants_answer) says so, and close.
    pub fn advance<'a>(
        &mut self,
        policy: &Policy,
        trusted: bool,
        input: &mut &'a [u8],
    ) -> Result<ParseEvent<'a>, HttpError> {
        self.advance_repeated(policy, trusted, None, input)
    }

    /// Does the same, and knows heads again, or the fields of one before. `repeat`: the place of the connection
    /// among the worker's.
    ///
    /// # Errors
    /// The same.
    pub fn advance_repeated<'a>(
        &mut self,
        policy: &Policy,
        trusted: bool,
        repeat: Option<&mut Repeat>,
        input: &mut &'a [u8],
    ) -> Result<ParseEvent<'a>, HttpError> {
        let result = self.step(policy, trusted, repeat, input);
        if let Err(error) = result
            && !matches!(self.phase, ParsePhase::Failed(_))
        {
            let partial = self.refused_head(policy).map(|head| Box::new(Partial::Refused(head)));
            *self = Self { phase: ParsePhase::Failed(error), partial, ..Self::new() };
        }
        result
    }

    /// Returns whether the parser is between two requests, and no byte of the next head has come (the empty
    /// line that may precede it does not count).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, ParsePhase::Idle { .. })
    }

    /// Returns whether a part of a head has come.
    #[must_use]
    pub fn in_head(&self) -> bool {
        matches!(self.phase, ParsePhase::Head { .. })
    }

    /// Returns whether a head was reported and its [`ParseEvent::End`] was not.
    #[must_use]
    pub fn in_body(&self) -> bool {
        !matches!(self.phase, ParsePhase::Idle { .. } | ParsePhase::Head { .. } | ParsePhase::Failed(_))
    }

    /// Learns that the peer has closed its side.
    ///
    /// # Errors
    /// [`HttpError::PrematureEnd`] in the middle of a request, or the fault that was reported before.
    pub fn eof(&self) -> Result<(), HttpError> {
        match self.phase {
            ParsePhase::Idle { .. } => Ok(()),
            ParsePhase::Failed(error) => Err(error),
            _ => Err(HttpError::PrematureEnd),
        }
    }

    /// Takes the trailers of the request whose [`ParseEvent::End`] was the last event; `None` when it had
    /// none.
    pub fn take_trailers(&mut self) -> Option<Trailers> {
        match self.partial.take().map(|store| *store) {
            Some(Partial::Trailers(trailers)) => Some(trailers),
            section => {
                self.partial = section.map(Box::new);
                None
            }
        }
    }

    /// Takes what could be read of the head by which the parser has failed, for the log; `None` when it failed behind
    /// one.
    pub fn take_refused(&mut self) -> Option<RequestHead> {
        match self.partial.take().map(|store| *store) {
            Some(Partial::Refused(head)) => Some(head),
            _ => None,
        }
    }

    /// Gives an unfinished head up; returns what could be read of it, for the log.
    pub fn give_up(&mut self, policy: &Policy) -> Option<RequestHead> {
        let head = self.refused_head(policy);
        *self = Self::new();
        head
    }

    /// Counts the memory that it holds for an unfinished section, or behind one.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match self.partial.as_deref() {
            None => 0,
            Some(Partial::Section { bytes, .. }) => bytes.capacity(),
            Some(Partial::Trailers(trailers)) => trailers.0.held_bytes(),
            Some(Partial::Refused(head)) => head.held_bytes(),
        }
    }

    fn refused_head(&self, policy: &Policy) -> Option<RequestHead> {
        match (self.phase, self.partial.as_deref()) {
            (ParsePhase::Head { .. }, Some(Partial::Section { bytes, .. })) => {
                Some(RequestHead::of_refused(policy, bytes))
            }
            _ => None,
        }
    }

    fn step<'a>(
        &mut self,
        policy: &Policy,
        trusted: bool,
        mut repeat: Option<&mut Repeat>,
        input: &mut &'a [u8],
    ) -> Result<ParseEvent<'a>, HttpError> {
        loop {
            match self.phase {
                ParsePhase::Failed(error) => return Err(error),
                ParsePhase::Length(0) => {
                    self.phase = ParsePhase::Idle { blank: false };
                    return Ok(ParseEvent::End);
                }
                _ if input.is_empty() => return Ok(ParseEvent::NeedMore),
                ParsePhase::Idle { blank } => {
                    if let Some(event) = self.begin_head(policy, trusted, repeat.take(), input, blank)? {
                        return Ok(event);
                    }
                }
                ParsePhase::Head { blank } => {
                    if let Some(event) = self.continue_head(policy, trusted, input, blank)? {
                        return Ok(event);
                    }
                }
                ParsePhase::Length(left) => {
                    let data = take(input, left);
                    self.phase = ParsePhase::Length(left - data.len() as u64);
                    return Ok(ParseEvent::Data(data));
                }
                ParsePhase::ChunkData(left) => {
                    let data = take(input, left);
                    self.phase = match left - data.len() as u64 {
                        0 => ParsePhase::ChunkEnd { cr: false },
                        left => ParsePhase::ChunkData(left),
                    };
                    return Ok(ParseEvent::Data(data));
                }
                ParsePhase::ChunkLine(line) => {
                    self.phase = chunk_line(line, &policy.limits, &mut self.excess, input)?;
                }
                ParsePhase::ChunkEnd { cr } => self.phase = chunk_end(cr, input)?,
                ParsePhase::Trailers => self.trailers(policy, trusted, input)?,
            }
        }
    }

    /// Takes the first bytes of a head. Most heads come whole and are parsed where they lie.
    fn begin_head<'a>(
        &mut self,
        policy: &Policy,
        trusted: bool,
        repeat: Option<&mut Repeat>,
        input: &mut &'a [u8],
        blank: bool,
    ) -> Result<Option<ParseEvent<'a>>, HttpError> {
        self.partial = None;
        if !blank && let Some(rest) = input.strip_prefix(b"\r\n") {
            *input = rest;
            self.phase = ParsePhase::Idle { blank: true };
            return Ok(None);
        }
        let head = match repeat {
            Some(repeat) => repeat.parse(policy, trusted, input),
            None => RequestHead::parse_fast(policy, trusted, input, None),
        };
        if let Some(head) = head {
            *input = &input[head.wire_len()..];
            return Ok(Some(self.start_body(head)));
        }
        self.phase = ParsePhase::Head { blank };
        self.partial = Some(Box::new(Partial::Section { bytes: Vec::new(), scanner: Scanner::head() }));
        Ok(None)
    }

    fn continue_head<'a>(
        &mut self,
        policy: &Policy,
        trusted: bool,
        input: &mut &'a [u8],
        blank: bool,
    ) -> Result<Option<ParseEvent<'a>>, HttpError> {
        let Some(Partial::Section { bytes, scanner }) = self.partial.as_deref_mut() else {
            return Err(HttpError::RequestLine);
        };
        // An empty line in two pieces.
        if !blank && bytes == b"\r" && input.starts_with(b"\n") {
            *input = &input[1..];
            *self = Self { phase: ParsePhase::Idle { blank: true }, ..Self::new() };
            return Ok(None);
        }
        if !fill(bytes, scanner, policy, input)? {
            return Ok(Some(ParseEvent::NeedMore));
        }
        let head = RequestHead::parse_scanned(policy, trusted, bytes, scanner.fields())?;
        self.partial = None;
        Ok(Some(self.start_body(head)))
    }

    fn start_body(&mut self, head: RequestHead) -> ParseEvent<'static> {
        self.excess = 0;
        self.phase = match head.body() {
            BodyKind::None => ParsePhase::Length(0),
            BodyKind::Length(length) => ParsePhase::Length(length),
            BodyKind::Chunked => ParsePhase::ChunkLine(ChunkLine::new()),
        };
        ParseEvent::Head(head)
    }

    fn trailers(&mut self, policy: &Policy, trusted: bool, input: &mut &[u8]) -> Result<(), HttpError> {
        if self.partial.is_none()
            && let Some(rest) = input.strip_prefix(b"\r\n")
        {
            *input = rest;
            self.phase = ParsePhase::Length(0);
            return Ok(());
        }
        let partial = self.partial.get_or_insert_with(|| {
            Box::new(Partial::Section { bytes: Vec::new(), scanner: Scanner::trailers() })
        });
        let Partial::Section { bytes, scanner } = partial.as_mut() else {
            return Err(HttpError::TrailerField);
        };
        if !fill(bytes, scanner, policy, input)? {
            return Ok(());
        }
        let trailers = parse_trailers(policy, trusted, bytes, scanner.fields())?;
        self.phase = ParsePhase::Length(0);
        self.partial = (trailers.fields().len() > 0).then(|| Box::new(Partial::Trailers(trailers)));
        Ok(())
    }
}

/// Moves input into an unfinished section until it is complete (true; the rest stays in the input) or all is
/// consumed.
///
/// # Errors
/// A limit that is exceeded, or a line that is not valid.
fn fill(
    bytes: &mut Vec<u8>,
    scanner: &mut Scanner,
    policy: &Policy,
    input: &mut &[u8],
) -> Result<bool, HttpError> {
    while !input.is_empty() {
        let before = bytes.len();
        let (piece, rest) = input.split_at(input.len().min(COPY_BYTES_MAX));
        append_tight(bytes, piece);
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
    let limits = HeadLimits { field_bytes_max: HeadLimits::HEAD_BYTES_CAP, ..policy.limits };
    let mut scratch = vec![httparse::EMPTY_HEADER; fields];
    let text = rewritten.as_deref().unwrap_or(text);
    Block::parse(text, 0, &mut scratch, &limits, |field| judge_trailer(field, policy, trusted)).map(Trailers)
}

fn chunk_line(
    mut line: ChunkLine,
    limits: &HeadLimits,
    excess: &mut u32,
    input: &mut &[u8],
) -> Result<ParsePhase, HttpError> {
    while let [byte, rest @ ..] = *input {
        *input = rest;
        if let Some(size) = line.push(*byte, limits.field_bytes_max)? {
            let needed = CHUNK_LINE_BYTES_FREE.saturating_add(u32::try_from(size).unwrap_or(u32::MAX));
            *excess = excess.saturating_add(line.bytes()).saturating_sub(needed);
            if *excess > CHUNK_EXCESS_BYTES_MAX {
                return Err(HttpError::ChunkExtension);
            }
            return Ok(if size == 0 { ParsePhase::Trailers } else { ParsePhase::ChunkData(size) });
        }
    }
    Ok(ParsePhase::ChunkLine(line))
}

fn chunk_end(cr: bool, input: &mut &[u8]) -> Result<ParsePhase, HttpError> {
    let (phase, rest) = match (cr, *input) {
        (false, [b'\r', b'\n', rest @ ..]) | (true, [b'\n', rest @ ..]) => {
            (ParsePhase::ChunkLine(ChunkLine::new()), rest)
        }
        (false, [b'\r']) => (ParsePhase::ChunkEnd { cr: true }, &[][..]),
        _ => return Err(HttpError::ChunkTerminator),
    };
    *input = rest;
    Ok(phase)
}

/// Takes up to `left` bytes from the front.
fn take<'a>(input: &mut &'a [u8], left: u64) -> &'a [u8] {
    let count = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    let (data, rest) = input.split_at(count);
    *input = rest;
    data
}
