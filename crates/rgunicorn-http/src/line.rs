//! The request line (RFC 9112 3), more strictly than httparse reads it: one space between the parts, Gunicorn's
//! conventions for methods, printable ASCII targets, and versions such as 1.2 that httparse does not know.

use super::authority::is_connect_target;
use super::chars::{is_scheme, is_token};
use super::error::HttpError;
use super::policy::Policy;
use super::version::Version;

/// Gunicorn's shortest method name.
const METHOD_BYTES_MIN: usize = 3;
/// Gunicorn's longest method name; the longest registered one is UPDATEREDIRECTREF (17).
const METHOD_BYTES_MAX: usize = 20;

/// The parts of a request line, by their lengths: the method from 0, one space, the target, one space, the
/// version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) method_len: usize,
    pub(super) target_len: usize,
    pub(super) version: Version,
}

impl RequestLine {
    /// Reads a request line without its CRLF.
    ///
    /// # Errors
    /// The part that is not valid.
    pub(super) fn parse(line: &[u8], policy: &Policy) -> Result<Self, HttpError> {
        let (method, rest) = split_at_space(line)?;
        let (target, version) = split_at_space(rest)?;
        check_method(method, policy)?;
        check_target(method, target)?;
        Ok(Self {
            method_len: method.len(),
            target_len: target.len(),
            version: parse_version(version, policy)?,
        })
    }

    /// Reads the method of a request line of which the rest may be missing or not valid.
    pub(super) fn method<'a>(line: &'a [u8], policy: &Policy) -> Option<&'a [u8]> {
        let (method, _) = split_at_space(line).ok()?;
        check_method(method, policy).ok()?;
        Some(method)
    }
}

fn split_at_space(bytes: &[u8]) -> Result<(&[u8], &[u8]), HttpError> {
    let space = memchr::memchr(b' ', bytes).ok_or(HttpError::RequestLine)?;
    Ok((&bytes[..space], &bytes[space + 1..]))
}

fn check_method(method: &[u8], policy: &Policy) -> Result<(), HttpError> {
    let conventional = || {
        (METHOD_BYTES_MIN..=METHOD_BYTES_MAX).contains(&method.len())
            && !method.iter().any(|&byte| byte.is_ascii_lowercase() || byte == b'#')
    };
    if is_token(method) && (policy.permit_unconventional_http_method || conventional()) {
        Ok(())
    } else {
        Err(HttpError::Method)
    }
}

/// Checks for the four forms of RFC 9112 3.2. With CONNECT Gunicorn takes everything but `*`; a target without a port
/// is to be refused (RFC 9110 9.3.6).
fn check_target(method: &[u8], target: &[u8]) -> Result<(), HttpError> {
    // No early exit: the compiler turns this into vector instructions.
    let invisible = target.iter().fold(false, |found, byte| found | !byte.is_ascii_graphic());
    let form_fits = match target {
        [] => false,
        _ if method.eq_ignore_ascii_case(b"CONNECT") => is_connect_target(target),
        [b'/', ..] => true,
        b"*" => method.eq_ignore_ascii_case(b"OPTIONS"),
        _ => has_scheme(target),
    };
    if invisible || !form_fits { Err(HttpError::Target) } else { Ok(()) }
}

fn has_scheme(target: &[u8]) -> bool {
    memchr::memchr(b':', target)
        .is_some_and(|colon| is_scheme(&target[..colon]) && target[colon..].starts_with(b"://"))
}

fn parse_version(text: &[u8], policy: &Policy) -> Result<Version, HttpError> {
    match text {
        [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9']
            if *major == b'1' || policy.permit_unconventional_http_version =>
        {
            Ok(Version { major: major - b'0', minor: minor - b'0' })
        }
        _ => Err(HttpError::Version),
    }
}
