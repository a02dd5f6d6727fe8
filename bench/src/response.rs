//! Just enough HTTP/1.1 to know where an answer ends. Bytes in, progress out: no I/O.

/// A head longer than this is taken for garbage; the servers under test send a few hundred bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The state of an answer after the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The answer goes on.
    More,
    /// The answer is complete.
    Done(Answer),
}

/// A complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code, 200 to 599.
    pub status: u16,
    /// The server will take another request on this connection.
    pub keep_alive: bool,
}

/// The server did not speak HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub &'static str);

#[derive(Clone, Debug)]
enum State {
    Head,
    /// The bytes of body that are left.
    Sized(u64),
    Chunked(Chunk),
    UntilClose,
}

#[derive(Clone, Debug)]
enum Chunk {
    SizeLine,
    /// Data and its CRLF: so many bytes are left.
    Data(u64),
    /// Trailer lines, ended by an empty one.
    Trailer,
}

/// The head that was read last. Nearly all heads of a run are the same for a second: these are compared, not parsed.
#[derive(Debug, Default)]
pub(crate) struct KnownHead {
    bytes: Vec<u8>,
    means: Option<(Answer, State)>,
}

/// Reads one answer after the other; bytes may come in any pieces.
#[derive(Debug)]
pub(crate) struct Parser {
    state: State,
    answer: Answer,
    /// The head, or the line of a chunk, as far as it has come. Never longer than `HEAD_BYTES_MAX`.
    line: Vec<u8>,
}

impl Default for Parser {
    fn default() -> Self {
        Self { state: State::Head, answer: Answer { status: 0, keep_alive: true }, line: Vec::new() }
    }
}

impl Parser {
    /// Takes the next bytes of the answer, up to its end: what is left in `bytes` belongs to the next one.
    ///
    /// # Errors
    /// `Malformed` when the bytes are no HTTP answer.
    pub(crate) fn feed(&mut self, bytes: &mut &[u8], known: &mut KnownHead) -> Result<Progress, Malformed> {
        while !bytes.is_empty() {
            let (done, used) = match &mut self.state {
                State::Head => self.feed_head(bytes, known)?,
                State::UntilClose => (false, bytes.len()),
                State::Sized(left) => take(left, bytes.len()),
                State::Chunked(_) => self.feed_chunked(bytes)?,
            };
            *bytes = &bytes[used..];
            if done {
                self.state = State::Head;
                self.line = Vec::new(); // ten thousand idle connections have none
                return Ok(Progress::Done(self.answer));
            }
        }
        Ok(Progress::More)
    }

    /// Ends the input: the connection has ended. An answer whose length is told by that is complete now.
    pub(crate) fn end(&mut self) -> Option<Answer> {
        matches!(self.state, State::UntilClose).then(|| Answer { keep_alive: false, ..self.answer })
    }

    /// Returns whether nothing of the next answer has come yet.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.line.is_empty()
    }

    /// Appends to `line` up to and including `end`; tells how much was taken and whether the end was reached.
    fn collect(&mut self, bytes: &[u8], end: &[u8]) -> Result<(bool, usize), Malformed> {
        let before = self.line.len();
        let from = before.saturating_sub(end.len() - 1);
        self.line.extend_from_slice(bytes);
        let found = self.line[from..].windows(end.len()).position(|window| window == end);
        let length = found.map_or(self.line.len(), |at| from + at + end.len());
        self.line.truncate(length);
        if length > HEAD_BYTES_MAX {
            return Err(Malformed("a head or a chunk line without an end"));
        }
        Ok((found.is_some(), length - before))
    }

    fn feed_head(&mut self, bytes: &[u8], known: &mut KnownHead) -> Result<(bool, usize), Malformed> {
        if self.line.is_empty()
            && let Some((answer, state)) = &known.means
            && bytes.starts_with(&known.bytes)
        {
            (self.answer, self.state) = (*answer, state.clone());
            return Ok((self.has_no_body(), known.bytes.len()));
        }
        let (complete, used) = self.collect(bytes, b"\r\n\r\n")?;
        if !complete {
            return Ok((false, used));
        }
        let head = std::mem::take(&mut self.line);
        (self.answer, self.state) = read_head(&head)?;
        if self.answer.status >= 200 {
            *known = KnownHead { bytes: head, means: Some((self.answer, self.state.clone())) };
        }
        Ok((self.has_no_body(), used))
    }

    fn has_no_body(&self) -> bool {
        matches!(self.state, State::Sized(0)) && self.answer.status >= 200
    }

    fn feed_chunked(&mut self, bytes: &[u8]) -> Result<(bool, usize), Malformed> {
        if let State::Chunked(Chunk::Data(left)) = &mut self.state {
            let (done, used) = take(left, bytes.len());
            if done {
                self.state = State::Chunked(Chunk::SizeLine);
            }
            return Ok((false, used));
        }
        let (complete, used) = self.collect(bytes, b"\r\n")?;
        if !complete {
            return Ok((false, used));
        }
        let line = std::mem::take(&mut self.line);
        let in_trailer = matches!(self.state, State::Chunked(Chunk::Trailer));
        if in_trailer {
            return Ok((line == b"\r\n", used));
        }
        let size = chunk_size(&line)?;
        self.state = State::Chunked(if size == 0 { Chunk::Trailer } else { Chunk::Data(size + 2) });
        Ok((false, used))
    }
}

/// Takes at most `*left` of `available` bytes: whether none are left, and how many were taken.
fn take(left: &mut u64, available: usize) -> (bool, usize) {
    let used = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left -= used as u64;
    (*left == 0, used)
}

fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let text = std::str::from_utf8(line).map_err(|_| Malformed("a chunk size that is no number"))?;
    let digits = text.split(';').next().unwrap_or(text).trim();
    let size = u64::from_str_radix(digits, 16).map_err(|_| Malformed("a chunk size that is no number"))?;
    if size > u64::MAX - 2 { Err(Malformed("an absurd chunk size")) } else { Ok(size) }
}

fn read_head(head: &[u8]) -> Result<(Answer, State), Malformed> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let version_1_1 = status_line.starts_with("HTTP/1.1 ");
    if !version_1_1 && !status_line.starts_with("HTTP/1.0 ") {
        return Err(Malformed("a status line that is not HTTP/1.x"));
    }
    let status: u16 =
        status_line.get(9..12).and_then(|code| code.parse().ok()).ok_or(Malformed("no status"))?;
    if status < 200 {
        return Ok((Answer { status, keep_alive: true }, State::Head)); // an interim answer: the real one follows
    }
    let mut keep_alive = version_1_1;
    let mut state = State::UntilClose;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_ascii_lowercase());
        match name.as_str() {
            "connection" if value == "close" => keep_alive = false,
            "connection" if value == "keep-alive" => keep_alive = true,
            "transfer-encoding" if value == "chunked" => state = State::Chunked(Chunk::SizeLine),
            "content-length" if !matches!(state, State::Chunked(_)) => {
                state = State::Sized(value.parse().map_err(|_| Malformed("a length that is no number"))?);
            }
            _ => {}
        }
    }
    if status == 204 || status == 304 {
        state = State::Sized(0);
    }
    let keep_alive = keep_alive && !matches!(state, State::UntilClose);
    Ok((Answer { status, keep_alive }, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Answer = Answer { status: 200, keep_alive: true };
    const CLOSING: Answer = Answer { status: 200, keep_alive: false };

    fn in_pieces(text: &str, size: usize) -> Result<Progress, Malformed> {
        let mut parser = Parser::default();
        let mut last = Ok(Progress::More);
        for piece in text.as_bytes().chunks(size) {
            assert_eq!(last, Ok(Progress::More), "the answer ended early");
            last = feed(&mut parser, piece);
        }
        last
    }

    /// Feeds bytes of which none may be left.
    fn feed(parser: &mut Parser, mut bytes: &[u8]) -> Result<Progress, Malformed> {
        let progress = parser.feed(&mut bytes, &mut KnownHead::default())?;
        assert_eq!(bytes, b"");
        Ok(progress)
    }

    #[test]
    fn answers_end_where_they_end_in_any_pieces() {
        let table = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", OK),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", CLOSING),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", CLOSING),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\n\r\n",
                OK,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n", OK),
            ("HTTP/1.1 204 No Content\r\n\r\n", Answer { status: 204, keep_alive: true }),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", OK),
        ];
        for (text, answer) in table {
            for size in 1..=text.len() {
                assert_eq!(in_pieces(text, size), Ok(Progress::Done(answer)), "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn an_answer_without_a_length_ends_with_the_connection() {
        let mut parser = Parser::default();
        assert!(parser.is_idle());
        assert_eq!(feed(&mut parser, b"HTTP/1.1 200 OK\r\n\r\nsome"), Ok(Progress::More));
        assert_eq!((parser.is_idle(), parser.end()), (false, Some(CLOSING)));
        let mut cut = Parser::default();
        assert_eq!(feed(&mut cut, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"), Ok(Progress::More));
        assert_eq!(cut.end(), None);
    }

    #[test]
    fn garbage_is_refused() {
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD_BYTES_MAX));
        let table = [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            &endless,
        ];
        for text in table {
            assert!(
                feed(&mut Parser::default(), text.as_bytes()).is_err(),
                "{}",
                &text[..30.min(text.len())]
            );
        }
    }

    #[test]
    fn answers_in_one_piece_come_one_after_the_other_and_equal_heads_are_known() {
        let one = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let text = format!("{one}{one}HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n{one}");
        let (mut parser, mut known, mut rest) = (Parser::default(), KnownHead::default(), text.as_bytes());
        let mut statuses = Vec::new();
        while !rest.is_empty() {
            let Ok(Progress::Done(answer)) = parser.feed(&mut rest, &mut known) else { panic!("no end") };
            statuses.push(answer.status);
        }
        assert_eq!(statuses, [200, 200, 503, 200]);
        assert!(known.bytes.ends_with(b"Content-Length: 2\r\n\r\n"));
    }
}
