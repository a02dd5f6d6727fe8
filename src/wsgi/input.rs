//! `wsgi.input` over a body that is already complete.

use std::fs::File;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::worker::Body;

/// Bytes looked at per step when a line is searched in a file.
const LINE_STEP_BYTES: u64 = 8192;

/// The request body: `read`, `readline`, `readlines` and iteration, as PEP 3333 asks. Past the end every read gives
/// `b""`.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct Input {
    state: Mutex<Reading>,
}

/// What is left of a body.
enum Reading {
    Memory(Bytes),
    File {
        file: File,
        /// Bytes of the file not read from it yet.
        left: u64,
        /// Read from the file beyond what was asked for; used up to `used`.
        ahead: Vec<u8>,
        used: usize,
    },
}

impl Input {
    /// An input over `body`, which starts at its first byte.
    pub fn new(body: Body) -> Self {
        let state = match body {
            Body::Empty | Body::Incoming => Reading::Memory(Bytes::new()),
            Body::Memory(held) => Reading::Memory(held.into()),
            Body::File { file, len } => Reading::File { file, left: len, ahead: Vec::new(), used: 0 },
        };
        Self { state: Mutex::new(state) }
    }

    /// Runs `act` on the state. No Python can run inside.
    fn with(&self, act: impl FnOnce(&mut Reading) -> std::io::Result<Bytes>) -> PyResult<Bytes> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(act(&mut state)?)
    }

    fn line(&self, limit: Option<usize>) -> PyResult<Bytes> {
        self.with(|state| state.line(limit.unwrap_or(usize::MAX)))
    }
}

impl Reading {
    fn read(&mut self, limit: usize) -> std::io::Result<Bytes> {
        match self {
            Self::Memory(rest) => Ok(rest.split_to(rest.len().min(limit))),
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

/// At most `limit` bytes of what was read ahead.
fn take(ahead: &[u8], used: &mut usize, limit: usize) -> Vec<u8> {
    let rest = &ahead[*used..];
    let taken = rest[..rest.len().min(limit)].to_vec();
    *used += taken.len();
    taken
}

/// `None` and negative numbers mean "all"; anything else must be an integer.
fn limit(size: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    let Some(size) = size.filter(|size| !size.is_none()) else {
        return Ok(None);
    };
    let size: i64 = size.extract().map_err(|_| PyTypeError::new_err("size must be an integral type"))?;
    Ok(usize::try_from(size).ok())
}

#[pymethods]
impl Input {
    /// At most `size` bytes; all that is left without it.
    #[pyo3(signature = (size=None))]
    fn read<'py>(&self, py: Python<'py>, size: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyBytes>> {
        let limit = limit(size)?;
        let data = self.with(|state| state.read(limit.unwrap_or(usize::MAX)))?;
        Ok(PyBytes::new(py, &data))
    }

    /// Up to and with the next newline, at most `size` bytes.
    #[pyo3(signature = (size=None))]
    fn readline<'py>(
        &self,
        py: Python<'py>,
        size: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let limit = limit(size)?;
        Ok(PyBytes::new(py, &self.line(limit)?))
    }

    /// All lines that are left; with `hint`, lines until about so many bytes.
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
            let line = self.line(None)?;
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
        let line = self.line(None)?;
        Ok((!line.is_empty()).then(|| PyBytes::new(py, &line)))
    }
}
