//! `wsgi.file_wrapper`.

use pyo3::exceptions::PyStopIteration;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

/// An iterator over a file-like object in blocks. A response that is exactly an instance of this class,
/// around something with `fileno()` and `seek()`, leaves by sendfile(2).
#[pyclass(frozen, subclass, module = "rgunicorn._rgunicorn")]
pub struct FileWrapper {
    /// The wrapped object.
    #[pyo3(get)]
    filelike: Py<PyAny>,
    /// Bytes per block.
    #[pyo3(get)]
    blksize: i64,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=8192))]
    fn new(filelike: Py<PyAny>, blksize: i64) -> Self {
        Self { filelike, blksize }
    }

    /// Shows the collector the file, which may lead back to its wrapper; the cycle is broken on the file's
    /// side.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.filelike)
    }

    /// Returns the `close` of the wrapped object; AttributeError if that has none, as PEP 3333 wants it.
    #[getter]
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.filelike.bind(py).getattr("close")
    }

    fn __getitem__<'py>(&self, py: Python<'py>, _key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.next_block(py)?.ok_or_else(|| pyo3::exceptions::PyIndexError::new_err("end of file"))
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.next_block(py)?.ok_or_else(|| PyStopIteration::new_err(()))
    }
}

impl FileWrapper {
    fn next_block<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.filelike.bind(py).call_method1("read", (self.blksize,))?;
        Ok(block.is_truthy()?.then_some(block))
    }

    /// Returns the wrapped object.
    pub(super) fn wrapped<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.filelike.bind(py)
    }
}
