//! An application that answers with what it got, each request of the connection in another way.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use rgunicorn_http::{RequestHead, ResponseFacts, Version};
use rgunicorn_server::response::{BodyItem, Pieces, Response};
use rgunicorn_server::worker::{
    App, Body, BodyRead, ExitStatus, Flow, Reactor, Request, RequestId, Responded, Whole,
};

/// The status by which the worker returns when the connection is over.
const OVER: i32 = 99;
/// Bytes of a body that are asked for at a time.
const READ_BYTES: usize = 70;
/// The answers: of a length that is told, in chunks, the same with turns of others between, and without a body.
const KINDS: usize = 4;

/// A request as the application has got it, and as the parser finds it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// The whole body was there.
    pub(crate) complete: bool,
    /// The connection may stay, as far as the request is concerned and the way in which it is answered.
    pub(crate) keep: bool,
    version: Version,
}

impl Seen {
    /// Takes over a head, of the `number`-th request of its connection, from 0 on.
    pub(crate) fn of(head: &RequestHead, number: usize) -> Self {
        let (method, target) = (head.method().to_vec(), head.target().to_vec());
        let (version, keep) = (head.version(), head.keep_alive() && !head.close_after());
        let mut seen = Self { method, target, body: Vec::new(), complete: false, keep, version };
        seen.keep &= seen.is_bodyless(number) || number.is_multiple_of(KINDS) || version > Version::HTTP_10;
        seen
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        self.method == other.method && self.target == other.target && self.body == other.body
    }

    /// The answer has no body.
    pub(crate) fn is_bodyless(&self, number: usize) -> bool {
        self.method == b"HEAD" || number % KINDS == 3
    }

    /// The answer's body.
    pub(crate) fn answer(&self) -> Vec<u8> {
        [&self.target[..], b"|", &self.body].concat()
    }
}

/// A request in progress.
struct Work {
    number: usize,
    keep_alive: bool,
    response: Option<(Response, usize)>,
}

/// See the module.
pub(crate) struct Echo {
    /// What it has got.
    pub(crate) seen: RefCell<Vec<Seen>>,
    work: RefCell<HashMap<RequestId, Work>>,
}

struct Item<'a>(&'a [u8]);

impl BodyItem for Item<'_> {
    fn bytes(&self) -> &[u8] {
        self.0
    }
    fn share(&self) -> Bytes {
        Bytes::copy_from_slice(self.0)
    }
}

impl Echo {
    pub(crate) fn new() -> Self {
        Self { seen: RefCell::default(), work: RefCell::default() }
    }

    /// Lets the worker run until `done`, which is asked once a turn.
    pub(crate) fn run(&self, reactor: &Reactor, done: &dyn Fn() -> bool) {
        assert_eq!(reactor.run(&Driven { echo: self, done }), OVER, "the worker has left by itself");
    }

    /// Holds nothing of a request.
    pub(crate) fn is_idle(&self) -> bool {
        self.work.borrow().is_empty()
    }

    /// Reads what there is of a body, and answers at its end.
    fn read(&self, reactor: &Reactor, id: RequestId) {
        loop {
            let number = self.work.borrow()[&id].number;
            match reactor.read_body(id, READ_BYTES) {
                BodyRead::Data(data) => {
                    assert!(!data.is_empty() && data.len() <= READ_BYTES);
                    self.seen.borrow_mut()[number].body.extend(data);
                }
                BodyRead::End => return self.answer(reactor, id),
                BodyRead::Pending if reactor.await_body(id) => return,
                BodyRead::Pending => {}
                BodyRead::Failed(_) => {
                    self.work.borrow_mut().remove(&id);
                    return reactor.abort(id);
                }
            }
        }
    }

    fn answer(&self, reactor: &Reactor, id: RequestId) {
        let (number, keep_alive) = {
            let work = self.work.borrow();
            (work[&id].number, work[&id].keep_alive)
        };
        let mut all = self.seen.borrow_mut();
        let seen = &mut all[number];
        seen.complete = true;
        let facts = ResponseFacts {
            version: seen.version,
            head_request: seen.method == b"HEAD",
            connect: seen.method == b"CONNECT",
            keep_alive,
        };
        let length = seen.answer().len();
        drop(all);
        let mut response = Response::new(facts);
        let mut head = response.take_head();
        head.status(if number % KINDS == 3 { b"204 No Content" } else { b"200 OK" }).expect("a status");
        head.header(b"X-Number", number.to_string().as_bytes()).expect("a field");
        if number.is_multiple_of(KINDS) {
            head.header(b"Content-Length", length.to_string().as_bytes()).expect("a field");
        }
        response.start(head, true);
        self.work.borrow_mut().entry(id).and_modify(|work| work.response = Some((response, 0)));
        self.write(reactor, id);
    }

    /// Sends the next part of an answer, or what is left.
    fn write(&self, reactor: &Reactor, id: RequestId) {
        loop {
            let Some(mut work) = self.work.borrow_mut().remove(&id) else { return };
            let number = work.number;
            let body = self.seen.borrow()[number].answer();
            let Some((response, done)) = &mut work.response else { return };
            let in_parts = matches!(number % KINDS, 1 | 2);
            let rest = &body[*done..];
            if !in_parts || rest.len() < 3 {
                return Self::end(reactor, id, response, rest);
            }
            let part = rest.len().div_ceil(3);
            let mut pieces = Pieces::new(reactor.buffer());
            assert!(response.append(|| reactor.head_context(id), &mut pieces, &Item(&rest[..part])));
            *done += part;
            let flow = reactor.send_pieces(id, pieces);
            if flow == Flow::Gone {
                return;
            }
            self.work.borrow_mut().insert(id, work);
            if number % KINDS == 2 {
                return reactor.yield_turn(id);
            }
            if flow == Flow::Queued && reactor.park(id) {
                return;
            }
        }
    }

    fn end(reactor: &Reactor, id: RequestId, response: &mut Response, rest: &[u8]) {
        let item = Item(rest);
        let item: Option<&dyn BodyItem> = if rest.is_empty() { None } else { Some(&item) };
        let whole = Whole { response, pieces: None, item, batch: true, waits: false, frees: true };
        assert_eq!(reactor.respond(id, whole), Responded::Done);
    }
}

/// The application with the client looking in once per turn.
struct Driven<'a> {
    echo: &'a Echo,
    done: &'a dyn Fn() -> bool,
}

impl App for Driven<'_> {
    fn blocking(&self, wait: &mut dyn FnMut()) {
        wait();
    }

    fn check_signals(&self, _: bool) -> Result<(), ExitStatus> {
        if (self.done)() { Err(ExitStatus(OVER)) } else { Ok(()) }
    }

    fn call(&self, reactor: &Reactor, mut request: Box<Request>) {
        let number = self.echo.seen.borrow().len();
        let mut seen = Seen::of(&request.head, number);
        let incoming = matches!(request.body, Body::Incoming);
        let mut buffer = [0; READ_BYTES];
        loop {
            let count = request.body.read_at(seen.body.len(), &mut buffer).expect("it can be read");
            seen.body.extend(&buffer[..count]);
            if count == 0 {
                break;
            }
        }
        self.echo.seen.borrow_mut().push(seen);
        let work = Work { number, keep_alive: request.keep_alive, response: None };
        assert!(self.echo.work.borrow_mut().insert(request.id, work).is_none());
        if incoming { self.echo.read(reactor, request.id) } else { self.echo.answer(reactor, request.id) }
    }

    fn resume(&self, reactor: &Reactor, id: RequestId) {
        let Some(answering) = self.echo.work.borrow().get(&id).map(|work| work.response.is_some()) else {
            return;
        };
        if answering { self.echo.write(reactor, id) } else { self.echo.read(reactor, id) }
    }

    fn abandon(&self, _: &Reactor, id: RequestId) {
        self.echo.work.borrow_mut().remove(&id);
    }
}
