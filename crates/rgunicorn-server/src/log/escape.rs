//! Clients' text made harmless for a line of a log: nothing of it ends the line, commands a terminal or closes a quoted
//! field.
//!
//! Control characters (C0, DEL, C1) become `\xHH`, quotes and backslashes get a backslash, so that the text can be read
//! back. Gunicorn escapes quotes alone; Apache and nginx escape as here.

use std::fmt;

/// Appends Latin-1 text as UTF-8, escaped.
pub(super) fn push_latin1(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| !is_plain(*byte)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        // `position` found a byte, so there is one.
        let Some((byte, after)) = special.split_first() else { break };
        push_special(out, *byte);
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// Appends text, escaped.
pub(super) fn push_utf8(out: &mut Vec<u8>, text: &str) {
    let mut plain = 0;
    for (at, character) in text.char_indices() {
        // Beyond Latin-1 nothing is special.
        let Ok(byte) = u8::try_from(u32::from(character)) else { continue };
        if is_plain(byte) || byte >= FIRST_PRINTABLE_LATIN1 {
            continue;
        }
        // Both are boundaries of characters.
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        push_special(out, byte);
        plain = at + character.len_utf8();
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
}

/// The first character behind the C1 controls.
const FIRST_PRINTABLE_LATIN1: u8 = 0xA0;

/// Tells whether a Latin-1 character is one byte of UTF-8, too, and harmless.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn push_special(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    match byte {
        b'"' | b'\\' => out.extend([b'\\', byte]),
        FIRST_PRINTABLE_LATIN1.. => out.extend([0xC0 | byte >> 6, 0x80 | byte & 0x3F]),
        byte => {
            let digit = |half: u8| DIGITS[usize::from(half & 0xF)];
            out.extend([b'\\', b'x', digit(byte >> 4), digit(byte)]);
        }
    }
}

/// Latin-1 text of a client's, escaped for the error log.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        push_latin1(&mut out, self.0);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latin1(bytes: &[u8]) -> String {
        Escaped(bytes).to_string()
    }

    fn utf8(text: &str) -> String {
        let mut out = Vec::new();
        push_utf8(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_control_character_quote_and_backslash_is_escaped_and_nothing_else() {
        for byte in 0..=u8::MAX {
            let character = char::from(byte);
            let expected = match byte {
                b'"' | b'\\' => format!("\\{character}"),
                0..=0x1F | 0x7F..=0x9F => format!("\\x{byte:02X}"),
                _ => character.to_string(),
            };
            assert_eq!(latin1(&[b'a', byte, b'b']), format!("a{expected}b"));
            assert_eq!(utf8(&format!("a{character}b")), format!("a{expected}b"));
        }
        assert_eq!(utf8("\u{20AC}\n\u{1F600}"), "\u{20AC}\\x0A\u{1F600}");
        assert_eq!((latin1(b""), utf8("")), (String::new(), String::new()));
    }
}
