//! Faults, split by the party that made them: [`HttpError`] is the client's, [`ResponseError`] the
//! application's.

use std::fmt;

/// A fault of a client, whose request cannot be served. `Display` is the text of the log line and of the
/// error page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpError {
    /// A line of the head or of the trailer section ended in LF without CR (RFC 9112 2.2 permits refusing it).
    BareLineFeed,
    /// Not three parts separated by single spaces.
    RequestLine,
    /// No token (RFC 9110 9.1), or outside Gunicorn's conventions.
    Method,
    /// Empty, bytes outside 0x21-0x7E, or a form that the method does not have (RFC 9112 3.2).
    Target,
    /// Not `HTTP/digit.digit`, or outside 1.0 to 1.9.
    Version,
    /// Longer than `limit_request_line`.
    RequestLineTooLong,
    /// No colon, an empty or invalid name, a control byte in the value.
    Field,
    /// A folded field line (RFC 9112 5.2).
    Folding,
    /// More fields than `limit_request_fields`.
    TooManyFields,
    /// A field longer than `limit_request_field_size`.
    FieldTooLarge,
    /// A name with `_` while `header_map` is `refuse`.
    FieldNameUnderscore,
    /// A second `Host`.
    HostTwice,
    /// No `Host`, in HTTP/1.1 (RFC 9112 3.2).
    HostMissing,
    /// A `Host` that names no host (RFC 9112 3.2).
    Host,
    /// A second `Content-Type`.
    ContentTypeTwice,
    /// Not only digits, beyond 64 bits, repeated, or beside `Transfer-Encoding`: each a way to smuggle a request.
    ContentLength,
    /// In HTTP/1.0, `chunked` twice or not last (RFC 9112 6.1).
    TransferEncoding,
    /// More than the receiver takes (`limit_request_body`, [`BODY_BYTES_CAP`](super::BODY_BYTES_CAP)): 413.
    BodyTooLarge,
    /// A coding that is not registered or that we do not take: 501.
    TransferCoding,
    /// Something other than `100-continue`: 417.
    Expectation,
    /// Two fields of `secure_scheme_headers` that disagree.
    SchemeConflict,
    /// The path does not lie under the `SCRIPT_NAME` of the environment or the proxy: 500, for the set-up is at fault.
    ScriptName,
    /// Not hex digits, or the line is too long.
    ChunkSize,
    /// Not of the grammar of RFC 9112 7.1.1.
    ChunkExtension,
    /// No CRLF after the data of a chunk.
    ChunkTerminator,
    /// A field that may not be sent after the body (RFC 9110 6.5.1).
    TrailerField,
    /// The client closed in the middle of a request, and takes no answer.
    PrematureEnd,
}

impl HttpError {
    /// Returns the status code of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::BodyTooLarge => 413,
            Self::RequestLineTooLong => 414,
            Self::Expectation => 417,
            Self::TooManyFields | Self::FieldTooLarge => 431,
            Self::ScriptName => 500,
            Self::TransferCoding => 501,
            _ => 400,
        }
    }

    /// Returns the reason phrase of the answer.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.status() {
            413 => "Content Too Large",
            414 => "URI Too Long",
            417 => "Expectation Failed",
            431 => "Request Header Fields Too Large",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            _ => "Bad Request",
        }
    }

    /// Returns whether to answer at all: a peer that has gone in the middle of a request gets a plain close.
    #[must_use]
    pub fn wants_answer(&self) -> bool {
        *self != Self::PrematureEnd
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareLineFeed => "Line ends in LF without CR",
            Self::RequestLine => "Invalid HTTP request line",
            Self::Method => "Invalid HTTP method",
            Self::Target => "Invalid HTTP request target",
            Self::Version => "Invalid HTTP version",
            Self::RequestLineTooLong => "Request line is too long",
            Self::Field => "Invalid HTTP header",
            Self::Folding => "Folded HTTP header line",
            Self::TooManyFields => "Too many HTTP headers",
            Self::FieldTooLarge => "HTTP header is too large",
            Self::FieldNameUnderscore => "Invalid HTTP header name: it contains '_'",
            Self::HostTwice => "Invalid HTTP header: 'HOST' is repeated",
            Self::HostMissing => "Invalid HTTP header: 'HOST' is missing",
            Self::Host => "Invalid HTTP header: 'HOST'",
            Self::ContentTypeTwice => "Invalid HTTP header: 'CONTENT-TYPE' is repeated",
            Self::ContentLength => "Invalid HTTP header: 'CONTENT-LENGTH'",
            Self::TransferEncoding => "Invalid HTTP header: 'TRANSFER-ENCODING'",
            Self::BodyTooLarge => "Request body is too large",
            Self::TransferCoding => "Unsupported transfer coding",
            Self::Expectation => "Unknown expectation",
            Self::SchemeConflict => "Contradictory scheme headers",
            Self::ScriptName => "Request path does not lie under SCRIPT_NAME",
            Self::ChunkSize => "Invalid chunk size",
            Self::ChunkExtension => "Invalid chunk extension",
            Self::ChunkTerminator => "Chunk data does not end in CRLF",
            Self::TrailerField => "Field is not allowed in a trailer",
            Self::PrematureEnd => "Connection closed in the middle of a request",
        })
    }
}

impl std::error::Error for HttpError {}

/// A fault of the application, part of whose response must not reach the wire: it is answered with 500, and
/// the message goes to the error log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseError {
    /// Not `ddd` or `ddd reason`, or a control byte in it.
    Status(Vec<u8>),
    /// Not a token.
    HeaderName(Vec<u8>),
    /// A control byte in the value of this header.
    HeaderValue(Vec<u8>),
    /// Not only digits, beyond 64 bits, or two different ones.
    ContentLength(Vec<u8>),
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, bytes) = match self {
            Self::Status(bytes) => ("Invalid response status", bytes),
            Self::HeaderName(bytes) => ("Invalid response header name", bytes),
            Self::HeaderValue(bytes) => ("Invalid value of response header", bytes),
            Self::ContentLength(bytes) => ("Invalid response Content-Length", bytes),
        };
        write!(f, "{text}: '{}'", bytes.escape_ascii())
    }
}

impl std::error::Error for ResponseError {}
