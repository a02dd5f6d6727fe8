//! Environs of heads that come again (`Repeats` of `rgunicorn-http`): templates that have what such a head says.

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use rgunicorn_http::Repeats;
use rgunicorn_io::driver::PeerAddr;

/// The templates by the stamps of heads, or of their field sections: one for each place of `Repeats`.
#[derive(Default)]
pub(super) struct KnownEnvirons {
    places: RefCell<Vec<Option<KnownEnviron>>>,
    count: Cell<usize>,
}

/// A template of a listener with what a head says, and perhaps its peer.
pub(super) struct KnownEnviron {
    pub(super) stamp: usize,
    pub(super) listener: usize,
    /// The one whose address is in it.
    pub(super) peer: Option<PeerAddr>,
    pub(super) environ: Py<PyDict>,
}

impl KnownEnvirons {
    /// Returns a copy of the template of a stamp, and the peer that is in it. May run Python.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn copy<'py>(
        &self,
        py: Python<'py>,
        stamp: usize,
        listener: usize,
    ) -> PyResult<Option<(Bound<'py, PyDict>, Option<PeerAddr>)>> {
        let known =
            self.places.borrow().get(stamp % Repeats::places()).and_then(Option::as_ref).and_then(|known| {
                let is_it = known.stamp == stamp && known.listener == listener;
                is_it.then(|| (known.environ.clone_ref(py), known.peer))
            });
        // Not while the places are borrowed.
        known.map(|(environ, peer)| Ok((environ.bind(py).copy()?, peer))).transpose()
    }

    /// Keeps a template in the place of its stamp.
    pub(super) fn keep(&self, known: KnownEnviron) {
        let former = {
            let mut places = self.places.borrow_mut();
            if places.is_empty() {
                places.resize_with(Repeats::places(), || None);
            }
            let place = known.stamp % Repeats::places();
            places[place].replace(known)
        };
        if former.is_none() {
            self.count.set(self.count.get() + 1);
        }
        drop(former);
    }

    /// Forgets them all.
    pub(super) fn clear(&self) {
        self.count.set(0);
        let places = self.places.take();
        drop(places);
    }

    /// Returns how many there are.
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }
}
