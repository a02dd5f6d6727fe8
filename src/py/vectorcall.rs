//! Methods that are called so often that pyo3's way into them counts: the hot operations of gevent's loop, and of its
//! sockets.
//!
//! pyo3 counts how often a thread has entered, sorts arguments into variables through a table, and does both with
//! thread-locals that a shared library reaches by a function call; that is as much as a whole timer costs. A method
//! here gets its positional arguments as they are. Any other call (with keywords, or one that the method does not want)
//! goes to pyo3's method of the same name, which stays the definition: its signature, its errors, its documentation.

use std::ffi::CString;
use std::panic::AssertUnwindSafe;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use super::catch_panic;

/// A method with positional arguments. See the module's text.
pub trait FastMethod: 'static {
    /// The class whose method of this name it stands in front of; `PyAny` for one that is not of this package.
    type Class: 'static;
    /// The method's name.
    const NAME: &'static str;
    /// Whether it takes no arguments at all: CPython sees to that.
    const NO_ARGUMENTS: bool = false;

    /// Returns the class.
    ///
    /// # Errors
    /// Those of looking for one that is not of this package.
    fn class(py: Python<'_>) -> PyResult<Bound<'_, PyType>>;

    /// Returns the place where the two methods are kept.
    fn pair() -> &'static PyOnceLock<MethodPair>;

    /// Runs the method; `None` leaves the call to pyo3's, as if nothing had happened. No `Py` may be dropped in here:
    /// pyo3 does not know that the interpreter lock is held, and would let go of the object some other time, where that
    /// may be wrong. A `Bound` may, and `Py::drop_ref` is right.
    ///
    /// # Errors
    /// The method's.
    fn call<'py>(this: &Bound<'py, Self::Class>, args: Args<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>>;
}

/// A method and the one that stands in front of it.
pub struct MethodPair {
    /// The method that pyo3 has made, or the class has had.
    pub ordinary: Py<PyAny>,
    fast: Py<PyAny>,
    /// The ordinary one is of a class that this one is derived from.
    is_inherited: bool,
}

/// The positional arguments of one call.
#[derive(Clone, Copy)]
pub struct Args<'a, 'py> {
    /// Each is a valid object, kept alive by the caller.
    items: &'a [*mut ffi::PyObject],
    py: Python<'py>,
}

impl<'py> Args<'_, 'py> {
    /// Returns the argument at `at`.
    #[inline]
    pub fn get(&self, at: usize) -> Option<Bound<'py, PyAny>> {
        // SAFETY: see the field.
        self.items.get(at).map(|item| unsafe { Bound::from_borrowed_ptr(self.py, *item) })
    }

    /// Returns the arguments from `first` on; none if there are fewer.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub fn rest(&self, first: usize) -> PyResult<Bound<'py, PyTuple>> {
        let items = self.items.get(first..).unwrap_or_default();
        // SAFETY: a new tuple of the right length, or null with an exception set; each place is filled exactly once,
        // with a reference of its own, before other code sees the tuple.
        unsafe {
            let tuple = ffi::PyTuple_New(items.len() as ffi::Py_ssize_t);
            let tuple = Bound::from_owned_ptr_or_err(self.py, tuple)?;
            for (at, item) in items.iter().enumerate() {
                ffi::Py_INCREF(*item);
                ffi::PyTuple_SET_ITEM(tuple.as_ptr(), at as ffi::Py_ssize_t, *item);
            }
            Ok(tuple.cast_into_unchecked())
        }
    }
}

/// Puts a method in front of pyo3's, or of that which a class has. One that another program has put there stays.
///
/// # Errors
/// Those of changing the class.
pub fn install_vectorcall_method<M: FastMethod>(py: Python<'_>) -> PyResult<()> {
    let class = M::class(py)?;
    let found = class.getattr(M::NAME)?;
    let pair = match M::pair().get(py) {
        Some(pair) => pair,
        None => {
            let pair = make_pair::<M>(&class, &found)?;
            M::pair().get_or_init(py, || pair)
        }
    };
    if found.is(&pair.ordinary) { class.setattr(M::NAME, &pair.fast) } else { Ok(()) }
}

/// Gives a class its own method back, unless another program has put one there.
///
/// # Errors
/// Those of changing the class.
pub fn remove_vectorcall_method<M: FastMethod>(py: Python<'_>) -> PyResult<()> {
    let Some(pair) = M::pair().get(py) else { return Ok(()) };
    let class = M::class(py)?;
    if !class.getattr(M::NAME)?.is(&pair.fast) {
        return Ok(());
    }
    if pair.is_inherited { class.delattr(M::NAME) } else { class.setattr(M::NAME, &pair.ordinary) }
}

/// Makes the method that stands in front of `ordinary`.
fn make_pair<M: FastMethod>(class: &Bound<'_, PyType>, ordinary: &Bound<'_, PyAny>) -> PyResult<MethodPair> {
    let py = class.py();
    let text =
        |name: &str| ordinary.getattr(name).and_then(|text| text.extract::<String>()).unwrap_or_default();
    let doc = format!("{}{}\n--\n\n{}", M::NAME, text("__text_signature__"), text("__doc__"));
    let text = |text: String| CString::new(text).map_err(|_| PyTypeError::new_err("a zero in a docstring"));
    let (name, doc) = (text(M::NAME.to_owned())?, text(doc)?);
    let (ml_meth, ml_flags) = if M::NO_ARGUMENTS {
        (ffi::PyMethodDefPointer { PyCFunction: enter_without::<M> }, ffi::METH_NOARGS)
    } else {
        let flags = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
        (ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: enter::<M> }, flags)
    };
    // A class keeps the definition for good, and classes of this library are never freed.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.into_raw(),
        ml_meth,
        ml_flags,
        ml_doc: doc.into_raw(),
    }));
    // SAFETY: the class is a type object, the definition lives for ever and its flags say what `enter` is; the result
    // is a new reference, or null with an exception set.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(py, method)?
    };
    let is_inherited = !class.getattr("__dict__")?.contains(M::NAME)?;
    Ok(MethodPair { ordinary: ordinary.clone().unbind(), fast: method.unbind(), is_inherited })
}

/// Enters a method without arguments: CPython calls it.
unsafe extern "C" fn enter_without<M: FastMethod>(
    this: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython makes the promises that `enter` relies on; there are no arguments, so the pointer is not read.
    unsafe { enter::<M>(this, std::ptr::null(), 0, std::ptr::null_mut()) }
}

/// Enters a method: CPython calls it.
#[inline]
unsafe extern "C" fn enter<M: FastMethod>(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls methods with the interpreter lock held, with an object of the class (the method descriptor
    // has checked it), with `count` valid arguments and, after them, one for each of `names`, a tuple or null. Nothing
    // of it outlives the call.
    unsafe {
        let py = Python::assume_attached();
        let this = Bound::from_borrowed_ptr(py, this);
        let positional = if count == 0 { &[] } else { std::slice::from_raw_parts(args, count as usize) };
        let result = catch_panic(AssertUnwindSafe(|| {
            if names.is_null()
                && let Some(value) = M::call(this.cast_unchecked(), Args { items: positional, py })?
            {
                return Ok(value);
            }
            let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) };
            let all = (count + named) as usize;
            let mut whole = Vec::with_capacity(all + 1);
            whole.push(this.as_ptr());
            if all > 0 {
                whole.extend_from_slice(std::slice::from_raw_parts(args, all));
            }
            let pair = M::pair().get(py).ok_or_else(|| PyTypeError::new_err("no such method"))?;
            let value =
                ffi::PyObject_Vectorcall(pair.ordinary.as_ptr(), whole.as_ptr(), count as usize + 1, names);
            Bound::from_owned_ptr_or_err(py, value)
        }));
        match result {
            Ok(value) => value.into_ptr(),
            Err(error) => {
                error.restore(py);
                std::ptr::null_mut()
            }
        }
    }
}
