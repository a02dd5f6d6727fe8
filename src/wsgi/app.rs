//! The calls of the application: on the loop's frame, one at a time (direct mode), or each in a greenlet of its own
//! (cooperative mode, see `cooperative`). Its response is pulled as fast as the client reads.
//!
//! In direct mode a response that has to wait for its reader is a [`Exchange`] parked under its connection; everything it
//! needs is in there, nothing is kept on the stack. In cooperative mode its greenlet waits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList};

use crate::py::{QueueListener, Watch, catch_panic, exit_status};
use rgunicorn_http::{HttpError, ResponseFacts};
use rgunicorn_io::sys::atfork;
use rgunicorn_server::log::Level;
use rgunicorn_server::worker::{App, ExitStatus, Flow, Reactor, Request, RequestId};

use super::client::ClientDisconnected;
use super::cooperative::GreenletPool;
use super::environ::{EnvironFactory, ServerFacts};
use super::file_wrapper::FileWrapper;
use super::hints::{EarlyHints, HintTarget};
use super::hooks::RequestHooks;
use super::input::Input;
use super::link::Link;
use super::log_line;
use super::response::StartResponse;
use super::running::RunningRequest;
use super::socket::SocketFactory;

/// The application and what its calls need.
pub struct WsgiApp {
    app: Py<PyAny>,
    environs: EnvironFactory,
    pub(super) sockets: SocketFactory,
    empty_input: Py<Input>,
    /// Those of the last request, if the application kept none.
    pub(super) spare: RefCell<Option<RequestObjects>>,
    pub(super) parked: RefCell<HashMap<RequestId, Exchange>>,
    pub(super) sendfile: bool,
    forks: u32,
    /// In cooperative mode.
    pub(super) greenlets: Option<GreenletPool>,
    /// Told about every call into the application; it asks `running` what that is for.
    watch: Arc<Watch>,
    running: Arc<RunningRequest>,
    pub(super) hooks: Option<RequestHooks>,
    pub(super) relay: Option<Arc<QueueListener>>,
}

/// `start_response`, the early hints that end when its head leaves, and whether the client has left.
pub(super) type RequestObjects = (Py<StartResponse>, Py<EarlyHints>, Py<ClientDisconnected>);

/// A response in progress.
pub(super) struct Exchange {
    pub(super) request: Request,
    pub(super) environ: Py<PyDict>,
    /// The body, if it was still arriving when the application was called.
    pub(super) input: Option<Py<Input>>,
    pub(super) response: Py<StartResponse>,
    pub(super) hints: Py<EarlyHints>,
    pub(super) client: Py<ClientDisconnected>,
    pub(super) socket: Py<PyAny>,
    /// What the application returned; closed at the end.
    pub(super) iterable: Option<Py<PyAny>>,
    pub(super) state: ExchangeState,
    /// What hooks get for it, if there are any.
    pub(super) req: Option<Py<PyAny>>,
    /// A list or a tuple: all items exist already, so nothing has to leave before the next is asked for.
    pub(super) is_sized: bool,
}

pub(super) enum ExchangeState {
    /// Items are still to come.
    Items(Py<PyIterator>),
    /// Everything was produced; the last bytes are on their way.
    Ending,
}

impl WsgiApp {
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
        (cooperative, hooks, relay): (bool, Option<RequestHooks>, Option<Arc<QueueListener>>),
    ) -> PyResult<Self> {
        let running = Arc::new(RunningRequest::default());
        let greenlets = if cooperative { Some(GreenletPool::new(py)?) } else { None };
        watch.describe_by(
            greenlets.as_ref().map_or_else(|| RunningRequest::describe(&running), GreenletPool::describe),
        );
        constants.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
        Ok(Self {
            app,
            environs: EnvironFactory::new(py, facts, constants)?,
            sockets: SocketFactory::new(py)?,
            empty_input: Py::new(py, Input::new(rgunicorn_server::worker::Body::Empty))?,
            spare: RefCell::default(),
            parked: RefCell::default(),
            sendfile,
            forks: atfork::generation(),
            greenlets,
            watch,
            running,
            hooks,
            relay,
        })
    }

    /// Hands diverted records of the error log over. Where nothing is borrowed.
    pub fn relay_logs(&self) {
        if let Some(relay) = &self.relay {
            relay.relay();
        }
    }

    /// Whether requests run in greenlets.
    pub fn is_cooperative(&self) -> bool {
        self.greenlets.is_some()
    }

    pub(super) fn greenlets(&self) -> Option<&GreenletPool> {
        self.greenlets.as_ref()
    }

    pub(super) fn is_forked_copy(&self) -> bool {
        atfork::generation() != self.forks
    }

    /// Waiters until all output of a connection has left or its client has; `None` where the loop itself would have to wait.
    pub(super) fn drained(&self, py: Python<'_>, link: Link<'_>, conn: RequestId) -> Option<PyResult<Flow>> {
        match (link, &self.greenlets) {
            (Link::Thread(remote), _) => Some(Ok(remote.drained(conn))),
            (Link::Loop(reactor), Some(greenlets)) => {
                let drained = greenlets.drained(py, reactor, conn);
                Some(drained.map(|()| if reactor.is_closed(conn) { Flow::Gone } else { Flow::Sent }))
            }
            (Link::Loop(_), None) => None,
        }
    }

    /// The greenlets of the requests in progress; none in direct mode.
    ///
    /// # Errors
    /// `MemoryError`.
    pub fn running<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.greenlets.as_ref().map_or_else(|| Ok(PyList::empty(py)), |greenlets| greenlets.running(py))
    }

    /// A request in its own greenlet, from beginning to end.
    pub(super) fn guarded_start(&self, py: Python<'_>, link: Link<'_>, request: Request) {
        let conn = request.id;
        let done = catch_unwind(AssertUnwindSafe(|| self.start(py, link, request)));
        if done.is_err() && !self.is_forked_copy() {
            // The text of the panic is on stderr; the others go on.
            let errors = link.errors();
            errors.log(Level::Error, format_args!("Internal error while handling a request"));
            link.abort(conn);
        }
    }

    /// The worker leaves: closes what the application has returned for responses that are still in progress (PEP 3333:
    /// `close()` is called however a request ends).
    pub fn close_parked(&self, reactor: &Reactor) {
        let calls = std::mem::take(&mut *self.parked.borrow_mut());
        let link = Link::Loop(reactor);
        Python::attach(|py| calls.into_values().for_each(|call| self.close_call(py, link, call)));
    }

    fn start(&self, py: Python<'_>, link: Link<'_>, mut request: Request) {
        let body = std::mem::take(&mut request.body);
        if self.hooks.as_ref().is_none_or(|hooks| hooks.pre.is_none()) && link.errors().enabled(Level::Debug)
        {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (method, path) = (text(request.head.method()), text(request.head.path()));
            link.errors().log(Level::Debug, format_args!("{method} {path}"));
        }
        let req = match self.hooks.as_ref().map(|hooks| hooks.request_object(py, &request)).transpose() {
            Ok(req) => req,
            Err(error) => return self.reject_pre_request(py, link, (&request, None), &error),
        };
        if let Err(error) = self.run_pre_request(py, &mut request, req.as_ref()) {
            return self.reject_pre_request(py, link, (&request, req.as_ref()), &error);
        }
        let call = match self.prepare(py, request, body, req.clone()) {
            Ok(call) => call,
            Err(refused) => {
                let (request, error) = *refused;
                return self.refuse_call(py, link, (&request, req.as_ref()), error.as_ref());
            }
        };
        link.count_request();
        let result = catch_panic(|| self.app.bind(py).call1((call.environ.bind(py), call.response.bind(py))));
        if self.is_forked_copy() {
            return self.leave_child(py, link, result.err().as_ref());
        }
        match result {
            Ok(iterable) => self.iterate(py, link, call, iterable),
            Err(error) => self.fail(py, link, call, &error),
        }
    }

    /// Runs `pre_request` with what hooks get for this request, if there are any.
    fn run_pre_request(
        &self,
        py: Python<'_>,
        request: &mut Request,
        req: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (Some(hooks), Some(req)) = (&self.hooks, req) else { return Ok(()) };
        catch_panic(|| hooks.before(py, req))?;
        request.keep_alive &= !req.getattr(intern!(py, "must_close"))?.is_truthy()?;
        Ok(())
    }

    /// Everything the application gets.
    fn prepare(
        &self,
        py: Python<'_>,
        request: Request,
        body: rgunicorn_server::worker::Body,
        req: Option<Bound<'_, PyAny>>,
    ) -> Result<Exchange, Box<(Request, Option<HttpError>)>> {
        let request_streams = matches!(body, rgunicorn_server::worker::Body::Incoming);
        let made = (|| -> PyResult<Result<_, HttpError>> {
            let environ = match self.environs.build(py, &request)? {
                Ok(environ) => environ,
                Err(error) => return Ok(Err(error)),
            };
            if let (Some(hooks), Some(req)) = (&self.hooks, &req) {
                hooks.apply(py, req, &environ)?;
            }
            let input = match body {
                rgunicorn_server::worker::Body::Empty => self.empty_input.clone_ref(py),
                rgunicorn_server::worker::Body::Incoming => {
                    Py::new(py, Input::incoming(request.id.to_raw()))?
                }
                body => Py::new(py, Input::new(body))?,
            };
            environ.set_item(intern!(py, "wsgi.input"), &input)?;
            let input = request_streams.then_some(input);
            let socket = self.sockets.get(py, request.id.to_raw())?;
            environ.set_item(intern!(py, "gunicorn.socket"), &socket)?;
            let facts = ResponseFacts {
                version: request.head.version(),
                head_request: request.head.method() == b"HEAD",
                connect: request.head.method() == b"CONNECT",
                keep_alive: request.keep_alive,
            };
            let callables = self.callables(py, request.id, facts)?;
            environ.set_item(intern!(py, "wsgi.early_hints"), &callables.1)?;
            environ.set_item(intern!(py, "rgunicorn.client_disconnected"), &callables.2)?;
            Ok(Ok((environ.unbind(), input, callables, socket.unbind())))
        })();
        match made {
            Ok(Ok((environ, input, (response, hints, client), socket))) => Ok(Exchange {
                request,
                environ,
                input,
                response,
                hints,
                client,
                socket,
                iterable: None,
                req: req.map(Bound::unbind),
                state: ExchangeState::Ending,
                is_sized: false,
            }),
            Ok(Err(error)) => Err(Box::new((request, Some(error)))),
            Err(error) => {
                error.write_unraisable(py, None);
                Err(Box::new((request, None)))
            }
        }
    }

    fn callables(&self, py: Python<'_>, conn: RequestId, facts: ResponseFacts) -> PyResult<RequestObjects> {
        let spare = self.spare.borrow_mut().take();
        if let Some((response, hints, client)) = spare {
            response.get().reset(conn, facts);
            client.get().set_target(conn.to_raw());
            return Ok((response, hints, client));
        }
        let target = HintTarget::default();
        let hints = Py::new(py, EarlyHints::new(target.clone()))?;
        let client = Py::new(py, ClientDisconnected::new())?;
        client.get().set_target(conn.to_raw());
        Ok((Py::new(py, StartResponse::new(conn, facts, target))?, hints, client))
    }

    /// Runs `work` on behalf of a connection, watched and with the interpreter lock held. A panic ends the connection
    /// and goes on to the loop, which logs it.
    fn serve(&self, reactor: &Reactor, conn: RequestId, work: impl FnOnce(Python<'_>)) {
        self.watch.begin(reactor.now());
        let done = catch_unwind(AssertUnwindSafe(|| Python::attach(work)));
        self.watch.idle();
        if let Err(panic) = done {
            if !self.is_forked_copy() {
                reactor.abort(conn);
            }
            resume_unwind(panic);
        }
    }
}

impl App for WsgiApp {
    fn blocking(&self, wait: &mut dyn FnMut()) {
        crate::py::blocking(wait);
    }

    fn check_signals(&self, _: bool) -> Result<(), ExitStatus> {
        self.relay_logs();
        check_signals()
    }

    fn call(&self, reactor: &Reactor, request: Request) {
        let conn = request.id;
        let Some(greenlets) = &self.greenlets else {
            self.running.set(&request);
            return self.serve(reactor, conn, |py| self.start(py, Link::Loop(reactor), request));
        };
        self.serve(reactor, conn, |py| {
            if let Err(error) = greenlets.spawn(py, request) {
                error.write_unraisable(py, None);
                reactor.abort(conn);
            }
        });
    }

    fn resume(&self, reactor: &Reactor, conn: RequestId) {
        if let Some(greenlets) = &self.greenlets {
            return self.serve(reactor, conn, |py| greenlets.wake(py, conn));
        }
        let call = self.parked.borrow_mut().remove(&conn);
        if let Some(call) = call {
            self.running.set(&call.request);
            self.serve(reactor, conn, |py| self.pump(py, Link::Loop(reactor), call));
        }
    }

    fn abandon(&self, reactor: &Reactor, conn: RequestId) {
        if let Some(greenlets) = &self.greenlets {
            return self.serve(reactor, conn, |py| greenlets.wake(py, conn));
        }
        let call = self.parked.borrow_mut().remove(&conn);
        if let Some(call) = call {
            self.running.set(&call.request);
            self.serve(reactor, conn, |py| self.close_call(py, Link::Loop(reactor), call));
        }
    }

    fn refused(&self, reactor: &Reactor, request: &Request, status: u16) {
        log_line::write(Link::Loop(reactor), request, None, None, (status, 0), Duration::ZERO);
    }

    fn is_forked_child(&self) -> bool {
        self.is_forked_copy()
    }
}

/// Runs the handlers of signals that have come. On the main thread, which is the loop's.
///
/// # Errors
/// [`ExitStatus`] when one of them wants the process to leave.
pub(super) fn check_signals() -> Result<(), ExitStatus> {
    Python::attach(|py| {
        py.check_signals().map_err(|error| {
            if error.is_instance_of::<PySystemExit>(py) {
                return ExitStatus(exit_status(py, &error));
            }
            if !error.is_instance_of::<PyKeyboardInterrupt>(py) {
                error.print(py);
            }
            ExitStatus(1)
        })
    })
}
