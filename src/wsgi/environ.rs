//! The environ: a template per listener, copied for each request and filled from the request head. Keys are
//! made once; a cache leads from a header's name as sent to its `HTTP_*` key.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::py::{latin1, set_default};
use rgunicorn_http::{HttpError, RequestHead, Scheme, Version, percent_decode_path, trim_script_name};
use rgunicorn_io::driver::PeerAddr;
use rgunicorn_server::worker::Request;

use super::known_environs::{KnownEnviron, KnownEnvirons};

/// Header names remembered. Clients choose the names, so the cache is bounded; real traffic uses a few dozen.
const CACHED_NAMES_MAX: usize = 512;
/// The method that the templates have: all others are set.
const USUAL_METHOD: &str = "GET";
/// Peers whose texts are remembered: more connections than a CPU is busy with at a time, and 16 KiB.
const CACHED_PEERS: usize = 256;

/// The source of SERVER_NAME and SERVER_PORT for a listener.
#[derive(Clone, Debug)]
pub enum ListenerName {
    /// A TCP listener's own address.
    Tcp {
        /// Address text, without brackets.
        host: String,
        /// Port number.
        port: u16,
    },
    /// A unix socket: the Host header decides, else the path is the name.
    Unix {
        /// Path of the socket.
        path: String,
    },
}

/// The facts that are the same in every environ of a worker.
pub struct ServerFacts {
    /// One entry per listener, in the worker's order.
    pub listeners: Vec<ListenerName>,
    /// More than one worker process.
    pub multiprocess: bool,
    /// The application may be called again before it has returned.
    pub multithread: bool,
    /// `SERVER_SOFTWARE`.
    pub software: String,
    /// The environment variable SCRIPT_NAME, which applies to all requests.
    pub script_name: String,
}

/// Environ keys by the name of a header field as it was sent.
type NameMap = HashMap<Box<[u8]>, Py<PyString>, BuildHasherDefault<NameHasher>>;

/// The reason why an environ is not made.
#[derive(Debug)]
pub(super) enum BuildError {
    /// The request breaks a rule.
    Http(HttpError),
    /// An object cannot be made.
    Python(PyErr),
}

impl From<HttpError> for BuildError {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<PyErr> for BuildError {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

/// An environ, and the edition of the templates that it was copied from.
pub(super) struct NewEnviron<'py> {
    pub(super) dict: Bound<'py, PyDict>,
    pub(super) edition: u32,
}

/// The maker of environs.
pub(super) struct EnvironFactory {
    templates: Vec<Py<PyDict>>,
    edition: Cell<u32>,
    listeners: Vec<ListenerName>,
    script_name: Vec<u8>,
    names: RefCell<NameMap>,
    /// The texts of the last peers, by port.
    peers: RefCell<Vec<Option<PeerTexts>>>,
    /// Templates of field sections and of heads that come again; all of the present edition.
    sections: KnownEnvirons,
    heads: KnownEnvirons,
    /// The edition at the last request.
    edition_seen: Cell<u32>,
}

impl EnvironFactory {
    /// Makes the templates. `constants`: their further entries (`wsgi.errors`, `wsgi.file_wrapper`, the input
    /// of no body).
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn new(facts: &ServerFacts, constants: &Bound<'_, PyDict>) -> PyResult<Self> {
        let templates = facts.listeners.iter().map(|listener| template(facts, constants, listener));
        Ok(Self {
            templates: templates.collect::<PyResult<_>>()?,
            edition: Cell::new(0),
            listeners: facts.listeners.clone(),
            script_name: trim_script_name(facts.script_name.as_bytes()).to_vec(),
            names: RefCell::default(),
            peers: RefCell::new((0..CACHED_PEERS).map(|_| None).collect()),
            sections: KnownEnvirons::default(),
            heads: KnownEnvirons::default(),
            edition_seen: Cell::new(0),
        })
    }

    /// Makes the environ of `request`, still without the objects that belong to one call.
    ///
    /// # Errors
    /// [`BuildError::Http`] when the target does not lie under SCRIPT_NAME, and `MemoryError`.
    pub(super) fn build<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
    ) -> Result<NewEnviron<'py>, BuildError> {
        let edition = self.edition();
        let head = &request.head;
        let listener = usize::from(request.listener).min(self.templates.len().saturating_sub(1));
        // Where each request changes the templates, because the application keeps their objects, it is not worth it.
        let is_steady = self.edition_seen.replace(edition) == edition;
        let whole = if is_steady { head.whole() } else { 0 };
        if whole != 0
            && let Some((environ, peer)) = self.heads.copy(py, whole, listener)?
        {
            if peer != Some(request.peer) {
                self.set_peer(&environ, request.peer)?;
            }
            set_proxy(&environ, request)?;
            return Ok(NewEnviron { dict: environ, edition });
        }
        let section = if is_steady { head.section() } else { 0 };
        let environ = self.with_headers(py, head, section, listener)?;
        self.set_request_line(&environ, head)?;
        if let ListenerName::Unix { path } = &self.listeners[listener] {
            set_unix_server(py, &environ, head, path)?;
        }
        self.set_peer(&environ, request.peer)?;
        if whole != 0 {
            let peer = Some(request.peer);
            self.keep(
                &self.heads,
                edition,
                KnownEnviron { stamp: whole, listener, peer, environ: environ.copy()?.unbind() },
            );
        }
        set_proxy(&environ, request)?;
        Ok(NewEnviron { dict: environ, edition })
    }

    fn set_request_line(&self, environ: &Bound<'_, PyDict>, head: &RequestHead) -> Result<(), BuildError> {
        let py = environ.py();
        // The templates have the most frequent values already.
        if head.method() != USUAL_METHOD.as_bytes() {
            environ.set_item(intern!(py, "REQUEST_METHOD"), method(py, head.method())?)?;
        }
        if !head.query().is_empty() {
            environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, head.query())?)?;
        }
        if head.version() != Version::HTTP_11 {
            environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol(py, head)?)?;
        }
        let target = latin1(py, head.target())?;
        environ.set_item(intern!(py, "RAW_URI"), &target)?;
        if head.scheme() == Some(Scheme::Https) {
            environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?;
        }
        if let Some(host) = head.absolute_host() {
            environ.set_item(intern!(py, "HTTP_HOST"), latin1(py, host)?)?;
        }
        self.set_path(environ, head, &target)
    }

    fn set_path(
        &self,
        environ: &Bound<'_, PyDict>,
        head: &RequestHead,
        target: &Bound<'_, PyString>,
    ) -> Result<(), BuildError> {
        let py = environ.py();
        let mut path = head.path();
        let script = head.script_name().unwrap_or(&self.script_name);
        if !script.is_empty() {
            path = head.path_after(script)?;
        }
        // The templates have that of the environment.
        if *script != *self.script_name {
            environ.set_item(intern!(py, "SCRIPT_NAME"), latin1(py, script)?)?;
        }
        let decoded = percent_decode_path(path);
        // A target that is nothing but a path is the same text.
        if *decoded == *head.target() {
            environ.set_item(intern!(py, "PATH_INFO"), target)?;
        } else {
            environ.set_item(intern!(py, "PATH_INFO"), latin1(py, &decoded)?)?;
        }
        Ok(())
    }

    /// Copies the template of a listener and sets what the fields say. `section`: their stamp, or 0.
    fn with_headers<'py>(
        &self,
        py: Python<'py>,
        head: &RequestHead,
        section: usize,
        listener: usize,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (template, edition) = (self.templates[listener].bind(py), self.edition());
        // The value of Host may be that of the target.
        let section = if head.absolute_host().is_some() { 0 } else { section };
        if section != 0
            && let Some((environ, _)) = self.sections.copy(py, section, listener)?
        {
            return Ok(environ);
        }
        let environ = template.copy()?;
        self.set_headers(py, &environ, head)?;
        if section != 0 {
            let known =
                KnownEnviron { stamp: section, listener, peer: None, environ: environ.copy()?.unbind() };
            self.keep(&self.sections, edition, known);
        }
        Ok(environ)
    }

    /// Keeps a template that was made of those of `edition`. A copy may run finalizers, and those other requests: it is
    /// perhaps of templates that are no more.
    fn keep(&self, among: &KnownEnvirons, edition: u32, known: KnownEnviron) {
        if self.edition() == edition {
            among.keep(known);
        }
    }

    fn set_headers<'py>(
        &self,
        py: Python<'py>,
        environ: &Bound<'py, PyDict>,
        head: &RequestHead,
    ) -> PyResult<()> {
        for field in head.fields() {
            let key = self.key(py, field.name)?;
            let value = latin1(py, field.value)?;
            if let Some(before) = set_default(environ, &key, value.as_any())? {
                // Cookie is the one field whose repetitions may not be joined by a comma (RFC 6265 section
                // 5.4).
                let separator = if field.name.eq_ignore_ascii_case(b"cookie") { "; " } else { "," };
                let joined = before.add(separator)?.add(value)?;
                environ.set_item(key, joined)?;
            }
        }
        Ok(())
    }

    fn key<'py>(&self, py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyString>> {
        let known = self.names.borrow().get(name).map(|key| key.clone_ref(py));
        if let Some(key) = known {
            return Ok(key.into_bound(py));
        }
        let mut text = Vec::with_capacity(name.len() + 5);
        if !(name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"content-length")) {
            text.extend_from_slice(b"HTTP_");
        }
        text.extend(name.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }));
        if self.names.borrow().len() >= CACHED_NAMES_MAX {
            return latin1(py, &text);
        }
        // Applications look up by literals, which are interned: the same object is found without a
        // comparison.
        let key = match std::str::from_utf8(&text) {
            Ok(text) => PyString::intern(py, text),
            Err(_) => latin1(py, &text)?,
        };
        let former = self.names.borrow_mut().insert(name.into(), key.clone().unbind());
        drop(former);
        Ok(key)
    }

    fn set_peer(&self, environ: &Bound<'_, PyDict>, peer: PeerAddr) -> PyResult<()> {
        let py = environ.py();
        let slot = usize::from(peer.port().unwrap_or_default()) % CACHED_PEERS;
        let known = self.peers.borrow()[slot].as_ref().filter(|texts| texts.peer == peer).map(|texts| {
            let port = texts.port.as_ref().map(|port| port.clone_ref(py));
            (texts.address.clone_ref(py), port)
        });
        let (address, port) = match known {
            Some(known) => known,
            None => self.peer_texts(py, peer, slot)?,
        };
        environ.set_item(intern!(py, "REMOTE_ADDR"), address)?;
        if let Some(port) = port {
            environ.set_item(intern!(py, "REMOTE_PORT"), port)?;
        }
        Ok(())
    }

    /// Makes the texts of a peer, and remembers them.
    fn peer_texts(
        &self,
        py: Python<'_>,
        peer: PeerAddr,
        slot: usize,
    ) -> PyResult<(Py<PyString>, Option<Py<PyString>>)> {
        let address = latin1(py, peer.ip_text().as_bytes())?.unbind();
        let port = peer.port().map(|port| latin1(py, itoa::Buffer::new().format(port).as_bytes()));
        let port = port.transpose()?.map(Bound::unbind);
        let texts = PeerTexts {
            peer,
            address: address.clone_ref(py),
            port: port.as_ref().map(|port| port.clone_ref(py)),
        };
        let before = self.peers.borrow_mut()[slot].replace(texts);
        drop(before);
        Ok((address, port))
    }

    /// Puts objects into the templates by `set`, and with that into every environ to come. May run Python.
    ///
    /// # Errors
    /// Any error of `set`.
    pub(super) fn set_in_templates(
        &self,
        py: Python<'_>,
        set: impl Fn(&Bound<'_, PyDict>) -> PyResult<()>,
    ) -> PyResult<()> {
        let done = self.templates.iter().try_for_each(|template| set(template.bind(py)));
        // Not before: an environ that is copied meanwhile may still have the former objects, and so may a template of a
        // head.
        self.edition.set(self.edition().wrapping_add(1));
        self.sections.clear();
        self.heads.clear();
        done
    }

    /// Returns how many templates hold the objects that are put into them.
    pub(super) fn templates_count(&self) -> usize {
        self.templates.len() + self.sections.count() + self.heads.count()
    }

    /// Returns how often the templates have got other objects.
    pub(super) fn edition(&self) -> u32 {
        self.edition.get()
    }
}

/// The environ texts of one peer. A connection that is kept alive asks for the same ones again.
struct PeerTexts {
    peer: PeerAddr,
    address: Py<PyString>,
    port: Option<Py<PyString>>,
}

/// FNV-1a, for header names: they are short, and an attacker's can only slow down a table of
/// [`CACHED_NAMES_MAX`] entries.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let start = self.0 ^ OFFSET;
        self.0 = bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    }

    // A slice's length adds nothing to its bytes.
    fn write_usize(&mut self, _: usize) {}
}

/// Makes the template of a listener. Its keys are interned, as the literals are by which they are looked up
/// and set: the same object is found without a comparison.
fn template(
    facts: &ServerFacts,
    constants: &Bound<'_, PyDict>,
    listener: &ListenerName,
) -> PyResult<Py<PyDict>> {
    let template = PyDict::new(constants.py());
    for (key, value) in constants {
        set_interned(&template, key.cast::<PyString>()?.to_str()?, value)?;
    }
    set_interned(&template, "SERVER_SOFTWARE", &facts.software)?;
    let script_name = trim_script_name(facts.script_name.as_bytes());
    set_interned(&template, "SCRIPT_NAME", latin1(template.py(), script_name)?)?;
    set_interned(&template, "wsgi.version", (1, 0))?;
    set_interned(&template, "wsgi.url_scheme", "http")?;
    set_interned(&template, "wsgi.multithread", facts.multithread)?;
    set_interned(&template, "wsgi.multiprocess", facts.multiprocess)?;
    set_interned(&template, "wsgi.run_once", false)?;
    set_interned(&template, "wsgi.input_terminated", true)?;
    let py = template.py();
    set_interned(&template, "REQUEST_METHOD", PyString::intern(py, USUAL_METHOD))?;
    set_interned(&template, "QUERY_STRING", "")?;
    set_interned(&template, "SERVER_PROTOCOL", PyString::intern(py, "HTTP/1.1"))?;
    reserve(&template)?;
    if let ListenerName::Tcp { host, port } = listener {
        set_interned(&template, "REMOTE_PORT", "")?;
        set_interned(&template, "SERVER_NAME", host)?;
        set_interned(&template, "SERVER_PORT", port.to_string())?;
    }
    Ok(template.unbind())
}

fn set_interned<'py>(dict: &Bound<'py, PyDict>, key: &str, value: impl IntoPyObject<'py>) -> PyResult<()> {
    dict.set_item(PyString::intern(dict.py(), key), value)
}

/// Gives every key that each request sets its place in the template: a copy then has room for the headers,
/// and filling it moves nothing (CPython copies a dict with its table as it is).
fn reserve(template: &Bound<'_, PyDict>) -> PyResult<()> {
    const EACH: [&str; 6] = [
        "RAW_URI",
        "PATH_INFO",
        "REMOTE_ADDR",
        "wsgi.early_hints",
        "rgunicorn.client_disconnected",
        "gunicorn.socket",
    ];
    EACH.iter().try_for_each(|key| set_interned(template, key, ""))
}

fn method<'py>(py: Python<'py>, method: &[u8]) -> PyResult<Bound<'py, PyString>> {
    Ok(match method {
        b"POST" => intern!(py, "POST").clone(),
        b"HEAD" => intern!(py, "HEAD").clone(),
        b"PUT" => intern!(py, "PUT").clone(),
        b"DELETE" => intern!(py, "DELETE").clone(),
        other => latin1(py, other)?,
    })
}

fn protocol<'py>(py: Python<'py>, head: &RequestHead) -> PyResult<Bound<'py, PyString>> {
    Ok(match head.version() {
        Version::HTTP_10 => intern!(py, "HTTP/1.0").clone(),
        _ => latin1(py, head.version_text())?,
    })
}

/// Sets the facts of a PROXY header. Without addresses the peer is the client, and its other end is not
/// known.
fn set_proxy(environ: &Bound<'_, PyDict>, request: &Request) -> PyResult<()> {
    let py = environ.py();
    let Some(header) = &request.proxied else { return Ok(()) };
    environ.set_item(intern!(py, "PROXY_PROTOCOL"), header.protocol.name())?;
    if let Some(addresses) = header.addresses {
        environ.set_item(intern!(py, "PROXY_ADDR"), addresses.destination.ip().to_string())?;
        environ.set_item(intern!(py, "PROXY_PORT"), addresses.destination.port().to_string())?;
    }
    Ok(())
}

/// Sets SERVER_NAME and SERVER_PORT of a unix socket: those of the host that the request is for, with the scheme's port
/// if it names none.
fn set_unix_server(
    py: Python<'_>,
    environ: &Bound<'_, PyDict>,
    head: &RequestHead,
    path: &str,
) -> PyResult<()> {
    let (name, port) = match head.host().filter(|host| !host.is_empty()) {
        None => (path.as_bytes(), &b""[..]),
        Some(host) => {
            let default: &[u8] = if head.scheme() == Some(Scheme::Https) { b"443" } else { b"80" };
            match memchr::memrchr(b':', host) {
                // A colon inside brackets belongs to an IPv6 address.
                Some(at) if host.ends_with(b":") => (&host[..at], default),
                Some(at) if !host[at..].contains(&b']') => (&host[..at], &host[at + 1..]),
                _ => (host, default),
            }
        }
    };
    environ.set_item(intern!(py, "SERVER_NAME"), latin1(py, name)?)?;
    environ.set_item(intern!(py, "SERVER_PORT"), latin1(py, port)?)
}
