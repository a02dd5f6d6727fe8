//! Answers that the server gives by itself.

use std::fmt;

use rgunicorn_http::proxy::ProxyError;
use rgunicorn_http::{HttpError, PageFacts, error_response, error_response_with};

/// The reason why the server answers a request by itself, and the way.
pub(crate) struct Refusal {
    /// 0: with nothing but a close.
    pub(crate) status: u16,
    /// The fault of the client, or of the proxy before it.
    pub(crate) cause: Option<RefusalCause>,
}

/// A fault of the client, or of the proxy before it.
pub(crate) enum RefusalCause {
    Http(HttpError),
    Proxy(ProxyError),
}

impl fmt::Display for RefusalCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => error.fmt(f),
            Self::Proxy(error) => error.fmt(f),
        }
    }
}

impl Refusal {
    /// A fault of the server's.
    pub(crate) const INTERNAL: Self = Self { status: 500, cause: None };
    /// Requests hold more memory than there is for them.
    pub(crate) const OVERLOADED: Self = Self { status: 503, cause: None };
    /// The request has not come in its time.
    pub(crate) const TOO_SLOW: Self = Self { status: 408, cause: None };

    /// Returns the reason phrase of one without a cause.
    fn reason(&self) -> &'static str {
        match self.status {
            408 => "Request Timeout",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        }
    }

    /// Appends the response.
    pub(crate) fn render(&self, facts: &PageFacts, out: &mut Vec<u8>) {
        match &self.cause {
            Some(RefusalCause::Http(error)) => error_response(error, facts, out),
            Some(RefusalCause::Proxy(error)) => {
                error_response_with(self.status, error.reason(), &error.to_string(), facts, out);
            }
            None => error_response_with(self.status, self.reason(), "", facts, out),
        }
    }
}

impl From<HttpError> for Refusal {
    fn from(error: HttpError) -> Self {
        let status = if error.wants_answer() { error.status() } else { 0 };
        Self { status, cause: Some(RefusalCause::Http(error)) }
    }
}

impl From<ProxyError> for Refusal {
    fn from(error: ProxyError) -> Self {
        Self { status: error.status(), cause: Some(RefusalCause::Proxy(error)) }
    }
}

/// Tells whether an error only says that the client has left; not worth more than a debug line (Gunicorn treats EPIPE,
/// ECONNRESET and ENOTCONN so).
pub(crate) fn is_disconnect(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    matches!(
        error.kind(),
        K::BrokenPipe | K::ConnectionReset | K::NotConnected | K::ConnectionAborted | K::TimedOut
    )
}
