//! Shared helpers over pyo3: strings, bytes, dicts, tracebacks, signals, greenlets, stacks of a blocked loop.
//! The only `unsafe` of the Python floor is here.
//!
//! The stack rule (docs/architecture.md, "The stack rule"): any call in here that takes a `Python` token may run
//! arbitrary Python, also by dropping the last reference to an object. Callers hold no guard or borrow across it.
#![expect(unsafe_code, reason = "wraps the C API where pyo3 has no safe equivalent that is fast enough")]

mod arena;
mod error;
mod forks;
mod greenlet;
mod lock_probe;
mod overdue;
mod queue_listener;
mod side_thread;
mod signals;
mod stack;
mod vectorcall;
mod watch;

pub use arena::install_chunk_cache;
pub use error::{exit_status, format_exception, is_stop_iteration};
pub use forks::leave_master_handlers;
pub use greenlet::Greenlets;
pub use lock_probe::LockProbe;
pub use queue_listener::QueueListener;
pub use signals::{SignalHooks, WakeupPipe, WorkerSignals};
pub use stack::{GilCell, ThreadBound, WrongOwner, assert_no_borrow};
pub use vectorcall::{Args, FastMethod, MethodPair, install_vectorcall_method, remove_vectorcall_method};
pub use watch::{Describe, Watch, Watchdog, instances};

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::string::PyStringData;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

/// Makes a `str` with one code point per byte: PEP 3333 calls it a native string.
///
/// # Errors
/// `MemoryError`.
pub fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: the pointer and length describe `bytes`, which is copied; the result is a new reference to a str, or null
    // with an exception set.
    unsafe {
        let text = ffi::PyUnicode_DecodeLatin1(
            bytes.as_ptr().cast(),
            bytes.len() as ffi::Py_ssize_t,
            std::ptr::null(),
        );
        Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked())
    }
}

/// Returns the bytes of a native string: those that CPython keeps, one for each code point.
///
/// # Errors
/// `TypeError` when `object` is not a `str`, `UnicodeEncodeError` when a code point is above U+00FF.
#[inline]
pub fn native_bytes<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(text) = object.cast::<PyString>()
        // SAFETY: a valid `str`, whose kind is asked of CPython, or (before 3.14) read out of a bit field as it is laid
        // out on the little-endian machines that this package is for.
        && let Ok(PyStringData::Ucs1(bytes)) = unsafe { text.data() }
    {
        return Ok(Cow::Borrowed(bytes));
    }
    encoded(object).map(Cow::Owned)
}

#[cold]
fn encoded(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let Ok(text) = object.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!("{} is not a string", object.repr()?)));
    };
    let encoded = text.call_method1("encode", ("latin-1",))?;
    Ok(encoded.cast::<PyBytes>()?.as_bytes().to_vec())
}

/// Returns the two items of a tuple, a list or any other iterable that has exactly two.
///
/// # Errors
/// `ValueError` for another number of items, and those of the iteration.
pub fn pair<'py>(object: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if let Ok(tuple) = object.cast_exact::<PyTuple>()
        && let [first, second] = tuple.as_slice()
    {
        return Ok((first.clone(), second.clone()));
    }
    let mut items = object.try_iter()?;
    if let (Some(first), Some(second), None) = (items.next(), items.next(), items.next()) {
        return Ok((first?, second?));
    }
    Err(PyValueError::new_err(format!("{} is not a pair of name and value", object.repr()?)))
}

/// Runs `work`, which calls Python. A panic that started in a method of ours comes back out of Python as a panic (pyo3
/// resumes it when it fetches the `PanicException`); here it becomes an exception again, so that the request that
/// suffered it is ended like any other that failed.
///
/// # Errors
/// Those of `work`, and `RuntimeError` for a panic.
pub fn catch_panic<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
        Err(PyRuntimeError::new_err(format!("internal error: {text}")))
    })
}

/// Runs `work` with the cycle collector at rest, so that no finalizer runs in between but of what `work` lets go of.
pub fn uncollected<R>(_py: Python<'_>, work: impl FnOnce() -> R) -> R {
    /// Lets it work again, also behind a panic.
    struct Rest(bool);

    impl Drop for Rest {
        fn drop(&mut self) {
            if self.0 {
                // SAFETY: `uncollected` holds the interpreter lock.
                unsafe { ffi::PyGC_Enable() };
            }
        }
    }

    // SAFETY: as above.
    let _rest = Rest(unsafe { ffi::PyGC_Disable() } != 0);
    work()
}

/// Sets an attribute by its descriptor, a `descriptor.__set__(object, value)`: without a look at the object's class.
///
/// # Errors
/// Those of the descriptor, and `TypeError` for one that cannot set.
pub fn set_by(
    descriptor: &Bound<'_, PyAny>,
    object: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // SAFETY: the type of a living object, and three valid objects as CPython passes them; a descriptor checks what it
    // is given. -1 means an exception.
    match unsafe {
        let set = (*ffi::Py_TYPE(descriptor.as_ptr())).tp_descr_set;
        set.map(|set| set(descriptor.as_ptr(), object.as_ptr(), value.as_ptr()))
    } {
        Some(0) => Ok(()),
        Some(_) => Err(PyErr::fetch(descriptor.py())),
        None => Err(PyTypeError::new_err("the attribute cannot be set")),
    }
}

/// Sets `key` unless it is there. `Some(existing)` if it was. The dict's length tells: that the value found is not the
/// one given does not, for Python has one object for equal texts of no or one character.
///
/// # Errors
/// Those of hashing and comparing; none for `str` keys but `MemoryError`.
pub fn set_default<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let before = dict.len();
    // SAFETY: all three are valid objects for the whole call; the result is a borrowed reference kept alive by the
    // dict, turned into one of our own before anything else can run.
    let found = unsafe {
        let found = ffi::PyDict_SetDefault(dict.as_ptr(), key.as_ptr(), value.as_ptr());
        Bound::from_borrowed_ptr_or_err(dict.py(), found)?
    };
    Ok((dict.len() == before).then_some(found))
}

/// Runs `wait`, which may block and touches no Python object, with the interpreter lock released.
pub fn blocking(wait: &mut dyn FnMut()) {
    Python::attach(|py| detached(py, wait));
}

/// Does what [`blocking`] does, for callers that know that they hold the interpreter lock.
pub fn detached(py: Python<'_>, wait: &mut dyn FnMut()) {
    struct AssertSend<'a>(&'a mut dyn FnMut());
    // SAFETY: `detach` asks for `Send` as a stand-in for "touches no Python object"; the closure stays on this thread,
    // and the callers' waits touch kernel objects and memory of ours only.
    unsafe impl Send for AssertSend<'_> {}
    impl AssertSend<'_> {
        fn call(self) {
            (self.0)();
        }
    }
    let wait = AssertSend(wait);
    py.detach(move || wait.call());
}

/// Returns whether the caller's reference is the only one.
pub fn is_only_reference<T>(object: &Bound<'_, T>) -> bool {
    is_referenced(object, 1)
}

/// Returns whether there are `count` references to an object, the caller's included, and no weak ones, which are not
/// counted and lead to it as well.
pub fn is_referenced<T>(object: &Bound<'_, T>, count: usize) -> bool {
    // SAFETY: the object is alive, and the interpreter lock keeps its count still.
    let counted = unsafe { ffi::Py_REFCNT(object.as_ptr()) == count as ffi::Py_ssize_t };
    counted && !has_weak_references(object)
}

/// Returns whether weak references lead to an object.
fn has_weak_references<T>(object: &Bound<'_, T>) -> bool {
    let object = object.as_ptr();
    // SAFETY: the object is alive, and so is its type.
    let offset = unsafe { (*ffi::Py_TYPE(object)).tp_weaklistoffset };
    if offset == 0 {
        return false;
    }
    // SAFETY: an offset that is not 0 leads to the head of the object's list of weak references, null without any;
    // before the object where the interpreter manages the list (CPython 3.12).
    unsafe { !object.byte_offset(offset).cast::<*mut ffi::PyObject>().read().is_null() }
}

/// Has `write` write into the first bytes of a buffer, at most `len`; `None` for one that cannot be written to, or is
/// not of one piece. `write` calls no Python.
pub fn write_into<R>(view: &PyBuffer<u8>, len: usize, write: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
    let place = view.as_slice_ptr().filter(|_| !view.readonly())?;
    let len = len.min(place.len());
    // SAFETY: the view keeps its memory where it is, all of it is initialised, and while no Python runs nobody else
    // reads or writes it, as with the standard library's functions that fill buffers.
    Some(write(unsafe { std::slice::from_raw_parts_mut(place.cast::<u8>().as_ptr(), len) }))
}

/// Makes a Python `bytes` object the memory of a [`Bytes`]: no copy, the object lives until the last handle is dropped.
/// Drop that where Python may run.
pub fn shared_bytes(object: &Bound<'_, PyBytes>) -> Bytes {
    Bytes::from_owner(BytesOwner {
        data: std::ptr::from_ref(object.as_bytes()),
        _object: object.clone().unbind(),
    })
}

/// A `bytes` object that lends its contents.
struct BytesOwner {
    /// The contents of `_object`: a bytes object never changes nor moves them.
    data: *const [u8],
    _object: Py<PyBytes>,
}

// SAFETY: `data` is read-only memory that lives as long as `_object`, whose reference may be given up on any thread
// (pyo3 defers it there if the thread is not attached).
unsafe impl Send for BytesOwner {}
// SAFETY: `data` is read-only memory that lives as long as `_object`; sharing allows reading only.
unsafe impl Sync for BytesOwner {}

impl AsRef<[u8]> for BytesOwner {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: see the field.
        unsafe { &*self.data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_exception_that_says_what_it_was() {
        Python::initialize();
        let reported = |work: fn() -> PyResult<()>| {
            Python::attach(|py| catch_panic(work).map_err(|error| error.value(py).to_string()))
        };
        assert_eq!(reported(|| panic!("plain")), Err("internal error: plain".to_owned()));
        assert_eq!(reported(|| panic!("with {}", 1)), Err("internal error: with 1".to_owned()));
        assert_eq!(reported(|| Err(PyValueError::new_err("mine"))), Err("mine".to_owned()));
        assert_eq!(reported(|| Ok(())), Ok(()));
    }

    #[test]
    fn a_key_that_is_there_is_told_from_a_new_one_whatever_the_value() {
        Python::initialize();
        Python::attach(|py| {
            for text in ["", "1", "é", "longer"] {
                let (dict, key) = (PyDict::new(py), PyString::new(py, "KEY"));
                let value = || latin1(py, text.as_bytes()).unwrap().into_any();
                assert!(set_default(&dict, &key, &value()).unwrap().is_none(), "{text:?}");
                assert!(set_default(&dict, &key, &value()).unwrap().is_some(), "{text:?} again");
            }
        });
    }
}
