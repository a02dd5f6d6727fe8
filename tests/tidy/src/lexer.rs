//! Just enough of Rust's grammar to look at code without being fooled by comments and strings.

/// Replaces the contents of comments, strings and character literals in `source` by spaces.
///
/// Every byte keeps its place and every line break stays, so an offset found here is valid in `source`.
pub fn code_only(source: &str) -> String {
    let mut out = source.as_bytes().to_vec();
    for (start, end) in spans(source) {
        blank(&mut out[start..end]);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Lists the byte ranges of the comments of `source`, without their line breaks.
pub fn comments(source: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    spans(source).into_iter().filter(|(start, _)| source.as_bytes()[*start] == b'/')
}

/// Lists the byte ranges of what is not code: comments, strings, character literals, and the quotes of lifetimes.
fn spans(source: &str) -> Vec<(usize, usize)> {
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => Some(line_end(bytes, at)),
            b'/' if bytes[at..].starts_with(b"/*") => Some(block_comment_end(bytes, at)),
            b'"' => Some(string_end(bytes, at)),
            b'\'' => Some(char_end(bytes, at)),
            b'r' | b'b' | b'c' if !(at > 0 && is_word(bytes[at - 1])) => raw_string_end(bytes, at),
            _ => None,
        };
        found.extend(end.map(|end| (at, end)));
        at = end.unwrap_or(at + 1);
    }
    found
}

/// Tells whether `byte` can be part of an identifier.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Returns the 1-based line of the byte `offset`.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Lists the offsets at which `word` stands alone in `code`, not as a part of a longer identifier.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let bytes = code.as_bytes();
        let starts = at == 0 || !is_word(bytes[at - 1]);
        let ends = bytes.get(at + word.len()).is_none_or(|byte| !is_word(*byte));
        starts && ends
    })
}

/// Returns the identifier that starts at `at` (after white space), or the empty string.
pub fn ident_at(code: &str, at: usize) -> &str {
    let rest = code[at..].trim_start();
    let end = rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len());
    &rest[..end]
}

/// Returns the offset after the bracket that closes the one at `open` (`{`, `(` or `[`), or the end of `code`.
pub fn group_end(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (index, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return index + 1;
        }
    }
    code.len()
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Finds the end of a character literal, which is within a few bytes. Anything else after a quote is a lifetime,
/// of which only the quote is consumed.
fn char_end(bytes: &[u8], start: usize) -> usize {
    if bytes.get(start + 1) == Some(&b'\\') {
        let from = (start + 3).min(bytes.len());
        return bytes[from..].iter().position(|byte| *byte == b'\'').map_or(bytes.len(), |n| from + n + 1);
    }
    let longest = (start + 6).min(bytes.len()); // a quote, one character of at most four bytes, a quote
    match bytes[start + 1..longest].iter().position(|byte| *byte == b'\'') {
        Some(length) if length > 0 && is_one_char(&bytes[start + 1..start + 1 + length]) => {
            start + length + 2
        }
        _ => start + 1,
    }
}

fn is_one_char(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().count() == 1)
}

/// Returns the end of a raw string that starts at `start` with `r`, `br` or `cr`; `None` when there is none.
fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let r = start + usize::from(bytes[start] != b'r');
    if bytes.get(r) != Some(&b'r') {
        return None;
    }
    let hashes = bytes[r + 1..].iter().take_while(|byte| **byte == b'#').count();
    let quote = r + 1 + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let body = quote + 1;
    let length = bytes[body..].windows(close.len()).position(|window| window == close);
    Some(length.map_or(bytes.len(), |n| body + n + close.len()))
}

#[test]
fn comments_and_strings_are_blanked_in_place() {
    let table = [
        ("a // unsafe\nb", "a          \nb"),
        ("a /* x /* y */ z */ b", "a                   b"),
        (r#"f("unsafe \" x") + 1"#, "f(             ) + 1"),
        ("f(r#\"a \" b\"#) + 1", "f(          ) + 1"),
        ("f(b'\\'', '\"', 'x')", "f(b    ,    ,    )"),
        ("fn f<'a>(x: &'a str)", "fn f< a>(x: & a str)"),
        ("let for_r = r\"\\\";", "let for_r =     ;"),
        ("'\u{20ac}'; x", "     ; x"),
    ];
    for (source, expected) in table {
        assert_eq!(code_only(source), expected, "{source}");
    }
}

#[test]
fn comments_are_told_from_strings() {
    let source = "a(\"// no\"); // yes\n/* and */ 'x'";
    let found: Vec<_> = comments(source).map(|(start, end)| &source[start..end]).collect();
    assert_eq!(found, ["// yes", "/* and */"]);
}

#[test]
fn words_are_whole() {
    assert_eq!(words("unsafe_code unsafe xunsafe unsafe{", "unsafe").collect::<Vec<_>>(), [12, 27]);
    assert_eq!(ident_at("crate::  io_x::y", 7), "io_x");
    assert_eq!(group_end("a{b{c}(d)}e", 1), 10);
    assert_eq!(line_of("a\nb\nc", 4), 3);
}
