//! The splitting of `GUNICORN_CMD_ARGS` into arguments by the quoting rules of a POSIX shell (as Python's
//! `shlex.split` does): no expansions and no comments.

/// Splits `text` at unquoted blanks.
///
/// # Errors
/// A quote is never closed, or a backslash stands at the very end; the text says which.
pub fn split_cmd_args(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    // None between words; an empty quoted string starts a word too.
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => single_quoted(&mut chars, word.get_or_insert_default())?,
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(chars.next().ok_or("No escaped character")?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    for c in chars {
        if c == '\'' {
            return Ok(());
        }
        word.push(c);
    }
    Err("No closing quotation".to_owned())
}

/// Reads up to the closing quote. Inside double quotes a backslash escapes only `"` and itself, and is kept
/// before anything else.
fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or("No closing quotation")? {
                escaped @ ('"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            c => word.push(c),
        }
    }
    Err("No closing quotation".to_owned())
}
