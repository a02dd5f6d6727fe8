//! The user name of an `Authorization: Basic` header, by the lenient rules of Python's `base64.b64decode`, so
//! that the logged name is the one that Gunicorn would log.

/// Returns the text before the first colon of the decoded credentials. `None` when there is no such header,
/// when it is malformed, or when the name is empty or not UTF-8.
pub(super) fn basic_user(authorization: &[u8]) -> Option<String> {
    // Gunicorn looks only at the value's beginning, and takes the text behind its first blank.
    if !authorization.get(..5)?.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let blank = authorization.iter().position(|byte| *byte == b' ')?;
    let mut decoded = decode(authorization.get(blank + 1..)?)?;
    decoded.truncate(decoded.iter().position(|byte| *byte == b':').unwrap_or(decoded.len()));
    String::from_utf8(decoded).ok().filter(|user| !user.is_empty())
}

/// Decodes `text`: skips bytes outside the alphabet; stops at the padding that completes a group of four;
/// refuses an incomplete group.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut in_group, mut pads) = (0u32, 0u8, 0u8);
    for &byte in text {
        if byte == b'=' {
            // Padding in the first half of a group is skipped like any other foreign byte.
            pads += u8::from(in_group >= 2 && pads < 2);
            if in_group >= 2 && in_group + pads >= 4 {
                return Some(out);
            }
            continue;
        }
        let Some(value) = value_of(byte) else { continue };
        pads = 0;
        bits = bits << 6 | u32::from(value);
        in_group = (in_group + 1) % 4;
        match in_group {
            2 => out.push((bits >> 4) as u8),
            3 => out.push((bits >> 2) as u8),
            0 => out.push(bits as u8),
            _ => {}
        }
    }
    (in_group == 0).then_some(out)
}

fn value_of(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}
