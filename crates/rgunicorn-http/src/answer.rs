//! Answers of the server's own: error pages and interim responses.

use super::chars::{is_field_value, is_token, trim};
use super::error::{HttpError, ResponseError};
use super::response::{push_line, push_status_start};
use super::version::Version;

/// The facts that an error page depends on beside the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFacts {
    /// The value of `Date`: a server that has a clock sends it with every answer (RFC 9110 6.6.1).
    pub date: [u8; 29],
    /// The request was HEAD, as far as it could be read: the page itself stays away (RFC 9110 9.3.2).
    pub head_request: bool,
}

/// Appends the answer to a faulty request; nothing when the peer has gone. The connection closes after it.
pub fn error_response(error: &HttpError, facts: &PageFacts, out: &mut Vec<u8>) {
    if error.wants_answer() {
        error_response_with(error.status(), error.reason(), &error.to_string(), facts, out);
    }
}

/// Appends an error page: small HTML, `Connection: close` and no `Server`, as Gunicorn sends it. `reason` must be plain
/// text of ours; `message` is escaped.
pub fn error_response_with(status: u16, reason: &str, message: &str, facts: &PageFacts, out: &mut Vec<u8>) {
    // A paragraph inside a heading is odd HTML; health checks and scrapers know the page by it.
    let mut page = format!(
        "<html>\n  <head>\n    <title>{reason}</title>\n  </head>\n  <body>\n    <h1><p>{reason}</p></h1>\n    "
    );
    push_escaped(message, &mut page);
    page.push_str("\n  </body>\n</html>\n");
    out.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\nDate: ").as_bytes());
    out.extend_from_slice(&facts.date);
    let length = page.len();
    let rest =
        format!("\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n");
    out.extend_from_slice(rest.as_bytes());
    if !facts.head_request {
        out.extend_from_slice(page.as_bytes());
    }
}

fn push_escaped(text: &str, page: &mut String) {
    for character in text.chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#x27;"),
            other => page.push(other),
        }
    }
}

/// Returns the answer to a client that [expects it](super::RequestHead::expects_continue) before it sends the
/// body; empty for HTTP/1.0.
#[must_use]
pub fn continue_response(version: Version) -> &'static [u8] {
    if version > Version::HTTP_10 { b"HTTP/1.1 100 Continue\r\n\r\n" } else { b"" }
}

/// Renders a `103 Early Hints` response (RFC 8297) with these headers; empty for HTTP/1.0, which has no
/// interim responses.
///
/// # Errors
/// A name that is no token, or a value with control bytes.
pub fn early_hints<'a>(
    version: Version,
    headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Vec<u8>, ResponseError> {
    let mut out = Vec::new();
    push_status_start(&mut out, Version::HTTP_11);
    out.extend_from_slice(b"103 Early Hints\r\n");
    for (name, value) in headers {
        if !is_token(name) {
            return Err(ResponseError::HeaderName(name.to_vec()));
        }
        if !is_field_value(value) {
            return Err(ResponseError::HeaderValue(name.to_vec()));
        }
        push_line(&mut out, name, trim(value));
    }
    out.extend_from_slice(b"\r\n");
    if version <= Version::HTTP_10 {
        out.clear();
    }
    Ok(out)
}
