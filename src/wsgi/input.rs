//! `wsgi.input` over a body that is already complete.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::worker::Body;

/// Bytes looked at per step when a line is searched in a file.
const LINE_STEP_BYTES: usize = 8192;

/// The request body: `read`, `readline`, `readlines` and iteration, as PEP 3333 asks. Past the end every read gives
/// `b""`.
#[pyclass(frozen, module = "rgunicorn._rgunicorn")]
pub struct Input {
    state: Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    body: Body,
    /// Bytes of an in-memory body already read.
    offset: usize,
    /// Bytes read from the file beyond what was asked for.
    ahead: Vec<u8>,
}

impl Input {
    /// An input over `body`, which starts at its first byte.
    pub fn new(body: Body) -> Self {
        Self { state: Mutex::new(Reading { body, ..Reading::default() }) }
    }

    /// Runs `act` on the state. No Python can run inside.
    fn with<R>(&self, act: impl FnOnce(&mut Reading) -> std::io::Result<R>) -> PyResult<R> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut state).map_err(|error| PyOSError::new_err(error.to_string()))
    }

    fn line(&self, limit: Option<usize>) -> PyResult<Vec<u8>> {
        self.with(|state| state.line(limit.unwrap_or(usize::MAX)))
    }
}

impl Reading {
    fn read(&mut self, limit: usize) -> std::io::Result<Vec<u8>> {
        if let Body::Memory(held) = &self.body {
            let rest = held.get(self.offset..).unwrap_or_default();
            let taken = rest[..rest.len().min(limit)].to_vec();
            self.offset += taken.len();
            return Ok(taken);
        }
        let mut out = self.take_ahead(limit);
        let mut step = vec![0; LINE_STEP_BYTES.max(limit.min(1 << 16))];
        while out.len() < limit {
            let want = step.len().min(limit - out.len());
            let n = self.body.read_at(0, &mut step[..want])?;
            if n == 0 {
                break;
            }
            out.extend_from_slice(&step[..n]);
        }
        Ok(out)
    }

    fn take_ahead(&mut self, limit: usize) -> Vec<u8> {
        let n = limit.min(self.ahead.len());
        let rest = self.ahead.split_off(n);
        std::mem::replace(&mut self.ahead, rest)
    }

    fn line(&mut self, limit: usize) -> std::io::Result<Vec<u8>> {
        if let Body::Memory(held) = &self.body {
            let rest = held.get(self.offset..).unwrap_or_default();
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1).min(limit);
            let line = rest[..end].to_vec();
            self.offset += end;
            return Ok(line);
        }
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.ahead[searched..]) {
                return Ok(self.take_ahead((searched + at + 1).min(limit)));
            }
            searched = self.ahead.len();
            if searched >= limit {
                return Ok(self.take_ahead(limit));
            }
            let mut step = [0; LINE_STEP_BYTES];
            let n = self.body.read_at(0, &mut step)?;
            if n == 0 {
                return Ok(self.take_ahead(limit));
            }
            self.ahead.extend_from_slice(&step[..n]);
        }
    }
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
