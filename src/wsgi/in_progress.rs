//! The requests in progress of cooperative mode: a greenlet and a request line for each. Reports of a blocked loop are
//! made from them, on another thread.
//!
//! Entries are filled where they are, and found by number: a line is too large to be moved for every request.

use std::sync::Arc;

use pyo3::prelude::*;

use rgunicorn_server::worker::Request;

use crate::py::{Describe, GilCell};

use super::running::Line;

/// The number of an entry, from [`InProgress::insert`] to [`InProgress::remove`].
pub(super) type Place = usize;

/// The greenlet of each request in progress, and its request line.
#[derive(Default)]
pub(super) struct InProgress(GilCell<Entries>);

#[derive(Default)]
struct Entries {
    all: Vec<(Option<Py<PyAny>>, Line)>,
    /// The numbers of those without a greenlet.
    free: Vec<Place>,
}

impl InProgress {
    /// Notes a request that is about to begin.
    pub(super) fn insert(&self, greenlet: &Bound<'_, PyAny>, request: &Request) -> Place {
        let (py, entry) = (greenlet.py(), greenlet.clone().unbind());
        self.0.with(py, |Entries { all, free }| {
            let place = free.pop().unwrap_or_else(|| {
                all.push((None, Line::default()));
                all.len() - 1
            });
            let (greenlet, line) = &mut all[place];
            *greenlet = Some(entry);
            line.note(request);
            place
        })
    }

    /// Forgets a request that is over. The last reference to its greenlet may go.
    pub(super) fn remove(&self, py: Python<'_>, place: Place) {
        let over = self.0.with(py, |Entries { all, free }| {
            free.push(place);
            all[place].0.take()
        });
        drop(over);
    }

    /// Returns the greenlet of a request.
    pub(super) fn greenlet<'py>(&self, py: Python<'py>, place: Place) -> Option<Bound<'py, PyAny>> {
        self.0.with(py, |entries| Some(entries.all[place].0.as_ref()?.bind(py).clone()))
    }

    /// Returns the greenlets of all requests.
    pub(super) fn greenlets(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let copies = |entries: &mut Entries| {
            let greenlets = entries.all.iter().filter_map(|(greenlet, _)| greenlet.as_ref());
            greenlets.map(|greenlet| greenlet.clone_ref(py)).collect()
        };
        self.0.with(py, copies)
    }

    /// Returns the maker of a report's lines: the request that runs; if none does, how many there are, and
    /// what else may run.
    pub(super) fn describe(this: &Arc<Self>) -> Describe {
        let this = this.clone();
        Box::new(move |py| {
            let all: Vec<(Py<PyAny>, String)> = this.0.with(py, |entries| {
                let used =
                    entries.all.iter().filter_map(|(greenlet, line)| greenlet.as_ref().zip(Some(line)));
                used.map(|(greenlet, line)| (greenlet.clone_ref(py), line.text())).collect()
            });
            // A greenlet that is switched out has a frame to show, the running one has not.
            let runs =
                |greenlet: &Py<PyAny>| greenlet.getattr(py, "gr_frame").is_ok_and(|frame| frame.is_none(py));
            if let Some((_, text)) = all.iter().find(|(greenlet, _)| runs(greenlet)) {
                return vec![text.clone()];
            }
            let others = format!("no request of {}: a callback, or a greenlet of the application", all.len());
            vec![others]
        })
    }
}
