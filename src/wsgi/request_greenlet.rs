//! The greenlet of a request: a `gevent.Greenlet` as others are, but for gevent's record of who has spawned it. That is
//! the loop for each of them, and making the record takes a third of the time in which one is made.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple, PyType};

use crate::py::{set_by, uncollected};

/// The setting of gevent that each new greenlet asks for.
const TRACK_TREE: &str = "track_greenlet_tree";
/// The attribute of greenlets that those which a request spawns inherit.
const TREE_LOCALS: &str = "spawn_tree_locals";

/// The maker of requests' greenlets.
pub(super) struct GreenletMaker {
    class: Py<PyType>,
    args: Py<PyTuple>,
    quick: Option<QuickMaking>,
}

/// The way without the record.
struct QuickMaking {
    setting: Py<TrackTree>,
    /// The attribute of that name.
    tree_locals_of: Py<PyAny>,
    /// The hub's, which all requests share as they would with the record.
    tree_locals: Py<PyAny>,
}

impl GreenletMaker {
    /// Makes the one of greenlets that `hub` spawns and that call `serve`.
    ///
    /// # Errors
    /// Those of looking at gevent's modules.
    pub(super) fn new(hub: &Bound<'_, PyAny>, serve: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = hub.py();
        let gevent = py.import("gevent")?;
        let class = gevent.getattr("Greenlet")?.cast_into::<PyType>()?;
        let quick = match TrackTree::install(py)? {
            // Who has switched the records off has nothing to inherit.
            Some(setting) if gevent.getattr("config")?.getattr(TRACK_TREE)?.is_truthy()? => {
                let tree_locals_of = class.getattr(TREE_LOCALS)?.unbind();
                Some(QuickMaking { setting, tree_locals_of, tree_locals: tree_locals_of_hub(hub)?.unbind() })
            }
            _ => None,
        };
        Ok(Self { class: class.unbind(), args: PyTuple::new(py, [serve])?.unbind(), quick })
    }

    /// Makes a greenlet that has not begun.
    ///
    /// # Errors
    /// `MemoryError`, and what gevent raises for a greenlet that it cannot make.
    pub(super) fn make<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (class, args) = (self.class.bind(py), self.args.bind(py));
        let Some(QuickMaking { setting, tree_locals_of, tree_locals }) = &self.quick else {
            return class.call1(args);
        };
        // A finalizer that spawned a greenlet would take the answer that is meant for this one.
        let greenlet = uncollected(py, || {
            let is_off = &setting.get().is_off_once;
            is_off.store(true, Ordering::Relaxed);
            let made = class.call1(args);
            // One that could not be made has perhaps not asked.
            is_off.store(false, Ordering::Relaxed);
            made
        })?;
        set_by(tree_locals_of.bind(py), &greenlet, tree_locals.bind(py))?;
        Ok(greenlet)
    }

    /// Returns the class.
    pub(super) fn class<'py>(&self, py: Python<'py>) -> &Bound<'py, PyType> {
        self.class.bind(py)
    }
}

/// Returns what greenlets inherit that a hub spawns; gevent makes it for the first of them.
fn tree_locals_of_hub<'py>(hub: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if let Some(known) = hub.getattr_opt(TREE_LOCALS)? {
        return Ok(known);
    }
    let made = PyDict::new(hub.py()).into_any();
    hub.setattr(TREE_LOCALS, &made)?;
    Ok(made)
}

/// The setting, in the place of the property of `gevent.config` that asks for it in Python.
#[pyclass(frozen)]
struct TrackTree {
    /// gevent's property.
    ordinary: Py<PyAny>,
    config: Py<PyAny>,
    /// The attributes of the setting; its value is among them when it was set, or asked for once.
    values: Py<PyDict>,
    /// The next one who asks is told that it is off.
    is_off_once: AtomicBool,
}

impl TrackTree {
    /// Puts it in its place, or finds it there. `None` in a version of gevent where that is not as it is known to be.
    ///
    /// # Errors
    /// `MemoryError`.
    fn install(py: Python<'_>) -> PyResult<Option<Py<Self>>> {
        let config = py.import("gevent")?.getattr("config")?;
        let class = config.get_type();
        let setting =
            config.getattr("settings").and_then(|all| all.get_item(TRACK_TREE)?.getattr("__dict__"));
        let ordinary = class.getattr("__dict__").and_then(|all| all.get_item(TRACK_TREE));
        let (Ok(values), Ok(ordinary)) = (setting, ordinary) else { return Ok(None) };
        if let Ok(known) = ordinary.cast::<Self>() {
            return Ok(Some(known.clone().unbind()));
        }
        let (Ok(values), true) = (values.cast_into::<PyDict>(), ordinary.get_type().name()? == "property")
        else {
            return Ok(None);
        };
        let (ordinary, config, values) = (ordinary.unbind(), config.unbind(), values.unbind());
        let known = Py::new(py, Self { ordinary, config, values, is_off_once: AtomicBool::new(false) })?;
        class.setattr(TRACK_TREE, &known)?;
        Ok(Some(known))
    }
}

#[pymethods]
impl TrackTree {
    fn __get__<'py>(
        &self,
        config: Option<&Bound<'py, PyAny>>,
        class: Option<&Bound<'py, PyAny>>,
        py: Python<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if config.is_some_and(|config| config.is(&self.config)) {
            if self.is_off_once.swap(false, Ordering::Relaxed) {
                return Ok(PyBool::new(py, false).to_owned().into_any());
            }
            if let Some(value) = self.values.bind(py).get_item(intern!(py, "value"))? {
                return Ok(value);
            }
        }
        self.ordinary.bind(py).call_method1(intern!(py, "__get__"), (config, class))
    }
}
