//! The state that the Python objects of one request share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use rgunicorn_http::{ResponseFacts, Version};
use rgunicorn_server::response::{BodyItem, Pieces, Response};
use rgunicorn_server::worker::RequestId;

use crate::py::{GilCell, shared_bytes};

use super::responder::Responder;

/// A `bytes` object as an item of a body.
pub(super) struct PyItem<'a, 'py>(pub(super) &'a Bound<'py, PyBytes>);

impl BodyItem for PyItem<'_, '_> {
    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn share(&self) -> Bytes {
        shared_bytes(self.0)
    }
}

/// The state that the objects of one request share. An object that the application keeps leads here, and from
/// here nowhere once the request is over.
pub(super) struct RequestShared {
    /// The response.
    pub(super) response: GilCell<Response>,
    /// The request, see [`RequestId::to_numbers`]; the last number is 0 when it is over. Written under the interpreter
    /// lock only, but for the end, which is one number.
    request: [AtomicU64; 3],
    /// Whether it takes early hints: not any more when the response head has left, and never for HTTP/1.0, which knows
    /// no interim answers.
    takes_hints: AtomicBool,
}

impl RequestShared {
    pub(super) fn new(facts: ResponseFacts) -> Self {
        let response = GilCell::new(Response::new(facts));
        Self { response, request: Default::default(), takes_hints: AtomicBool::new(false) }
    }

    /// Points at a request that begins, with a response that has not.
    pub(super) fn begin(&self, py: Python<'_>, id: RequestId, facts: ResponseFacts) {
        self.response.with(py, |response| response.reset(facts));
        for (place, number) in self.request.iter().zip(id.to_numbers()) {
            place.store(number, Ordering::Relaxed);
        }
        self.takes_hints.store(facts.version >= Version::HTTP_11, Ordering::Relaxed);
    }

    /// Returns the request in progress.
    pub(super) fn request(&self) -> Option<RequestId> {
        RequestId::from_numbers(self.request.each_ref().map(|number| number.load(Ordering::Relaxed)))
    }

    /// Returns the request that early hints are for.
    pub(super) fn hinted(&self) -> Option<RequestId> {
        if self.takes_hints.load(Ordering::Relaxed) { self.request() } else { None }
    }

    /// Ends early hints: the response head has left.
    pub(super) fn end_hints(&self) {
        self.takes_hints.store(false, Ordering::Relaxed);
    }

    /// Appends an item of the body. The head leaves with the first: early hints end here. `false`: there is
    /// no head, because the application has not called `start_response`.
    pub(super) fn append(
        &self,
        responder: &dyn Responder,
        id: RequestId,
        pieces: &mut Pieces,
        item: &Bound<'_, PyBytes>,
    ) -> bool {
        let (appended, head_sent) = self.response.with(item.py(), |response| {
            let appended = response.append(|| responder.head_context(id), pieces, &PyItem(item));
            (appended, response.is_head_sent())
        });
        if head_sent {
            self.end_hints();
        }
        appended
    }

    /// Ends the response, which is complete or will never be: an application that still holds
    /// `start_response`, its `write` or the early hints can do nothing with them any more.
    pub(super) fn close_response(&self, py: Python<'_>) {
        self.response.with(py, Response::close);
        self.end_hints();
    }

    /// Leads nowhere from now on: the request is over.
    pub(super) fn end(&self) {
        let [.., sequence] = &self.request;
        sequence.store(0, Ordering::Relaxed);
    }
}
