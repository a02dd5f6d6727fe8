//! One request on its way through the application, and the Python objects that it meets.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator};

use rgunicorn_http::ResponseFacts;
use rgunicorn_server::response::Response;
use rgunicorn_server::worker::{Mailbox, Request, RequestId};

use crate::py::is_referenced;

use super::client::ClientDisconnected;
use super::environ::{EnvironFactory, NewEnviron};
use super::field_cache::FieldCache;
use super::hints::EarlyHints;
use super::input::Input;
use super::response::{StartResponse, Write};
use super::shared::RequestShared;
use super::socket::{RequestHandle, SocketFactory};

/// Sets of objects that are kept for requests to come beside the one in the environ templates: what a burst
/// of requests in greenlets uses.
const SPARE_SETS_MAX: usize = 64;

/// A request, and how far its response is.
pub(super) struct Exchange {
    pub(super) request: Box<Request>,
    pub(super) environ: Py<PyDict>,
    /// The body, if it was still arriving when the application was called.
    pub(super) input: Option<Py<Input>>,
    pub(super) objects: RequestObjects,
    /// The application's return value; closed at the end.
    pub(super) iterable: Option<Py<PyAny>>,
    pub(super) state: ExchangeState,
    /// The request object of the hooks, if there are any.
    pub(super) req: Option<Py<PyAny>>,
    /// A list or a tuple: all items exist already, so nothing has to leave before the next is asked for.
    pub(super) is_sized: bool,
}

impl Exchange {
    pub(super) fn id(&self) -> RequestId {
        self.request.id
    }

    /// Looks at the response. No Python may run in `look`: neither a call, nor the drop of a Python object or
    /// of the application's memory.
    pub(super) fn response<R>(&self, py: Python<'_>, look: impl FnOnce(&mut Response) -> R) -> R {
        self.objects.shared.response.with(py, look)
    }
}

/// The progress of an exchange.
pub(super) enum ExchangeState {
    /// Items are still to come.
    Items(Py<PyIterator>),
    /// Everything was produced; the last bytes are on their way.
    Ending,
}

/// The objects that one request's application meets beside its environ and input.
pub(super) struct RequestObjects {
    pub(super) shared: Arc<RequestShared>,
    start: Py<StartResponse>,
    /// Its method, which the application gets.
    pub(super) start_response: Py<PyAny>,
    pub(super) hints: Py<EarlyHints>,
    pub(super) client: Py<ClientDisconnected>,
    pub(super) socket: Py<PyAny>,
    /// Set if they are in the environ templates: the mark of [`SpareObjects`] that some set is.
    in_templates: Option<Rc<Cell<bool>>>,
}

impl RequestObjects {
    fn new(
        py: Python<'_>,
        makers: &Makers,
        facts: ResponseFacts,
        mailbox: Option<Arc<Mailbox>>,
    ) -> PyResult<Self> {
        let shared = Arc::new(RequestShared::new(facts));
        let write = Py::new(py, Write::new(Arc::clone(&shared)))?;
        let handle = Py::new(py, RequestHandle::new(Arc::clone(&shared)))?;
        let start = StartResponse::new(Arc::clone(&shared), write, Arc::clone(&makers.fields));
        let start = Bound::new(py, start)?;
        Ok(Self {
            start_response: StartResponse::callable(&start)?,
            start: start.unbind(),
            hints: Py::new(py, EarlyHints::new(Arc::clone(&shared)))?,
            client: Py::new(py, ClientDisconnected::new(Arc::clone(&shared), mailbox))?,
            socket: makers.sockets.make(py, &handle)?,
            shared,
            in_templates: None,
        })
    }

    /// Puts them into an environ, or a template of environs.
    pub(super) fn set_in(&self, environ: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = environ.py();
        environ.set_item(pyo3::intern!(py, "wsgi.early_hints"), &self.hints)?;
        environ.set_item(pyo3::intern!(py, "rgunicorn.client_disconnected"), &self.client)?;
        environ.set_item(pyo3::intern!(py, "gunicorn.socket"), &self.socket)
    }

    /// Returns whether nothing but this set, and `templates` environ templates, holds any of them.
    fn are_unkept(&self, py: Python<'_>, templates: usize) -> bool {
        let count = 1 + if self.in_templates.is_some() { templates } else { 0 };
        is_referenced(self.start_response.bind(py), 1)
            && is_referenced(self.start.bind(py), 2)
            && self.start.get().owns_write(py)
            && is_referenced(self.hints.bind(py), count)
            && is_referenced(self.client.bind(py), count)
            && is_referenced(self.socket.bind(py), count)
    }
}

impl Drop for RequestObjects {
    /// Lets whatever is still held of them lead nowhere, also where a panic has ended their request, and has the next
    /// set take their place in the templates.
    fn drop(&mut self) {
        self.shared.end();
        if let Some(has_home) = &self.in_templates {
            has_home.set(false);
        }
    }
}

/// The makers of the objects that requests get.
pub(super) struct Makers {
    pub(super) environs: EnvironFactory,
    pub(super) sockets: SocketFactory,
    pub(super) fields: Arc<FieldCache>,
}

/// Objects of requests that are over, if the application has kept none of them. One set is in the environ
/// templates, so that a request that uses it sets nothing.
pub(super) struct SpareObjects {
    home: RefCell<Option<RequestObjects>>,
    /// The set of the templates is with a request, or waits for one.
    has_home: Rc<Cell<bool>>,
    others: RefCell<Vec<RequestObjects>>,
}

impl SpareObjects {
    pub(super) fn new() -> Self {
        Self { home: RefCell::new(None), has_home: Rc::default(), others: RefCell::default() }
    }

    /// Returns objects for a request, and puts them into its environ where that lacks them. May run Python.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn take(
        &self,
        environ: &NewEnviron<'_>,
        makers: &Makers,
        id: RequestId,
        facts: ResponseFacts,
        mailbox: impl FnOnce() -> Option<Arc<Mailbox>>,
    ) -> PyResult<RequestObjects> {
        let py = environ.dict.py();
        let home = self.home.borrow_mut().take();
        let spare = home.or_else(|| self.others.borrow_mut().pop());
        let mut objects = match spare {
            Some(objects) => objects,
            None => RequestObjects::new(py, makers, facts, mailbox())?,
        };
        objects.shared.begin(py, id, facts);
        self.place(&mut objects, environ, &makers.environs)?;
        Ok(objects)
    }

    /// Sees to it that an environ has these objects, and that the templates have a set.
    fn place(
        &self,
        objects: &mut RequestObjects,
        environ: &NewEnviron<'_>,
        environs: &EnvironFactory,
    ) -> PyResult<()> {
        // Between the copy of the environ and this moment a hook of the configuration may have waited: then
        // it is perhaps of templates with the objects of another request.
        if objects.in_templates.is_some() && environ.edition == environs.edition() {
            return Ok(());
        }
        objects.set_in(&environ.dict)?;
        if objects.in_templates.is_none() && !self.has_home.replace(true) {
            objects.in_templates = Some(Rc::clone(&self.has_home));
            environs.set_in_templates(environ.dict.py(), |template| objects.set_in(template))?;
        }
        Ok(())
    }

    /// Takes the objects of a request back that is over: a set that the application has not kept serves
    /// again, one that it has kept leads nowhere from now on. Runs Python.
    pub(super) fn put_back(&self, py: Python<'_>, objects: RequestObjects, makers: &Makers) {
        objects.shared.end();
        if makers.sockets.is_taken(py, &objects.socket) {
            makers.sockets.close(py, &objects.socket);
        } else if objects.are_unkept(py, makers.environs.templates_count()) {
            if objects.in_templates.is_some() {
                let before = self.home.borrow_mut().replace(objects);
                debug_assert!(before.is_none(), "one set is in the templates");
                return;
            }
            if self.others.borrow().len() < SPARE_SETS_MAX {
                return self.others.borrow_mut().push(objects);
            }
        }
        // Where they were in the templates, the next set takes their place.
        drop(objects);
    }
}
