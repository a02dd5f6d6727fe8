//! What a client makes of the bytes that it got: an answer for each request, then perhaps a page for a fault.

use crate::app::Seen;

/// A message's head.
struct Head<'a> {
    status: u16,
    fields: Vec<(String, &'a [u8])>,
}

impl<'a> Head<'a> {
    fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1)
    }

    fn length(&self) -> Option<usize> {
        str::from_utf8(self.field("content-length")?).ok()?.parse().ok()
    }
}

/// Reads all of `got`: the answers to those of `seen` that were complete, and then a page of status `end`.
///
/// # Errors
/// Whatever is not as it should be, as a text.
pub(crate) fn check(got: &[u8], seen: &[Seen], end: Option<u16>) -> Result<(), String> {
    let mut rest = got;
    for (number, seen) in seen.iter().enumerate().filter(|(_, seen)| seen.complete) {
        let head = final_head(&mut rest)?;
        if head.field("x-number") != Some(number.to_string().as_bytes()) {
            return Err(format!("no answer to request {number}"));
        }
        let body = body(&head, &mut rest, seen.is_bodyless(number))?;
        let expected = if seen.is_bodyless(number) { Vec::new() } else { seen.answer() };
        if body != expected {
            return Err(format!("request {number} is answered with {:?}", body.escape_ascii().to_string()));
        }
        let keeps = head.field("connection") == Some(b"keep-alive");
        if keeps != seen.keep {
            return Err(format!("request {number}: keep-alive is {keeps}"));
        }
    }
    if let Some(status) = end {
        let head = final_head(&mut rest)?;
        if head.status != status || head.field("connection") != Some(b"close") {
            return Err(format!("status {} instead of {status}", head.status));
        }
        // A request that could be read so far may have been HEAD.
        if !rest.is_empty() {
            body(&head, &mut rest, false)?;
        }
    }
    // A client that left within a body may have been asked for it.
    while !rest.is_empty() {
        if head(&mut rest)?.status != 100 {
            return Err("an answer that was not asked for".to_owned());
        }
    }
    Ok(())
}

/// Reads a head, and the interim ones before it.
fn final_head<'a>(rest: &mut &'a [u8]) -> Result<Head<'a>, String> {
    loop {
        let head = head(rest)?;
        if head.status != 100 {
            return Ok(head);
        }
    }
}

fn head<'a>(rest: &mut &'a [u8]) -> Result<Head<'a>, String> {
    let line = line(rest)?;
    let status = match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', status @ ..] => status.get(..3),
        _ => None,
    };
    let status = status.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    let status = status.ok_or_else(|| format!("no status line: {:?}", line.escape_ascii().to_string()))?;
    let mut fields = Vec::new();
    loop {
        let line = self::line(rest)?;
        if line.is_empty() {
            return Ok(Head { status, fields });
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a field without a colon")?;
        let name = String::from_utf8_lossy(&line[..colon]).to_lowercase();
        fields.push((name, line[colon + 1..].trim_ascii()));
    }
}

/// Reads a line, whose end is taken, too.
fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n").ok_or("a line without an end")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    if line.iter().any(u8::is_ascii_control) {
        return Err(format!("control characters in {:?}", line.escape_ascii().to_string()));
    }
    Ok(line)
}

fn body(head: &Head<'_>, rest: &mut &[u8], bodyless: bool) -> Result<Vec<u8>, String> {
    if bodyless {
        return Ok(Vec::new());
    }
    if head.field("transfer-encoding") == Some(b"chunked") {
        return chunks(rest);
    }
    let length = head.length().unwrap_or(rest.len());
    let (body, after) = rest.split_at_checked(length).ok_or("a body that is too short")?;
    *rest = after;
    Ok(body.to_vec())
}

fn chunks(rest: &mut &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let size = str::from_utf8(line(rest)?).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let size = size.ok_or("no size of a chunk")?;
        let (data, after) = rest.split_at_checked(size).ok_or("a chunk that is too short")?;
        body.extend(data);
        *rest = after;
        if !line(rest)?.is_empty() {
            return Err("no end of a chunk".to_owned());
        }
        if size == 0 {
            return Ok(body);
        }
    }
}
