//! The code of the configuration that runs for every request: `pre_request`, `post_request`, and a logger
//! that is not the server's own. No object is made for them where none is configured.

use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::py::{catch_panic, latin1};
use rgunicorn_http::proxy;
use rgunicorn_http::{ResponseHead, Scheme, Version};
use rgunicorn_server::worker::Request;

/// The module of the classes whose objects hooks get. They are kept, because even a repeated import takes 0.6
/// us.
const SERVER_MODULE: &str = "rgunicorn._server";
static REQUEST: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static RESPONSE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static APPLY_EDITS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOG_ACCESS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The configured functions.
pub struct RequestHooks {
    /// `rgunicorn.workers.Worker` of this process.
    pub worker: Py<PyAny>,
    /// `pre_request`.
    pub pre: Option<Py<PyAny>>,
    /// `post_request`, and the number of arguments that it takes.
    pub post: Option<(Py<PyAny>, usize)>,
    /// The logger whose `access` writes access records.
    pub access: Option<Py<PyAny>>,
}

impl RequestHooks {
    /// Returns whether none of them is there.
    pub fn is_empty(&self) -> bool {
        self.pre.is_none() && self.post.is_none() && self.access.is_none()
    }

    /// Returns a copy for another thread.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        let clone = |object: &Py<PyAny>| object.clone_ref(py);
        Self {
            worker: clone(&self.worker),
            pre: self.pre.as_ref().map(clone),
            post: self.post.as_ref().map(|(post, arity)| (clone(post), *arity)),
            access: self.access.as_ref().map(clone),
        }
    }

    /// Makes the `rgunicorn._server.Request` of a request.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn request_object<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
    ) -> PyResult<Bound<'py, PyAny>> {
        let head = &request.head;
        let text = |bytes: &[u8]| latin1(py, bytes);
        let line = (
            text(head.method())?,
            text(head.target())?,
            text(head.path())?,
            text(head.query())?,
            text(head.fragment())?,
            (head.version().major, head.version().minor),
        );
        let headers = PyList::empty(py);
        for field in head.fields() {
            headers.append((text(&field.name.to_ascii_uppercase())?, text(field.value)?))?;
        }
        let peer = match request.peer.port() {
            Some(port) => (request.peer.ip_text(), port).into_pyobject(py)?.into_any(),
            None => text(b"")?.into_any(),
        };
        let scheme = if head.scheme() == Some(Scheme::Https) { "https" } else { "http" };
        let class = REQUEST.import(py, SERVER_MODULE, "Request")?;
        let req = class.call1((line, headers, (&peer, &peer), scheme, false, request.number))?;
        if let Some(header) = &request.proxied {
            req.setattr(intern!(py, "proxy_protocol_info"), proxy_info(py, header)?)?;
        }
        Ok(req)
    }

    /// Runs `pre_request`.
    ///
    /// # Errors
    /// Any exception that it raises.
    pub(super) fn before(&self, py: Python<'_>, req: &Bound<'_, PyAny>) -> PyResult<()> {
        self.pre.as_ref().map_or(Ok(()), |pre| pre.bind(py).call1((&self.worker, req)).map(drop))
    }

    /// Carries the changes that `pre_request` has made to the request over to its environ.
    ///
    /// # Errors
    /// The exception that the hook's headers raise when they are no pairs of texts.
    pub(super) fn apply(
        &self,
        py: Python<'_>,
        req: &Bound<'_, PyAny>,
        environ: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        if self.pre.is_none() {
            return Ok(());
        }
        APPLY_EDITS.import(py, SERVER_MODULE, "apply_edits")?.call1((req, environ)).map(drop)
    }

    /// Has a logger that is not the server's own write an access record.
    ///
    /// # Errors
    /// Any exception that it raises.
    pub(super) fn log_access(
        &self,
        py: Python<'_>,
        resp: &Bound<'_, PyAny>,
        req: &Bound<'_, PyAny>,
        environ: &Py<PyDict>,
        elapsed: Duration,
    ) -> PyResult<()> {
        let Some(logger) = &self.access else { return Ok(()) };
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let log = LOG_ACCESS.import(py, SERVER_MODULE, "log_access")?;
        catch_panic(|| log.call1((logger, resp, req, environ, micros)).map(drop))
    }

    /// Makes the call (a function and its arguments) that has that logger write the record of a request which the
    /// server has answered by itself.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn refusal_call<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        status: u16,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let req = self.request_object(py, request)?;
        let resp = refusal_object(py, status, &req)?;
        let environ = bare_environ(py, request, &req)?;
        let log = LOG_ACCESS.import(py, SERVER_MODULE, "log_access")?;
        (log, &self.access, resp, req, environ, 0).into_pyobject(py)
    }

    /// Runs `post_request`. `resp` is `None` for a request that failed early.
    ///
    /// # Errors
    /// Any exception that it raises.
    pub(super) fn after(
        &self,
        py: Python<'_>,
        req: &Bound<'_, PyAny>,
        environ: &Bound<'_, PyAny>,
        resp: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let Some((post, arity)) = &self.post else { return Ok(()) };
        let all = [self.worker.bind(py), req, environ, resp];
        post.bind(py).call1(PyTuple::new(py, all.into_iter().take(*arity))?).map(drop)
    }
}

/// Makes the value of `req.proxy_protocol_info`.
fn proxy_info<'py>(py: Python<'py>, header: &proxy::ProxyHeader) -> PyResult<Bound<'py, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("proxy_protocol", header.protocol.name())?;
    let ends = header.addresses.map(|addresses| (addresses.source, addresses.destination));
    let (client, proxy) = ends.unzip();
    for (name, end) in [("client", client), ("proxy", proxy)] {
        info.set_item(format!("{name}_addr"), end.map(|end| end.ip().to_string()))?;
        info.set_item(format!("{name}_port"), end.map(|end| end.port()))?;
    }
    Ok(info)
}

/// Makes an environ of the few facts that are known of a request whose environ was not made.
///
/// # Errors
/// `MemoryError`.
pub(super) fn bare_environ<'py>(
    py: Python<'py>,
    request: &Request,
    req: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let environ = PyDict::new(py);
    for (key, name) in [("REQUEST_METHOD", "method"), ("QUERY_STRING", "query"), ("RAW_URI", "uri")] {
        environ.set_item(key, req.getattr(name)?)?;
    }
    let Version { major, minor } = request.head.version();
    environ.set_item("SERVER_PROTOCOL", format!("HTTP/{major}.{minor}"))?;
    environ.set_item("REMOTE_ADDR", request.peer.ip_text())?;
    Ok(environ)
}

/// Makes the `rgunicorn._server.Response` of an answer that the server makes by itself.
///
/// # Errors
/// `MemoryError`.
pub(super) fn refusal_object<'py>(
    py: Python<'py>,
    status: u16,
    req: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let class = RESPONSE.import(py, SERVER_MODULE, "Response")?;
    class.call1((status.to_string(), PyList::empty(py), 0, (true, false, true), req))
}

/// The facts that hooks may ask a response object for.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseFlags {
    /// Its head has left.
    pub(super) head_sent: bool,
    /// Its body is sent in chunks.
    pub(super) chunked: bool,
    /// Its connection closes after it.
    pub(super) must_close: bool,
}

/// Makes the `rgunicorn._server.Response` of a response.
///
/// # Errors
/// `MemoryError`.
pub(super) fn response_object<'py>(
    py: Python<'py>,
    head: &ResponseHead,
    sent_bytes: u64,
    flags: ResponseFlags,
    req: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let headers = PyList::empty(py);
    for (name, value) in head.fields() {
        headers.append((latin1(py, name)?, latin1(py, value)?))?;
    }
    let class = RESPONSE.import(py, SERVER_MODULE, "Response")?;
    let flags = (flags.head_sent, flags.chunked, flags.must_close);
    class.call1((latin1(py, head.status_text())?, headers, sent_bytes, flags, req))
}
