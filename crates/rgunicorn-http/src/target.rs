//! The path, query and fragment of a request target, split where Python's `urllib.parse.urlsplit` (which
//! Gunicorn uses) splits, so that PATH_INFO and QUERY_STRING are the same bytes.

use std::borrow::Cow;
use std::ops::Range;

use super::authority::is_host;
use super::chars::hex_digit;
use super::error::HttpError;

/// The parts of a target, as offsets into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    /// The host, and perhaps the port, of an absolute target; empty for the other forms.
    pub(super) authority: Range<usize>,
    pub(super) path: Range<usize>,
    pub(super) query: Range<usize>,
    pub(super) fragment: Range<usize>,
}

impl Parts {
    /// Returns those of a target of `len` bytes that is not divided.
    pub(super) fn only_path(len: usize) -> Self {
        Self { authority: 0..0, path: 0..len, query: len..len, fragment: len..len }
    }
}

/// Splits a target that [`RequestLine`](super::line::RequestLine) has accepted.
///
/// # Errors
/// [`HttpError::Target`] for an authority that is none.
#[inline]
pub(super) fn split(target: &[u8]) -> Result<Parts, HttpError> {
    let authority = match target {
        [b'/', ..] | b"*" => 0..0,
        _ => find_authority(target)?,
    };
    let path_start = authority.end;
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
    Ok(Parts { authority, path: path_start..path_end, query, fragment })
}

fn find2(one: u8, other: u8, bytes: &[u8], from: usize) -> usize {
    memchr::memchr2(one, other, &bytes[from..]).map_or(bytes.len(), |at| from + at)
}

/// Finds the authority of `scheme://authority/path`. The target of CONNECT is nothing but an authority, and has no
/// path: Gunicorn takes the host for a scheme, so that the path of `CONNECT host:443` is `443` there, which is none.
fn find_authority(target: &[u8]) -> Result<Range<usize>, HttpError> {
    let Some(found) = memchr::memmem::find(target, b"://") else {
        return Ok(target.len()..target.len());
    };
    let start = found + 3;
    let end = memchr::memchr3(b'/', b'?', b'#', &target[start..]).map_or(target.len(), |at| start + at);
    if is_host(&target[start..end]) { Ok(start..end) } else { Err(HttpError::Target) }
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
