//! Byte classes, each under its grammar rule.

/// A set of byte values, with one entry for each value.
type CharClass = [bool; 256];

const fn class(ranges: &[(u8, u8)]) -> CharClass {
    let mut table = [false; 256];
    let mut i = 0;
    while i < ranges.len() {
        let (mut byte, last) = ranges[i];
        while byte < last {
            table[byte as usize] = true;
            byte += 1;
        }
        table[last as usize] = true;
        i += 1;
    }
    table
}

const fn only(byte: u8) -> (u8, u8) {
    (byte, byte)
}

/// RFC 9110 5.6.2: `tchar`.
static TCHAR: CharClass = class(&[
    (b'0', b'9'),
    (b'A', b'Z'),
    (b'a', b'z'),
    only(b'!'),
    (b'#', b'\''),
    only(b'*'),
    only(b'+'),
    only(b'-'),
    only(b'.'),
    (b'^', b'`'),
    only(b'|'),
    only(b'~'),
]);

/// RFC 9110 5.5: the bytes of a field value, HTAB, SP, VCHAR and obs-text.
static FIELD_VALUE: CharClass = class(&[only(b'\t'), (b' ', b'~'), (0x80, 0xFF)]);

/// RFC 9110 5.6.4: `qdtext`.
static QDTEXT: CharClass =
    class(&[only(b'\t'), only(b' '), only(b'!'), (b'#', b'['), (b']', b'~'), (0x80, 0xFF)]);

/// RFC 3986 3.1: the bytes of a scheme after its first letter.
static SCHEME: CharClass =
    class(&[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z'), only(b'+'), only(b'-'), only(b'.')]);

/// RFC 3986 2.3: `unreserved`, and the bytes of `sub-delims` but for the comma.
static NAME_BYTE: CharClass = class(&[
    (b'0', b'9'),
    (b'A', b'Z'),
    (b'a', b'z'),
    only(b'-'),
    only(b'.'),
    only(b'_'),
    only(b'~'),
    only(b'!'),
    only(b'$'),
    (b'&', b'+'),
    only(b';'),
    only(b'='),
]);

/// Returns whether all bytes are of a class. Four at a time: most texts are valid, and every request has several.
fn all_of(class: &CharClass, bytes: &[u8]) -> bool {
    let (quads, rest) = bytes.as_chunks::<4>();
    let has = |byte: u8| class[byte as usize];
    quads.iter().all(|&[a, b, c, d]| has(a) & has(b) & has(c) & has(d)) && rest.iter().all(|&byte| has(byte))
}

pub(super) fn is_tchar(byte: u8) -> bool {
    TCHAR[byte as usize]
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all_of(&TCHAR, bytes)
}

pub(super) fn is_field_value(bytes: &[u8]) -> bool {
    all_of(&FIELD_VALUE, bytes)
}

/// Returns whether a field has this name, in any case. The usual spelling is found at once.
pub(super) fn is_name(name: &[u8], usual: &[u8]) -> bool {
    name == usual || name.eq_ignore_ascii_case(usual)
}

pub(super) fn is_field_value_byte(byte: u8) -> bool {
    FIELD_VALUE[byte as usize]
}

pub(super) fn is_qdtext(byte: u8) -> bool {
    QDTEXT[byte as usize]
}

pub(super) fn is_scheme(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.iter().all(|&byte| SCHEME[byte as usize])
}

/// Returns whether all bytes may stand in a host's name as they are (RFC 3986 3.2.2, `reg-name`), the comma not.
pub(super) fn are_name_bytes(bytes: &[u8]) -> bool {
    all_of(&NAME_BYTE, bytes)
}

/// Returns whether a byte may stand in an address of a future version (RFC 3986 3.2.2, `IPvFuture`).
pub(super) fn is_unreserved_or_colon(byte: u8) -> bool {
    NAME_BYTE[byte as usize] || byte == b':'
}

/// Returns whether a byte is a blank of RFC 9110 5.6.3 (`OWS`, `BWS`): SP or HTAB.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
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

/// Strips the blanks at both ends.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_blank(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_blank(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Parses decimal digits; `None` when there are none, when anything else is there, or beyond 64 bits.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |sum, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}
