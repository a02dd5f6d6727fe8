//! An application that does on request everything that an application may do to the worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use _rgunicorn::io::sim::Net;
use _rgunicorn::worker::{App, ConnId, Exit, Flow, Handover, Outgoing, Reactor, Request};

use crate::owner::owned;

/// A response in progress.
struct Stream {
    pieces: usize,
    piece_bytes: usize,
    mode: Mode,
    keep: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Parks whenever something is queued.
    Park,
    /// Gives the turn away after each piece.
    Yield,
    /// Panics when it is resumed.
    Panic,
}

/// By path: `/slow` lets 50 ms pass; `/big/N` answers N bytes at once; `/stream/P/N` and `/yield/P/N` P pieces of N
/// bytes; `/panic`, `/panic-late`, `/abort/N` fail; `/take` asks for the socket; `/file/N/M` promises N bytes from a file of M, with a
/// byte before and a byte behind them; anything else answers `path|body`.
#[derive(Default)]
pub(crate) struct TestApp {
    /// What it was asked to do, in order.
    pub(crate) log: RefCell<Vec<String>>,
    streams: RefCell<HashMap<ConnId, Stream>>,
    /// The socket that it has taken over.
    pub(crate) taken: RefCell<Option<Handover>>,
    pub(crate) net: Option<Net>,
}

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
    pub(crate) fn new(net: Net) -> Self {
        Self { net: Some(net), ..Self::default() }
    }

    fn note(&self, text: String) {
        self.log.borrow_mut().push(text);
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.log.borrow().iter().filter(|line| line.starts_with(start)).count()
    }

    /// Responses that it still holds.
    pub(crate) fn held(&self) -> usize {
        self.streams.borrow().len()
    }

    fn plain(reactor: &Reactor, conn: ConnId, body: Vec<u8>, keep: bool) {
        let mut head = answer(b"", keep);
        let zero = head.windows(9).position(|w| w == b"Length: 0").unwrap() + 8;
        head.splice(zero..=zero, body.len().to_string().into_bytes());
        let piece = Outgoing::Bytes { head, body: owned(body) };
        reactor.send(conn, piece, true);
        reactor.finish(conn, keep);
    }

    fn file(reactor: &Reactor, conn: ConnId, promised: usize, there: usize, keep: bool) {
        let mut file = _rgunicorn::sys::file::temporary_file().unwrap();
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

    fn pump(&self, reactor: &Reactor, conn: ConnId) {
        loop {
            let Some(mut stream) = self.streams.borrow_mut().remove(&conn) else { return };
            if stream.mode == Mode::Panic {
                panic!("the application fails late");
            }
            if stream.pieces == 0 {
                return reactor.finish(conn, stream.keep);
            }
            stream.pieces -= 1;
            let body = owned(pattern(stream.piece_bytes));
            let flow = reactor.send(conn, Outgoing::Bytes { head: Vec::new(), body }, stream.pieces == 0);
            if flow == Flow::Gone {
                return self.note(format!("gone {conn:?}"));
            }
            let mode = stream.mode;
            self.streams.borrow_mut().insert(conn, stream);
            match mode {
                Mode::Yield => return reactor.yield_turn(conn),
                _ if flow == Flow::Queued && reactor.park(conn) => return,
                _ => {}
            }
        }
    }

    fn begin(&self, reactor: &Reactor, conn: ConnId, stream: Stream) {
        let total = stream.pieces * stream.piece_bytes;
        let connection = if stream.keep { "keep-alive" } else { "close" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\nConnection: {connection}\r\n\r\n");
        let panics = stream.mode == Mode::Panic;
        self.streams.borrow_mut().insert(conn, stream);
        if reactor.send(conn, Outgoing::from(head.into_bytes()), false) == Flow::Gone {
            self.streams.borrow_mut().remove(&conn);
            return self.note(format!("gone {conn:?}"));
        }
        if panics { reactor.yield_turn(conn) } else { self.pump(reactor, conn) }
    }
}

impl App for TestApp {
    fn blocking(&self, wait: &mut dyn FnMut()) {
        wait();
    }

    fn check_signals(&self) -> Result<(), Exit> {
        Ok(())
    }

    fn call(&self, reactor: &Reactor, mut request: Request) {
        let path = String::from_utf8(request.head.path().to_vec()).unwrap();
        self.note(format!("call {path}"));
        reactor.count_request();
        let (conn, keep) = (request.conn, request.keep_alive && reactor.keeps_alive());
        let mut parts = path.trim_start_matches('/').split('/');
        let (what, first, second) = (parts.next().unwrap_or(""), parts.next(), parts.next());
        let stream = |mode| Stream { pieces: number(first), piece_bytes: number(second), mode, keep };
        match what {
            "big" => Self::plain(reactor, conn, pattern(number(first)), keep),
            "stream" => self.begin(reactor, conn, stream(Mode::Park)),
            "yield" => self.begin(reactor, conn, stream(Mode::Yield)),
            "panic-late" => self.begin(reactor, conn, stream(Mode::Panic)),
            "panic" => panic!("the application fails"),
            "abort" => {
                reactor.send(conn, Outgoing::from(pattern(number(first))), false);
                reactor.abort(conn);
            }
            "take" => {
                let taken = reactor.hand_over(conn);
                Self::plain(reactor, conn, format!("{}", taken.is_ok()).into_bytes(), keep);
                *self.taken.borrow_mut() = taken.ok();
            }
            "file" => Self::file(reactor, conn, number(first), number(second), keep),
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

    fn resume(&self, reactor: &Reactor, conn: ConnId) {
        self.note(format!("resume {conn:?}"));
        self.pump(reactor, conn);
    }

    fn abandon(&self, _reactor: &Reactor, conn: ConnId) {
        if self.streams.borrow_mut().remove(&conn).is_some() {
            self.note(format!("abandon {conn:?}"));
        }
    }

    fn refused(&self, _reactor: &Reactor, request: &Request, status: u16) {
        let path = String::from_utf8_lossy(request.head.path()).into_owned();
        self.note(format!("refused {path} {status}"));
    }
}
