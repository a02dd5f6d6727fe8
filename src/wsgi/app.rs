//! The call of the application, the same for every way in which it runs, and the objects that it gets. Its
//! response is pulled as fast as the client reads (`respond`); how a request ends is in `finish`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use pyo3::exceptions::PySystemExit;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::py::{GilCell, QueueListener, Watch, catch_panic, exit_status, format_exception};
use rgunicorn_http::{HttpError, ResponseFacts};
use rgunicorn_io::sys::{atfork, clock};
use rgunicorn_server::log::{ErrorLog, Level, RepeatedLine};
use rgunicorn_server::worker::{Body, ExitStatus, Request, RequestId};

use super::environ::{BuildError, EnvironFactory, NewEnviron, ServerFacts};
use super::exchange::{Exchange, ExchangeState, Makers, RequestObjects, SpareObjects};
use super::field_cache::FieldCache;
use super::file_wrapper::FileWrapper;
use super::hooks::RequestHooks;
use super::input::Input;
use super::responder::{Responder, WorkerFacts};
use super::response::install_start;
use super::socket::SocketFactory;

/// The application that requests are given to. Another one takes its place by an assignment to `worker.wsgi`, which all
/// threads of the worker see in their next request.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct ServedApp(GilCell<Py<PyAny>>);

#[pymethods]
impl ServedApp {
    /// Puts another application in its place.
    fn replace(&self, py: Python<'_>, app: Py<PyAny>) {
        let before = self.0.with(py, |current| std::mem::replace(current, app));
        drop(before);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.peek(|app| visit.call(app)).unwrap_or(Ok(()))
    }
}

impl ServedApp {
    /// Makes that of a worker's object, with what `worker.wsgi` is. What hooks of requests and threads of the
    /// configuration put there later counts, too.
    ///
    /// # Errors
    /// `MemoryError`, and those of the object's attributes.
    pub fn of_worker(worker: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        let py = worker.py();
        let served = Py::new(py, Self(GilCell::new(worker.getattr("wsgi")?.unbind())))?;
        worker.setattr("_served", &served)?;
        // Another thread may have put something else there just before.
        served.get().replace(py, worker.getattr("wsgi")?.unbind());
        Ok(served)
    }

    /// Returns the application of this moment.
    fn get(&self, py: Python<'_>) -> Py<PyAny> {
        self.0.with(py, |app| app.clone_ref(py))
    }
}

/// The application, and the facts that its runs depend on.
pub struct WsgiConfig {
    /// The application.
    pub app: Py<ServedApp>,
    /// The facts that are the same in every environ.
    pub facts: ServerFacts,
    /// `wsgi.errors` and the like.
    pub constants: Py<PyDict>,
    /// Wrapped files leave by sendfile(2).
    pub sendfile: bool,
    /// The watch on the loop, which is told how to describe the requests in progress.
    pub watch: Arc<Watch>,
    /// The hooks that run for every request, if there are any.
    pub hooks: Option<RequestHooks>,
    /// The way of the error log's records, if that is not into its file.
    pub listener: Option<Arc<QueueListener>>,
}

/// The application and the state that its calls share, on one thread.
pub(super) struct WsgiApp {
    app: Py<ServedApp>,
    makers: Makers,
    spare: SpareObjects,
    parked: RefCell<HashMap<RequestId, Exchange>>,
    pub(super) sendfile: bool,
    forks: u32,
    pub(super) hooks: Option<RequestHooks>,
    pub(super) listener: Option<Arc<QueueListener>>,
    pub(super) worker: WorkerFacts,
    responder: Rc<dyn Responder>,
}

/// A request that does not come to its application, and the reason.
struct Rejected {
    request: Box<Request>,
    /// `None`: the call could not be made.
    error: Option<HttpError>,
}

impl WsgiApp {
    /// Makes the one for the calls of `config`'s application on this thread, whose responses leave by
    /// `responder`.
    ///
    /// # Errors
    /// `MemoryError`, and any error of importing the modules that the shared objects come from.
    pub(super) fn new(
        py: Python<'_>,
        config: &WsgiConfig,
        worker: WorkerFacts,
        responder: Rc<dyn Responder>,
    ) -> PyResult<Self> {
        install_start(py)?;
        let constants = config.constants.bind(py).copy()?;
        constants.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
        constants.set_item("wsgi.input", Py::new(py, Input::new(Body::Empty))?)?;
        Ok(Self {
            app: config.app.clone_ref(py),
            makers: Makers {
                environs: EnvironFactory::new(&config.facts, &constants)?,
                sockets: SocketFactory::new(py)?,
                fields: Arc::new(FieldCache::new()),
            },
            spare: SpareObjects::new(),
            parked: RefCell::default(),
            sendfile: config.sendfile,
            forks: atfork::generation(),
            hooks: config.hooks.as_ref().map(|hooks| hooks.clone_ref(py)),
            listener: config.listener.clone(),
            worker,
            responder,
        })
    }

    /// Returns the way to the connections of this thread's requests.
    pub(super) fn responder(&self) -> &dyn Responder {
        &*self.responder
    }

    /// Hands queued records of the error log over. To be called where nothing is borrowed.
    pub(super) fn relay_logs(&self) {
        if let Some(listener) = &self.listener {
            listener.relay();
        }
    }

    /// Returns whether this process is a child that the application forked.
    pub(super) fn is_forked_copy(&self) -> bool {
        atfork::generation() != self.forks
    }

    /// Runs a request from beginning to end, where a panic must not reach Python.
    pub(super) fn start_guarded(&self, py: Python<'_>, request: Box<Request>) {
        let id = request.id;
        let done = catch_unwind(AssertUnwindSafe(|| self.start(py, request)));
        if done.is_err() && !self.is_forked_copy() {
            // The text of the panic is on stderr; the others go on.
            self.worker.errors.repeated(
                RepeatedLine::Panic,
                Level::Error,
                clock::now(),
                format_args!("Internal error while handling a request"),
            );
            self.responder.abort(id);
        }
    }

    /// Runs a request up to its end, or to where its exchange is parked.
    pub(super) fn start(&self, py: Python<'_>, mut request: Box<Request>) {
        if self.hooks.as_ref().is_none_or(|hooks| hooks.pre.is_none()) {
            self.log_request(&request);
        }
        let made = self.hooks.as_ref().map(|hooks| hooks.request_object(py, &request)).transpose();
        let req = match made {
            Ok(req) => req,
            Err(error) => return self.reject_pre_request(py, &request, None, &error),
        };
        if let Some(req) = &req
            && let Err(error) = self.run_pre_request(py, &mut request, req)
        {
            return self.reject_pre_request(py, &request, Some(req), &error);
        }
        let exchange = match self.prepare(py, request, req.as_ref()) {
            Ok(exchange) => exchange,
            Err(rejected) => {
                return self.refuse(py, &rejected.request, req.as_ref(), rejected.error);
            }
        };
        self.worker.count_request();
        let arguments = (exchange.environ.bind(py), exchange.objects.start_response.bind(py));
        let app = self.app.get().get(py).into_bound(py);
        let result = catch_panic(|| app.call1(arguments));
        drop(app);
        if self.is_forked_copy() {
            return self.leave_child(py, result.err().as_ref());
        }
        match result {
            Ok(iterable) => self.iterate(py, exchange, iterable),
            Err(error) => self.fail(py, exchange, &error),
        }
    }

    /// Writes the debug line of a request, as Gunicorn's default `pre_request` does.
    fn log_request(&self, request: &Request) {
        if self.worker.errors.enabled(Level::Debug) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (method, path) = (text(request.head.method()), text(request.head.path()));
            self.worker.errors.log(Level::Debug, format_args!("{method} {path}"));
        }
    }

    /// Runs `pre_request`, if there is one, with the hooks' object of this request.
    fn run_pre_request(&self, py: Python<'_>, request: &mut Request, req: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(hooks) = &self.hooks else { return Ok(()) };
        catch_panic(|| hooks.before(py, req))?;
        request.keep_alive &= !req.getattr(intern!(py, "must_close"))?.is_truthy()?;
        Ok(())
    }

    /// Makes the environ and the other objects that the application gets.
    fn prepare(
        &self,
        py: Python<'_>,
        mut request: Box<Request>,
        req: Option<&Bound<'_, PyAny>>,
    ) -> Result<Exchange, Rejected> {
        let made = self.makers.environs.build(py, &request).and_then(|environ| {
            let (input, objects) = self.fill(&environ, &mut request, req)?;
            Ok((environ, input, objects))
        });
        match made {
            Ok((environ, input, objects)) => Ok(Exchange {
                request,
                environ: environ.dict.unbind(),
                input,
                objects,
                iterable: None,
                req: req.map(|req| req.clone().unbind()),
                state: ExchangeState::Ending,
                is_sized: false,
            }),
            Err(BuildError::Http(error)) => Err(Rejected { request, error: Some(error) }),
            Err(BuildError::Python(error)) => {
                error.write_unraisable(py, None);
                Err(Rejected { request, error: None })
            }
        }
    }

    /// Puts the objects of one request into its environ. Returns the input if that streams.
    fn fill(
        &self,
        new: &NewEnviron<'_>,
        request: &mut Request,
        req: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(Option<Py<Input>>, RequestObjects)> {
        let (environ, py) = (&new.dict, new.dict.py());
        if let (Some(hooks), Some(req)) = (&self.hooks, req) {
            hooks.apply(py, req, environ)?;
        }
        // The template has the one for no body.
        let mut streaming = None;
        if !matches!(request.body, Body::Empty) {
            let is_incoming = matches!(request.body, Body::Incoming);
            let input = match std::mem::take(&mut request.body) {
                Body::Incoming => Input::incoming(request.id),
                body => Input::new(body),
            };
            let input = Py::new(py, input)?;
            environ.set_item(intern!(py, "wsgi.input"), &input)?;
            streaming = is_incoming.then_some(input);
        }
        let head = &request.head;
        let facts = ResponseFacts {
            version: head.version(),
            head_request: head.method() == b"HEAD",
            connect: head.method() == b"CONNECT",
            keep_alive: request.keep_alive,
        };
        let mailbox = || self.responder.mailbox();
        let objects = self.spare.take(new, &self.makers, request.id, facts, mailbox)?;
        Ok((streaming, objects))
    }

    /// Gives the objects of a request back that is over. Runs Python.
    pub(super) fn put_back(&self, py: Python<'_>, objects: RequestObjects) {
        self.spare.put_back(py, objects, &self.makers);
    }

    /// Returns whether the application took the socket of an exchange.
    pub(super) fn is_taken(&self, py: Python<'_>, exchange: &Exchange) -> bool {
        self.makers.sockets.is_taken(py, &exchange.objects.socket)
    }

    /// Puts an exchange aside until its request is resumed or abandoned.
    pub(super) fn park(&self, exchange: Exchange) {
        let before = self.parked.borrow_mut().insert(exchange.id(), exchange);
        debug_assert!(before.is_none(), "one exchange per request");
    }

    /// Takes a parked exchange.
    pub(super) fn take_parked(&self, id: RequestId) -> Option<Exchange> {
        self.parked.borrow_mut().remove(&id)
    }

    /// Closes all parked exchanges.
    pub(super) fn close_parked(&self, py: Python<'_>) {
        let exchanges = std::mem::take(&mut *self.parked.borrow_mut());
        exchanges.into_values().for_each(|exchange| self.close_exchange(py, exchange));
    }
}

/// Runs the handlers of signals that have come. To be called on the main thread, which is the loop's.
///
/// # Errors
/// [`ExitStatus`] when a handler wants the process to leave.
pub(super) fn check_signals(errors: &ErrorLog) -> Result<(), ExitStatus> {
    Python::attach(|py| {
        py.check_signals().map_err(|error| {
            if error.is_instance_of::<PySystemExit>(py) {
                return ExitStatus(exit_status(py, &error));
            }
            let text = format_exception(py, &error);
            errors.log(Level::Error, format_args!("Exception in worker process\n{text}"));
            ExitStatus(1)
        })
    })
}
