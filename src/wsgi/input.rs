//! `wsgi.input`: over a body that is already complete, or (in cooperative mode) over one that still arrives,
//! where a read waits and lets others run.

use std::any::Any;
use std::cell::Cell;
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pyo3::create_exception;
use pyo3::exceptions::{PyConnectionResetError, PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

use rgunicorn_io::sys::tempfile::TemporaryFile;
use rgunicorn_server::worker::{Body, BodyFault, BodyMemory, BodyRead, RequestId};

use super::current;
use super::responder::Responder;

/// Bytes looked at per step when a line is searched in a file.
const LINE_STEP_BYTES: u64 = 8192;
/// Bytes taken from a connection at once.
const READ_BYTES_MAX: usize = 64 * 1024;

/// The request body: `read`, `readline`, `readlines` and iteration, as PEP 3333 asks. Past the end every read
/// gives `b""`.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct Input {
    state: Mutex<State>,
}

/// A body that is read.
struct State {
    /// All of it, while nothing was read.
    whole: Option<PyBackedBytes>,
    /// Without that, the part that is left.
    rest: Reading,
}

impl State {
    /// Returns the part that is left.
    fn rest(&mut self) -> &mut Reading {
        if let Some(whole) = self.whole.take() {
            self.rest = Reading::Memory(Bytes::from_owner(whole));
        }
        &mut self.rest
    }
}

/// A complete body as the object that a read of all of it gives.
#[derive(Debug)]
struct WholeBody(PyBackedBytes);

impl BodyMemory for WholeBody {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Copies a body into an object of Python's. For the thread that runs the application and receives between two calls:
/// another one would wait for the interpreter.
pub fn make_body_memory(data: &[u8]) -> Option<Box<dyn BodyMemory>> {
    Python::attach(|py| Some(Box::new(WholeBody(PyBytes::new(py, data).into())) as Box<dyn BodyMemory>))
}

/// The part of a body that is left.
enum Reading {
    Memory(Bytes),
    File {
        file: TemporaryFile,
        /// Bytes of the file not read from it yet.
        left: u64,
        /// Read from the file beyond what was asked for; used up to `used`.
        ahead: Vec<u8>,
        used: usize,
    },
    /// A body whose rest is still to come.
    Incoming {
        /// The request.
        id: RequestId,
        /// Taken from the connection beyond what was asked for; used up to `used`.
        ahead: Vec<u8>,
        used: usize,
    },
}

impl Input {
    /// Makes an input over the body of the request in progress on a connection. To be closed when the request
    /// is over.
    pub(super) fn incoming(id: RequestId) -> Self {
        Self::of(None, Reading::Incoming { id, ahead: Vec::new(), used: 0 })
    }

    /// Drops the rest of the body: the request is over.
    pub(super) fn close(&self) {
        *self.state().rest() = Reading::Memory(Bytes::new());
    }

    /// Takes more from the connection until `enough` says so of the bytes that are held, or the end has come.
    /// Waits for it.
    ///
    /// # Errors
    /// [`RequestBodyError`] or `ConnectionResetError` when no more will come, and exceptions that are thrown
    /// into a waiting greenlet.
    fn fill(&self, py: Python<'_>, enough: impl Fn(&[u8]) -> bool) -> PyResult<()> {
        loop {
            let id = match &self.state().rest {
                Reading::Incoming { id, ahead, used } if !enough(&ahead[*used..]) => *id,
                _ => return Ok(()),
            };
            let responder = current::responder()?;
            match responder.read_body(id, READ_BYTES_MAX) {
                BodyRead::Data(data) => {
                    if let Reading::Incoming { ahead, used, .. } = &mut self.state().rest {
                        ahead.drain(..std::mem::take(used));
                        ahead.extend_from_slice(&data);
                    }
                }
                BodyRead::End => {
                    let rest = &mut self.state().rest;
                    if let Reading::Incoming { ahead, used, .. } = rest {
                        *rest = Reading::Memory(ahead.split_off(*used).into());
                    }
                }
                BodyRead::Pending => responder.wait_body(py, id)?,
                BodyRead::Failed(fault) => return Err(body_error(py, &*responder, id, fault)),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an input over `body`, which starts at its first byte.
    pub fn new(body: Body) -> Self {
        let rest = match body {
            // What still arrives is read by `Input::incoming`.
            Body::Empty | Body::Incoming => Reading::Memory(Bytes::new()),
            Body::Memory(held) => Reading::Memory(held.into()),
            Body::Whole(held) => match held.into_any().downcast::<WholeBody>() {
                Ok(whole) => return Self::of(Some(whole.0), Reading::Memory(Bytes::new())),
                Err(_) => unreachable!("there is no other memory of the application's"),
            },
            Body::File { file, len, .. } => Reading::File { file, left: len, ahead: Vec::new(), used: 0 },
        };
        Self::of(None, rest)
    }

    fn of(whole: Option<PyBackedBytes>, rest: Reading) -> Self {
        Self { state: Mutex::new(State { whole, rest }) }
    }

    /// Runs `act` on the state. No Python can run inside.
    fn with(&self, act: impl FnOnce(&mut Reading) -> std::io::Result<Bytes>) -> PyResult<Bytes> {
        Ok(act(self.state().rest())?)
    }

    /// Takes the whole body, if it is an object, nothing was read of it, and `limit` does not cut it.
    fn take_whole(&self, limit: usize) -> Option<PyBackedBytes> {
        self.state().whole.take_if(|whole| whole.len() <= limit)
    }

    fn line(&self, py: Python<'_>, limit: Option<usize>) -> PyResult<Bytes> {
        let limit = limit.unwrap_or(usize::MAX);
        // What was searched once is not searched again: a line may be as long as a body.
        let searched = Cell::new(0);
        self.fill(py, |held| {
            let from = searched.replace(held.len());
            held.len() >= limit || memchr::memchr(b'\n', &held[from..]).is_some()
        })?;
        self.with(|state| state.line(limit))
    }
}

impl Reading {
    fn read(&mut self, limit: usize) -> std::io::Result<Bytes> {
        match self {
            Self::Memory(rest) => Ok(rest.split_to(rest.len().min(limit))),
            Self::Incoming { ahead, used, .. } => Ok(take(ahead, used, limit).into()),
            Self::File { file, left, ahead, used } => {
                let mut out = take(ahead, used, limit);
                let want = usize::try_from(*left).unwrap_or(usize::MAX).min(limit - out.len());
                out.reserve_exact(want);
                let n = file.take(want as u64).read_to_end(&mut out)?;
                // A file that became shorter by itself has no more to give.
                *left = if n < want { 0 } else { *left - n as u64 };
                Ok(out.into())
            }
        }
    }

    fn line(&mut self, limit: usize) -> std::io::Result<Bytes> {
        let (file, left, ahead, used) = match self {
            Self::Memory(rest) => {
                let window = &rest[..rest.len().min(limit)];
                let end = memchr::memchr(b'\n', window).map_or(window.len(), |at| at + 1);
                return Ok(rest.split_to(end));
            }
            Self::Incoming { ahead, used, .. } => {
                let window = &ahead[*used..];
                let window = &window[..window.len().min(limit)];
                let end = memchr::memchr(b'\n', window).map_or(window.len(), |at| at + 1);
                return Ok(take(ahead, used, end).into());
            }
            Self::File { file, left, ahead, used } => (file, left, ahead, used),
        };
        let mut searched = 0;
        loop {
            let held = &ahead[*used..];
            let window = &held[..held.len().min(limit)];
            if let Some(at) = memchr::memchr(b'\n', &window[searched..]) {
                return Ok(take(ahead, used, searched + at + 1).into());
            }
            searched = window.len();
            if searched == limit || *left == 0 {
                return Ok(take(ahead, used, limit).into());
            }
            ahead.drain(..*used);
            *used = 0;
            let n = file.take((*left).min(LINE_STEP_BYTES)).read_to_end(ahead)?;
            *left = if n == 0 { 0 } else { *left - n as u64 };
        }
    }
}

/// Takes at most `limit` of the bytes that were read ahead.
fn take(ahead: &[u8], used: &mut usize, limit: usize) -> Vec<u8> {
    let rest = &ahead[*used..];
    let taken = rest[..rest.len().min(limit)].to_vec();
    *used += taken.len();
    taken
}

create_exception!(
    rgunicorn._rgunicorn,
    RequestBodyError,
    PyOSError,
    "The rest of a request body cannot be read. `status` is what the server answers with if the application does not."
);

/// Makes the error that a read raises when no more will come.
fn body_error(py: Python<'_>, responder: &dyn Responder, id: RequestId, fault: BodyFault) -> PyErr {
    match fault {
        BodyFault::Gone => {
            // Half a request cannot be answered.
            responder.abort(id);
            PyConnectionResetError::new_err("the client has left before the end of the request body")
        }
        BodyFault::Framing(error) => unreadable(py, error.to_string(), error.status()),
        BodyFault::Stalled => unreadable(py, "the client has stopped sending".to_owned(), 408),
    }
}

/// Makes a [`RequestBodyError`]. Its status is an attribute: two arguments of an `OSError` would be an error
/// number and its text.
fn unreadable(py: Python<'_>, text: String, status: u16) -> PyErr {
    let error = RequestBodyError::new_err(text);
    match error.value(py).setattr("status", status) {
        Ok(()) => error,
        Err(other) => other,
    }
}

/// Reads a size argument: `None` and negative numbers mean "all"; anything else must be an integer.
fn limit(size: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    let Some(size) = size.filter(|size| !size.is_none()) else {
        return Ok(None);
    };
    let size: i64 = size.extract().map_err(|_| PyTypeError::new_err("size must be an integral type"))?;
    Ok(usize::try_from(size).ok())
}

#[pymethods]
impl Input {
    /// Reads at most `size` bytes; without it all that is left.
    #[pyo3(signature = (size=None))]
    fn read<'py>(&self, py: Python<'py>, size: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyBytes>> {
        let limit = limit(size)?.unwrap_or(usize::MAX);
        if let Some(whole) = self.take_whole(limit) {
            let Ok(whole) = whole.into_pyobject(py);
            return Ok(whole);
        }
        self.fill(py, |held| held.len() >= limit)?;
        let data = self.with(|state| state.read(limit))?;
        Ok(PyBytes::new(py, &data))
    }

    /// Reads up to and with the next newline, at most `size` bytes.
    #[pyo3(signature = (size=None))]
    fn readline<'py>(
        &self,
        py: Python<'py>,
        size: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let limit = limit(size)?;
        Ok(PyBytes::new(py, &self.line(py, limit)?))
    }

    /// Reads all lines that are left; with `hint`, lines until about so many bytes.
    #[pyo3(signature = (hint=None))]
    fn readlines<'py>(
        &self,
        py: Python<'py>,
        hint: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let hint = limit(hint)?.filter(|hint| *hint > 0).unwrap_or(usize::MAX);
        let lines = PyList::empty(py);
        let mut total = 0;
        while total < hint {
            let line = self.line(py, None)?;
            if line.is_empty() {
                break;
            }
            total += line.len();
            lines.append(PyBytes::new(py, &line))?;
        }
        Ok(lines)
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.line(py, None)?;
        Ok((!line.is_empty()).then(|| PyBytes::new(py, &line)))
    }
}
