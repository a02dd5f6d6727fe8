//! greenlet's C API: a capsule with a table of functions (`greenlet._C_API`). The layout of the table is part of
//! greenlet's public header and has been the same since 1.0.
//!
//! A switch is a call like any other to Rust, and the most dangerous one there is: see `stack.rs`.

use std::ffi::c_void;
use std::ptr::NonNull;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::stack::assert_no_borrow;

/// Indices into the table.
const GET_CURRENT: usize = 4;
const SWITCH: usize = 6;

type GetCurrent = unsafe extern "C" fn() -> *mut ffi::PyObject;
type Switch =
    unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;

/// The functions in use. The module stays loaded: it is in `sys.modules`, and extension modules are never unloaded.
#[derive(Clone, Copy, Debug)]
pub struct Greenlets {
    get_current: GetCurrent,
    switch: Switch,
}

impl Greenlets {
    /// Imports greenlet.
    ///
    /// # Errors
    /// `ImportError` without greenlet; whatever else its import raises.
    pub fn import(py: Python<'_>) -> PyResult<Self> {
        py.import("greenlet")?;
        // SAFETY: the name is a C string; the result is the capsule's pointer, or null with an exception set.
        let table = unsafe { ffi::PyCapsule_Import(c"greenlet._C_API".as_ptr(), 0) }.cast::<*const c_void>();
        let Some(table) = NonNull::new(table) else {
            return Err(PyErr::take(py).unwrap_or_else(|| PyRuntimeError::new_err("greenlet has no C API")));
        };
        // SAFETY: the header fixes what stands at these indices, and all its entries are pointers.
        unsafe {
            let entry = |at: usize| *table.as_ptr().add(at);
            Ok(Self {
                get_current: std::mem::transmute::<*const c_void, GetCurrent>(entry(GET_CURRENT)),
                switch: std::mem::transmute::<*const c_void, Switch>(entry(SWITCH)),
            })
        }
    }

    /// Returns the running greenlet.
    ///
    /// # Errors
    /// `MemoryError`.
    pub fn current<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the interpreter lock is held; the result is a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, (self.get_current)()) }
    }

    /// Goes on in `target`; comes back with what is switched to this greenlet (when `target` is over and this is its
    /// parent: its result), or with the exception that was thrown into it.
    ///
    /// # Errors
    /// Anything: what others throw into this greenlet arrives here.
    pub fn switch<'py>(&self, py: Python<'py>, target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        assert_no_borrow();
        // SAFETY: `target` is a greenlet (or the function says so by an exception); null arguments mean none. No error
        // is set, as pyo3 takes errors out where they occur.
        unsafe {
            let back = (self.switch)(target.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, back)
        }
    }
}
