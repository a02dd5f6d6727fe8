//! Integers in the notation of Python's `int()`.

/// The notation of a text of digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notation {
    /// `int(text)`: decimal only. Command line and environment.
    Decimal,
    /// `int(text, 0)`: decimal without leading zeros, `0x`, `0o`, `0b`. Configuration files.
    Prefixed,
    /// `Prefixed`, and a leading zero means octal, as in `umask 022`. Command line of file modes.
    Octal,
}

/// The reason for which a text is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotANumber {
    /// The text is not written as a number.
    Syntax,
    /// The number does not fit 64 bits.
    TooLarge,
}

/// Reads `text` as Python's `int()` does: blanks around it, one sign, single underscores between digits.
pub(super) fn parse(text: &str, notation: Notation) -> Result<i64, NotANumber> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = radix_of(digits, notation)?;
    let magnitude = magnitude(digits, radix)?;
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
        .ok_or(NotANumber::TooLarge)
}

fn radix_of(digits: &str, notation: Notation) -> Result<(u32, &str), NotANumber> {
    if notation == Notation::Decimal {
        return Ok((10, digits));
    }
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let radix = match prefix.as_deref() {
        Some("0x") => 16,
        Some("0o") => 8,
        Some("0b") => 2,
        _ if !digits.starts_with('0') => return Ok((10, digits)),
        _ if digits.bytes().all(|b| matches!(b, b'0' | b'_')) => return Ok((10, digits)),
        _ if notation == Notation::Octal => return Ok((8, digits)),
        _ => return Err(NotANumber::Syntax),
    };
    // `0x_1f` is a number in Python: one underscore may follow the prefix.
    Ok((radix, digits[2..].strip_prefix('_').unwrap_or(&digits[2..])))
}

fn magnitude(digits: &str, radix: u32) -> Result<u64, NotANumber> {
    let mut value = Ok(0u64);
    let mut digit_before = false;
    for c in digits.chars() {
        if c == '_' && digit_before {
            digit_before = false;
            continue;
        }
        let digit = c.to_digit(radix).ok_or(NotANumber::Syntax)?;
        digit_before = true;
        // A syntax error further on outranks the overflow, so the loop goes on.
        value = value.and_then(|so_far: u64| {
            so_far
                .checked_mul(u64::from(radix))
                .and_then(|scaled| scaled.checked_add(u64::from(digit)))
                .ok_or(NotANumber::TooLarge)
        });
    }
    if digit_before { value } else { Err(NotANumber::Syntax) }
}
