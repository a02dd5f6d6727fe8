//! The meaning of single fields for the framing of the body, the life of the connection and the scheme, and
//! whether the application may see them. Every rule that keeps two readers of one byte stream from
//! disagreeing (request smuggling) is in this file.

use super::authority::is_host_value;
use super::block::FieldCheck;
use super::chars::{decimal, is_name, trim};
use super::error::HttpError;
use super::policy::{HeaderMap, Policy};
use super::version::Version;

/// The facts that follow from the fields of a head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HeadFacts {
    host: bool,
    content_type: bool,
    content_length: Option<u64>,
    coding: Coding,
    /// The body has a coding besides chunked, and is handed over in it.
    coded: bool,
    /// A field that is kept has `_` in its name.
    pub(super) underscored: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) scheme: Option<Scheme>,
}

/// The state of the transfer codings, as far as the fields have been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Coding {
    /// No such field.
    #[default]
    Absent,
    /// Codings, but not yet `chunked`: the body would have no end.
    Open,
    /// `chunked` was the last coding.
    Chunked,
}

/// The way in which the end of a request's body is found (RFC 9112 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none, or it is empty.
    None,
    /// This many bytes, more than 0.
    Length(u64),
    /// Chunks; the parser decodes them.
    Chunked,
}

/// The scheme that a trusted proxy and its client speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl HeadFacts {
    /// Judges one field of a head. False: it is valid and left out.
    ///
    /// # Errors
    /// The field's value is not valid or contradicts another one.
    pub(super) fn field(
        &mut self,
        field: FieldCheck<'_>,
        policy: &Policy,
        trusted: bool,
    ) -> Result<bool, HttpError> {
        let FieldCheck { name, value, .. } = field;
        match name.len() {
            4 if is_name(name, b"Host") => self.host(value)?,
            6 if is_name(name, b"Expect") => self.expectation(value)?,
            10 if is_name(name, b"Connection") => self.connection(value),
            12 if is_name(name, b"Content-Type") => {
                set_once(&mut self.content_type, HttpError::ContentTypeTwice)?;
            }
            14 if is_name(name, b"Content-Length") => self.content_length(value)?,
            17 if is_name(name, b"Transfer-Encoding") => self.transfer_encoding(value)?,
            _ => {}
        }
        if trusted {
            self.secure_scheme(name, value, policy)?;
        }
        let kept = keeps_name(field, policy, trusted)?;
        self.underscored |= kept && field.underscore;
        Ok(kept)
    }

    fn host(&mut self, value: &[u8]) -> Result<(), HttpError> {
        set_once(&mut self.host, HttpError::HostTwice)?;
        if is_host_value(value) { Ok(()) } else { Err(HttpError::Host) }
    }

    /// Checks for the fields that a request must have, when all are known.
    ///
    /// # Errors
    /// HTTP/1.1 without `Host` (RFC 9112 3.2).
    pub(super) fn check_complete(&self, version: Version) -> Result<(), HttpError> {
        if self.host || version < Version::HTTP_11 { Ok(()) } else { Err(HttpError::HostMissing) }
    }

    fn expectation(&mut self, value: &[u8]) -> Result<(), HttpError> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(HttpError::Expectation);
        }
        self.expects_continue = true;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(trim) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Takes the length. Two equal ones are refused too (RFC 9112 6.3 allows either): only one reading is
    /// left.
    fn content_length(&mut self, value: &[u8]) -> Result<(), HttpError> {
        if self.content_length.is_some() {
            return Err(HttpError::ContentLength);
        }
        self.content_length = Some(decimal(value).ok_or(HttpError::ContentLength)?);
        Ok(())
    }

    /// Takes transfer codings (RFC 9112 6.1): `chunked` once, and last. An empty list element counts as an
    /// unknown coding.
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HttpError> {
        for coding in value.split(|&byte| byte == b',').map(trim) {
            let known = ["gzip", "compress", "deflate"].iter().any(|name| is(coding, name));
            if !known && !is(coding, "chunked") && !is(coding, "identity") {
                return Err(HttpError::TransferCoding);
            }
            if self.coding == Coding::Chunked {
                return Err(HttpError::TransferEncoding);
            }
            self.coding = if is(coding, "chunked") { Coding::Chunked } else { Coding::Open };
            self.coded |= known;
        }
        Ok(())
    }

    fn secure_scheme(&mut self, name: &[u8], value: &[u8], policy: &Policy) -> Result<(), HttpError> {
        for (secure_name, secure_value) in &policy.secure_scheme_headers {
            if !is(name, secure_name) {
                continue;
            }
            let said = if value == secure_value.as_bytes() { Scheme::Https } else { Scheme::Http };
            if self.scheme.is_some_and(|before| before != said) {
                return Err(HttpError::SchemeConflict);
            }
            self.scheme = Some(said);
        }
        Ok(())
    }

    /// Returns how the body is framed, when all fields are known.
    ///
    /// # Errors
    /// The fields do not say where the body ends, or contradict each other about it.
    pub(super) fn body(&self, version: Version) -> Result<BodyKind, HttpError> {
        match (self.coding, self.content_length) {
            (Coding::Absent, None | Some(0)) => Ok(BodyKind::None),
            (Coding::Absent, Some(length)) => Ok(BodyKind::Length(length)),
            // RFC 9112 6.1: a 1.0 message cannot be chunked, so its framing is faulty.
            (Coding::Chunked, None) if version > Version::HTTP_10 => Ok(BodyKind::Chunked),
            (Coding::Chunked, Some(_)) => Err(HttpError::ContentLength),
            (Coding::Open | Coding::Chunked, _) => Err(HttpError::TransferEncoding),
        }
    }

    /// Returns whether the body keeps a coding that only its end can tell: Gunicorn closes after it.
    pub(super) fn coded(&self) -> bool {
        self.coded
    }
}

fn is(bytes: &[u8], text: &str) -> bool {
    bytes.eq_ignore_ascii_case(text.as_bytes())
}

fn set_once(seen: &mut bool, error: HttpError) -> Result<(), HttpError> {
    if std::mem::replace(seen, true) { Err(error) } else { Ok(()) }
}

/// Applies the rule for names with `_` ([`HeaderMap`]), and returns whether the field is kept.
fn keeps_name(field: FieldCheck<'_>, policy: &Policy, trusted: bool) -> Result<bool, HttpError> {
    if !field.underscore || trusted && policy.forwards(field.name) {
        return Ok(true);
    }
    match policy.header_map {
        HeaderMap::Drop => Ok(false),
        HeaderMap::Refuse => Err(HttpError::FieldNameUnderscore),
        HeaderMap::Dangerous => Ok(true),
    }
}

/// Judges one field of a trailer section, as [`HeadFacts::field`] those of a head. Fields that frame, route
/// or authenticate a message come too late behind its body (RFC 9110 6.5.1).
///
/// # Errors
/// Such a field, or a name that the policy refuses.
pub(super) fn judge_trailer(
    field: FieldCheck<'_>,
    policy: &Policy,
    trusted: bool,
) -> Result<bool, HttpError> {
    const FORBIDDEN: [&str; 6] =
        ["host", "content-length", "transfer-encoding", "trailer", "authorization", "te"];
    if FORBIDDEN.iter().any(|forbidden| is(field.name, forbidden)) {
        return Err(HttpError::TrailerField);
    }
    keeps_name(field, policy, trusted)
}
