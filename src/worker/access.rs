//! One line of the access log, put together from what the worker knows about a request.

use std::borrow::Cow;
use std::time::Duration;

use crate::http::ResponseHead;
use crate::logging::AtomSource;

use super::Request;

/// The facts of a finished request.
pub struct AccessLine<'a> {
    /// The request.
    pub request: &'a Request,
    /// Status as sent, `200 OK` or a bare code.
    pub status: u16,
    /// Body bytes sent, without chunk framing.
    pub bytes_sent: Option<u64>,
    /// The application's response header fields.
    pub response: Option<&'a ResponseHead>,
    /// From the last byte of the request to the end of the response.
    pub elapsed: Duration,
    /// Looks up an environ key.
    pub environ: &'a dyn Fn(&str) -> Option<String>,
}

impl AccessLine<'_> {
    fn field(&self, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.request.head.header(name).map(Cow::Borrowed)
    }
}
