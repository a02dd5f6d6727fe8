//! `start_response`, `write`, and the bytes that a response becomes.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::py::{native_bytes, pair, shared_bytes};
use rgunicorn_http::{Framing, ResponseFacts, ResponseHead};
use rgunicorn_server::response::Outgoing;
use rgunicorn_server::worker::{Flow, RequestId};

use super::current::{calls, current};
use super::hints::HintTarget;
use super::link::Link;

/// Body items up to this size are copied behind the head into one buffer and leave in one segment; larger ones leave from
/// the Python object itself. Copying 16 KiB costs about as much as the second I/O vector saves.
const COPIED_ITEM_BYTES_MAX: usize = 16 * 1024;

/// Items of a list are joined up to this size before they are sent.
const JOINED_BYTES_MAX: usize = 64 * 1024;

/// State of one response.
pub(super) struct Progress {
    pub(super) conn: RequestId,
    pub(super) facts: ResponseFacts,
    pub(super) head: ResponseHead,
    /// `start_response` was called (and not taken back by an error).
    pub(super) started: bool,
    /// What the body does, once the head has been made into bytes.
    pub(super) framing: Option<Framing>,
    /// Body bytes given to the connection, without chunk framing.
    pub(super) sent_bytes: u64,
    /// Body bytes were dropped because the response may have none.
    pub(super) dropped_body: bool,
    /// Nothing may be added any more: the connection may already carry the next response.
    pub(super) over: bool,
}

/// The bytes of some items, in pieces: ours copied together, large ones of the application's by reference.
pub(super) struct Pieces {
    ready: Vec<Outgoing>,
    tail: Vec<u8>,
}

impl Pieces {
    pub(super) fn new(tail: Vec<u8>) -> Self {
        Self { ready: Vec::new(), tail }
    }

    /// Nothing has been appended.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.tail.is_empty()
    }

    /// Enough for one send.
    pub(super) fn is_large(&self) -> bool {
        !self.ready.is_empty() || self.tail.len() >= JOINED_BYTES_MAX
    }

    fn push_large(&mut self, body: Bytes) {
        let head = std::mem::take(&mut self.tail);
        self.ready.push(Outgoing::Bytes { head, body });
    }

    /// Gives everything to the connection, in order. `last`: the response ends here.
    pub(super) fn send(self, link: Link<'_>, conn: RequestId, last: bool) -> Flow {
        let mut flow = Flow::Sent;
        let tail = if self.tail.is_empty() {
            link.recycle(self.tail);
            None
        } else {
            Some(Outgoing::from(self.tail))
        };
        for piece in self.ready.into_iter().chain(tail) {
            flow = link.send(conn, piece, last);
            if flow == Flow::Gone {
                break;
            }
        }
        // What has left is let go of now: one call may send more than memory holds.
        link.run_deferred_drops();
        flow
    }
}

impl Progress {
    /// The head has been made into bytes; nothing of it can change any more.
    pub(super) fn head_sent(&self) -> bool {
        self.framing.is_some()
    }

    /// Appends the head, if it has not left yet.
    fn begin(&mut self, link: Link<'_>, pieces: &mut Pieces) {
        if self.framing.is_none() && self.started {
            let facts = ResponseFacts {
                keep_alive: self.facts.keep_alive && link.keeps_alive() && !link.is_detached(self.conn),
                ..self.facts
            };
            let date = link.date();
            self.framing = Some(self.head.finish(&facts, server(), &date, &mut pieces.tail));
        }
    }

    /// Appends one item of the body (and the head before it, if that has not left). `false`: there is no head, because
    /// the application has not called `start_response`.
    pub(super) fn append(&mut self, link: Link<'_>, pieces: &mut Pieces, item: &Bound<'_, PyBytes>) -> bool {
        let data = item.as_bytes();
        if data.is_empty() {
            return true;
        }
        self.begin(link, pieces);
        let Some(framing) = &mut self.framing else {
            return false;
        };
        let frame = framing.frame(data.len());
        if frame.take == 0 {
            self.dropped_body |= !framing.body_allowed();
            return true;
        }
        self.sent_bytes += frame.take as u64;
        pieces.tail.extend_from_slice(frame.prefix.as_bytes());
        if frame.take <= COPIED_ITEM_BYTES_MAX {
            pieces.tail.extend_from_slice(&data[..frame.take]);
        } else {
            pieces.push_large(shared_bytes(item).slice(..frame.take));
        }
        pieces.tail.extend_from_slice(frame.suffix);
        true
    }

    /// Appends the head and the framing of a file's part of `rest` bytes. Returns how many of them to send and what
    /// follows them.
    pub(super) fn append_file(&mut self, link: Link<'_>, pieces: &mut Pieces, rest: u64) -> (u64, Vec<u8>) {
        self.begin(link, pieces);
        let Some(framing) = &mut self.framing else {
            return (0, Vec::new());
        };
        let frame = framing.frame(usize::try_from(rest).unwrap_or(usize::MAX));
        let len = frame.take as u64;
        pieces.tail.extend_from_slice(frame.prefix.as_bytes());
        self.sent_bytes += len;
        let mut suffix = frame.suffix.to_vec();
        suffix.extend_from_slice(framing.last());
        (len, suffix)
    }

    /// Appends what ends the response: the head if there was no body, and the last chunk. `false` as [`Self::append`].
    pub(super) fn end(&mut self, link: Link<'_>, pieces: &mut Pieces) -> bool {
        self.begin(link, pieces);
        if let Some(framing) = &mut self.framing {
            pieces.tail.extend_from_slice(framing.last());
        }
        self.framing.is_some()
    }

    /// The body is sent in chunks.
    pub(super) fn is_chunked(&self) -> bool {
        self.framing.as_ref().is_some_and(Framing::is_chunked)
    }

    /// The connection may serve another request.
    pub(super) fn keeps_alive(&self) -> bool {
        self.framing.as_ref().is_some_and(|framing| framing.keep_alive() && framing.complete())
    }

    /// What the application did wrong without an exception, for the log.
    pub(super) fn fault(&self) -> Option<String> {
        if self.framing.as_ref().is_some_and(|framing| !framing.complete()) {
            return Some("the body is shorter than its Content-Length; closing the connection".to_owned());
        }
        // HEAD is often answered with the body of GET; that is no fault.
        (self.dropped_body && !self.facts.head_request)
            .then(|| format!("the body was dropped, a {} response has none", self.head.status_code()))
    }
}

/// The `Server` header's value, unless the configuration has another one.
const SERVER: &[u8] = b"rgunicorn";
/// The configuration's.
static OWN_SERVER: OnceLock<Vec<u8>> = OnceLock::new();

/// Makes `name` the value of the `Server` header, once per process. A name that is no header value is not taken.
pub fn set_server(name: &str) {
    if !name.is_empty() && name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        let _ = OWN_SERVER.set(name.as_bytes().to_vec());
    }
}

fn server() -> &'static [u8] {
    OWN_SERVER.get().map_or(SERVER, Vec::as_slice)
}

/// The ticket for early hints; HTTP/1.0 knows no interim responses.
fn hinted(conn: RequestId, facts: ResponseFacts) -> u64 {
    if facts.version >= (1, 1) { conn.to_raw() } else { 0 }
}

/// The `start_response` callable of one request.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct StartResponse {
    progress: Mutex<Progress>,
    hints: HintTarget,
}

impl StartResponse {
    /// `hints`: where early hints go until the head has left.
    pub(super) fn new(conn: RequestId, facts: ResponseFacts, hints: HintTarget) -> Self {
        hints.set_target(hinted(conn, facts));
        Self {
            hints,
            progress: Mutex::new(Progress {
                conn,
                facts,
                head: ResponseHead::new(),
                started: false,
                framing: None,
                sent_bytes: 0,
                dropped_body: false,
                over: false,
            }),
        }
    }

    /// Prepares a used object, which nobody else holds, for the next request.
    pub(super) fn reset(&self, conn: RequestId, facts: ResponseFacts) {
        let mut progress = self.progress();
        progress.conn = conn;
        progress.facts = facts;
        progress.head.clear();
        progress.started = false;
        progress.framing = None;
        progress.sent_bytes = 0;
        progress.dropped_body = false;
        progress.over = false;
        self.hints.set_target(hinted(conn, facts));
    }

    /// The response is complete, or will never be: whoever still holds this object, its `write` or the early hints can
    /// do nothing with them any more.
    pub(super) fn close(&self) {
        self.progress().over = true;
        self.hints.set_target(0);
    }

    /// Appends an item as [`Progress::append`] does. The head leaves with the first: early hints end here.
    pub(super) fn append(&self, link: Link<'_>, pieces: &mut Pieces, item: &Bound<'_, PyBytes>) -> bool {
        let mut progress = self.progress();
        let appended = progress.append(link, pieces, item);
        if progress.head_sent() {
            self.hints.set_target(0);
        }
        appended
    }

    /// The state. No Python may run while the guard is alive.
    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the head may still be replaced; else the error that PEP 3333 wants.
    fn check_start(&self, exc_info: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (started, sent) = {
            let progress = self.progress();
            (progress.started, progress.head_sent())
        };
        match exc_info.filter(|info| !info.is_none()) {
            Some(info) if sent => {
                let info = info.cast::<PyTuple>()?;
                let (value, traceback) = (info.get_item(1)?, info.get_item(2)?);
                Err(PyErr::from_value(value.call_method1("with_traceback", (traceback,))?))
            }
            None if started => Err(PyAssertionError::new_err("Response headers already set!")),
            Some(_) | None => Ok(()),
        }
    }
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info=None))]
    fn __call__<'py>(
        this: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Write> {
        let me = this.get();
        me.check_start(exc_info)?;
        // Taken out while Python may run (iterating `headers`); put back below.
        let mut head = std::mem::take(&mut me.progress().head);
        head.clear();
        let filled = fill(&mut head, status, headers);
        let mut progress = me.progress();
        progress.head = head;
        progress.started = filled.is_ok();
        drop(progress);
        filled?;
        Ok(Write { response: this.clone().unbind() })
    }
}

fn fill(head: &mut ResponseHead, status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
    let refuse = |error: rgunicorn_http::ResponseError| PyValueError::new_err(error.to_string());
    head.status(&native_bytes(status)?).map_err(refuse)?;
    for item in headers.try_iter()? {
        let (name, value) = pair(&item?)?;
        head.header(&native_bytes(&name)?, &native_bytes(&value)?).map_err(refuse)?;
    }
    Ok(())
}

/// The imperative `write` that `start_response` returns.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct Write {
    response: Py<StartResponse>,
}

#[pymethods]
impl Write {
    fn __call__(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(data) = data.cast::<PyBytes>() else {
            return Err(PyTypeError::new_err(format!("{} is not a byte", data.repr()?)));
        };
        let here = current()?;
        let link = here.link();
        let response = self.response.get();
        let (conn, over) = {
            let progress = response.progress();
            (progress.conn, progress.over)
        };
        if over {
            return Err(PyRuntimeError::new_err("write() after the end of the response"));
        }
        let mut pieces = Pieces::new(link.buffer());
        // `write` exists only after start_response.
        let _ = response.append(link, &mut pieces, data);
        let mut flow = pieces.send(link, conn, false);
        if flow == Flow::Queued
            && let Ok(calls) = calls()
            && let Some(drained) = calls.drained(py, link, conn)
        {
            flow = drained?;
        }
        match flow {
            // Without this an application that writes for ever would never learn of it.
            Flow::Gone => Err(PyBrokenPipeError::new_err("the client has closed the connection")),
            Flow::Sent | Flow::Queued => Ok(()),
        }
    }
}
