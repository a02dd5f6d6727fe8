//! The values that an access record can have.

use std::borrow::Cow;
use std::time::Duration;

/// One atom of the format string (Gunicorn's letters; the comments give them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Atom {
    /// `l`, and every unknown name: `-`.
    Dash,
    /// `h`
    RemoteAddr,
    /// `u`
    User,
    /// `t`
    Time,
    /// `r`
    RequestLine,
    /// `s`
    Status,
    /// `m`
    Method,
    /// `U`
    Path,
    /// `q`
    Query,
    /// `H`
    Protocol,
    /// `b`: text, `-` if unknown.
    BytesText,
    /// `B`: a number.
    Bytes,
    /// `f`
    Referer,
    /// `a`
    UserAgent,
    /// `T`
    Seconds,
    /// `M`
    Milliseconds,
    /// `D`
    Microseconds,
    /// `L`: text.
    SecondsText,
    /// `p`
    Pid,
    /// `{name}i`, the name in lower case.
    RequestHeader(String),
    /// `{name}o`, the name in lower case.
    ResponseHeader(String),
    /// `{name}e`, the name in lower case.
    Environ(String),
}

impl Atom {
    /// Returns the atom of a name between `%(` and `)`. Letters count by case; the braced forms do not.
    pub(super) fn by_name(name: &str) -> Self {
        if let Some(braced) = name.strip_prefix('{') {
            return Self::braced(&braced.to_lowercase());
        }
        match name {
            "h" => Self::RemoteAddr,
            "u" => Self::User,
            "t" => Self::Time,
            "r" => Self::RequestLine,
            "s" => Self::Status,
            "m" => Self::Method,
            "U" => Self::Path,
            "q" => Self::Query,
            "H" => Self::Protocol,
            "b" => Self::BytesText,
            "B" => Self::Bytes,
            "f" => Self::Referer,
            "a" => Self::UserAgent,
            "T" => Self::Seconds,
            "M" => Self::Milliseconds,
            "D" => Self::Microseconds,
            "L" => Self::SecondsText,
            "p" => Self::Pid,
            _ => Self::Dash,
        }
    }

    fn braced(name: &str) -> Self {
        // A name may contain a brace itself; only the last one closes.
        match name.rsplit_once('}') {
            Some((name, "i")) => Self::RequestHeader(name.to_owned()),
            Some((name, "o")) => Self::ResponseHeader(name.to_owned()),
            Some((name, "e")) => Self::Environ(name.to_owned()),
            _ => Self::Dash,
        }
    }

    /// Returns whether the value is a number, which `%d` and the like demand.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Bytes | Self::Seconds | Self::Milliseconds | Self::Microseconds)
    }
}

/// A text in one of the two encodings of values. Logs are UTF-8: Latin-1 bytes above 127 become two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtomText<'a> {
    /// Bytes of the request, one character each, as WSGI sees them.
    Latin1(Cow<'a, [u8]>),
    /// Text.
    Utf8(Cow<'a, str>),
}

/// A finished request, as far as the access log looks at it. Names of headers and environ keys are asked for
/// in lower case and answered in any case. Bytes are Latin-1 text.
pub trait AtomSource {
    /// Returns the peer's IP address in text form; empty for unix sockets.
    fn remote_addr(&self) -> &[u8];
    /// Returns the method, as in environ.
    fn method(&self) -> &[u8];
    /// Returns the request target as received.
    fn raw_uri(&self) -> &[u8];
    /// Returns the protocol, such as `HTTP/1.1`.
    fn protocol(&self) -> &[u8];
    /// Returns the percent-decoded path.
    fn path_info(&self) -> &[u8];
    /// Returns the query, without its question mark.
    fn query(&self) -> &[u8];
    /// Returns the status code of the answer.
    fn status(&self) -> u16;
    /// Returns the number of body bytes of the answer, without chunk framing; `None` when they were not
    /// counted.
    fn bytes_sent(&self) -> Option<u64>;
    /// Returns a request header; of several of one name, the last.
    fn request_header(&self, name: &str) -> Option<&[u8]>;
    /// Returns a header that the application set; of several of one name, the last.
    fn response_header(&self, name: &str) -> Option<&[u8]>;
    /// Returns an environ value, as `str()` gives it.
    fn environ(&self, name: &str) -> Option<AtomText<'_>>;
    /// Returns the time from the first byte of the request to the last of the answer.
    fn elapsed(&self) -> Duration;
    /// Returns the wall-clock time of the record, since the Unix epoch.
    fn unix_time(&self) -> Duration;
    /// Returns the id of this process.
    fn pid(&self) -> u32;
    /// Returns a request header as environ has it, several of one name joined with commas: `f`, `a` and `u`
    /// are made of these. The default is right where no name is repeated.
    fn joined_request_header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.request_header(name).map(Cow::Borrowed)
    }
}
