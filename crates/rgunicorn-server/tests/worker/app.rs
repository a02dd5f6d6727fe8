//! An application that does on request everything that an application may do to the worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use rgunicorn_io::driver::sim::SimNet;
use rgunicorn_server::response::Outgoing;
use rgunicorn_server::worker::{
    App, Body, BodyRead, ExitStatus, Flow, Hijacked, Reactor, Request, RequestId,
};

use crate::owner::owned;

/// A response in progress.
struct Stream {
    pieces: usize,
    piece_bytes: usize,
    mode: ProxyMode,
    keep: bool,
}

/// A request whose body is read while it arrives.
struct Reader {
    /// The answer so far.
    answer: Vec<u8>,
    keep: bool,
    /// Bytes of the body that it still wants.
    wants: usize,
}

/// Bytes that a reader asks for at a time.
const READ_BYTES: usize = 700;

#[derive(Clone, Copy, PartialEq)]
enum ProxyMode {
    /// Parks whenever something is queued.
    Park,
    /// Gives the turn away after each piece.
    Yield,
    /// The same, and each piece takes its time.
    Crawl,
    /// Panics when it is resumed.
    Panic,
}

impl ProxyMode {
    /// Returns the mode of a streamed response, by the first part of its path.
    fn of(what: &str) -> Option<Self> {
        match what {
            "stream" => Some(Self::Park),
            "yield" => Some(Self::Yield),
            "crawl" => Some(Self::Crawl),
            "panic-late" => Some(Self::Panic),
            _ => None,
        }
    }
}

/// By path: `/slow` lets 50 ms pass; `/big/N` answers N bytes at once; `/stream/P/N` and `/yield/P/N` P pieces of N
/// bytes; `/crawl/P/N` the same, each of which takes 20 ms; `/panic`, `/panic-late`, `/abort/N` fail; `/take` asks
/// for the socket; `/file/N/M` promises N bytes from a file of M, with a byte before and a byte behind them; `/some/N`
/// answers with N bytes of the body and reads no more; `/hold` does nothing; anything else answers `path|body`.
#[derive(Default)]
pub(crate) struct TestApp {
    /// What it was asked to do, in order.
    pub(crate) log: RefCell<Vec<String>>,
    streams: RefCell<HashMap<RequestId, Stream>>,
    readers: RefCell<HashMap<RequestId, Reader>>,
    /// The connections of `/hold`, for the test to act on.
    pub(crate) holds: RefCell<Vec<RequestId>>,
    /// The socket that it has taken over.
    pub(crate) taken: RefCell<Option<Hijacked>>,
    pub(crate) net: Option<SimNet>,
    /// What happens outside while a call is at work; for `/busy`, before it answers.
    pub(crate) meanwhile: RefCell<Option<Meanwhile>>,
}

/// What happens while the application of a reactor is at work.
pub(crate) type Meanwhile = Rc<dyn Fn(&Reactor, &str)>;

/// The response that the worker's application gives: for the clients to compare with.
pub(crate) fn answer(body: &[u8], keep: bool) -> Vec<u8> {
    let connection = if keep { "keep-alive" } else { "close" };
    let mut out =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n", body.len())
            .into_bytes();
    out.extend_from_slice(body);
    out
}

/// Body bytes that show a missing or doubled piece.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn number(text: Option<&str>) -> usize {
    text.and_then(|text| text.parse().ok()).unwrap_or(1)
}

impl TestApp {
    pub(crate) fn new(net: SimNet) -> Self {
        Self { net: Some(net), ..Self::default() }
    }

    /// Notes the call, and what happens meanwhile happens.
    fn begin_call(&self, reactor: &Reactor, request: &Request) -> String {
        let path = String::from_utf8(request.head.path().to_vec()).unwrap();
        self.note(format!("call {path}"));
        let meanwhile = self.meanwhile.borrow().clone();
        meanwhile.into_iter().for_each(|meanwhile| meanwhile(reactor, &path));
        path
    }

    fn note(&self, text: String) {
        self.log.borrow_mut().push(text);
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.log.borrow().iter().filter(|line| line.starts_with(start)).count()
    }

    /// Responses that it still holds.
    pub(crate) fn held(&self) -> usize {
        self.streams.borrow().len() + self.readers.borrow().len()
    }

    /// The connection of the last `/hold`.
    pub(crate) fn hold(&self) -> RequestId {
        *self.holds.borrow().last().unwrap()
    }

    /// Reads as much as it wants, waiting as often as it must, and answers.
    fn read(&self, reactor: &Reactor, conn: RequestId) {
        loop {
            let Some(mut reader) = self.readers.borrow_mut().remove(&conn) else { return };
            if reader.wants == 0 {
                return Self::plain(reactor, conn, reader.answer, reader.keep);
            }
            match reactor.read_body(conn, READ_BYTES.min(reader.wants)) {
                BodyRead::Data(data) => {
                    assert!(!data.is_empty() && data.len() <= READ_BYTES.min(reader.wants));
                    reader.wants -= data.len();
                    reader.answer.extend(data);
                }
                BodyRead::End => reader.wants = 0,
                BodyRead::Failed(fault) => {
                    self.note(format!("fault {fault:?}"));
                    return reactor.abort(conn);
                }
                BodyRead::Pending => {
                    self.readers.borrow_mut().insert(conn, reader);
                    assert!(reactor.await_body(conn));
                    return;
                }
            }
            self.readers.borrow_mut().insert(conn, reader);
        }
    }

    fn plain(reactor: &Reactor, conn: RequestId, body: Vec<u8>, keep: bool) {
        let mut head = answer(b"", keep);
        let zero = head.windows(9).position(|w| w == b"Length: 0").unwrap() + 8;
        head.splice(zero..=zero, body.len().to_string().into_bytes());
        let piece = Outgoing::Bytes { head, body: owned(body) };
        reactor.send(conn, piece, true);
        reactor.finish(conn, keep);
    }

    fn file(reactor: &Reactor, conn: RequestId, promised: usize, there: usize, keep: bool) {
        let mut file = rgunicorn_io::sys::tempfile::TemporaryFile::new().unwrap();
        file.write_all(&pattern(there)).unwrap();
        let mut head = answer(&vec![0; promised + 1], keep);
        head.truncate(head.len() - promised - 1);
        head.push(b'<');
        // From the second byte on, in two parts: the offset counts, and the order.
        let half = (promised / 2) as u64;
        let parts = [(1, half), (1 + half, promised as u64 - half - 1)];
        reactor.send(conn, Outgoing::from(head), false);
        for (offset, len) in parts {
            let file = file.try_clone().unwrap();
            reactor.send(conn, Outgoing::File { file, offset, len }, false);
        }
        reactor.send(conn, Outgoing::from(b">".to_vec()), true);
        reactor.finish(conn, keep);
    }

    fn pump(&self, reactor: &Reactor, conn: RequestId) {
        loop {
            let Some(mut stream) = self.streams.borrow_mut().remove(&conn) else { return };
            if stream.mode == ProxyMode::Panic {
                panic!("the application fails late");
            }
            if stream.pieces == 0 {
                return reactor.finish(conn, stream.keep);
            }
            stream.pieces -= 1;
            let body = owned(pattern(stream.piece_bytes));
            if let (ProxyMode::Crawl, Some(net)) = (stream.mode, &self.net) {
                net.advance(Duration::from_millis(20));
            }
            let flow = reactor.send(conn, Outgoing::Bytes { head: Vec::new(), body }, stream.pieces == 0);
            if flow == Flow::Gone {
                return self.note(format!("gone {conn:?}"));
            }
            let mode = stream.mode;
            self.streams.borrow_mut().insert(conn, stream);
            match mode {
                ProxyMode::Yield | ProxyMode::Crawl => return reactor.yield_turn(conn),
                _ if flow == Flow::Queued && reactor.park(conn) => return,
                _ => {}
            }
        }
    }

    fn begin(&self, reactor: &Reactor, conn: RequestId, stream: Stream) {
        let total = stream.pieces * stream.piece_bytes;
        let connection = if stream.keep { "keep-alive" } else { "close" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\nConnection: {connection}\r\n\r\n");
        let panics = stream.mode == ProxyMode::Panic;
        self.streams.borrow_mut().insert(conn, stream);
        if reactor.send(conn, Outgoing::from(head.into_bytes()), false) == Flow::Gone {
            self.streams.borrow_mut().remove(&conn);
            return self.note(format!("gone {conn:?}"));
        }
        if panics { reactor.yield_turn(conn) } else { self.pump(reactor, conn) }
    }
}

fn count(reactor: &Reactor) {
    let handles = reactor.handles();
    reactor.count().add(&handles.slot, &handles.control, &handles.errors);
}

impl App for TestApp {
    fn blocking(&self, wait: &mut dyn FnMut()) {
        wait();
    }

    fn check_signals(&self, _: bool) -> Result<(), ExitStatus> {
        Ok(())
    }

    fn call(&self, reactor: &Reactor, mut request: Box<Request>) {
        let path = self.begin_call(reactor, &request);
        if matches!(request.body, Body::Incoming) {
            self.note(format!("incoming {path}"));
        }
        count(reactor);
        let (conn, keep) = (request.id, request.keep_alive && reactor.head_context(request.id).keep_alive);
        let mut parts = path.trim_start_matches('/').split('/');
        let (what, first, second) = (parts.next().unwrap_or(""), parts.next(), parts.next());
        if let Some(mode) = ProxyMode::of(what) {
            let (pieces, piece_bytes) = (number(first), number(second));
            return self.begin(reactor, conn, Stream { pieces, piece_bytes, mode, keep });
        }
        match what {
            "big" => Self::plain(reactor, conn, pattern(number(first)), keep),
            "panic" => panic!("the application fails"),
            "abort" => {
                reactor.send(conn, Outgoing::from(pattern(number(first))), false);
                reactor.abort(conn);
            }
            "take" => {
                let taken = reactor.hijack(conn);
                Self::plain(reactor, conn, format!("{}", taken.is_ok()).into_bytes(), keep);
                *self.taken.borrow_mut() = taken.ok();
            }
            "file" => Self::file(reactor, conn, number(first), number(second), keep),
            "hold" => self.holds.borrow_mut().push(conn),
            "some" if matches!(request.body, Body::Incoming) => {
                let reader = Reader { answer: Vec::new(), keep, wants: number(first) };
                self.readers.borrow_mut().insert(conn, reader);
                self.read(reactor, conn);
            }
            "some" => {
                let mut some = vec![0; number(first)];
                let count = request.body.read_at(0, &mut some).unwrap();
                some.truncate(count);
                Self::plain(reactor, conn, some, keep);
            }
            _ if matches!(request.body, Body::Incoming) => {
                let reader = Reader { answer: format!("{path}|").into_bytes(), keep, wants: usize::MAX };
                self.readers.borrow_mut().insert(conn, reader);
                self.read(reactor, conn);
            }
            _ => {
                if let ("slow", Some(net)) = (what, &self.net) {
                    net.advance(Duration::from_millis(50));
                }
                let mut body = format!("{path}|").into_bytes();
                let (mut offset, mut chunk) = (0, [0; 1000]);
                loop {
                    let count = request.body.read_at(offset, &mut chunk).unwrap();
                    offset += count;
                    body.extend_from_slice(&chunk[..count]);
                    if count == 0 {
                        break;
                    }
                }
                Self::plain(reactor, conn, body, keep);
            }
        }
    }

    fn resume(&self, reactor: &Reactor, conn: RequestId) {
        self.note(format!("resume {conn:?}"));
        if self.readers.borrow().contains_key(&conn) {
            return self.read(reactor, conn);
        }
        self.pump(reactor, conn);
    }

    fn abandon(&self, _reactor: &Reactor, conn: RequestId) {
        let reader = self.readers.borrow_mut().remove(&conn).is_some();
        if self.streams.borrow_mut().remove(&conn).is_some() || reader || self.holds.borrow().contains(&conn)
        {
            self.note(format!("abandon {conn:?}"));
        }
    }

    fn refused(&self, _reactor: &Reactor, request: Box<Request>, status: u16) {
        let path = String::from_utf8_lossy(request.head.path()).into_owned();
        self.note(format!("refused {path} {status}"));
    }
}
