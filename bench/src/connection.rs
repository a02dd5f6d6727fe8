//! One connection: what it has asked, how much of that is written, and which answers it waits for.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Instant;

use crate::report::Failure;
use crate::response::{Answer, KnownHead, Malformed, Parser, Progress};
use crate::socket::Stream;

/// A failure, and its reason in words.
#[derive(Debug)]
pub(crate) struct Fault {
    pub kind: Failure,
    pub why: String,
}

impl Fault {
    /// Makes one.
    pub(crate) fn new(kind: Failure, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::new(Failure::Malformed, malformed.0)
    }
}

/// A connection, open or not.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub stream: Option<Stream>,
    /// The kernel has not said yet that it is open.
    pub is_connecting: bool,
    /// Whether it has been open before: the next time is a reconnect.
    pub was_open: bool,
    /// Whether it asks once and is kept open.
    pub is_idle: bool,
    /// Whether it has done what it had to do before the run.
    pub is_gathered: bool,
    /// When it was due to ask again, if it keeps a pace.
    pub planned: Option<Instant>,
    /// When the last thing was begun that has a time-out.
    pub since: Option<Instant>,
    /// The requests that were not answered yet: when each was begun, or due.
    pub asked: VecDeque<Instant>,
    /// Bytes of those requests that are still to be written.
    unwritten: usize,
    parser: Parser,
}

impl Connection {
    /// Makes one that is not open.
    pub(crate) fn new(is_idle: bool) -> Self {
        Self { is_idle, ..Self::default() }
    }

    /// Returns whether requests can be written.
    pub(crate) fn is_open(&self) -> bool {
        self.stream.is_some() && !self.is_connecting
    }

    /// Notes that requests of so many bytes are to be written.
    pub(crate) fn begin(&mut self, bytes: usize) {
        self.unwritten = bytes;
    }

    /// Writes what there is room for of `requests`, all that were asked at once.
    pub(crate) fn write(&mut self, requests: &[u8]) -> Result<(), Fault> {
        while self.unwritten > 0
            && let Some(stream) = &mut self.stream
        {
            match stream.write(&requests[requests.len() - self.unwritten..]) {
                Ok(count) => self.unwritten -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::new(Failure::Write, error.to_string())),
            }
        }
        Ok(())
    }

    /// Reads once; `None` when nothing is there.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Fault> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        match stream.read(buffer) {
            Ok(count) => Ok(Some(count)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(Fault::new(Failure::Read, error.to_string())),
        }
    }

    /// Takes what was read up to the end of the next answer.
    pub(crate) fn feed(&mut self, bytes: &mut &[u8], known: &mut KnownHead) -> Result<Progress, Fault> {
        if self.asked.is_empty() {
            return Err(Fault::new(Failure::Malformed, "bytes that nothing was asked for"));
        }
        Ok(self.parser.feed(bytes, known)?)
    }

    /// Learns that the server has closed. An answer that ends with the connection is complete now.
    pub(crate) fn end(&mut self) -> Result<Answer, Fault> {
        if self.parser.is_idle() {
            return Err(Fault::new(Failure::ClosedBeforeAnswer, "the server closed before the answer"));
        }
        self.parser
            .end()
            .ok_or_else(|| Fault::new(Failure::ClosedInAnswer, "the server closed within the answer"))
    }

    /// Closes it; what was asked stays noted. Returns whether it was open, or about to be.
    pub(crate) fn close(&mut self) -> bool {
        self.parser = Parser::default();
        self.is_connecting = false;
        self.unwritten = 0;
        self.since = None;
        self.stream.take().is_some()
    }

    /// Tells whether the connection could be opened, once it is writable.
    pub(crate) fn connected(&self) -> io::Result<()> {
        self.stream.as_ref().and_then(Stream::error).map_or(Ok(()), Err)
    }
}
