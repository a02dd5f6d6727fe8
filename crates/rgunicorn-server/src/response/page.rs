//! Answers that the server gives by itself.

use rgunicorn_http::{HttpError, PageFacts, error_response, error_response_with};

/// A complete answer that the application has no part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPage {
    /// The request breaks a rule of HTTP.
    Http(HttpError),
    /// A request body that cannot be read, left to the server by its application: 400, 408 or 413.
    Body(u16),
    /// The server or the application has failed.
    Internal,
}

impl ErrorPage {
    /// Returns its status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Http(error) => error.status(),
            Self::Body(status) => *status,
            Self::Internal => 500,
        }
    }

    /// Appends its bytes, head and body.
    pub fn render(&self, facts: &PageFacts, out: &mut Vec<u8>) {
        match self {
            Self::Http(error) => error_response(error, facts, out),
            Self::Body(status) => error_response_with(*status, reason(*status), "", facts, out),
            Self::Internal => error_response_with(500, "Internal Server Error", "", facts, out),
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        408 => "Request Timeout",
        413 => "Content Too Large",
        _ => "Bad Request",
    }
}
