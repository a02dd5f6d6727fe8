//! Calls mode: the application is called on the loop's frame, and its response is pulled as fast as the client reads.
//!
//! A response that has to wait for its reader is a [`Call`] parked under its connection; everything it needs is in
//! there, nothing is kept on the stack.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyAssertionError, PyConnectionError, PyKeyboardInterrupt, PySystemExit, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList, PyTuple};

use crate::http::{HttpError, ResponseFacts};
use crate::logging::Level;
use crate::py::{Watch, exit_status, format_exception, is_only_reference, shielded};
use crate::sys::atfork;
use crate::sys::clock;
use crate::worker::{App, ConnId, Exit, Flow, Outgoing, Reactor, Request};

use super::cooperative::Pause;
use super::current::ticket;
use super::environ::{EnvironFactory, ServerFacts};
use super::file_wrapper::FileWrapper;
use super::hints::{EarlyHints, HintTarget};
use super::input::{Input, RequestBodyError};
use super::log_line;
use super::response::{Pieces, StartResponse};
use super::running::Running;
use super::socket::SocketFactory;

/// Items pulled from one response before the others get their turn.
const ITEMS_PER_TURN_MAX: usize = 64;
/// The same for the items of a list, which cost no application code.
const LISTED_ITEMS_PER_TURN_MAX: usize = 1024;

const INTERNAL: &str = "Internal Server Error";

/// The application and what its calls need.
pub struct Calls {
    app: Py<PyAny>,
    environs: EnvironFactory,
    sockets: SocketFactory,
    empty_input: Py<Input>,
    /// The pair of the last request, if the application kept neither.
    spare: RefCell<Option<Callables>>,
    parked: RefCell<HashMap<ConnId, Call>>,
    sendfile: bool,
    forks: u32,
    /// In cooperative mode.
    pause: Option<Pause>,
    /// Told about every call into the application; it asks `running` what that is for.
    watch: Arc<Watch>,
    running: Arc<Running>,
}

/// `start_response` and the early hints that end when its head leaves.
type Callables = (Py<StartResponse>, Py<EarlyHints>);

/// A response in progress.
struct Call {
    request: Request,
    environ: Py<PyDict>,
    /// The body, if it was still arriving when the application was called.
    input: Option<Py<Input>>,
    response: Py<StartResponse>,
    hints: Py<EarlyHints>,
    socket: Py<PyAny>,
    /// What the application returned; closed at the end.
    iterable: Option<Py<PyAny>>,
    stage: Stage,
    /// A list or a tuple: all items exist already, so nothing has to leave before the next is asked for.
    materialised: bool,
}

enum Stage {
    /// Items are still to come.
    Items(Py<PyIterator>),
    /// Everything was produced; the last bytes are on their way.
    Ending,
}

impl Calls {
    /// The calls of `app`: one after the other, or (`cooperative`) each in a greenlet. `constants`: `wsgi.errors` and
    /// whatever else is the same in every environ.
    ///
    /// # Errors
    /// Those of making the shared objects.
    pub fn new(
        py: Python<'_>,
        app: Py<PyAny>,
        facts: &ServerFacts,
        constants: &Bound<'_, PyDict>,
        sendfile: bool,
        watch: Arc<Watch>,
        cooperative: bool,
    ) -> PyResult<Self> {
        let running = Arc::new(Running::default());
        let pause = if cooperative { Some(Pause::new(py)?) } else { None };
        watch.describe_by(pause.as_ref().map_or_else(|| Running::describe(&running), Pause::describe));
        constants.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
        Ok(Self {
            app,
            environs: EnvironFactory::new(py, facts, constants)?,
            sockets: SocketFactory::new(py)?,
            empty_input: Py::new(py, Input::new(crate::worker::Body::Empty))?,
            spare: RefCell::default(),
            parked: RefCell::default(),
            sendfile,
            forks: atfork::generation(),
            pause,
            watch,
            running,
        })
    }

    /// Whether requests run in greenlets.
    pub fn is_cooperative(&self) -> bool {
        self.pause.is_some()
    }

    pub(super) fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    pub(super) fn is_forked_copy(&self) -> bool {
        atfork::generation() != self.forks
    }

    /// The greenlets of the requests in progress; none in direct mode.
    ///
    /// # Errors
    /// `MemoryError`.
    pub fn running<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.pause.as_ref().map_or_else(|| Ok(PyList::empty(py)), |pause| pause.running(py))
    }

    /// A request in its own greenlet, from beginning to end.
    ///
    /// # Errors
    /// The quiet end of a greenlet that was killed.
    pub(super) fn guarded_start(&self, py: Python<'_>, reactor: &Reactor, request: Request) -> PyResult<()> {
        let conn = request.conn;
        let done = catch_unwind(AssertUnwindSafe(|| self.start(py, reactor, request)));
        done.unwrap_or_else(|_| {
            // The text of the panic is on stderr; the others go on.
            if !self.is_forked_copy() {
                reactor
                    .shared()
                    .errors
                    .log(Level::Error, format_args!("Internal error while handling a request"));
                reactor.abort(conn);
            }
        });
        Ok(())
    }

    /// The worker leaves: closes what the application has returned for responses that are still in progress (PEP 3333:
    /// `close()` is called however a request ends).
    pub fn close_parked(&self, reactor: &Reactor) {
        let calls = std::mem::take(&mut *self.parked.borrow_mut());
        Python::attach(|py| calls.into_values().for_each(|call| self.close_call(py, reactor, call)));
    }

    fn start(&self, py: Python<'_>, reactor: &Reactor, mut request: Request) {
        let body = std::mem::take(&mut request.body);
        let call = match self.prepare(py, request, body) {
            Ok(call) => call,
            Err(refused) => return self.refuse(py, reactor, &refused.0, refused.1.as_ref()),
        };
        reactor.count_request();
        let result = shielded(|| self.app.bind(py).call1((call.environ.bind(py), call.response.bind(py))));
        if self.is_forked_child() {
            return self.leave_child(py, reactor, result.err().as_ref());
        }
        match result {
            Ok(iterable) => self.iterate(py, reactor, call, iterable),
            Err(error) => self.fail(py, reactor, call, &error),
        }
    }

    /// Everything the application gets.
    fn prepare(
        &self,
        py: Python<'_>,
        request: Request,
        body: crate::worker::Body,
    ) -> Result<Call, Box<(Request, Option<HttpError>)>> {
        let request_streams = matches!(body, crate::worker::Body::Incoming);
        let made = (|| -> PyResult<Result<_, HttpError>> {
            let environ = match self.environs.build(py, &request)? {
                Ok(environ) => environ,
                Err(error) => return Ok(Err(error)),
            };
            let input = match body {
                crate::worker::Body::Empty => self.empty_input.clone_ref(py),
                crate::worker::Body::Incoming => Py::new(py, Input::incoming(ticket(request.conn)))?,
                body => Py::new(py, Input::new(body))?,
            };
            environ.set_item(intern!(py, "wsgi.input"), &input)?;
            let input = request_streams.then_some(input);
            let socket = self.sockets.get(py, ticket(request.conn))?;
            environ.set_item(intern!(py, "gunicorn.socket"), &socket)?;
            let facts = ResponseFacts {
                version: request.head.version(),
                head_request: request.head.method() == b"HEAD",
                connect: request.head.method() == b"CONNECT",
                keep_alive: request.keep_alive,
            };
            let (response, hints) = self.callables(py, request.conn, facts)?;
            environ.set_item(intern!(py, "wsgi.early_hints"), &hints)?;
            Ok(Ok((environ.unbind(), input, response, hints, socket.unbind())))
        })();
        match made {
            Ok(Ok((environ, input, response, hints, socket))) => Ok(Call {
                request,
                environ,
                input,
                response,
                hints,
                socket,
                iterable: None,
                stage: Stage::Ending,
                materialised: false,
            }),
            Ok(Err(error)) => Err(Box::new((request, Some(error)))),
            Err(error) => {
                error.write_unraisable(py, None);
                Err(Box::new((request, None)))
            }
        }
    }

    fn callables(&self, py: Python<'_>, conn: ConnId, facts: ResponseFacts) -> PyResult<Callables> {
        let spare = self.spare.borrow_mut().take();
        if let Some((response, hints)) = spare {
            response.get().reset(conn, facts);
            return Ok((response, hints));
        }
        let target = HintTarget::default();
        let hints = Py::new(py, EarlyHints::new(target.clone()))?;
        Ok((Py::new(py, StartResponse::new(conn, facts, target))?, hints))
    }

    /// The application returned `iterable`.
    fn iterate(&self, py: Python<'_>, reactor: &Reactor, mut call: Call, iterable: Bound<'_, PyAny>) {
        call.iterable = Some(iterable.clone().unbind());
        if let Ok(list) = iterable.cast_exact::<PyList>() {
            call.materialised = true;
            if list.len() == 1
                && let Ok(item) = list.get_item(0)
            {
                return self.single(py, reactor, call, &item);
            }
        } else if let Ok(wrapper) = iterable.cast_exact::<FileWrapper>() {
            let wrapper = wrapper.clone();
            match self.send_file(py, reactor, call, &wrapper) {
                None => return,
                Some(unsent) => call = unsent,
            }
        } else {
            call.materialised = iterable.is_exact_instance_of::<PyTuple>();
        }
        match iterable.try_iter() {
            Ok(items) => {
                call.stage = Stage::Items(items.unbind());
                self.pump(py, reactor, call);
            }
            Err(error) => self.fail(py, reactor, call, &error),
        }
    }

    /// The whole response is one item: head, body and end leave together.
    fn single(&self, py: Python<'_>, reactor: &Reactor, call: Call, item: &Bound<'_, PyAny>) {
        match checked(item) {
            Ok(item) => self.end(py, reactor, call, Pieces::new(reactor.buffer()), item),
            Err(error) => self.fail(py, reactor, call, &error),
        }
    }

    /// Pulls items until the response ends, its reader is slower, or others should run.
    fn pump(&self, py: Python<'_>, reactor: &Reactor, mut call: Call) {
        while let Some(rest) = self.pump_some(py, reactor, call) {
            call = rest;
        }
    }

    /// The same for one turn; gives the call back if it can go on at once.
    fn pump_some(&self, py: Python<'_>, reactor: &Reactor, call: Call) -> Option<Call> {
        let Stage::Items(items) = &call.stage else {
            self.complete(py, reactor, call);
            return None;
        };
        let mut items = items.bind(py).clone();
        let conn = call.request.conn;
        let mut pieces = Pieces::new(reactor.buffer());
        let items_max = if call.materialised { LISTED_ITEMS_PER_TURN_MAX } else { ITEMS_PER_TURN_MAX };
        for count in 1..=items_max {
            let item = shielded(|| items.next().transpose()).transpose();
            if self.is_forked_child() {
                self.leave_child(py, reactor, item.and_then(Result::err).as_ref());
                return None;
            }
            let item = match item {
                None => {
                    self.end(py, reactor, call, pieces, None);
                    return None;
                }
                Some(Err(error)) => {
                    self.fail(py, reactor, call, &error);
                    return None;
                }
                Some(Ok(item)) => item,
            };
            match checked(&item) {
                Ok(Some(item)) if !call.response.get().append(reactor, &mut pieces, item) => {
                    self.fail(py, reactor, call, &not_started());
                    return None;
                }
                Ok(_) => {}
                Err(error) => {
                    pieces.send(reactor, conn, false);
                    self.fail(py, reactor, call, &error);
                    return None;
                }
            }
            // The items of a list exist already: those that are small leave together.
            if pieces.is_empty() || (call.materialised && count < items_max && !pieces.is_large()) {
                continue;
            }
            match std::mem::replace(&mut pieces, Pieces::new(reactor.buffer())).send(reactor, conn, false) {
                Flow::Sent => {}
                Flow::Queued => {
                    if let Some(pause) = &self.pause {
                        if let Err(error) = pause.drained(py, reactor, conn) {
                            self.fail(py, reactor, call, &error);
                            return None;
                        }
                    } else if reactor.park(conn) {
                        self.keep(conn, call);
                        return None;
                    }
                }
                Flow::Gone => {
                    self.close_call(py, reactor, call);
                    return None;
                }
            }
        }
        if let Some(pause) = &self.pause {
            return match pause.give_way(py, reactor, conn) {
                Ok(()) => Some(call),
                Err(error) => {
                    self.fail(py, reactor, call, &error);
                    None
                }
            };
        }
        self.keep(conn, call);
        reactor.yield_turn(conn);
        None
    }

    fn keep(&self, conn: ConnId, call: Call) {
        let before = self.parked.borrow_mut().insert(conn, call);
        debug_assert!(before.is_none(), "one response per connection");
    }

    /// The application has produced everything (`item`: together with the last item).
    fn end(
        &self,
        py: Python<'_>,
        reactor: &Reactor,
        call: Call,
        mut pieces: Pieces,
        item: Option<&Bound<'_, PyBytes>>,
    ) {
        let started = {
            let mut progress = call.response.get().progress();
            if let Some(item) = item {
                progress.append(reactor, &mut pieces, item);
            }
            progress.end(reactor, &mut pieces)
        };
        if !started {
            return self.fail(py, reactor, call, &not_started());
        }
        call.response.get().close();
        let conn = call.request.conn;
        // An application object's close() may take its time: nothing of the response waits for it.
        let batch = call.materialised;
        let large = item.is_some_and(|item| item.as_bytes().len() > PARK_BYTES_MIN);
        let flow = pieces.send(reactor, conn, batch && !large);
        let patient = flow == Flow::Queued && (large || !batch);
        if patient { self.finish_sent(py, reactor, call) } else { self.complete(py, reactor, call) }
    }

    /// Everything was produced: the call is complete when its last bytes have left.
    fn finish_sent(&self, py: Python<'_>, reactor: &Reactor, mut call: Call) {
        let conn = call.request.conn;
        if let Some(pause) = &self.pause {
            if let Err(error) = pause.drained(py, reactor, conn) {
                return self.fail(py, reactor, call, &error);
            }
        } else if reactor.park(conn) {
            call.stage = Stage::Ending;
            return self.keep(conn, call);
        }
        self.complete(py, reactor, call);
    }

    /// Everything has been given to the kernel (or is small and about to be): log, free, go on.
    fn complete(&self, py: Python<'_>, reactor: &Reactor, call: Call) {
        let (keep, fault) = {
            let progress = call.response.get().progress();
            (progress.keeps_alive(), progress.fault())
        };
        let conn = call.request.conn;
        if let Some(fault) = fault {
            let uri = String::from_utf8_lossy(call.request.head.target()).into_owned();
            reactor.shared().errors.log(Level::Warning, format_args!("Response to {uri}: {fault}"));
        }
        reactor.finish(conn, keep);
        self.close_call(py, reactor, call);
    }

    /// Writes the access line and closes the application's iterable.
    fn close_call(&self, py: Python<'_>, reactor: &Reactor, call: Call) {
        if reactor.logs_access() {
            self.log_access(py, reactor, &call, None);
        }
        self.release(py, reactor, call);
    }

    fn log_access(&self, py: Python<'_>, reactor: &Reactor, call: &Call, instead: Option<u16>) {
        let elapsed = clock::now().since(call.request.received);
        let (head, status, sent) = {
            let mut progress = call.response.get().progress();
            let head = std::mem::take(&mut progress.head);
            let status = instead.unwrap_or_else(|| head.status_code());
            (head, status, if instead.is_some() { 0 } else { progress.sent_bytes })
        };
        let environ = Some(&call.environ);
        log_line::write(py, reactor, &call.request, environ, Some(&head), (status, sent), elapsed);
        call.response.get().progress().head = head;
    }

    /// Closes what the application returned and keeps the objects that can be used again.
    fn release(&self, py: Python<'_>, reactor: &Reactor, call: Call) {
        let Call { request, environ, input, response, hints, socket, iterable, stage, materialised } = call;
        if let Some(input) = &input {
            input.get().close();
        }
        drop(stage);
        if let Some(iterable) = iterable {
            let iterable = iterable.into_bound(py);
            if !materialised
                && let Ok(close) = iterable.getattr(intern!(py, "close"))
                && let Err(error) = close.call0()
            {
                let text = format_exception(py, &error);
                let uri = String::from_utf8_lossy(request.head.target()).into_owned();
                let errors = &reactor.shared().errors;
                errors.log(Level::Error, format_args!("Error handling request {uri}\n{text}"));
            }
        }
        response.get().close();
        drop((environ, input));
        self.sockets.put_back(py, socket);
        if is_only_reference(response.bind(py)) && is_only_reference(hints.bind(py)) {
            let before = self.spare.borrow_mut().replace((response, hints));
            drop(before);
        }
    }

    /// The application raised, or gave something that cannot be sent.
    fn fail(&self, py: Python<'_>, reactor: &Reactor, call: Call, error: &PyErr) {
        call.response.get().close();
        let conn = call.request.conn;
        if self.pause.as_ref().is_some_and(|pause| pause.is_exit(py, error)) {
            reactor.shared().errors.log(Level::Debug, format_args!("A request's greenlet was killed"));
            reactor.abort(conn);
            return self.close_call(py, reactor, call);
        }
        let taken = self.sockets.is_taken(py, &call.socket);
        if taken && crate::py::is_stop_iteration(py, error) {
            reactor.abort(conn);
            return self.release(py, reactor, call);
        }
        if reactor.is_gone(conn) && error.is_instance_of::<PyConnectionError>(py) {
            reactor.shared().errors.log(Level::Debug, format_args!("Ignoring client disconnection: {error}"));
            return self.close_call(py, reactor, call);
        }
        let head_sent = call.response.get().progress().head_sent();
        if let Some(status) = body_fault(py, error) {
            return self.fail_body(py, reactor, call, (error, status), head_sent || taken);
        }
        let uri = String::from_utf8_lossy(call.request.head.target()).into_owned();
        let method = String::from_utf8_lossy(call.request.head.method()).into_owned();
        let text = format_exception(py, error);
        reactor
            .shared()
            .errors
            .log(Level::Error, format_args!("Error handling request {method} {uri}\n{text}"));
        if !head_sent && !taken {
            let mut page = reactor.buffer();
            crate::http::error_response_with(500, INTERNAL, "", &mut page);
            reactor.send(conn, Outgoing::from(page), true);
        }
        reactor.abort(conn);
        if reactor.logs_access() {
            self.log_access(py, reactor, &call, (!head_sent).then_some(500));
        }
        self.release(py, reactor, call);
    }

    /// The application has met a body that cannot be read, and left the answer to us.
    fn fail_body(
        &self,
        py: Python<'_>,
        reactor: &Reactor,
        call: Call,
        (error, status): (&PyErr, u16),
        begun: bool,
    ) {
        let conn = call.request.conn;
        let ip = call.request.peer.ip_text();
        let text = error.value(py);
        reactor
            .shared()
            .errors
            .log(Level::Warning, format_args!("Invalid request body from ip={ip}: {text}"));
        if !begun {
            let mut page = reactor.buffer();
            crate::http::error_response_with(status, reason(status), "", &mut page);
            reactor.send(conn, Outgoing::from(page), true);
        }
        reactor.abort(conn);
        if reactor.logs_access() {
            self.log_access(py, reactor, &call, (!begun).then_some(status));
        }
        self.release(py, reactor, call);
    }

    /// A child that the application forked has come back out of it: only its own exit is left to do. The client is the
    /// parent's.
    fn leave_child(&self, py: Python<'_>, reactor: &Reactor, error: Option<&PyErr>) {
        let status = match error {
            None => 0,
            Some(error) if error.is_instance_of::<PySystemExit>(py) => exit_status(py, error),
            Some(error) => {
                error.print(py);
                1
            }
        };
        reactor.shared().control.quit(status);
    }

    /// Runs `work` on behalf of a connection, watched and with the interpreter lock held. A panic ends the connection
    /// and goes on to the loop, which logs it.
    fn serve(&self, reactor: &Reactor, conn: ConnId, work: impl FnOnce(Python<'_>)) {
        self.watch.begin(reactor.now());
        let done = catch_unwind(AssertUnwindSafe(|| Python::attach(work)));
        self.watch.idle();
        if let Err(panic) = done {
            if !self.is_forked_child() {
                reactor.abort(conn);
            }
            resume_unwind(panic);
        }
    }

    /// Answers without the application: `error`, or 500 when the call could not be made.
    fn refuse(&self, py: Python<'_>, reactor: &Reactor, request: &Request, error: Option<&HttpError>) {
        let mut page = reactor.buffer();
        match error {
            Some(error) => crate::http::error_response(error, &mut page),
            None => crate::http::error_response_with(500, INTERNAL, "", &mut page),
        }
        let status = error.map_or(500, HttpError::status);
        reactor.send(request.conn, Outgoing::from(page), true);
        reactor.abort(request.conn);
        log_line::write(py, reactor, request, None, None, (status, 0), Duration::ZERO);
    }

    /// Sends a wrapped file by sendfile(2) if that can be done; otherwise gives the call back, to be read in blocks.
    fn send_file(
        &self,
        py: Python<'_>,
        reactor: &Reactor,
        call: Call,
        wrapper: &Bound<'_, FileWrapper>,
    ) -> Option<Call> {
        let started = call.response.get().progress().started;
        if !self.sendfile || !started {
            return Some(call);
        }
        let part = file_part(wrapper.get().wrapped(py));
        // Files of /proc say that they are empty; reading tells.
        let Some((file, offset, rest)) = part.filter(|(_, _, rest)| *rest > 0) else {
            return Some(call);
        };
        let conn = call.request.conn;
        let mut pieces = Pieces::new(reactor.buffer());
        let (len, suffix) = call.response.get().progress().append_file(reactor, &mut pieces, rest);
        call.response.get().close();
        pieces.send(reactor, conn, false);
        if len > 0 {
            reactor.send(conn, Outgoing::File { file, offset, len }, false);
        }
        if !suffix.is_empty() {
            reactor.send(conn, Outgoing::from(suffix), false);
        }
        self.finish_sent(py, reactor, call);
        None
    }
}

/// The status to answer with, if an error says that the request's body cannot be read.
fn body_fault(py: Python<'_>, error: &PyErr) -> Option<u16> {
    let fault = error.is_instance_of::<RequestBodyError>(py);
    fault.then(|| error.value(py).getattr("args").and_then(|args| args.get_item(1)?.extract()).unwrap_or(400))
}

fn reason(status: u16) -> &'static str {
    match status {
        408 => "Request Timeout",
        413 => "Content Too Large",
        _ => "Bad Request",
    }
}

/// Output that is queued and larger than this is waited for before the request counts as over.
const PARK_BYTES_MIN: usize = 64 * 1024;

fn not_started() -> PyErr {
    PyAssertionError::new_err("the application returned without calling start_response")
}

/// A body item: `None` if it is empty (and does nothing), an error if it is not bytes.
fn checked<'a, 'py>(item: &'a Bound<'py, PyAny>) -> PyResult<Option<&'a Bound<'py, PyBytes>>> {
    match item.cast::<PyBytes>() {
        Ok(bytes) if bytes.as_bytes().is_empty() => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Err(PyTypeError::new_err(format!("{} is not a byte", item.repr()?))),
    }
}

/// Whether the descriptor of a file object leads to the bytes that `read` gives. Not so with the standard library's
/// decompressing files, which are neither raw nor buffered files; wrappers that are no `io` classes are believed.
fn is_plain_file(filelike: &Bound<'_, PyAny>) -> PyResult<bool> {
    let io = filelike.py().import("io")?;
    if !filelike.is_instance(&io.getattr("IOBase")?)? {
        return Ok(true);
    }
    for name in ["BufferedReader", "FileIO", "BufferedRandom", "TextIOWrapper"] {
        if filelike.is_instance(&io.getattr(name)?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is left of a file that the kernel can send by itself: a descriptor of our own, the present offset, the bytes
/// from there to the end. `None` for anything else (no `fileno`, no `seek`, a pipe, an in-memory file).
fn file_part(filelike: &Bound<'_, PyAny>) -> Option<(std::fs::File, u64, u64)> {
    if !is_plain_file(filelike).ok()? {
        return None;
    }
    let fd: i32 = filelike.call_method0("fileno").ok()?.extract().ok()?;
    filelike.getattr("seek").ok()?;
    // The object's own idea of its position: a buffered file has read ahead of the descriptor.
    let offset: u64 = filelike.call_method0("tell").ok()?.extract().ok()?;
    let file = crate::sys::file::duplicate_regular_file(fd).ok()?;
    let len = file.metadata().ok()?.len();
    Some((file, offset, len.saturating_sub(offset)))
}

impl App for Calls {
    fn blocking(&self, wait: &mut dyn FnMut()) {
        crate::py::blocking(wait);
    }

    fn check_signals(&self) -> Result<(), Exit> {
        Python::attach(|py| {
            py.check_signals().map_err(|error| {
                if error.is_instance_of::<PySystemExit>(py) {
                    return Exit(exit_status(py, &error));
                }
                if !error.is_instance_of::<PyKeyboardInterrupt>(py) {
                    error.print(py);
                }
                Exit(1)
            })
        })
    }

    fn call(&self, reactor: &Reactor, request: Request) {
        let conn = request.conn;
        let Some(pause) = &self.pause else {
            self.running.set(&request);
            return self.serve(reactor, conn, |py| self.start(py, reactor, request));
        };
        self.serve(reactor, conn, |py| {
            if let Err(error) = pause.spawn(py, request) {
                error.write_unraisable(py, None);
                reactor.abort(conn);
            }
        });
    }

    fn resume(&self, reactor: &Reactor, conn: ConnId) {
        if let Some(pause) = &self.pause {
            return self.serve(reactor, conn, |py| pause.wake(py, conn));
        }
        let call = self.parked.borrow_mut().remove(&conn);
        if let Some(call) = call {
            self.running.set(&call.request);
            self.serve(reactor, conn, |py| self.pump(py, reactor, call));
        }
    }

    fn abandon(&self, reactor: &Reactor, conn: ConnId) {
        if let Some(pause) = &self.pause {
            return self.serve(reactor, conn, |py| pause.wake(py, conn));
        }
        let call = self.parked.borrow_mut().remove(&conn);
        if let Some(call) = call {
            self.running.set(&call.request);
            self.serve(reactor, conn, |py| self.close_call(py, reactor, call));
        }
    }

    fn refused(&self, reactor: &Reactor, request: &Request, status: u16) {
        Python::attach(|py| {
            log_line::write(py, reactor, request, None, None, (status, 0), Duration::ZERO);
        });
    }

    fn is_forked_child(&self) -> bool {
        self.is_forked_copy()
    }
}
