//! The path, query and fragment of a request target, split where Python's `urllib.parse.urlsplit` (which
//! Gunicorn uses) splits, so that PATH_INFO and QUERY_STRING are the same bytes.

use std::borrow::Cow;
use std::ops::Range;

use super::chars::is_scheme;
use super::error::HttpError;

/// The parts of a target, as offsets into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) path: Range<usize>,
    pub(super) query: Range<usize>,
    pub(super) fragment: Range<usize>,
}

/// Splits a target that [`RequestLine`](super::line::RequestLine) has accepted.
///
/// # Errors
/// [`HttpError::Target`] for brackets that do not match in the authority.
pub(super) fn split(target: &[u8]) -> Result<Parts, HttpError> {
    let path_start = if target.starts_with(b"/") { 0 } else { skip_authority(target)? };
    let end = target.len();
    let path_end = find2(b'?', b'#', target, path_start);
    let (query, fragment) = match target.get(path_end) {
        Some(b'?') => {
            let query_end = find2(b'#', b'#', target, path_end + 1);
            (path_end + 1..query_end, (query_end + 1).min(end)..end)
        }
        Some(_) => (end..end, path_end + 1..end),
        None => (end..end, end..end),
    };
    Ok(Parts { path: path_start..path_end, query, fragment })
}

fn find2(one: u8, other: u8, bytes: &[u8], from: usize) -> usize {
    memchr::memchr2(one, other, &bytes[from..]).map_or(bytes.len(), |at| from + at)
}

/// Finds where the path begins in `scheme://authority/path`. A part that looks like a scheme is skipped even
/// without an authority: the path of `CONNECT host:443` is `443` under Gunicorn.
fn skip_authority(target: &[u8]) -> Result<usize, HttpError> {
    let after_scheme = match memchr::memchr(b':', target) {
        Some(colon) if is_scheme(&target[..colon]) => colon + 1,
        _ => 0,
    };
    if !target[after_scheme..].starts_with(b"//") {
        return Ok(after_scheme);
    }
    let start = after_scheme + 2;
    let end = memchr::memchr3(b'/', b'?', b'#', &target[start..]).map_or(target.len(), |at| start + at);
    let authority = &target[start..end];
    if authority.contains(&b'[') == authority.contains(&b']') { Ok(end) } else { Err(HttpError::Target) }
}

/// Decodes `%XX` as PATH_INFO needs it. A `%` without two hex digits stays as it is; a path without `%` is not copied.
#[must_use]
pub fn percent_decode_path(path: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'%', path) else {
        return Cow::Borrowed(path);
    };
    let mut decoded = Vec::with_capacity(path.len());
    decoded.extend_from_slice(&path[..first]);
    let mut rest = &path[first..];
    while let [byte, tail @ ..] = rest {
        if let (b'%', [high, low, after @ ..]) = (byte, tail)
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            decoded.push(high << 4 | low);
            rest = after;
        } else {
            decoded.push(*byte);
            rest = tail;
        }
    }
    Cow::Owned(decoded)
}

/// Returns the value of one hex digit, in either case.
pub(super) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
